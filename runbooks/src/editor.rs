//! The JSON Schema of a runbook file: the parser checks files against its structure, and editors get completion and documentation from
//! it, `with` of each step type included.

use serde_json::{Map, Value, json};

use crate::catalog::{Catalog, FORM_KEY};
use crate::names::STEP_ID_BYTES_MAX;
use crate::plan::RUNBOOK;
use crate::rules::undo::can_undo;
use crate::runbook::FOR_EACH_MAX;

/// JSON Schema (draft 2020-12) of a runbook file: `with` follows `type`.
#[must_use]
pub fn schema(catalog: &dyn Catalog) -> Value {
    let mut schema = structure();
    let mut definitions = Map::new();
    let mut rules = Vec::new();
    let (mut names, mut undo_names) = (Vec::new(), Vec::new());
    for step_type in catalog.step_types() {
        let name = json!({ "const": step_type.name, "description": step_type.summary });
        if can_undo(step_type) {
            undo_names.push(name.clone());
        }
        names.push(name);
        let with = hoisted(step_type.name, &step_type.with_schema, &mut definitions);
        let required = with.get("required").and_then(Value::as_array).is_some_and(|required| !required.is_empty());
        definitions.insert(with_name(step_type.name), with);
        let mut then = json!({ "properties": { "with": { "$ref": format!("#/$defs/{}", with_name(step_type.name)) } } });
        if required {
            then["required"] = json!(["with"]);
        }
        rules.push(json!({ "if": { "properties": { "type": { "const": step_type.name } }, "required": ["type"] }, "then": then }));
    }
    let undo = &mut schema["$defs"]["undo"];
    undo["properties"]["type"] = json!({ "description": "What it does.", "oneOf": undo_names });
    undo["allOf"] = Value::Array(rules.clone());
    names.push(json!({ "const": RUNBOOK, "description": "Runs another runbook as a child: its steps become steps of this run." }));
    definitions.insert(with_name(RUNBOOK), child());
    rules.push(json!({
        "if": { "properties": { "type": { "const": RUNBOOK } }, "required": ["type"] },
        "then": { "properties": { "with": { "$ref": format!("#/$defs/{}", with_name(RUNBOOK)) } }, "required": ["with"] },
    }));
    let step = &mut schema["$defs"]["step"];
    step["properties"]["type"] = json!({ "description": "What the step does.", "oneOf": names });
    step["allOf"] = Value::Array(rules);
    if let Some(all) = schema["$defs"].as_object_mut() {
        all.extend(definitions);
    }
    schema
}

/// `with` of a step that runs a child. Its inputs are checked against the child's own.
fn child() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["runbook"],
        "properties": {
            "runbook": { "type": "string", "description": "The runbook: a file beside this one by its name without `.yaml`, or a path from this file's folder." },
            "inputs": { "type": "object", "description": "Its inputs, by name. Values may hold ${{ }} of this runbook." },
            "mode": { "type": "string", "description": "Its mode. Left out: the mode of this run, or the child's only one. A drill drills its children." },
        },
    })
}

fn with_name(step_type: &str) -> String {
    format!("with-{step_type}")
}

/// A step type's schema with its own `$defs` moved to the file's, under names that cannot meet.
fn hoisted(step_type: &str, with: &Value, definitions: &mut Map<String, Value>) -> Value {
    let mut with = with.clone();
    let own = with.as_object_mut().and_then(|with| {
        with.remove("$schema");
        with.remove("$defs")
    });
    let moved = |name: &str| format!("{step_type}-{name}");
    for (name, mut definition) in own.and_then(|own| own.as_object().cloned()).into_iter().flatten() {
        redirect(&mut definition, &moved);
        definitions.insert(moved(&name), definition);
    }
    redirect(&mut with, &moved);
    with
}

