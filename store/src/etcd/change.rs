//! Changing logs: one transaction each, compared with the heads as they were seen and with this handle's session. A lost answer is made
//! certain: the session's key is written anew, which no transaction from before can pass any more, and the same transaction reads what
//! became of the change. Nothing here is decided by a plain read; what is read is a guess that the transaction then compares.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::layout::{Batch, CommitId, Head, Keys, Kind};
use super::members::{Deadline, Failure, Members, fresh_name};
use crate::chain::chain_start;
use crate::{Commit, Digest, LogId, Record, Seq, StoreError};

/// Heads that are remembered, so that a commit need not ask where a log stands. All are forgotten once there are more.
const REMEMBERED_MAX: usize = 4096;

/// How long the key of a session lives; a handle that lives longer gets another one.
const SESSION_SECONDS: i64 = 24 * 3600;

/// A head and the revision at which it was written; 0 and nothing where the log does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) head: Option<Head>,
    revision: i64,
    created: i64,
}

impl Seen {
    const NOTHING: Self = Self { head: None, revision: 0, created: 0 };

    fn next(&self) -> Seq {
        self.head.map_or(Seq(0), |head| head.next)
    }
}

#[derive(Debug)]
struct Session {
    key: Vec<u8>,
    lease: i64,
    /// The revision that transactions compare.
    revision: i64,
}

/// The way changes go.
#[derive(Debug)]
pub(super) struct Changer {
    session: tokio::sync::Mutex<Option<Session>>,
    turn: Vec<u8>,
    remembered: Mutex<HashMap<LogId, Seen>>,
    txn_ops_max: usize,
    request_bytes_max: usize,
}

/// One transaction as it is tried: what is compared, what is written, and how to find out whether it happened.
struct Attempt {
    logs: Vec<(LogId, Seen)>,
    writes: Vec<TxnOp>,
    proof: Proof,
}

/// What proves that a change happened.
enum Proof {
    /// A batch of this commit at this key.
    Batch { key: Vec<u8>, commit: CommitId },
    /// The head that was created at this revision is gone.
    Gone { key: Vec<u8>, created: i64 },
    /// Nothing was to be written.
    Nothing,
}

/// How a try ended.
enum Tried {
    /// It happened, at this revision where that is known.
    Done(Option<i64>),
    /// It did not, and never will. The heads as they truly are, where the answer told them.
    Not(Option<Vec<Seen>>),
}

impl Changer {
    pub(super) fn new(keys: &Keys, txn_ops_max: usize, request_bytes_max: usize) -> Self {
        Self { session: tokio::sync::Mutex::new(None), turn: keys.turn(), remembered: Mutex::default(), txn_ops_max, request_bytes_max }
    }

    /// All or nothing.
    pub(super) async fn commit(&self, members: &Members, keys: &Keys, commit: Commit) -> Result<(), StoreError> {
        commit.check_limits()?;
        let mut appended: BTreeMap<LogId, Vec<Record>> = BTreeMap::new();
        for (log, records) in commit.append {
            if !records.is_empty() {
                appended.entry(log).or_default().extend(records);
            }
        }
        let mut logs: Vec<LogId> = appended.keys().cloned().chain(commit.expect.iter().map(|(log, _)| log.clone())).collect();
        logs.sort_unstable();
        logs.dedup();
        self.check_size(&logs, &appended)?;
        let id = CommitId(fresh_name());
        let deadline = members.deadline();
        let mut seen = self.guess(members, keys, &logs, deadline).await?;
        if conflict(&commit.expect, &logs, &seen).is_some() {
            // The guess may be old; a refusal is decided by an ordered look.
            seen = self.look(members, keys, &logs, deadline).await?;
        }
        loop {
            if let Some(conflict) = conflict(&commit.expect, &logs, &seen) {
                self.remember(&logs, &seen);
                return Err(conflict);
            }
            let attempt = appending(keys, id, &logs, &seen, &appended);
            let after: Vec<(LogId, Head)> = attempt.1;
            match self.attempt(members, keys, &attempt.0, deadline).await? {
                Tried::Done(revision) => {
                    self.written(after, revision);
                    return Ok(());
                }
                Tried::Not(heads) => {
                    if deadline.left().is_zero() {
                        return Err(members.unreachable("other writers to the same logs were faster every time; nothing was written"));
                    }
                    seen = match heads {
                        Some(heads) => heads,
                        None => self.look(members, keys, &logs, deadline).await?,
                    };
                }
            }
        }
    }

