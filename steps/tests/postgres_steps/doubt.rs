//! Outcomes that nobody was told: lost answers, lost requests, pending promotions, other people's promotions. Asked of the world.

use std::time::Duration;

use lifeboat_engine::context::Proof;
use lifeboat_engine::run::StepState;
use lifeboat_engine::step::Step;
use lifeboat_engine::{Observation, Readiness, StepError, StepId};
use lifeboat_steps::clients::postgres::Lsn;
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::promote_db::{PromoteDb, PromoteIntent};
use serde_json::json;
use xtask::lab::postgres::PRIMARY;
use xtask::lab::proxy::{Loss, Speaks, TcpProxy};

use crate::rig::{EUROPE, Rig, WEST};

/// A rig with the primary dead and fenced, and the promotion of the first replica judged ready.
async fn ready(rig: &mut Rig) -> (PromoteDb, PromoteIntent) {
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    intent(rig).await
}

async fn intent(rig: &Rig) -> (PromoteDb, PromoteIntent) {
    let step: PromoteDb = serde_json::from_value(json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).unwrap();
    match step.prepare(&rig.read("promote", 1)).await.unwrap() {
        Readiness::Ready { intent, .. } => (step, intent),
        Readiness::Refused { why, .. } => panic!("{why}"),
        Readiness::Later { needs, .. } => panic!("{needs}"),
    }
}

/// Puts a proxy between Lifeboat and the first replica.
fn behind_proxy(rig: &mut Rig) -> TcpProxy {
    let proxy = TcpProxy::start(rig.lab.free_socket().unwrap(), rig.lab.node(WEST).socket(), Speaks::Postgres).unwrap();
    let node = &mut rig.db()["nodes"][WEST];
    node["host"] = json!(proxy.address.ip().to_string());
    node["port"] = json!(proxy.address.port());
    proxy
}

