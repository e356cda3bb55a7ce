//! Promises of a rehearsal: no code of a real step is reached, the same case ends the same, and a pair that is left out ends as one of
//! its single failures.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cases::{Choice, Failure, failures, one, rehearse};
use super::stage::Set;
use super::verdict::EndKind;
use super::{Play, Rest, Standing};
use crate::context::{ReadContext, StepContext};
use crate::inventory::{CommonFields, Inventory, ResourceEntry};
use crate::registry::Registry;
use crate::run::StepState;
use crate::step::{Observation, Readiness, Step, StepError};
use lifeboat_runbooks::catalog::{Catalog as _, Touch, Undoable};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::testing::STATES;
use lifeboat_runbooks::{PlanRequest, Source, parse, plan};

/// Calls of real code.
static REACHED: AtomicUsize = AtomicUsize::new(0);

fn reached() -> StepError {
    REACHED.fetch_add(1, Ordering::SeqCst);
    StepError::hopeless("the code of a real step was reached")
}

/// What later steps read.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Said {
    /// Whether all is well.
    well: bool,
}

macro_rules! real {
    ($name:ident, $type_name:literal, $effect:expr, $undo:expr) => {
        /// A real step: each call of its code is noted.
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {
            /// The resource.
            on: String,
        }

        impl Step for $name {
            const TYPE: &'static str = $type_name;
            const VERSION: u16 = 1;
            const EFFECT: Effect = $effect;
            const UNDO: Undoable = $undo;
            type Intent = ();
            type Output = Said;

            fn touches(&self) -> Vec<Touch> {
                vec![Touch { resource: self.on.clone(), effect: $effect }]
            }
            fn preview(&self) -> String {
                "act".into()
            }
            async fn prepare(&self, _: &ReadContext) -> Result<Readiness<()>, StepError> {
                Err(reached())
            }
            async fn execute(&self, (): &(), _: &StepContext) -> Result<Said, StepError> {
                Err(reached())
            }
            async fn observe(&self, (): &(), _: &ReadContext) -> Result<Observation<Said>, StepError> {
                Err(reached())
            }
            async fn undo(&self, (): &(), _: Said, _: &StepContext) -> Result<(), StepError> {
                Err(reached())
            }
        }
    };
}

real!(Change, "change", Effect::Change, Undoable::Yes);
real!(Lasting, "lasting", Effect::Change, Undoable::No);
real!(Look, "look", Effect::Read, Undoable::No);

fn set(text: &str) -> Set {
    let registry = Registry::new().with::<Change>().with::<Lasting>().with::<Look>();
    let mut inventory = Inventory::default();
    for name in ["a", "b", "c", "d", "e"] {
        let entry = ResourceEntry { kind: "thing", common: CommonFields::default(), own: serde_json::json!({}), nodes: Vec::new() };
        inventory.resources.insert(name.into(), entry);
    }
    let ada = crate::inventory::Person { roles: vec!["oncall".into()], system_user: Some("ada".into()), telegram_id: None };
    inventory.people.insert("ada".into(), ada);
    let source = Source { name: "t".into(), text: text.into() };
    let (runbook, problems) = parse(&source);
    let plan = plan(&runbook.unwrap_or_else(|| panic!("{problems:?}")), &PlanRequest::default(), &registry, &inventory);
    let plan = plan.unwrap_or_else(|problems| panic!("{problems:?}"));
    Set::new(plan, registry.step_types().into_iter().cloned().collect(), &inventory)
}

