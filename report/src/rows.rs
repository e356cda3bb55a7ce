//! Steps as people read them: those that stand for unused places of a list are one row. In JSON each stands for itself.

use lifeboat_engine::unused::{Row, gather};
use lifeboat_runbooks::names::StepId;
use serde::{Deserialize, Serialize};

use crate::report::StepReport;

/// A place that a list turned out not to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedPlace {
    /// The step that gathers the items of the list.
    pub list: String,
    /// The place, from 0.
    pub index: u32,
}

/// The rows of these steps.
pub(crate) fn rows<'r>(steps: impl IntoIterator<Item = &'r StepReport>) -> Vec<Row<&'r StepReport>> {
    let placed = steps.into_iter().map(|step| {
        let unused = step.unused.as_ref().and_then(|unused| Some((StepId::new(&unused.list).ok()?, unused.index)));
        (step, unused)
    });
    gather(placed).collect()
}
