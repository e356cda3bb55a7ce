//! Which versions of etcd may be used. Pure.
//!
//! etcd issue 20418: after a member was paused (a stopped process, a frozen virtual machine) its linearizable reads could answer with
//! what was true before. It is in 3.4.20 and 3.5.0 and what followed, and mended in 3.4.42, 3.5.28 and 3.6.9.

/// Why a version is not used unless somebody accepts it.
pub(super) const STALE: &str =
    "its reads may tell what was true before, after a member was paused (etcd issue 20418; mended in 3.4.42, 3.5.28 and 3.6.9)";

/// Why a version cannot be used at all.
pub(super) const TOO_OLD: &str = "3.4.0 is the oldest that this program knows";

/// What can be said of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    /// Nothing is known against it.
    Fit,
    /// It may answer stale.
    Stale,
    /// Older than what was ever tried, or not a version at all.
    Unknown,
}

/// Judges what a member says it is: `3.5.1`, perhaps with something behind it.
pub(super) fn judge(version: &str) -> Fitness {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) = (numbers.next(), numbers.next(), numbers.next()) else {
        return Fitness::Unknown;
    };
    match (major, minor, patch) {
        (0..=2, _, _) | (3, 0..=3, _) => Fitness::Unknown,
        (3, 4, 20..=41) | (3, 5, 0..=27) | (3, 6, 0..=8) => Fitness::Stale,
        (_, _, _) => Fitness::Fit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_between_the_mistake_and_its_mending_are_known() {
        for (version, fitness) in [
            ("3.4.19", Fitness::Fit),
            ("3.4.20", Fitness::Stale),
            ("3.4.23", Fitness::Stale),
            ("3.4.41", Fitness::Stale),
            ("3.4.42", Fitness::Fit),
            ("3.5.0", Fitness::Stale),
            ("3.5.27", Fitness::Stale),
            ("3.5.28", Fitness::Fit),
            ("3.6.0-rc.1", Fitness::Stale),
            ("3.6.8", Fitness::Stale),
            ("3.6.9", Fitness::Fit),
            ("3.7.0", Fitness::Fit),
            ("3.3.27", Fitness::Unknown),
            ("2.3.8", Fitness::Unknown),
            ("", Fitness::Unknown),
            ("three", Fitness::Unknown),
            ("3.5", Fitness::Unknown),
        ] {
            assert_eq!(judge(version), fitness, "{version}");
        }
    }
}
