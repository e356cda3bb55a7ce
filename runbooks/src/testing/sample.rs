//! Outputs that a step type might give, made from its schema, for worlds in which it is not really run. What a test names goes before
//! what is made up here.

use serde_json::{Map, Value};

use crate::shape::{self, Kind, Presence, Shape};

/// An instant for fields that are instants by their name: any will do, and one that never changes makes runs comparable.
const INSTANT: &str = "2026-01-01T00:00:00Z";

/// Outputs of the shape that `output_schema` describes: every field that must be there, truths true, numbers the least that is allowed,
/// texts their own name. What a step was told to do and what a test names is put in by [`given_outputs`].
#[must_use]
pub fn sample_outputs(output_schema: &Value) -> Value {
    sample(&shape::read(output_schema), "output")
}

/// A sample with what is known put in: a text that has the name of a parameter takes the parameter's value, because what a step was told
/// to do is what it says that it did; what `given` names stands before all of that.
#[must_use]
pub fn given_outputs(sample: &Value, with: &Value, given: &Value) -> Value {
    let mut made = sample.clone();
    if let (Value::Object(made), Value::Object(with)) = (&mut made, with) {
        for (name, value) in made.iter_mut().filter(|(_, value)| value.is_string()) {
            if let Some(told @ Value::String(_)) = with.get(name) {
                *value = told.clone();
            }
        }
    }
    overlaid(made, given)
}

fn overlaid(below: Value, above: &Value) -> Value {
    match (below, above) {
        (Value::Object(mut below), Value::Object(above)) => {
            for (name, value) in above {
                let under = below.remove(name).unwrap_or(Value::Null);
                below.insert(name.clone(), overlaid(under, value));
            }
            Value::Object(below)
        }
        (_, above) => above.clone(),
    }
}

fn sample(shape: &Shape, name: &str) -> Value {
    match &shape.kind {
        Kind::Bool => Value::Bool(true),
        Kind::Text(rules) if rules.one_of.is_none() && (name.ends_with("_at") || name == "until" || name == "at") => Value::from(INSTANT),
        Kind::List { items, count } => {
            let wanted = usize::try_from(count.min.unwrap_or(0).min(16)).unwrap_or(0);
            Value::Array(vec![sample(items, name); wanted])
        }
        Kind::Object(object) => {
            let required = object.fields.iter().filter(|(_, field)| field.presence == Presence::Required);
            Value::Object(required.map(|(key, field)| (key.clone(), sample(&field.shape, key))).collect::<Map<_, _>>())
        }
        Kind::OneOf(shapes) => shapes.first().map_or(Value::Null, |first| sample(first, name)),
        Kind::Any | Kind::Null | Kind::Int(_) | Kind::Number(_) | Kind::Text(_) | Kind::Duration => shape::sample(shape, name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_stands_before_what_is_made_up() {
        let schema = json!({
            "type": "object", "required": ["db", "ok", "lag", "taken_at", "loss", "nodes"],
            "properties": {
                "db": {"type": "string"}, "ok": {"type": "boolean"}, "lag": {"type": "string", "format": "duration"},
                "taken_at": {"type": "string"}, "nodes": {"type": "array", "items": {"type": "string"}},
                "loss": {"type": "object", "required": ["method", "bytes"], "properties": {"method": {"enum": ["exact", "none"]}, "bytes": {"type": "integer", "minimum": 3}}},
                "note": {"type": "string"},
            },
        });
        let made =
            given_outputs(&sample_outputs(&schema), &json!({"db": "orders-db", "ok": "no"}), &json!({"loss": {"bytes": 9}, "note": "x"}));
        assert_eq!(
            made,
            json!({"db": "orders-db", "ok": true, "lag": "1s", "taken_at": INSTANT, "nodes": [], "loss": {"method": "exact", "bytes": 9}, "note": "x"})
        );
    }
}
