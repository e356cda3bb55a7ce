//! The journal: whatever bytes stand where entries should, decoding ends; whatever entries follow each other, folding them ends, with
//! the tables' consequences kept: an index that agrees with the states, and a next thing to do.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_engine::journal::{Entry, RunId};
use lifeboat_engine::next::next;
use lifeboat_engine::run::Run;
use lifeboat_runbooks::plan::Plan;
use lifeboat_runbooks::{PlanRequest, Source, parse, plan};
use serde_json::Value;

use super::catalog::{Inventory, Types};
use super::{Ran, Whole, ran, size};
use crate::chance::Chance;
use crate::mutate;

const RUN: &str = "fuzz-run";

const RUNBOOK: &str = "lifeboat: v1\nname: t\nmodes: [failover, drill]\non_failure: undo\ndeadline: 1h\nsteps:\n  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: accept, type: approval, needs: [loss], if: \"!steps.loss.outputs.within_rpo\", with: { roles: [oncall], count: 2, timeout: 10m } }\n  - { id: fence, type: fence-db, needs: [accept], with: { db: orders-db, node: us-east-1 } }\n  - { id: promote, type: promote-db, needs: [fence], point_of_no_return: true, retry: { attempts: 3 }, with: { db: orders-db, node: us-west-2 } }\n  - { id: pause, type: wait, with: { period: 1s }, on_failure: abort }\nfinally:\n  - { id: last, type: wait, with: { period: 1s } }\n";

const STEPS: [&str; 7] = ["loss", "accept", "fence", "promote", "pause", "last", "nobody"];

/// Events in their stored form. `STEP` is the name of a step, `BY` a person, `AT` an instant.
const EVENTS: [&str; 39] = [
    r#"{"run_admitted":{"run":"fuzz-run","plan":"p","structure":"s","binding":"BINDING","runbook":"t","mode":"failover","by":BY,"locks":[{"resource":"orders-db","effect":"change"}],"incident":{}}}"#,
    r#"{"peers_listed":{"moment":"before","listings":[{"resource":"orders-db","step_type":"promote-db","found":{"things":[]}}]}}"#,
    r#"{"peers_listed":{"moment":"after","listings":[]}}"#,
    r#"{"run_claimed":{"why":"gone"}}"#,
    r#"{"step_started":{"step":"STEP","attempt":1,"with":{"db":"orders-db"},"intent":{"k":1},"evidence":[]}}"#,
    r#"{"step_started":{"step":"STEP","attempt":2,"with":{},"intent":null,"evidence":[{"what":"a","found":1}]}}"#,
    r#"{"step_refused":{"step":"STEP","why":"no","evidence":[]}}"#,
    r#"{"step_skipped":{"step":"STEP","why":"x"}}"#,
    r#"{"step_not_run":{"step":"STEP","why":"x"}}"#,
    r#"{"step_succeeded":{"step":"STEP","output":{"inline":{"within_rpo":false}},"measures":[],"seen":"executed"}}"#,
    r#"{"step_succeeded":{"step":"STEP","output":{"kept":{"digest":"d","bytes":3}},"measures":[{"verified":{"at":"AT"}}],"seen":"observed"}}"#,
    r#"{"step_failed":{"step":"STEP","why":"x","evidence":[],"retry_at":null}}"#,
    r#"{"step_failed":{"step":"STEP","why":"x","evidence":[],"retry_at":"AT"}}"#,
    r#"{"step_in_doubt":{"step":"STEP","why":"x"}}"#,
    r#"{"step_in_progress":{"step":"STEP"}}"#,
    r#"{"step_held":{"step":"STEP","why":"x","evidence":[]}}"#,
    r#"{"step_rejected":{"step":"STEP","assertion":"x"}}"#,
    r#"{"step_resolved":{"step":"STEP","resolution":{"done":{"outputs":{}}},"by":BY,"comment":"x"}}"#,
    r#"{"step_resolved":{"step":"STEP","resolution":"retry","by":BY,"comment":"x"}}"#,
    r#"{"step_resolved":{"step":"STEP","resolution":"skip","by":BY,"comment":"x"}}"#,
    r#"{"step_resolved":{"step":"STEP","resolution":"give_up","by":BY,"comment":"x"}}"#,
    r#"{"approval_requested":{"step":"STEP","roles":["oncall"],"count":2,"shown":{},"facts":"f","expires_at":"AT"}}"#,
    r#"{"approval_granted":{"step":"STEP","by":BY,"comment":null,"facts":"f"}}"#,
    r#"{"approval_voided":{"step":"STEP","why":"x"}}"#,
    r#"{"approval_denied":{"step":"STEP","by":BY,"comment":"x"}}"#,
    r#"{"approval_expired":{"step":"STEP"}}"#,
    r#"{"facts_remeasured":{"step":"STEP","output":{"inline":{}},"measures":[]}}"#,
    r#"{"cancel_requested":{"by":BY,"comment":null}}"#,
    r#"{"run_held":{"why":"x"}}"#,
    r#""run_released""#,
    r#"{"unwinding_started":{"turn":"cancelled","back":"undo"}}"#,
    r#"{"unwinding_started":{"turn":{"step_failed":{"step":"STEP"}},"back":"keep"}}"#,
    r#"{"undo_started":{"step":"STEP"}}"#,
    r#"{"undo_succeeded":{"step":"STEP"}}"#,
    r#"{"undo_failed":{"step":"STEP","why":"x"}}"#,
    r#""finalising_started""#,
    r#"{"run_ended":{"outcome":"undone","why":"x"}}"#,
    r#"{"run_ended":{"outcome":"stuck","why":"x"}}"#,
    r#"{"run_released_locks":{"by":BY,"comment":"x"}}"#,
];