fn redirect(schema: &mut Value, moved: &dyn Fn(&str) -> String) {
    match schema {
        Value::Object(keys) => {
            let target = keys.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/$defs/")).map(moved);
            if let Some(target) = target {
                keys.insert("$ref".to_owned(), Value::String(format!("#/$defs/{target}")));
            }
            accept_expressions(keys);
            keys.values_mut().for_each(|inner| redirect(inner, moved));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, moved)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Any value may also be written as `${{ }}`, so editors must not underline that; any other text is still wrong there.
fn accept_expressions(keys: &mut Map<String, Value>) {
    const EXPRESSION: &str = "\\$\\{\\{";
    let filled = |name: &str| matches!(name, "integer" | "number" | "boolean" | "array");
    let types: Option<Vec<Value>> = match keys.get("type") {
        Some(Value::String(name)) if filled(name) => Some(vec![json!(name), json!("string")]),
        Some(Value::Array(names)) if names.iter().filter_map(Value::as_str).any(filled) => {
            Some(names.iter().cloned().chain([json!("string")]).collect())
        }
        _ => None,
    };
    if let Some(types) = types {
        keys.insert("type".to_owned(), Value::Array(types));
        keys.insert("pattern".to_owned(), json!(EXPRESSION));
    } else if let Some(Value::String(pattern)) = keys.get("pattern").cloned() {
        // What the form of a text is cannot be told of a text that is filled in later.
        keys.insert("pattern".to_owned(), Value::String(format!("({pattern})|{EXPRESSION}")));
        keys.remove("format");
    }
    if let Some(Value::Array(variants)) = keys.get_mut("oneOf")
        && !variants.is_empty()
        && variants.iter().all(|variant| variant.get("const").is_some_and(Value::is_string))
    {
        variants.push(json!({ "type": "string", "pattern": EXPRESSION, "description": "An expression." }));
    }
    if keys.get("enum").and_then(Value::as_array).is_some_and(|words| words.iter().any(Value::is_string))
        && let Some(words) = keys.remove("enum")
    {
        keys.remove("type");
        keys.insert("anyOf".to_owned(), json!([{ "enum": words }, { "type": "string", "pattern": EXPRESSION }]));
    }
}

/// The structure of the file, the same for every set of step types.
pub(crate) fn structure() -> Value {
    let period = |description: &str| json!({ "type": "string", "format": "duration", "description": description });
    let mode = json!({ "type": "string", "description": "The mode that is started." });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lifeboat runbook",
        "type": "object",
        "additionalProperties": false,
        "required": ["lifeboat", "name", "steps"],
        "properties": {
            "lifeboat": { "enum": ["v1"], "description": "Version of the language." },
            "name": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$", FORM_KEY: "lower-case letters, digits and -, a letter first", "description": "Name for commands, reports and the journal: lower-case letters, digits and -." },
            "title": { "type": "string", "minLength": 1, "maxLength": 200, "description": "What people call it." },
            "description": { "type": "string", "description": "What it is for." },
            "owner": { "type": "string", "minLength": 1, "maxLength": 200, "description": "Who answers for it." },
            "objectives": {
                "type": "object", "additionalProperties": false, "description": "What was promised; runs are judged against it.",
                "properties": {
                    "rto": period("Recovery time objective: the longest outage."),
                    "rpo": period("Recovery point objective: the most data, in time, that may be lost."),
                },
            },
            "modes": {
                "type": "array", "minItems": 1, "maxItems": 20, "description": "Ways it can run. `drill` is reserved for rehearsals; the others are yours. Left out: `run`.",
                "items": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,30}$", FORM_KEY: "lower-case letters, digits and -, a letter first" },
            },
            "inputs": {
                "type": "object", "description": "Values given when a run is started.",
                "additionalProperties": {
                    "type": "object", "additionalProperties": false,
                    "properties": {
                        "type": { "enum": ["string", "integer", "number", "boolean", "duration"], "description": "Left out: string." },
                        "default": { "description": "What it is when nothing is given. Without it the input must be given." },
                        "one_of": { "type": "array", "minItems": 1, "maxItems": 1000, "description": "The only values it may have." },
                        "description": { "type": "string", "description": "What it is for." },
                    },
                },
            },
            "triggers": {
                "type": "array", "maxItems": 100, "description": "What may start it without a person at a terminal.",
                "items": {
                    "type": "object", "additionalProperties": false, "required": ["id"],
                    "properties": {
                        "id": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$", FORM_KEY: "lower-case letters, digits and -, a letter first", "description": "Name of the trigger, unique in the runbook." },
                        "health": {
                            "type": "object", "additionalProperties": false, "required": ["monitor", "mode"], "description": "A monitor finds something down.",
                            "properties": { "monitor": { "type": "string", "minLength": 1, "description": "The monitor in the inventory." }, "mode": mode },
                        },
                        "telegram": {
                            "type": "object", "additionalProperties": false, "required": ["command", "mode", "roles"], "description": "Somebody asks in a chat.",
                            "properties": {
                                "command": { "type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$", FORM_KEY: "lower-case letters, digits and _, a letter first", "description": "The word that is typed." },
                                "mode": mode,
                                "roles": { "type": "array", "minItems": 1, "items": { "type": "string" }, "description": "Who may." },
                            },
                        },
                        "schedule": {
                            "type": "object", "additionalProperties": false, "required": ["cron", "timezone", "mode"], "description": "The clock.",
                            "properties": {
                                "cron": { "type": "string", "description": "Minute, hour, day of month, month, day of week." },
                                "timezone": { "type": "string", "minLength": 1, "description": "IANA name, for example UTC or Europe/Berlin." },
                                "mode": mode,
                            },
                        },
                    },
                },
            },
            "on_failure": on_failure(),
            "deadline": period("Longest time of the whole run."),
            "outputs": {
                "type": "object", "maxProperties": 200, "description": "What a runbook that runs this one as a child can read: values with ${{ }} over steps, inputs and mode.",
                "additionalProperties": { "description": "A value, usually ${{ steps.x.outputs.y }}." },
            },
            "steps": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/step" }, "description": "What is done. Steps that need nothing of each other run side by side." },
            "finally": { "type": "array", "items": { "$ref": "#/$defs/step" }, "description": "Steps that run once when the run is about to end, however it ends." },
        },
        "$defs": { "step": step(&period), "undo": undo(&period) },
    })
}

