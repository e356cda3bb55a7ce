//! The file of acknowledged heartbeats, kept outside the database: what was surely committed, when, and when that ended.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of the file's format.
pub const FORMAT: u32 = 1;
/// Most beats kept one by one, which bounds the file; a loss over a longer stretch has a lower bound of zero seconds.
pub const RECENT_MAX: usize = 300;
/// Most outages and timelines kept.
pub const OUTAGES_MAX: usize = 16;
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the writer knows, as it lies on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// [`FORMAT`].
    pub format: u32,
    /// The database's name in the inventory.
    pub db: String,
    /// The cluster.
    pub system_identifier: Option<String>,
    /// Time from one beat to the next, in milliseconds.
    pub period_ms: u64,
    /// The last acknowledged beats, oldest first.
    pub recent: Vec<Beat>,
    /// The last acknowledged beat of each timeline, oldest first.
    pub timelines: Vec<Beat>,
    /// Stretches without an acknowledged beat that began with a failure, oldest first. The last may be open.
    pub outages: Vec<Outage>,
}

/// One acknowledged row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// Its number. Numbers only grow.
    pub n: u64,
    /// The timeline that it was committed on.
    pub timeline: u32,
    /// The node that acknowledged it.
    pub node: String,
    /// Just before it was sent, on the writer's clock.
    pub sent_at: Timestamp,
    /// Just after the acknowledgement arrived, on the writer's clock.
    pub acked_at: Timestamp,
}

/// A stretch without an acknowledged beat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// The last beat before it.
    pub last: Option<Beat>,
    /// When the first failure after that beat was noticed.
    pub first_failed_at: Timestamp,
    /// What failed, in words.
    pub why: String,
    /// The first beat after it, once there is one.
    pub restored: Option<Beat>,
}

