//! Holds a store or an export against its signed checkpoints: what was changed, cut, moved or taken away, and how far anything is proven.
//! Pure: it is handed what a walk comes by. What a store must be like beside that is in `soundness`.

mod claims;
pub mod soundness;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::checkpoint::{StoreRecord, is_witnessed, store_log};
use crate::growth::ArchiveRecord;
use crate::journal::{Entry, Event};
use crate::mutants::{self, Mutant};
use lifeboat_store::{Digest, LogId, Seen, Seq};

pub use claims::{Cause, Claims, ClaimsError, Void};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The log, where it is about one.
    pub log: Option<String>,
    /// The first entry that it is about, from 0.
    pub entry: Option<u64>,
    /// What is wrong, as a sentence without its end.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.log {
            Some(log) => write!(f, "{log}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// How far a log is proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The log.
    pub log: String,
    /// Its entries.
    pub entries: u64,
    /// So many of them, from the first on, are what was signed.
    pub proven: u64,
    /// When the last of those was signed.
    pub signed_at: Option<Timestamp>,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// What is not as it should be; empty means that nothing was found.
    pub findings: Vec<Finding>,
    /// Every log whose entries are signed for, in order.
    pub logs: Vec<Proven>,
    /// Checkpoints that counted.
    pub checkpoints: u64,
    /// Checkpoints of other stores, which say nothing here.
    pub of_other_stores: u64,
}

impl Audit {
    /// Entries behind the last checkpoints: whoever owns the host could have rewritten them.
    #[must_use]
    pub fn unproven(&self) -> u64 {
        self.logs.iter().map(|log| log.entries - log.proven).sum()
    }
}

/// Whether all of a store is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it: a log that was signed and is not there is missed.
    Whole,
    /// Some logs of it, as an export of one run.
    Part,
}

/// Hears a walk out, then judges.
#[derive(Debug)]
pub struct Auditor {
    claims: Claims,
    findings: Vec<Finding>,
    logs: Vec<Heard>,
    archived: BTreeMap<LogId, Archived>,
    store: Option<String>,
    /// When the first checkpoint of this store was signed.
    since: Option<Timestamp>,
}

/// How the last event of a run is written.
const RUN_ENDED: &[u8] = b"\"run_ended\"";

/// When an id that carries its time (UUID version 7) was made.
fn made_at(id: &str) -> Option<Timestamp> {
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    let version = digits.get(12..13)?;
    let millis = i64::from_str_radix(digits.get(..12)?, 16).ok()?;
    (digits.len() == 32 && version == "7").then(|| Timestamp::from_millisecond(millis).ok())?
}

/// A log that was heard, or is being heard.
#[derive(Debug)]
struct Heard {
    log: LogId,
    /// Where it begins, if its first entries are folded away.
    first: Seq,
    next: Seq,
    /// Chains after the places that some checkpoint is about.
    chains: BTreeMap<Seq, Digest>,
    /// The entry with which its run ended, and when.
    ended: Option<(Seq, Timestamp)>,
}

/// A run that was compacted away, as the archive's log has it.
#[derive(Debug)]
struct Archived {
    next: Seq,
    chain: Digest,
}

impl Auditor {
    /// Judges by these claims.
    #[must_use]
    pub fn new(claims: Claims) -> Self {
        Self { claims, findings: Vec::new(), logs: Vec::new(), archived: BTreeMap::new(), store: None, since: None }
    }

    /// The next thing of the walk.
    pub fn hear(&mut self, seen: &Seen) {
        match seen {
            Seen::Log(head) => {
                self.logs.push(Heard { log: head.log.clone(), first: head.first, next: head.first, chains: BTreeMap::new(), ended: None });
            }
            Seen::Record { log, at, chain, record } => {
                self.entry(*at, *chain);
                if log.as_str().starts_with("run/") {
                    self.run(*at, &record.0);
                } else if log.as_str() == "archive" {
                    self.archive(*at, &record.0);
                } else if store_log().is_ok_and(|store| store == *log) && *at == Seq(0) {
                    self.store = serde_json::from_slice::<StoreRecord>(&record.0).ok().map(|record| record.id);
                }
            }
            Seen::Carry { log, at, chain, .. } => {
                if log.as_str().starts_with("run/") {
                    let what = "its first entries are cut away, which no run's journal ever has".to_owned();
                    self.findings.push(Finding { log: Some(log.to_string()), entry: Some(0), what });
                }
                self.entry(*at, *chain);
            }
            Seen::Value { .. } => {}
            Seen::Problem(problem) => {
                let log = problem.log.as_ref().map(ToString::to_string);
                self.findings.push(Finding { log, entry: problem.at.map(|at| at.0), what: problem.what.clone() });
            }
        }
    }

    fn entry(&mut self, at: Seq, chain: Digest) {
        let Some(heard) = self.logs.last_mut() else { return };
        heard.next = Seq(at.0 + 1);
        if self.claims.is_about(&heard.log, heard.next) {
            heard.chains.insert(heard.next, chain);
        }
    }

    fn run(&mut self, at: Seq, bytes: &[u8]) {
        // Most entries are of other kinds; they are not read for this.
        if bytes.windows(RUN_ENDED.len()).any(|part| part == RUN_ENDED)
            && let (Some(heard), Ok(entry)) = (self.logs.last_mut(), Entry::decode(bytes))
            && matches!(entry.event, Event::RunEnded { .. })
        {
            heard.ended = Some((at, entry.at));
        }
    }

