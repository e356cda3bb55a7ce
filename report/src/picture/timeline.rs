//! The timeline of a run: the outage, the named instants, and a bar for each step. Figures are made in `judge`.

use std::fmt::Write as _;

use jiff::Timestamp;
use lifeboat_engine::unused::Row;

use super::theme::{hatchings, icon, label, n, open, text_width};
use crate::marks;
use crate::report::{Doing, Part, Report, StepReport, Stop};
use crate::rows::rows;
use crate::words::{cut, escape, instant, interval, seconds, time_of_day};

/// Most steps drawn: those that ran are drawn first. A picture of more could not be read.
const TIMELINE_STEPS_MAX: usize = 150;

/// For how wide a place it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A desktop: names stand left of the bars.
    Wide,
    /// A phone: names stand above the bars.
    Narrow,
}

/// The timeline as one self-contained SVG: a bar for each step, waits for people and doubt hatched apart, retries numbered, the
/// engine's absence as grey bands, pauses and freezes as rows of their own, the outage with its unsure ends, and the recovery time objective as a line.
#[must_use]
pub fn timeline_svg(report: &Report) -> String {
    draw(report, Room::Wide)
}

/// The same for a given room.
pub(crate) fn draw(report: &Report, room: Room) -> String {
    let mut chart = Chart::new(report, room);
    chart.instants();
    chart.outage();
    chart.stops();
    chart.bars();
    chart.legend();
    chart.finish()
}

/// How the time looks in which a step could have begun and was prepared.
const READY: &str = "class=\"s-active faint ready\"";

const TICKS_MAX: f64 = 9.0;

/// Most rows for pauses and freezes; the page tells of the others in words.
const STOP_ROWS_MAX: usize = 6;

struct Chart<'a> {
    report: &'a Report,
    room: Room,
    own: &'static str,
    from: Timestamp,
    span: f64,
    /// Left end of the time axis and its length.
    axis: (f64, f64),
    width: f64,
    y: f64,
    out: String,
    /// Drawn over everything that is below the axis.
    overlay: String,
    top: f64,
    /// Where the last row ends: the legend below is not crossed by lines.
    bottom: f64,
}

impl<'a> Chart<'a> {
    fn new(report: &'a Report, room: Room) -> Self {
        let (width, left, right, own) = match room {
            Room::Wide => (960.0, 170.0, 92.0, "w"),
            Room::Narrow => (360.0, 12.0, 14.0, "n"),
        };
        let (from, to) = extent(report);
        let span = (to.duration_since(from).as_secs_f64() * 1.02).max(0.001);
        Self {
            report,
            room,
            own,
            from,
            span,
            axis: (left, width - left - right),
            width,
            y: 14.0,
            out: String::new(),
            overlay: String::new(),
            top: 0.0,
            bottom: 0.0,
        }
    }

    fn x(&self, at: Timestamp) -> f64 {
        self.axis.0 + (at.duration_since(self.from).as_secs_f64() / self.span).clamp(0.0, 1.0) * self.axis.1
    }

    fn right(&self) -> f64 {
        self.axis.0 + self.axis.1
    }

