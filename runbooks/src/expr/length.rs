//! `duration("1m30s")` as a value of the expression language. The crate's own duration type has another grammar, so it is switched off.

use std::any::Any;
use std::cmp::Ordering;
use std::time::Duration;

use cel::ExecutionError;
use cel::common::traits::Comparer;
use cel::common::types::{CelString, Type};
use cel::common::value::{CowVal, StaticVal, Val};

use crate::duration::Period;

/// A length of time; it can only be compared, printed and handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Length(pub(crate) Duration);

static LENGTH_TYPE: Type = Type::new_unspecified_type("duration");

impl Val for Length {
    fn get_type(&self) -> &Type {
        &LENGTH_TYPE
    }

    fn cel_type() -> &'static Type {
        &LENGTH_TYPE
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>() == Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Length {}

impl Comparer for Length {
    fn compare(&self, other: &dyn Val) -> Result<Ordering, ExecutionError> {
        other
            .downcast_ref::<Self>()
            .map(|other| self.cmp(other))
            .ok_or_else(|| ExecutionError::function_error("duration", "a duration compares only with a duration"))
    }
}

/// The function `duration`.
pub(crate) fn from_text<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = arguments.first().and_then(|argument| argument.downcast_ref::<CelString<'v>>());
    let text = text.ok_or_else(|| ExecutionError::function_error("duration", "it takes one text"))?;
    let period = Period::parse(text.inner()).map_err(|why| ExecutionError::function_error("duration", why))?;
    Ok(CowVal::owned(Length(period.0)))
}

/// `string(duration(...))`.
pub(crate) fn to_text<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let length = arguments.first().and_then(|argument| argument.downcast_ref::<Length>());
    let length = length.ok_or_else(|| ExecutionError::function_error("string", "it takes one value"))?;
    Ok(CowVal::owned(CelString::from(Period(length.0).to_string())))
}

/// The type's name for overloads.
pub(crate) fn length_type() -> Type {
    Type::new_unspecified_type("duration")
}
