//! `lifeboat steps`: the step types, or one's page. From the registry alone.

use lifeboat_runbooks::catalog::Catalog;
use serde_json::json;

use crate::args::{Format, StepsArgs};
use crate::exit::{Exit, Trouble, print};
use crate::render;

pub(crate) fn run(args: &StepsArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let all = registry.step_types();
    match &args.step_type {
        None => match args.format {
            Format::Text => print(&render::steps::list(&all))?,
            Format::Json => print(&format!("{:#}\n", json!(all.iter().map(|info| render::steps::json(info)).collect::<Vec<_>>())))?,
        },
        Some(name) => {
            let Some(info) = registry.step_type(name) else {
                let names: Vec<&str> = all.iter().map(|info| info.name).collect();
                let help = match lifeboat_runbooks::nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `lifeboat steps {near}`?"),
                    None => format!("there are {}", names.join(", ")),
                };
                return Err(Trouble::usage(format!("there is no step type {name:?}")).help(help));
            };
            match args.format {
                Format::Text => print(&render::steps::page(info))?,
                Format::Json => print(&format!("{:#}\n", render::steps::json(info)))?,
            }
        }
    }
    Ok(Exit::Done)
}
