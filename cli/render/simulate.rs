//! Where the cases of a simulation end: the table for people, grouped, the ones to look at first in front; and JSON.

use std::fmt::Write as _;

use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::run::{StepState, crosses};
use lifeboat_engine::sim::rehearsal::{CaseEnding, EndKind, Group, Rehearsal, Rest, Standing, TRUTHS_MAX, groups};
use lifeboat_runbooks::plan::Plan;
use serde_json::{Value, json};

use super::words;

/// What is shown.
pub(crate) struct Shown<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) inventory: &'a Inventory,
    pub(crate) rehearsal: &'a Rehearsal,
    /// Whether an end is accepted.
    pub(crate) allowed: &'a dyn Fn(EndKind) -> bool,
}

/// Cases named in full under an end that is not accepted.
const BAD_CASES_SHOWN: usize = 8;

/// Cases named beside an end that is accepted.
const GOOD_CASES_SHOWN: usize = 3;

pub(crate) fn text(shown: &Shown<'_>, verbose: bool) -> String {
    let mut text = String::new();
    let (plan, rehearsal) = (shown.plan, shown.rehearsal);
    let _ = writeln!(text, "{} ({}), mode {}: {} steps", words::clean(&plan.title), plan.runbook, plan.mode, plan.all_steps().count());
    let _ = writeln!(text, "{}\n", counts(rehearsal));
    for case in rehearsal.cases.iter().filter(|case| case.failures.is_empty()) {
        let _ = writeln!(text, "{} without failure{}: {}", mark(shown, case.kind), facts(case), end(case, Detail::Short));
    }
    let _ = writeln!(text);
    for group in groups(&rehearsal.cases) {
        row(&mut text, shown, &group);
    }
    for line in too_few_people(shown) {
        let _ = writeln!(text, "\nnote: {line}");
    }
    if verbose {
        let _ = writeln!(text, "\nEvery case:");
        for case in &rehearsal.cases {
            detail(&mut text, shown, case);
        }
    }
    let bad = rehearsal.cases.iter().filter(|case| !(shown.allowed)(case.kind)).count();
    let _ = match bad {
        0 => writeln!(text, "\nOK: every case ends acceptably"),
        1 => writeln!(text, "\nNOT OK: 1 case ends as a run must not, unless --allow says so"),
        _ => writeln!(text, "\nNOT OK: {bad} cases end as a run must not, unless --allow says so"),
    };
    text
}

fn counts(rehearsal: &Rehearsal) -> String {
    let of = |played: usize, possible: usize, what: &str| {
        if played == possible { counted(played, what) } else { format!("{played} of {possible} {what}s (a sample from all over the plan)") }
    };
    let mut text = format!(
        "Simulated: {}, {}. {} more end as one of their single failures does.",
        of(rehearsal.singles_played, rehearsal.singles_possible, "single failure"),
        of(rehearsal.pairs_played, rehearsal.pairs_possible, "pair"),
        counted(rehearsal.pairs_alike, "pair")
    );
    if rehearsal.same_either_way > 0 {
        let _ = write!(
            text,
            "\n{} of them only repeat another with an output the other way round, and are not listed.",
            rehearsal.same_either_way
        );
    }
    if rehearsal.truths_left_out > 0 {
        let _ = write!(text, " Only {TRUTHS_MAX} outputs were tried both ways; {} were not.", rehearsal.truths_left_out);
    }
    text.push_str("\nNothing outside this process was asked or changed.");
    text
}

