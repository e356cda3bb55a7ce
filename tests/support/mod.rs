//! What the tests of the binary share: a stage with real peers, the real process with a deadline, its journal, a client, chance. No test is here.
#![expect(dead_code, reason = "each test binary uses its own part of the support")]

pub(crate) mod chance;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod desk;
pub(crate) mod journal;
pub(crate) mod process;
pub(crate) mod stage;