const BY: [&str; 3] = [
    r#"{"person":"ada","system_user":"ada","via":"terminal"}"#,
    r#"{"person":null,"system_user":"root","via":"terminal"}"#,
    r#"{"person":"bob","system_user":"bob","via":"control socket"}"#,
];

const AT: [&str; 5] =
    ["2026-03-01T00:00:00Z", "2026-03-01T00:10:00Z", "1970-01-01T00:00:00Z", "9999-12-30T22:00:00Z", "-009999-01-02T01:59:59Z"];

const LEAVES: [&str; 18] = [
    "loss",
    "promote",
    "STEP",
    "",
    "executed",
    "undo",
    "stuck",
    "retry",
    "step",
    "why",
    "format",
    "event",
    "1",
    "2026-03-01T00:00:00Z",
    "é",
    "\u{0}",
    "oncall",
    "fuzz-run",
];

thread_local! {
    static PLAN: OnceCell<Arc<Plan>> = const { OnceCell::new() };
}

fn planned() -> Arc<Plan> {
    PLAN.with(|kept| {
        Arc::clone(kept.get_or_init(|| {
            let (runbook, problems) = parse(&Source { name: "t".into(), text: RUNBOOK.into() });
            let request = PlanRequest { mode: Some("failover".to_owned()), ..PlanRequest::default() };
            let made = runbook.map(|runbook| plan(&runbook, &request, &Types::new(), &Inventory::new()));
            match made {
                Some(Ok(made)) => Arc::new(made),
                other => unreachable!("the plan of the target cannot be made: {problems:?} {other:?}"),
            }
        }))
    })
}

/// More lines than this are not looked at: a journal is read entry by entry, and nothing new is in more of them.
const LINES_MAX: usize = 64;

