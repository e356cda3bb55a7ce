//! The parts of the page below its figures, in the order in which they stand.

use serde_json::Value;

use lifeboat_engine::unused::Row;
use lifeboat_runbooks::plan::Plan;

use crate::marks;
use crate::picture::theme::icon_alone;
use crate::picture::{graph, timeline};
use crate::report::{Approval, ApprovalEnd, Figure, Part, Report, Rpa, StepReport};
use crate::rows::rows;
use crate::text::named_instants;
use crate::words::{self, escape};

pub(super) fn wanted(out: &mut String, report: &Report) {
    if report.wanted.is_empty() {
        return;
    }
    out.push_str("<section class=\"first\"><h2>What a person must do</h2>\n");
    for wanted in &report.wanted {
        out.push_str(&format!(
            "<div class=\"todo\"><b>{}</b>: {} <span class=\"dim\">since {} UTC</span>\n",
            escape(&wanted.step),
            escape(&wanted.why),
            words::instant(wanted.since, report.clock.run_started_at)
        ));
        for approval in report.approvals.iter().filter(|approval| approval.end == ApprovalEnd::Open && approval.step == wanted.step) {
            facts(out, "What to decide on", &approval.shown);
            for answer in &approval.answers {
                let comment = answer.comment.as_ref().filter(|comment| !comment.is_empty());
                let comment = comment.map(|comment| format!("<blockquote>{}</blockquote>", escape(comment))).unwrap_or_default();
                out.push_str(&format!("<div>{} said {}{comment}</div>\n", escape(&answer.by.name), escape(&answer.said)));
            }
        }
        for command in &wanted.commands {
            out.push_str(&format!("<code>{}</code>\n", escape(command)));
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

/// Facts as a small table, where they are an object; as text otherwise.
fn facts(out: &mut String, name: &str, shown: &Value) {
    match shown {
        Value::Null => {}
        Value::Object(map) => {
            out.push_str(&format!("<h3>{name}</h3><table>\n"));
            for (key, value) in map {
                out.push_str(&format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(key), escape(&words::value(value))));
            }
            out.push_str("</table>\n");
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            out.push_str(&format!("<h3>{name}</h3><p>{}</p>\n", escape(&words::value(shown))));
        }
    }
}

pub(super) fn notices(out: &mut String, report: &Report) {
    if report.notices.is_empty() {
        return;
    }
    out.push_str("<section><h2>What to know</h2>\n<ul class=\"notices\">\n");
    for notice in &report.notices {
        let mark = marks::of_level(notice.level);
        let step = notice.step.as_ref().map(|step| format!("<b>{}</b>: ", escape(step))).unwrap_or_default();
        out.push_str(&format!("<li class=\"{}\"><b>{}</b> {step}{}</li>\n", mark.tone.class(), mark.sign, escape(&notice.text)));
    }
    out.push_str("</ul></section>\n");
}

pub(super) fn timeline(out: &mut String, report: &Report) {
    out.push_str("<section><h2>Timeline</h2>\n<div class=\"picture wide\">\n");
    out.push_str(&timeline::draw(report, timeline::Room::Wide));
    out.push_str("</div>\n<div class=\"picture narrow\">\n");
    out.push_str(&timeline::draw(report, timeline::Room::Narrow));
    out.push_str("</div></section>\n");
}

/// Widest graph that leaves room for a table beside it, in pixels.
const SLIM: f64 = 600.0;

pub(super) fn graph_and_clock(out: &mut String, report: &Report, plan: &Plan) {
    let (picture, width) = graph::sized(plan, Some(report));
    // A slim graph stands beside the clock, a wide one above it.
    let (layout, big) = if width <= SLIM { ("two", "") } else { ("one", " big") };
    out.push_str(&format!("<div class=\"{layout}\"><section><h2>Plan</h2>\n<div class=\"picture graph scroll{big}\">\n{picture}"));
    out.push_str("</div></section>\n<section><h2>Clock</h2>\n<table><tr><th>UTC</th><th class=\"num\">elapsed</th><th></th></tr>\n");
    let instants = named_instants(report);
    let zero = instants.first().map_or(report.clock.run_started_at, |(at, _, _)| *at);
    for (at, name, because) in instants {
        let because = if because.is_empty() { String::new() } else { format!("<br><span class=\"dim\">{}</span>", escape(&because)) };
        out.push_str(&format!(
            "<tr><td class=\"time\">{}</td><td class=\"num\">+{}</td><td>{name}{because}</td></tr>\n",
            words::instant(at, report.clock.run_started_at),
            words::seconds(at.duration_since(zero).as_secs_f64())
        ));
    }
    out.push_str("</table></section></div>\n");
}

/// Most steps listed, so that a phone can show the page; JSON holds all.
const STEPS_SHOWN_MAX: usize = 2_000;

pub(super) fn steps(out: &mut String, report: &Report) {
    out.push_str("<section><h2>Steps</h2>\n");
    let mut part = Part::Steps;
    for row in rows(report.steps.iter().take(STEPS_SHOWN_MAX)) {
        let step = match row {
            Row::Step(step) => step,
            Row::Unused(unused) => {
                out.push_str(&format!("<p class=\"dim unused\">{}</p>\n", escape(&unused.to_string())));
                continue;
            }
        };
        if step.part != part {
            part = step.part;
            out.push_str("<h3 class=\"dim\">finally, however it ends</h3>\n");
        }
        self::step(out, report, step);
    }
    if report.steps.len() > STEPS_SHOWN_MAX {
        out.push_str(&format!("<p class=\"dim\">and {} more, in the JSON report</p>\n", report.steps.len() - STEPS_SHOWN_MAX));
    }
    out.push_str("</section>\n");
}

fn step(out: &mut String, report: &Report, step: &StepReport) {
    let mark = marks::of_state(step.state);
    let critical = if step.critical { "critical" } else { "" };
    let took = step.duration_seconds.filter(|_| step.started_at.is_some()).map(words::seconds).unwrap_or_default();
    out.push_str(&format!(
        "<details class=\"{critical}\"><summary class=\"{}\">{}<span class=\"id\">{}</span><span class=\"kind\">{}</span><span class=\"state\">{}</span><span class=\"took\">{took}</span></summary>\n<div class=\"inside\">\n",
        mark.tone.class(),
        icon_alone(mark),
        escape(&step.id),
        escape(&step.step_type),
        mark.word
    ));
    out.push_str(&format!("<p>{}</p>\n", escape(&step.preview)));
    if let Some(undo) = &step.undo {
        out.push_str(&format!("<p class=\"dim\">its undo is {}</p>\n", escape(undo)));
    }
    if let Some(why) = &step.why {
        out.push_str(&format!("<p class=\"dim\">{}</p>\n", escape(why)));
    }
    let mut told: Vec<String> = Vec::new();
    if step.point_of_no_return {
        told.push("point of no return".to_owned());
    }
    if step.attempts > 0 {
        told.push(words::count(u64::from(step.attempts), "attempt", "attempts"));
    }
    if let Some(known) = &step.known_by {
        told.push(match known.as_str() {
            "observed" => "found done in the world".to_owned(),
            "resolved" => "declared done by a person".to_owned(),
            "people" => "decided by people".to_owned(),
            _ => "done as executed".to_owned(),
        });
    }
    for (seconds, name) in
        [(step.waited_seconds, "waiting for people"), (step.backoff_seconds, "between attempts"), (step.in_doubt_seconds, "in doubt")]
    {
        if seconds > 0.0 {
            told.push(format!("{} {name}", words::seconds(seconds)));
        }
    }
    if let (Some(from), Some(to)) = (step.started_at, step.ended_at) {
        told.push(format!(
            "{} to {} UTC",
            words::instant(from, report.clock.run_started_at),
            words::instant(to, report.clock.run_started_at)
        ));
    }
    if !told.is_empty() {
        out.push_str(&format!("<p class=\"dim\">{}</p>\n", escape(&told.join(" · "))));
    }
    evidence(out, report, step);
    out.push_str("</div></details>\n");
}

/// Most facts shown for one step; JSON holds all.
const EVIDENCE_SHOWN_MAX: usize = 100;

fn evidence(out: &mut String, report: &Report, step: &StepReport) {
    if step.evidence.is_empty() {
        return;
    }
    out.push_str("<table><tr><th>recorded</th><th>looked at</th><th>found</th></tr>\n");
    for seen in step.evidence.iter().take(EVIDENCE_SHOWN_MAX) {
        out.push_str(&format!(
            "<tr><td class=\"time\">{}</td><td>{}</td><td>{}</td></tr>\n",
            words::instant(seen.at, report.clock.run_started_at),
            escape(&seen.what),
            escape(&words::value(&seen.found))
        ));
    }
    out.push_str("</table>\n");
    if step.evidence.len() > EVIDENCE_SHOWN_MAX {
        out.push_str(&format!("<p class=\"dim\">and {} more, in the JSON report</p>\n", step.evidence.len() - EVIDENCE_SHOWN_MAX));
    }
}

pub(super) fn people(out: &mut String, report: &Report) {
    out.push_str("<section><h2>Who decided</h2>\n<table><tr><th>UTC</th><th>who</th><th>what</th></tr>\n");
    for decision in &report.decisions {
        let step = decision.step.as_ref().map(|step| format!(" <b>{}</b>", escape(step))).unwrap_or_default();
        let comment = decision.comment.as_ref().filter(|comment| !comment.is_empty());
        let comment = comment.map(|comment| format!("<blockquote>{}</blockquote>", escape(comment))).unwrap_or_default();
        out.push_str(&format!(
            "<tr><td class=\"time\">{}</td><td>{} <span class=\"dim\">{}</span></td><td>{}{step}{comment}</td></tr>\n",
            words::instant(decision.at, report.clock.run_started_at),
            escape(&decision.by.name),
            escape(&decision.by.via),
            escape(&decision.what)
        ));
    }
    out.push_str("</table>\n");
    for approval in &report.approvals {
        self::approval(out, report, approval);
    }
    out.push_str("</section>\n");
}

fn approval(out: &mut String, report: &Report, approval: &Approval) {
    let end = match approval.end {
        ApprovalEnd::Open => "still open",
        ApprovalEnd::Granted => "granted",
        ApprovalEnd::Voided => "voided, because the facts got worse",
        ApprovalEnd::Denied => "denied",
        ApprovalEnd::Expired => "expired, which is a no",
        ApprovalEnd::Withdrawn => "withdrawn",
    };
    let roles = if approval.roles.is_empty() { "anybody enrolled".to_owned() } else { approval.roles.join(" or ") };
    let people = words::count(u64::from(approval.count), "person", "people");
    out.push_str(&format!(
        "<h3>{} asked at {}: {people} of {}, {end}</h3>\n",
        escape(&approval.step),
        words::instant(approval.requested_at, report.clock.run_started_at),
        escape(&roles)
    ));
    facts(out, "What they were shown", &approval.shown);
}

pub(super) fn losses(out: &mut String, report: &Report) {
    if report.losses.len() + report.expected_losses.len() == 0 {
        return;
    }
    out.push_str("<section><h2>Data loss by resource</h2>\n<table><tr><th>resource</th><th class=\"num\">loss</th><th class=\"num\">bytes</th><th>method</th></tr>\n");
    let mut row = |loss: &Rpa, method: String| {
        let figure = Figure { seconds_min: loss.seconds_min, seconds_max: loss.seconds_max };
        let bytes = loss.bytes.map_or_else(|| "unknown".to_owned(), words::bytes);
        let resource = loss.resource.as_deref().unwrap_or("unknown");
        out.push_str(&format!(
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{bytes}</td><td>{method}</td></tr>\n",
            escape(resource),
            escape(&words::interval(figure))
        ));
    };
    for loss in &report.losses {
        row(loss, format!("measured after the act: {}", escape(&loss.method)));
    }
    for expected in &report.expected_losses {
        row(&expected.loss, format!("expected before the act, by {}: {}", escape(&expected.step), escape(&expected.loss.method)));
    }
    out.push_str("</table></section>\n");
}

pub(super) fn resumes(out: &mut String, report: &Report) {
    if report.resumes.is_empty() {
        return;
    }
    out.push_str("<section><h2>Engine restarts</h2>\n<table><tr><th>taken over</th><th class=\"num\">away at most</th><th>in doubt then</th><th>why</th></tr>\n");
    for resume in &report.resumes {
        let doubt = if resume.in_doubt.is_empty() { "nothing".to_owned() } else { words::list(&resume.in_doubt) };
        out.push_str(&format!(
            "<tr><td class=\"time\">{}</td><td class=\"num\">{}</td><td>{}</td><td>{}</td></tr>\n",
            words::instant(resume.at, report.clock.run_started_at),
            resume.away_seconds_max.map_or_else(|| "unknown".to_owned(), words::at_most),
            escape(&doubt),
            escape(&resume.why)
        ));
    }
    out.push_str("</table></section>\n");
}

pub(super) fn footer(out: &mut String, report: &Report) {
    out.push_str(&format!(
        "<footer><p>Judged from {} alone, up to {} {} UTC. Intervals hold the truth: they run from the last observation before to the first one after. What nobody observed is unknown.</p>\n\
         <p class=\"mono\">structure {}<br>binding {}<br>plan {}</p></footer>\n",
        words::count(report.journal_entries, "journal entry", "journal entries"),
        words::day(report.as_of),
        words::time_of_day(report.as_of),
        escape(&report.digests.structure),
        escape(&report.digests.binding),
        escape(&report.digests.plan)
    ));
}
