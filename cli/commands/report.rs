//! `lifeboat report`: what a run achieved against what was promised.

use std::path::Path;

use lifeboat_engine::journal::Entry;
use lifeboat_runbooks::plan::Plan;

use crate::args::{Global, ReportArgs, ReportFormat, When};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print, say};

pub(crate) async fn run(global: &Global, args: &ReportArgs) -> Result<Exit, Trouble> {
    let desk = Desk::look(global)?;
    let id = desk.find(args.run.as_deref()).await?;
    let (plan, entries) = desk.journal(&id).await?;
    write(global, &plan, &entries, args.format, args.output.as_deref())?;
    Ok(desk.exit(Exit::Done))
}

/// Judges a journal and writes the report.
pub(crate) fn write(global: &Global, plan: &Plan, entries: &[Entry], format: ReportFormat, file: Option<&Path>) -> Result<(), Trouble> {
    let report = lifeboat_report::judge(plan, entries).map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
    let text = match format {
        ReportFormat::Text => lifeboat_report::text(&report, width(), colour(global, file)),
        ReportFormat::Json => lifeboat_report::json(&report),
        ReportFormat::Html => lifeboat_report::html(&report, plan),
        ReportFormat::Svg => lifeboat_report::timeline_svg(&report),
    };
    match file {
        None => print(&text),
        Some(path) => {
            std::fs::write(path, text).map_err(|error| Trouble::engine(format!("{} cannot be written: {error}", path.display())))?;
            say(&format!("written to {}", path.display()));
            Ok(())
        }
    }
}

/// Columns of the report: those of the terminal, within what can be read in one line.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(80, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns.clamp(60, 120) }
}

fn colour(global: &Global, file: Option<&Path>) -> lifeboat_report::Colour {
    let terminal = file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdout()) && std::env::var_os("NO_COLOR").is_none();
    match global.color {
        When::Always => lifeboat_report::Colour::Ansi,
        When::Auto if terminal => lifeboat_report::Colour::Ansi,
        When::Auto | When::Never => lifeboat_report::Colour::Plain,
    }
}
