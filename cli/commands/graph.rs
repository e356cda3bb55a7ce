//! `lifeboat graph`: a runbook's graph. Reads files only.

use crate::args::{Global, GraphArgs, GraphFormat};
use crate::exit::{Exit, Trouble, print};
use crate::wiring;

pub(crate) fn run(global: &Global, args: &GraphArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let plan = wiring::plan(global, &args.runbook, &registry, &inventory)?;
    let text = match args.format {
        GraphFormat::Svg => lifeboat_report::graph::svg(&plan, None),
        GraphFormat::Mermaid => lifeboat_report::graph::mermaid(&plan),
        GraphFormat::Dot => lifeboat_report::graph::dot(&plan),
    };
    print(&text)?;
    Ok(Exit::Done)
}
