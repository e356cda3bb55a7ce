//! Wrong ways to promote and to fence, each refused with a sentence that a person understands, before anything is changed.

use crate::rig::{EUROPE, Rig, WEST};
use lifeboat_engine::context::Proof;
use lifeboat_engine::run::StepState;
use lifeboat_engine::step::Step;
use lifeboat_engine::{Readiness, StepError};
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::heartbeat::TableRule;
use lifeboat_steps::measure_rpo::MeasureRpo;
use lifeboat_steps::promote_db::PromoteDb;
use serde_json::{Value, json};
use xtask::lab::postgres::{PRIMARY, Shutdown};
use xtask::lab::proxy::{Speaks, TcpProxy};

fn promote(node: &str) -> Value {
    json!({ "db": "orders-db", "node": node, "max_loss": "1h" })
}

fn fence(node: &str) -> Value {
    json!({ "db": "orders-db", "node": node })
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_promoted_while_the_old_primary_takes_writes() {
    let mut rig = Rig::start();
    let (why, evidence) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("us-east-1 still takes writes"), "{why}");
    assert!(evidence.0.iter().any(|fact| fact.what == "us-east-1 state"), "{evidence:?}");

    let (why, _) = rig.refusal::<PromoteDb>("promote", promote("mars")).await;
    assert!(why.contains("no node \"mars\"") && why.contains("us-west-2"), "{why}");
    for (state, proof, word) in [
        (StepState::Skipped, Proof::None, "skipped"),
        (StepState::Succeeded, Proof::Said, "declared done by a person"),
        (StepState::Failed, Proof::None, "did not succeed"),
    ] {
        let mut rig_of_state = rig.facts.clone();
        std::mem::swap(&mut rig.facts, &mut rig_of_state);
        rig.record("fence", "fence-db", state, fence(PRIMARY), None, proof);
        let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
        assert!(why.contains(word), "{why}");
        std::mem::swap(&mut rig.facts, &mut rig_of_state);
    }

    // A fence that has not come to its turn: everything else is judged already.
    rig.record("fence", "fence-db", StepState::Waiting, Value::Null, None, Proof::None);
    let step: PromoteDb = serde_json::from_value(promote(WEST)).unwrap();
    let Readiness::Later { needs, .. } = step.prepare(&rig.read("promote", 0)).await.unwrap() else { panic!("not later") };
    assert!(needs.contains("fence"), "{needs}");
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(PRIMARY)).await;
    assert!(why.contains("us-east-1 is the node that"), "{why}");

    // A fence on record that does not hold any more.
    let output = json!({ "db": "orders-db", "node": PRIMARY, "proven": true, "method": "pg_ctl" });
    rig.record("fence", "fence-db", StepState::Succeeded, fence(PRIMARY), Some(output), Proof::Seen);
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("answers as a primary on timeline 1 again"), "{why}");
    assert_eq!(rig.lab.node(WEST).log_count("received promote request").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_could_promote_is_refused_whatever_way_it_could() {
    let mut rig = Rig::start();
    rig.record("fence", "fence-db", StepState::Waiting, Value::Null, None, Proof::None);
    let primary = rig.lab.node(PRIMARY);
    for (grant, revoke, word) in [
        (
            "grant execute on function pg_promote(boolean, integer) to lifeboat_probe",
            "revoke execute on function pg_promote(boolean, integer) from lifeboat_probe",
            "may execute pg_promote",
        ),
        ("grant lifeboat_act to lifeboat_probe", "revoke lifeboat_act from lifeboat_probe", "may execute pg_promote"),
        ("grant pg_execute_server_program to lifeboat_probe", "revoke pg_execute_server_program from lifeboat_probe", "run programs"),
        ("grant pg_write_server_files to lifeboat_probe", "revoke pg_write_server_files from lifeboat_probe", "write files"),
        ("alter role lifeboat_probe createrole", "alter role lifeboat_probe nocreaterole", "may create roles"),
        ("alter role lifeboat_probe superuser", "alter role lifeboat_probe nosuperuser", "superuser"),
    ] {
        primary.psql("postgres", grant).unwrap();
        rig.lab.postgres().wait_streaming().unwrap();
        let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
        assert!(why.contains(word) && why.contains("lifeboat_probe"), "{grant}: {why}");
        primary.psql("postgres", revoke).unwrap();
    }
    primary.psql("postgres", "revoke pg_monitor from lifeboat_probe").unwrap();
    rig.lab.postgres().wait_streaming().unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("pg_monitor"), "{why}");
    primary.psql("postgres", "grant pg_monitor to lifeboat_probe").unwrap();
    // The right to promote belongs to one database, and the probe may enter others.
    primary.psql_in("postgres", "postgres", "grant execute on function pg_promote(boolean, integer) to lifeboat_probe").unwrap();
    rig.lab.postgres().wait_streaming().unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("may execute pg_promote") && why.contains("database postgres"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_simply_replaying_is_refused() {
    let mut rig = Rig::start();
    rig.lab.node(PRIMARY).kill_group().unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("silence is no proof") && why.contains(PRIMARY), "{why}");
    rig.run::<FenceDb>("fence", fence(PRIMARY)).await;
    let west = rig.lab.node(WEST);

    west.psql("postgres", "select pg_wal_replay_pause()").unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("replay on us-west-2 is paus"), "{why}");
    west.psql("postgres", "select pg_wal_replay_resume()").unwrap();

    west.psql("postgres", "alter system set recovery_min_apply_delay = '1h'").unwrap();
    west.psql("postgres", "select pg_reload_conf()").unwrap();
    west.wait_until("show recovery_min_apply_delay", "1h").unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("delayed replica (3600 s)"), "{why}");
    west.psql("postgres", "alter system reset recovery_min_apply_delay").unwrap();
    west.psql("postgres", "select pg_reload_conf()").unwrap();
    west.wait_until("show recovery_min_apply_delay", "0").unwrap();

    // The fenced node comes back as a primary, against the file that was left.
    std::fs::remove_file(rig.lab.node(PRIMARY).data.join("standby.signal")).unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("would come back as a primary"), "{why}");
    rig.lab.node(PRIMARY).start().unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("answers as a primary on timeline 1 again"), "{why}");
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", fence(PRIMARY)).await;

    rig.lab.node(WEST).stop(Shutdown::Fast).unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("nothing is promoted unseen"), "{why}");

    rig.lab.node(EUROPE).psql("lifeboat_act", "select pg_promote()").unwrap();
    rig.lab.node(WEST).start().unwrap();
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(WEST)).await;
    assert!(why.contains("eu-west-1 answers as a primary on timeline 2: promoting another node would make two"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_a_replica_is_refused() {
    let mut rig = Rig::start();
    rig.lab.node(EUROPE).cascade_from(rig.lab.node(WEST)).unwrap();
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", fence(PRIMARY)).await;
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(EUROPE)).await;
    assert!(why.contains("cascading") && why.contains("promote us-west-2"), "{why}");
    rig.run::<PromoteDb>("promote", promote(WEST)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_on_another_timeline_is_refused() {
    let mut rig = Rig::start();
    let beating = rig.beat(TableRule::Expect);
    beating.until(|kept| kept.recent.len() >= 2).await;
    beating.stop().await;
    // Europe was promoted by somebody, and made a standby again without ever being rewound.
    let europe = rig.lab.node(EUROPE);
    europe.psql("lifeboat_act", "select pg_promote()").unwrap();
    europe.psql("postgres", "checkpoint").unwrap();
    europe.stop(Shutdown::Fast).unwrap();
    std::fs::write(europe.data.join("standby.signal"), "").unwrap();
    europe.start().unwrap();
    assert_eq!(europe.psql("app", "select pg_is_in_recovery()").unwrap(), "t");
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", fence(PRIMARY)).await;
    let (why, _) = rig.refusal::<PromoteDb>("promote", promote(EUROPE)).await;
    assert!(why.contains("eu-west-1 is on the wrong timeline: it follows 2, the primary was on 1"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_past_the_limit_needs_a_yes_and_a_worse_loss_needs_another() {
    let mut rig = Rig::start();
    let proxies: Vec<TcpProxy> = [WEST, EUROPE]
        .into_iter()
        .map(|replica| {
            let proxy = TcpProxy::start(rig.lab.free_socket().unwrap(), rig.lab.node(PRIMARY).socket(), Speaks::Bytes).unwrap();
            rig.lab.node(replica).stream_from(proxy.address).unwrap();
            proxy
        })
        .collect();
    let beating = rig.beat(TableRule::Expect);
    let before = beating.until(|kept| kept.recent.len() >= 3).await.last_number();
    proxies.iter().for_each(TcpProxy::cut);
    // Fifteen lost beats of 100 ms are a second and more.
    beating.until(|kept| kept.last_number() >= before + 15).await;
    rig.lab.node(PRIMARY).kill_group().unwrap();
    let strict = json!({ "db": "orders-db", "node": WEST, "max_loss": "500ms" });

    let measured = rig.run::<MeasureRpo>("loss", json!({ "db": "orders-db", "from": PRIMARY, "to": WEST, "limit": "500ms" })).await;
    assert!(!measured.within_rpo, "{measured:?}");
    assert_eq!(measured.loss.method, "heartbeat");
    assert!(measured.loss.seconds_min.unwrap() >= 0.9, "{measured:?}");
    assert!(measured.loss.bytes.is_some_and(|bytes| bytes > 0), "{measured:?}");

    rig.run::<FenceDb>("fence", fence(PRIMARY)).await;
    let (why, _) = rig.refusal::<PromoteDb>("promote", strict.clone()).await;
    assert!(why.contains("would be lost") && why.contains("max_loss 500ms"), "{why}");

    let mut smaller = measured.clone();
    smaller.loss.seconds_max = smaller.loss.seconds_max.map(|most| most / 2.0);
    rig.approve("accept", serde_json::to_value(&smaller).unwrap());
    let (why, _) = rig.refusal::<PromoteDb>("promote", strict.clone()).await;
    assert!(why.contains("more than allowed (the loss that was accepted in step accept)"), "{why}");

    rig.approve("accept_again", serde_json::to_value(&measured).unwrap());
    let promoted = rig.run::<PromoteDb>("promote", strict).await;
    assert!(promoted.loss.seconds_min.unwrap() >= 0.9, "{promoted:?}");
    assert!(promoted.loss.seconds_max >= promoted.loss.seconds_min, "{promoted:?}");
    beating.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_never_takes_the_wrong_node_away() {
    let mut rig = Rig::start();
    let (why, _) = rig.refusal::<FenceDb>("fence", fence(WEST)).await;
    assert!(why.contains("us-west-2 is a standby now"), "{why}");
    for replica in [WEST, EUROPE] {
        rig.lab.node(replica).stop(Shutdown::Fast).unwrap();
    }
    let (why, _) = rig.refusal::<FenceDb>("fence", fence(PRIMARY)).await;
    assert!(why.contains("nothing could take over"), "{why}");
    rig.lab.node(WEST).start().unwrap();
    rig.db()["system_identifier"] = json!("42");
    let (why, _) = rig.refusal::<FenceDb>("fence", fence(PRIMARY)).await;
    assert!(why.contains("the inventory names the cluster 42"), "{why}");
    rig.db().as_object_mut().unwrap().remove("system_identifier");
    rig.remote(PRIMARY, json!([]));
    let (why, _) = rig.refusal::<FenceDb>("fence", fence(PRIMARY)).await;
    assert!(why.contains("no way to fence it"), "{why}");
    rig.remote(PRIMARY, json!([{ "command": { "run": ["/bin/true"] } }]));
    let (why, _) = rig.refusal::<FenceDb>("fence", fence(PRIMARY)).await;
    assert!(why.contains("does not allow the program /bin/true"), "{why}");
    assert_eq!(rig.lab.node(PRIMARY).psql("app", "select pg_is_in_recovery()").unwrap(), "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_clear_error_that_does_not_tell_it() {
    let mut rig = Rig::start();
    std::fs::write(rig.lab.folder().join("wrong"), "correct-horse-battery").unwrap();
    rig.db()["probe"]["password"] = json!("file:wrong");
    let (why, evidence) = rig.refusal::<MeasureRpo>("loss", json!({ "db": "orders-db", "from": PRIMARY, "to": WEST })).await;
    assert!(why.contains("password authentication failed") && why.contains("lifeboat_probe"), "{why}");
    assert!(!format!("{why} {evidence:?}").contains("correct-horse"), "the secret is in the message");
    rig.db()["probe"]["password"] = json!("file:not-there");
    let (why, _) = rig.refusal::<MeasureRpo>("loss", json!({ "db": "orders-db", "from": PRIMARY, "to": WEST })).await;
    assert!(why.contains("file:not-there"), "{why}");

    let mut rig = Rig::start();
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", fence(PRIMARY)).await;
    std::fs::write(rig.lab.folder().join("wrong"), "correct-horse-battery").unwrap();
    rig.db()["act"]["password"] = json!("file:wrong");
    let step: PromoteDb = serde_json::from_value(promote(WEST)).unwrap();
    let Readiness::Ready { intent, .. } = step.prepare(&rig.read("promote", 1)).await.unwrap() else { panic!("not ready") };
    let error = step.execute(&intent, &rig.act("promote")).await.unwrap_err();
    assert!(
        matches!(&error, StepError::NotDone { why, .. } if why.contains("nothing was sent") && !why.contains("correct-horse")),
        "{error:?}"
    );
}
