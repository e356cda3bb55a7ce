//! Reading logs and listing them. Every page is of one moment: the head, and the batches as they were at the revision of that head.

use std::num::NonZeroU32;

use etcd_client::{GetOptions, Txn, TxnOp, TxnOpResponse};

use super::layout::{Batch, Head, Keys, Kind};
use super::members::{Deadline, Members};
use crate::chain::{chain_after, chain_start};
use crate::{LogHead, LogId, PAGE_BYTES_MAX, Page, Seq, StoreError};

/// Batches asked for first, when nothing is known of their size: together they fit one answer even if each is the largest.
const BATCHES_FIRST: i64 = 8;

/// Batches asked for at once later.
const BATCHES_MAX: i64 = 512;

/// Bytes of batches that are asked for at once, as far as the batches before tell.
const BATCH_BYTES_WANTED: usize = 2 * 1024 * 1024;

/// Heads asked for at once.
const HEADS_MAX: i64 = 1000;

/// Records of a log from a place on.
pub(super) async fn page(members: &Members, keys: &Keys, log: &LogId, from: Seq, limit: usize) -> Result<Page, StoreError> {
    let deadline = members.deadline();
    let (_, end) = keys.batches(log);
    let head_key = keys.head(log);
    let first = [
        TxnOp::get(head_key.clone(), None),
        TxnOp::get(keys.batch(log, from), Some(GetOptions::new().with_range(end.clone()).with_limit(BATCHES_FIRST))),
    ];
    let answer = members.txn(deadline, Txn::new().and_then(first)).await?;
    let revision = answer.header().map_or(0, |header| header.revision());
    let mut found = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(mut found) => found.take_kvs(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => Vec::new(),
    });
    let Some(head) = found.next().unwrap_or_default().into_iter().next() else {
        return Ok(Page { records: Vec::new(), next: Seq(0), chain: chain_start(log) });
    };
    let head = Head::from_value(&head_key, head.value());
    let head = head.ok_or_else(|| members.damaged(format!("the head of log {log} does not match its checksum")))?;
    if from < head.first {
        return Err(StoreError::Compacted { log: log.clone(), first: head.first });
    }
    let mut builder =
        Builder { members, log, from, limit, bytes: 0, page: Page { records: Vec::new(), next: head.next, chain: head.chain } };
    let mut batches = found.next().unwrap_or_default();
    loop {
        let (count, mut bytes) = (batches.len(), 0);
        let mut last = None;
        for batch in batches {
            bytes += batch.value().len();
            last = Keys::last_place(batch.key());
            if builder.add(batch.key(), batch.value())? == Full::Yes {
                return Ok(builder.page);
            }
        }
        let Some(next) = last.map(|last| Seq(last.0 + 1)).filter(|next| *next < head.next) else {
            return builder.ended(head);
        };
        let wanted = i64::try_from(BATCH_BYTES_WANTED / (bytes / count.max(1)).max(1)).unwrap_or(BATCHES_MAX).clamp(1, BATCHES_MAX);
        match more(members, keys, log, next, wanted, revision, deadline).await {
            Ok(more) => batches = more,
            // That moment may be compacted away by now; a page may end early.
            Err(_) if !builder.page.records.is_empty() => return Ok(builder.page),
            Err(error) => return Err(error),
        }
    }
}

async fn more(
    members: &Members,
    keys: &Keys,
    log: &LogId,
    from: Seq,
    wanted: i64,
    revision: i64,
    deadline: Deadline,
) -> Result<Vec<etcd_client::KeyValue>, StoreError> {
    let (_, end) = keys.batches(log);
    let options = GetOptions::new().with_range(end).with_limit(wanted).with_revision(revision);
    Ok(members.get(deadline, keys.batch(log, from), Some(options)).await?.take_kvs())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    Yes,
    No,
}

/// Puts batches together to a page, and checks that each goes on where the one before ended.
struct Builder<'a> {
    members: &'a Members,
    log: &'a LogId,
    from: Seq,
    limit: usize,
    bytes: usize,
    page: Page,
}

impl Builder<'_> {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<Full, StoreError> {
        let wrong = |what: &str| {
            let place = Keys::last_place(key).map_or(0, |last| last.0);
            self.members.damaged(format!("the batch that ends at place {place} of log {} {what}", self.log))
        };
        let batch = Batch::from_value(key, value).map_err(wrong)?;
        let last = Keys::last_place(key).ok_or_else(|| wrong("has no place"))?;
        let first = (last.0 + 1).checked_sub(batch.records.len() as u64).ok_or_else(|| wrong("holds too much"))?;
        let due = self.page.records.last().map_or(self.from, |(place, _)| Seq(place.0 + 1));
        let before = self.page.records.last().map(|_| self.page.chain);
        if first > due.0 || before.is_some_and(|before| first == due.0 && before != batch.chain_before) {
            return Err(wrong("does not go on where the one before ended"));
        }
        let mut chain = batch.chain_before;
        for (place, record) in (first..).zip(batch.records) {
            chain = match batch.kind {
                Kind::Appended => chain_after(&chain, &record),
                Kind::Carry => batch.chain_after,
            };
            if place < due.0 {
                continue;
            }
            if self.page.records.len() >= self.limit || self.bytes + record.0.len() > PAGE_BYTES_MAX {
                return Ok(Full::Yes);
            }
            self.bytes += record.0.len();
            self.page.records.push((Seq(place), record));
            self.page.chain = chain;
        }
        Ok(Full::No)
    }

    /// The log's end was reached: its chain must be the one that the head tells.
    fn ended(self, head: Head) -> Result<Page, StoreError> {
        let end = self.page.records.last().map_or(self.from, |(place, _)| Seq(place.0 + 1));
        if end < head.next || (end == head.next && self.page.chain != head.chain) {
            return Err(self.members.damaged(format!("log {} ends at place {}, its head says {}", self.log, end.0, head.next.0)));
        }
        Ok(self.page)
    }
}

/// Heads of logs whose name begins with `prefix`, after `after`.
pub(super) async fn heads(
    members: &Members,
    keys: &Keys,
    prefix: &str,
    after: Option<&LogId>,
    limit: NonZeroU32,
) -> Result<Vec<LogHead>, StoreError> {
    let deadline = members.deadline();
    let (mut from, end) = keys.heads(prefix);
    if let Some(after) = after {
        // The next name is the same with a byte more that is lower than all others.
        from = from.max([&keys.head(after)[..], b"\0"].concat());
    }
    let mut heads = Vec::new();
    let mut left = i64::from(limit.get());
    while from < end && left > 0 {
        let options = GetOptions::new().with_range(end.clone()).with_limit(left.min(HEADS_MAX));
        let answer = members.get(deadline, from.clone(), Some(options)).await?;
        for found in answer.kvs() {
            let name = String::from_utf8_lossy(found.key()).into_owned();
            let (Some(log), Some(head)) = (keys.log_of(found.key()), Head::from_value(found.key(), found.value())) else {
                return Err(members.damaged(format!("the head {name:?} is none, or does not match its checksum")));
            };
            heads.push(LogHead { log, first: head.first, next: head.next, chain: head.chain });
        }
        left -= answer.kvs().len() as i64;
        match answer.kvs().last() {
            Some(last) if answer.more() => from = [last.key(), b"\0"].concat(),
            Some(_) | None => break,
        }
    }
    Ok(heads)
}
