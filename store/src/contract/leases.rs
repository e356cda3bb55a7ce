//! Leases on logs.

use std::time::Duration;

use super::{LeasesAfterReopening, Subject, log, owner};
use crate::{Lease, StoreError};

/// While one owner has the lease nobody else gets it; afterwards anybody does.
pub async fn one_owner_has_the_lease_until_it_ends(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let ttl = Duration::from_secs(10);
    store.lease(&log("run/a"), &owner("one"), ttl).await.expect("free");
    subject.advance(Duration::from_secs(9)).await;
    match store.lease(&log("run/a"), &owner("two"), ttl).await {
        Err(StoreError::Held { log, by }) => {
            assert_eq!((log.as_str(), by.as_str()), ("run/a", "one"))
        }
        other => panic!("expected held, got {other:?}"),
    }
    store.lease(&log("run/b"), &owner("two"), ttl).await.expect("another log is free");
    subject.advance(Duration::from_secs(2)).await;
    let second = store.lease(&log("run/a"), &owner("two"), ttl).await.expect("it ended");
    assert!(matches!(store.lease(&log("run/a"), &owner("one"), ttl).await, Err(StoreError::Held { .. })));
    store.release(second).await.expect("giving it back");
    store.lease(&log("run/a"), &owner("one"), ttl).await.expect("free again");
}

/// Renewing counts from now, not from the old end.
pub async fn a_renewed_lease_lasts_from_the_renewal(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let lease = store.lease(&log("run/a"), &owner("one"), Duration::from_secs(10)).await.expect("free");
    for _ in 0..3 {
        subject.advance(Duration::from_secs(8)).await;
        store.renew(&lease).await.expect("still ours");
    }
    subject.advance(Duration::from_secs(8)).await;
    assert!(matches!(store.lease(&log("run/a"), &owner("two"), Duration::from_secs(1)).await, Err(StoreError::Held { .. })));
    subject.advance(Duration::from_secs(4)).await;
    assert!(matches!(store.renew(&lease).await, Err(StoreError::Lost { log }) if log.as_str() == "run/a"));
}

/// Who lost the lease is told so, and giving it back takes nothing from the new holder.
pub async fn a_lost_lease_cannot_be_renewed_and_is_released_in_peace(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let ttl = Duration::from_secs(5);
    let lost = store.lease(&log("run/a"), &owner("one"), ttl).await.expect("free");
    subject.advance(Duration::from_secs(7)).await;
    let held = store.lease(&log("run/a"), &owner("two"), ttl).await.expect("it ended");
    assert!(matches!(store.renew(&lost).await, Err(StoreError::Lost { .. })));
    store.release(lost).await.expect("releasing a lost lease");
    store.renew(&held).await.expect("the new holder keeps it");
    let again: Lease = store.lease(&log("run/a"), &owner("two"), ttl).await.expect("an owner may take its own lease again");
    assert_ne!(again.token, held.token);
    assert!(matches!(store.renew(&held).await, Err(StoreError::Lost { .. })), "the earlier grant is over");
    store.renew(&again).await.expect("the later grant counts");
}

/// Where the store itself proves the old owner dead, nobody waits for its lease; elsewhere everybody does.
pub async fn leases_after_reopening_mean_what_the_store_says(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.lease(&log("run/a"), &owner("one"), Duration::from_secs(60)).await.expect("free");
    drop(store);
    let store = subject.open().await;
    let taken = store.lease(&log("run/a"), &owner("two"), Duration::from_secs(60)).await;
    match subject.leases_after_reopening() {
        LeasesAfterReopening::Gone => drop(taken.expect("the old owner is dead")),
        LeasesAfterReopening::Hold => {
            assert!(matches!(taken, Err(StoreError::Held { .. })), "{taken:?}")
        }
    }
}
