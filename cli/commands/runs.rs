//! `lifeboat runs`: the list of runs.

use serde_json::json;

use crate::args::{Format, FormatArgs, Global};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print};
use crate::render;

pub(crate) async fn run(global: &Global, args: &FormatArgs) -> Result<Exit, Trouble> {
    let runs = Desk::look(global)?.runs().await?;
    match args.format {
        Format::Text => print(&render::runs::text(&runs))?,
        Format::Json => print(&format!("{:#}\n", json!(runs)))?,
    }
    Ok(Exit::Done)
}