    /// Folds what is before a place into one record.
    pub(super) async fn truncate(&self, members: &Members, keys: &Keys, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        Commit::check_record(&carry)?;
        let id = CommitId(fresh_name());
        let deadline = members.deadline();
        let logs = [log.clone()];
        loop {
            let seen = self.look(members, keys, &logs, deadline).await?[0];
            let conflict = || StoreError::Conflict { log: log.clone(), expected: before, found: seen.next() };
            let Some(head) = seen.head else { return if before == Seq(0) { Ok(()) } else { Err(conflict()) } };
            if before > head.next {
                return Err(conflict());
            }
            let Some(place) = before.0.checked_sub(1).map(Seq) else { return Ok(()) };
            if place < head.first {
                return Err(StoreError::Compacted { log: log.clone(), first: head.first });
            }
            let (key, old) = batch_at(members, keys, log, place, deadline).await?;
            let Some(attempt) = folding(keys, id, log, seen, head, place, &key, old, &carry) else {
                return Err(members.damaged(format!("the batch with place {} of log {log} holds other places", place.0)));
            };
            match self.attempt(members, keys, &attempt, deadline).await? {
                Tried::Done(revision) => {
                    self.written(vec![(log.clone(), Head { first: place, ..head })], revision);
                    return Ok(());
                }
                Tried::Not(_) if deadline.left().is_zero() => {
                    return Err(members.unreachable("other writers to the same log were faster every time; nothing was written"));
                }
                Tried::Not(_) => {}
            }
        }
    }

    /// Begins a log with a carry.
    pub(super) async fn restore(
        &self,
        members: &Members,
        keys: &Keys,
        log: &LogId,
        first: Seq,
        chain: Digest,
        carry: Record,
    ) -> Result<(), StoreError> {
        Commit::check_record(&carry)?;
        let id = CommitId(fresh_name());
        let deadline = members.deadline();
        let logs = [log.clone()];
        loop {
            let seen = self.look(members, keys, &logs, deadline).await?[0];
            if seen.head.is_some() {
                return Err(StoreError::Conflict { log: log.clone(), expected: Seq(0), found: seen.next() });
            }
            let head = Head { first, next: Seq(first.0.saturating_add(1)), chain };
            let (head_key, key) = (keys.head(log), keys.batch(log, first));
            let batch = Batch { kind: Kind::Carry, commit: id, chain_before: chain, chain_after: chain, records: vec![carry.clone()] };
            let attempt = Attempt {
                logs: vec![(log.clone(), seen)],
                writes: vec![
                    TxnOp::put(head_key.clone(), head.to_value(&head_key), None),
                    TxnOp::put(key.clone(), batch.to_value(&key), None),
                ],
                proof: Proof::Batch { key, commit: id },
            };
            match self.attempt(members, keys, &attempt, deadline).await? {
                Tried::Done(revision) => {
                    self.written(vec![(log.clone(), head)], revision);
                    return Ok(());
                }
                Tried::Not(_) if deadline.left().is_zero() => return Err(members.unreachable("nothing was written in time")),
                Tried::Not(_) => {}
            }
        }
    }

    /// Removes a log whole.
    pub(super) async fn remove(&self, members: &Members, keys: &Keys, log: &LogId) -> Result<(), StoreError> {
        let deadline = members.deadline();
        let logs = [log.clone()];
        loop {
            let seen = self.look(members, keys, &logs, deadline).await?[0];
            if seen.head.is_none() {
                return Ok(());
            }
            let (from, end) = keys.batches(log);
            let head = keys.head(log);
            let attempt = Attempt {
                logs: vec![(log.clone(), seen)],
                writes: vec![
                    TxnOp::delete(head.clone(), None),
                    TxnOp::delete(from, Some(etcd_client::DeleteOptions::new().with_range(end))),
                ],
                proof: Proof::Gone { key: head, created: seen.created },
            };
            let done = self.attempt(members, keys, &attempt, deadline).await?;
            self.forget(log);
            match done {
                Tried::Done(_) => return Ok(()),
                Tried::Not(_) if deadline.left().is_zero() => {
                    return Err(members.unreachable("other writers to the same log were faster every time; nothing was removed"));
                }
                Tried::Not(_) => {}
            }
        }
    }

