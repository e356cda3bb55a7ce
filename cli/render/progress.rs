//! Live progress of a foreground run on standard error: a block that is redrawn on a terminal, plain lines elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::StepId;
use lifeboat_engine::census::Found;
use lifeboat_engine::clock::Clock;
use lifeboat_engine::freeze::Freezes;
use lifeboat_engine::journal::{Entry, Event};
use lifeboat_engine::next::{Next, next};
use lifeboat_engine::predict;
use lifeboat_engine::proof::Proofs;
use lifeboat_engine::run::{Run, RunPhase, StepState};
use lifeboat_engine::unused::{self, Row};
use lifeboat_server::control::{BrakeKind, RunSummary};

use super::{status, words};
use crate::args::When;

/// Steps drawn at most on a terminal; the rest is counted.
const ROWS_MAX: usize = 30;

/// Follows one run.
pub(crate) struct Progress {
    run: Run,
    words: BTreeMap<StepId, String>,
    clock: Arc<dyn Clock>,
    command: String,
    drawn_rows: usize,
    terminal: bool,
    colour: bool,
    told_waiting: Vec<String>,
    /// Lists whose unused places were told.
    told_unused: BTreeSet<StepId>,
    proofs: Proofs,
    /// A freeze that the journal still tells of was lifted while nobody drove the run; its executor is about to journal that.
    thaw_due: bool,
}

