//! What a plain scalar stands for: the rules of YAML 1.2's JSON schema, so that `no`, `12:30`, `012` and `.nan` stay text.

use serde_json::{Number, Value};

use super::{Scalar, Style};

pub(super) fn scalar(text: String, style: Style) -> Scalar {
    let value = if style == Style::Plain { plain(&text) } else { Value::String(text.clone()) };
    Scalar { text, style, value }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

/// The grammar of JSON numbers; whole numbers that 64 bits cannot hold stay text rather than lose digits.
fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned.starts_with('0')) {
        return None;
    }
    let rest = &unsigned[whole..];
    if rest.is_empty() {
        return text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok();
    }
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if digits(fraction) > 0 => &fraction[digits(fraction)..],
        Some(_) => return None,
        None => rest,
    };
    let exponent_fits = match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        None => rest.is_empty(),
    };
    if exponent_fits { text.parse::<f64>().ok().and_then(Number::from_f64) } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_json_words_are_more_than_text() {
        for (text, value) in [
            ("true", json!(true)),
            ("~", json!(null)),
            ("", json!(null)),
            ("-12", json!(-12)),
            ("1.50", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
        for text in [
            "no",
            "yes",
            "on",
            "NO",
            "True",
            "12:30:45",
            "012",
            "0o14",
            "0x1F",
            "1_000",
            ".inf",
            "-.inf",
            ".nan",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-",
            "--1",
            "18446744073709551616",
            "1e999",
            "2001-01-01",
        ] {
            assert_eq!(plain(text), json!(text), "{text}");
        }
    }
}
