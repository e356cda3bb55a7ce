//! The structure of a runbook: what is written of its steps and of the runbooks that it runs as children, step versions included. It does
//! not depend on mode, inputs or inventory, so a drill proves what a live run executes.

use serde_json::{Map, Value, json};

use crate::digest;
use crate::plan::INNER_VERSION;
use crate::rules::Checked;
use crate::runbook::{Step, Undo};

/// Version of what the digest is taken of. It stays when the stored form of a plan changes: what was drilled stays drilled.
const STRUCTURE_FORMAT: u16 = 1;

/// Digests of what is written.
#[derive(Debug, Default)]
pub(super) struct Structure {
    /// Of the outermost runbook and all that it runs: 64 hexadecimal digits.
    pub whole: String,
    /// Of each step, by file and place in the file: 32 hexadecimal digits. Items of a `for_each` share that of their step.
    pub steps: Vec<Vec<String>>,
}

/// Digests of the files of a survey, the outermost last.
pub(super) fn of(files: &[Checked<'_>]) -> Structure {
    let mut structure = Structure::default();
    let mut known: Vec<String> = Vec::with_capacity(files.len());
    for file in files {
        let steps: Vec<String> = (0..file.graph.steps.len()).map(|index| digest::short_of(&of_step(file, index, &known))).collect();
        known.push(digest::of(&of_file(file, &steps)));
        structure.steps.push(steps);
    }
    structure.whole = known.pop().unwrap_or_default();
    structure
}

fn of_file(file: &Checked<'_>, digests: &[String]) -> Value {
    let (mut steps, mut finally) = (Vec::new(), Vec::new());
    for index in &file.graph.order {
        let list = if *index < file.graph.main { &mut steps } else { &mut finally };
        list.push(digests[*index].as_str());
    }
    let runbook = file.runbook;
    let mut whole = json!({
        "format": STRUCTURE_FORMAT, "steps": steps, "finally": finally, "on_failure": runbook.on_failure.unwrap_or_default(),
        "deadline_ms": runbook.deadline_ms,
    });
    if !runbook.outputs.is_empty() {
        let outputs = runbook.outputs.iter().map(|output| (output.name.value.clone(), output.node.to_value()));
        whole["outputs"] = Value::Object(outputs.collect::<Map<_, _>>());
    }
    whole
}

fn of_step(file: &Checked<'_>, index: usize, children: &[String]) -> Value {
    let step = file.graph.steps[index];
    let with = with_of(step);
    let needs: Vec<&str> = step.needs.iter().map(|need| need.value.as_str()).collect();
    let condition = step.condition.as_ref().map(|condition| condition.text.trim());
    let asserts: Vec<&str> = step.asserts.iter().map(|assert| assert.text.trim()).collect();
    let version = file.catalog.step_type(&step.step_type.value).map_or(INNER_VERSION, |info| info.version);
    let mut whole = json!({
        "id": step.name.value, "type": step.step_type.value, "version": version, "with": with, "needs": needs, "if": condition,
        "assert": asserts, "timeout_ms": step.timeout_ms, "retry": step.retry, "undo": undo_of(file, step), "on_failure": step.on_failure,
        "point_of_no_return": step.point_of_no_return,
    });
    if let Some((child, _)) = file.child(step) {
        whole["child"] = json!({ "structure": children[child], "inputs": defaults_of(file, step) });
    }
    if let Some(each) = &step.for_each {
        let list = each.list.as_ref().map(crate::yaml::Node::to_value);
        whole["for_each"] = json!({ "list": list, "max": each.max, "concurrency": each.concurrency });
    }
    whole
}

fn undo_of(file: &Checked<'_>, step: &Step) -> Value {
    match &step.undo {
        Undo::Default => json!("default"),
        Undo::Never => json!("never"),
        Undo::Written(undo) => {
            let version = file.catalog.step_type(&undo.step_type.value).map_or(INNER_VERSION, |info| info.version);
            json!({ "type": undo.step_type.value, "version": version, "with": with_of(undo), "timeout_ms": undo.timeout_ms })
        }
    }
}

fn with_of(step: &Step) -> Value {
    step.with.as_ref().map_or_else(|| Value::Object(Map::new()), |with| with.node.to_value())
}

/// The defaults of a child's inputs: they decide what it does where nothing is given.
fn defaults_of(file: &Checked<'_>, step: &Step) -> Value {
    let child = step.child().and_then(|(text, _)| file.runbook.child(text));
    let inputs = child.iter().flat_map(|child| &child.inputs).map(|input| (input.name.value.clone(), json!(input.default)));
    Value::Object(inputs.collect::<Map<_, _>>())
}
