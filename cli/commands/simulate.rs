//! `lifeboat simulate`: a runbook in a simulated world, every step failing in turn. Reads files only.
//!
//! The real step types are used to make the plan, which asks nothing; what drives it then gets their descriptions and nothing else.

use lifeboat_engine::StepId;
use lifeboat_engine::sim::rehearsal::{self, Choice, EndKind, Fact, Set, Way, rehearse};
use lifeboat_runbooks::catalog::{Catalog as _, StepTypeInfo};
use lifeboat_runbooks::plan::Plan;
use serde_json::Value;

use crate::args::{Allowed, Answers, Format, Global, SimulateArgs};
use crate::exit::{Exit, Trouble, print};
use crate::{render, wiring};

pub(crate) fn run(global: &Global, args: &SimulateArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let plan = wiring::plan(global, &args.runbook, &registry, &inventory)?;
    let count = plan.all_steps().count();
    if count > rehearsal::STEPS_MAX {
        return Err(Trouble::usage(format!("the plan has {count} steps; at most {} can be simulated", rehearsal::STEPS_MAX))
            .help("simulate its parts, each as a runbook of its own"));
    }
    let types: Vec<StepTypeInfo> = registry.step_types().into_iter().cloned().collect();
    let outputs = args.outputs.iter().map(|text| output(text, &plan, &types)).collect::<Result<Vec<Fact>, Trouble>>()?;
    let approvals = match args.approvals {
        Answers::Yes => None,
        Answers::No => Some(Way::Denied),
        Answers::Silence => Some(Way::Expires),
    };
    let set = Set::new(plan, types, &inventory);
    let rehearsal = rehearse(&set, &Choice { outputs, approvals, pairs_max: args.pairs });
    let allowed = |kind: EndKind| kind.is_acceptable() || args.allow.iter().any(|allowed| allows(*allowed) == kind);
    let shown = render::simulate::Shown { plan: &set.plan, inventory: &inventory, rehearsal: &rehearsal, allowed: &allowed };
    match args.format {
        Format::Text => print(&render::simulate::text(&shown, args.verbose))?,
        Format::Json => print(&format!("{:#}\n", render::simulate::json(&shown)))?,
    }
    Ok(if rehearsal.cases.iter().all(|case| allowed(case.kind)) { Exit::Done } else { Exit::RunFailed })
}

fn allows(allowed: Allowed) -> EndKind {
    match allowed {
        Allowed::Stuck => EndKind::Stuck,
        Allowed::LeftBehind => EndKind::LeftBehind,
        Allowed::TwoPrimaries => EndKind::TwoPrimaries,
    }
}

/// `loss.within_rpo=false`: the value as JSON, or plain text where it is none.
fn output(text: &str, plan: &Plan, types: &[StepTypeInfo]) -> Result<Fact, Trouble> {
    let wrong = |why: String, help: String| Trouble::usage(format!("--output {text:?}: {why}")).help(help);
    let form = || "write --output STEP.NAME=VALUE, for example --output loss.within_rpo=false".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(|| wrong("it has no value".into(), form()))?;
    let (step, output) = name.split_once('.').ok_or_else(|| wrong("it names no output".into(), form()))?;
    let id = StepId::new(step).map_err(|_| wrong(format!("{step:?} is no name of a step"), form()))?;
    let Some(planned) = plan.step(&id) else {
        let steps: Vec<&str> = plan.all_steps().map(|step| step.id.as_str()).collect();
        return Err(wrong(format!("the runbook has no step {step}"), format!("there are {}", steps.join(", "))));
    };
    let properties = types.iter().find(|info| info.name == planned.step_type).and_then(|info| info.output_schema.get("properties"));
    let known: Vec<&String> = properties.and_then(Value::as_object).into_iter().flat_map(|all| all.keys()).collect();
    if !known.is_empty() && !known.iter().any(|name| *name == output) {
        let known: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
        return Err(wrong(format!("{} has no output {output}", planned.step_type), format!("there are {}", known.join(", "))));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok(Fact { step: id, output: output.to_owned(), value })
}
