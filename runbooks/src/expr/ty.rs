//! Types of expressions: made from the same shapes that literals are checked against, and compared with them where an answer is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::duration::Period;
use crate::shape::{Kind, Presence, Shape, TextRules};
use crate::suggest;

/// What is known of a value before it exists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    /// A problem was reported here; nothing more is said.
    Reported,
    /// Of no value: the items of an empty list.
    Never,
    /// Of a value whose type nobody declared; only what works for every value may be done with it.
    Any,
    Null,
    Bool,
    Int,
    Double,
    /// Text; where all its possible values are known, these.
    Text(Option<Arc<[String]>>),
    /// Text in the grammar of lengths of time.
    Period,
    /// The answer of `duration()`.
    Length,
    List(Arc<Ty>),
    Object(Arc<ObjectTy>),
    /// A value that may be absent.
    Optional(Arc<Ty>),
    /// The name `steps` itself.
    Steps,
}

/// A mapping with known keys, and perhaps others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ObjectTy {
    pub fields: BTreeMap<String, (Ty, Presence)>,
    pub rest: Option<Ty>,
}

impl Ty {
    /// Of values of a shape.
    pub(crate) fn of(shape: &Shape) -> Self {
        match &shape.kind {
            _ if shape.nullable => Self::Any,
            Kind::Any | Kind::OneOf(_) => Self::Any,
            Kind::Null => Self::Null,
            Kind::Bool => Self::Bool,
            Kind::Int(_) => Self::Int,
            Kind::Number(_) => Self::Double,
            Kind::Text(rules) => Self::Text(rules.one_of.as_deref().map(Arc::from)),
            Kind::Duration => Self::Period,
            Kind::List { items, .. } => Self::List(Arc::new(Self::of(items))),
            Kind::Object(object) => {
                let fields = object.fields.iter().map(|(name, field)| {
                    // Null is dropped from objects, so a nullable field is one that may be absent.
                    let present = Shape { nullable: false, ..field.shape.clone() };
                    // A value of undeclared type may be null as well.
                    let presence = if matches!(present.kind, Kind::Any) { Presence::Optional } else { field.presence };
                    (name.clone(), (Self::of(&present), presence))
                });
                Self::Object(Arc::new(ObjectTy { fields: fields.collect(), rest: object.rest.as_deref().map(Self::of) }))
            }
        }
    }

