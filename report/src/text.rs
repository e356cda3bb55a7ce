//! The report as text for a terminal: the judgement first, then what needs attention, then the details. Figures are made in `judge`.

use jiff::Timestamp;
use lifeboat_engine::run::StepState;
use lifeboat_engine::unused::Row;

use crate::drill::{drill_text, prediction_text};
use crate::marks::{self, Tone};
use crate::report::{Doing, Figure, Part, Report, StepReport};
use crate::rows::rows;
use crate::words;

/// Whether a terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Plain,
    /// With ANSI colours. Nothing is told by colour alone.
    Ansi,
}

/// Narrowest and widest layout, in columns.
const WIDTH: (usize, usize) = (60, 120);

/// What a person reads in a terminal. `width` is in columns and taken as at least 60 and at most 120.
#[must_use]
pub fn text(report: &Report, width: usize, colour: Colour) -> String {
    let mut page = Page { out: String::new(), width: width.clamp(WIDTH.0, WIDTH.1), colour };
    page.headline(report);
    page.figures(report);
    page.drill(report);
    page.wanted(report);
    page.notices(report);
    page.clock(report);
    page.steps(report);
    page.decisions(report);
    page.footer(report);
    page.out
}

struct Page {
    out: String,
    width: usize,
    colour: Colour,
}

