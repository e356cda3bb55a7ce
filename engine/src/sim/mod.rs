//! The simulator: the production executor, admission, resume and steering on a virtual clock, a store in memory and a simulated
//! world. What is simulated is the outside; nothing of the engine is replaced. Campaigns of faults are in the tests of this crate.
//!
//! ```
//! # use std::sync::Arc;
//! # use lifeboat_engine::{Inventory, Registry, StepId, inventory::Person, journal::Actor, sim::{self, Act, Outputs, Rest, Stage}};
//! # use lifeboat_runbooks::{catalog::StepTypeInfo, plan::Plan};
//! #[derive(Debug)]
//! struct Nulls;
//! impl Outputs for Nulls {
//!     fn output(&self, _: &StepId, _: &StepTypeInfo, _: &serde_json::Value) -> serde_json::Value {
//!         serde_json::Value::Null
//!     }
//! }
//! # fn example(registry: Arc<Registry>, inventory: Arc<Inventory>, plan: Plan, by: Actor) -> Result<(), Box<dyn std::error::Error>> {
//! let stage = Stage::new(registry, inventory, Arc::new(Nulls));
//! stage.world.acts("promote", &[Act::LoseAnswer]);
//! let (run, rest) = stage.clock.clone().play(async {
//!     let admitted = stage.admit(&stage.process(), plan, by).await?;
//!     let run = admitted.run.id.clone();
//!     Ok::<_, lifeboat_engine::admission::AdmissionError>((run, stage.drive(admitted.run, admitted.next, &mut sim::nobody).await))
//! })??;
//! assert!(matches!(rest, Rest::Ended(_) | Rest::Held));
//! println!("{:?}: {:?}", rest, stage.world.effects());
//! # let _ = run; Ok(()) }
//! ```
//!
//! - [`SimClock::play`] runs any future in virtual time on this thread; it answers [`Stalled`] where nothing can go on.
//! - [`World`] holds the truth about effects and is told beforehand what each step's calls meet ([`Act`], [`Gate`], [`Sight`], [`Back`]).
//! - [`rehearsal`] plays one plan with failing steps for its author: the ground of `lifeboat simulate` and `lifeboat test`.
//! - [`Stage`] is all that outlives a process; [`Process`] is one life, with its [`Fault`]s.

mod clock;
mod peers;
mod process;
pub mod rehearsal;
mod script;
mod stage;
mod steps;
mod trace;
mod world;

pub use clock::{DAWN_SECONDS, EVER, SimClock, Stalled};
pub use peers::{Database, Node, Peers};
pub use process::{Fault, Point, Process};
pub use script::{Act, Back, Count, Gate, Script, Sight, Turns};
pub use stage::{People, Rest, Stage, nobody};
pub use steps::{HALF, Outputs};
pub use trace::Trace;
pub use world::{Broken, CallMade, Effect, Whose, World};