    async fn attempt(&self, members: &Members, keys: &Keys, attempt: &Attempt, deadline: Deadline) -> Result<Tried, StoreError> {
        let (session, revision) = self.session(members, keys, deadline).await?;
        let mut compares = vec![Compare::mod_revision(session, CompareOp::Equal, revision)];
        compares.extend(attempt.logs.iter().map(|(log, seen)| Compare::mod_revision(keys.head(log), CompareOp::Equal, seen.revision)));
        let mut writes = attempt.writes.clone();
        if writes.is_empty() {
            // A transaction that only looks would be answered by one member alone, from what it knows.
            writes.push(TxnOp::put(self.turn.clone(), Vec::new(), None));
        }
        let looks: Vec<TxnOp> = attempt.logs.iter().map(|(log, _)| TxnOp::get(keys.head(log), None)).collect();
        let txn = Txn::new().when(compares).and_then(writes).or_else(looks);
        match members.txn_once(deadline, txn).await {
            Ok(answer) if answer.succeeded() => Ok(Tried::Done(revision_of(&answer))),
            Ok(answer) => {
                // Either a head or the session has moved on; whoever wrote the session anew keeps its revision.
                let heads = heads_of(members, keys, &attempt.logs.iter().map(|(log, _)| log.clone()).collect::<Vec<_>>(), &answer)?;
                if heads.iter().zip(&attempt.logs).all(|(now, (_, seen))| now.revision == seen.revision) {
                    self.session_moved(revision).await;
                }
                Ok(Tried::Not(Some(heads)))
            }
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::TurnedAway(why)) => Err(members.unreachable(why)),
            Err(Failure::Lost(why)) => self.make_certain(members, &attempt.proof, deadline, why).await,
        }
    }

    /// After a lost answer: closes the door to the transaction and looks whether it is inside.
    async fn make_certain(&self, members: &Members, proof: &Proof, deadline: Deadline, mut why: String) -> Result<Tried, StoreError> {
        let in_doubt = |why: String| StoreError::InDoubt { place: members.place(), within: deadline.within, why };
        let mut session = self.session.lock().await;
        let Some((key, lease)) = session.as_ref().map(|session| (session.key.clone(), session.lease)) else {
            return Err(in_doubt(why));
        };
        let probe = match proof {
            Proof::Batch { key, .. } | Proof::Gone { key, .. } => vec![TxnOp::get(key.clone(), None)],
            Proof::Nothing => Vec::new(),
        };
        let options = PutOptions::new().with_lease(lease);
        let closing = Txn::new().and_then([vec![TxnOp::put(key, Vec::new(), Some(options))], probe].concat());
        let answer = loop {
            if deadline.left().is_zero() {
                return Err(in_doubt(why));
            }
            match members.txn_once(deadline, closing.clone()).await {
                Ok(answer) => break answer,
                Err(Failure::Lost(again)) => {
                    why = again;
                    super::members::pause(super::ASK_AGAIN_AFTER.min(deadline.left())).await;
                }
                // Where the session's lease has ended its key is gone, and no transaction that compares it passes either; but what
                // passed before is not read by this. It cannot happen within a day of the session's beginning.
                Err(Failure::Refused(error)) => return Err(in_doubt(error.to_string())),
                Err(Failure::TurnedAway(why)) => return Err(in_doubt(why)),
            }
        };
        if let (Some(session), Some(revision)) = (session.as_mut(), revision_of(&answer)) {
            session.revision = revision;
        }
        drop(session);
        let found = got(&answer).into_iter().next().flatten();
        let done = match (proof, found) {
            (Proof::Batch { key, commit }, Some(found)) => {
                let batch = Batch::from_value(key, found.value()).map_err(|what| members.damaged(format!("a batch {what}")))?;
                batch.commit == *commit
            }
            (Proof::Gone { created, .. }, Some(found)) => found.create_revision() != *created,
            (Proof::Gone { .. }, None) => true,
            (Proof::Batch { .. } | Proof::Nothing, _) => false,
        };
        Ok(if done { Tried::Done(None) } else { Tried::Not(None) })
    }

    /// This handle's session: its key, and the revision to compare.
    async fn session(&self, members: &Members, keys: &Keys, deadline: Deadline) -> Result<(Vec<u8>, i64), StoreError> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref() {
            return Ok((session.key.clone(), session.revision));
        }
        let lease = members.grant(deadline, SESSION_SECONDS).await?;
        let key = keys.session(fresh_name());
        // Written twice after a lost answer, the first revision never shows again; the last one told is the one that stands.
        let revision = members.put(deadline, key.clone(), Vec::new(), Some(PutOptions::new().with_lease(lease))).await?;
        *session = Some(Session { key: key.clone(), lease, revision });
        Ok((key, revision))
    }

    /// A transaction found the session at another revision than this: where nobody of this process wrote it, it has ended.
    async fn session_moved(&self, compared: i64) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|session| session.revision == compared) {
            *session = None;
        }
    }

    /// Where the logs stand, as far as is remembered, and else as one member says.
    async fn guess(&self, members: &Members, keys: &Keys, logs: &[LogId], deadline: Deadline) -> Result<Vec<Seen>, StoreError> {
        let known: Vec<Option<Seen>> = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            logs.iter().map(|log| remembered.get(log).copied()).collect()
        };
        let missing: Vec<LogId> = logs.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(log, _)| log.clone()).collect();
        let mut asked = if missing.is_empty() {
            Vec::new()
        } else {
            let looks: Vec<TxnOp> = missing.iter().map(|log| TxnOp::get(keys.head(log), None)).collect();
            heads_of(members, keys, &missing, &members.txn(deadline, Txn::new().and_then(looks)).await?)?
        }
        .into_iter();
        Ok(known.into_iter().map(|known| known.or_else(|| asked.next()).unwrap_or(Seen::NOTHING)).collect())
    }

    /// Where the logs stand, in the order of all writes.
    async fn look(&self, members: &Members, keys: &Keys, logs: &[LogId], deadline: Deadline) -> Result<Vec<Seen>, StoreError> {
        let mut ops = vec![TxnOp::put(self.turn.clone(), Vec::new(), None)];
        ops.extend(logs.iter().map(|log| TxnOp::get(keys.head(log), None)));
        heads_of(members, keys, logs, &members.txn(deadline, Txn::new().and_then(ops)).await?)
    }

    fn remember(&self, logs: &[LogId], seen: &[Seen]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() + logs.len() > REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.extend(logs.iter().cloned().zip(seen.iter().copied()));
    }

    fn forget(&self, log: &LogId) {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).remove(log);
    }

    fn written(&self, heads: Vec<(LogId, Head)>, revision: Option<i64>) {
        for (log, head) in heads {
            match revision {
                // Created when it was not known before; whoever removes it looks again first.
                Some(revision) => self.remember(&[log], &[Seen { head: Some(head), revision, created: 0 }]),
                None => self.forget(&log),
            }
        }
    }

    /// What etcd would refuse is refused before, in words that name the limit.
    fn check_size(&self, logs: &[LogId], appended: &BTreeMap<LogId, Vec<Record>>) -> Result<(), StoreError> {
        let ops = (logs.len() + 1).max(appended.len() * 2);
        if ops > self.txn_ops_max {
            let limit_bytes = (self.txn_ops_max / 2).max(1);
            return Err(StoreError::TooLarge { what: "the list of logs of a commit", bytes: logs.len(), limit_bytes });
        }
        let records: usize = appended.values().flatten().map(|record| record.0.len() + 8).sum();
        // Keys, heads, frames and compares of a log have less than this.
        let bytes = records + logs.len() * 1400 + 400;
        if bytes > self.request_bytes_max {
            return Err(StoreError::TooLarge { what: "a commit", bytes, limit_bytes: self.request_bytes_max });
        }
        Ok(())
    }
}

