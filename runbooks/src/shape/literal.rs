//! Values written in a file against the shape of their place. Everything wrong is reported at its own place; values that hold an
//! expression are handed on to whoever types expressions.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

use super::{Kind, Limits, Object, Presence, Shape, TextRules};
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::duration::Period;
use crate::parse::PROBLEMS_MAX;
use crate::suggest;
use crate::yaml::{Content, Entry, Node, Scalar, Style};

/// Whether `${{ }}` has a meaning in this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Templates {
    /// It is text like any other.
    AreText,
    /// Its answer is checked by the type checker.
    AreExpressions,
}

/// A scalar with an expression, and what its place wants.
pub(crate) struct Hole<'n, 's> {
    pub node: &'n Node,
    pub shape: &'s Shape,
}

/// What a check found.
pub(crate) struct Checker<'n, 's> {
    templates: Templates,
    pub problems: Vec<Diagnostic>,
    pub holes: Vec<Hole<'n, 's>>,
}

/// Most patterns that are kept. They come from the schemas of step types and of the language itself, which are far fewer.
const PATTERNS_MAX: usize = 256;

thread_local! {
    // Making one takes longer than reading a small file.
    static PATTERNS: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
}

/// Whether a text matches a pattern; a pattern that is none forbids nothing.
fn matches(pattern: &str, text: &str) -> bool {
    PATTERNS.with(|patterns| {
        let mut patterns = patterns.borrow_mut();
        if patterns.len() >= PATTERNS_MAX && !patterns.contains_key(pattern) {
            patterns.clear();
        }
        let regex = patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        regex.as_ref().is_none_or(|regex| regex.is_match(text))
    })
}

/// Where a value stands, for messages.
#[derive(Clone)]
pub(crate) struct Place {
    pub pointer: String,
    /// `the file`, `` `with` ``, `` an item of `steps` ``.
    pub name: String,
    /// The key in front, or the value itself.
    pub head: Span,
}

impl<'n, 's> Checker<'n, 's> {
    pub(crate) fn new(templates: Templates) -> Self {
        Self { templates, problems: Vec::new(), holes: Vec::new() }
    }

    fn report(&mut self, code: &'static str, span: Span, message: String, help: Option<String>) {
        self.problems.push(Diagnostic::error(code, span, message).maybe_help(help));
    }

    /// Checks a value and all that is in it.
    pub(crate) fn check(&mut self, node: &'n Node, shape: &'s Shape, place: &Place) {
        crate::work::spend(1);
        if self.problems.len() > PROBLEMS_MAX {
            return;
        }
        match &node.content {
            Content::Broken => {}
            Content::Scalar(scalar) => self.scalar(node, scalar, shape, place),
            Content::List(items) => self.list(node, items, shape, place),
            Content::Map(entries) => self.map(node, entries, shape, place),
        }
    }

    fn list(&mut self, node: &'n Node, items: &'n [Node], shape: &'s Shape, place: &Place) {
        match &shape.kind {
            Kind::Any => items.iter().enumerate().for_each(|(index, item)| self.check(item, shape, &place.item(index, item))),
            Kind::List { items: wanted, count } => {
                let length = u64::try_from(items.len()).unwrap_or(u64::MAX);
                if !within(*count, &length) {
                    let message = format!("{} has {length} items; {}", place.name, bounds(*count));
                    self.report(codes::OUT_OF_RANGE, place.head, message, None);
                }
                for (index, item) in items.iter().enumerate() {
                    self.check(item, wanted, &place.item(index, item));
                }
            }
            Kind::OneOf(variants) => self.one_of(node, variants, shape, place),
            Kind::Null | Kind::Bool | Kind::Int(_) | Kind::Number(_) | Kind::Text(_) | Kind::Duration | Kind::Object(_) => {
                self.wrong_type(node, "a list", shape, place);
            }
        }
    }

    fn map(&mut self, node: &'n Node, entries: &'n [Entry], shape: &'s Shape, place: &Place) {
        match &shape.kind {
            Kind::Any => entries.iter().for_each(|entry| self.check(&entry.value, shape, &place.key(entry))),
            Kind::Object(object) => self.object(node, entries, object, place),
            Kind::OneOf(variants) => self.one_of(node, variants, shape, place),
            Kind::Null | Kind::Bool | Kind::Int(_) | Kind::Number(_) | Kind::Text(_) | Kind::Duration | Kind::List { .. } => {
                self.wrong_type(node, "a mapping", shape, place);
            }
        }
    }

