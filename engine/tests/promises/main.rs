//! The promises of the executor, on a scripted world in virtual time. Real peers are in the tests of `lifeboat-steps`.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../world/mod.rs"]
mod world;

mod admission;
mod audit;
mod campaign;
mod crash;
mod doubt;
mod drills;
mod facts;
mod freeze;
mod golden;
mod growth;
mod journal;
mod locks;
mod nested;
mod order;
mod people;
mod proofs;
mod random;
mod rest;
mod retries;
mod steer;
mod tables;
mod takeover;
mod undo;
mod why;
mod written_undo;
