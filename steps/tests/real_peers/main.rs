//! Step types against real peers, in one program so that it is linked once. Each module is about one step type.
#![expect(clippy::unwrap_used, reason = "tests")]

mod command;
mod dns_bind;
mod dns_update;
mod route53;
mod route53_front;
mod stage;
mod verify;
mod verify_sql;
mod wait;
