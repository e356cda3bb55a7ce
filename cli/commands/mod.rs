//! One file per command.

pub(crate) mod answer;
pub(crate) mod audit;
pub(crate) mod begin;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod drill;
pub(crate) mod drive;
pub(crate) mod freeze;
pub(crate) mod graph;
pub(crate) mod heartbeat;
pub(crate) mod hold;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod resolve;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod steps;
pub(crate) mod store;
pub(crate) mod test;
pub(crate) mod watch;
pub(crate) mod why;
