//! What a reader must know beside the figures: each notice has a stable code, a level and one sentence. Nothing is judged here.

use lifeboat_engine::measure::Measure;
use lifeboat_engine::run::{DRILL, StepState};
use lifeboat_runbooks::plan::{OnFailure, Plan};

use super::history::{History, JUMP_NS, RESOLVED_AS_DONE, SKIPPED};
use super::recovery::{Recovery, floor_micros, nanoseconds};
use super::{VERIFY, verdict};
use crate::report::{ApprovalEnd, Level, Notice, Report, Standing, Wanted};
use crate::words;

/// What a person must do, in plan order.
pub(super) fn wanted(plan: &Plan, history: &History) -> Vec<Wanted> {
    let run = &history.run;
    if run.outcome.is_some() {
        return Vec::new();
    }
    let resolve = |step: &str, ways: &[&str]| {
        ways.iter().map(|way| format!("lifeboat resolve {} {step} {way} --comment '...'", run.id)).collect::<Vec<_>>()
    };
    let mut wanted = Vec::new();
    for step in plan.steps.iter().chain(&plan.finally) {
        let Some(record) = run.steps.get(&step.id) else { continue };
        let id = step.id.as_str();
        let asked =
            |why: String, commands| Wanted { step: id.to_owned(), since: record.changed_at.unwrap_or(history.as_of), why, commands };
        let why = record.why.clone().unwrap_or_else(|| "no reason was recorded".to_owned());
        match record.state {
            StepState::AwaitingApproval => {
                let need = record.ask.as_ref().map_or(1, |ask| ask.count as usize).saturating_sub(record.approvals.len());
                let roles = record.ask.as_ref().map(|ask| ask.roles.clone()).unwrap_or_default();
                let whose = if roles.is_empty() { String::new() } else { format!(" with the role {}", roles.join(" or ")) };
                let until = record
                    .ask
                    .as_ref()
                    .map(|ask| format!("; no answer by {} UTC is a no", words::time_of_day(ask.expires_at)))
                    .unwrap_or_default();
                let people = if need == 1 { "1 person".to_owned() } else { format!("{need} people") };
                let commands = vec![format!("lifeboat approve {} {id}", run.id), format!("lifeboat deny {} {id}", run.id)];
                let since = record.ask.as_ref().map_or(history.as_of, |ask| ask.asked_at);
                wanted.push(Wanted { step: id.to_owned(), since, why: format!("{people}{whose} must approve{until}"), commands });
            }
            // Where an effect may exist, looking comes before trying again.
            StepState::Held if record.doubtful => wanted.push(asked(why, resolve(id, &["done", "retry", "skip", "give-up"]))),
            StepState::Held => wanted.push(asked(why, resolve(id, &["retry", "done", "skip", "give-up"]))),
            StepState::Failed if !record.given_up && run.turn.is_none() && run.failure_rule(step) == OnFailure::Hold => {
                wanted.push(asked(why, resolve(id, &["retry", "done", "skip", "give-up"])));
            }
            StepState::Rejected if !record.given_up && run.turn.is_none() => wanted.push(asked(why, resolve(id, &["done", "give-up"]))),
            StepState::UndoFailed => wanted.push(asked(format!("its undo failed: {why}"), resolve(id, &["retry", "done"]))),
            StepState::Waiting
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Succeeded
            | StepState::Rejected
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoInDoubt => {}
        }
    }
    wanted
}

/// Collects notices.
struct Said(Vec<Notice>);

impl Said {
    fn say(&mut self, level: Level, code: &str, text: String) {
        self.0.push(Notice { level, code: code.to_owned(), step: None, text });
    }

    fn of(&mut self, level: Level, code: &str, step: &str, text: String) {
        self.0.push(Notice { level, code: code.to_owned(), step: Some(step.to_owned()), text });
    }
}

/// Everything worth saying, gravest first.
pub(super) fn notices(plan: &Plan, history: &History, recovery: &Recovery, report: &Report) -> Vec<Notice> {
    let mut said = Said(Vec::new());
    objectives(&mut said, report);
    proof(&mut said, plan, history, recovery, report);
    clocks(&mut said, history, recovery);
    effects(&mut said, report);
    people(&mut said, report);
    course(&mut said, history, report);
    said.0.sort_by_key(|notice| notice.level);
    said.0
}

