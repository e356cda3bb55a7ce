//! What a run would do, for people.

use std::fmt::Write as _;
use std::time::Duration;

use lifeboat_engine::predict::Predicted;
use lifeboat_engine::preflight::{Answer, StepReadiness};
use lifeboat_engine::readiness::{Proven, Readiness};
use lifeboat_engine::run::{crosses, effect_of};
use lifeboat_runbooks::Period;
use lifeboat_runbooks::catalog::{Catalog, Touch};
use lifeboat_runbooks::names::Effect;
use lifeboat_runbooks::plan::{Plan, PlanStep};

use super::{predicted, words};

/// What is known around a plan, beside the plan itself.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) catalog: &'a dyn Catalog,
    pub(crate) readiness: &'a [StepReadiness],
    pub(crate) proven: Option<&'a Readiness>,
    pub(crate) predicted: Option<&'a Predicted>,
}

/// The whole plan with the readiness of each step.
pub(crate) fn text(plan: &Plan, known: Known<'_>) -> String {
    let Known { readiness, proven, predicted, .. } = known;
    let mut text = String::new();
    let objective = |ms: Option<u64>| ms.map_or("not set".to_owned(), |ms| Period(Duration::from_millis(ms)).to_string());
    let _ = writeln!(text, "{} ({}), mode {}", plan.title, plan.runbook, plan.mode);
    let _ = writeln!(
        text,
        "RTO {} · RPO {} · owner {}",
        objective(plan.objectives.rto_ms),
        objective(plan.objectives.rpo_ms),
        plan.owner.as_deref().unwrap_or("nobody")
    );
    for (name, value) in &plan.inputs {
        let _ = writeln!(text, "  {name} = {}", words::value(value));
    }
    let _ = writeln!(text, "\nNothing is changed by this preview.\n");
    for (place, step) in plan.steps.iter().enumerate() {
        describe(&mut text, place + 1, step, known);
        proof(&mut text, proven, step);
        if crosses(step) {
            let _ = writeln!(text, "  ──────── point of no return: after this step has begun, undo and abort become hold ────────");
        }
    }
    if !plan.finally.is_empty() {
        let _ = writeln!(text, "finally, however it ends:");
        for (place, step) in plan.finally.iter().enumerate() {
            describe(&mut text, place + 1, step, known);
            proof(&mut text, proven, step);
        }
    }
    let _ = writeln!(text, "\n{}", summary(readiness));
    match predicted {
        Some(predicted) => {
            let _ = writeln!(text, "{}", predicted::before(predicted, plan.objectives.rto_ms.map(Duration::from_millis)));
        }
        None => {
            let _ = writeln!(text, "no prediction: none of its steps was ever timed");
        }
    }
    if let Some(proven) = proven {
        let _ = writeln!(text, "{}", drift(proven));
    }
    let _ = writeln!(text, "structure {}  binding {}", short(&plan.structure), short(&plan.binding));
    text
}

/// Only the steps that must not start, for `run`.
pub(crate) fn refusals(readiness: &[StepReadiness]) -> String {
    let mut text = String::new();
    for step in readiness {
        if let Answer::Refused(why) = &step.answer {
            let _ = writeln!(text, "✗ {} must not start: {}", step.step, words::clean(why));
            text.push_str(&words::evidence(&step.evidence, "    "));
        }
        if let Some(why) = &step.undo_forbidden {
            let _ = writeln!(text, "✗ {} could not be taken back: {}", step.step, words::clean(why));
        }
    }
    text
}

fn describe(text: &mut String, place: usize, step: &PlanStep, known: Known<'_>) {
    let readiness = known.readiness.iter().find(|answer| answer.step == step.id);
    let effect = match effect_of(step) {
        Effect::Read if step.touches.is_empty() && may_act(known.catalog, &step.step_type) => "MAY CHANGE ANYTHING (it names no resource)",
        Effect::Read => "looks only",
        Effect::Protect => "protects",
        Effect::Change => "CHANGES",
        Effect::Destroy => "DESTROYS",
    };
    let _ = writeln!(text, "{place:>2}. {} ({}) {effect}{}", step.id, step.step_type, touched(&step.touches));
    let _ = writeln!(text, "    {}", words::clean(&step.preview));
    if !step.needs.is_empty() {
        let _ = writeln!(text, "    after {}", step.needs.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", "));
    }
    if let Some(condition) = &step.condition {
        let _ = writeln!(text, "    only if {}", words::clean(condition));
    }
    match readiness.map(|readiness| (&readiness.answer, &readiness.evidence)) {
        Some((Answer::Ready, evidence)) => {
            let _ = writeln!(text, "    ✓ may start");
            text.push_str(&words::evidence(evidence, "        "));
        }
        Some((Answer::Later(needs), evidence)) => {
            let _ = writeln!(text, "    … judged when its turn comes: it waits for {}", words::clean(needs));
            text.push_str(&words::evidence(evidence, "        "));
        }
        Some((Answer::Refused(why), evidence)) => {
            let _ = writeln!(text, "    ✗ must not start: {}", words::clean(why));
            text.push_str(&words::evidence(evidence, "        "));
        }
        None => {}
    }
    if let Some(undo) = step.written_undo() {
        let _ = writeln!(text, "    taken back by {}: {}{}", undo.step_type, words::clean(&undo.preview), changed(&undo.touches));
    }
    if let Some(why) = readiness.and_then(|readiness| readiness.undo_forbidden.as_ref()) {
        let _ = writeln!(text, "    ✗ could not be taken back: {}", words::clean(why));
    }
}

