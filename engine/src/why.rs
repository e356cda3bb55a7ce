//! Why a run stands where it stands: what each step waits for, who can act, and what each decision would lead to. Pure but for the
//! inventory and the step types that it is given. How it is told to people is the command line's business.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::foresee::{Foreseen, foresee};
use crate::journal::{Actor, Outcome, Resolution, RunId};
use crate::ports::Ports;
use crate::run::{Brake, Run, RunPhase, StepRun, StepState, asks};
use crate::sight::Sight;
use crate::steering::{Command, decide};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::PlanStep;

/// Why a run, or some of its steps, stand where they stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The run.
    pub run: RunId,
    /// How it stands.
    pub phase: RunPhase,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why, in a sentence.
    pub why: Option<String>,
    /// Steps that say something about it.
    pub steps: Vec<StepWhy>,
    /// What may be decided about the whole run.
    pub choices: Vec<Choice>,
}

/// Why one step stands where it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepWhy {
    /// The step.
    pub step: StepId,
    /// Its type.
    #[serde(rename = "type")]
    pub step_type: String,
    /// How it stands.
    pub state: StepState,
    /// Sentences, the most important first.
    pub because: Vec<String>,
    /// When something happens by itself.
    pub until: Option<Timestamp>,
    /// The expression that decided or decides whether it runs.
    pub condition: Option<String>,
    /// What the expression reads, with its values; null where there is none.
    pub values: Vec<(String, Value)>,
    /// The facts that people are shown.
    pub shown: Option<Value>,
    /// Whoever is asked, and whether they can answer.
    pub people: Vec<PersonWhy>,
    /// What may be decided.
    pub choices: Vec<Choice>,
}

/// A person, and whether they can answer now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PersonWhy {
    /// Their name.
    pub name: String,
    /// Their roles.
    pub roles: Vec<String>,
    /// Why they cannot; `None` where they can.
    pub cannot: Option<String>,
}

/// One decision, and what it leads to if everything goes well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The words of the command after `lifeboat`, without the comment.
    pub command: String,
    /// What follows.
    pub then: Foreseen,
}

/// Explains the whole run: every step that waits, goes on, was left out or was not done. Or one step.
#[must_use]
pub fn explain(run: &Run, step: Option<&StepId>, ports: &Ports) -> Why {
    let steps = match step.and_then(|id| run.plan.step(id)) {
        Some(step) => vec![explain_step(run, step, ports)],
        None => run.plan.all_steps().filter(|step| tells(run, step)).map(|step| explain_step(run, step, ports)).collect(),
    };
    let (id, comment) = (&run.id, || "foreseen".to_owned());
    let choices = [
        (format!("cancel {id}"), Command::Cancel { comment: Some(comment()) }),
        (format!("continue {id}"), Command::Continue { comment: comment() }),
    ];
    Why {
        run: run.id.clone(),
        phase: run.phase,
        outcome: run.outcome,
        why: run.why.clone(),
        steps,
        choices: choices.into_iter().filter_map(|(words, command)| choice(run, words, &command, &somebody(), ports)).collect(),
    }
}

/// Whether a step says why the run stands where it stands.
fn tells(run: &Run, step: &PlanStep) -> bool {
    let Some(record) = run.steps.get(&step.id) else { return false };
    if step.inner.is_some() && !matches!(record.state, StepState::Held | StepState::Failed) {
        return false;
    }
    match record.state {
        StepState::Succeeded | StepState::Undone => false,
        // Of those that have not begun only what could begin now tells something; the rest waits for others that are listed.
        StepState::Waiting => run.phase != RunPhase::Ended && run.brake(step).is_some() && met(run, step),
        StepState::AwaitingApproval
        | StepState::Running
        | StepState::Backoff
        | StepState::InDoubt
        | StepState::Held
        | StepState::Rejected
        | StepState::Failed
        | StepState::Skipped
        | StepState::NotRun
        | StepState::Undoing
        | StepState::UndoFailed
        | StepState::UndoInDoubt => true,
    }
}

fn met(run: &Run, step: &PlanStep) -> bool {
    step.needs.iter().all(|need| matches!(run.state(need), StepState::Succeeded | StepState::Skipped))
}