impl Page {
    fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Attention => "33",
            Tone::Active => "36",
            Tone::Quiet => "2",
        };
        match self.colour {
            Colour::Plain => text.to_owned(),
            Colour::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    fn bold(&self, text: &str) -> String {
        match self.colour {
            Colour::Plain => text.to_owned(),
            Colour::Ansi => format!("\u{1b}[1m{text}\u{1b}[0m"),
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn heading(&mut self, text: &str) {
        let text = self.bold(text);
        self.out.push('\n');
        self.line(&text);
    }

    /// A paragraph behind a sign, wrapped.
    fn item(&mut self, sign: &str, text: &str) {
        for (index, line) in wrap(text, self.width - 4).into_iter().enumerate() {
            let lead = if index == 0 { format!("  {sign} ") } else { "    ".to_owned() };
            self.line(&format!("{lead}{line}"));
        }
    }

    fn headline(&mut self, report: &Report) {
        let mark = marks::of_verdict(report.verdict);
        for (index, line) in wrap(&words::clean(&report.headline), self.width - 2).into_iter().enumerate() {
            let lead = if index == 0 { mark.sign } else { ' ' };
            let head = self.bold(&format!("{lead} {line}"));
            let head = self.paint(mark.tone, &head);
            self.line(&head);
        }
        let title = format!("{} ({}, {})", words::clean(&report.title), words::clean(&report.runbook), words::clean(&report.mode));
        self.item(" ", &title);
        let by = format!(
            "run {}, started by {} from the {}",
            words::clean(&report.run),
            words::clean(&report.started_by.name),
            words::clean(&report.started_by.via)
        );
        self.item(" ", &by);
        self.out.push('\n');
    }

    fn drill(&mut self, report: &Report) {
        let text = drill_text(report);
        if !text.is_empty() {
            self.out.push('\n');
        }
        for line in text.lines() {
            self.line(line);
        }
        if let Some(prediction) = &report.prediction {
            self.item("·", &prediction_text(prediction));
        }
    }

    fn figures(&mut self, report: &Report) {
        let (first, figure, met, rpo_met) = match &report.rehearsal {
            Some(rehearsal) => ("Drill time", rehearsal.recovery, rehearsal.within_rto, rehearsal.within_rpo),
            None => ("Outage", report.actuals.rta_outage, report.met.rto, report.met.rpo),
        };
        self.figure(report, first, figure, report.objectives.rto_seconds, met);
        let rpa = &report.actuals.rpa;
        let loss = Figure { seconds_min: rpa.seconds_min, seconds_max: rpa.seconds_max };
        self.figure(report, "Data loss", loss, report.objectives.rpo_seconds, rpo_met);
        let actuals = &report.actuals;
        let mut whose = Vec::new();
        if let Some(due) = report.clock.rto_due_at.filter(|_| report.rehearsal.is_none() && !report.outcome.ended()) {
            whose.push(format!("RTO runs out at {} UTC", words::instant(due, report.clock.run_started_at)));
        }
        if rpa.method != "unknown" {
            let bytes = rpa.bytes.map(|bytes| format!(", {}", words::bytes(bytes))).unwrap_or_default();
            whose.push(format!("loss by {}{bytes}", words::clean(&rpa.method)));
        }
        whose.extend([
            match actuals.rta_declared_seconds {
                Some(declared) => format!("declared to restored {}", words::seconds(declared)),
                None => format!("started to restored {}", words::seconds_or_unknown(actuals.rta_run_seconds)),
            },
            format!("steps {}", words::seconds_or_unknown(actuals.automation_seconds)),
            format!("checks between them {}", words::seconds_or_unknown(actuals.preparing_seconds)),
            format!("people {}", words::seconds_or_unknown(actuals.human_seconds)),
        ]);
        if let Some(away) = actuals.engine_away_seconds.filter(|away| *away > 0.0) {
            whose.push(format!("engine away at most {}", words::at_most(away)));
        }
        for line in wrap(&whose.join(" · "), self.width - 4) {
            let line = self.paint(Tone::Quiet, &line);
            self.line(&format!("    {line}"));
        }
    }

    fn figure(&mut self, report: &Report, name: &str, actual: Figure, objective: Option<f64>, met: Option<bool>) {
        let objective_words = objective.map_or_else(|| "no objective".to_owned(), |objective| format!("of {}", words::seconds(objective)));
        let mark = marks::of_met(met);
        let verdict = match (objective, met, &report.rehearsal) {
            (None, _, _) => String::new(),
            (Some(_), Some(true), Some(_)) => "◇ would do".to_owned(),
            (Some(_), Some(false), Some(_)) => "✗ would not do".to_owned(),
            (Some(_), None, _) if !report.outcome.ended() => "… open".to_owned(),
            (Some(_), _, _) => format!("{} {}", mark.sign, mark.word),
        };
        let verdict = self.paint(mark.tone, &verdict);
        let line = format!("    {name:<11}{:<25}{objective_words:<13}{verdict}", words::interval(actual));
        self.line(&line);
    }

    fn wanted(&mut self, report: &Report) {
        if report.wanted.is_empty() {
            return;
        }
        self.heading("What a person must do");
        for wanted in &report.wanted {
            let sign = self.paint(Tone::Attention, "‖");
            self.item(
                &sign,
                &format!("{}: {} (since {})", words::clean(&wanted.step), words::clean(&wanted.why), words::time_of_day(wanted.since)),
            );
            for command in &wanted.commands {
                self.line(&format!("      {}", words::clean(command)));
            }
        }
        for approval in
            report.approvals.iter().filter(|approval| approval.end == crate::report::ApprovalEnd::Open && !approval.shown.is_null())
        {
            self.item(
                " ",
                &format!("shown to approvers of {}: {}", words::clean(&approval.step), words::clean(&words::value(&approval.shown))),
            );
        }
    }

    fn notices(&mut self, report: &Report) {
        if report.notices.is_empty() {
            return;
        }
        self.heading("What to know");
        for notice in &report.notices {
            let mark = marks::of_level(notice.level);
            let sign = self.paint(mark.tone, &mark.sign.to_string());
            let step = notice.step.as_ref().map(|step| format!("{}: ", words::clean(step))).unwrap_or_default();
            self.item(&sign, &format!("{step}{}", words::clean(&notice.text)));
        }
    }

    fn clock(&mut self, report: &Report) {
        self.heading(&format!("Clock (UTC, {})", words::day(report.clock.run_started_at)));
        let mut moments = named_instants(report);
        moments.sort_by_key(|(at, _, _)| *at);
        for (at, name, because) in moments {
            let because = if because.is_empty() { String::new() } else { format!("  {}", words::clean(&because)) };
            let line = words::cut(&format!("    {}  {name:<26}{because}", words::instant(at, report.clock.run_started_at)), self.width);
            self.line(&line);
        }
    }

    fn steps(&mut self, report: &Report) {
        self.heading("Steps");
        let name_width = report.steps.iter().map(|step| step.id.len()).max().unwrap_or(0).clamp(4, 18);
        let type_width = report.steps.iter().map(|step| step.step_type.len()).max().unwrap_or(0).clamp(4, 16);
        let bar_width = self.width.saturating_sub(4 + 2 + name_width + 2 + type_width + 2 + 13 + 2 + 10 + 2);
        let span = span_of(&report.steps);
        let mut part = Part::Steps;
        for row in rows(&report.steps) {
            let step = match row {
                Row::Step(step) => step,
                Row::Unused(unused) => {
                    let mark = marks::of_state(StepState::Skipped);
                    let line = format!("{} {unused}", mark.sign);
                    let line = self.paint(mark.tone, &line);
                    self.line(&format!("    {line}"));
                    continue;
                }
            };
            if step.part != part {
                part = step.part;
                let finally = self.paint(Tone::Quiet, "finally");
                self.line(&format!("    {finally}"));
            }
            let mark = marks::of_state(step.state);
            let sign = self.paint(mark.tone, &mark.sign.to_string());
            let word = self.paint(mark.tone, &format!("{:<13}", mark.word));
            let took = if step.started_at.is_some() { words::seconds_or_unknown(step.duration_seconds) } else { String::new() };
            let (id, kind) = (words::cut(&words::clean(&step.id), name_width), words::cut(&words::clean(&step.step_type), type_width));
            let bar = span.map(|span| bar(step, span, bar_width)).unwrap_or_default();
            self.line(&format!("    {sign} {id:<name_width$}  {kind:<type_width$}  {word}  {took:>10}  {bar}"));
            if let Some(undo) = step.undo.as_ref().filter(|_| was_taken_back(step.state)) {
                self.line(&words::cut(&format!("      its undo is {}", words::clean(undo)), self.width));
            }
        }
        let doing: Vec<Doing> = report.steps.iter().flat_map(|step| step.segments.iter().map(|segment| segment.doing)).collect();
        let mut legend: Vec<String> = Vec::new();
        for (kind, words) in [
            (Doing::Working, "working"),
            (Doing::AwaitingApproval, "waiting for people"),
            (Doing::Held, "waiting for people"),
            (Doing::InDoubt, "outcome unknown"),
            (Doing::Backoff, "before a retry"),
            (Doing::Undoing, "undoing"),
        ] {
            let entry = format!("{} {words}", marks::of_doing(kind).sign);
            if doing.contains(&kind) && !legend.contains(&entry) {
                legend.push(entry);
            }
        }
        if legend.len() > 1 {
            let legend = self.paint(Tone::Quiet, &legend.join("   "));
            self.line(&format!("    {legend}"));
        }
        if report.critical_path.len() > 1 {
            let path = report.critical_path.iter().map(|id| words::clean(id)).collect::<Vec<_>>().join(" > ");
            self.item(" ", &format!("critical path: {path}"));
        }
    }

    fn decisions(&mut self, report: &Report) {
        self.heading("Who decided");
        for decision in &report.decisions {
            let step = decision.step.as_ref().map(|step| format!(" {}", words::clean(step))).unwrap_or_default();
            let comment = decision.comment.as_ref().map(|comment| format!(": \"{}\"", words::clean(comment))).unwrap_or_default();
            let line = format!("{} {}{step}{comment}", words::clean(&decision.by.name), decision.what);
            let at = words::instant(decision.at, report.clock.run_started_at);
            for (index, text) in wrap(&line, self.width - 18).into_iter().enumerate() {
                let lead = if index == 0 { at.clone() } else { " ".repeat(at.len()) };
                self.line(&format!("    {lead}  {text}"));
            }
        }
    }

    fn footer(&mut self, report: &Report) {
        self.out.push('\n');
        let structure = report.digests.structure.get(..12).unwrap_or(&report.digests.structure);
        let binding = report.digests.binding.get(..12).unwrap_or(&report.digests.binding);
        let line = format!(
            "    {} · structure {structure} · binding {binding}",
            words::count(report.journal_entries, "journal entry", "journal entries")
        );
        let line = self.paint(Tone::Quiet, &words::clean(&line));
        self.line(&line);
    }
}

/// Every named instant that is known, with how it is known.
pub(crate) fn named_instants(report: &Report) -> Vec<(Timestamp, &'static str, String)> {
    let clock = &report.clock;
    let mut all = Vec::new();
    if let Some(began) = &clock.outage_began_at {
        if began.earliest == began.latest {
            all.push((began.earliest, "service ended", began.method.clone()));
        } else {
            all.push((began.earliest, "service last seen working", began.method.clone()));
            all.push((began.latest, "service first seen failing", began.method.clone()));
        }
    }
    for (at, name) in [
        (clock.detected_at, "detected"),
        (clock.declared_at, "declared a disaster"),
        (Some(clock.run_started_at), "run admitted"),
        (clock.fenced_at, "old primary proven fenced"),
        (clock.promote_sent_at, "promotion asked for"),
        (clock.writable_at, "new primary took a write"),
        (clock.verified_at, "last check passed"),
        (clock.run_ended_at, "run ended"),
    ] {
        all.extend(at.map(|at| (at, name, String::new())));
    }
    for (moment, name) in [
        (&clock.not_restored_before, "not restored before"),
        (&clock.service_restored_at, "service seen working"),
        (&clock.clients_follow_by, "last client follows by"),
    ] {
        all.extend(moment.as_ref().map(|moment| (moment.at, name, moment.because.clone())));
    }
    all.sort_by_key(|(at, _, _)| *at);
    all
}

/// Whether an undo of it was begun, or was refused before that.
fn was_taken_back(state: StepState) -> bool {
    match state {
        StepState::Undoing | StepState::Undone | StepState::UndoFailed | StepState::UndoInDoubt => true,
        StepState::Waiting
        | StepState::AwaitingApproval
        | StepState::Running
        | StepState::Backoff
        | StepState::InDoubt
        | StepState::Held
        | StepState::Succeeded
        | StepState::Rejected
        | StepState::Failed
        | StepState::Skipped
        | StepState::NotRun => false,
    }
}

/// From the first to the last instant of any step.
fn span_of(steps: &[StepReport]) -> Option<(Timestamp, Timestamp)> {
    let segments = || steps.iter().flat_map(|step| &step.segments);
    let span = (segments().map(|segment| segment.from).min()?, segments().map(|segment| segment.to).max()?);
    (span.0 < span.1).then_some(span)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a bar's width, clamped to it")]
fn column(at: Timestamp, span: (Timestamp, Timestamp), width: usize) -> usize {
    let share = at.duration_since(span.0).as_secs_f64() / span.1.duration_since(span.0).as_secs_f64();
    (share.clamp(0.0, 1.0) * width as f64).floor().min(width as f64) as usize
}

/// A step's bar; anything that happened shows at least one cell.
fn bar(step: &StepReport, span: (Timestamp, Timestamp), width: usize) -> String {
    if width < 4 {
        return String::new();
    }
    let mut cells = vec![' '; width];
    for segment in &step.segments {
        let from = column(segment.from, span, width).min(width - 1);
        let to = column(segment.to, span, width).max(from + 1).min(width);
        let sign = marks::of_doing(segment.doing).sign;
        cells[from..to].fill(sign);
    }
    cells.into_iter().collect()
}

/// Lines of at most so many characters; longer words are broken.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + rest.len() > width {
            lines.push(String::new());
            used = 0;
        }
        if used > 0 {
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
            used += 1;
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            lines.last_mut().into_iter().for_each(|line| line.extend(rest.iter()));
            lines.push(String::new());
            rest = tail;
        }
        used += rest.len();
        lines.last_mut().into_iter().for_each(|line| line.extend(rest.iter()));
        if lines.last().is_some_and(String::is_empty) {
            used = 0;
        }
    }
    lines
}