fn row(text: &mut String, shown: &Shown<'_>, group: &Group) {
    let cases: Vec<&CaseEnding> = group.cases.iter().map(|place| &shown.rehearsal.cases[*place]).collect();
    let singles = cases.iter().filter(|case| case.failures.len() == 1).count();
    let pairs = cases.len() - singles;
    let number = match (singles, pairs) {
        (_, 0) => counted(singles, "single failure"),
        (0, _) => counted(pairs, "pair"),
        (_, _) => format!("{}, {}", counted(singles, "single failure"), counted(pairs, "pair")),
    };
    let stands = match (group.kind, group.stands) {
        (EndKind::Held | EndKind::HeldElsewhere, true) => "; effects stand",
        (EndKind::Held | EndKind::HeldElsewhere, false) => ", nothing left behind",
        (EndKind::Succeeded | EndKind::Undone | EndKind::Failed | EndKind::Cancelled, _) => "",
        (EndKind::EngineBroke | EndKind::TwoPrimaries | EndKind::Stuck | EndKind::LeftBehind, true) => "; effects stand",
        (EndKind::EngineBroke | EndKind::TwoPrimaries | EndKind::Stuck | EndKind::LeftBehind, false) => "",
    };
    let crossed = if group.crossed { ", past the point of no return" } else { "" };
    let _ = writeln!(text, "{} {number}: {}{stands}{crossed}", mark(shown, group.kind), group.kind);
    if (shown.allowed)(group.kind) {
        let some: Vec<String> = cases.iter().take(GOOD_CASES_SHOWN).map(|case| failures(case)).collect();
        let more = cases.len().saturating_sub(GOOD_CASES_SHOWN);
        let _ = writeln!(text, "      {}{}", some.join("; "), if more > 0 { format!("; and {more} more") } else { String::new() });
        return;
    }
    for case in cases.iter().take(BAD_CASES_SHOWN) {
        let _ = writeln!(text, "      {}\n        -> {}", failures(case), end(case, Detail::Short));
    }
    if cases.len() > BAD_CASES_SHOWN {
        let _ = writeln!(text, "      and {} more; --verbose shows all", cases.len() - BAD_CASES_SHOWN);
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn mark(shown: &Shown<'_>, kind: EndKind) -> &'static str {
    if !(shown.allowed)(kind) {
        return "✗";
    }
    match kind {
        EndKind::EngineBroke | EndKind::TwoPrimaries | EndKind::Stuck | EndKind::LeftBehind => "!",
        EndKind::HeldElsewhere | EndKind::Held => "‖",
        EndKind::Undone => "↶",
        EndKind::Failed | EndKind::Cancelled => "○",
        EndKind::Succeeded => "✓",
    }
}

fn facts(case: &CaseEnding) -> String {
    let facts: Vec<String> = case.facts.iter().map(|fact| format!("{}.{} = {}", fact.step, fact.output, fact.value)).collect();
    if facts.is_empty() { String::new() } else { format!(" where {}", facts.join(", ")) }
}

fn failures(case: &CaseEnding) -> String {
    let failures: Vec<String> = case.failures.iter().map(|failure| format!("{} {}", failure.step, failure.way)).collect();
    format!("{}{}", failures.join(" and "), facts(case))
}

/// How much is said of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Short,
    Full,
}

fn end(case: &CaseEnding, detail: Detail) -> String {
    let ending = &case.ending;
    let names = |wanted: &dyn Fn(&lifeboat_engine::sim::rehearsal::StepEnd) -> bool| -> String {
        let names: Vec<&str> = ending.steps.iter().filter(|end| wanted(end)).map(|end| end.step.as_str()).collect();
        names.join(", ")
    };
    let mut parts = vec![match &ending.rest {
        Rest::Held => format!("held at {}", names(&|step| step.held)),
        Rest::Ended(_) => ending.rest.word().to_owned(),
        Rest::Broke(why) => format!("broke: {why}"),
    }];
    let mut add = |what: &str, list: String| {
        if !list.is_empty() {
            parts.push(format!("{what} {list}"));
        }
    };
    add("two primaries possible:", ending.two_primaries.join(", "));
    if detail == Detail::Full {
        add("done", names(&|step| step.state == StepState::Succeeded));
    }
    add("undone", ending.undone.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", "));
    if ending.rest != Rest::Ended(lifeboat_engine::journal::Outcome::Succeeded) || detail == Detail::Full {
        add("stands:", names(&|step| step.standing == Standing::Stands));
    }
    add("may stand, nobody knows:", names(&|step| step.standing == Standing::MayStand));
    if detail == Detail::Full || case.failures.is_empty() {
        let asked: Vec<String> =
            ending.asked.iter().map(|asked| format!("{} ({} of {})", asked.step, asked.count, asked.roles.join(" or "))).collect();
        add("asked:", asked.join(", "));
    }
    add(
        "past the point of no return:",
        ending.no_return.as_ref().map(|id| id.to_string()).filter(|_| detail == Detail::Full).unwrap_or_default(),
    );
    add("LAW BROKEN:", ending.broken.join("; "));
    words::clean(&parts.join("; "))
}

fn detail(text: &mut String, shown: &Shown<'_>, case: &CaseEnding) {
    let what = if case.failures.is_empty() { format!("without failure{}", facts(case)) } else { failures(case) };
    let _ = writeln!(text, "  {} {what}\n      -> {}", mark(shown, case.kind), end(case, Detail::Full));
    if let Some(why) = &case.ending.why {
        let _ = writeln!(text, "         {}", words::clean(why));
    }
}

/// Approvals that the people of the inventory could never give.
fn too_few_people(shown: &Shown<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for case in shown.rehearsal.cases.iter().filter(|case| case.failures.is_empty()) {
        for asked in &case.ending.asked {
            let people: Vec<&str> = shown
                .inventory
                .people
                .iter()
                .filter(|(_, person)| person.roles.iter().any(|role| asked.roles.contains(role)))
                .map(|(name, _)| name.as_str())
                .collect();
            let line = format!(
                "{} asks {} of {}; the inventory has {}{}",
                asked.step,
                asked.count,
                asked.roles.join(" or "),
                if people.is_empty() { "nobody".to_owned() } else { people.join(", ") },
                if people.len() <= asked.count as usize { ", and whoever starts the run does not count" } else { "" }
            );
            if people.len() <= asked.count as usize && !found.contains(&line) {
                found.push(line);
            }
        }
    }
    found
}

pub(crate) fn json(shown: &Shown<'_>) -> Value {
    let rehearsal = shown.rehearsal;
    let cases: Vec<Value> = rehearsal
        .cases
        .iter()
        .map(|case| {
            let mut value = serde_json::to_value(case).unwrap_or_default();
            value["acceptable"] = json!((shown.allowed)(case.kind));
            value["ending"]["rest"] = json!(case.ending.rest.word());
            value["ending"]["held"] = json!(case.ending.held().collect::<Vec<_>>());
            value["ending"]["standing"] = json!(case.ending.standing().map(|(step, _)| step).collect::<Vec<_>>());
            value
        })
        .collect();
    json!({
        "runbook": shown.plan.runbook, "mode": shown.plan.mode, "inputs": shown.plan.inputs,
        "digests": { "structure": shown.plan.structure, "binding": shown.plan.binding },
        "acceptable": rehearsal.cases.iter().all(|case| (shown.allowed)(case.kind)),
        "point_of_no_return": shown.plan.all_steps().filter(|step| crosses(step)).map(|step| &step.id).collect::<Vec<_>>(),
        "singles": { "possible": rehearsal.singles_possible, "played": rehearsal.singles_played },
        "pairs": { "possible": rehearsal.pairs_possible, "played": rehearsal.pairs_played, "as_singles": rehearsal.pairs_alike },
        "same_either_way": rehearsal.same_either_way,
        "truths_left_out": rehearsal.truths_left_out,
        "groups": groups(&rehearsal.cases),
        "cases": cases,
    })
}