    fn object(&mut self, node: &'n Node, entries: &'n [Entry], object: &'s Object, place: &Place) {
        let absent: Vec<&str> = object.fields.keys().map(String::as_str).filter(|key| node.get(key).is_none()).collect();
        for entry in entries {
            if self.problems.len() > PROBLEMS_MAX {
                return;
            }
            let inner = place.key(entry);
            if let Some(field) = object.fields.get(&entry.key) {
                self.check(&entry.value, &field.shape, &inner);
            } else if let Some(rest) = &object.rest {
                self.check(&entry.value, rest, &inner);
            } else {
                let help = suggest::instead(&entry.key, &absent).or_else(|| Some("remove it".to_owned()));
                self.report(codes::UNKNOWN_KEY, entry.key_span, format!("{} has no key `{}`", place.name, entry.key), help);
            }
        }
        for (name, field) in &object.fields {
            if field.presence == Presence::Required && absent.contains(&name.as_str()) {
                let help = format!("add `{name}:` ({})", field.shape.words());
                self.report(codes::MISSING_KEY, place.head, format!("{} needs the key `{name}`", place.name), Some(help));
            }
        }
    }

    /// Finds the variant that is meant, so that only its problems are told.
    fn one_of(&mut self, node: &'n Node, variants: &'s [Shape], shape: &'s Shape, place: &Place) {
        let tags: Vec<&str> = variants.iter().filter_map(|variant| variant.as_object()).filter_map(Object::tag).collect();
        if let [Entry { key, key_span, .. }] = node.entries() {
            let tagged = variants.iter().find(|variant| variant.as_object().is_some_and(|object| object.tag() == Some(key)));
            if let Some(variant) = tagged {
                return self.check(node, variant, place);
            }
            let only_tags = tags.len() == variants.iter().filter(|variant| variant.as_object().is_some()).count();
            if only_tags && !tags.is_empty() {
                let message = format!("{} has no key `{key}`", place.name);
                return self.report(codes::UNKNOWN_KEY, *key_span, message, suggest::instead(key, &tags));
            }
        }
        if node.entries().len() > 1 && !tags.is_empty() && node.entries().iter().all(|entry| tags.contains(&entry.key.as_str())) {
            let message = format!("{} takes one of these keys at a time", place.name);
            return self.report(codes::UNKNOWN_KEY, node.entries()[1].key_span, message, Some("make it an item of its own".to_owned()));
        }
        let fitting: Vec<&Shape> = variants.iter().filter(|variant| variant.takes(node)).collect();
        match fitting.as_slice() {
            [] => self.wrong_type(node, node_kind(node), shape, place),
            [only] => self.check(node, only, place),
            several => {
                let attempts = several.iter().map(|variant| {
                    let mut attempt = Checker::new(self.templates);
                    attempt.check(node, variant, place);
                    (attempt.problems, attempt.holes)
                });
                if let Some((problems, holes)) = attempts.min_by_key(|(problems, _)| problems.len()) {
                    self.problems.extend(problems);
                    self.holes.extend(holes);
                }
            }
        }
    }

