//! The PostgreSQL steps against real servers: one binary, because linking it costs more than running it. Each file is a subject.

mod failover;
mod refusals;
mod rig;
