//! Whether there is room for another run: a run that is admitted must not die half-way for want of space. Deciding only; who asks the
//! disk is the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use lifeboat_store::{Room, Store, StoreError};

/// How full the disk of the data folder may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiskLimits {
    /// From so many percent on people are warned.
    pub warn_percent: u64,
    /// From so many percent on no new run is admitted. Runs that were admitted go on.
    pub refuse_percent: u64,
    /// Neither counts while so many bytes are free: four fifths of a large disk are no danger.
    pub enough_free_bytes: u64,
}

impl Default for DiskLimits {
    fn default() -> Self {
        Self { warn_percent: 70, refuse_percent: 80, enough_free_bytes: 1024 * 1024 * 1024 }
    }
}

/// What the room means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is enough, or nobody can tell.
    Enough,
    /// People should make room.
    Scarce(Room),
    /// No new run.
    Full(Room),
}

impl DiskLimits {
    /// Judges a disk.
    #[must_use]
    pub fn judge(&self, room: Option<Room>) -> Verdict {
        match room {
            Some(room) if room.total_bytes - room.used_bytes.min(room.total_bytes) < self.enough_free_bytes => match room.used_percent() {
                used if used >= self.refuse_percent => Verdict::Full(room),
                used if used >= self.warn_percent => Verdict::Scarce(room),
                _ => Verdict::Enough,
            },
            Some(_) | None => Verdict::Enough,
        }
    }

    /// Asks the store and judges.
    ///
    /// # Errors
    /// Where the disk cannot be asked.
    pub async fn of(&self, store: &dyn Store) -> Result<Verdict, StoreError> {
        Ok(self.judge(store.room().await?))
    }
}

impl Verdict {
    /// What people are told; `None` where there is nothing to tell.
    #[must_use]
    pub fn warning(&self, limits: &DiskLimits) -> Option<String> {
        let refuse = limits.refuse_percent;
        match self {
            Self::Enough => None,
            Self::Scarce(room) => Some(format!(
                "the disk of the data folder is {} % full; from {refuse} % on no new run is admitted: make room, or `lifeboat store compact --archive DIR` with DIR on another disk",
                room.used_percent()
            )),
            Self::Full(room) => Some(format!(
                "the disk of the data folder is {} % full: no new run is admitted from {refuse} % on; make room, or `lifeboat store compact --archive DIR` with DIR on another disk",
                room.used_percent()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn room(used_percent: u64, total_bytes: u64) -> Option<Room> {
        Some(Room { used_bytes: total_bytes / 100 * used_percent, total_bytes })
    }

    #[test]
    fn a_small_disk_is_scarce_from_70_and_full_from_80_percent_and_a_large_one_only_with_little_left() {
        let limits = DiskLimits::default();
        let total = 500 * MIB;
        assert_eq!(limits.judge(room(69, total)), Verdict::Enough);
        assert!(matches!(limits.judge(room(70, total)), Verdict::Scarce(_)));
        assert!(matches!(limits.judge(room(79, total)), Verdict::Scarce(_)));
        assert!(matches!(limits.judge(room(80, total)), Verdict::Full(_)));
        assert!(matches!(limits.judge(room(100, total)), Verdict::Full(_)));
        assert_eq!(limits.judge(room(90, 1024 * 1024 * MIB)), Verdict::Enough, "100 GiB are free");
        assert_eq!(limits.judge(None), Verdict::Enough);
        assert_eq!(limits.judge(Some(Room { used_bytes: 0, total_bytes: 0 })), Verdict::Enough);
        let lax = DiskLimits { refuse_percent: 95, ..limits };
        assert!(matches!(lax.judge(room(94, total)), Verdict::Scarce(_)));
        assert!(lax.judge(room(94, total)).warning(&lax).unwrap().contains("94 %"));
    }
}