fn requests(rig: &Rig) -> usize {
    rig.lab.node(WEST).log_count("received promote request").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_found_done_and_a_lost_request_is_found_not_done() {
    let mut rig = Rig::start();
    let proxy = behind_proxy(&mut rig);
    let (step, intent) = ready(&mut rig).await;

    proxy.lose(Loss::Request, "pg_promote(false)", 1);
    let error = step.execute(&intent, &rig.act("promote")).await.unwrap_err();
    assert!(matches!(&error, StepError::Unknown { why } if why.contains("answer to pg_promote was lost")), "{error:?}");
    assert_eq!(proxy.lost(), 1);
    assert_eq!(step.observe(&intent, &rig.read("promote", 2)).await.unwrap(), Observation::NotDone);
    assert_eq!(requests(&rig), 0);

    proxy.lose(Loss::Answer, "pg_promote(false)", 1);
    let promoted = step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(proxy.lost(), 2);
    assert_eq!(promoted.new_timeline, 2);
    let observed = step.observe(&intent, &rig.read("promote", 3)).await.unwrap();
    assert!(matches!(observed, Observation::Done(_)), "{observed:?}");
    assert_eq!(requests(&rig), 1);
}

fn signal(name: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_promotion_is_followed_not_sent_again_and_never_taken_for_a_failure() {
    let mut rig = Rig::start();
    let proxy = behind_proxy(&mut rig);
    let (step, intent) = ready(&mut rig).await;
    // A startup process that stands still heeds no signal: the promotion is asked for, and its signal file stays.
    let startup = rig.lab.node(WEST).psql("postgres", "select pid from pg_stat_activity where backend_type = 'startup'").unwrap();
    signal("STOP", &startup);

    rig.step_timeout = Duration::from_secs(9);
    let error = step.execute(&intent, &rig.act("promote")).await.unwrap_err();
    assert!(matches!(&error, StepError::Unknown { why } if why.contains("may still do so")), "{error:?}");
    assert_eq!(step.observe(&intent, &rig.read("promote", 2)).await.unwrap(), Observation::InProgress);
    proxy.lose(Loss::Request, "pg_promote(false)", 1);
    let again = step.execute(&intent, &rig.act("promote")).await.unwrap_err();
    assert!(matches!(again, StepError::Unknown { .. }), "{again:?}");

    rig.step_timeout = Duration::from_secs(30);
    signal("CONT", &startup);
    let promoted = step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(promoted.new_timeline, 2);
    assert_eq!(requests(&rig), 1);
    assert_eq!(proxy.lost(), 0, "it was asked for again while it was pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_is_foreign_and_silence_is_unknown() {
    let mut rig = Rig::start();
    let (step, intent) = ready(&mut rig).await;

    rig.lab.node(WEST).freeze().unwrap();
    let observed = step.observe(&intent, &rig.read("promote", 2)).await.unwrap();
    assert!(matches!(&observed, Observation::Unknown { why } if why.contains(WEST)), "{observed:?}");
    rig.lab.node(WEST).thaw().unwrap();

    rig.lab.node(EUROPE).psql("lifeboat_act", "select pg_promote()").unwrap();
    let observed = step.observe(&intent, &rig.read("promote", 2)).await.unwrap();
    assert!(
        matches!(&observed, Observation::Foreign { evidence } if format!("{evidence:?}").contains("eu-west-1 is a primary")),
        "{observed:?}"
    );
    let error = step.execute(&intent, &rig.act("promote")).await.unwrap_err();
    assert!(matches!(&error, StepError::Refused { why, .. } if why.contains("would make two")), "{error:?}");

    // Two primaries, and the second one came to it by another way than ours: once the other's timeline is in the archive it takes the next
    // number.
    let archived = r#"select ((pg_stat_file(substring(current_setting('restore_command') from '"([^"]*)/%f"') || '/00000002.history', true)).size
        is not null)::text"#;
    rig.lab.node(WEST).wait_until(archived, "true").unwrap();
    rig.lab.node(WEST).psql("lifeboat_act", "select pg_promote()").unwrap();
    let observed = step.observe(&intent, &rig.read("promote", 2)).await.unwrap();
    assert!(matches!(observed, Observation::Foreign { .. }), "{observed:?}");
    rig.lab.node(EUROPE).kill_group().unwrap();
    let observed = step.observe(&intent, &rig.read("promote", 2)).await.unwrap();
    assert!(
        matches!(&observed, Observation::Foreign { evidence } if format!("{evidence:?}").contains("not the one we meant")),
        "{observed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_timeline_number_with_another_fork_is_foreign() {
    let mut rig = Rig::start();
    let (step, intent) = ready(&mut rig).await;
    rig.lab.node(WEST).psql("lifeboat_act", "select pg_promote()").unwrap();
    let mut other = intent.clone();
    other.replay = Some(Lsn(u64::MAX));
    let observed = step.observe(&other, &rig.read("promote", 2)).await.unwrap();
    assert!(
        matches!(&observed, Observation::Foreign { evidence } if format!("{evidence:?}").contains("before what it had replayed")),
        "{observed:?}"
    );
    let mut other = intent.clone();
    other.system_identifier = "42".into();
    let observed = step.observe(&other, &rig.read("promote", 2)).await.unwrap();
    assert!(matches!(observed, Observation::Foreign { .. }), "{observed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_would_make_commits_hang_are_reset_and_told() {
    let mut rig = Rig::start();
    let west = rig.lab.node(WEST);
    // One of two synchronous replicas will be there, so only a commit that gives up shows the other's absence.
    rig.lab.node(EUROPE).cascade_from(west).unwrap();
    west.psql("postgres", "alter system set synchronous_standby_names = 'FIRST 2 (\"eu-west-1\", ghost)'").unwrap();
    west.psql("postgres", "alter system set default_transaction_read_only = on").unwrap();
    west.psql("postgres", "select pg_reload_conf()").unwrap();
    let (step, intent) = ready(&mut rig).await;
    let promoted = step.execute(&intent, &rig.act("promote")).await.unwrap();
    let resets: Vec<(&str, &str)> = promoted.resets.iter().map(|reset| (reset.setting.as_str(), reset.was.as_str())).collect();
    assert!(resets.contains(&("synchronous_standby_names", "FIRST 2 (\"eu-west-1\", ghost)")), "{resets:?}");
    assert!(resets.contains(&("default_transaction_read_only", "on")), "{resets:?}");
    rig.lab.node(WEST).psql("app", "insert into orders (id) values (1)").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_hangs_on_a_silent_synchronous_replica_is_freed() {
    let mut rig = Rig::start();
    let (step, intent) = ready(&mut rig).await;
    step.execute(&intent, &rig.act("promote")).await.unwrap();
    let (west, europe) = (rig.lab.node(WEST), rig.lab.node(EUROPE));
    europe.cascade_from(west).unwrap();
    west.psql("postgres", "alter system set synchronous_standby_names = '\"eu-west-1\"'").unwrap();
    west.psql("postgres", "select pg_reload_conf()").unwrap();
    west.wait_until("select sync_state from pg_stat_replication where application_name = 'eu-west-1'", "sync").unwrap();
    // Connected, chosen, and never going to answer.
    europe.freeze().unwrap();
    let promoted = step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(promoted.resets.len(), 1, "{promoted:?}");
    assert_eq!(west.psql("app", "show synchronous_standby_names").unwrap(), "");
    assert_eq!(requests(&rig), 1);
    europe.thaw().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_synchronous_replicas_that_are_all_gone_are_reset_before_the_first_commit() {
    let mut rig = Rig::start();
    let west = rig.lab.node(WEST);
    west.psql("postgres", "alter system set synchronous_standby_names = 'ghost'").unwrap();
    west.psql("postgres", "select pg_reload_conf()").unwrap();
    let (step, intent) = ready(&mut rig).await;
    let promoted = step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(promoted.resets.len(), 1);
    assert_eq!(rig.lab.node(WEST).psql("app", "show synchronous_standby_names").unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_heartbeat_a_message_in_the_log_proves_the_write() {
    let mut rig = Rig::start();
    rig.db().as_object_mut().unwrap().remove("heartbeat");
    let (step, intent) = ready(&mut rig).await;
    let promoted = step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(promoted.write.kind, "message");
    // After a crash nothing shows that message, so the write is made again, and the promotion is not.
    assert_eq!(step.observe(&intent, &rig.read("promote", 2)).await.unwrap(), Observation::InProgress);
    step.execute(&intent, &rig.act("promote")).await.unwrap();
    assert_eq!(requests(&rig), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_attempt_never_takes_another_replica_than_the_first() {
    let mut rig = Rig::start();
    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    let with = json!({ "db": "orders-db", "max_loss": "1h" });
    let step: PromoteDb = serde_json::from_value(with.clone()).unwrap();
    let Readiness::Ready { mut intent, .. } = step.prepare(&rig.read("promote", 1)).await.unwrap() else { panic!("not ready") };
    // The first attempt meant the replica that would not be chosen now.
    let other = if intent.node == WEST { EUROPE } else { WEST };
    intent.node = other.into();
    rig.record("promote", "promote-db", StepState::Backoff, with, None, Proof::None);
    let id = StepId::new("promote").unwrap();
    rig.facts.ancestors.retain(|ancestor| *ancestor != id);
    rig.facts.steps.get_mut(&id).unwrap().intent = Some(serde_json::to_value(&intent).unwrap());
    match step.prepare(&rig.read("promote", 2)).await.unwrap() {
        Readiness::Ready { intent, .. } => assert_eq!(intent.node, other),
        Readiness::Refused { why, .. } => assert!(why.contains(other), "{why}"),
        Readiness::Later { needs, .. } => panic!("{needs}"),
    }
}