/// The first expectation that does not hold.
fn conflict(expect: &[(LogId, Seq)], logs: &[LogId], seen: &[Seen]) -> Option<StoreError> {
    expect.iter().find_map(|(log, expected)| {
        let found = logs.iter().position(|other| other == log).and_then(|place| seen.get(place)).map_or(Seq(0), Seen::next);
        (found != *expected).then(|| StoreError::Conflict { log: log.clone(), expected: *expected, found })
    })
}

/// The transaction that appends, and the heads after it.
fn appending(
    keys: &Keys,
    id: CommitId,
    logs: &[LogId],
    seen: &[Seen],
    appended: &BTreeMap<LogId, Vec<Record>>,
) -> (Attempt, Vec<(LogId, Head)>) {
    let mut writes = Vec::new();
    let mut after = Vec::new();
    let mut proof = Proof::Nothing;
    for (log, seen) in logs.iter().zip(seen) {
        let Some(records) = appended.get(log) else { continue };
        let old = seen.head.unwrap_or(Head { first: Seq(0), next: Seq(0), chain: chain_start(log) });
        let batch = Batch::appended(id, old.chain, records.clone());
        let head = Head { next: Seq(old.next.0 + records.len() as u64), chain: batch.chain_after, ..old };
        let (key, head_key) = (keys.batch(log, Seq(head.next.0 - 1)), keys.head(log));
        writes.push(TxnOp::put(head_key.clone(), head.to_value(&head_key), None));
        writes.push(TxnOp::put(key.clone(), batch.to_value(&key), None));
        after.push((log.clone(), head));
        proof = Proof::Batch { key, commit: id };
    }
    (Attempt { logs: logs.iter().cloned().zip(seen.iter().copied()).collect(), writes, proof }, after)
}

