//! What the engine is wired to: store, step types, inventory, secrets and time. Built once in `main`, and differently in tests.

use std::sync::Arc;

use crate::clock::Clock;
use crate::inventory::Inventory;
use crate::registry::Registry;
use crate::secret::Secrets;
use lifeboat_store::Store;

// Whoever drives a run has to name its owner; the server does so without knowing the store.
pub use lifeboat_store::OwnerId;

/// The real parts, or those of a test.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Where journals are kept.
    pub store: Arc<dyn Store>,
    /// The step types.
    pub registry: Arc<Registry>,
    /// The named things and people.
    pub inventory: Arc<Inventory>,
    /// Where secrets are looked up.
    pub secrets: Arc<dyn Secrets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}