fn explain_step(run: &Run, step: &PlanStep, ports: &Ports) -> StepWhy {
    let fresh = StepRun::default();
    let record = run.steps.get(&step.id).map_or(&fresh, AsRef::as_ref);
    let open = matches!(record.state, StepState::AwaitingApproval).then_some(record.ask.as_ref()).flatten();
    StepWhy {
        step: step.id.clone(),
        step_type: step.step_type.clone(),
        state: record.state,
        because: because(run, step, record),
        until: match record.state {
            StepState::AwaitingApproval => open.map(|ask| ask.expires_at).filter(|_| run.still_since.is_none()),
            StepState::Backoff | StepState::UndoInDoubt => record.retry_at,
            StepState::Waiting
            | StepState::Running
            | StepState::InDoubt
            | StepState::Held
            | StepState::Succeeded
            | StepState::Rejected
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoFailed => None,
        },
        condition: step.condition.clone(),
        values: step.condition.as_ref().map(|condition| values(run, step, condition)).unwrap_or_default(),
        shown: open.map(|ask| ask.shown.clone()),
        people: if open.is_some() { people(run, step, ports) } else { Vec::new() },
        choices: choices(run, step, ports),
    }
}

fn because(run: &Run, step: &PlanStep, record: &StepRun) -> Vec<String> {
    let mut said = Vec::new();
    let why = record.why.clone();
    match record.state {
        StepState::Waiting => {
            for need in step.needs.iter().filter(|need| !matches!(run.state(need), StepState::Succeeded | StepState::Skipped)) {
                said.push(format!("it needs {need}, which is {}", run.state(need).word().replace('_', " ")));
            }
        }
        StepState::AwaitingApproval => {
            if let Some(ask) = &record.ask {
                let said_yes: Vec<&str> = record.approvals.iter().map(|approval| approval.by.as_str()).collect();
                let by = if said_yes.is_empty() { String::new() } else { format!(" ({})", said_yes.join(", ")) };
                let roles = if ask.roles.is_empty() { String::new() } else { format!(" with the role {}", ask.roles.join(" or ")) };
                said.push(format!("{} of {} people{roles} said yes{by}", said_yes.len(), ask.count));
                if run.still_since.is_some() {
                    said.push("its time stands still until the run goes on".into());
                }
            }
            said.extend(why);
        }
        StepState::Running => said.push(format!("attempt {} is acting or may be acting", record.attempts)),
        StepState::Backoff => {
            said.extend(why);
            said.push(format!("attempt {} is due", record.attempts + 1));
        }
        StepState::Undoing => said.push("its effect is being taken back".into()),
        StepState::Succeeded | StepState::Undone => {}
        StepState::InDoubt
        | StepState::Held
        | StepState::Rejected
        | StepState::Failed
        | StepState::Skipped
        | StepState::NotRun
        | StepState::UndoFailed
        | StepState::UndoInDoubt => said.extend(why),
    }
    if record.doubtful {
        said.push("nobody knows yet whether its effect is there".into());
    }
    let may_start = matches!(record.state, StepState::Waiting | StepState::Backoff | StepState::UndoInDoubt)
        || (record.state == StepState::Succeeded && run.phase == RunPhase::Unwinding);
    let is_over = matches!(record.state, StepState::UndoInDoubt | StepState::Succeeded);
    let brake = if is_over { run.undo_brake(step) } else { run.brake(step) };
    match brake.filter(|_| may_start && run.phase != RunPhase::Ended) {
        Some(Brake::Paused(pause)) => said.push(format!("the run is paused by {}: {}", pause.by.name(), pause.why)),
        Some(Brake::Frozen(frozen)) => {
            let by = frozen.by.as_ref().map(|by| format!(" by {}", by.name())).unwrap_or_default();
            said.push(format!("{} is frozen{by}: {}", frozen.resource.as_deref().unwrap_or("everything"), frozen.why));
        }
        None => {}
    }
    said
}

/// What an expression reads, as it is now.
fn values(run: &Run, step: &PlanStep, expression: &str) -> Vec<(String, Value)> {
    let sight = Sight::of(run);
    let filled = |path: &str| sight.fill(step, &Value::String(format!("${{{{ {path} }}}}"))).ok();
    let mut found: Vec<(String, Value)> = Vec::new();
    for path in paths(expression) {
        if found.iter().all(|(known, _)| *known != path) {
            let value = filled(&path).unwrap_or(Value::Null);
            found.push((path, value));
        }
    }
    found
}