    fn scalar(&mut self, node: &'n Node, scalar: &'n Scalar, shape: &'s Shape, place: &Place) {
        if self.templates == Templates::AreExpressions && scalar.value.is_string() && scalar.text.contains("${{") {
            self.holes.push(Hole { node, shape });
            return;
        }
        match &scalar.value {
            Value::Null => self.null(shape, place),
            Value::Bool(_) => match &shape.kind {
                Kind::Any | Kind::Bool => {}
                Kind::OneOf(variants) => self.one_of(node, variants, shape, place),
                Kind::Null | Kind::Int(_) | Kind::Number(_) | Kind::Text(_) | Kind::Duration | Kind::List { .. } | Kind::Object(_) => {
                    self.wrong_type(node, &format!("`{}`", scalar.text), shape, place);
                }
            },
            Value::Number(number) => match &shape.kind {
                Kind::Any => {}
                Kind::Int(limits) => match number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)) {
                    Some(whole) => self.range(node, scalar, *limits, &whole, place),
                    None => self.wrong_type(node, &format!("the number {}", scalar.text), shape, place),
                },
                Kind::Number(limits) => self.range(node, scalar, *limits, &number.as_f64().unwrap_or(f64::NAN), place),
                Kind::OneOf(variants) => self.one_of(node, variants, shape, place),
                Kind::Null | Kind::Bool | Kind::Text(_) | Kind::Duration | Kind::List { .. } | Kind::Object(_) => {
                    self.wrong_type(node, &format!("the number {}", scalar.text), shape, place);
                }
            },
            Value::String(text) => self.text(node, scalar, text, shape, place),
            Value::Array(_) | Value::Object(_) => {}
        }
    }

    fn null(&mut self, shape: &'s Shape, place: &Place) {
        if shape.nullable || matches!(shape.kind, Kind::Null | Kind::Any) {
            return;
        }
        let help = format!("write {}, or remove the line", shape.words());
        self.report(codes::BLANK, place.head, format!("{} has no value", place.name), Some(help));
    }

    fn text(&mut self, node: &'n Node, scalar: &'n Scalar, text: &str, shape: &'s Shape, place: &Place) {
        match &shape.kind {
            Kind::Any => {}
            Kind::Text(rules) => self.text_rules(node, text, rules, place),
            Kind::Duration => {
                if let Err(why) = Period::parse(text) {
                    let (why, help) = why.split_once("; ").unwrap_or((&why, ""));
                    self.report(codes::BAD_DURATION, node.span, why.to_owned(), Some(help.to_owned()));
                }
            }
            Kind::OneOf(variants) => self.one_of(node, variants, shape, place),
            Kind::Null | Kind::Bool | Kind::Int(_) | Kind::Number(_) | Kind::List { .. } | Kind::Object(_) => {
                let help = meant(scalar, text, shape);
                let message = format!("{} must be {}, and it is the text {text:?}", place.name, shape.words());
                self.report(codes::WRONG_TYPE, node.span, shortened(&message), help);
            }
        }
    }

    fn text_rules(&mut self, node: &Node, text: &str, rules: &TextRules, place: &Place) {
        if let Some(words) = &rules.one_of {
            if !words.iter().any(|word| word == text) {
                let known: Vec<&str> = words.iter().map(String::as_str).collect();
                let message = shortened(&format!("{} cannot be {text:?}", place.name));
                self.report(codes::NOT_ONE_OF, node.span, message, suggest::instead(text, &known));
            }
            return;
        }
        let letters = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if !within(rules.length, &letters) {
            let message = if letters == 0 {
                format!("{} is empty", place.name)
            } else {
                format!("{} has {letters} characters; {}", place.name, bounds(rules.length))
            };
            self.report(codes::OUT_OF_RANGE, node.span, message, None);
        } else if let Some(pattern) = &rules.pattern
            && !matches(pattern, text)
        {
            let message =
                if text.is_empty() { format!("{} is empty", place.name) } else { shortened(&format!("{} cannot be {text:?}", place.name)) };
            let help = rules.form.as_ref().map_or_else(|| format!("it must match `{pattern}`"), |form| format!("use {form}"));
            self.report(codes::BAD_FORM, node.span, message, Some(help));
        }
    }

    fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        node: &Node,
        scalar: &Scalar,
        limits: Limits<T>,
        value: &T,
        place: &Place,
    ) {
        if !within(limits, value) {
            let message = format!("{} is {}; {}", place.name, scalar.text, bounds(limits));
            self.report(codes::OUT_OF_RANGE, node.span, message, None);
        }
    }

    fn wrong_type(&mut self, node: &Node, found: &str, shape: &Shape, place: &Place) {
        let plain = node.scalar().filter(|scalar| scalar.style == Style::Plain);
        let help = match (&shape.kind, plain) {
            (Kind::Text(_), Some(scalar)) => Some(format!("quote it: \"{}\"", scalar.text)),
            (Kind::Duration, Some(scalar)) if scalar.value.is_number() => {
                Some(format!("add the unit, for example {}s", if scalar.text == "0" { "30" } else { &scalar.text }))
            }
            (Kind::List { .. }, Some(scalar)) => Some(format!("write it as a list: [{}]", scalar.text)),
            _ => None,
        };
        let code = if matches!(shape.kind, Kind::Duration) { codes::BAD_DURATION } else { codes::WRONG_TYPE };
        let head = if node.scalar().is_some() { node.span } else { place.head };
        self.report(code, head, shortened(&format!("{} must be {}, and it is {found}", place.name, shape.words())), help);
    }
}

