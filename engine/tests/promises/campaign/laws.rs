//! What must be so after every play, whatever happened: read from the durable journal and the world's truth, by rules of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use lifeboat_engine::Effect;
use lifeboat_engine::facts;
use lifeboat_engine::history::{self, Loaded};
use lifeboat_engine::journal::{Entry, Event, Outcome, Resolution, RunId, Seen};
use lifeboat_engine::measure::Measure;
use lifeboat_engine::run::{DRILL, Run, RunPhase, StepState as S, effect_of};
use lifeboat_engine::sim::Stage;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, UndoRule};

/// Checks one run.
pub(crate) async fn check(stage: &Stage, loaded: &Loaded) {
    let run = &loaded.run;
    documented_end(stage, run);
    said_and_so(stage, loaded);
    undone_in_order(stage, loaded);
    loss(stage, loaded);
    super::approvals::check(stage, loaded);
    nothing_starts_in_a_pause(stage, loaded);
    let open = history::open_runs(&stage.memory).await.unwrap();
    if open.contains(&run.id) != (run.phase != RunPhase::Ended) {
        stage.world.breaks("open", format!("{} is {:?}, and the list of open runs has {open:?}", run.id, run.phase));
    }
    for lock in &run.locks {
        let holder = history::lock_holder(&stage.memory, &lock.resource).await.unwrap().0;
        if (holder.as_ref() == Some(&run.id)) != run.holds_locks() {
            stage
                .world
                .breaks("lock", format!("{:?} run {} ends with the lock of {} held by {holder:?}", run.outcome, run.id, lock.resource));
        }
    }
}

/// Whether a promotion of this run comes after a question that people answered with yes, or was called taken back by one who did not
/// look: what they were shown, or said, is on record, with their names.
pub(crate) fn a_promotion_was_accepted(loaded: &Loaded) -> bool {
    let (run, told) = (&loaded.run, told_done(&loaded.entries));
    let answered = |id: &StepId| {
        run.plan.step(id).is_some_and(|step| step.step_type == "approval")
            && run.state(id) == S::Succeeded
            && run.steps.get(id).is_some_and(|record| !record.approvals.is_empty())
    };
    run.plan
        .steps
        .iter()
        .filter(|step| step.step_type == "promote-db")
        .any(|step| told.contains(&step.id) || ancestors(&run.plan, &step.id).iter().any(answered))
}

/// What acts when a run is paused goes on; nothing is begun.
fn nothing_starts_in_a_pause(stage: &Stage, loaded: &Loaded) {
    let mut paused = false;
    for entry in &loaded.entries {
        if let Event::RunPaused { .. } = entry.event {
            paused = true;
        } else if let Event::RunContinued { .. } = entry.event {
            paused = false;
        } else if let (Event::StepStarted { step, .. } | Event::UndoStarted { step, .. }, true) = (&entry.event, paused) {
            stage.world.breaks("pause", format!("{step} was begun while the run was paused"));
        }
    }
}

/// While everything is frozen no intent to change anything becomes durable.
pub(crate) async fn nothing_changes_in_a_freeze(stage: &Stage, name: &RunId, from: Duration, until: Duration) {
    let Ok(loaded) = stage.load(name).await else { return };
    for (place, entry) in (0..).zip(&loaded.entries) {
        let (Event::StepStarted { step, .. } | Event::UndoStarted { step, .. }) = &entry.event else { continue };
        let changes = loaded.run.plan.step(step).is_some_and(|step| effect_of(step) > Effect::Read);
        let frozen = stage.world.durable_at(name, place).is_some_and(|at| at > from && at < until);
        if changes && frozen {
            stage.world.breaks("freeze", format!("{step} was begun while everything was frozen"));
        }
    }
}

/// A run ends in a documented outcome, with every step in a state that goes with it.
fn documented_end(stage: &Stage, run: &Run) {
    let broken = |words: String| stage.world.breaks("end", words);
    let Some(outcome) = run.outcome.filter(|_| run.phase == RunPhase::Ended) else {
        return broken(format!("{} is {:?} at the end", run.id, run.phase));
    };
    for (id, step) in run.steps.iter() {
        if step.state.is_open() && outcome != Outcome::Stuck || matches!(step.state, S::Waiting | S::Backoff | S::AwaitingApproval) {
            broken(format!("{id} is {:?} in a run that ended {outcome:?}", step.state));
        }
    }
    // A drill puts back what it did.
    let done =
        |step: &StepId| matches!(run.state(step), S::Succeeded | S::Skipped) || run.plan.mode == DRILL && run.state(step) == S::Undone;
    if outcome == Outcome::Succeeded && !run.plan.steps.iter().all(|step| done(&step.id)) {
        broken(format!("it succeeded without being done: {:?}", states(run)));
    }
    if outcome != Outcome::Stuck && !run.plan.finally.iter().all(|step| done(&step.id)) {
        broken(format!("it ended {outcome:?} without its final steps: {:?}", states(run)));
    }
    if outcome == Outcome::Undone {
        let stands = run.plan.steps.iter().filter(|step| step.undo != UndoRule::Never && effect_of(step) > Effect::Read);
        for step in stands.filter(|step| matches!(run.state(&step.id), S::Succeeded | S::Rejected)) {
            broken(format!("it is undone, and the effect of {} stands", step.id));
        }
    }
}