/// The names that an expression reads: `mode`, `inputs.x`, `steps.x.outputs.y`. Names in quotes and called functions are none.
fn paths(expression: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = expression;
    let word = |c: char| c.is_ascii_alphanumeric() || "_.?[]".contains(c);
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '\'' || c == '"') {
        let first = rest[start..].chars().next().unwrap_or(' ');
        if first == '\'' || first == '"' {
            let after = &rest[start + 1..];
            rest = after.find(first).map_or("", |end| &after[end + 1..]);
            continue;
        }
        let tail = &rest[start..];
        let end = tail.find(|c: char| !word(c)).unwrap_or(tail.len());
        let (mut path, after) = (tail[..end].trim_end_matches('.').to_owned(), &tail[end..]);
        if after.starts_with('(') {
            // The last part is a function: what it is called on is read.
            path = path.rsplit_once('.').map_or(String::new(), |(on, _)| on.to_owned());
        }
        if path == "mode" || ["inputs.", "steps.", "item"].iter().any(|root| path.starts_with(root)) {
            paths.push(path);
        }
        rest = after;
    }
    paths
}

/// Who is asked, and whether each can answer now.
fn people(run: &Run, step: &PlanStep, ports: &Ports) -> Vec<PersonWhy> {
    let approve = Command::Approve { step: step.id.clone(), comment: None };
    let person = |(name, person): (&String, &crate::inventory::Person)| {
        let system_user = person.system_user.clone().unwrap_or_else(|| name.clone());
        let by = Actor { person: Some(name.clone()), system_user, via: "foreseen".into() };
        let cannot = decide(run, &approve, &by, ports).err().map(|error| error.to_string());
        PersonWhy { name: name.clone(), roles: person.roles.clone(), cannot }
    };
    ports.inventory.people.iter().map(person).collect()
}

/// Somebody who may decide about a step: what follows does not depend on who.
fn somebody() -> Actor {
    Actor { person: None, system_user: "somebody".into(), via: "foreseen".into() }
}

fn choices(run: &Run, step: &PlanStep, ports: &Ports) -> Vec<Choice> {
    let (id, of) = (&run.id, &step.id);
    let comment = || "foreseen".to_owned();
    if asks(step) && run.state(of) == StepState::AwaitingApproval {
        // Of the people who are asked; where nobody can, nothing is foreseen.
        let able = people(run, step, ports).into_iter().find(|person| person.cannot.is_none());
        let Some(able) = able else { return Vec::new() };
        let system_user = ports.inventory.people.get(&able.name).and_then(|person| person.system_user.clone());
        let by = Actor { system_user: system_user.unwrap_or_else(|| able.name.clone()), person: Some(able.name), via: "foreseen".into() };
        let answers = [
            (format!("approve {id} {of}"), Command::Approve { step: of.clone(), comment: None }),
            (format!("deny {id} {of}"), Command::Deny { step: of.clone(), comment: None }),
        ];
        return answers.into_iter().filter_map(|(words, command)| choice(run, words, &command, &by, ports)).collect();
    }
    let resolve = |resolution| Command::Resolve { step: of.clone(), resolution, comment: comment() };
    // What a step that is called done gave is only known to whoever says so; an undo gives nothing.
    let undo = run.state(of) == StepState::UndoFailed;
    let done = undo.then(|| (format!("resolve {id} {of} done"), resolve(Resolution::Done { outputs: Value::Null })));
    [
        (format!("resolve {id} {of} retry"), resolve(Resolution::Retry)),
        (format!("resolve {id} {of} skip"), resolve(Resolution::Skip)),
        (format!("resolve {id} {of} give-up"), resolve(Resolution::GiveUp)),
    ]
    .into_iter()
    .chain(done)
    .filter_map(|(words, command)| choice(run, words, &command, &somebody(), ports))
    .collect()
}

fn choice(run: &Run, words: String, command: &Command, by: &Actor, ports: &Ports) -> Option<Choice> {
    foresee(run, command, by, ports).ok().map(|then| Choice { command: words, then })
}

#[cfg(test)]
mod tests {
    use super::paths;

    #[test]
    fn the_names_that_an_expression_reads_are_found_and_texts_and_functions_are_not() {
        assert_eq!(paths("mode == \"failover\" && !steps.loss.outputs.within_rpo"), ["mode", "steps.loss.outputs.within_rpo"]);
        assert_eq!(
            paths("steps.a.outputs.nodes.exists(x, x == 'steps.b') || inputs.to in ['mode']"),
            ["steps.a.outputs.nodes", "inputs.to"]
        );
        assert_eq!(paths("duration(inputs.lag) < duration('2m') && true"), ["inputs.lag"]);
    }
}