    /// Text of one known value.
    pub(crate) fn word(text: &str) -> Self {
        Self::Text(Some(Arc::from([text.to_owned()])))
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Period)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// Whether nothing can be said against it any more.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::Reported | Self::Never)
    }

    /// What it is, in words.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Reported | Self::Never | Self::Any => "of unknown type",
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Double => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::Period => "a length of time as text",
            Self::Length => "a duration",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Optional(_) => "a value that may be absent",
            Self::Steps => "all steps",
        }
    }

    /// The type of a value that is one or the other; `None` where a person should not mix them.
    pub(crate) fn join(&self, other: &Self) -> Option<Self> {
        Some(match (self, other) {
            _ if self == other => self.clone(),
            (Self::Reported, _) | (_, Self::Reported) => Self::Reported,
            (Self::Never, only) | (only, Self::Never) => only.clone(),
            (Self::Any, Self::Optional(_)) | (Self::Optional(_), Self::Any) => return None,
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (Self::Text(Some(a)), Self::Text(Some(b))) => {
                let mut words = a.to_vec();
                words.extend(b.iter().filter(|word| !a.contains(word)).cloned());
                Self::Text(Some(words.into()))
            }
            (Self::Period, Self::Text(Some(words))) | (Self::Text(Some(words)), Self::Period)
                if words.iter().all(|word| Period::parse(word).is_ok()) =>
            {
                Self::Period
            }
            (a, b) if a.is_text() && b.is_text() => Self::Text(None),
            (Self::List(a), Self::List(b)) => Self::List(Arc::new(a.join(b).unwrap_or(Self::Any))),
            (Self::Object(_), Self::Object(_)) => Self::Any,
            (Self::Optional(a), Self::Optional(b)) => Self::Optional(Arc::new(a.join(b)?)),
            _ => return None,
        })
    }

    /// Whether an answer of this type can stand where `shape` is wanted; otherwise what to say and what to do.
    pub(crate) fn fit(&self, shape: &Shape) -> Result<(), (String, Option<String>)> {
        let wrong = |help: Option<String>| Err((format!("{} is wanted here, and this is {}", shape.words(), self.words()), help));
        match (self, &shape.kind) {
            (Self::Reported, _) => Ok(()),
            (Self::Optional(_), _) => wrong(Some("give a default with .orValue(...)".to_owned())),
            (Self::Steps, _) => wrong(Some("name a step: steps.<id>".to_owned())),
            (_, Kind::Any) | (Self::Never, _) => Ok(()),
            (Self::Null, Kind::Null) => Ok(()),
            (Self::Null, _) if shape.nullable => Ok(()),
            (Self::Bool, Kind::Bool) | (Self::Int, Kind::Int(_) | Kind::Number(_)) | (Self::Double, Kind::Number(_)) => Ok(()),
            (Self::Period | Self::Length, Kind::Duration) => Ok(()),
            (Self::Period | Self::Length | Self::Text(_), Kind::Text(TextRules { one_of: None, .. })) => Ok(()),
            (Self::Text(Some(words)), Kind::Text(TextRules { one_of: Some(known), .. })) => {
                let Some(stranger) = words.iter().find(|word| !known.contains(word)) else { return Ok(()) };
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                Err((format!("this can be {stranger:?}, which is none of the values wanted here"), suggest::instead(stranger, &known)))
            }
            (Self::Text(Some(words)), Kind::Duration) => match words.iter().find_map(|word| Period::parse(word).err()) {
                None => Ok(()),
                Some(why) => {
                    let (why, help) = why.split_once("; ").unwrap_or((&why, ""));
                    Err((why.to_owned(), Some(help.to_owned())))
                }
            },
            (Self::Text(None), Kind::Duration) => {
                wrong(Some("declare the input with `type: duration`, or use an output that is a length of time".to_owned()))
            }
            (Self::Text(None) | Self::Period | Self::Length, Kind::Text(TextRules { one_of: Some(_), .. })) => Err((
                format!("this can be any text, and {} is wanted here", shape.words()),
                Some("list the values of the input under `one_of`".to_owned()),
            )),
            (Self::Int, Kind::Text(_) | Kind::Duration) if matches!(shape.kind, Kind::Text(_)) => {
                wrong(Some("wrap it in string(...)".to_owned()))
            }
            (Self::Bool | Self::Double, Kind::Text(_)) => wrong(Some("wrap it in string(...)".to_owned())),
            (Self::List(item), Kind::List { items, .. }) => item.fit(items),
            (Self::Object(object), Kind::Object(wanted)) => fit_object(object, wanted),
            (_, Kind::OneOf(variants)) => {
                if variants.iter().any(|variant| self.fit(variant).is_ok()) {
                    Ok(())
                } else {
                    wrong(None)
                }
            }
            _ => wrong(None),
        }
    }
}

fn fit_object(object: &ObjectTy, wanted: &crate::shape::Object) -> Result<(), (String, Option<String>)> {
    for (name, (ty, _)) in &object.fields {
        match (wanted.fields.get(name), &wanted.rest) {
            (Some(field), _) => ty.fit(&field.shape)?,
            (None, Some(rest)) => ty.fit(rest)?,
            (None, None) => {
                let known: Vec<&str> = wanted.fields.keys().map(String::as_str).collect();
                return Err((format!("this has a key `{name}`, which is not wanted here"), suggest::instead(name, &known)));
            }
        }
    }
    let missing = wanted.fields.iter().find(|(name, field)| {
        field.presence == Presence::Required && object.fields.get(*name).is_none_or(|(_, presence)| *presence == Presence::Optional)
    });
    match (missing, &object.rest) {
        (Some((name, _)), _) => Err((format!("this need not have the key `{name}`, which is wanted here"), None)),
        (None, Some(rest)) => wanted
            .rest
            .as_deref()
            .map_or_else(|| Err(("this may have keys that are not wanted here".to_owned(), None)), |shape| rest.fit(shape)),
        (None, None) => Ok(()),
    }
}