fn states(run: &Run) -> Vec<(String, S)> {
    run.steps.iter().map(|(id, step)| (id.to_string(), step.state)).collect()
}

/// What the journal says of an effect is what is so, unless the run is stuck, which says that something is not known, or a person said
/// what nobody saw.
fn said_and_so(stage: &Stage, loaded: &Loaded) {
    let run = &loaded.run;
    if run.outcome == Some(Outcome::Stuck) {
        return;
    }
    let told = told_done(&loaded.entries);
    let effects = stage.world.effects();
    for step in run.plan.steps.iter().chain(&run.plan.finally).filter(|step| effect_of(step) > Effect::Read && !told.contains(&step.id)) {
        let said = matches!(run.state(&step.id), S::Succeeded | S::Rejected);
        let so = effects.get(&(run.id.clone(), step.id.clone())).is_some_and(|effect| effect.stands);
        if said != so {
            let journal = in_short(&loaded.entries, |event| event.step() == Some(&step.id));
            let words = format!("{} is {:?}, and its effect stands: {so}\n  {journal}", step.id, run.state(&step.id));
            stage.world.breaks("truth", words);
        }
    }
}

/// Characters of an entry that are enough to follow what happened.
const WORDS_OF_ENTRY: usize = 160;

/// Entries in short, for a person who looks at what broke a law.
pub(crate) fn in_short(entries: &[Entry], wanted: impl Fn(&Event) -> bool) -> String {
    let short = |entry: &Entry| format!("{:?}", entry.event).chars().take(WORDS_OF_ENTRY).collect::<String>();
    entries.iter().filter(|entry| wanted(&entry.event)).map(short).collect::<Vec<_>>().join("\n  ")
}

/// Steps of which a person said that they, or what takes them back, are done. Nobody saw that.
fn told_done(entries: &[Entry]) -> BTreeSet<&StepId> {
    let told = |entry: &'_ Entry| matches!(entry.event, Event::StepResolved { resolution: Resolution::Done { .. }, .. });
    entries.iter().filter(|entry| told(entry)).filter_map(|entry| entry.event.step()).collect()
}

fn ancestors(plan: &Plan, step: &StepId) -> BTreeSet<StepId> {
    plan.step(step).map(|step| facts::ancestors(plan, step)).unwrap_or_default()
}

/// Nothing is taken back before what stands on it.
fn undone_in_order(stage: &Stage, loaded: &Loaded) {
    let (run, told) = (&loaded.run, told_done(&loaded.entries));
    let undone: Vec<StepId> = stage.world.undone().into_iter().filter(|(of, _)| *of == run.id).map(|(_, step)| step).collect();
    let effects = stage.world.effects();
    for (place, below) in undone.iter().enumerate() {
        for above in run.plan.steps.iter().filter(|above| above.undo != UndoRule::Never && ancestors(&run.plan, &above.id).contains(below))
        {
            let later = undone.iter().skip(place).any(|step| *step == above.id);
            let stands = effects.get(&(run.id.clone(), above.id.clone())).is_some_and(|effect| effect.stands);
            if later || stands && !told.contains(&above.id) {
                stage.world.breaks("undo order", format!("{below} was taken back under {}", above.id));
            }
        }
    }
}

/// Reported loss is never below the true one.
fn loss(stage: &Stage, loaded: &Loaded) {
    for entry in &loaded.entries {
        let Event::StepSucceeded { step, measures, seen: Seen::Executed | Seen::Observed, .. } = &entry.event else { continue };
        let promotes = loaded.run.plan.step(step).is_some_and(|step| step.step_type == "promote-db");
        let found = measures.iter().find_map(|measure| if let Measure::Loss(loss) = measure { loss.seconds_max } else { None });
        let so = stage.world.peers(|peers| peers.databases.get("db").map_or(0, |db| db.lost_ms));
        #[expect(clippy::cast_precision_loss, reason = "a simulation lasts days, not ages")]
        let so = so as f64 / 1000.0;
        if promotes && found.is_none_or(|found| found < so) {
            stage.world.breaks("loss", format!("{step} says that at most {found:?} s are lost; {so} s are"));
        }
    }
}

/// A lock is taken by one run at a time and given back by whoever has it. Says who has it at the end.
pub(crate) async fn check_lock_log(stage: &Stage, resource: &str) -> Option<RunId> {
    let (records, _) = history::records(&stage.memory, &history::lock_log(resource).unwrap()).await.unwrap();
    let mut holder: Option<RunId> = None;
    for record in records {
        match (serde_json::from_slice(&record).unwrap(), &holder) {
            (history::LockRecord::Taken(run), None) => holder = Some(run),
            (history::LockRecord::Released(run), Some(has)) if run == *has => holder = None,
            (other, has) => stage.world.breaks("lock", format!("{other:?} on {resource}, which {has:?} has")),
        }
    }
    holder
}
