//! The doors to the outside: everything that opens a connection or starts a process. What to do with answers is in the steps.

pub mod aws;
pub mod dns;
pub mod http;
pub mod launchers;
pub mod postgres;
pub mod process;
pub mod tcp;
