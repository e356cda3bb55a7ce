//! The report as one self-contained page: no script, no network, light and dark, for desk, phone and paper. Figures are made in `judge`.

mod sections;

use lifeboat_runbooks::plan::Plan;

use crate::marks::{self, Tone};
use crate::picture::theme::{PALETTE, PALETTE_DARK, RULES, icon_alone};
use crate::report::{Figure, Report, Verdict};
use crate::words::{self, escape};

const STYLE: &str = include_str!("../page.css");

/// The page. Everything foreign is escaped, and a content security policy forbids scripts and all traffic besides.
#[must_use]
pub fn html(report: &Report, plan: &Plan) -> String {
    let mut out = String::with_capacity(64 * 1024);
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    out.push_str(&format!("<title>{} · {}</title>\n", escape(&report.headline), escape(&report.runbook)));
    out.push_str(&format!(
        "<style>:root{{{PALETTE}}}@media (prefers-color-scheme:dark){{:root{{{PALETTE_DARK}}}}}@media print{{:root{{{PALETTE}}}}}\n{STYLE}{RULES}</style>\n</head>\n<body>\n"
    ));
    headline(&mut out, report);
    // What a person must do comes before everything that is only to be read.
    sections::wanted(&mut out, report);
    figures(&mut out, report);
    sections::notices(&mut out, report);
    sections::timeline(&mut out, report);
    sections::graph_and_clock(&mut out, report, plan);
    sections::steps(&mut out, report);
    sections::people(&mut out, report);
    sections::losses(&mut out, report);
    sections::resumes(&mut out, report);
    sections::footer(&mut out, report);
    out.push_str("</body>\n</html>\n");
    out
}

fn headline(out: &mut String, report: &Report) {
    let mark = marks::of_verdict(report.verdict);
    let drill = if report.rehearsal.is_some() { " drill" } else { "" };
    out.push_str(&format!(
        "<header class=\"verdict {}\">{}<div>\n<h1>{}</h1>\n",
        mark.tone.class(),
        icon_alone(mark),
        escape(&report.headline)
    ));
    out.push_str(&format!(
        "<p class=\"sub\">{} <span class=\"tag{drill}\">{}</span> <span class=\"tag\">{}</span></p>\n",
        escape(&report.title),
        escape(&report.mode),
        report.outcome.words()
    ));
    let owner = report.owner.as_ref().map(|owner| format!(" · answered for by {}", escape(owner))).unwrap_or_default();
    out.push_str(&format!(
        "<p class=\"dim\">run <span class=\"mono\">{}</span> of {}, started {} {} UTC by {} from the {}{owner}</p>\n</div></header>\n",
        escape(&report.run),
        escape(&report.runbook),
        words::day(report.clock.run_started_at),
        words::time_of_day(report.clock.run_started_at),
        escape(&report.started_by.name),
        escape(&report.started_by.via)
    ));
}

const OUTAGE: &str = "Outage";

fn figures(out: &mut String, report: &Report) {
    out.push_str("<section class=\"cards\">\n");
    let rpa = &report.actuals.rpa;
    let loss = Figure { seconds_min: rpa.seconds_min, seconds_max: rpa.seconds_max };
    let clock = &report.clock;
    let seen = match (&clock.outage_began_at, &clock.service_restored_at) {
        (Some(began), Some(restored)) => format!("ended: seen by {}; back: {}", began.method, words::cut(&restored.because, 72)),
        (Some(began), None) => {
            format!("ended: seen by {}; {}", began.method, if report.outcome.ended() { "nobody saw it back" } else { "not seen back yet" })
        }
        (None, Some(restored)) => format!("nobody saw it end; back: {}", words::cut(&restored.because, 72)),
        (None, None) => "nobody saw service end or come back".to_owned(),
    };
    match &report.rehearsal {
        Some(drill) => {
            let from = format!("counted from {}", drill.counted_from.replace('_', " "));
            figure(out, report, "Drill time", drill.recovery, report.objectives.rto_seconds, drill.within_rto, &from);
            figure(out, report, "Data loss in the drill", loss, report.objectives.rpo_seconds, drill.within_rpo, &loss_words(report));
        }
        None => {
            figure(out, report, OUTAGE, report.actuals.rta_outage, report.objectives.rto_seconds, report.met.rto, &seen);
            figure(out, report, "Data loss", loss, report.objectives.rpo_seconds, report.met.rpo, &loss_words(report));
        }
    }
    spent(out, report);
    out.push_str("</section>\n");
}

