//! Everything that waits for somebody else: for now the control socket of whoever owns the data folder.

pub mod control;
