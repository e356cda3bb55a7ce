//! Durable execution of plans: deciding (pure: `journal`, `run`, `next`, `retry`) and driving (thin: `executor`, `resume`).
//! What a step does to the world is in `lifeboat-steps`; how bytes are kept is in `lifeboat-store`.

pub mod admission;
pub mod approval;
pub mod audit;
pub mod census;
pub mod checkpoint;
pub mod clock;
pub mod context;
pub mod drill;
pub mod evidence;
pub mod executor;
pub mod facts;
pub mod freeze;
pub mod growth;
pub mod history;
pub mod inventory;
pub mod journal;
mod left;
pub mod measure;
pub mod next;
pub mod ports;
pub mod predict;
pub mod preemption;
pub mod preflight;
pub mod registry;
pub mod resume;
pub mod retry;
pub mod run;
pub mod secret;
pub mod sight;
pub mod sim;
pub mod steering;
pub mod step;
mod tenure;

pub use clock::Clock;
pub use context::{ReadContext, StepContext};
pub use evidence::Evidence;
pub use inventory::Inventory;
pub use journal::{Actor, Entry, Event, RunId};
pub use lifeboat_runbooks::catalog::{BadParameters, Touch, Undoable};
pub use lifeboat_runbooks::duration::Period;
pub use lifeboat_runbooks::names::{Effect, StepId};
pub use measure::Measure;
pub use registry::Registry;
pub use step::{Observation, Readiness, Step, StepError};