fn objectives(said: &mut Said, report: &Report) {
    if report.mode == DRILL {
        said.say(Level::Note, "drill", "This was a drill: its times show readiness and are no recovery times of the service".to_owned());
        return;
    }
    let promise = |seconds: Option<f64>| seconds.map_or_else(|| "not set".to_owned(), words::seconds);
    if report.met.rto == Some(false) {
        let actual = words::interval(report.actuals.rta_outage);
        said.say(
            Level::Bad,
            "rto-missed",
            format!("Service was out for {actual}; the objective is {}", promise(report.objectives.rto_seconds)),
        );
    }
    if report.met.rpo == Some(false) {
        let actual = words::interval(verdict::loss_of(&report.actuals));
        said.say(
            Level::Bad,
            "rpo-missed",
            format!("Acknowledged data of {actual} is gone; the objective is {}", promise(report.objectives.rpo_seconds)),
        );
    }
    if report.outcome != Standing::Succeeded {
        return;
    }
    if report.objectives.rto_seconds.is_some() && report.met.rto.is_none() && report.actuals.rta_outage.seconds_max.is_some() {
        let actual = words::interval(report.actuals.rta_outage);
        said.say(
            Level::Attention,
            "rto-unproven",
            format!("An outage of {actual} is not proven within {}", promise(report.objectives.rto_seconds)),
        );
    }
    if report.objectives.rpo_seconds.is_some() && report.met.rpo.is_none() && report.actuals.rpa.seconds_max.is_some() {
        let actual = words::interval(verdict::loss_of(&report.actuals));
        said.say(
            Level::Attention,
            "rpo-unproven",
            format!("A loss of {actual} is not proven within {}", promise(report.objectives.rpo_seconds)),
        );
    }
}

fn proof(said: &mut Said, plan: &Plan, history: &History, recovery: &Recovery, report: &Report) {
    let ended = report.outcome.ended();
    for step in plan.steps.iter().filter(|step| ended && step.step_type == VERIFY) {
        let resolved = history.steps.get(&step.id).is_some_and(|own| own.known_by == Some("resolved"));
        let state = history.run.state(&step.id);
        if resolved {
            said.of(
                Level::Attention,
                "not-verified",
                step.id.as_str(),
                "A person declared the check done; nothing verified the service".to_owned(),
            );
        } else if !matches!(state, StepState::Succeeded | StepState::Undone) {
            said.of(
                Level::Attention,
                "not-verified",
                step.id.as_str(),
                format!("The check did not pass ({}): nothing proves that service is back", state_words(state)),
            );
        }
    }
    if ended && recovery.began.is_none() && report.mode != DRILL {
        said.say(
            Level::Attention,
            "outage-unknown",
            "Nobody observed when service ended, so the length of the outage is unknown".to_owned(),
        );
    }
    if ended && recovery.restored.is_none() {
        let text = if history.undo_began && report.mode != DRILL {
            "The run turned back, so service that it had seen working no longer counts"
        } else {
            "No step saw the service working from outside, so the recovery time is unknown"
        };
        said.say(Level::Attention, "restoration-unknown", text.to_owned());
    }
    if recovery.began_conflict {
        said.say(
            Level::Attention,
            "outage-conflict",
            "Observations of when service ended exclude each other; the widest interval is used".to_owned(),
        );
    }
    if recovery.restored_before_began {
        said.say(
            Level::Attention,
            "order-conflict",
            "Service was seen working before it is said to have ended; the length of the outage is unknown".to_owned(),
        );
    }
    for rpa in report.losses.iter().filter(|rpa| rpa.seconds_max.is_none()) {
        let resource = rpa.resource.as_deref().unwrap_or("a resource");
        let foreseen = report.expected_losses.iter().rev().find(|expected| expected.loss.resource == rpa.resource);
        let expected = foreseen.map_or_else(String::new, |expected| {
            let figure = crate::report::Figure { seconds_min: expected.loss.seconds_min, seconds_max: expected.loss.seconds_max };
            format!(" ({} was expected before the act, by {})", words::interval(figure), expected.loss.method)
        });
        let level = if ended { Level::Attention } else { Level::Note };
        said.say(level, "loss-unknown", format!("The loss on {resource} has no measured upper bound{expected}"));
    }
}

fn state_words(state: StepState) -> String {
    state.word().replace('_', " ")
}

/// A measured instant this far from the run is more likely a wrong clock than a fact.
const FAR_NS: i128 = JUMP_NS;

/// Measured instants may be this much later than the entry that records them: clocks of two machines.
const AHEAD_NS: i128 = 1_000_000_000;

fn clocks(said: &mut Said, history: &History, recovery: &Recovery) {
    for jump in &history.jumps {
        let by = words::seconds(floor_micros(jump.by_ns.abs()));
        if jump.by_ns < 0 {
            said.say(
                Level::Attention,
                "clock-went-back",
                format!("The recording clock went back by {by} before entry {}; upper bounds are widened by that", jump.place),
            );
        } else {
            said.say(
                Level::Attention,
                "clock-jumped",
                format!("{by} lie between entry {} and the one before; the clock may have been wrong", jump.place),
            );
        }
    }
    for recorded in &history.measures {
        let Some((name, instant)) = instant_of(&recorded.measure) else { continue };
        if nanoseconds(recorded.at, instant) > AHEAD_NS {
            let ahead = words::seconds(floor_micros(nanoseconds(recorded.at, instant)));
            said.of(
                Level::Attention,
                "instant-ahead",
                recorded.step.as_str(),
                format!("{name} lies {ahead} after the entry that records it: two clocks disagree"),
            );
        }
    }
    if let Some(began) = &recovery.began
        && nanoseconds(began.earliest, history.admitted_at).abs() > FAR_NS
    {
        said.say(
            Level::Attention,
            "instant-far",
            "The outage is said to have begun more than 24 h away from the start of the run".to_owned(),
        );
    }
}