impl Progress {
    /// `command` is how a person calls this program from anywhere: with its inventory and data folder.
    pub(crate) fn new(run: Run, proofs: Proofs, clock: Arc<dyn Clock>, command: String, color: When) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colour = match color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        let told_waiting = Vec::new();
        Self {
            run,
            words: BTreeMap::new(),
            clock,
            command,
            drawn_rows: 0,
            terminal,
            colour,
            told_waiting,
            told_unused: BTreeSet::new(),
            proofs,
            thaw_due: false,
        }
    }

    /// What is frozen now. What the journal still takes for frozen and is not, needs nobody.
    pub(crate) fn knows_freezes(&mut self, freezes: &Freezes) {
        self.thaw_due = self.run.frozen.iter().any(|met| !freezes.in_force.contains_key(&met.resource));
    }

    pub(crate) fn begin(&mut self) {
        self.draw();
        // A run that is taken over may wait already, and then no entry comes to tell it.
        self.tell_waiting();
    }

    /// Whether only a person can help now.
    pub(crate) fn needs_person(&self) -> bool {
        let asks = self.run.steps.values().any(|step| step.state == StepState::AwaitingApproval);
        let acts = self.run.steps.values().any(|step| step.state.is_open() || step.state == StepState::Backoff);
        self.run.phase == RunPhase::Held || ((asks || self.is_braked()) && !acts)
    }

    /// Whether a pause or a freeze keeps the run from going on.
    fn is_braked(&self) -> bool {
        let braked = self.run.paused.is_some() || (!self.run.frozen.is_empty() && !self.thaw_due);
        braked && self.run.phase != RunPhase::Ended && next(&self.run, self.clock.now(), &BTreeSet::new()) == Next::default()
    }

    /// Something was journaled.
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.thaw_due &= !matches!(entry.event, Event::RunThawed { .. });
        // What does not follow was missed: the next `replace` mends it.
        let _ = self.run.apply(entry);
        if let Some(step) = entry.event.step() {
            self.words.remove(step);
        }
        if self.terminal {
            self.draw();
        } else if let Some(line) = self.line(entry) {
            self.write(&format!("{line}\n"));
        }
        self.tell_waiting();
    }

    pub(crate) fn words(&mut self, step: &StepId, words: &str) {
        self.words.insert(step.clone(), words.to_owned());
        if self.terminal {
            self.draw();
        } else {
            self.write(&format!("{} {step}: {}\n", self.elapsed(), words::clean(words)));
        }
    }

    pub(crate) fn replace(&mut self, run: Run) {
        self.run = run;
        self.tick();
    }

    pub(crate) fn tick(&mut self) {
        if self.terminal {
            self.draw();
        }
    }

    /// Ends the block, so that other lines may follow.
    pub(crate) fn pause(&mut self) {
        self.drawn_rows = 0;
    }

    pub(crate) fn finish(&mut self) {
        self.tick();
        self.drawn_rows = 0;
        if self.terminal {
            self.write("\n");
        }
    }

    fn tell_waiting(&mut self) {
        let summary = RunSummary::of(&self.run);
        let now: Vec<String> = summary.waiting.iter().map(|waiting| format!("{}{:?}", waiting.step, waiting.state)).collect();
        let now: Vec<String> = now.into_iter().chain(summary.brakes.iter().map(|brake| format!("{brake:?}"))).collect();
        if now == self.told_waiting || !self.needs_person() {
            return;
        }
        self.told_waiting = now;
        let mut text = String::from("\nThis run needs a person.\n");
        for waiting in &summary.waiting {
            let _ = writeln!(text, "  {} is {}: {}", waiting.step, words::state(waiting.state), words::clean(&waiting.why));
            let asked = StepId::new(&waiting.step).ok().and_then(|id| self.run.steps.get(&id)).and_then(|step| step.ask.as_ref());
            if let Some(ask) = asked.filter(|_| waiting.state == StepState::AwaitingApproval) {
                status::facts(&mut text, &ask.shown, "      ");
            }
            let act = if waiting.state == StepState::AwaitingApproval {
                format!("approve {} {} --comment \"...\"", self.run.id, waiting.step)
            } else {
                format!("resolve {} {} retry|done|skip|give-up --comment \"...\"", self.run.id, waiting.step)
            };
            let _ = writeln!(text, "  in another terminal:  {} {act}", self.command);
        }
        for brake in &summary.brakes {
            let act = match (brake.kind, &brake.resource) {
                (BrakeKind::Paused, _) => format!("continue {}", self.run.id),
                (BrakeKind::Frozen, Some(resource)) => format!("unfreeze {resource}"),
                (BrakeKind::Frozen, None) => "unfreeze".to_owned(),
            };
            let _ = writeln!(text, "  {}", super::runs::braked(brake));
            if brake.by.is_some() {
                let _ = writeln!(text, "  in another terminal:  {} {act} --comment \"...\"", self.command);
            }
        }
        self.pause();
        self.write(&text);
        if self.terminal {
            self.draw();
        }
    }

    fn elapsed(&self) -> String {
        words::length(self.since(self.run.admitted_at))
    }

    fn since(&self, from: Option<Timestamp>) -> Duration {
        let until = self.run.ended_at.unwrap_or_else(|| self.clock.now());
        from.map_or(Duration::ZERO, |from| Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO))
    }

    /// What is left of the RTO, counted from the earliest known beginning of the outage.
    fn objective(&self) -> String {
        let rto = self.run.plan.objectives.rto_ms.map(Duration::from_millis);
        let left = predict::left(&self.run, &self.proofs, self.clock.now());
        let rto = match (rto, left) {
            (rto, Some(left)) => {
                let began = self
                    .run
                    .incident
                    .outage_began
                    .map(|(earliest, _)| earliest)
                    .or_else(|| self.measured_outage())
                    .or(self.run.admitted_at);
                return super::predicted::left(&left, self.since(began), rto);
            }
            (Some(rto), None) => rto,
            (None, None) => return String::new(),
        };
        let began =
            self.run.incident.outage_began.map(|(earliest, _)| earliest).or_else(|| self.measured_outage()).or(self.run.admitted_at);
        let used = self.since(began);
        match rto.checked_sub(used) {
            Some(left) => format!("{} left of the RTO of {}", words::length(left), words::length(rto)),
            None => format!("RTO of {} MISSED by {}", words::length(rto), words::length(used.saturating_sub(rto))),
        }
    }

    fn measured_outage(&self) -> Option<Timestamp> {
        self.run.steps.values().flat_map(|step| &step.measures).find_map(|measure| match measure {
            lifeboat_engine::Measure::OutageBegan { earliest, .. } => Some(*earliest),
            lifeboat_engine::Measure::NotRestoredBefore { .. }
            | lifeboat_engine::Measure::ClientsFollowBy { .. }
            | lifeboat_engine::Measure::ServiceRestored { .. }
            | lifeboat_engine::Measure::Verified { .. }
            | lifeboat_engine::Measure::Fenced { .. }
            | lifeboat_engine::Measure::PromoteSent { .. }
            | lifeboat_engine::Measure::Writable { .. }
            | lifeboat_engine::Measure::ExpectedLoss(_)
            | lifeboat_engine::Measure::Loss(_) => None,
        })
    }

    fn draw(&mut self) {
        if !self.terminal {
            return;
        }
        let mut text = String::new();
        if self.drawn_rows > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn_rows);
        }
        let mut rows = vec![format!("{}  {}  {}  {}", self.run.plan.runbook, self.run.phase.word(), self.elapsed(), self.objective())];
        let mut more = self.run.plan.steps.len() + self.run.plan.finally.len();
        for row in unused::rows(&self.run).take(ROWS_MAX) {
            let step = match row {
                Row::Step(step) => {
                    more -= 1;
                    step
                }
                Row::Unused(unused) => {
                    more -= unused.steps;
                    let row = format!(" {} {unused}", words::mark(StepState::Skipped));
                    rows.push(if self.colour { painted(StepState::Skipped, &row) } else { row });
                    continue;
                }
            };
            let Some(record) = self.run.steps.get(&step.id) else { continue };
            let took = match record.state {
                StepState::Waiting | StepState::Skipped | StepState::NotRun => String::new(),
                StepState::Running | StepState::AwaitingApproval | StepState::Backoff | StepState::InDoubt | StepState::Undoing => {
                    words::length(self.since(record.started_at))
                }
                StepState::Succeeded
                | StepState::Rejected
                | StepState::Failed
                | StepState::Held
                | StepState::Undone
                | StepState::UndoFailed
                | StepState::UndoInDoubt => record.started_at.zip(record.changed_at).map_or(String::new(), |(from, to)| {
                    words::length(Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO))
                }),
            };
            let says = self
                .words
                .get(&step.id)
                .map(|words| words::clean(words))
                .or_else(|| record.why.as_deref().filter(|_| record.state != StepState::Succeeded).map(words::clean))
                .unwrap_or_default();
            let row =
                format!(" {} {:<18} {:<22} {:>9}  {says}", words::mark(record.state), step.id.as_str(), words::state(record.state), took);
            rows.push(if self.colour { painted(record.state, &row) } else { row });
        }
        if more > 0 {
            rows.push(format!(" … and {more} more steps"));
        }
        let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col)).max(40);
        for row in &rows {
            let _ = writeln!(text, "\x1b[2K{}", cut(row, columns));
        }
        self.write(&text);
        self.drawn_rows = rows.len();
    }

    fn write(&self, text: &str) {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn line(&mut self, entry: &Entry) -> Option<String> {
        let step = entry.event.step();
        if let Event::StepSkipped { step, .. } = &entry.event
            && let Some(unused) = self.run.plan.step(step).and_then(|step| unused::told_by(&self.run, step))
        {
            // One line for all unused places of a list, when the first of them is left out.
            return self.told_unused.insert(unused.list.clone()).then(|| format!("{} {unused}{}", self.elapsed(), self.behind()));
        }
        let said = match (step, &entry.event) {
            (_, Event::RunEnded { outcome, why }) => format!("run {}: {why}", super::runs::outcome_word(*outcome)),
            (_, Event::RunHeld { why }) => format!("run held: {why}"),
            (_, Event::RunPaused { by, comment }) => format!("run paused by {}: {}", by.name(), words::clean(comment)),
            (_, Event::RunContinued { by, comment }) => format!("run goes on, says {}: {}", by.name(), words::clean(comment)),
            (_, Event::RunFrozen { resource, why, .. }) => {
                format!("{} is frozen: {}", resource.as_deref().unwrap_or("everything"), words::clean(why))
            }
            (_, Event::RunThawed { resource, why, .. }) => {
                format!("{} is no longer frozen: {}", resource.as_deref().unwrap_or("everything"), words::clean(why))
            }
            (_, Event::PeersListed { moment, listings }) => {
                let things = listings.iter().map(|listing| if let Found::Things(things) = &listing.found { things.len() } else { 0 });
                format!("{} things listed {}", things.sum::<usize>(), moment.words())
            }
            (Some(step), _) => {
                let record = self.run.steps.get(step)?;
                let why = record
                    .why
                    .as_deref()
                    .filter(|_| record.state != StepState::Succeeded && record.state != StepState::Running)
                    .map(|why| format!(": {}", words::clean(why)))
                    .unwrap_or_default();
                format!("{} {step} {}{why}", words::mark(record.state), words::state(record.state))
            }
            (None, _) => return None,
        };
        Some(format!("{} {said}{}", self.elapsed(), self.behind()))
    }

    /// What stands at the end of each line: the objective, where there is one.
    fn behind(&self) -> String {
        let objective = self.objective();
        if objective.is_empty() { objective } else { format!("  [{objective}]") }
    }
}