fn undo(period: &dyn Fn(&str) -> Value) -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["type"],
        "description": "What takes the step's effect back in place of its type's own undo. It is prepared, journaled and observed as a step is.",
        "properties": {
            "type": { "type": "string", "description": "What it does." },
            "with": { "description": "Parameters of the step type. Values may hold ${{ }}, which may also read `outputs`: what the step gave." },
            "timeout": period("Longest time of one undo. Left out: 5m."),
        },
    })
}

fn on_failure() -> Value {
    json!({
        "enum": ["hold", "undo", "abort"],
        "description": "What a failed step leads to: a person decides (hold, the default), what was done is undone (undo), or nothing more is started (abort).",
    })
}

fn step(period: &dyn Fn(&str) -> Value) -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["id", "type"],
        "properties": {
            "id": { "type": "string", "pattern": format!("^[a-z][a-z0-9_]{{0,{}}}$", STEP_ID_BYTES_MAX - 1), FORM_KEY: "lower-case letters, digits and _, a letter first", "description": "Name of the step: lower-case letters, digits and _." },
            "type": { "type": "string", "description": "What the step does." },
            "description": { "type": "string", "description": "What it is for." },
            "with": { "description": "Parameters of the step type. Values may hold ${{ }}." },
            "needs": { "type": "array", "maxItems": 1000, "items": { "type": "string" }, "description": "Steps that must be done, or skipped by their own `if`, before this one starts." },
            "if": { "type": ["string", "boolean"], "description": "Expression; the step is skipped where it is false." },
            "assert": {
                "oneOf": [{ "type": "string" }, { "type": "array", "maxItems": 100, "items": { "type": "string" } }],
                "description": "Expressions over the run so far and this step's own outputs; where one is false the step is rejected.",
            },
            "timeout": period("Longest time of one attempt. Left out: 5m."),
            "retry": {
                "type": "object", "additionalProperties": false, "required": ["attempts"], "description": "How often and how far apart attempts are made. Left out: one attempt.",
                "properties": {
                    "attempts": { "type": "integer", "minimum": 1, "maximum": 100, "description": "Attempts in all, the first included." },
                    "on": {
                        "type": "array", "minItems": 1, "maxItems": 3, "items": { "enum": ["not-done", "in-doubt", "refused"] },
                        "description": "After which errors: not-done (proven to have had no effect), in-doubt (the outcome was lost, and a look at the world says that nothing was done), refused (a check said no). Left out: not-done and in-doubt.",
                    },
                    "backoff": { "type": "string", "description": "Shortest and longest wait between attempts, for example 2s..30s; it doubles each time. Left out: 1s..30s." },
                },
            },
            "undo": {
                "description": "What unwinding does: the step type's own undo (default), nothing (never), or the step that is written here.",
                "oneOf": [{ "enum": ["default", "never"] }, { "$ref": "#/$defs/undo" }],
            },
            "on_failure": on_failure(),
            "point_of_no_return": { "type": "boolean", "description": "Once this step has begun, undo and abort become hold." },
            "for_each": {
                "description": "The step is done for every item of a list: `item` and `index` are known in its `with`, `if` and `assert`, and its outputs are the list of theirs.",
                "oneOf": [
                    { "type": "array", "description": "The items. They may hold ${{ }} over inputs and mode." },
                    { "type": "string", "description": "An expression for the list, over inputs and mode." },
                    {
                        "type": "object", "additionalProperties": false, "required": ["list"],
                        "properties": {
                            "list": {
                                "oneOf": [{ "type": "array" }, { "type": "string" }],
                                "description": "The items, or an expression for them. One that reads steps needs `max`.",
                            },
                            "max": { "type": "integer", "minimum": 1, "maximum": FOR_EACH_MAX, "description": "Most items: a longer list holds the run." },
                            "concurrency": { "type": "integer", "minimum": 1, "maximum": FOR_EACH_MAX, "description": "Most items under way at once. With 1 they go in order, each after the one before. Left out: all at once." },
                        },
                    },
                ],
            },
        },
    })
}
