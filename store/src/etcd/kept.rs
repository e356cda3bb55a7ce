//! Large values: chunks first, then the manifest that makes them one. A value is there once its manifest is.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, Txn, TxnOp, TxnOpResponse};

use super::layout::{CHUNK_BYTES_MAX, Keys, Manifest};
use super::members::Members;
use crate::leases::{BootClock, LeaseClock};
use crate::{Digest, Forgotten, KEPT_BYTES_MAX, StoreError};

/// Chunks asked for at once.
const CHUNKS_AT_ONCE: u32 = 8;

/// Moments that are remembered.
const MOMENTS_MAX: usize = 1024;

/// Which revision the cluster had reached when, as this handle heard it. Machines share no clock; a revision that was there a while ago
/// by our own count is at least that old.
#[derive(Debug, Default)]
pub(super) struct Moments {
    heard: Mutex<VecDeque<(Duration, i64)>>,
}

impl Moments {
    fn heard(&self, revision: i64) {
        let now = BootClock.now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.back().is_some_and(|(at, _)| at.as_secs() == now.as_secs()) {
            heard.pop_back();
        }
        heard.push_back((now, revision));
        if heard.len() > MOMENTS_MAX {
            heard.pop_front();
        }
    }

    /// Whether what was written at this revision is certainly older than so long.
    fn is_older(&self, revision: i64, than: Duration) -> bool {
        let before = BootClock.now().saturating_sub(than);
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().any(|(at, reached)| *at <= before && *reached >= revision)
    }
}

pub(super) async fn keep(members: &Members, keys: &Keys, moments: &Moments, bytes: &[u8]) -> Result<Digest, StoreError> {
    if bytes.len() > KEPT_BYTES_MAX {
        return Err(StoreError::TooLarge { what: "a kept value", bytes: bytes.len(), limit_bytes: KEPT_BYTES_MAX });
    }
    let digest = Digest::of(bytes);
    let key = keys.kept(&digest);
    let chunks = u32::try_from(bytes.len().div_ceil(CHUNK_BYTES_MAX)).unwrap_or(u32::MAX);
    let value = Manifest { bytes: bytes.len() as u64, chunks }.to_value(&key);
    // Where it is there already it is written anew, which tells everybody that it is about to be named.
    let again = Txn::new().when([Compare::value(key.clone(), CompareOp::Equal, value.clone())]).and_then([TxnOp::put(
        key.clone(),
        value.clone(),
        None,
    )]);
    let answer = members.txn(members.deadline(), again).await?;
    if answer.succeeded() {
        moments.heard(answer.header().map_or(0, |header| header.revision()));
        return Ok(digest);
    }
    for (number, chunk) in (0..).zip(bytes.chunks(CHUNK_BYTES_MAX)) {
        members.put(members.deadline(), keys.chunk(&digest, number), chunk.to_vec(), None).await?;
    }
    moments.heard(members.put(members.deadline(), key, value, None).await?);
    Ok(digest)
}

/// Digests of kept values, in order.
pub(super) async fn values(members: &Members, keys: &Keys, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>, StoreError> {
    let (mut from, end) = keys.all_kept();
    if let Some(after) = after {
        // Behind the value's chunks, which begin with its name and a slash.
        from = [&keys.kept(after)[..], b"0"].concat();
    }
    let mut values = Vec::new();
    while values.len() < limit && from < end {
        // A value's manifest comes before its chunks, which are passed over.
        let options = GetOptions::new().with_range(end.clone()).with_limit(1).with_keys_only();
        let answer = members.get(members.deadline(), from.clone(), Some(options)).await?;
        let Some(found) = answer.kvs().first() else { break };
        let Some((digest, is_chunk)) = keys.digest_of(found.key()) else {
            return Err(members.damaged(format!("{:?} is no name of a kept value", String::from_utf8_lossy(found.key()))));
        };
        // Chunks without a manifest are what a process that died left; they are no value.
        if !is_chunk {
            values.push(digest);
        }
        from = [&keys.kept(&digest)[..], b"0"].concat();
    }
    Ok(values)
}

pub(super) async fn forget(
    members: &Members,
    keys: &Keys,
    moments: &Moments,
    digest: &Digest,
    grace: Duration,
) -> Result<Forgotten, StoreError> {
    let key = keys.kept(digest);
    let found = members.get(members.deadline(), key.clone(), None).await?;
    moments.heard(found.header().map_or(0, |header| header.revision()));
    let Some(manifest) = found.kvs().first() else { return Ok(Forgotten::Gone) };
    if !moments.is_older(manifest.mod_revision(), grace) {
        return Ok(Forgotten::KeptJustNow);
    }
    let (from, end) = keys.chunks(digest);
    let txn = Txn::new()
        .when([Compare::mod_revision(key.clone(), CompareOp::Equal, manifest.mod_revision())])
        .and_then([TxnOp::delete(key.clone(), None), TxnOp::delete(from, Some(DeleteOptions::new().with_range(end)))])
        .or_else([TxnOp::get(key, None)]);
    let answer = members.txn(members.deadline(), txn).await?;
    // Kept again meanwhile, or gone after an answer that was lost.
    let there = answer.op_responses().into_iter().any(|response| match response {
        TxnOpResponse::Get(found) => !found.kvs().is_empty(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => false,
    });
    Ok(if there { Forgotten::KeptJustNow } else { Forgotten::Gone })
}

pub(super) async fn kept(members: &Members, keys: &Keys, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    let manifest = manifest(members, keys, digest).await?.ok_or(StoreError::NoSuchValue(*digest))?;
    let damaged = |what: &str| members.damaged(format!("the kept value {digest} {what}"));
    if manifest.bytes > KEPT_BYTES_MAX as u64 {
        return Err(damaged("is larger than any"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(manifest.bytes).unwrap_or(0));
    let mut next = 0;
    while next < manifest.chunks {
        let upto = next.saturating_add(CHUNKS_AT_ONCE).min(manifest.chunks);
        let (from, end) = (keys.chunk(digest, next), keys.chunk(digest, upto));
        let answer = members.get(members.deadline(), from, Some(GetOptions::new().with_range(end))).await?;
        if answer.kvs().len() != (upto - next) as usize {
            return Err(damaged("lacks a part"));
        }
        answer.kvs().iter().for_each(|chunk| bytes.extend(chunk.value()));
        next = upto;
    }
    if Digest::of(&bytes) != *digest {
        return Err(damaged("does not have its digest"));
    }
    Ok(bytes)
}

async fn manifest(members: &Members, keys: &Keys, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
    let key = keys.kept(digest);
    let answer = members.get(members.deadline(), key.clone(), None).await?;
    let Some(found) = answer.kvs().first() else { return Ok(None) };
    let manifest = Manifest::from_value(&key, found.value());
    manifest.map(Some).ok_or_else(|| members.damaged(format!("what the kept value {digest} consists of does not match its checksum")))
}
