//! Reads the report's JSON far enough to compare its figures: values by path. Writes nothing, and is no library for others.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Deepest nesting that is read. The report's is five.
const DEPTH_MAX: usize = 32;

/// One JSON value. Numbers are as precise as a report's seconds need.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Reads a whole text; `None` when it is not JSON.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut reader = text.chars().peekable();
        let value = value(&mut reader, 0)?;
        space(&mut reader);
        reader.next().is_none().then_some(value)
    }

    /// The value at a path such as `actuals.rta_outage.seconds_min`; `None` where there is none.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, key| match value {
            Self::Object(fields) => fields.get(key),
            Self::List(items) => items.get(key.parse::<usize>().ok()?),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => None,
        })
    }

    /// The number at a path.
    pub(super) fn number(&self, path: &str) -> Option<f64> {
        match self.at(path)? {
            Self::Number(number) => Some(*number),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The text at a path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match self.at(path)? {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }
}

type Reader<'a> = Peekable<Chars<'a>>;

fn space(reader: &mut Reader<'_>) {
    while reader.next_if(|c| c.is_ascii_whitespace()).is_some() {}
}

fn value(reader: &mut Reader<'_>, depth: usize) -> Option<Json> {
    if depth > DEPTH_MAX {
        return None;
    }
    space(reader);
    match reader.peek()? {
        '{' => object(reader, depth),
        '[' => list(reader, depth),
        '"' => Some(Json::Text(text(reader)?)),
        't' => word(reader, "true", Json::Bool(true)),
        'f' => word(reader, "false", Json::Bool(false)),
        'n' => word(reader, "null", Json::Null),
        _ => {
            let mut digits = String::new();
            while let Some(c) = reader.next_if(|c| c.is_ascii_digit() || "+-.eE".contains(*c)) {
                digits.push(c);
            }
            digits.parse().ok().map(Json::Number)
        }
    }
}

fn word(reader: &mut Reader<'_>, word: &str, value: Json) -> Option<Json> {
    word.chars().all(|wanted| reader.next() == Some(wanted)).then_some(value)
}

fn list(reader: &mut Reader<'_>, depth: usize) -> Option<Json> {
    reader.next();
    let mut items = Vec::new();
    space(reader);
    if reader.next_if_eq(&']').is_some() {
        return Some(Json::List(items));
    }
    loop {
        items.push(value(reader, depth + 1)?);
        space(reader);
        match reader.next()? {
            ',' => {}
            ']' => return Some(Json::List(items)),
            _ => return None,
        }
    }
}

fn object(reader: &mut Reader<'_>, depth: usize) -> Option<Json> {
    reader.next();
    let mut fields = BTreeMap::new();
    space(reader);
    if reader.next_if_eq(&'}').is_some() {
        return Some(Json::Object(fields));
    }
    loop {
        space(reader);
        let key = text(reader)?;
        space(reader);
        reader.next_if_eq(&':')?;
        fields.insert(key, value(reader, depth + 1)?);
        space(reader);
        match reader.next()? {
            ',' => {}
            '}' => return Some(Json::Object(fields)),
            _ => return None,
        }
    }
}

fn text(reader: &mut Reader<'_>) -> Option<String> {
    reader.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match reader.next()? {
            '"' => return Some(text),
            '\\' => match reader.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'u' => {
                    let code: String = (0..4).map_while(|_| reader.next()).collect();
                    // Halves of a pair stand for signs that no figure is made of.
                    text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?).unwrap_or('\u{fffd}'));
                }
                plain => text.push(plain),
            },
            plain => text.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_path() {
        let report = Json::parse(
            r#" {"actuals": {"rta_outage": {"seconds_min": 1.5, "seconds_max": 2e0}, "rpa": null}, "steps": [{"id": "a\n\u00e9"}], "met": {"rto": true}} "#,
        )
        .unwrap();
        assert_eq!(report.number("actuals.rta_outage.seconds_max"), Some(2.0));
        assert_eq!(report.number("actuals.rpa.seconds_max"), None);
        assert_eq!(report.text("steps.0.id"), Some("a\né"));
        assert_eq!(report.at("met.rto"), Some(&Json::Bool(true)));
    }

    #[test]
    fn what_is_no_json_is_none() {
        let deep = "[".repeat(100);
        for broken in ["", "{", "{\"a\" 1}", "[1,]", "tru", "1 2", "\"open", deep.as_str()] {
            assert_eq!(Json::parse(broken), None, "{broken}");
        }
    }
}