pub(super) fn run(input: &[u8]) -> Ran {
    let plan = planned();
    let Ok(id) = RunId::new(RUN) else { unreachable!("it is a run id") };
    let mut run = Run::new(id, plan);
    let mut seen: Vec<u8> = Vec::new();
    for line in input.split(|byte| *byte == b'\n').take(LINES_MAX) {
        let entry = match Entry::decode(line) {
            Ok(entry) => entry,
            Err(error) => {
                seen.push(if error.to_string().contains("format") { 1 } else { 0 });
                continue;
            }
        };
        let Ok(again) = entry.encode() else { unreachable!("an entry that was read can be written") };
        assert_eq!(Entry::decode(&again).ok().as_ref(), Some(&entry), "an entry comes back as it was written");
        let before = run.entries;
        match run.apply(&entry) {
            Ok(()) => {
                assert_eq!(*run.index(), run.index_anew(), "the index does not agree with the states");
                let _ = next(&run, entry.at, &BTreeSet::new());
                seen.push(3);
            }
            Err(_) => {
                assert_eq!(run.entries, before, "a refused entry was counted");
                seen.push(2);
            }
        }
    }
    let states: Vec<&str> = run.steps.values().map(|step| step.state.word()).collect();
    let doubts: Vec<bool> = run.steps.values().map(|step| step.doubtful).collect();
    let refused = seen.iter().filter(|one| **one == 2).count();
    let unreadable: BTreeSet<u8> = seen.iter().copied().filter(|one| *one < 2).collect();
    // The first entry is always the same; another one was applied after it.
    let whole = Whole(run.entries > 1);
    let crossed = (run.no_return.is_some(), run.cancelled_by.is_some());
    ran((states, doubts, run.phase.word(), crossed, size(refused), unreadable, run.claims.min(2)), whole)
}

fn event(chance: &mut Chance) -> String {
    let binding = planned().binding.clone();
    let template = if chance.one_in(60) { EVENTS[0] } else { EVENTS[1 + chance.below(EVENTS.len() - 1)] };
    let event = template
        .replace("STEP", chance.one::<&str>(&STEPS))
        .replace("BY", chance.one::<&str>(&BY))
        .replace("AT", chance.one::<&str>(&AT))
        .replace("BINDING", &binding);
    let at = *chance.one::<&str>(&AT);
    format!(r#"{{"format":1,"at":"{at}","owner":"o","event":{event}}}"#)
}

fn admission() -> String {
    let event = EVENTS[0].replace("BY", BY[0]).replace("BINDING", &planned().binding);
    format!(r#"{{"format":1,"at":"{}","owner":"o","event":{event}}}"#, AT[0])
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new(), b"{}".to_vec(), br#"{"format":9}"#.to_vec(), admission().into_bytes()];
    let mut chance = Chance::new(1);
    for _ in 0..100 {
        let lines: Vec<String> = std::iter::once(admission()).chain((0..8).map(|_| event(&mut chance))).collect();
        seeds.push(lines.join("\n").into_bytes());
    }
    seeds
}

pub(super) fn mutate(chance: &mut Chance, base: &str, other: &str) -> Vec<u8> {
    let mut lines: Vec<String> = base.lines().map(str::to_owned).collect();
    for _ in 0..=chance.below(3) {
        let place = chance.below(lines.len() + 1);
        match chance.below(10) {
            // What goes on from a state that was reached is worth the most.
            0..=4 => lines.push(event(chance)),
            5 => lines.insert(place, event(chance)),
            6 if place < lines.len() => drop(lines.remove(place)),
            7 if place < lines.len() => {
                if let Ok(mut value) = serde_json::from_str::<Value>(&lines[place]) {
                    mutate::json(chance, &mut value, &LEAVES);
                    lines[place] = value.to_string();
                }
            }
            8 => lines.extend(other.lines().skip(1).take(4).map(str::to_owned)),
            _ if place < lines.len() => lines[place] = mutate::text(chance, &lines[place], other, &LEAVES),
            _ => lines.truncate(place),
        }
    }
    lines.truncate(LINES_MAX);
    let mut bytes = lines.join("\n").into_bytes();
    bytes.truncate(mutate::BYTES_MAX * 2);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_list_can_be_read() {
        for template in EVENTS {
            let event = template.replace("STEP", "loss").replace("BY", BY[0]).replace("AT", AT[0]);
            let entry = format!(r#"{{"format":1,"at":"{}","owner":"o","event":{event}}}"#, AT[0]);
            assert!(Entry::decode(entry.as_bytes()).is_ok(), "{entry}: {:?}", Entry::decode(entry.as_bytes()));
        }
    }
}
