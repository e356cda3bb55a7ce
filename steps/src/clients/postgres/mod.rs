//! The door to PostgreSQL: sessions, positions, what nodes say of themselves. Deciding anything is left to the steps.

pub(crate) mod census;
pub mod files;
pub mod history;
pub mod look;
pub mod lsn;
pub mod program;
pub mod rights;
pub mod session;
pub mod tail;
mod tls;

pub use look::{NodeState, Role, Seen, Standby, look};
pub use lsn::{Fork, History, Lsn};
pub use session::{Session, SessionError};
