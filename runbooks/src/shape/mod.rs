//! JSON Schemas (2020-12, as `schemars` writes them) as a small closed set of shapes: one base for checking literals, typing
//! expressions and making samples. How values are checked against them is in `literal`.

pub(crate) mod literal;
mod read;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use read::read;
pub(crate) use sample::sample;

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub kind: Kind,
    /// Whether null is allowed too; null and absent are the same thing.
    pub nullable: bool,
    /// The value names a resource of this kind.
    pub resource: Option<String>,
    /// The value names a node of the resource in this sibling field.
    pub node_of: Option<String>,
    /// Why the value must be known before the run, where it must.
    pub early: Option<Arc<str>>,
    /// What stands there when nothing is written.
    pub default: Option<Value>,
}

/// The closed set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Anything.
    Any,
    Null,
    Bool,
    Int(Limits<i128>),
    Number(Limits<f64>),
    Text(TextRules),
    /// Text in the one grammar of lengths of time.
    Duration,
    List {
        items: Box<Shape>,
        count: Limits<u64>,
    },
    Object(Object),
    /// One of several: an enum whose variants carry different things.
    OneOf(Vec<Shape>),
}

/// Smallest and largest, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits<T> {
    pub min: Option<T>,
    pub max: Option<T>,
}

/// What a text must be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TextRules {
    pub one_of: Option<Vec<String>>,
    pub pattern: Option<String>,
    /// The pattern in words.
    pub form: Option<String>,
    pub length: Limits<u64>,
}

/// A mapping with known keys, and perhaps others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object {
    pub fields: BTreeMap<String, Field>,
    /// Shape of the values of other keys; `None` where there are no others.
    pub rest: Option<Box<Shape>>,
}

/// One known key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub shape: Shape,
    pub presence: Presence,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

impl Shape {
    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, nullable: false, resource: None, node_of: None, early: None, default: None }
    }

    /// Why a value of this shape must be known before the run, where it must.
    pub(crate) fn early(&self) -> Option<Arc<str>> {
        let names =
            self.resource.is_some().then(|| Arc::from("it names a resource, and locks and the drill guard must know it before the run"));
        self.early.clone().or(names)
    }

    /// The fields, where it is a mapping with known keys.
    pub(crate) fn object(&self) -> Option<&Object> {
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

    /// What is wanted, in words.
    pub(crate) fn words(&self) -> String {
        match &self.kind {
            Kind::Any => "anything".to_owned(),
            Kind::Null => "nothing".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Int(_) => "a whole number".to_owned(),
            Kind::Number(_) => "a number".to_owned(),
            Kind::Text(TextRules { one_of: Some(words), .. }) => {
                format!("one of {}", crate::suggest::list(&words.iter().map(String::as_str).collect::<Vec<_>>()))
            }
            Kind::Text(_) => "a text".to_owned(),
            Kind::Duration => "a length of time".to_owned(),
            Kind::List { .. } => "a list".to_owned(),
            Kind::Object(_) => "a mapping".to_owned(),
            Kind::OneOf(shapes) => {
                let mut words: Vec<String> = shapes.iter().map(Self::words).collect();
                words.dedup();
                words.join(" or ")
            }
        }
    }
}

impl Object {
    /// The one required key of a variant of an externally tagged enum.
    pub(crate) fn tag(&self) -> Option<&str> {
        let mut required = self.fields.iter().filter(|(_, field)| field.presence == Presence::Required);
        match (required.next(), required.next()) {
            (Some((name, _)), None) if self.fields.len() == 1 => Some(name),
            _ => None,
        }
    }
}
