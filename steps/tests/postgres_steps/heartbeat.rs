//! The heartbeat on real servers: what it keeps, what it never claims, and that two of them never count past each other.

use std::sync::Arc;

use lifeboat_engine::clock::SystemClock;
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_steps::heartbeat::{self, Beats, HeartbeatError, TableRule};
use xtask::lab::postgres::PRIMARY;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_is_refused_and_a_restarted_one_goes_on_counting() {
    let rig = Rig::start();
    let beating = rig.beat(TableRule::Expect);
    let before = beating.until(|kept| kept.recent.len() >= 3).await;
    assert_eq!(before.recent[0].n, 1);
    assert_eq!((before.recent[0].node.as_str(), before.recent[0].timeline), (PRIMARY, 1));
    assert!(before.recent[0].sent_at <= before.recent[0].acked_at);

    let second = Beats {
        db: "orders-db".into(),
        inventory: rig.checked(),
        secrets: Arc::new(LocalSecrets::new(rig.lab.folder())),
        table: TableRule::Expect,
    };
    let refused = heartbeat::run(second, Arc::new(SystemClock), std::future::pending(), |_| {}).await.unwrap_err();
    assert!(matches!(refused, HeartbeatError::Taken { .. }), "{refused}");

    let last = beating.until(|kept| kept.last_number() > before.last_number()).await.last_number();
    beating.stop().await;
    let beating = rig.beat(TableRule::Expect);
    let after = beating.until(|kept| kept.last_number() > last + 1).await;
    let numbers: Vec<u64> = after.recent.iter().map(|beat| beat.n).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let row = rig.lab.node(PRIMARY).psql("lifeboat_probe", "select count(*), max(timeline) from lifeboat.heartbeat").unwrap();
    assert_eq!(row, "1|1", "one row per writer and timeline, however long it beats");
    beating.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_kept_with_its_last_beat_and_closed_by_the_next() {
    let rig = Rig::start();
    let beating = rig.beat(TableRule::Expect);
    beating.until(|kept| kept.recent.len() >= 2).await;
    rig.lab.node(PRIMARY).kill_group().unwrap();
    let kept = beating.until(|kept| !kept.outages.is_empty()).await;
    let outage = kept.outages.last().unwrap();
    let last = outage.last.as_ref().unwrap();
    assert_eq!(Some(last), kept.recent.last());
    assert!(outage.first_failed_at >= last.acked_at && outage.restored.is_none(), "{outage:?}");
    rig.lab.node(PRIMARY).start().unwrap();
    let kept = beating.until(|kept| kept.outages.last().is_some_and(|outage| outage.restored.is_some())).await;
    assert_eq!(kept.outages.len(), 1, "one outage, however many beats failed in it");
    assert!(kept.outages[0].restored.as_ref().unwrap().n > kept.outages[0].last.as_ref().unwrap().n);
    beating.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_only_when_that_was_asked_for() {
    let rig = Rig::bare();
    let beating = rig.beat(TableRule::Expect);
    let kept = beating.until(|kept| !kept.outages.is_empty()).await;
    assert!(kept.outages[0].why.contains("42P01"), "{:?}", kept.outages);
    beating.stop().await;
    let beating = rig.beat(TableRule::Create);
    beating.until(|kept| !kept.recent.is_empty()).await;
    beating.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_its_synchronous_replica_is_not_acknowledged() {
    let rig = Rig::start();
    let beating = rig.beat(TableRule::Expect);
    beating.until(|kept| kept.recent.len() >= 2).await;
    let primary = rig.lab.node(PRIMARY);
    primary.psql("postgres", "alter system set synchronous_standby_names = 'ghost'").unwrap();
    primary.psql("postgres", "select pg_reload_conf()").unwrap();
    // Cancelled, such a commit is made on this server alone, and says so in a warning only.
    let cancel =
        "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'lifeboat-heartbeat' and wait_event = 'SyncRep'";
    crate::rig::until("a beat to cancel", || primary.psql("postgres", cancel).unwrap().contains('t').then_some(())).await;
    let written = crate::rig::until("the row", || {
        let row = primary.psql("lifeboat_probe", "select n from lifeboat.heartbeat").unwrap().parse::<u64>().unwrap();
        (row > beating.kept().last_number()).then_some(row)
    })
    .await;
    let kept = beating.until(|kept| !kept.outages.is_empty()).await;
    assert!(kept.last_number() < written, "number {written} was taken for acknowledged: {:?}", kept.outages);
    beating.stop().await;
}
