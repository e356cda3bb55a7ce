//! Any YAML file with a JSON Schema (the inventory, for one): read, checked against the schema, every part with its place. Runbooks have
//! a reader of their own on top of the same two.

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Source, Span};
use crate::shape::literal::{Checker, Place, Templates};
use crate::{shape, yaml};

/// A file that could be read, whether or not it fits its schema.
#[derive(Clone, Debug)]
pub struct Document {
    /// The values; what could not be read is null.
    pub value: Value,
    root: yaml::Node,
}

impl Document {
    /// The place of the value that a JSON pointer names, or of its nearest ancestor where there is none.
    #[must_use]
    pub fn span(&self, json_pointer: &str) -> Span {
        self.root.locate(json_pointer).1
    }

    /// The place of the key in front of that value; of the value where it has no key.
    #[must_use]
    pub fn key_span(&self, json_pointer: &str) -> Span {
        let (key, value) = self.root.locate(json_pointer);
        key.unwrap_or(value)
    }
}

/// Reads a YAML file and checks it against a JSON Schema (draft 2020-12). All problems are told at once. `None` only where the file could
/// not be read at all.
#[must_use]
pub fn read_document(source: &Source, schema: &Value) -> (Option<Document>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let Some(root) = yaml::read(source, &mut problems) else { return (None, problems) };
    let shape = shape::read(schema);
    let mut checker = Checker::new(Templates::AreText);
    checker.check(&root, &shape, &Place::root(&root));
    problems.append(&mut checker.problems);
    problems.sort_by_key(|problem| (problem.span, problem.code));
    (Some(Document { value: root.to_value(), root }), problems)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> (Option<Document>, Vec<(String, String)>) {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["name", "wait"],
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$"},
                "wait": {"type": "string", "format": "duration"},
                "drill": {"enum": ["allow", "deny"]},
                "port": {"type": ["integer", "null"], "format": "uint16", "minimum": 0, "maximum": 65535},
                "on": {"type": "boolean"},
                "checks": {"type": "array", "minItems": 1, "items": {"oneOf": [
                    {"type": "object", "additionalProperties": false, "required": ["http"], "properties": {"http": {"type": "object", "additionalProperties": false, "required": ["url"], "properties": {"url": {"type": "string"}}}}},
                    {"type": "object", "additionalProperties": false, "required": ["sql"], "properties": {"sql": {"type": "string"}}},
                ]}},
            },
        });
        let source = Source { name: "t.yaml".into(), text: text.into() };
        let (document, problems) = read_document(&source, &schema);
        (
            document,
            problems
                .into_iter()
                .map(|problem| {
                    (format!("{} {:?}", problem.code, &text[problem.span.start..problem.span.end]), problem.help.unwrap_or_default())
                })
                .collect(),
        )
    }

    #[test]
    fn a_good_file_is_read_with_places() {
        let text = "name: a\nwait: 5s\nchecks:\n  - sql: \"é\"\n  - http: { url: x }\nport: ~\n";
        let (document, problems) = read(text);
        assert_eq!(problems, []);
        let document = document.unwrap();
        assert_eq!(document.value["checks"][1]["http"]["url"], "x");
        let place = |span: Span| &text[span.start..span.end];
        assert_eq!(place(document.span("/checks/0/sql")), "\"é\"");
        assert_eq!(place(document.key_span("/checks/1/http/url")), "url");
        assert_eq!(place(document.span("/checks/1/http")), "{ url: x }");
        assert_eq!(place(document.span("/name/none/of/this")), "a");
    }

    #[test]
    fn every_problem_is_told_at_its_place() {
        let (_, problems) = read(
            "name: A\nwiat: 5s\ndrill: alow\nport: 70000\non: yes\nchecks:\n  - sqll: x\n  - http: { uri: x }\n  - { sql: a, http: b }\n",
        );
        let codes: Vec<&str> = problems.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(
            codes,
            [
                "LB012 \"name\"",
                "LB018 \"A\"",
                "LB011 \"wiat\"",
                "LB015 \"alow\"",
                "LB016 \"70000\"",
                "LB013 \"yes\"",
                "LB011 \"sqll\"",
                "LB012 \"http\"",
                "LB011 \"uri\"",
                "LB011 \"http\""
            ]
        );
        assert_eq!(problems[2].1, "did you mean `wait`?");
        assert_eq!(problems[5].1, "write true");
        assert_eq!(problems[8].1, "did you mean `url`?");
    }

    #[test]
    fn blanks_lists_and_lengths_of_time_have_their_own_words() {
        let (_, problems) = read("name:\nwait: 5\nchecks: []\nport: '1'\n");
        assert_eq!(
            problems,
            [
                ("LB019 \"name\"".to_owned(), "write a text, or remove the line".to_owned()),
                ("LB017 \"5\"".to_owned(), "add the unit, for example 5s".to_owned()),
                ("LB016 \"checks\"".to_owned(), String::new()),
                ("LB013 \"'1'\"".to_owned(), "write 1 without quotes".to_owned()),
            ]
        );
    }
}