fn loss_words(report: &Report) -> String {
    let rpa = &report.actuals.rpa;
    if rpa.method == "unknown" {
        return match report.expected_losses.last() {
            Some(expected) => {
                let figure = Figure { seconds_min: expected.loss.seconds_min, seconds_max: expected.loss.seconds_max };
                format!("not measured; expected before the act: {} by {}", words::interval(figure), expected.loss.method)
            }
            None => "not measured".to_owned(),
        };
    }
    let bytes = rpa.bytes.map(|bytes| format!(", {}", words::bytes(bytes))).unwrap_or_default();
    let resource = rpa.resource.as_ref().map(|resource| format!(" on {resource}")).unwrap_or_default();
    format!("by {}{bytes}{resource}", rpa.method)
}

fn figure(out: &mut String, report: &Report, name: &str, actual: Figure, objective: Option<f64>, met: Option<bool>, how: &str) {
    let mark = marks::of_met(met);
    let drill = report.rehearsal.is_some();
    let (tone, verdict) = match (objective, met) {
        (None, _) => (Tone::Quiet, "no objective".to_owned()),
        (Some(_), Some(true)) if drill => (Tone::Active, "◇ would do".to_owned()),
        (Some(_), Some(false)) if drill => (Tone::Bad, "✗ would not do".to_owned()),
        (Some(_), None) if !report.outcome.ended() => (Tone::Active, "… open".to_owned()),
        (Some(_), _) => (mark.tone, format!("{} {}", mark.sign, mark.word)),
    };
    let shown = words::interval(actual);
    let size = match shown.chars().count() {
        _ if actual == Figure::default() => " unknown",
        0..=14 => "",
        _ => " long",
    };
    out.push_str(&format!(
        "<div class=\"card {}\"><div class=\"name\"><span>{name}</span><span class=\"pill\">{verdict}</span></div>\n<div class=\"big{size}\">{}</div>\n",
        tone.class(),
        escape(&shown)
    ));
    match objective {
        Some(objective) => {
            out.push_str(&gauge(actual, objective));
            let due = report.clock.rto_due_at.filter(|_| name == OUTAGE && !report.outcome.ended());
            let due = due.map(|due| format!(", until <b>{}</b> UTC", words::instant(due, report.clock.run_started_at))).unwrap_or_default();
            out.push_str(&format!("<div class=\"dim\">of {} allowed{due} · {}</div></div>\n", words::seconds(objective), escape(how)));
        }
        None => out.push_str(&format!("<div class=\"dim\">{}</div></div>\n", escape(how))),
    }
}

/// How much of the objective is used: surely, and perhaps.
fn gauge(actual: Figure, objective: f64) -> String {
    let share = |seconds: f64| if objective > 0.0 { (seconds / objective * 100.0).clamp(0.0, 100.0) } else { 100.0 };
    let (min, max) = (share(actual.seconds_min.unwrap_or(0.0)), share(actual.seconds_max.unwrap_or(0.0)));
    format!(
        "<svg class=\"gauge\" viewBox=\"0 0 100 12\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"100\" height=\"12\" fill=\"var(--line)\"/>\
         <rect width=\"{max:.2}\" height=\"12\" fill=\"var(--tone)\" opacity=\".45\"/><rect width=\"{min:.2}\" height=\"12\" fill=\"var(--tone)\"/></svg>\n"
    )
}

/// Whose time it was.
fn spent(out: &mut String, report: &Report) {
    let actuals = &report.actuals;
    let parts = [
        ("c-auto", "Steps", actuals.automation_seconds),
        ("c-check", "Checks between steps", actuals.preparing_seconds),
        ("c-people", "People", actuals.human_seconds),
        ("c-away", "Engine away, at most", actuals.engine_away_seconds),
    ];
    let total: f64 = parts.iter().filter_map(|(_, _, seconds)| *seconds).sum();
    let (whole, took) = match actuals.rta_declared_seconds {
        Some(declared) => ("Declared to restored", Some(declared)),
        None => ("Started to restored", actuals.rta_run_seconds),
    };
    let tone = if report.verdict == Verdict::NeedsPerson { "attention" } else { "quiet" };
    out.push_str(&format!("<div class=\"card {tone}\"><div class=\"name\"><span>Whose time it was</span></div>\n<div class=\"split\">"));
    for (class, _, seconds) in parts {
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0 && total > 0.0) {
            out.push_str(&format!("<i class=\"{class}\" style=\"width:{:.1}%\"></i>", seconds / total * 100.0));
        }
    }
    out.push_str("</div>\n<dl class=\"kv\">\n");
    for (class, name, seconds) in parts {
        if class != "c-away" || seconds.is_some_and(|seconds| seconds > 0.0) {
            out.push_str(&format!("<dt><i class=\"{class}\"></i>{name}</dt><dd>{}</dd>\n", words::seconds_or_unknown(seconds)));
        }
    }
    out.push_str(&format!("<dt>{whole}</dt><dd>{}</dd>\n</dl></div>\n", words::seconds_or_unknown(took)));
}

#[cfg(test)]
mod tests;
