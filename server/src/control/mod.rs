//! The control socket: how other commands reach the process that owns the data folder. The words are in `protocol`, the two ends
//! in `listener` and `client`, the bounds on connections in `reception`.

mod client;
mod listener;
mod protocol;
mod reception;
mod socket;
mod system_user;

pub use client::{Client, ClientError};
pub use listener::{Control, Listener};
pub use protocol::{BrakeKind, Braked, FreezeRequest, Listing, PageOf, REQUEST_BYTES_MAX, Reply, Request, RunSummary, Unreadable, Waiting};
pub use socket::SOCKET_NAME;
pub use system_user::{actor_of, this_user, user_name};
