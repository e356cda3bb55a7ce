//! What there is on a resource, as its peers answer: listed before a drill and after it, and compared. Pure; asking is the executor's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::mutants::{self, Mutant};
use lifeboat_runbooks::names::Effect;
use lifeboat_runbooks::plan::Plan;

/// Most things kept of one listing: beyond them the listing counts as failed, because what is not kept cannot be compared.
pub const THINGS_MAX: usize = 500;

/// Longest name or state of a thing, in bytes.
pub const THING_BYTES_MAX: usize = 500;

/// One thing that exists on a resource, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    /// Unique on its resource: `slot orders_sub on us-west-2`.
    pub name: String,
    /// What must be the same again afterwards, in words: `logical, of the database orders`. Nothing that changes by itself.
    pub state: String,
}

impl Thing {
    /// A thing that stands so.
    pub fn new(name: impl Into<String>, state: impl Into<String>) -> Self {
        Self { name: name.into(), state: state.into() }
    }
}

/// The answer of a type of step that was asked what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Census {
    /// Everything that steps of this type could make, change or remove there.
    Listed(Vec<Thing>),
    /// This type of step cannot tell: only its undo says what was put back.
    Unlisted,
}

/// When a drill lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before any of its steps begins.
    Before,
    /// When everything is put back.
    After,
}

impl Moment {
    /// As people read it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Before => "before the drill",
            Self::After => "after the drill",
        }
    }
}

/// What one type of step found on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// The resource.
    pub resource: String,
    /// The type of step that was asked.
    pub step_type: String,
    /// The answer.
    pub found: Found,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// These things, in order of name.
    Things(Vec<Thing>),
    /// This type of step cannot tell.
    Unlisted,
    /// The peers did not answer, or with too much.
    Failed {
        /// Why.
        why: String,
    },
}

impl Found {
    /// A census as it is journaled: in order, and within the limits.
    #[must_use]
    pub fn of(census: Census) -> Self {
        let Census::Listed(mut things) = census else { return Self::Unlisted };
        if things.len() > THINGS_MAX {
            return Self::Failed { why: format!("there are {} things; {THINGS_MAX} can be compared", things.len()) };
        }
        if let Some(long) = things.iter().find(|thing| thing.name.len().max(thing.state.len()) > THING_BYTES_MAX) {
            let name: String = long.name.chars().take(60).collect();
            return Self::Failed { why: format!("{name:?} has more than {THING_BYTES_MAX} bytes of name or state") };
        }
        things.sort();
        match things.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Self::Failed { why: format!("two things are named {:?}", pair[0].name) },
            None => Self::Things(things),
        }
    }
}

/// One question of a census: this type of step, of this resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The resource.
    pub resource: String,
    /// The type of step.
    pub step_type: String,
}

/// What a drill has to list: each resource that a step or its written undo may change, by each type that may change it.
#[must_use]
pub fn subjects(plan: &Plan) -> BTreeSet<Subject> {
    let steps = plan.steps.iter().chain(&plan.finally);
    steps
        .flat_map(|step| {
            let changes = step.grips().filter(|(_, touch)| touch.effect > Effect::Read);
            changes.map(|(step_type, touch)| Subject { resource: touch.resource.clone(), step_type: step_type.to_owned() })
        })
        .collect()
}

/// A thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The resource.
    pub resource: String,
    /// The thing.
    pub thing: String,
    /// How it stood; `None`: it was not there.
    pub before: Option<String>,
    /// How it stands; `None`: it is gone.
    pub after: Option<String>,
}

/// A resource of which nobody can say whether it is as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Untold {
    /// The resource.
    pub resource: String,
    /// The type of step that was asked.
    pub step_type: String,
    /// Why not.
    pub why: String,
}

/// Two listings beside each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// How many things are as they were.
    pub same: u64,
    /// What is not.
    pub differences: Vec<Difference>,
    /// What could not be compared although it should: a peer did not answer, or a listing is missing.
    pub failed: Vec<Untold>,
    /// What nobody lists, because the type of step cannot.
    pub unlisted: Vec<Untold>,
}

impl Comparison {
    /// Whether every thing that can be listed is proven to be as it was.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.failed.is_empty()
    }
}

