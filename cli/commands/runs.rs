//! `lifeboat runs`: the list of runs.

use serde_json::{Value, json};

use crate::args::{Format, FormatArgs, Global};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print};
use crate::render;

pub(crate) async fn run(global: &Global, args: &FormatArgs) -> Result<Exit, Trouble> {
    let desk = Desk::look(global)?;
    let listing = desk.runs().await?;
    match args.format {
        Format::Text => print(&render::runs::text(&listing, desk.driver()))?,
        Format::Json => {
            let runs = listing.runs.iter().map(|run| render::runs::document(run, desk.driver()));
            let all: Vec<Value> = runs.chain(listing.unreadable.iter().map(|run| json!(run))).collect();
            print(&format!("{:#}\n", json!(all)))?;
        }
    }
    // The list is whole, but a journal that cannot be read must not pass unseen.
    Ok(if listing.unreadable.is_empty() { Exit::Done } else { Exit::Engine })
}