    /// Flags above the axis, in as many lanes as needed so that no two touch; where lanes run out, the page's table tells the rest.
    fn instants(&mut self) {
        let mut flags: Vec<(Timestamp, String, &str)> =
            flags(self.report).into_iter().map(|(at, name)| (at, name.to_owned(), "dim")).collect();
        flags.extend(self.due().filter(|(at, _)| self.shows(*at)).map(|(at, name)| (at, name, "t-bad")));
        flags.sort_by_key(|(at, _, _)| *at);
        let lanes_max = match self.room {
            Room::Wide => 4,
            Room::Narrow => 6,
        };
        let mut lanes: Vec<f64> = Vec::new();
        let mut placed = Vec::new();
        for (at, name, tone) in flags {
            let x = self.x(at);
            let width = text_width(&name, 11.0) + 10.0;
            let start = if x + width > self.width - 4.0 { (x - width).max(2.0) } else { x };
            let lane = lanes.iter().position(|used| *used <= start).or_else(|| {
                (lanes.len() < lanes_max).then(|| {
                    lanes.push(0.0);
                    lanes.len() - 1
                })
            });
            if let Some(lane) = lane {
                lanes[lane] = start.max(x) + if start < x { 0.0 } else { width };
                placed.push((x, start, lane, name, at, tone));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few lanes")]
        let bottom = self.y + lanes.len() as f64 * 17.0 + 6.0;
        self.top = bottom;
        for (x, start, lane, name, at, tone) in placed {
            #[expect(clippy::cast_precision_loss, reason = "a few lanes")]
            let y = self.y + lane as f64 * 17.0 + 8.0;
            let _ = writeln!(self.overlay, "<path class=\"line hair\" d=\"M{} {}V@BOTTOM@\"/>", n(x), n(y - 8.0));
            let (at_x, class) = if start < x { (x - 5.0, format!("{tone} small end")) } else { (x + 5.0, format!("{tone} small")) };
            let _ = write!(self.out, "<g><title>{}</title>", escape(&format!("{name}: {}", time_of_day(at))));
            self.out.push_str(&label(at_x, y + 3.0, &class, &name));
            self.out.push_str("</g>\n");
        }
        self.y = bottom;
        self.ticks();
    }

    fn ticks(&mut self) {
        let y = self.y + 14.0;
        let step = nice(self.span / if self.room == Room::Wide { TICKS_MAX } else { 4.0 });
        let mut at = 0.0;
        while at <= self.span {
            let x = self.axis.0 + at / self.span * self.axis.1;
            let _ = writeln!(self.overlay, "<path class=\"line soft\" d=\"M{} {}V@BOTTOM@\"/>", n(x), n(y + 5.0));
            let text = if at == 0.0 { "0".to_owned() } else { seconds(at) };
            self.out.push_str(&label(x, y, "dim small mid", &text));
            at += step;
        }
        if self.room == Room::Wide {
            self.out.push_str(&label(14.0, y, "dim small", &format!("from {} UTC", instant(self.from, self.report.clock.run_started_at))));
        }
        self.y = y + 8.0;
    }

    /// Surely out, perhaps out, and back. Nothing is drawn where nothing was seen.
    fn outage(&mut self) {
        let clock = &self.report.clock;
        let (title, words) = match &self.report.rehearsal {
            Some(rehearsal) => ("Drill time", interval(rehearsal.recovery)),
            None => ("Outage", interval(self.report.actuals.rta_outage)),
        };
        let y = self.row(title, &words, None);
        let Some(began) = clock.outage_began_at.clone() else {
            self.out.push_str(&label(self.axis.0 + 6.0, y + 13.0, "dim", "nobody saw when service ended"));
            return;
        };
        let served = self.served_by();
        let sure_end = clock.not_restored_before.as_ref().map_or(began.latest, |moment| moment.at).max(began.latest);
        let sure_end = served.map_or(sure_end, |served| sure_end.min(served));
        let end = served.unwrap_or(self.report.as_of).max(sure_end);
        self.piece(y, began.earliest, began.latest, "unsure", "service ended somewhere in here");
        self.piece(y, began.latest, sure_end, "f-bad", "service was out");
        let (low, high) = (self.x(began.latest), self.x(sure_end));
        if self.room == Room::Wide && high - low > text_width(&words, 12.0) + 16.0 {
            self.out.push_str(&label(f64::midpoint(low, high), y + 13.5, "onfill mid", &words));
        }
        match served {
            Some(served) => {
                self.piece(y, sure_end, served, "unsure", "service came back somewhere in here");
                let (x, right) = (self.x(served), self.right());
                let _ = writeln!(
                    self.out,
                    "<rect class=\"f-good soft\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"18\" rx=\"3\"/>",
                    n(x),
                    n(y),
                    n((right - x).max(0.0))
                );
                if right - x > 70.0 {
                    self.out.push_str(&label(x + 6.0, y + 13.0, "t-good small", "service"));
                }
            }
            None => {
                self.piece(y, sure_end, end, "unsure", "nobody saw service again");
            }
        }
        self.objective(y);
    }

    fn served_by(&self) -> Option<Timestamp> {
        let clock = &self.report.clock;
        let restored = clock.service_restored_at.as_ref()?.at;
        Some(
            [&clock.clients_follow_by, &clock.not_restored_before]
                .into_iter()
                .flatten()
                .map(|moment| moment.at)
                .fold(restored, Timestamp::max),
        )
    }

    /// When the objective ends, if it is on the picture.
    fn due(&self) -> Option<(Timestamp, String)> {
        let due = self.report.clock.rto_due_at?;
        let name = if self.report.rehearsal.is_some() { "objective" } else { "RTO" };
        Some((due, format!("{name} {}", seconds(self.report.objectives.rto_seconds?))))
    }

    /// The recovery time objective as a line, or that it lies beyond the picture.
    fn objective(&mut self, y: f64) {
        let Some((due, name)) = self.due() else { return };
        if self.shows(due) {
            let x = self.x(due);
            let _ = writeln!(self.overlay, "<path class=\"return bold\" d=\"M{} {}V@BOTTOM@\"/>", n(x), n(y - 4.0));
        } else if self.room == Room::Wide {
            self.out.push_str(&label(self.right() + 6.0, y + 13.0, "t-bad small", &format!("{name} →")));
        }
    }

    fn shows(&self, at: Timestamp) -> bool {
        at.duration_since(self.from).as_secs_f64() <= self.span
    }

    fn piece(&mut self, y: f64, from: Timestamp, to: Timestamp, look: &str, title: &str) {
        let (x, end) = (self.x(from), self.x(to));
        if to <= from {
            return;
        }
        let fill = if look == "unsure" { format!("fill=\"url(#{}-unsure)\"", self.own) } else { format!("class=\"{look}\"") };
        let title = escape(&format!("{title}: {} to {}", time_of_day(from), time_of_day(to)));
        let _ = writeln!(
            self.out,
            "<rect {fill} x=\"{}\" y=\"{}\" width=\"{}\" height=\"18\" rx=\"2\"><title>{title}</title></rect>",
            n(x),
            n(y),
            n((end - x).max(1.5))
        );
    }

    /// Begins a row; the answer is where its bar stands.
    fn row(&mut self, name: &str, beside: &str, mark: Option<marks::Mark>) -> f64 {
        match self.room {
            Room::Wide => {
                let y = self.y + 6.0;
                let text_x = if let Some(mark) = mark {
                    self.out.push_str(&icon(24.0, y + 9.0, mark));
                    42.0
                } else {
                    14.0
                };
                self.out.push_str(&label(text_x, y + 13.5, "id", &cut(name, 18)));
                self.y = y + 24.0;
                y
            }
            Room::Narrow => {
                let y = self.y + 28.0;
                let text_x = if let Some(mark) = mark {
                    self.out.push_str(&icon(21.0, y - 12.0, mark));
                    38.0
                } else {
                    12.0
                };
                self.out.push_str(&label(text_x, y - 7.5, "id", &cut(name, 26)));
                self.out.push_str(&label(self.width - 10.0, y - 7.5, "dim end halo", beside));
                self.y = y + 22.0;
                y
            }
        }
    }

    /// Pauses and freezes: a row for each thing that was held back, and a band across all steps where everything was.
    fn stops(&mut self) {
        let mut rows: Vec<(&str, Option<&str>)> = Vec::new();
        for stop in &self.report.stops {
            let row = (stop.kind.as_str(), stop.resource.as_deref());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        for (kind, resource) in rows.into_iter().take(STOP_ROWS_MAX) {
            let whole = if kind == "paused" { "run" } else { "everything" };
            let name = format!("{} {kind}", resource.unwrap_or(whole));
            let of_row = |stop: &&Stop| stop.kind == kind && stop.resource.as_deref() == resource;
            let stops: Vec<Stop> = self.report.stops.iter().filter(of_row).cloned().collect();
            let words = seconds(stops.iter().filter_map(|stop| stop.seconds).sum());
            let y = self.row(&name, &words, None);
            let mut end = self.axis.0;
            for stop in &stops {
                end = end.max(self.stop(y, stop));
            }
            if self.room == Room::Wide {
                self.out.push_str(&label(end + 7.0, y + 13.5, "dim small halo", &words));
            }
        }
    }

    fn stop(&mut self, y: f64, stop: &Stop) -> f64 {
        let (x, end) = (self.x(stop.from), self.x(stop.to.unwrap_or(self.report.as_of)));
        let width = (end - x).max(2.0);
        let by = stop.by.as_ref().map_or_else(String::new, |by| format!(" by {}", by.name));
        let until = stop.to.map_or_else(|| "still so".to_owned(), |to| format!("to {}", time_of_day(to)));
        let title = escape(&format!("{}{by}: {} {until}: {}", stop.kind, time_of_day(stop.from), stop.why));
        let rect = |look: &str, y: &str, height: &str, round: &str| {
            format!(
                "<rect {look} x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{height}\"{round}><title>{title}</title></rect>\n",
                n(x),
                n(width)
            )
        };
        self.out.push_str(&rect(&format!("fill=\"url(#{}-stopped)\"", self.own), &n(y), "18", " rx=\"2.5\""));
        if stop.resource.is_none() {
            self.overlay.push_str(&rect("class=\"halt\"", "@TOP@", "@HEIGHT@", ""));
        }
        x + width
    }

    fn bars(&mut self) {
        for resume in &self.report.resumes {
            let (x, end) = (self.x(resume.band.from), self.x(resume.band.to));
            let _ = writeln!(
                self.overlay,
                "<rect class=\"away\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"@HEIGHT@\"><title>the engine was away for at most {}</title></rect>",
                n(x),
                n(self.y),
                n((end - x).max(1.0)),
                resume.away_seconds_max.map_or_else(|| "an unknown time".to_owned(), crate::words::at_most)
            );
        }
        self.top = self.y;
        let all = rows(&self.report.steps);
        let ran = |row: &Row<&StepReport>| matches!(row, Row::Step(step) if !step.segments.is_empty());
        let few = all.len() <= TIMELINE_STEPS_MAX;
        let shown: Vec<&Row<&StepReport>> = all.iter().filter(|row| few || ran(row)).take(TIMELINE_STEPS_MAX).collect();
        let mut part = Part::Steps;
        for row in &shown {
            let step = match row {
                Row::Step(step) => *step,
                Row::Unused(unused) => {
                    self.y += 18.0;
                    let x = if self.room == Room::Wide { 42.0 } else { 38.0 };
                    self.out.push_str(&label(x, self.y, "dim", &unused.to_string()));
                    self.y += 6.0;
                    continue;
                }
            };
            if step.part != part {
                part = step.part;
                self.y += 6.0;
                let _ = writeln!(self.out, "<path class=\"line hair\" d=\"M8 {}H{}\"/>", n(self.y), n(self.width - 8.0));
            }
            self.step(step);
        }
        if shown.len() < all.len() {
            self.y += 16.0;
            let more = format!("and {} more steps, in the table", all.len() - shown.len());
            self.out.push_str(&label(14.0, self.y, "dim", &more));
            self.y += 6.0;
        }
    }

    fn step(&mut self, step: &StepReport) {
        let mark = marks::of_state(step.state);
        let took = step.duration_seconds.filter(|_| step.started_at.is_some()).map(seconds);
        let words = took.clone().unwrap_or_else(|| mark.word.to_owned());
        let y = self.row(&step.id, &words, Some(mark));
        if self.room == Room::Narrow && step.segments.is_empty() {
            // Nothing to draw: the name is row enough.
            self.y -= 24.0;
            return;
        }
        let _ = writeln!(self.out, "<path class=\"line soft\" d=\"M{} {}H{}\"/>", n(self.axis.0), n(y + 20.5), n(self.right()));
        let mut end = self.axis.0;
        if let (Some(ready), Some(started)) = (step.ready_at, step.started_at)
            && ready < started
        {
            let title = escape(&format!("checks before it acted: {}", seconds(started.duration_since(ready).as_secs_f64())));
            let (x, to) = (self.x(ready), self.x(started));
            let _ = writeln!(self.out, "<path {READY} d=\"M{} {}H{}\"><title>{title}</title></path>", n(x), n(y + 9.0), n(to));
        }
        for segment in &step.segments {
            let (x, to) = (self.x(segment.from), self.x(segment.to));
            let width = (to - x).max(2.0);
            let title = escape(&format!(
                "{}: {} to {}, {}",
                marks::of_doing(segment.doing).word,
                time_of_day(segment.from),
                time_of_day(segment.to),
                seconds(segment.to.duration_since(segment.from).as_secs_f64())
            ));
            let look = match segment.doing {
                Doing::Working if step.critical => "class=\"f-active\"".to_owned(),
                Doing::Working => "class=\"f-active faint\"".to_owned(),
                Doing::AwaitingApproval | Doing::Held => format!("fill=\"url(#{}-people)\"", self.own),
                Doing::InDoubt => format!("fill=\"url(#{}-doubt)\"", self.own),
                Doing::Undoing => format!("fill=\"url(#{}-undo)\"", self.own),
                Doing::Backoff => {
                    let _ = writeln!(
                        self.out,
                        "<path class=\"wire maybe\" d=\"M{} {}H{}\"><title>{title}</title></path>",
                        n(x),
                        n(y + 9.0),
                        n(x + width)
                    );
                    end = end.max(x + width);
                    continue;
                }
            };
            let _ = writeln!(
                self.out,
                "<rect {look} x=\"{}\" y=\"{}\" width=\"{}\" height=\"18\" rx=\"2.5\"><title>{title}</title></rect>",
                n(x),
                n(y),
                n(width)
            );
            if segment.doing == Doing::Working && step.attempts > 1 && width > 13.0 {
                self.out.push_str(&label(x + 6.0, y + 13.5, "onfill small mid", &segment.attempt.to_string()));
            }
            end = end.max(x + width);
        }
        if self.room == Room::Wide {
            let text = took.unwrap_or_else(|| mark.word.to_owned());
            self.out.push_str(&label(end + 7.0, y + 13.5, "dim small halo", &text));
        }
    }

    fn legend(&mut self) {
        let has = |doing: Doing| self.report.steps.iter().any(|step| step.segments.iter().any(|segment| segment.doing == doing));
        let prepared = |step: &&StepReport| {
            step.ready_at
                .zip(step.started_at)
                .is_some_and(|(ready, started)| started.duration_since(ready).as_secs_f64() > self.span / 200.0)
        };
        let pattern = |name: &str| format!("fill=\"url(#{}-{name})\"", self.own);
        let mut items: Vec<(String, &str)> = Vec::new();
        let critical =
            self.report.steps.iter().any(|step| !step.critical && step.segments.iter().any(|segment| segment.doing == Doing::Working));
        if has(Doing::Working) {
            items.push(("class=\"f-active\"".to_owned(), if critical { "working, on the critical path" } else { "working" }));
        }
        if critical {
            items.push(("class=\"f-active faint\"".to_owned(), "working, elsewhere"));
        }
        if self.report.steps.iter().any(|step| prepared(&step)) {
            items.push((READY.to_owned(), "checks before acting"));
        }
        if has(Doing::AwaitingApproval) || has(Doing::Held) {
            items.push((pattern("people"), "waiting for people"));
        }
        if has(Doing::InDoubt) {
            items.push((pattern("doubt"), "outcome unknown, looking"));
        }
        if has(Doing::Undoing) {
            items.push((pattern("undo"), "undoing"));
        }
        if !self.report.stops.is_empty() {
            items.push((pattern("stopped"), "paused or frozen"));
        }
        if !self.report.resumes.is_empty() {
            items.push(("class=\"away\"".to_owned(), "engine away"));
        }
        if self.report.clock.outage_began_at.is_some() {
            items.push((pattern("unsure"), "out or not: between observations"));
        }
        self.bottom = self.y + 2.0;
        self.y += 24.0;
        let mut x = 14.0;
        for (look, words) in items {
            let width = 18.0 + text_width(words, 11.0) + 18.0;
            if x > 14.0 && x + width > self.width {
                (x, self.y) = (14.0, self.y + 18.0);
            }
            if look == READY {
                let _ = writeln!(self.out, "<path {READY} d=\"M{} {}h12\"/>", n(x), n(self.y - 4.0));
            } else {
                let _ = writeln!(self.out, "<rect {look} x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" rx=\"2\"/>", n(x), n(self.y - 10.0));
            }
            self.out.push_str(&label(x + 18.0, self.y, "dim small", words));
            x += width;
        }
    }

    fn finish(self) -> String {
        let height = self.y + 14.0;
        let bottom = self.bottom;
        let overlay = self.overlay.replace("@BOTTOM@", &n(bottom)).replace("@HEIGHT@", &n((bottom - self.top).max(0.0)));
        let overlay = overlay.replace("@TOP@", &n(self.top));
        let title = format!("Timeline of {}", self.report.run);
        format!("{}{}{overlay}{}</svg>\n", open(self.width, height, &title), hatchings(self.own), self.out)
    }
}

/// From the first to the last instant that is drawn.
fn extent(report: &Report) -> (Timestamp, Timestamp) {
    let clock = &report.clock;
    let mut instants = vec![clock.run_started_at, report.as_of];
    // An outage that began days ago would press everything else into a line; then the picture starts with the run.
    let near = |at: &Timestamp| at.duration_since(clock.run_started_at).as_secs_f64().abs() < 24.0 * 3600.0;
    instants.extend(clock.outage_began_at.as_ref().map(|began| began.earliest).filter(near));
    instants.extend([clock.detected_at, clock.declared_at].into_iter().flatten().filter(near));
    instants.extend([&clock.service_restored_at, &clock.clients_follow_by].into_iter().flatten().map(|moment| moment.at).filter(near));
    for segment in report.steps.iter().flat_map(|step| &step.segments) {
        instants.extend([segment.from, segment.to]);
    }
    let from = instants.iter().copied().min().unwrap_or(report.as_of);
    let to = instants.iter().copied().max().unwrap_or(report.as_of);
    // The objective is drawn to scale where that leaves the run at least five eighths of the picture.
    let length = to.duration_since(from).as_secs_f64();
    match report.clock.rto_due_at {
        Some(due) if due > to && due.duration_since(from).as_secs_f64() <= length * 1.6 => (from, due),
        Some(_) | None => (from, to),
    }
}

/// The instants worth a flag, in order; each name once.
fn flags(report: &Report) -> Vec<(Timestamp, &'static str)> {
    let clock = &report.clock;
    let mut flags: Vec<(Timestamp, &'static str)> = [
        (clock.detected_at, "detected"),
        (clock.declared_at, "declared"),
        (Some(clock.run_started_at).filter(|at| clock.declared_at.is_none_or(|declared| declared != *at)), "run admitted"),
        (clock.fenced_at, "fenced"),
        (clock.promote_sent_at, "promote sent"),
        (clock.writable_at, "writable"),
        (clock.service_restored_at.as_ref().map(|moment| moment.at), "restored"),
        (clock.verified_at, "verified"),
    ]
    .into_iter()
    .filter_map(|(at, name)| at.map(|at| (at, name)))
    .collect();
    flags.sort_by_key(|(at, _)| *at);
    flags
}

/// 1, 2 or 5 times a power of ten below a minute; above it, lengths that clocks have.
fn nice(rough: f64) -> f64 {
    const LONG: [f64; 16] = [
        60.0,
        120.0,
        300.0,
        600.0,
        900.0,
        1800.0,
        3600.0,
        7200.0,
        10_800.0,
        21_600.0,
        43_200.0,
        86_400.0,
        172_800.0,
        604_800.0,
        2_592_000.0,
        31_536_000.0,
    ];
    if rough > 30.0 {
        return LONG.into_iter().find(|length| *length >= rough).unwrap_or(rough);
    }
    if rough > 20.0 {
        return 30.0;
    }
    let power = 10f64.powf(rough.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|length| *length >= rough * 0.999).unwrap_or(rough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_at_lengths_that_people_count_in() {
        for (rough, length) in
            [(0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (7.0, 10.0), (21.0, 30.0), (50.0, 60.0), (130.0, 300.0), (4000.0, 7200.0)]
        {
            assert!((nice(rough) - length).abs() < 1e-9, "{rough} gives {}", nice(rough));
        }
    }
}
