//! Leases that machines share. Each is a key attached to an etcd lease; granting and renewing are writes that a majority agrees on.
//!
//! A renewal attaches the key to a new etcd lease instead of keeping the old one alive: keep-alives are answered by the leader alone, and
//! one that was paused may take itself for the leader when it wakes. The holder counts from before it asked; the store from later on.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::layout::Keys;
use super::members::{Deadline, Members, fresh_name};
use crate::{Lease, LogId, OwnerId, StoreError};

/// Who has it, and which grant: an owner that takes it again loses the earlier one.
fn content(owner: &OwnerId, token: u64) -> Vec<u8> {
    format!("{}\n{token:016x}", owner.0).into_bytes()
}

fn owner_of(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    text.rsplit_once('\n').map_or_else(|| text.clone().into_owned(), |(owner, _)| owner.to_owned())
}

pub(super) async fn take(members: &Members, keys: &Keys, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
    let deadline = members.deadline();
    let key = keys.lease(log);
    let held = |by: &[u8]| StoreError::Held { log: log.clone(), by: owner_of(by) };
    let asked = members.get(deadline, key.clone(), None).await?;
    let mut revision = 0;
    if let Some(found) = asked.kvs().first() {
        // A refusal may rest on what was true a moment ago: it starts nothing.
        if owner_of(found.value()) != owner.0 {
            return Err(held(found.value()));
        }
        revision = found.mod_revision();
    }
    // Its lower half is chance.
    let token = u128::from_be_bytes(fresh_name()) as u64;
    let value = content(owner, token);
    let lease = grant(members, ttl, deadline).await?;
    let txn = Txn::new()
        .when([Compare::mod_revision(key.clone(), CompareOp::Equal, revision)])
        .and_then([TxnOp::put(key.clone(), value.clone(), Some(PutOptions::new().with_lease(lease)))])
        .or_else([TxnOp::get(key.clone(), None)]);
    // Asked again after a lost answer it finds its own writing, which is as good as an answer.
    let answer = members.txn(deadline, txn).await?;
    if !answer.succeeded() {
        let found = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().into_iter().next(),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        });
        if found.as_ref().is_none_or(|found| found.value() != value) {
            return Err(held(found.as_ref().map_or(b"another process", |found| found.value())));
        }
    }
    Ok(Lease { log: log.clone(), owner: owner.clone(), ttl, token })
}

pub(super) async fn renew(members: &Members, keys: &Keys, lease: &Lease) -> Result<(), StoreError> {
    // What comes later than this is of no use to the holder.
    let deadline = Deadline::after(lease.ttl.min(members.deadline().within));
    let (key, value) = (keys.lease(&lease.log), content(&lease.owner, lease.token));
    let fresh = grant(members, lease.ttl, deadline).await?;
    let txn = Txn::new().when([Compare::value(key.clone(), CompareOp::Equal, value.clone())]).and_then([TxnOp::put(
        key,
        value,
        Some(PutOptions::new().with_lease(fresh)),
    )]);
    let answer = members.txn(deadline, txn).await?;
    if answer.succeeded() { Ok(()) } else { Err(StoreError::Lost { log: lease.log.clone() }) }
}

pub(super) async fn release(members: &Members, keys: &Keys, lease: &Lease) -> Result<(), StoreError> {
    let (key, value) = (keys.lease(&lease.log), content(&lease.owner, lease.token));
    let txn = Txn::new().when([Compare::value(key.clone(), CompareOp::Equal, value)]).and_then([TxnOp::delete(key, None)]);
    members.txn(members.deadline(), txn).await.map(|_| ())
}

/// A new etcd lease, of at least so long. One that is granted and then not used ends by itself.
async fn grant(members: &Members, ttl: Duration, deadline: Deadline) -> Result<i64, StoreError> {
    let seconds = i64::try_from(ttl.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX).max(1);
    members.grant(deadline, seconds).await
}