/// Compares what was there before with what is there now. Things that two types of step list in the same way count once.
#[must_use]
pub fn compare(before: &[Listing], after: &[Listing]) -> Comparison {
    let mut result = Comparison::default();
    let mut same: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut differences: BTreeSet<Difference> = BTreeSet::new();
    let keys: BTreeSet<(&str, &str)> = before.iter().chain(after).map(|l| (l.resource.as_str(), l.step_type.as_str())).collect();
    for (resource, step_type) in keys {
        let find = |listings: &'_ [Listing]| -> Option<Found> {
            listings.iter().find(|l| l.resource == resource && l.step_type == step_type).map(|l| l.found.clone())
        };
        let untold = |why: String| Untold { resource: resource.to_owned(), step_type: step_type.to_owned(), why };
        match (find(before), find(after)) {
            (Some(Found::Unlisted), Some(Found::Unlisted)) => {
                result.unlisted.push(untold("no step of this type can list what it leaves".into()));
            }
            (Some(Found::Things(_)), Some(Found::Things(_))) => {}
            (Some(Found::Failed { why }), _) => result.failed.push(untold(format!("{}: {why}", Moment::Before.words()))),
            (_, Some(Found::Failed { why })) => result.failed.push(untold(format!("{}: {why}", Moment::After.words()))),
            (before, after) => {
                let missing = if before.is_none() { Moment::Before } else { Moment::After };
                let why = if before.is_some() && after.is_some() {
                    "it was listed only once, before or after".to_owned()
                } else {
                    format!("it was not listed {}", missing.words())
                };
                result.failed.push(untold(why));
            }
        }
    }
    for listing in before {
        let Found::Things(was) = &listing.found else { continue };
        let twin = after.iter().find(|l| l.resource == listing.resource && l.step_type == listing.step_type);
        let Some(Listing { found: Found::Things(is), .. }) = twin else { continue };
        let was: BTreeMap<&str, &str> = was.iter().map(|thing| (thing.name.as_str(), thing.state.as_str())).collect();
        let is: BTreeMap<&str, &str> = is.iter().map(|thing| (thing.name.as_str(), thing.state.as_str())).collect();
        for name in was.keys().chain(is.keys()).copied().collect::<BTreeSet<_>>() {
            let (before, after) = (was.get(name).copied(), is.get(name).copied());
            if before == after || mutants::is(Mutant::LeftUnseen) {
                same.insert((&listing.resource, name));
            } else {
                differences.insert(Difference {
                    resource: listing.resource.clone(),
                    thing: name.to_owned(),
                    before: before.map(str::to_owned),
                    after: after.map(str::to_owned),
                });
            }
        }
    }
    result.same = same.len() as u64;
    result.differences = differences.into_iter().collect();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(resource: &str, things: &[(&str, &str)]) -> Listing {
        let things = things.iter().map(|(name, state)| Thing::new(*name, *state)).collect();
        Listing { resource: resource.into(), step_type: "change".into(), found: Found::of(Census::Listed(things)) }
    }

    fn failed(resource: &str) -> Listing {
        Listing { resource: resource.into(), step_type: "change".into(), found: Found::Failed { why: "no answer".into() } }
    }

    #[test]
    fn what_came_went_or_changed_is_a_difference_and_nothing_else() {
        let before = [listing("db", &[("kept", "1"), ("gone", "1"), ("changed", "1")])];
        let after = [listing("db", &[("kept", "1"), ("new", "1"), ("changed", "2")])];
        let found = compare(&before, &after);
        assert_eq!(found.same, 1);
        let told: Vec<(&str, Option<&str>, Option<&str>)> =
            found.differences.iter().map(|d| (d.thing.as_str(), d.before.as_deref(), d.after.as_deref())).collect();
        assert_eq!(told, [("changed", Some("1"), Some("2")), ("gone", Some("1"), None), ("new", None, Some("1"))]);
        assert!(!found.is_clean());
        assert!(compare(&before, &before).is_clean());
    }

    #[test]
    fn what_could_not_be_listed_is_never_taken_for_clean() {
        let there = [listing("db", &[("kept", "1")])];
        for (before, after) in [(&there[..], &[][..]), (&[][..], &there[..]), (&there, &[failed("db")]), (&[failed("db")], &there)] {
            let found = compare(before, after);
            assert!(!found.is_clean() && found.failed.len() == 1, "{found:?}");
        }
    }

    #[test]
    fn a_listing_over_a_limit_counts_as_failed() {
        let many = (0..=THINGS_MAX).map(|n| Thing::new(format!("{n}"), "")).collect();
        assert!(matches!(Found::of(Census::Listed(many)), Found::Failed { .. }));
        let long = vec![Thing::new("a", "x".repeat(THING_BYTES_MAX + 1))];
        assert!(matches!(Found::of(Census::Listed(long)), Found::Failed { .. }));
        let twice = vec![Thing::new("a", "1"), Thing::new("a", "2")];
        assert!(matches!(Found::of(Census::Listed(twice)), Found::Failed { .. }));
    }
}