impl Acknowledged {
    /// A new file's content.
    #[must_use]
    pub fn new(db: &str, period_ms: u64) -> Self {
        Self { format: FORMAT, db: db.to_owned(), period_ms, ..Self::default() }
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// What does not fit.
    pub fn read(path: &Path) -> Result<Option<Self>, String> {
        let trouble = |why: &dyn std::fmt::Display| format!("the acknowledged heartbeats in {} cannot be read: {why}", path.display());
        match fs::metadata(path) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(trouble(&format!("it has {} bytes", meta.len()))),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble(&error)),
        }
        let text = fs::read_to_string(path).map_err(|e| trouble(&e))?;
        let read: Self = serde_json::from_str(&text).map_err(|e| trouble(&e))?;
        if read.format != FORMAT {
            return Err(trouble(&format!("its format is {}, this program reads {FORMAT}", read.format)));
        }
        Ok(Some(read))
    }

    /// Puts the file in place of the old one in one move, so that a reader never sees half of it. It survives the end of the
    /// process at any instant; a power cut may take the last beats, which only widens the measured loss.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let trouble = |why: &dyn std::fmt::Display| format!("the acknowledged heartbeats cannot be written to {}: {why}", path.display());
        let text = serde_json::to_vec(self).map_err(|e| trouble(&e))?;
        let beside: PathBuf = path.with_extension("new");
        let mut file = fs::File::create(&beside).map_err(|e| trouble(&e))?;
        file.write_all(&text).map_err(|e| trouble(&e))?;
        drop(file);
        fs::rename(&beside, path).map_err(|e| trouble(&e))
    }

    /// The number of the last acknowledged beat; 0 before the first.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.recent.last().map_or(0, |beat| beat.n)
    }

    /// The last acknowledged beat of a timeline.
    #[must_use]
    pub fn last_on(&self, timeline: u32) -> Option<&Beat> {
        self.timelines.iter().find(|beat| beat.timeline == timeline)
    }

    /// The first beat after number `n` on a timeline, if it is still kept.
    #[must_use]
    pub fn first_after(&self, n: u64, timeline: u32) -> Option<&Beat> {
        let oldest_kept = self.recent.first()?.n;
        // If older ones were dropped, the first one kept need not be the first one after `n`.
        if oldest_kept > n.saturating_add(1) {
            return None;
        }
        self.recent.iter().find(|beat| beat.n > n && beat.timeline == timeline)
    }

    /// The outage that ended a timeline's service: the last one whose last beat was on it.
    #[must_use]
    pub fn outage_of(&self, timeline: u32) -> Option<&Outage> {
        let last = self.last_on(timeline)?;
        self.outages.iter().rev().find(|outage| outage.last.as_ref().is_some_and(|beat| beat.n == last.n))
    }

    /// Takes note of an acknowledged beat.
    pub fn acknowledge(&mut self, beat: Beat) {
        if let Some(outage) = self.outages.last_mut()
            && outage.restored.is_none()
        {
            outage.restored = Some(beat.clone());
        }
        match self.timelines.iter_mut().find(|last| last.timeline == beat.timeline) {
            Some(last) => *last = beat.clone(),
            None => push_bounded(&mut self.timelines, beat.clone(), OUTAGES_MAX),
        }
        push_bounded(&mut self.recent, beat, RECENT_MAX);
    }

    /// Takes note of a failure. Only the first after a beat is kept.
    pub fn fail(&mut self, at: Timestamp, why: &str) {
        if self.outages.last().is_some_and(|outage| outage.restored.is_none()) {
            return;
        }
        let outage = Outage { last: self.recent.last().cloned(), first_failed_at: at, why: why.to_owned(), restored: None };
        push_bounded(&mut self.outages, outage, OUTAGES_MAX);
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T, most: usize) {
    list.push(item);
    if list.len() > most {
        list.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn beat(n: u64, timeline: u32) -> Beat {
        let second = i64::try_from(n).unwrap();
        Beat { n, timeline, node: "a".into(), sent_at: at(second), acked_at: at(second) }
    }

    #[test]
    fn the_first_failure_after_a_beat_is_kept_and_the_next_beat_closes_it() {
        let mut kept = Acknowledged::new("orders-db", 1000);
        (1..=3).for_each(|n| kept.acknowledge(beat(n, 1)));
        kept.fail(at(10), "connection lost");
        kept.fail(at(11), "still lost");
        kept.acknowledge(beat(7, 2));
        assert_eq!(kept.outages.len(), 1);
        let outage = kept.outage_of(1).unwrap();
        assert_eq!((outage.first_failed_at, outage.last.as_ref().unwrap().n), (at(10), 3));
        assert_eq!(outage.restored.as_ref().unwrap().n, 7);
        assert_eq!((kept.last_on(1).unwrap().n, kept.last_on(2).unwrap().n), (3, 7));
        assert!(kept.outage_of(2).is_none());
    }

    #[test]
    fn the_file_stays_bounded_and_admits_what_it_forgot() {
        let mut kept = Acknowledged::new("orders-db", 200);
        (1..=1000).for_each(|n| kept.acknowledge(beat(n, 1)));
        assert_eq!(kept.recent.len(), RECENT_MAX);
        assert_eq!(kept.first_after(900, 1).unwrap().n, 901);
        assert_eq!(kept.first_after(700, 1).unwrap().n, 701);
        assert_eq!(kept.first_after(500, 1), None);
    }

    #[test]
    fn the_file_is_replaced_whole_and_an_unknown_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.json");
        assert_eq!(Acknowledged::read(&path).unwrap(), None);
        let mut kept = Acknowledged::new("orders-db", 200);
        kept.acknowledge(beat(1, 1));
        kept.write(&path).unwrap();
        assert_eq!(Acknowledged::read(&path).unwrap().unwrap(), kept);
        kept.format = 2;
        kept.write(&path).unwrap();
        assert!(Acknowledged::read(&path).unwrap_err().contains("format is 2"));
        fs::write(&path, "{").unwrap();
        assert!(Acknowledged::read(&path).is_err());
    }
}
