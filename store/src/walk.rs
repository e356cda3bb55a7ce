//! Every record of a store in order, with the hash chain computed anew. What does not fit is told and the walk goes on; nothing is
//! mended and nothing is judged here. The same walk over an export is in `export`.

use std::num::NonZeroU32;

use crate::chain::{chain_after, chain_start};
use crate::{Digest, LogHead, LogId, Record, Seq, Store, StoreError};

/// Records read at once.
const PAGE: NonZeroU32 = NonZeroU32::new(512).expect("it is not zero");

/// What a walk comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A log begins; so its head describes it.
    Log(LogHead),
    /// A record, with the chain after it as computed from the records before it.
    Record {
        /// The log.
        log: LogId,
        /// The place.
        at: Seq,
        /// The chain after it.
        chain: Digest,
        /// Its bytes.
        record: Record,
    },
    /// The record that stands for those that were truncated away. Its chain is as stored: nothing before it is there to compute it from.
    Carry {
        /// The log.
        log: LogId,
        /// The place.
        at: Seq,
        /// The chain after it.
        chain: Digest,
        /// Its bytes.
        record: Record,
    },
    /// A kept value that has its digest.
    Value {
        /// The digest.
        digest: Digest,
        /// The value.
        bytes: Vec<u8>,
    },
    /// Something does not fit.
    Problem(Problem),
}

/// Something that does not fit, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The log, where it is about one.
    pub log: Option<LogId>,
    /// The place in the log, where it is about one.
    pub at: Option<Seq>,
    /// The line of the export, from 1, where there is one.
    pub line: Option<u64>,
    /// What does not fit, as a sentence without its end.
    pub what: String,
}

/// Follows the chain of one log from record to record. Goes on from what is stored after a break, so that each break is told once.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) head: LogHead,
    pub(crate) next: Seq,
    /// Computed from the records alone.
    computed: Digest,
    /// As stored with the last record.
    stored: Digest,
}

impl Follower {
    pub(crate) fn new(head: LogHead) -> Self {
        let start = chain_start(&head.log);
        Self { next: head.first, computed: start, stored: start, head }
    }

    fn problem(&self, at: Seq, what: impl Into<String>) -> Problem {
        Problem { log: Some(self.head.log.clone()), at: Some(at), line: None, what: what.into() }
    }

    /// A record that stands for others comes first. At place 0 it stands for itself alone, as a log that was truncated there has it.
    pub(crate) fn carry(&mut self, at: Seq, stored: Digest) -> Option<Problem> {
        let fits = self.next == self.head.first && at == self.head.first;
        let problem = (!fits).then(|| self.problem(at, format!("entry {} stands for others in the middle of the log", at.0)));
        (self.computed, self.stored, self.next) = (stored, stored, Seq(at.0 + 1));
        problem
    }

    /// The next record. `stored` is the chain that was stored with it, where that is known.
    pub(crate) fn record(&mut self, at: Seq, stored: Option<Digest>, record: &Record) -> (Digest, Vec<Problem>) {
        let mut problems = Vec::new();
        if at > self.next {
            problems.push(self.problem(
                self.next,
                match at.0 - self.next.0 {
                    1 => format!("entry {} is missing", self.next.0),
                    _ => format!("entries {} to {} are missing", self.next.0, at.0 - 1),
                },
            ));
        } else if at < self.next {
            problems.push(self.problem(at, format!("entry {} stands where entry {} belongs", at.0, self.next.0)));
        }
        let follows = chain_after(&self.stored, record);
        if problems.is_empty() && stored.is_some_and(|stored| stored != follows) {
            problems.push(
                self.problem(at, format!("entry {} does not follow from the one before it, or was changed: the chain breaks here", at.0)),
            );
        }
        self.computed = chain_after(&self.computed, record);
        self.stored = stored.unwrap_or(follows);
        self.next = Seq(at.0.max(self.next.0) + 1);
        (self.computed, problems)
    }

    /// The log is over: it must end where and as its head says.
    pub(crate) fn end(&self) -> Option<Problem> {
        let next = self.head.next;
        if self.next < next {
            return Some(self.problem(self.next, format!("entries from {} on are missing: the log ended at {}", self.next.0, next.0)));
        }
        if self.next > next {
            return Some(self.problem(next, format!("entry {} and what follows stand behind the end of the log", next.0)));
        }
        (self.stored != self.head.chain && self.next > self.head.first)
            .then(|| self.problem(Seq(next.0 - 1), "the log's head has another chain than its last entry".to_owned()))
    }
}

