//! A value of a shape, where the real one is not known before the run.

use serde_json::{Map, Value};

use super::{Kind, Presence, Shape};

/// The simplest value of the shape; texts say `name`.
pub(crate) fn sample(shape: &Shape, name: &str) -> Value {
    match &shape.kind {
        Kind::Any | Kind::Null => Value::Null,
        Kind::Bool => Value::Bool(false),
        Kind::Int(limits) => {
            let whole = limits.min.unwrap_or(0).max(0).min(limits.max.unwrap_or(i128::MAX));
            i64::try_from(whole).map_or(Value::from(0), Value::from)
        }
        Kind::Number(limits) => Value::from(limits.min.unwrap_or(0.0)),
        Kind::Text(rules) => match &rules.one_of {
            Some(words) => words.first().map_or_else(|| Value::from(name), |word| Value::from(word.as_str())),
            None => Value::from(name),
        },
        Kind::Duration => Value::from("1s"),
        Kind::List { items, count } => {
            let wanted = usize::try_from(count.min.unwrap_or(0).min(16)).unwrap_or(0);
            Value::Array(vec![sample(items, name); wanted])
        }
        Kind::Object(object) => {
            let required = object.fields.iter().filter(|(_, field)| field.presence == Presence::Required);
            Value::Object(required.map(|(key, field)| (key.clone(), sample(&field.shape, name))).collect::<Map<_, _>>())
        }
        Kind::OneOf(shapes) => shapes.first().map_or(Value::Null, |first| sample(first, name)),
    }
}
