//! The pictures: the graph of a plan and the timeline of a run, from one renderer for page, report and chat. No figures are made here.

pub mod graph;
mod layout;
pub(crate) mod theme;
pub(crate) mod timeline;