/// Cuts a row to the width of the terminal, and shows that it did; escape codes take no room.
fn cut(row: &str, columns: usize) -> String {
    let mut escape = false;
    let mut is_shown = |c: char| {
        if c == '\x1b' {
            escape = true;
        }
        let shown = !escape;
        escape = escape && c != 'm';
        shown
    };
    let marked: Vec<(char, bool)> = row.chars().map(|c| (c, is_shown(c))).collect();
    let width = marked.iter().filter(|(_, shown)| *shown).count();
    let fits = columns.saturating_sub(1);
    if width <= fits {
        return row.to_owned();
    }
    let mut kept = String::new();
    let mut at = 0;
    for (c, shown) in marked {
        if shown {
            at += 1;
        }
        match (shown, at.cmp(&fits)) {
            (false, _) | (true, std::cmp::Ordering::Less) => kept.push(c),
            (true, std::cmp::Ordering::Equal) => kept.push('…'),
            (true, std::cmp::Ordering::Greater) => {}
        }
    }
    kept
}

fn painted(state: StepState, row: &str) -> String {
    let code = match state {
        StepState::Succeeded | StepState::Undone => "32",
        StepState::Failed | StepState::Rejected | StepState::UndoFailed => "31",
        StepState::Held | StepState::AwaitingApproval | StepState::InDoubt | StepState::UndoInDoubt | StepState::Backoff => "33",
        StepState::Running | StepState::Undoing => "36",
        StepState::Waiting | StepState::Skipped | StepState::NotRun => "90",
    };
    format!("\x1b[{code}m{row}\x1b[0m")
}