/// Branches side by side, an approval, a condition, rules of their own, a final step.
const WIDE: &str = "\
lifeboat: v1
name: t
on_failure: undo
steps:
  - { id: look, type: look, with: { on: a } }
  - { id: one, type: change, needs: [look], with: { on: a } }
  - { id: two, type: change, with: { on: b } }
  - { id: ask, type: approval, needs: [two], with: { roles: [oncall], count: 2, timeout: 5m } }
  - { id: three, type: lasting, needs: [ask], with: { on: c }, retry: { attempts: 2 } }
  - { id: four, type: change, needs: [one, three], if: \"!steps.look.outputs.well\", with: { on: d } }
  - { id: five, type: change, needs: [one], with: { on: e }, on_failure: abort }
finally:
  - { id: last, type: look, if: steps.five.state != \"succeeded\", with: { on: a } }
";

#[test]
fn no_code_of_a_real_step_is_reached() {
    let rehearsal = rehearse(&set(WIDE), &Choice::default());
    assert!(rehearsal.cases.len() > 50, "{}", rehearsal.cases.len());
    assert!(rehearsal.cases.iter().any(|case| !case.ending.undone.is_empty()), "an undo was played");
    assert_eq!(REACHED.load(Ordering::SeqCst), 0);
    let broke: Vec<_> = rehearsal.cases.iter().filter(|case| case.kind == EndKind::EngineBroke).collect();
    assert!(broke.is_empty(), "{broke:#?}");
}

#[test]
fn the_same_case_ends_the_same() {
    let set = set(WIDE);
    let ends = || serde_json::to_string(&rehearse(&set, &Choice { pairs_max: 40, ..Choice::default() })).unwrap();
    assert_eq!(ends(), ends());
}

/// What of an ending tells cases apart.
fn sum(ending: &super::Ending) -> String {
    let steps: Vec<_> = ending.steps.iter().map(|end| (end.step.as_str(), end.state.word(), end.attempts, end.standing)).collect();
    format!("{} {:?} {:?} {steps:?}", ending.rest.word(), ending.undone, ending.no_return)
}

#[test]
fn a_pair_that_is_left_out_ends_as_one_of_its_single_failures() {
    let set = set(WIDE);
    let choice = Choice { pairs_max: usize::MAX, ..Choice::default() };
    let played: BTreeSet<Vec<Failure>> = rehearse(&set, &choice)
        .cases
        .iter()
        .filter(|case| case.facts.is_empty())
        .map(|case| case.failures.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect())
        .collect();
    let all = failures(&set);
    let (mut left_out, mut wrong) = (0, Vec::new());
    for (place, first) in all.iter().enumerate() {
        for second in all.iter().skip(place + 1).filter(|second| second.step != first.step) {
            let pair: Vec<Failure> = BTreeSet::from([first.clone(), second.clone()]).into_iter().collect();
            if played.contains(&pair) {
                continue;
            }
            left_out += 1;
            let both = sum(&one(&set, &choice, &[], &pair).ending);
            let alone = [first, second].map(|failure| sum(&one(&set, &choice, &[], std::slice::from_ref(failure)).ending));
            if !alone.contains(&both) {
                wrong.push(format!("{pair:?}: {both}\n  alone {alone:#?}"));
            }
        }
    }
    assert!(left_out > 50, "only {left_out} pairs were left out");
    assert!(wrong.is_empty(), "{} of {left_out} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_effect_without_an_undo_is_left_behind_and_a_skipped_step_leaves_nothing() {
    let set = set(WIDE);
    let failed = Failure { step: StepId::new("three").unwrap(), way: super::Way::NotDone };
    let undone = one(&set, &Choice::default(), &[], &[failed]);
    assert_eq!(undone.ending.rest.word(), "undone", "{:#?}", undone.ending);
    assert!(undone.ending.steps.iter().all(|end| end.standing == Standing::No || end.step.as_str() == "five"), "{:#?}", undone.ending);
    let good = set.play(&Play::good());
    assert_eq!(good.rest, Rest::Ended(crate::journal::Outcome::Succeeded));
    assert_eq!(good.step("four").map(|end| (end.state, end.standing)), Some((StepState::Skipped, Standing::No)));
    assert_eq!(good.step("three").map(|end| end.standing), Some(Standing::Stands));
}

#[test]
fn the_words_of_test_files_are_those_of_the_states() {
    use StepState as S;
    let all = [
        S::Waiting,
        S::AwaitingApproval,
        S::Running,
        S::Backoff,
        S::InDoubt,
        S::Held,
        S::Succeeded,
        S::Rejected,
        S::Failed,
        S::Skipped,
        S::NotRun,
        S::Undoing,
        S::Undone,
        S::UndoFailed,
        S::UndoInDoubt,
    ];
    assert_eq!(all.map(StepState::word), STATES);
}

/// A step whose type has no undo, taken back by what is written.
const WRITTEN: &str = "\
lifeboat: v1
name: t
on_failure: undo
steps:
  - { id: hold, type: lasting, with: { on: a }, undo: { type: change, with: { on: b } } }
  - { id: next, type: look, needs: [hold], with: { on: a } }
";

#[test]
fn a_written_undo_is_played_and_its_failure_is_tried() {
    let set = set(WRITTEN);
    let failure = |step: &str, way| Failure { step: StepId::new(step).unwrap(), way };
    let one = |failures: &[Failure]| one(&set, &Choice::default(), &[], failures).ending;
    let undone = one(&[failure("next", super::Way::NotDone)]);
    assert_eq!((undone.rest.word(), undone.undone.len(), undone.standing().count()), ("undone", 1, 0), "{undone:#?}");
    let all = failures(&set);
    assert!(all.contains(&failure("hold", super::Way::UndoFails)), "{all:?}");
    let stuck = one(&[failure("hold", super::Way::UndoFails), failure("next", super::Way::NotDone)]);
    assert_eq!((stuck.rest.word(), stuck.standing().count()), ("stuck", 1), "{stuck:#?}");
    assert_eq!(REACHED.load(Ordering::SeqCst), 0, "no code of a real step is reached");
}
