//! From JSON Schema. What a schema says beyond the closed set is read as "anything": the step type's own reading still checks it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Field, Kind, Limits, Object, Presence, Shape, TextRules};
use crate::catalog::{FORM_KEY, NODE_OF_KEY, RESOURCE_KEY};

/// Schemas nest as deep as the values they describe; recursive ones are cut here.
const DEPTH_MAX: usize = 24;

/// Reads a schema with its `$defs`.
pub(crate) fn read(schema: &Value) -> Shape {
    Reader { root: schema }.shape(schema, 0)
}

struct Reader<'a> {
    root: &'a Value,
}

impl Reader<'_> {
    fn shape(&self, schema: &Value, depth: usize) -> Shape {
        let Value::Object(keys) = schema else { return Shape::of(Kind::Any) };
        if depth > DEPTH_MAX {
            return Shape::of(Kind::Any);
        }
        let mut shape = self.bare(keys, depth);
        let text = |key: &str| keys.get(key).and_then(Value::as_str).map(str::to_owned);
        shape.resource = text(RESOURCE_KEY).or(shape.resource);
        shape.node_of = text(NODE_OF_KEY).or(shape.node_of);
        shape.default = keys.get("default").cloned().or(shape.default);
        shape
    }

    fn bare(&self, keys: &Map<String, Value>, depth: usize) -> Shape {
        if let Some(target) = keys.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return found.map_or_else(|| Shape::of(Kind::Any), |schema| self.shape(schema, depth + 1));
        }
        if let Some([only]) = keys.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            return self.shape(only, depth + 1);
        }
        if let Some(constant) = keys.get("const") {
            return constants(std::slice::from_ref(constant));
        }
        if let Some(values) = keys.get("enum").and_then(Value::as_array) {
            return constants(values);
        }
        if let Some(variants) = keys.get("oneOf").or_else(|| keys.get("anyOf")).and_then(Value::as_array) {
            return one_of(variants.iter().map(|variant| self.shape(variant, depth + 1)).collect());
        }
        match keys.get("type") {
            Some(Value::String(name)) => self.named(name, keys, depth),
            Some(Value::Array(names)) => one_of(
                names.iter().map(|name| name.as_str().map_or_else(|| Shape::of(Kind::Any), |name| self.named(name, keys, depth))).collect(),
            ),
            _ => Shape::of(Kind::Any),
        }
    }

    fn named(&self, name: &str, keys: &Map<String, Value>, depth: usize) -> Shape {
        let count =
            |min: &str, max: &str| Limits { min: keys.get(min).and_then(Value::as_u64), max: keys.get(max).and_then(Value::as_u64) };
        Shape::of(match name {
            "null" => Kind::Null,
            "boolean" => Kind::Bool,
            "integer" => Kind::Int(whole_limits(keys)),
            "number" => {
                let real = |key: &str| keys.get(key).and_then(Value::as_f64);
                Kind::Number(Limits {
                    min: real("minimum").or_else(|| real("exclusiveMinimum")),
                    max: real("maximum").or_else(|| real("exclusiveMaximum")),
                })
            }
            "string" if keys.get("format").and_then(Value::as_str) == Some("duration") => Kind::Duration,
            "string" => Kind::Text(TextRules {
                one_of: None,
                pattern: keys.get("pattern").and_then(Value::as_str).map(str::to_owned),
                form: keys.get(FORM_KEY).and_then(Value::as_str).map(str::to_owned),
                length: count("minLength", "maxLength"),
            }),
            "array" => {
                let items = keys.get("items").map_or_else(|| Shape::of(Kind::Any), |items| self.shape(items, depth + 1));
                Kind::List { items: Box::new(items), count: count("minItems", "maxItems") }
            }
            "object" => Kind::Object(self.object(keys, depth)),
            _ => Kind::Any,
        })
    }

    fn object(&self, keys: &Map<String, Value>, depth: usize) -> Object {
        let required: Vec<&str> = keys.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = BTreeMap::new();
        for (name, schema) in keys.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let shape = self.shape(schema, depth + 1);
            let presence = if required.contains(&name.as_str()) && !shape.nullable { Presence::Required } else { Presence::Optional };
            fields.insert(name.clone(), Field { shape, presence });
        }
        let rest = match keys.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(schema) => Some(Box::new(self.shape(schema, depth + 1))),
            // Outputs are described as they are written: what has properties has no others.
            None if !fields.is_empty() => None,
            None => Some(Box::new(Shape::of(Kind::Any))),
        };
        Object { fields, rest }
    }
}

