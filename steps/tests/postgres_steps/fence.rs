//! Fencing on real servers: each method with live sessions, nodes that do not answer, and what counts as proof.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lifeboat_engine::step::Step;
use lifeboat_engine::{Observation, Readiness, StepError};
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::promote_db::PromoteDb;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use xtask::lab::postgres::PRIMARY;
use xtask::lab::proxy::{Speaks, TcpProxy};

use crate::rig::{Rig, WEST};

/// A session of an application, as it would live on through a fence that only stops new ones.
async fn session(rig: &Rig, role: &str) -> Client {
    let node = rig.lab.node(PRIMARY);
    let password = std::fs::read_to_string(rig.lab.secret(role)).unwrap();
    let parameters = format!("host={} port={} user={role} dbname=orders password={}", node.address, node.port, password.trim());
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(async move {
        let _ended_by_the_fence = connection.await;
    });
    client
}

/// A program in a folder that only we may write to, as programs must lie.
fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn fence() -> Value {
    json!({ "db": "orders-db", "node": PRIMARY })
}

fn step() -> FenceDb {
    serde_json::from_value(fence()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rejecting_ends_live_sessions_too_and_lets_nobody_in_again() {
    let mut rig = Rig::start();
    rig.db()["nodes"][PRIMARY]["fence"] = json!([{ "reject": {} }]);
    let app = session(&rig, "app").await;
    let superuser = session(&rig, "postgres").await;
    app.batch_execute("insert into orders (id) values (1)").await.unwrap();
    let fenced = rig.run::<FenceDb>("fence", fence()).await;
    assert_eq!(fenced.proof.unwrap().kind, "logins-refused");
    assert!(app.batch_execute("insert into orders (id) values (2)").await.is_err(), "a live session went on");
    assert!(superuser.batch_execute("select 1").await.is_err(), "a superuser's session went on");
    let primary = rig.lab.node(PRIMARY);
    assert!(primary.pid().is_some(), "the server itself goes on");
    for role in ["app", "postgres"] {
        let refused = primary.psql(role, "select 1").unwrap_err().to_string();
        assert!(refused.contains("pg_hba.conf rejects connection"), "{refused}");
    }
    // Once more: the block is there once, and the answer is the same.
    let Readiness::Ready { intent, .. } = step().prepare(&rig.read("fence", 1)).await.unwrap() else { panic!("not ready") };
    step().execute(&intent, &rig.act("fence")).await.unwrap();
    let hba = std::fs::read_to_string(primary.data.join("pg_hba.conf")).unwrap();
    assert_eq!(hba.matches("# lifeboat fence").count(), 1);
    assert!(hba.contains("replication"), "{hba}");
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
    assert_eq!(rig.lab.node(&promoted.node).psql("app", "select count(*) from orders").unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_program_counts_when_its_check_and_the_network_agree() {
    let mut rig = Rig::start();
    let programs = tempfile::tempdir().unwrap();
    let node = rig.lab.node(PRIMARY);
    let off = script(programs.path(), "off", &format!("{} stop -m immediate", node.pg_ctl_script.display()));
    let nothing = script(programs.path(), "nothing", "exit 0");
    let check = script(programs.path(), "check", &format!("test ! -e {}/postmaster.pid", node.data.display()));
    let broken = script(programs.path(), "broken", "echo no such machine >&2; exit 7");
    rig.inventory["policies"] = json!({ "programs": [off, nothing, check, broken] });

    rig.remote(PRIMARY, json!([{ "command": { "run": [nothing], "check": [check] } }, { "command": { "run": [broken] } }]));
    rig.step_timeout = std::time::Duration::from_secs(8);
    let Readiness::Ready { intent, .. } = step().prepare(&rig.read("fence", 1)).await.unwrap() else { panic!("not ready") };
    let error = step().execute(&intent, &rig.act("fence")).await.unwrap_err();
    assert!(
        matches!(&error, StepError::NotDone { why, .. } if why.contains("still takes writes") && why.contains("no such machine")),
        "{error:?}"
    );
    assert_eq!(step().observe(&intent, &rig.read("fence", 2)).await.unwrap(), Observation::NotDone);

    rig.step_timeout = std::time::Duration::from_secs(30);
    rig.remote(PRIMARY, json!([{ "command": { "run": [off], "check": [check] } }]));
    let fenced = rig.run::<FenceDb>("fence", fence()).await;
    assert_eq!((fenced.method.as_deref(), fenced.proof.as_ref().unwrap().kind.as_str()), (Some("command"), "powered-off"));
    let observed = step().observe(&intent, &rig.read("fence", 2)).await.unwrap();
    assert!(matches!(observed, Observation::Done(_)), "{observed:?}");
    rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_program_without_a_check_needs_refused_connections_and_lost_streams() {
    let mut rig = Rig::start();
    let programs = tempfile::tempdir().unwrap();
    let off = script(programs.path(), "off", &format!("{} stop -m immediate", rig.lab.node(PRIMARY).pg_ctl_script.display()));
    rig.inventory["policies"] = json!({ "programs": [off] });
    rig.remote(PRIMARY, json!([{ "command": { "run": [off] } }]));
    let fenced = rig.run::<FenceDb>("fence", fence()).await;
    let proof = fenced.proof.unwrap();
    assert_eq!(proof.kind, "powered-off");
    assert!(proof.vantages.iter().any(|vantage| vantage.from == WEST), "{proof:?}");
    rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_only_silent_is_not_fenced_unless_people_take_the_risk() {
    let mut rig = Rig::start();
    rig.remote(PRIMARY, json!([]));
    rig.lab.node(PRIMARY).freeze().unwrap();
    let (why, _) = rig.refusal::<FenceDb>("fence", fence()).await;
    assert!(why.contains("no proof that it takes no writes") && why.contains("accept_risk"), "{why}");

    let with = json!({ "db": "orders-db", "node": PRIMARY, "accept_risk": "risk" });
    // An approval that this step does not need, or that nobody gave, is none.
    let (why, _) = rig.refusal::<FenceDb>("fence", with.clone()).await;
    assert!(why.contains("accept_risk"), "{why}");
    rig.approve("risk", json!({ "risk": "two primaries" }));
    let fenced = rig.run::<FenceDb>("fence", with).await;
    assert!(!fenced.proven);
    assert_eq!(fenced.risk_accepted.unwrap().by, ["ada"]);
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).await;
    assert_eq!(promoted.loss.seconds_max, None, "what a node that may live still takes is lost without bound");
    rig.lab.node(PRIMARY).thaw().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_proves_nothing_about_the_node_behind_it() {
    let mut rig = Rig::start();
    let proxy = TcpProxy::start(rig.lab.free_socket().unwrap(), rig.lab.node(PRIMARY).socket(), Speaks::Bytes).unwrap();
    rig.remote(PRIMARY, json!([]));
    rig.db()["nodes"][PRIMARY]["host"] = json!(proxy.address.ip().to_string());
    rig.db()["nodes"][PRIMARY]["port"] = json!(proxy.address.port());
    proxy.silence();
    let (why, evidence) = rig.refusal::<FenceDb>("fence", fence()).await;
    assert!(why.contains("does not answer, which is no proof"), "{why} {evidence:?}");
    assert_eq!(rig.lab.node(PRIMARY).psql("app", "select pg_is_in_recovery()").unwrap(), "f", "it lives behind the silence");
    // People may take the risk of silence, but not against the sight of a replica that gets the log.
    rig.approve("risk", json!({ "risk": "two primaries" }));
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY, "accept_risk": "risk" })).await;
    // Its address in the inventory is the proxy's, so the stream is told by the address that the replicas use.
    rig.db()["nodes"][PRIMARY]["host"] = json!(rig.lab.node(PRIMARY).address.to_string());
    rig.db()["nodes"][PRIMARY]["port"] = json!(rig.lab.node(PRIMARY).port);
    let (why, _) = rig.refusal::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).await;
    assert!(why.contains("answers as a primary on timeline 1 again"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_survives_pg_ctl_and_is_in_doubt_until_it_is_gone() {
    let mut rig = Rig::start();
    rig.db()["nodes"][PRIMARY]["fence"] = json!([{ "pg_ctl": { "timeout": "1s" } }]);
    let Readiness::Ready { intent, .. } = step().prepare(&rig.read("fence", 1)).await.unwrap() else { panic!("not ready") };
    assert_eq!(step().observe(&intent, &rig.read("fence", 2)).await.unwrap(), Observation::NotDone);
    rig.lab.node(PRIMARY).freeze().unwrap();
    let error = step().execute(&intent, &rig.act("fence")).await.unwrap_err();
    assert!(matches!(&error, StepError::Unknown { why } if why.contains("pg_ctl")), "{error:?}");
    let observed = step().observe(&intent, &rig.read("fence", 2)).await.unwrap();
    assert!(matches!(observed, Observation::Unknown { .. }), "{observed:?}");
    // What was asked of it arrives when it wakes up.
    rig.lab.node(PRIMARY).thaw().unwrap();
    crate::rig::until("the server to end", || rig.lab.node(PRIMARY).pid().is_none().then_some(())).await;
    let observed = step().observe(&intent, &rig.read("fence", 2)).await.unwrap();
    assert!(matches!(observed, Observation::Done(_)), "{observed:?}");
    // Whoever starts it again gets a standby.
    rig.lab.node(PRIMARY).start().unwrap();
    assert_eq!(rig.lab.node(PRIMARY).psql("app", "select pg_is_in_recovery()").unwrap(), "t");
}

/// Fences by one method with sessions open, then takes that back.
async fn fenced_and_reopened(method: Value) {
    let mut rig = Rig::start();
    rig.db()["nodes"][PRIMARY]["fence"] = json!([method]);
    let primary = rig.lab.node(PRIMARY);
    primary.psql("app", "insert into orders (id) values (1)").unwrap();
    let hba = std::fs::read_to_string(primary.data.join("pg_hba.conf")).unwrap();
    let before = <FenceDb as Step>::census("orders-db", &rig.read("fence", 0)).await.unwrap();
    let Readiness::Ready { intent, .. } = step().prepare(&rig.read("fence", 1)).await.unwrap() else { panic!("not ready") };
    let done = step().execute(&intent, &rig.act("fence")).await.unwrap();
    assert!(primary.psql("app", "select 1").is_err(), "it is fenced");
    let again = serde_json::to_value(&done).unwrap();
    step().undo(&intent, done, &rig.act("fence")).await.unwrap();
    primary.psql("app", "insert into orders (id) values (2)").unwrap();
    rig.lab.node(WEST).wait_until("select count(*) from orders", "2").unwrap();
    assert_eq!(std::fs::read_to_string(primary.data.join("pg_hba.conf")).unwrap(), hba);
    assert!(!primary.data.join("standby.signal").exists());
    let after = <FenceDb as Step>::census("orders-db", &rig.read("fence", 0)).await.unwrap();
    assert_eq!(after, before, "the peers list what they listed before");
    assert_eq!(step().observe(&intent, &rig.read("fence", 2)).await.unwrap(), Observation::NotDone);
    // It bears being repeated.
    step().undo(&intent, serde_json::from_value(again).unwrap(), &rig.act("fence")).await.unwrap();
    assert_eq!(primary.psql("app", "select count(*) from orders").unwrap(), "2");
    end(&rig);
}

/// A server that was opened again is not the lab's child any more.
fn end(rig: &Rig) {
    let script = &rig.lab.node(PRIMARY).pg_ctl_script;
    let ended = std::process::Command::new(script).args(["stop", "-m", "immediate", "-w"]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_stopped_is_started_again_as_the_primary_that_it_was() {
    fenced_and_reopened(json!({ "pg_ctl": { "timeout": "5s" } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_were_refused_are_accepted_again() {
    fenced_and_reopened(json!({ "reject": {} })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_not_lifted_under_another_primary_nor_under_a_node_that_does_not_tell() {
    let mut rig = Rig::start();
    let Readiness::Ready { intent, .. } = step().prepare(&rig.read("fence", 1)).await.unwrap() else { panic!("not ready") };
    let done = || serde_json::from_value(json!({ "db": "orders-db", "node": PRIMARY, "proven": true, "method": "pg_ctl" })).unwrap();
    let kept = step().execute(&intent, &rig.act("fence")).await.unwrap();
    rig.record(
        "fence",
        "fence-db",
        lifeboat_engine::run::StepState::Succeeded,
        fence(),
        Some(serde_json::to_value(&kept).unwrap()),
        lifeboat_engine::context::Proof::Seen,
    );
    rig.lab.node(WEST).freeze().unwrap();
    rig.step_timeout = std::time::Duration::from_secs(8);
    let silent = step().undo(&intent, done(), &rig.act("fence")).await;
    assert!(matches!(&silent, Err(StepError::NotDone { why, .. }) if why.contains("does not tell whether it is a primary")), "{silent:?}");
    rig.lab.node(WEST).thaw().unwrap();
    rig.step_timeout = std::time::Duration::from_secs(30);
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
    let two = step().undo(&intent, done(), &rig.act("fence")).await;
    let refused = format!("{} answers as a primary", promoted.node);
    assert!(matches!(&two, Err(StepError::Refused { why, .. }) if why.contains(&refused)), "{two:?}");
    let primary = rig.lab.node(PRIMARY);
    assert!(primary.pid().is_none() && primary.data.join("standby.signal").exists(), "it stays closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_back_says_so_and_changes_nothing() {
    type Change = fn(&mut Value);
    let mut rig = Rig::start();
    let Readiness::Ready { intent, .. } = step().prepare(&rig.read("fence", 1)).await.unwrap() else { panic!("not ready") };
    let done = step().execute(&intent, &rig.act("fence")).await.unwrap();
    let primary = rig.lab.node(PRIMARY).data.clone();
    let kept = serde_json::to_value(&done).unwrap();
    let with = |change: Change| {
        let mut changed = serde_json::to_value(&intent).unwrap();
        change(&mut changed);
        serde_json::from_value(changed).unwrap()
    };
    let cases: [(&str, Change); 4] = [
        ("by a program of the operator's", |intent| intent["methods"] = json!(["command", "pg_ctl"])),
        ("standby.signal of us-east-1 was there before", |intent| intent["standby_signal"] = json!("was_there")),
        ("did not answer as a primary when it was fenced", |intent| intent["was"] = json!({ "state": "unreachable" })),
        ("no longer what was fenced", |intent| intent["was"]["timeline"] = json!(7)),
    ];
    for (wanted, change) in cases {
        let refused = step().undo(&with(change), serde_json::from_value(kept.clone()).unwrap(), &rig.act("fence")).await;
        assert!(matches!(&refused, Err(StepError::Refused { why, .. }) if why.contains(wanted)), "{wanted}: {refused:?}");
        assert!(rig.lab.node(PRIMARY).pid().is_none() && primary.join("standby.signal").exists(), "{wanted}: it stays closed");
    }
    // Cut short between the file and the start it takes no writes, and is opened once more.
    std::fs::remove_file(primary.join("standby.signal")).unwrap();
    assert!(
        matches!(step().observe(&intent, &rig.read("fence", 2)).await.unwrap(), Observation::Unknown { .. }),
        "as a fence it is in doubt"
    );
    rig.record(
        "fence",
        "fence-db",
        lifeboat_engine::run::StepState::UndoInDoubt,
        fence(),
        Some(kept.clone()),
        lifeboat_engine::context::Proof::Seen,
    );
    assert!(matches!(step().observe(&intent, &rig.read("fence", 2)).await.unwrap(), Observation::Done(_)), "as an undo it is not done");
    step().undo(&intent, serde_json::from_value(kept).unwrap(), &rig.act("fence")).await.unwrap();
    rig.lab.node(PRIMARY).psql("app", "insert into orders (id) values (3)").unwrap();
    end(&rig);
}