    fn archive(&mut self, at: Seq, bytes: &[u8]) {
        let read = serde_json::from_slice::<ArchiveRecord>(bytes).map_err(|error| error.to_string());
        let archived = read.and_then(|record| {
            let log = crate::history::run_log(&record.run).map_err(|error| error.to_string())?;
            let chain = Digest::parse(&record.chain).ok_or("it has no chain")?;
            Ok((log, Archived { next: Seq(record.entries), chain }))
        });
        match archived {
            Ok((log, archived)) => {
                self.archived.insert(log, archived);
            }
            Err(why) => {
                let what = format!("entry {} does not tell of a run: {why}", at.0);
                self.findings.push(Finding { log: Some("archive".into()), entry: Some(at.0), what });
            }
        }
    }

    /// Whether a store's own id was heard: an export that has it is one of a whole store.
    #[must_use]
    pub fn heard_store(&self) -> bool {
        self.store.is_some()
    }

    /// The judgement, once the walk is over.
    #[must_use]
    pub fn judge(mut self, extent: Extent) -> Audit {
        let mut audit = Audit { findings: std::mem::take(&mut self.findings), ..Audit::default() };
        audit.findings.extend(self.claims.tampered());
        let about_nothing = self.claims.is_empty();
        self.judge_store(extent, &mut audit);
        audit.checkpoints = self.claims.len();
        // A store gets its id with its first checkpoint, so that whoever takes the first lines away moves nothing.
        let named = self.store.as_deref().and_then(made_at);
        self.since = self.claims.since().into_iter().chain(named).min();
        audit.findings.extend(self.claims.contradictions());
        for heard in std::mem::take(&mut self.logs) {
            if is_witnessed(&heard.log) {
                audit.logs.push(self.judge_log(&heard, &mut audit.findings));
            }
            self.claims.done_with(&heard.log);
        }
        if about_nothing && audit.unproven() > 0 {
            let what = format!("no checkpoint counts, so none of {} entries is proven to be what was written", audit.unproven());
            audit.findings.push(Finding { log: None, entry: None, what });
        }
        for (log, archived) in std::mem::take(&mut self.archived) {
            self.judge_archived(&log, &archived, &mut audit.findings);
            self.claims.done_with(&log);
        }
        if extent == Extent::Whole {
            audit.findings.extend(self.claims.left().map(|(log, next, at)| Finding {
                log: Some(log.to_string()),
                entry: Some(0),
                what: format!("{next} entries were signed for at {at}, and the log is gone"),
            }));
        }
        audit
    }

    /// Which checkpoints are about this store at all.
    fn judge_store(&mut self, extent: Extent, audit: &mut Audit) {
        let ids = self.claims.stores();
        if let Some(id) = &self.store {
            audit.of_other_stores = self.claims.keep_only(id);
            if self.claims.is_empty() && !ids.is_empty() {
                let what = format!("no checkpoint is about this store ({id}); they are about {}", ids.join(", "));
                audit.findings.push(Finding { log: None, entry: None, what });
            }
        } else if extent == Extent::Whole && !self.claims.is_empty() {
            // Checkpoints are made only for a store that has an id. Without it they are held against the store all the same.
            let what = "the store's id is missing, although checkpoints were made".to_owned();
            audit.findings.push(Finding { log: Some("store".into()), entry: Some(0), what });
        }
    }

    /// Each checkpoint in turn: the first that does not fit is told, with what lies between it and the last that does.
    fn judge_log(&self, heard: &Heard, findings: &mut Vec<Finding>) -> Proven {
        let Heard { log, first, next, chains, ended } = heard;
        let mut proven = Proven { log: log.to_string(), entries: next.0, proven: 0, signed_at: None };
        let finding = |entry: u64, what: String| Finding { log: Some(log.to_string()), entry: Some(entry), what };
        for (signed_next, chain, at) in self.claims.of(log) {
            // What was folded away cannot be looked at; the carry's chain is.
            if signed_next <= *first {
                continue;
            }
            match chains.get(&signed_next) {
                Some(found) if *found == chain => {
                    proven.proven = signed_next.0;
                    proven.signed_at = Some(at);
                }
                Some(_) => {
                    let (from, last) = (proven.proven, signed_next.0 - 1);
                    let which = if from == last { format!("entry {from} is") } else { format!("entries {from} to {last} are") };
                    findings.push(finding(from, format!("{which} not what was signed at {at}: changed, moved, put in or taken out")));
                    return proven;
                }
                None if mutants::is(Mutant::CutOffUnseen) => {}
                None => {
                    let what =
                        format!("{} entries were signed for at {at}, and it ends after {}: the rest was cut off", signed_next.0, next.0);
                    findings.push(finding(next.0.min(signed_next.0), what));
                    return proven;
                }
            }
        }
        // The end of a run is signed at once, by the next process at the latest.
        if let (Some((at, ended_at)), Some(since)) = (ended, self.since)
            && proven.proven <= at.0
            && *ended_at > since
        {
            let what = format!(
                "the run ended at {ended_at} and nobody signed for its end, although checkpoints were made since {since}: they are lost, \
                 could not be written, or the run was put in"
            );
            findings.push(finding(proven.proven, what));
        }
        proven
    }

    fn judge_archived(&self, log: &LogId, archived: &Archived, findings: &mut Vec<Finding>) {
        for (next, chain, at) in self.claims.of(log) {
            let what = if next > archived.next {
                format!("{} entries were signed for at {at}; the archive tells of {}", next.0, archived.next.0)
            } else if next == archived.next && chain != archived.chain {
                format!("it is archived with another chain than the one signed at {at}")
            } else {
                continue;
            };
            findings.push(Finding { log: Some(log.to_string()), entry: Some(archived.next.0), what });
            return;
        }
    }
}
