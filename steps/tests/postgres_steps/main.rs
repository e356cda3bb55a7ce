//! The PostgreSQL steps against real servers: one binary, because linking it costs more than running it. Each file is a subject.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

mod census;
mod doubt;
mod failover;
mod fence;
mod harmless;
mod heartbeat;
mod refusals;
mod rig;
mod tls;
mod truth;
