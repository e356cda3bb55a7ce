//! The graph of a plan, with what became of each step where there is a report: SVG, Mermaid and Graphviz.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lifeboat_engine::run::{StepState, crosses};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{Plan, PlanStep};

use super::layout::{Layout, Node, place};
use super::theme::{icon, label, n, open, text_width};
use crate::marks;
use crate::report::{Report, StepReport};
use crate::words::{clean, count, cut, escape, list, seconds};

/// Most steps drawn as SVG; Mermaid and Graphviz have no such limit. A picture of more could not be read.
pub const GRAPH_STEPS_MAX: usize = 300;

/// Most needs drawn, for the same reason.
pub const GRAPH_NEEDS_MAX: usize = 2_000;

const APPROVAL: &str = "approval";
const BOX: (f64, f64) = (264.0, 50.0);
const MARGIN: f64 = 20.0;
const ROW: f64 = BOX.1 + 38.0;
/// Room for the line of the point of no return.
const RETURN_ROOM: f64 = 26.0;

/// The graph as one self-contained SVG. Steps are boxes, approvals hexagons; the point of no return has a double border and a line
/// across; a plan alone marks the steps that may run on either side of it. A state is told by sign, word and colour. With a report, the critical path is drawn bold.
#[must_use]
pub fn svg(plan: &Plan, report: Option<&Report>) -> String {
    sized(plan, report).0
}

/// The graph and its width in pixels.
pub(crate) fn sized(plan: &Plan, report: Option<&Report>) -> (String, f64) {
    let needs: usize = plan.steps.iter().map(|step| step.needs.len()).sum();
    let fits = plan.steps.len() + plan.finally.len() <= GRAPH_STEPS_MAX && needs <= GRAPH_NEEDS_MAX;
    let Some(drawing) = fits.then(|| Drawing::new(plan, report)).flatten() else {
        let text = format!(
            "{} with {} are too many to draw; use --format mermaid or dot",
            count(plan.steps.len() as u64, "step", "steps"),
            count(needs as u64, "need", "needs")
        );
        return (open(640.0, 60.0, &text) + &label(20.0, 35.0, "", &text) + "</svg>\n", 640.0);
    };
    (drawing.draw(), drawing.width)
}

struct Drawing<'a> {
    plan: &'a Plan,
    reports: BTreeMap<&'a str, &'a StepReport>,
    main: Layout,
    edges: Vec<(usize, usize)>,
    finally: Layout,
    finally_edges: Vec<(usize, usize)>,
    /// The first layer with a point of no return.
    return_layer: Option<usize>,
    hot: BTreeSet<(&'a str, &'a str)>,
    either_side: BTreeSet<&'a str>,
    width: f64,
}

