//! The hash chain of a log: where it starts, and how a record moves it on. Storing and checking happen in the stores.

use sha2::Digest as _;

use crate::{Digest, LogId, Record};

/// The hash before the first record of a log. It depends on the name, so records moved under another name do not fit.
#[must_use]
pub fn chain_start(log: &LogId) -> Digest {
    Digest::of(log.as_str().as_bytes())
}

/// The hash after `record`: SHA-256 of the hash before it, the record's length (u64, little-endian) and its bytes.
#[must_use]
pub fn chain_after(before: &Digest, record: &Record) -> Digest {
    let mut hasher = sha2::Sha256::new();
    hasher.update(before.0);
    hasher.update((record.0.len() as u64).to_le_bytes());
    hasher.update(&record.0);
    Digest(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_depends_on_the_name_the_order_and_the_borders_of_records() {
        let (a, b) = (LogId::new("run/a").unwrap(), LogId::new("run/b").unwrap());
        assert_ne!(chain_start(&a), chain_start(&b));
        let walk =
            |parts: &[&str]| parts.iter().fold(chain_start(&a), |chain, part| chain_after(&chain, &Record(part.as_bytes().to_vec())));
        assert_ne!(walk(&["x", "y"]), walk(&["y", "x"]));
        assert_ne!(walk(&["xy"]), walk(&["x", "y"]));
    }

    #[test]
    fn the_chain_of_a_known_log_never_changes_between_versions() {
        let log = LogId::new("run/sample").unwrap();
        let chain = chain_after(&chain_start(&log), &Record(b"begun".to_vec()));
        assert_eq!(chain.to_string(), "f72ebcef9e9578c9b45354dfcbce7fd00fcab90babc681f6e4032396302168b4");
    }
}
