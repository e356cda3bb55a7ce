//! The law of approvals, told from the entries alone: enough distinct people with the role, none of them the starter, in time, about
//! the facts that were shown; and nothing that needs the answer begins before it.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_engine::facts;
use lifeboat_engine::history::Loaded;
use lifeboat_engine::journal::Event;
use lifeboat_engine::sim::Stage;
use lifeboat_engine::{Inventory, StepId};

/// The question that is open, or was answered.
#[derive(Debug, Default)]
struct Asked {
    roles: Vec<String>,
    count: u32,
    facts: String,
    expires_at: Option<jiff::Timestamp>,
    yes: BTreeSet<String>,
    closed: bool,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the law is about approvals; an event of another kind says nothing of them")]
pub(crate) fn check(stage: &Stage, loaded: &Loaded) {
    let broken = |words: String| stage.world.breaks("approval", words);
    let plan = &loaded.run.plan;
    let mut asked: BTreeMap<StepId, Asked> = BTreeMap::new();
    let mut starter = None;
    for entry in &loaded.entries {
        match &entry.event {
            Event::RunAdmitted { by, .. } => starter = Some(by.clone()),
            Event::ApprovalRequested { step, roles, count, facts, expires_at, .. } => {
                let question =
                    Asked { roles: roles.clone(), count: *count, facts: facts.clone(), expires_at: Some(*expires_at), ..Asked::default() };
                asked.insert(step.clone(), question);
            }
            Event::ApprovalGranted { step, by, facts, .. } => {
                let name = by.person.clone().unwrap_or_default();
                let Some(question) = asked.get_mut(step) else {
                    broken(format!("{name} was not asked about {step}"));
                    continue;
                };
                let own = starter.as_ref().is_some_and(|starter| starter.person == by.person || starter.system_user == by.system_user);
                if own || by.system_user == "root" || !has_role(&stage.inventory, &name, &question.roles) {
                    broken(format!("{name} ({}) may not answer {step}", by.system_user));
                }
                if question.closed || question.expires_at.is_none_or(|end| entry.at >= end) || question.facts != *facts {
                    broken(format!("the yes of {name} to {step} came too late or to other facts"));
                }
                if !question.yes.insert(name.clone()) {
                    broken(format!("{name} said yes to {step} twice"));
                }
            }
            Event::ApprovalVoided { step, .. } => _ = asked.get_mut(step).map(|question| question.yes.clear()),
            Event::ApprovalDenied { step, .. } | Event::ApprovalExpired { step } => {
                _ = asked.get_mut(step).map(|question| {
                    question.yes.clear();
                    question.closed = true;
                });
            }
            Event::StepStarted { step, .. } => {
                let Some(planned) = plan.step(step).filter(|_| plan.steps.iter().any(|main| main.id == *step)) else { continue };
                for above in facts::ancestors(plan, planned) {
                    let asks = plan.step(&above).is_some_and(|above| above.step_type == "approval");
                    let skipped =
                        loaded.entries.iter().any(|entry| matches!(&entry.event, Event::StepSkipped { step, .. } if *step == above));
                    let enough = asked.get(&above).is_some_and(|question| question.yes.len() >= question.count as usize);
                    if asks && !skipped && !enough {
                        broken(format!("{step} began without the answer of {above}"));
                    }
                }
            }
            _ => {}
        }
    }
}

fn has_role(inventory: &Inventory, name: &str, roles: &[String]) -> bool {
    inventory.people.get(name).is_some_and(|person| roles.is_empty() || roles.iter().any(|role| person.roles.contains(role)))
}