fn edges(steps: &[PlanStep]) -> Vec<(usize, usize)> {
    let place: BTreeMap<&StepId, usize> = steps.iter().enumerate().map(|(index, step)| (&step.id, index)).collect();
    let mut all: Vec<(usize, usize)> = steps
        .iter()
        .enumerate()
        .flat_map(|(to, step)| {
            step.needs
                .iter()
                .filter_map(|need| place.get(need))
                .filter(move |from| **from < to)
                .map(move |from| (*from, to))
                .collect::<Vec<_>>()
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Steps that may run on either side of the point of no return: neither needed by all of them nor in need of one of them.
fn either_side(plan: &Plan) -> BTreeSet<&str> {
    let no_return: Vec<&PlanStep> = plan.steps.iter().filter(|step| crosses(step)).collect();
    if no_return.is_empty() {
        return BTreeSet::new();
    }
    let mut after: BTreeSet<&str> = no_return.iter().map(|step| step.id.as_str()).collect();
    for step in &plan.steps {
        if step.needs.iter().any(|need| after.contains(need.as_str())) {
            after.insert(step.id.as_str());
        }
    }
    let needed_by: Vec<BTreeSet<&str>> = no_return.iter().map(|crossing| needed(plan, crossing)).collect();
    plan.steps
        .iter()
        .map(|step| step.id.as_str())
        .filter(|id| !after.contains(id) && !needed_by.iter().all(|needed| needed.contains(id)))
        .collect()
}

/// A step and all that it needs, near and far.
fn needed<'a>(plan: &'a Plan, step: &'a PlanStep) -> BTreeSet<&'a str> {
    let mut needed = BTreeSet::from([step.id.as_str()]);
    // Each step comes after what it needs, so one look from the end is enough.
    for step in plan.steps.iter().rev() {
        if needed.contains(step.id.as_str()) {
            needed.extend(step.needs.iter().map(StepId::as_str));
        }
    }
    needed
}

/// The wires between two neighbours of the critical path, also where skipped steps lie between them.
fn hot<'a>(plan: &'a Plan, report: Option<&Report>, from: &str, to: &str) -> Vec<(&'a str, &'a str)> {
    let skipped = |id: &StepId| {
        report.is_some_and(|report| report.steps.iter().any(|step| step.id == id.as_str() && step.state == StepState::Skipped))
    };
    let mut wires = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&PlanStep> = plan.steps.iter().filter(|step| step.id.as_str() == to).collect();
    while let Some(step) = open.pop() {
        for need in step.needs.iter().filter(|need| need.as_str() == from || skipped(need)) {
            wires.push((need.as_str(), step.id.as_str()));
            if need.as_str() != from && seen.insert(need) {
                open.extend(plan.step(need));
            }
        }
    }
    wires
}

impl<'a> Drawing<'a> {
    fn new(plan: &'a Plan, report: Option<&'a Report>) -> Option<Self> {
        let boxes = |count: usize| vec![Node { width: BOX.0 }; count];
        let (main_edges, finally_edges) = (edges(&plan.steps), edges(&plan.finally));
        let main = place(&boxes(plan.steps.len()), &main_edges)?;
        let finally = place(&boxes(plan.finally.len()), &finally_edges)?;
        let path = report.map(|report| report.critical_path.as_slice()).unwrap_or_default();
        Some(Self {
            plan,
            reports: report.map(|report| report.steps.iter().map(|step| (step.id.as_str(), step)).collect()).unwrap_or_default(),
            return_layer: plan.steps.iter().enumerate().filter(|(_, step)| crosses(step)).map(|(index, _)| main.layer[index]).min(),
            hot: path.windows(2).flat_map(|pair| hot(plan, report, &pair[0], &pair[1])).collect(),
            either_side: if report.is_none() { either_side(plan) } else { BTreeSet::new() },
            width: main.width.max(finally.width).max(BOX.0) + 2.0 * MARGIN,
            main,
            edges: main_edges,
            finally,
            finally_edges,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "layers are few")]
    fn y(&self, layer: usize) -> f64 {
        let room = if self.return_layer.is_some_and(|first| layer >= first) { RETURN_ROOM } else { 0.0 };
        MARGIN + layer as f64 * ROW + room
    }

    #[expect(clippy::cast_precision_loss, reason = "layers are few")]
    fn draw(&self) -> String {
        let main_end = self.y(self.main.layers.saturating_sub(1)) + BOX.1;
        let finally_top = main_end + 54.0;
        let height =
            if self.plan.finally.is_empty() { main_end } else { finally_top + (self.finally.layers as f64 - 1.0) * ROW + BOX.1 } + MARGIN;
        let mut out = open(self.width, height, &format!("Graph of {}", self.plan.title));
        let shift = (self.width - self.main.width) / 2.0;
        self.wires(&mut out, &self.plan.steps, &self.main, &self.edges, shift, &|layer| self.y(layer));
        self.return_line(&mut out);
        for (index, step) in self.plan.steps.iter().enumerate() {
            self.step(&mut out, step, self.main.x[index] + shift, self.y(self.main.layer[index]));
        }
        if !self.plan.finally.is_empty() {
            let y = finally_top - 24.0;
            let _ = writeln!(out, "<path class=\"line hair\" d=\"M{} {}H{}\"/>", n(MARGIN), n(y), n(self.width - MARGIN));
            out.push_str(&label(MARGIN, y - 6.0, "dim small", "finally, however it ends"));
            let shift = (self.width - self.finally.width) / 2.0;
            let y = |layer: usize| finally_top + layer as f64 * ROW;
            self.wires(&mut out, &self.plan.finally, &self.finally, &self.finally_edges, shift, &y);
            for (index, step) in self.plan.finally.iter().enumerate() {
                self.step(&mut out, step, self.finally.x[index] + shift, y(self.finally.layer[index]));
            }
        }
        out + "</svg>\n"
    }

    fn wires(&self, out: &mut String, steps: &[PlanStep], layout: &Layout, edges: &[(usize, usize)], shift: f64, y: &dyn Fn(usize) -> f64) {
        // Bold wires last, so that they lie on top.
        for hot in [false, true] {
            for (edge, &(from, to)) in edges.iter().enumerate() {
                if self.hot.contains(&(steps[from].id.as_str(), steps[to].id.as_str())) != hot {
                    continue;
                }
                let class = if hot { " hot" } else { "" };
                let mut here = (layout.x[from] + shift, y(layout.layer[from]) + BOX.1);
                let mut path = format!("M{} {}", n(here.0), n(here.1));
                let passes = layout.bends[edge].iter().enumerate().map(|(index, x)| (layout.layer[from] + 1 + index, x + shift));
                for (layer, x) in passes {
                    curve(&mut path, here, (x, y(layer)));
                    let _ = write!(path, "V{}", n(y(layer) + BOX.1));
                    here = (x, y(layer) + BOX.1);
                }
                // The double border of a point of no return begins a little above its box.
                let border = if crosses(&steps[to]) { 4.0 } else { 0.0 };
                let end = (layout.x[to] + shift, y(layout.layer[to]) - border);
                curve(&mut path, here, (end.0, end.1 - 5.0));
                let _ = writeln!(out, "<path class=\"wire{class}\" d=\"{path}\"/>");
                let _ = writeln!(out, "<path class=\"tip{class}\" d=\"M{} {}l-4.5-8h9z\"/>", n(end.0), n(end.1 - 0.6));
            }
        }
    }

    fn return_line(&self, out: &mut String) {
        let Some(layer) = self.return_layer else { return };
        let y = self.y(layer) - 20.0;
        let _ = writeln!(out, "<path class=\"return\" d=\"M{} {}H{}\"/>", n(MARGIN / 2.0), n(y), n(self.width - MARGIN / 2.0));
        out.push_str(&label(MARGIN / 2.0, y - 6.0, "small t-bad", "point of no return"));
    }

    fn step(&self, out: &mut String, step: &PlanStep, x: f64, y: f64) {
        let report = self.reports.get(step.id.as_str());
        let state = report.map_or(StepState::Waiting, |report| report.state);
        let mark = marks::of_state(state);
        let (left, right, bottom) = (x - BOX.0 / 2.0, x + BOX.0 / 2.0, y + BOX.1);
        let tone = if report.is_some() { format!(" s-{}", mark.tone.class()) } else { String::new() };
        let maybe = if state == StepState::Skipped || state == StepState::NotRun || (report.is_none() && step.condition.is_some()) {
            " maybe"
        } else {
            ""
        };
        let _ = write!(out, "<g><title>{}</title>", escape(&self.title(step, report.copied())));
        if step.step_type == APPROVAL {
            let point = |grow: f64| {
                format!(
                    "M{} {}L{} {}H{}L{} {}L{} {}H{}Z",
                    n(left - grow),
                    n(y + BOX.1 / 2.0),
                    n(left + 13.0),
                    n(y - grow),
                    n(right - 13.0),
                    n(right + grow),
                    n(y + BOX.1 / 2.0),
                    n(right - 13.0),
                    n(bottom + grow),
                    n(left + 13.0)
                )
            };
            let _ = writeln!(out, "<path class=\"card{tone}{maybe}\" d=\"{}\"/>", point(0.0));
        } else {
            if crosses(step) {
                let _ = write!(
                    out,
                    "<rect class=\"card s-bad\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"12\"/>",
                    n(left - 4.0),
                    n(y - 4.0),
                    n(BOX.0 + 8.0),
                    n(BOX.1 + 8.0)
                );
            }
            let _ = writeln!(
                out,
                "<rect class=\"card{tone}{maybe}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"9\"/>",
                n(left),
                n(y),
                n(BOX.0),
                n(BOX.1)
            );
        }
        let mut text_x = left + 16.0;
        if report.is_some() {
            out.push_str(&icon(left + 25.0, y + BOX.1 / 2.0, mark));
            text_x = left + 44.0;
        }
        let mut room = right - 12.0 - text_x;
        if self.either_side.contains(step.id.as_str()) {
            out.push_str(&label(right - 12.0, y + 20.0, "small t-bad end", "either side"));
            room -= 70.0;
        }
        out.push_str(&label(text_x, y + 21.0, "id", &fit(step.id.as_str(), room, 14.0)));
        let room = right - 12.0 - text_x;
        out.push_str(&label(text_x, y + 38.0, "dim", &fit(&self.second_line(step, report.copied()), room, 11.4)));
        out.push_str("</g>\n");
    }

    fn second_line(&self, step: &PlanStep, report: Option<&StepReport>) -> String {
        match report {
            Some(report) => {
                let took = report
                    .duration_seconds
                    .filter(|_| report.started_at.is_some())
                    .map(|took| format!(" · {}", seconds(took)))
                    .unwrap_or_default();
                format!("{} · {}{took}", clean(&step.step_type), marks::of_state(report.state).word)
            }
            None => {
                let effect = effect_words(step);
                let kind = clean(&step.step_type);
                let condition = if step.condition.is_some() { " · if" } else { "" };
                if effect.is_empty() { format!("{kind}{condition}") } else { format!("{kind}{condition} · {effect}") }
            }
        }
    }

    fn title(&self, step: &PlanStep, report: Option<&StepReport>) -> String {
        let mut title = format!("{} ({}): {}", step.id, step.step_type, step.preview);
        if let Some(condition) = &step.condition {
            let _ = write!(title, "; if {condition}");
        }
        if let Some(why) = report.and_then(|report| report.why.as_ref()) {
            let _ = write!(title, "; {why}");
        }
        title
    }
}

fn fit(text: &str, room: f64, px: f64) -> String {
    if text_width(text, px) <= room {
        return text.to_owned();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a box is some hundred pixels wide")]
    let chars = (room / (px * 0.58)) as usize;
    cut(text, chars)
}

fn curve(path: &mut String, from: (f64, f64), to: (f64, f64)) {
    if (from.0 - to.0).abs() < 0.5 {
        let _ = write!(path, "L{} {}", n(to.0), n(to.1));
        return;
    }
    let middle = f64::midpoint(from.1, to.1);
    let _ = write!(path, "C{} {} {} {} {} {}", n(from.0), n(middle), n(to.0), n(middle), n(to.0), n(to.1));
}

/// `changes orders-db`, the gravest effect only.
fn effect_words(step: &PlanStep) -> String {
    let Some(gravest) = step.touches.iter().map(|touch| touch.effect).max() else { return String::new() };
    let verb = match gravest {
        Effect::Read => "reads",
        Effect::Protect => "protects",
        Effect::Change => "changes",
        Effect::Destroy => "destroys",
    };
    let names: BTreeSet<String> = step.touches.iter().filter(|touch| touch.effect == gravest).map(|touch| clean(&touch.resource)).collect();
    format!("{verb} {}", list(&names.into_iter().collect::<Vec<_>>()))
}

/// The graph as Mermaid text. Ids are safe by their grammar; every other text is quoted with entities.
#[must_use]
pub fn mermaid(plan: &Plan) -> String {
    let mut out = "flowchart TB\n".to_owned();
    let quote = |text: &str| {
        clean(text)
            .replace('#', "#35;")
            .replace('"', "#quot;")
            .replace('<', "#lt;")
            .replace('>', "#gt;")
            .replace('`', "#96;")
            .replace('&', "#amp;")
    };
    let node = |step: &PlanStep| {
        let text = format!("{}<br/>{}", step.id, quote(&step.step_type));
        let name = mermaid_name(&step.id);
        match (step.step_type.as_str(), crosses(step)) {
            (APPROVAL, _) => format!("{name}{{{{\"{text}\"}}}}"),
            (_, true) => format!("{name}[[\"{text}<br/>point of no return\"]]"),
            (_, false) => format!("{name}[\"{text}\"]"),
        }
    };
    for step in &plan.steps {
        let _ = writeln!(out, "    {}", node(step));
    }
    if !plan.finally.is_empty() {
        out.push_str("    subgraph finally\n");
        for step in &plan.finally {
            let _ = writeln!(out, "        {}", node(step));
        }
        out.push_str("    end\n");
    }
    for step in plan.steps.iter().chain(&plan.finally) {
        for need in &step.needs {
            let _ = writeln!(out, "    {} --> {}", mermaid_name(need), mermaid_name(&step.id));
        }
    }
    for step in plan.steps.iter().filter(|step| crosses(step)) {
        let _ = writeln!(out, "    style {} stroke:#c22f2a,stroke-width:3px", mermaid_name(&step.id));
    }
    out
}

/// A step's name as Mermaid takes it. Brackets and slashes would end a name there; ids have no capital letters.
fn mermaid_name(id: &StepId) -> String {
    format!("s_{}", id.as_str().replace('[', "I").replace(']', "E").replace('/', "S"))
}

/// The graph as Graphviz text.
#[must_use]
pub fn dot(plan: &Plan) -> String {
    let quote = |text: &str| clean(text).replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!(
        "digraph \"{}\" {{\n    rankdir=TB;\n    node [shape=box, style=rounded, fontname=\"sans-serif\"];\n",
        quote(&plan.runbook)
    );
    let node = |step: &PlanStep| {
        let shape = match (step.step_type.as_str(), crosses(step)) {
            (APPROVAL, _) => ", shape=hexagon, style=\"\"",
            (_, true) => ", peripheries=2, color=\"#c22f2a\"",
            (_, false) => "",
        };
        let no_return = if crosses(step) { "\\npoint of no return" } else { "" };
        format!("\"{}\" [label=\"{}\\n{}{no_return}\"{shape}];", step.id, step.id, quote(&step.step_type))
    };
    for step in &plan.steps {
        let _ = writeln!(out, "    {}", node(step));
    }
    if !plan.finally.is_empty() {
        out.push_str("    subgraph cluster_finally {\n        label=\"finally\";\n        style=dashed;\n");
        for step in &plan.finally {
            let _ = writeln!(out, "        {}", node(step));
        }
        out.push_str("    }\n");
    }
    for step in plan.steps.iter().chain(&plan.finally) {
        for need in &step.needs {
            let _ = writeln!(out, "    \"{need}\" -> \"{}\";", step.id);
        }
    }
    out + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tale::{orders, plan, step};
    use lifeboat_runbooks::plan::Return;

    #[test]
    fn steps_that_the_point_of_no_return_does_not_order_are_marked() {
        let mut steps = vec![
            step("a", "wait", &[], None),
            step("b", "wait", &["a"], None),
            step("c", "wait", &["b"], None),
            step("aside", "wait", &["a"], None),
        ];
        steps[1].point_of_no_return = Return::NoReturn;
        let plan = plan("failover", steps);
        assert_eq!(either_side(&plan), BTreeSet::from(["aside"]));
        assert_eq!(svg(&plan, None).matches("either side").count(), 1);
        assert!(either_side(&orders("failover")).is_empty());
    }

    #[test]
    fn what_only_one_of_two_crossings_needs_may_run_after_the_other() {
        let mut steps = vec![
            step("f", "wait", &[], None),
            step("g", "wait", &[], None),
            step("p", "wait", &["f"], None),
            step("q", "wait", &["g"], None),
        ];
        steps[2].point_of_no_return = Return::NoReturn;
        steps[3].point_of_no_return = Return::NoReturn;
        assert_eq!(either_side(&plan("failover", steps)), BTreeSet::from(["f", "g"]));
    }
}