/// The instant of a measure that can only lie in the past.
fn instant_of(measure: &Measure) -> Option<(&'static str, jiff::Timestamp)> {
    match measure {
        Measure::OutageBegan { latest, .. } => Some(("The end of service", *latest)),
        Measure::NotRestoredBefore { at, .. } => Some(("The instant before which service was not back", *at)),
        Measure::ServiceRestored { at, .. } => Some(("The return of service", *at)),
        Measure::Verified { at } => Some(("The last check", *at)),
        Measure::Fenced { at } => Some(("The proof of the fence", *at)),
        Measure::PromoteSent { at } => Some(("The promotion", *at)),
        Measure::Writable { at } => Some(("The first committed write", *at)),
        // Old answers may live on after the step is done.
        Measure::ClientsFollowBy { .. } | Measure::ExpectedLoss(_) | Measure::Loss(_) => None,
    }
}

fn effects(said: &mut Said, report: &Report) {
    for left in &report.left_behind {
        said.of(Level::Bad, "left-behind", &left.step, format!("Its effect on {} stands: {}", words::list(&left.resources), left.why));
    }
    if report.outcome == Standing::Stuck && !report.locks_kept.is_empty() {
        said.say(
            Level::Bad,
            "locks-kept",
            format!(
                "The run keeps its locks on {} until a person types: lifeboat resolve {} --release",
                words::list(&report.locks_kept),
                report.run
            ),
        );
    }
}

fn people(said: &mut Said, report: &Report) {
    for decision in &report.decisions {
        let Some(step) = &decision.step else { continue };
        let comment =
            decision.comment.as_deref().filter(|comment| !comment.is_empty()).map(|comment| format!(": \"{comment}\"")).unwrap_or_default();
        match decision.what.as_str() {
            RESOLVED_AS_DONE | SKIPPED => {
                said.of(Level::Attention, "override", step, format!("{} {} it by hand{comment}", decision.by.name, decision.what));
            }
            "gave up" => said.of(Level::Attention, "given-up", step, format!("{} gave it up{comment}", decision.by.name)),
            _ => {}
        }
    }
    for approval in &report.approvals {
        match approval.end {
            ApprovalEnd::Voided => said.of(
                Level::Attention,
                "approval-voided",
                &approval.step,
                "The facts got worse after people had answered; they were asked again".to_owned(),
            ),
            ApprovalEnd::Expired => {
                said.of(Level::Attention, "approval-expired", &approval.step, "Nobody answered in time, which is a no".to_owned())
            }
            ApprovalEnd::Denied => said.of(Level::Attention, "approval-denied", &approval.step, "A person said no".to_owned()),
            ApprovalEnd::Open | ApprovalEnd::Granted | ApprovalEnd::Withdrawn => {}
        }
    }
}

fn course(said: &mut Said, history: &History, report: &Report) {
    for stop in &report.stops {
        let what = match &stop.resource {
            Some(resource) => format!("{resource} was frozen"),
            None if stop.kind == "frozen" => "Everything was frozen".to_owned(),
            None => "The run was paused".to_owned(),
        };
        let by = stop.by.as_ref().map(|by| format!(" by {}", by.name)).unwrap_or_default();
        let ended = match (&stop.to, &stop.ended_by) {
            (Some(_), Some(by)) => format!("; {} let it go on: {}", by.name, stop.ended_why.as_deref().unwrap_or_default()),
            (Some(_), None) => String::new(),
            (None, _) => "; it is so still".to_owned(),
        };
        let text = format!("{what}{by} for {} ({}){ended}", words::seconds_or_unknown(stop.seconds), stop.why);
        said.say(Level::Attention, &format!("was-{}", stop.kind), text);
    }
    if !report.resumes.is_empty() {
        let away: f64 = report.resumes.iter().filter_map(|resume| resume.away_seconds_max).sum();
        let times = words::times(report.resumes.len() as u64);
        said.say(
            Level::Note,
            "resumed",
            format!("The engine stopped and the run was resumed {times}; it was away for at most {} in all", words::at_most(away)),
        );
    }
    for (id, own) in &history.steps {
        let state = history.run.state(id);
        if own.doubts > 0 && state == StepState::Succeeded && own.known_by == Some("observed") {
            said.of(
                Level::Note,
                "found-done",
                id.as_str(),
                "Its outcome was unknown; the world was asked, and it was found done".to_owned(),
            );
        } else if own.doubts > 0 && state == StepState::Succeeded {
            said.of(
                Level::Note,
                "was-in-doubt",
                id.as_str(),
                "Its outcome was unknown for a while; the world was asked before it went on".to_owned(),
            );
        }
        if own.failures > 0 && state == StepState::Succeeded {
            said.of(Level::Note, "retried", id.as_str(), format!("It failed {} before it was done", words::times(u64::from(own.failures))));
        }
    }
}