/// A walk over a store.
#[derive(Debug)]
pub struct Walk<'a> {
    store: &'a dyn Store,
    logs: std::vec::IntoIter<LogHead>,
    values: std::vec::IntoIter<Digest>,
    current: Option<Follower>,
    ready: std::collections::VecDeque<Seen>,
}

impl<'a> Walk<'a> {
    /// Over these values, then these logs.
    #[must_use]
    pub fn new(store: &'a dyn Store, logs: Vec<LogHead>, values: Vec<Digest>) -> Self {
        Self { store, logs: logs.into_iter(), values: values.into_iter(), current: None, ready: std::collections::VecDeque::new() }
    }

    /// Over all logs and all kept values.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub async fn over_all(store: &'a dyn Store) -> Result<Self, StoreError> {
        let logs = store.logs("", None, NonZeroU32::MAX).await?;
        let values = store.kept_values(None, NonZeroU32::MAX).await?;
        Ok(Self::new(store, logs, values))
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// Where the store itself fails; damage is part of the walk.
    pub async fn next(&mut self) -> Result<Option<Seen>, StoreError> {
        loop {
            if let Some(seen) = self.ready.pop_front() {
                return Ok(Some(seen));
            }
            // Values first: who takes the walk in has them before anything names them.
            if let Some(digest) = self.values.next() {
                return self.value(digest).await.map(Some);
            } else if self.current.is_some() {
                self.page().await?;
            } else if let Some(head) = self.logs.next() {
                self.current = Some(Follower::new(head.clone()));
                return Ok(Some(Seen::Log(head)));
            } else {
                return Ok(None);
            }
        }
    }

    /// Reads the next page of the current log, or ends it.
    async fn page(&mut self) -> Result<(), StoreError> {
        let Some(follower) = self.current.as_mut() else { return Ok(()) };
        let (log, first) = (follower.head.log.clone(), follower.head.first);
        if follower.next >= follower.head.next {
            self.ready.extend(follower.end().map(Seen::Problem));
            self.current = None;
            return Ok(());
        }
        // Whether the first record is a carry is told by its chain, which comes only with a page that ends behind it.
        let limit = if follower.next == first { NonZeroU32::MIN } else { PAGE };
        let page = match self.store.read(&log, follower.next, limit).await {
            Ok(page) => page,
            Err(StoreError::Damaged { what, .. }) => {
                self.ready.push_back(Seen::Problem(Problem { log: Some(log), at: Some(follower.next), line: None, what }));
                self.current = None;
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        if page.records.is_empty() {
            self.ready.extend(follower.end().map(Seen::Problem));
            self.current = None;
            return Ok(());
        }
        let count = page.records.len();
        for (place, (at, record)) in page.records.into_iter().enumerate() {
            // What was appended after the walk began is the next walk's.
            if at >= follower.head.next {
                self.current = None;
                return Ok(());
            }
            let is_carry = first > Seq(0) || chain_after(&chain_start(&log), &record) != page.chain;
            if at == first && is_carry {
                self.ready.extend(follower.carry(at, page.chain).map(Seen::Problem));
                self.ready.push_back(Seen::Carry { log: log.clone(), at, chain: page.chain, record });
                continue;
            }
            let stored = (place + 1 == count).then_some(page.chain);
            let (chain, problems) = follower.record(at, stored, &record);
            self.ready.extend(problems.into_iter().map(Seen::Problem));
            self.ready.push_back(Seen::Record { log: log.clone(), at, chain, record });
        }
        Ok(())
    }

    async fn value(&self, digest: Digest) -> Result<Seen, StoreError> {
        let problem = |what: String| Seen::Problem(Problem { log: None, at: None, line: None, what });
        match self.store.kept(&digest).await {
            Ok(bytes) => Ok(Seen::Value { digest, bytes }),
            Err(StoreError::Damaged { what, .. }) => Ok(problem(what)),
            Err(StoreError::NoSuchValue(digest)) => Ok(problem(format!("the kept value {digest} is missing"))),
            Err(other) => Err(other),
        }
    }
}