fn whole_limits(keys: &Map<String, Value>) -> Limits<i128> {
    let whole = |key: &str| keys.get(key).and_then(|value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)));
    let unsigned = keys.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
    Limits {
        min: whole("minimum").or_else(|| whole("exclusiveMinimum").map(|min| min + 1)).or(unsigned.then_some(0)),
        max: whole("maximum").or_else(|| whole("exclusiveMaximum").map(|max| max - 1)),
    }
}

fn constants(values: &[Value]) -> Shape {
    let texts: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let nullable = values.iter().any(Value::is_null);
    if texts.is_empty() || texts.len() + usize::from(nullable) != values.len() {
        let only_null = nullable && values.len() == 1;
        return Shape::of(if only_null { Kind::Null } else { Kind::Any });
    }
    let mut shape = Shape::of(Kind::Text(TextRules { one_of: Some(texts), ..TextRules::default() }));
    shape.nullable = nullable;
    shape
}

/// Null becomes a property of the others, and words of an enum are gathered.
fn one_of(shapes: Vec<Shape>) -> Shape {
    let mut nullable = false;
    let mut words: Option<Vec<String>> = None;
    let mut others: Vec<Shape> = Vec::new();
    for shape in shapes {
        nullable |= shape.nullable;
        match shape.kind {
            Kind::Null => nullable = true,
            Kind::Text(TextRules { one_of: Some(more), .. }) => words.get_or_insert_default().extend(more),
            Kind::OneOf(more) => others.extend(more),
            Kind::Any
            | Kind::Bool
            | Kind::Int(_)
            | Kind::Number(_)
            | Kind::Text(_)
            | Kind::Duration
            | Kind::List { .. }
            | Kind::Object(_) => {
                others.push(shape);
            }
        }
    }
    if let Some(words) = words {
        others.insert(0, Shape::of(Kind::Text(TextRules { one_of: Some(words), ..TextRules::default() })));
    }
    let mut shape = match others.len() {
        0 => Shape::of(Kind::Null),
        1 => others.remove(0),
        _ => Shape::of(Kind::OneOf(others)),
    };
    shape.nullable |= nullable;
    shape
}

#[cfg(test)]
mod tests {
    #![expect(dead_code, reason = "only their schemas are of interest")]
    use schemars::JsonSchema;
    use schemars::generate::SchemaSettings;

    use super::*;
    use crate::duration::Period;

    /// Check kinds.
    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Probe {
        /// Over HTTP.
        Http { url: String, status: Option<u16> },
        /// Nothing.
        Nothing,
        /// Nothing at all.
        Never,
    }

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct With {
        /// The database.
        #[schemars(extend("x-lifeboat-resource" = "database"))]
        db: String,
        max_loss: Option<Period>,
        #[serde(default)]
        checks: Vec<Probe>,
        again: Option<Box<With>>,
    }

    #[test]
    fn what_schemars_writes_is_understood() {
        let schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<With>();
        let Kind::Object(object) = read(&schema.to_value()).kind else { panic!("an object") };
        assert_eq!(object.rest, None);
        assert_eq!(object.fields["db"].shape.resource.as_deref(), Some("database"));
        assert_eq!(object.fields["db"].presence, Presence::Required);
        assert_eq!(object.fields["max_loss"].shape.kind, Kind::Duration);
        assert!(object.fields["max_loss"].shape.nullable);
        let Kind::List { items, .. } = &object.fields["checks"].shape.kind else { panic!("a list") };
        let Kind::OneOf(variants) = &items.kind else { panic!("several: {items:?}") };
        assert!(
            matches!(&variants[0].kind, Kind::Text(TextRules { one_of: Some(words), .. }) if words == &["nothing", "never"]),
            "{variants:?}"
        );
        assert!(matches!(&variants[1].kind, Kind::Object(variant) if variant.tag() == Some("http")), "{variants:?}");
    }
}