/// The transaction that puts `carry` in the place of everything up to `place`.
#[expect(clippy::too_many_arguments, reason = "each is one part of the state that the transaction compares or writes")]
fn folding(
    keys: &Keys,
    id: CommitId,
    log: &LogId,
    seen: Seen,
    head: Head,
    place: Seq,
    old_key: &[u8],
    old: Batch,
    carry: &Record,
) -> Option<Attempt> {
    let last = Keys::last_place(old_key)?;
    let first = (last.0 + 1).checked_sub(old.records.len() as u64)?;
    let kept = usize::try_from(place.0.checked_sub(first)?).ok()? + 1;
    let (gone, rest) = old.records.split_at_checked(kept)?;
    let chain = match old.kind {
        Kind::Carry => old.chain_after,
        Kind::Appended => gone.iter().fold(old.chain_before, |chain, record| crate::chain::chain_after(&chain, record)),
    };
    let carry_key = keys.batch(log, place);
    let carried = Batch { kind: Kind::Carry, commit: id, chain_before: chain, chain_after: chain, records: vec![carry.clone()] };
    let (from, _) = keys.batches(log);
    let head_key = keys.head(log);
    let mut writes = vec![
        TxnOp::put(head_key.clone(), Head { first: place, ..head }.to_value(&head_key), None),
        TxnOp::delete(from, Some(etcd_client::DeleteOptions::new().with_range(carry_key.clone()))),
        TxnOp::put(carry_key.clone(), carried.to_value(&carry_key), None),
    ];
    if !rest.is_empty() {
        let rest = Batch::appended(old.commit, chain, rest.to_vec());
        writes.push(TxnOp::put(old_key.to_vec(), rest.to_value(old_key), None));
    }
    Some(Attempt { logs: vec![(log.clone(), seen)], writes, proof: Proof::Batch { key: carry_key, commit: id } })
}

/// The batch that holds a place. It changes only together with the head, which the transaction then compares.
async fn batch_at(members: &Members, keys: &Keys, log: &LogId, place: Seq, deadline: Deadline) -> Result<(Vec<u8>, Batch), StoreError> {
    let (_, end) = keys.batches(log);
    let answer = members.get(deadline, keys.batch(log, place), Some(GetOptions::new().with_range(end).with_limit(1))).await?;
    let Some(found) = answer.kvs().first() else {
        return Err(members.damaged(format!("place {} of log {log} is missing", place.0)));
    };
    let batch = Batch::from_value(found.key(), found.value())
        .map_err(|what| members.damaged(format!("the batch with place {} of log {log} {what}", place.0)))?;
    Ok((found.key().to_vec(), batch))
}

fn revision_of(answer: &TxnResponse) -> Option<i64> {
    answer.header().map(|header| header.revision())
}

/// What each look of a transaction found.
fn got(answer: &TxnResponse) -> Vec<Option<KeyValue>> {
    answer
        .op_responses()
        .into_iter()
        .filter_map(|response| match response {
            TxnOpResponse::Get(mut found) => Some(found.take_kvs().into_iter().next()),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        })
        .collect()
}

fn heads_of(members: &Members, keys: &Keys, logs: &[LogId], answer: &TxnResponse) -> Result<Vec<Seen>, StoreError> {
    let found = got(answer);
    let mut heads = Vec::with_capacity(logs.len());
    for (place, log) in logs.iter().enumerate() {
        let Some(found) = found.get(place).cloned().flatten() else {
            heads.push(Seen::NOTHING);
            continue;
        };
        let key = keys.head(log);
        let head = Head::from_value(&key, found.value());
        let head = head.ok_or_else(|| members.damaged(format!("the head of log {log} does not match its checksum")))?;
        heads.push(Seen { head: Some(head), revision: found.mod_revision(), created: found.create_revision() });
    }
    Ok(heads)
}
