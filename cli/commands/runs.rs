//! `lifeboat runs`: the list of runs, newest first.

use lifeboat_engine::journal::RunId;
use lifeboat_server::control::PageOf;
use serde_json::{Value, json};

use crate::args::{Format, Global, RunsArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print, say};
use crate::render;

pub(crate) async fn run(global: &Global, args: &RunsArgs) -> Result<Exit, Trouble> {
    let before = args.before.as_deref().map(RunId::new).transpose().map_err(Trouble::usage)?;
    let desk = Desk::look(global)?;
    let listing = desk.page(PageOf { limit: args.limit, before }).await?;
    for notice in &listing.notices {
        say(&format!("warning: {notice}"));
    }
    match args.format {
        Format::Text => {
            print(&render::runs::text(&listing, desk.driver()))?;
            if listing.older > 0
                && let Some(last) = render::runs::oldest(&listing)
            {
                say(&format!("{} older runs are not listed; `lifeboat runs --before {last}` lists the next", listing.older));
            }
        }
        Format::Json => {
            let runs = listing.runs.iter().map(|run| render::runs::document(run, desk.driver()));
            let archived = listing.archived.iter().rev().map(render::runs::archived);
            let all: Vec<Value> = archived.chain(runs).chain(listing.unreadable.iter().map(|run| json!(run))).collect();
            print(&format!("{:#}\n", json!(all)))?;
        }
    }
    // The list is whole, but a journal that cannot be read must not pass unseen.
    Ok(desk.exit(if listing.unreadable.is_empty() { Exit::Done } else { Exit::Engine }))
}
