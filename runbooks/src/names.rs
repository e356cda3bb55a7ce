//! Checked names: step ids, and the kinds of effect. Parsing of files is elsewhere.

use std::fmt;
use std::sync::Arc;

/// The name of a step in a plan: the name that the runbook gives it, `[a-z][a-z0-9_]{0,62}` (snake case, because `-` is minus in
/// expressions), with the child runs and items around it: `copy`, `copy[3]`, `move_orders/promote`, `regions[0]/promote`, and `copy[]`
/// for the list of a `for_each`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(Arc<str>);

/// Longest name of a step in a runbook, in bytes.
pub const STEP_ID_BYTES_MAX: usize = 63;

/// Deepest nesting of child runs: deeper ones are read by nobody, and most are a slip.
pub const CHILD_DEPTH_MAX: usize = 8;

/// Longest step id in a plan, in bytes: a name, a number and two brackets for each level.
pub const PLAN_ID_BYTES_MAX: usize = (STEP_ID_BYTES_MAX + 12) * (CHILD_DEPTH_MAX + 1);

/// Whether a text can name a step in a runbook.
pub(crate) fn is_step_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= STEP_ID_BYTES_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// One part of a step's name in a plan: a name, with the number of an item or the empty brackets of a list.
fn is_part(text: &str) -> bool {
    let Some((name, rest)) = text.split_once('[') else { return is_step_name(text) };
    let number = |digits: &str| {
        digits.len() <= 9 && digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits.len() < 2 || !digits.starts_with('0'))
    };
    is_step_name(name) && rest.strip_suffix(']').is_some_and(number)
}

impl StepId {
    /// Checks the name.
    ///
    /// # Errors
    /// The text that is no step id.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() <= PLAN_ID_BYTES_MAX && text.split('/').count() <= CHILD_DEPTH_MAX + 1 && text.split('/').all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(format!("{text:?} is no step id: use a lower-case letter, then letters, digits and _ (63 at most)"))
        }
    }

    /// The name that the runbook gives it: `promote` of `regions[0]/promote`, `copy` of `copy[3]`.
    #[must_use]
    pub fn written(&self) -> &str {
        let last = self.0.rsplit('/').next().unwrap_or(&self.0);
        last.split('[').next().unwrap_or(last)
    }

    /// The names of the child runs and items around it, each with its `/`; empty at the outermost level.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.rfind('/').map_or("", |at| &self.0[..=at])
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StepId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<StepId> for String {
    fn from(id: StepId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step does to a resource, from harmless to grave. The order is used for locks and for the drill guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Looks only; takes no lock.
    Read,
    /// Backs up or rehearses; its lock gives way to a live run.
    Protect,
    /// Changes it; exclusive.
    Change,
    /// Destroys data or a service; exclusive.
    Destroy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_plan_hold_names_numbers_and_nothing_else() {
        for good in ["a", "move_orders/promote", "copy[0]", "copy[12]/a_b[3]/c", "copy[]", "x/copy[]"] {
            assert_eq!(StepId::new(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in
            ["", "A", "a-b", "/a", "a/", "a//b", "a[", "a[1", "a[1]b", "a[-1]", "a[01]", "a[1][2]", "[1]", "a[1234567890]", "1/a", "a b"]
        {
            assert!(StepId::new(bad).is_err(), "{bad:?}");
        }
        assert!(StepId::new("a/".repeat(CHILD_DEPTH_MAX + 1).trim_end_matches('/')).is_ok());
        assert!(StepId::new(&["a"; CHILD_DEPTH_MAX + 2].join("/")).is_err());
        let id = StepId::new("regions[0]/copy[3]").unwrap();
        assert_eq!((id.written(), id.prefix()), ("copy", "regions[0]/"));
        assert_eq!((StepId::new("copy[]").unwrap().written(), StepId::new("a").unwrap().prefix()), ("copy", ""));
    }
}
