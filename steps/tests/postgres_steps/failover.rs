//! The main job on real servers: measure, fence, promote, with the primary dead and with it alive.

use crate::rig::{EUROPE, Rig, WEST};
use lifeboat_engine::step::Step;
use lifeboat_engine::{Clock, Measure, Observation};
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::heartbeat::TableRule;
use lifeboat_steps::measure_rpo::MeasureRpo;
use lifeboat_steps::promote_db::PromoteDb;
use serde_json::json;
use xtask::lab::postgres::PRIMARY;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primary_is_fenced_and_a_replica_takes_over_with_its_loss_measured() {
    let mut rig = Rig::start();
    let beating = rig.beat(TableRule::Expect);
    let before = beating.until(|kept| kept.recent.len() >= 5).await;
    rig.lab.node(PRIMARY).kill_group().unwrap();
    let killed_at = lifeboat_engine::clock::SystemClock.now();

    let measured = rig.run::<MeasureRpo>("loss", json!({ "db": "orders-db", "from": PRIMARY, "to": WEST, "limit": "1m" })).await;
    assert!(measured.within_rpo);
    assert_eq!(measured.source.state, "stopped");
    assert!(measured.loss.seconds_max.unwrap() < 30.0, "{measured:?}");

    let fenced = rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    assert!(fenced.proven);
    let proof = fenced.proof.unwrap();
    assert_eq!(proof.kind, "stopped");
    assert!(proof.vantages.len() >= 2, "{proof:?}");
    assert!(rig.lab.node(PRIMARY).data.join("standby.signal").exists());

    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
    assert_eq!((promoted.old_timeline, promoted.new_timeline), (1, 2));
    assert_eq!(promoted.write.kind, "row");
    assert!(promoted.promote_sent_at.unwrap() > killed_at);
    assert!(promoted.loss.seconds_max.is_some() && promoted.loss.seconds_min.is_some(), "{promoted:?}");
    let west = rig.lab.node(WEST);
    assert_eq!(west.psql("app", "select pg_is_in_recovery()").unwrap(), "f");
    assert_eq!(west.log_count("received promote request").unwrap(), 1);
    assert_eq!(west.psql("lifeboat_probe", "select count(*) from lifeboat.heartbeat where writer = 'promote-run-1-promote'").unwrap(), "1");

    let kept = beating.until(|kept| kept.last_on(2).is_some()).await;
    let outage = kept.outage_of(1).unwrap();
    assert!(outage.last.as_ref().unwrap().n >= before.last_number());
    let kinds: Vec<Measure> = PromoteDb::measures(&promoted);
    assert!(
        kinds.iter().any(
            |measure| matches!(measure, Measure::OutageBegan { earliest, latest, .. } if *earliest <= killed_at && *latest >= *earliest)
        )
    );
    assert!(kinds.iter().any(|measure| matches!(measure, Measure::Loss(_))));
    beating.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_primary_is_stopped_in_order_and_nothing_is_lost() {
    let mut rig = Rig::start();
    rig.lab.node(PRIMARY).psql("app", "insert into orders (id) select generate_series(1, 500)").unwrap();
    let fenced = rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    assert_eq!(fenced.method.as_deref(), Some("pg_ctl"));
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
    assert_eq!(rig.lab.node(WEST).psql("app", "select count(*) from orders").unwrap(), "500");
    assert_eq!(promoted.old_primary.as_deref(), Some(PRIMARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_the_replica_with_the_most_log_is_promoted() {
    let mut rig = Rig::start();
    // Europe stops receiving; what comes after is on the other replica only.
    let europe = rig.lab.node(EUROPE);
    let nowhere = rig.lab.free_socket().unwrap();
    europe
        .psql("postgres", &format!("alter system set primary_conninfo = 'host={} port={} user=x'", nowhere.ip(), nowhere.port()))
        .unwrap();
    europe.psql("postgres", "select pg_reload_conf()").unwrap();
    europe.wait_until("select count(*) from pg_stat_wal_receiver where status = 'streaming'", "0").unwrap();
    // Commits of one instant do not count against a replica; these are of another.
    europe.wait_until("select clock_timestamp() - pg_last_xact_replay_timestamp() > '2s'", "t").unwrap();
    rig.lab.node(PRIMARY).psql("app", "insert into orders (id) select generate_series(1, 500)").unwrap();
    rig.lab.node(WEST).wait_until("select count(*) from orders", "500").unwrap();
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    let (why, _) = rig.refusal::<PromoteDb>("promote", json!({ "db": "orders-db", "node": EUROPE, "max_loss": "1h" })).await;
    assert!(why.contains("promote us-west-2"), "{why}");
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "max_loss": "1h" })).await;
    assert_eq!(promoted.node, WEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn executing_twice_promotes_once_and_observing_tells_what_became_of_it() {
    let mut rig = Rig::start();
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    let step: PromoteDb = serde_json::from_value(json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).unwrap();
    let intent = match step.prepare(&rig.read("promote", 1)).await.unwrap() {
        lifeboat_engine::Readiness::Ready { intent, .. } => intent,
        other @ (lifeboat_engine::Readiness::Refused { .. } | lifeboat_engine::Readiness::Later { .. }) => panic!("{other:?}"),
    };
    assert_eq!(step.observe(&intent, &rig.read("promote", 2)).await.unwrap(), Observation::NotDone);
    // Promoted, but the crash came before the write: going on, not again.
    rig.lab.node(WEST).psql("lifeboat_act", "select pg_promote()").unwrap();
    assert_eq!(step.observe(&intent, &rig.read("promote", 2)).await.unwrap(), Observation::InProgress);
    let first = step.execute(&intent, &rig.act("promote")).await.unwrap();
    let Observation::Done(seen) = step.observe(&intent, &rig.read("promote", 2)).await.unwrap() else { panic!("not done") };
    assert_eq!((seen.fork, seen.new_timeline), (first.fork, first.new_timeline));
    let again = step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(again.new_timeline, 2);
    assert_eq!(rig.lab.node(WEST).log_count("received promote request").unwrap(), 1);
}