/// Whether steps of a type can do more than look.
fn may_act(catalog: &dyn Catalog, step_type: &str) -> bool {
    catalog.step_type(step_type).is_some_and(|known| known.effect > Effect::Read)
}

/// The resources that are more than looked at, after a space.
fn touched(touches: &[Touch]) -> String {
    let mut touched: Vec<&str> = touches.iter().filter(|touch| touch.effect > Effect::Read).map(|touch| touch.resource.as_str()).collect();
    touched.dedup();
    if touched.is_empty() { String::new() } else { format!(" {}", touched.join(", ")) }
}

/// The same of what an undo changes.
fn changed(touches: &[Touch]) -> String {
    let touched = touched(touches);
    if touched.is_empty() { touched } else { format!(" (CHANGES{touched})") }
}

fn proof(text: &mut String, proven: Option<&Readiness>, step: &PlanStep) {
    let Some(found) = proven.and_then(|proven| proven.steps.iter().find(|found| found.step == step.id)) else { return };
    let _ = match (&found.by, found.state) {
        (Some(by), state) => {
            let stale = if state == Proven::Stale { ": STALE" } else { "" };
            let on = if by.on.is_empty() { String::new() } else { format!(" on {}", by.on.join(", ")) };
            writeln!(text, "    proven {} by {} {}{on}{stale}", by.at.strftime("%Y-%m-%d %H:%M UTC"), words::clean(&by.mode), by.run)
        }
        (None, _) => writeln!(text, "    proven never, as it is written"),
    };
}

/// What changed since the last drill, and how many steps are proven.
fn drift(proven: &Readiness) -> String {
    let fresh = proven.steps.iter().filter(|step| step.state == Proven::Fresh).count();
    let stale = proven.steps.iter().filter(|step| step.state == Proven::Stale).count();
    let stale = if stale > 0 { format!(", {stale} stale") } else { String::new() };
    let steps = format!("{fresh} of {} steps are proven as they are written{stale}", proven.steps.len());
    let Some(drift) = &proven.drift else { return format!("{steps}; no drill has succeeded yet: `lifeboat drill`") };
    let named = |what: &str, steps: &[lifeboat_engine::StepId]| {
        let names: Vec<&str> = steps.iter().take(8).map(lifeboat_engine::StepId::as_str).collect();
        let more = steps.len().saturating_sub(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!steps.is_empty()).then(|| format!("{what} {}{more}", names.join(", ")))
    };
    let changes: Vec<String> =
        [named("changed", &drift.steps_changed), named("new", &drift.steps_added), named("gone", &drift.steps_removed)]
            .into_iter()
            .flatten()
            .collect();
    let since = drift.at.strftime("%Y-%m-%d %H:%M UTC");
    match (drift.changed, changes.is_empty()) {
        (false, _) => format!("{steps}; nothing changed since the drill of {since}"),
        (true, true) => format!("{steps}; since the drill of {since} only the order or the rules of the whole changed"),
        (true, false) => format!("{steps}; since the drill of {since}: {}", changes.join("; ")),
    }
}

fn summary(readiness: &[StepReadiness]) -> String {
    let count = |wanted: fn(&Answer) -> bool| readiness.iter().filter(|step| wanted(&step.answer)).count();
    let refused = readiness.iter().filter(|step| step.refuses()).count();
    let later = count(|answer| matches!(answer, Answer::Later(_)));
    let ready = count(|answer| matches!(answer, Answer::Ready));
    if refused > 0 {
        format!("NOT READY: {refused} of {} steps must not start or could not be taken back; a run would be refused now", readiness.len())
    } else {
        format!("READY: {ready} steps may start, {later} are judged when their turn comes")
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
