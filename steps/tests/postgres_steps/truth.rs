//! The measured loss against the truth of a client that the steps know nothing of.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::Clock;
use lifeboat_engine::clock::SystemClock;
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::heartbeat::TableRule;
use lifeboat_steps::promote_db::PromoteDb;
use serde_json::json;
use tokio_postgres::NoTls;
use xtask::lab::postgres::PRIMARY;
use xtask::lab::proxy::{Speaks, TcpProxy};

use crate::rig::{EUROPE, Rig, WEST};

/// Commits numbered rows until the server is gone; the numbers that were acknowledged, each with its instant.
async fn client(rig: &Rig) -> tokio::task::JoinHandle<Vec<(i64, Timestamp)>> {
    let node = rig.lab.node(PRIMARY);
    let password = std::fs::read_to_string(rig.lab.secret("app")).unwrap();
    let parameters = format!("host={} port={} user=app dbname=orders password={}", node.address, node.port, password.trim());
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    tokio::spawn(connection);
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for number in 1_i64.. {
            if client.execute("insert into orders (id) values ($1)", &[&number]).await.is_err() {
                break;
            }
            acknowledged.push((number, SystemClock.now()));
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
        acknowledged
    })
}

/// What was lost, in seconds: from the last acknowledged row that is kept to the last one that is gone. Zero if none is gone.
fn truly_lost(acknowledged: &[(i64, Timestamp)], kept: i64) -> f64 {
    let last_kept = acknowledged.iter().rev().find(|(number, _)| *number <= kept);
    let last_lost = acknowledged.last().filter(|(number, _)| *number > kept);
    last_kept.zip(last_lost).map_or(0.0, |((_, kept), (_, lost))| lost.duration_since(*kept).as_secs_f64())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_measured_loss_contains_the_true_one_when_the_link_was_cut_before() {
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
    let writing = client(&rig).await;
    let before = beating.until(|kept| kept.recent.len() >= 5).await.last_number();
    proxies.iter().for_each(TcpProxy::cut);
    beating.until(|kept| kept.last_number() >= before + 8).await;
    rig.lab.node(PRIMARY).kill_group().unwrap();
    let acknowledged = writing.await.unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).await;
    let kept: i64 = rig.lab.node(WEST).psql("app", "select max(id) from orders").unwrap().parse().unwrap();
    let truth = truly_lost(&acknowledged, kept);
    let (least, most) = (promoted.loss.seconds_min.unwrap(), promoted.loss.seconds_max.unwrap());
    assert!(truth > 0.5, "nothing was lost, so nothing is tested: {truth}");
    assert!(least <= truth && truth <= most, "lost {truth} s, said {least} to {most} s");
    assert!(most - least < 1.0, "{least} to {most} s is too wide to be of use");
    beating.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_dies_with_its_link_whole_loses_nothing_or_what_is_said() {
    let mut rig = Rig::start();
    let beating = rig.beat(TableRule::Expect);
    let writing = client(&rig).await;
    beating.until(|kept| kept.recent.len() >= 5).await;
    rig.lab.node(PRIMARY).kill_group().unwrap();
    let acknowledged = writing.await.unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    let promoted = rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).await;
    let kept: i64 = rig.lab.node(WEST).psql("app", "select max(id) from orders").unwrap().parse().unwrap();
    let truth = truly_lost(&acknowledged, kept);
    assert!(promoted.loss.seconds_max.is_some_and(|most| truth <= most), "lost {truth} s, said {:?}", promoted.loss);
    beating.stop().await;
}
