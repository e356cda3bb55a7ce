//! YAML as a tree in which every key and value knows its place. What the values mean is checked elsewhere.

mod place;
mod read;
mod scalar;

use serde_json::{Map, Value};

use crate::diagnostic::Span;

pub(crate) use read::read;

/// Largest file, in bytes. A runbook of 10,000 steps has some 1.6 MB.
pub(crate) const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Deepest nesting of lists and mappings: readers recurse, and nothing a person writes by hand is deeper.
pub(crate) const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub content: Content,
    /// For lists and mappings from the first entry to the last.
    pub span: Span,
}

/// What stands there.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Something that was reported already; nothing more is said of it.
    Broken,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

/// A single value.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// Decoded.
    pub text: String,
    pub style: Style,
    /// Null, bool, number or string by the rules of JSON; quoted and block scalars are always strings.
    pub value: Value,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
    Folded,
}

impl Node {
    /// The entry of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => {
                crate::work::spend(entries.len() / 16 + 1);
                entries.iter().find(|entry| entry.key == key)
            }
            Content::List(_) | Content::Scalar(_) | Content::Broken => None,
        }
    }

    /// The value of a mapping's entry.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The items of a list, none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.content {
            Content::List(items) => items,
            Content::Map(_) | Content::Scalar(_) | Content::Broken => &[],
        }
    }

    /// The entries of a mapping, none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            Content::List(_) | Content::Scalar(_) | Content::Broken => &[],
        }
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            Content::Map(_) | Content::List(_) | Content::Broken => None,
        }
    }

    /// The text of a string scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| scalar.value.is_string()).map(|scalar| scalar.text.as_str())
    }

    /// The plain value; broken parts are null.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(scalar) => scalar.value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value())).collect::<Map<_, _>>())
            }
            Content::Broken => Value::Null,
        }
    }

    /// The place of what a JSON pointer names, or of its nearest ancestor: key (where there is one) and value.
    pub(crate) fn locate(&self, pointer: &str) -> (Option<Span>, Span) {
        let mut here = self;
        let mut key_span = None;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            let next = match &here.content {
                Content::Map(_) => here.entry(&token).map(|entry| (Some(entry.key_span), &entry.value)),
                Content::List(items) => token.parse::<usize>().ok().and_then(|index| items.get(index)).map(|item| (None, item)),
                Content::Scalar(_) | Content::Broken => None,
            };
            let Some((key, node)) = next else { break };
            (key_span, here) = (key, node);
        }
        (key_span, here.span)
    }
}
