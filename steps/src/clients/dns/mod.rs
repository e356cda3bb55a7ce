//! The door to DNS: asking one server for what it serves itself, and signed updates. Which answers are enough is decided in
//! `update_dns`; resolving through caches is not done anywhere.

mod reader;
mod set;
mod updater;
mod wire;

pub use reader::{DnsError, Presence, Reader, Seen, Zone};
pub use set::{RecordKind, RecordSet, full_name, in_words};
pub use updater::{CLOCK_SKEW_SECONDS_MAX, Change, Passing, Signer, UpdateAnswer, UpdateError, Updater};
