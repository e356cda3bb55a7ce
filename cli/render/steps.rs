//! The step types, for people: a list, and a page from its schemas.

use std::fmt::Write as _;

use lifeboat_runbooks::catalog::{StepTypeInfo, Undoable};
use lifeboat_runbooks::names::Effect;
use serde_json::{Value, json};

pub(crate) fn list(all: &[&StepTypeInfo]) -> String {
    let width = all.iter().map(|info| info.name.len()).max().unwrap_or(0);
    all.iter().fold(String::new(), |mut text, info| {
        let _ = writeln!(text, "{:width$}  {:<8} {}", info.name, effect(info.effect), info.summary);
        text
    })
}

pub(crate) fn json(info: &StepTypeInfo) -> Value {
    json!({ "type": info.name, "version": info.version, "summary": info.summary, "effect": info.effect, "undo": info.undo, "with": info.with_schema, "outputs": info.output_schema })
}

pub(crate) fn page(info: &StepTypeInfo) -> String {
    let mut text = String::new();
    let undo = match info.undo {
        Undoable::Yes => "can be undone",
        Undoable::No => "has no undo",
    };
    let _ = writeln!(text, "{} (version {}): effect {}, {undo}\n", info.name, info.version, effect(info.effect));
    let _ = writeln!(text, "{}\n", info.with_schema.get("description").and_then(Value::as_str).unwrap_or(&info.summary));
    let _ = writeln!(text, "with:");
    fields(&mut text, &info.with_schema);
    let _ = writeln!(text, "\noutputs:");
    fields(&mut text, &info.output_schema);
    text
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Protect => "protect",
        Effect::Change => "change",
        Effect::Destroy => "destroy",
    }
}

/// Whether an output must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    Optional,
}

/// The outputs of a step type: name and type in words, those that must be there first.
pub(crate) fn outputs(info: &StepTypeInfo) -> Vec<(String, String, Need)> {
    let schema = &info.output_schema;
    let required = required(schema);
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut all: Vec<_> = properties
        .map(|(name, field)| {
            let need = if required.contains(&name.as_str()) { Need::Required } else { Need::Optional };
            (name.clone(), object_fields(field, schema).unwrap_or_else(|| kind(field, schema)), need)
        })
        .collect();
    all.sort_by_key(|(_, _, need)| *need == Need::Optional);
    all
}

/// What an object holds: its type's name alone would tell nobody what to write.
fn object_fields(field: &Value, root: &Value) -> Option<String> {
    let name = field.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    let fields = root.pointer(&format!("/$defs/{name}/properties"))?.as_object()?;
    let fields: Vec<String> = fields.iter().map(|(name, field)| format!("{name:?}: {}", kind(field, root))).collect();
    Some(format!("JSON object {{ {} }}", fields.join(", ")))
}

fn required(schema: &Value) -> Vec<&str> {
    schema.get("required").and_then(Value::as_array).map(|names| names.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn fields(text: &mut String, schema: &Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        let _ = writeln!(text, "  none");
        return;
    };
    let required = required(schema);
    for (name, field) in properties {
        let need = if required.contains(&name.as_str()) { "required" } else { "optional" };
        let default = field.get("default").filter(|value| !value.is_null()).map(|value| format!(", default {value}")).unwrap_or_default();
        let _ = writeln!(text, "  {name} ({}, {need}{default})", kind(field, schema));
        if let Some(description) = field.get("description").and_then(Value::as_str) {
            let _ = writeln!(text, "      {}", description.replace('\n', "\n      "));
        }
    }
}

/// The type of a field in a few words.
fn kind(field: &Value, root: &Value) -> String {
    if let Some(resource) = field.get("x-lifeboat-resource").and_then(Value::as_str) {
        return format!("name of a {resource}");
    }
    if let Some(of) = field.get("x-lifeboat-node-of").and_then(Value::as_str) {
        return format!("node of {of}");
    }
    if field.get("format").and_then(Value::as_str) == Some("duration") {
        return "length of time".into();
    }
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        return values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect::<Vec<_>>().join(" | ");
    }
    if let Some(choices) = field.get("oneOf").or_else(|| field.get("anyOf")).and_then(Value::as_array) {
        let words: Vec<String> = choices
            .iter()
            .filter(|choice| choice.get("type").and_then(Value::as_str) != Some("null"))
            .map(|choice| choice.get("const").and_then(Value::as_str).map_or_else(|| kind(choice, root), str::to_owned))
            .collect();
        return words.join(" | ");
    }
    if let Some(name) = field.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix("#/$defs/")) {
        return root
            .pointer(&format!("/$defs/{name}"))
            .filter(|definition| definition.get("type").and_then(Value::as_str) != Some("object"))
            .map_or_else(|| name.to_owned(), |definition| kind(definition, root));
    }
    match field.get("type") {
        Some(Value::String(name)) if name == "array" => {
            format!("list of {}", field.get("items").map_or("anything".to_owned(), |items| kind(items, root)))
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect::<Vec<_>>().join(" | "),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => "anything".into(),
    }
}
