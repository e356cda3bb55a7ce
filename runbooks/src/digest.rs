//! Digests over canonical JSON: what a drill proves (`structure`), and what runs and approvals are pinned to (`binding`).

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// 64 hexadecimal digits of the SHA-256 of a value's canonical form: keys sorted, no spaces.
pub(crate) fn of(value: &Value) -> String {
    let bytes = canonical(value).to_string();
    Sha256::digest(bytes.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 32 digits of the same: enough to tell the steps of a runbook apart, and half as long in every plan and journal.
pub(crate) fn short_of(value: &Value) -> String {
    let mut digits = of(value);
    digits.truncate(32);
    digits
}

/// The value with the keys of every object in order, whatever order the maps of the JSON library keep.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_unstable();
            Value::Object(keys.into_iter().map(|key| (key.clone(), canonical(&entries[key]))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter_and_everything_else_does() {
        let one = json!({"b": [1, {"y": 1, "x": 2}], "a": "t"});
        let same: Value = serde_json::from_str(r#"{"a":"t","b":[1,{"x":2,"y":1}]}"#).unwrap();
        assert_eq!(of(&one), of(&same));
        assert_eq!(of(&json!({})), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert_ne!(of(&one), of(&json!({"b": [{"y": 1, "x": 2}, 1], "a": "t"})));
    }
}
