//! The cases of a simulation: every step failing in each way that matters, then every pair that can differ from its two single failures,
//! within a stated limit. Playing them is `stage`'s.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::ending::Ending;
use super::part::{Play, Way};
use super::stage::Set;
use super::verdict::EndKind;
use crate::approval::ApprovalStep;
use crate::run::leaves_effect;
use crate::step::Step as _;
use lifeboat_runbooks::catalog::Undoable;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{PlanStep, UndoRule};

/// Pairs played where nothing else is asked: a second or two for a plan of a few hundred steps.
pub const PAIRS_DEFAULT: usize = 1000;

/// Steps that all cases together may have, about: it bounds the time of a simulation to some seconds, whatever the plan's size.
const STEPS_PLAYED_MAX: usize = 200_000;

/// Fewest single failures that are played, however long the plan is.
const SINGLES_MIN: usize = 50;

/// Most steps of a plan that can be simulated: each case is a whole run of it.
pub const STEPS_MAX: usize = 5_000;

/// Truths in outputs that are tried both ways.
pub const TRUTHS_MAX: usize = 8;

/// One step made to fail in one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Failure {
    /// The step.
    pub step: StepId,
    /// How.
    #[serde(serialize_with = "word")]
    pub way: Way,
}

fn word<S: serde::Serializer>(way: &Way, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(way.word())
}

/// An output that a condition reads, as it is in a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// The step that gives it.
    pub step: StepId,
    /// Its name.
    pub output: String,
    /// What it is.
    pub value: Value,
}

/// One case and where it ends.
#[derive(Clone, Debug, Serialize)]
pub struct CaseEnding {
    /// What was made to fail: none, one or two.
    pub failures: Vec<Failure>,
    /// Outputs that differ from the usual ones.
    pub facts: Vec<Fact>,
    /// The kind of its end.
    pub kind: EndKind,
    /// Where it ends.
    pub ending: Ending,
}

impl CaseEnding {
    /// Whether the same failures end alike in both.
    fn ends_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.ending, &other.ending);
        self.failures == other.failures
            && self.kind == other.kind
            && a.rest == b.rest
            && a.undone == b.undone
            && a.no_return == b.no_return
            && a.held().eq(b.held())
            && a.standing().eq(b.standing())
    }
}

/// What a person chooses for a simulation.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Outputs of steps, wherever they succeed.
    pub outputs: Vec<Fact>,
    /// What people answer to every approval; `None`: yes.
    pub approvals: Option<Way>,
    /// Most pairs that are played.
    pub pairs_max: usize,
}

impl Default for Choice {
    fn default() -> Self {
        Self { outputs: Vec::new(), approvals: None, pairs_max: PAIRS_DEFAULT }
    }
}

/// All cases of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal {
    /// Every case that was played: first those without failure, then single ones, then pairs.
    pub cases: Vec<CaseEnding>,
    /// Single failures that there are.
    pub singles_possible: usize,
    /// How many of them were played.
    pub singles_played: usize,
    /// Pairs that can end differently from their single failures, among those played.
    pub pairs_possible: usize,
    /// How many of them were played.
    pub pairs_played: usize,
    /// Pairs that end as one of their single failures does, because the other failure is never reached.
    pub pairs_alike: usize,
    /// Cases where an output is the other way round, and the end is the same all the same: played, and not listed.
    pub same_either_way: usize,
    /// Truths in outputs beyond [`TRUTHS_MAX`], which were not tried both ways.
    pub truths_left_out: usize,
}

/// Plays every case.
#[must_use]
pub fn rehearse(set: &Set, choice: &Choice) -> Rehearsal {
    let (facts, truths_left_out) = truths(set, &choice.outputs);
    let mut rehearsal = Rehearsal {
        cases: Vec::new(),
        singles_possible: 0,
        singles_played: 0,
        pairs_possible: 0,
        pairs_played: 0,
        pairs_alike: 0,
        same_either_way: 0,
        truths_left_out,
    };
    let length = set.plan.all_steps().count().max(1);
    let singles_max = (STEPS_PLAYED_MAX / length).max(SINGLES_MIN);
    let worlds: Vec<Vec<Fact>> = std::iter::once(Vec::new()).chain(facts.into_iter().map(|fact| vec![fact])).collect();
    let failures = failures(set);
    let mut pairs: Vec<(usize, Failure, Failure)> = Vec::new();
    let mut singles = Vec::new();
    for (place, world) in worlds.iter().enumerate() {
        let good = one(set, choice, world, &[]);
        let reached: Vec<&Failure> = failures.iter().filter(|failure| reaches(&good.ending, failure)).collect();
        rehearsal.singles_possible += reached.len();
        let reached = sampled(reached, (singles_max / worlds.len()).max(1));
        rehearsal.singles_played += reached.len();
        // A failure that is only reached after another one is no single case, but may be half of a pair.
        let mut calls: BTreeMap<&Failure, Ending> = BTreeMap::new();
        for failure in &reached {
            let case = one(set, choice, world, &[(*failure).clone()]);
            calls.insert(failure, case.ending.clone());
            let usual = || singles.iter().any(|other: &CaseEnding| other.facts.is_empty() && case.ends_as(other));
            if world.is_empty() || !usual() {
                singles.push(case);
            } else {
                rehearsal.same_either_way += 1;
            }
        }
        for (first, ending) in &calls {
            for second in &failures {
                let twin = first.step == second.step;
                // Each pair once: from its later half only where the earlier one cannot lead to it.
                let earlier = calls.contains_key(second) && (second < *first);
                if twin || earlier {
                    continue;
                }
                let meets = reaches(ending, second) && calls.get(second).is_none_or(|other| reaches(other, first));
                if meets {
                    pairs.push((place, (*first).clone(), second.clone()));
                } else {
                    rehearsal.pairs_alike += 1;
                }
            }
        }
        rehearsal.cases.push(good);
    }
    rehearsal.cases.extend(singles);
    rehearsal.pairs_possible = pairs.len();
    let pairs_max = choice.pairs_max.min((STEPS_PLAYED_MAX / length).saturating_sub(rehearsal.singles_played));
    for (place, first, second) in sampled(pairs, pairs_max) {
        rehearsal.cases.push(one(set, choice, &worlds[place], &[first, second]));
        rehearsal.pairs_played += 1;
    }
    rehearsal
}