impl Shape {
    fn as_object(&self) -> Option<&Object> {
        match &self.kind {
            Kind::Object(object) => Some(object),
            Kind::Any
            | Kind::Null
            | Kind::Bool
            | Kind::Int(_)
            | Kind::Number(_)
            | Kind::Text(_)
            | Kind::Duration
            | Kind::List { .. }
            | Kind::OneOf(_) => None,
        }
    }

    /// Whether a value of this kind can be meant, whatever is in it.
    fn takes(&self, node: &Node) -> bool {
        match (&node.content, &self.kind) {
            (_, Kind::Any) | (Content::Broken, _) | (Content::List(_), Kind::List { .. }) | (Content::Map(_), Kind::Object(_)) => true,
            (Content::Scalar(scalar), kind) => match scalar.value {
                Value::Bool(_) => matches!(kind, Kind::Bool),
                Value::Number(_) => matches!(kind, Kind::Int(_) | Kind::Number(_)),
                Value::String(_) => matches!(kind, Kind::Text(_) | Kind::Duration),
                Value::Null | Value::Array(_) | Value::Object(_) => self.nullable,
            },
            (Content::List(_) | Content::Map(_), _) => false,
        }
    }
}

impl Place {
    /// The whole of a file.
    pub(crate) fn root(node: &Node) -> Self {
        let first = node.entries().first().map_or(Span { start: node.span.start, end: node.span.start }, |entry| entry.key_span);
        Self { pointer: String::new(), name: "the file".to_owned(), head: first }
    }

    /// A value under a key.
    pub(crate) fn key(&self, entry: &Entry) -> Self {
        let token = entry.key.replace('~', "~0").replace('/', "~1");
        Self { pointer: format!("{}/{token}", self.pointer), name: format!("`{}`", shortened(&entry.key)), head: entry.key_span }
    }

    /// An item of a list.
    pub(crate) fn item(&self, index: usize, item: &Node) -> Self {
        let head = item.entries().first().map_or(item.span, |entry| entry.key_span);
        let name = match self.name.as_str() {
            "`steps`" | "`finally`" => "a step".to_owned(),
            "`triggers`" => "a trigger".to_owned(),
            name if name.starts_with("an item of") => name.to_owned(),
            name => format!("an item of {name}"),
        };
        Self { pointer: format!("{}/{index}", self.pointer), name, head }
    }
}

fn node_kind(node: &Node) -> &'static str {
    match &node.content {
        Content::Map(_) => "a mapping",
        Content::List(_) => "a list",
        Content::Scalar(scalar) => match scalar.value {
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => "a text",
        },
        Content::Broken => "unreadable",
    }
}

/// What a person meant who wrote a text where something else is wanted.
fn meant(scalar: &Scalar, text: &str, shape: &Shape) -> Option<String> {
    let quoted = scalar.style != Style::Plain;
    match &shape.kind {
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write true".to_owned()),
            "no" | "off" | "n" | "false" => Some("write false".to_owned()),
            _ => None,
        },
        Kind::Int(_) | Kind::Number(_) if quoted && text.parse::<f64>().is_ok() => Some(format!("write {text} without quotes")),
        Kind::Int(_) | Kind::Number(_) => {
            let digits: String = text.trim_start_matches('0').replace('_', "");
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && digits.len() < 19;
            Some(if plain { format!("write {digits}") } else { "write it in decimal digits, for example 12".to_owned() })
        }
        Kind::List { .. } => Some(format!("write it as a list: [{text}]")),
        Kind::Any | Kind::Null | Kind::Text(_) | Kind::Duration | Kind::Object(_) | Kind::OneOf(_) => None,
    }
}

fn within<T: PartialOrd>(limits: Limits<T>, value: &T) -> bool {
    limits.min.as_ref().is_none_or(|min| min <= value) && limits.max.as_ref().is_none_or(|max| max >= value)
}

fn bounds<T: std::fmt::Display>(limits: Limits<T>) -> String {
    match (limits.min, limits.max) {
        (Some(min), Some(max)) => format!("it must be from {min} to {max}"),
        (Some(min), None) => format!("{min} is the least"),
        (None, Some(max)) => format!("{max} is the most"),
        (None, None) => "any number will do".to_owned(),
    }
}

/// Values in messages are cut: a file may hold one of 4 MiB.
pub(crate) fn shortened(text: &str) -> String {
    /// A line of a terminal, and a half.
    const LETTERS_MAX: usize = 160;
    if text.chars().count() <= LETTERS_MAX { text.to_owned() } else { text.chars().take(LETTERS_MAX).chain("...".chars()).collect() }
}
