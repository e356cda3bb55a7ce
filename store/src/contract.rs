//! What every store must do: one named check for each line of the contract. Nothing here knows how a store is made.
//!
//! A store's tests call [`crate::contract_suite!`] with a way to make a [`Subject`].

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Commit, Digest, LogHead, LogId, OwnerId, Record, Seq, Store, StoreError};

/// A store under test, with what the checks need beside the contract itself.
#[async_trait]
pub trait Subject: fmt::Debug + Send {
    /// Opens the store, the first time as an empty one. The handle given out before is gone when this is called again.
    async fn open(&mut self) -> Arc<dyn Store>;

    /// Moves the clock that times leases.
    async fn advance(&mut self, by: Duration);

    /// What leases mean after the store was opened again.
    fn leases_after_reopening(&self) -> LeasesAfterReopening;
}

/// What leases mean after the store was opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeasesAfterReopening {
    /// They still hold: the store is shared, and the old owner may be alive.
    Hold,
    /// They are gone: opening proves the old owner dead.
    Gone,
}

/// Makes one `#[tokio::test]` for each check of the contract. The argument makes a new [`Subject`].
///
/// With `together` in front it is a set of tasks instead, one for each check: for stores that are too costly to make anew each time.
#[macro_export]
macro_rules! contract_suite {
    (together $make:expr) => {
        $crate::contract_suite! { @list together $make }
    };
    (@list $how:ident $make:expr) => {
        $crate::contract_suite! { @$how $make;
            a_commit_is_read_back_in_order,
            a_conflict_names_the_log_and_writes_nothing,
            a_log_that_is_only_expected_is_compared_too,
            an_unknown_log_is_empty_and_expected_at_place_0,
            a_commit_over_several_logs_happens_whole_or_not_at_all,
            the_same_log_twice_in_one_commit_is_appended_to_in_order,
            an_empty_append_makes_no_log,
            pages_keep_to_their_limits_and_join_up,
            one_page_never_exceeds_its_bytes,
            reading_past_the_end_is_an_empty_page,
            the_chain_is_the_one_that_anybody_can_compute,
            logs_are_listed_by_prefix_in_order_and_in_pages,
            truncating_leaves_the_carry_and_an_unbroken_chain,
            truncating_the_whole_log_and_again_keeps_the_place,
            truncating_past_the_end_or_what_is_gone_is_refused,
            a_removed_name_starts_again_from_place_0,
            a_restored_log_goes_on_from_its_carry,
            a_kept_value_is_thrown_away_unless_it_was_kept_just_now,
            one_owner_has_the_lease_until_it_ends,
            a_renewed_lease_lasts_from_the_renewal,
            a_lost_lease_cannot_be_renewed_and_is_released_in_peace,
            leases_after_reopening_mean_what_the_store_says,
            a_watcher_never_misses_a_change,
            a_kept_value_comes_back_and_an_unknown_one_is_said_to_be_unknown,
            what_passes_a_limit_is_refused_and_nothing_is_written,
            of_many_writers_exactly_one_gets_each_place,
            readers_beside_writers_always_see_a_whole_chain,
            a_reopened_store_reads_the_same,
        }
    };
    (@each $make:expr; $($check:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::contract::$check(&mut $make).await;
            }
        )*
    };
    (@together $make:expr; $($check:ident,)*) => {{
        let mut checks = Vec::new();
        $(
            let mut subject = $make;
            checks.push((stringify!($check), tokio::spawn(async move { $crate::contract::$check(&mut subject).await })));
        )*
        checks
    }};
    ($make:expr) => {
        $crate::contract_suite! { @list each $make }
        #[test]
        fn random_histories_match_the_model_across_reopening() {
            $crate::contract::random_histories_match_the_model_across_reopening(|| Box::new($make));
        }
    };
}

mod commits;
mod compaction;
mod leases;
mod model;
mod reading;
mod together;

pub use commits::*;
pub use compaction::*;
pub use leases::*;
pub use model::random_histories_match_the_model_across_reopening;
pub use reading::*;
pub use together::*;

fn log(name: &str) -> LogId {
    LogId::new(name).expect("the checks use proper names")
}

fn record(text: &str) -> Record {
    Record(text.as_bytes().to_vec())
}

fn records(texts: &[&str]) -> Vec<Record> {
    texts.iter().map(|text| record(text)).collect()
}

fn append(name: &str, at: u64, texts: &[&str]) -> Commit {
    Commit { expect: vec![(log(name), Seq(at))], append: vec![(log(name), records(texts))] }
}

fn limit(records: u32) -> NonZeroU32 {
    NonZeroU32::new(records).expect("the checks use limits above 0")
}

fn owner(name: &str) -> OwnerId {
    OwnerId(name.into())
}

/// Every record of a log, read in pages of `page`, with the head it ends at.
pub(crate) async fn read_all(store: &dyn Store, name: &LogId, page: u32) -> (Vec<(Seq, Record)>, Seq, Digest) {
    let mut all: Vec<(Seq, Record)> = Vec::new();
    let mut from = match store.read(name, Seq(0), limit(1)).await {
        Err(StoreError::Compacted { first, .. }) => first,
        other => {
            other.expect("reading from the start");
            Seq(0)
        }
    };
    loop {
        let read = store.read(name, from, limit(page)).await.expect("reading a page");
        for (place, record) in read.records {
            assert_eq!(place, from, "places of {name} are gapless and in order");
            from.0 += 1;
            all.push((place, record));
        }
        if from >= read.next {
            return (all, read.next, read.chain);
        }
    }
}

async fn texts(store: &dyn Store, name: &str) -> Vec<String> {
    let (all, _, _) = read_all(store, &log(name), 100).await;
    all.into_iter().map(|(_, record)| String::from_utf8_lossy(&record.0).into_owned()).collect()
}

async fn head(store: &dyn Store, name: &str) -> Option<LogHead> {
    let heads = store.logs(name, None, limit(1000)).await.expect("listing");
    heads.into_iter().find(|head| head.log.as_str() == name)
}