/// Every n-th of a list that is too long: the same ones each time, from all over the plan.
fn sampled<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let count = all.len();
    if count <= most {
        return all;
    }
    let chosen: BTreeSet<usize> = (0..most).map(|place| place * count / most.max(1)).collect();
    all.into_iter().enumerate().filter(|(place, _)| chosen.contains(place)).map(|(_, item)| item).collect()
}

pub(super) fn one(set: &Set, choice: &Choice, world: &[Fact], failures: &[Failure]) -> CaseEnding {
    let mut play = Play::good();
    for step in set.plan.all_steps().filter(|step| step.step_type == ApprovalStep::TYPE) {
        if let Some(way) = choice.approvals {
            play.fails(&step.id, way);
        }
    }
    for failure in failures {
        play.fails(&failure.step, failure.way);
    }
    for fact in choice.outputs.iter().chain(world) {
        play.says(&fact.step, &fact.output, fact.value.clone());
    }
    let ending = set.play(&play);
    let failed: BTreeSet<&StepId> = failures.iter().map(|failure| &failure.step).collect();
    CaseEnding { failures: failures.to_vec(), facts: world.to_vec(), kind: EndKind::of(&ending, &failed), ending }
}

/// Whether a case came to the point where this failure would have shown. Where it did not, making it fail changes nothing: what a step
/// is to answer is looked up only when it is called.
fn reaches(ending: &Ending, failure: &Failure) -> bool {
    let called = |what: &'static str| ending.calls.contains(&(what, failure.step.to_string()));
    match failure.way {
        Way::NotDone | Way::Unknown => called("execute"),
        Way::Refused => called("prepare"),
        Way::UndoFails => called("undo"),
        Way::Denied | Way::Expires => ending.asked.iter().any(|asked| asked.step == failure.step),
    }
}

/// Every failure that could matter.
pub(super) fn failures(set: &Set) -> Vec<Failure> {
    let ways = |step: &PlanStep| -> Vec<Way> {
        if step.step_type == ApprovalStep::TYPE {
            return vec![Way::Denied, Way::Expires];
        }
        let mut ways = vec![Way::NotDone, Way::Refused];
        if leaves_effect(step) {
            // What only looks leaves nothing behind that could be unknown.
            ways.push(Way::Unknown);
            let own = set.types.iter().any(|(info, _)| info.name == step.step_type && info.undo == Undoable::Yes);
            let is_taken_back = match &step.undo {
                UndoRule::Default => own,
                UndoRule::Never => false,
                UndoRule::Written(_) => true,
            };
            if is_taken_back {
                ways.push(Way::UndoFails);
            }
        }
        ways
    };
    // What the engine answers by itself is no step that could fail.
    let all = set.plan.all_steps().filter(|step| step.inner.is_none());
    all.flat_map(|step| ways(step).into_iter().map(|way| Failure { step: step.id.clone(), way })).collect()
}

/// Outputs that are true or false and that a condition reads: each is also tried the other way round, so that both branches are seen.
fn truths(set: &Set, chosen: &[Fact]) -> (Vec<Fact>, usize) {
    let mut found = Vec::new();
    let conditions: Vec<&str> = set.plan.all_steps().filter_map(|step| step.condition.as_deref()).collect();
    for step in &set.plan.steps {
        let Some((info, _)) = set.types.iter().find(|(info, _)| info.name == step.step_type) else { continue };
        for (name, field) in info.output_schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let reads = format!("steps.{}.outputs.{name}", step.id);
            let is_truth = field.get("type").and_then(Value::as_str) == Some("boolean");
            let free = chosen.iter().all(|fact| fact.step != step.id || fact.output != *name);
            if is_truth && free && conditions.iter().any(|condition| names(condition, &reads)) {
                found.push(Fact { step: step.id.clone(), output: name.clone(), value: Value::Bool(false) });
            }
        }
    }
    let left_out = found.len().saturating_sub(TRUTHS_MAX);
    found.truncate(TRUTHS_MAX);
    (found, left_out)
}

/// Whether an expression holds this name as a whole.
fn names(expression: &str, name: &str) -> bool {
    expression
        .match_indices(name)
        .any(|(at, _)| !expression[at + name.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_comes_from_all_over_and_is_the_same_each_time() {
        let sample = sampled((0..1000).collect(), 10);
        assert_eq!(sample, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
        assert_eq!(sampled(vec![1, 2], 10), [1, 2]);
        assert_eq!(sampled(vec![1, 2], 0), Vec::<i32>::new());
    }

    #[test]
    fn a_longer_name_is_another_name() {
        assert!(names("!steps.loss.outputs.within && true", "steps.loss.outputs.within"));
        assert!(!names("steps.loss.outputs.within_rpo", "steps.loss.outputs.within"));
    }
}
