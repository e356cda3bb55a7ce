//! Looking changes nothing: `prepare` and `observe` of every step against servers that log every statement.

use lifeboat_engine::Readiness;
use lifeboat_engine::step::Step;
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::measure_rpo::MeasureRpo;
use lifeboat_steps::promote_db::PromoteDb;
use serde_json::json;
use xtask::lab::postgres::{PRIMARY, REGIONS};

use crate::rig::{Rig, WEST};

/// Words that only a statement with an effect begins with or calls.
const EFFECTS: [&str; 16] = [
    "insert ",
    "update ",
    "delete ",
    "create ",
    "alter ",
    "drop ",
    "grant ",
    "copy ",
    "pg_promote(",
    "pg_reload_conf(",
    "pg_terminate_backend(",
    "pg_wal_replay_",
    "pg_switch_wal(",
    "pg_logical_emit_message(",
    "set_config(",
    "nextval(",
];

#[tokio::test(flavor = "multi_thread")]
async fn prepare_and_observe_write_nothing_anywhere() {
    let mut rig = Rig::start();
    for region in REGIONS {
        rig.lab.node(region).psql("postgres", "alter system set log_statement = 'all'").unwrap();
        rig.lab.node(region).psql("postgres", "select pg_reload_conf()").unwrap();
        rig.lab.node(region).wait_until("show log_statement", "all").unwrap();
    }
    let transactions = || rig.lab.node(PRIMARY).psql("app", "select pg_snapshot_xmax(pg_current_snapshot())").unwrap();
    let before = transactions();
    let files = files(&rig);
    let loss: MeasureRpo = serde_json::from_value(json!({ "db": "orders-db", "from": PRIMARY, "to": WEST })).unwrap();
    let fence: FenceDb = serde_json::from_value(json!({ "db": "orders-db", "node": PRIMARY })).unwrap();
    let promote: PromoteDb = serde_json::from_value(json!({ "db": "orders-db", "node": WEST, "max_loss": "1h" })).unwrap();
    loss.prepare(&rig.read("loss", 0)).await.unwrap();
    let Readiness::Ready { intent: fencing, .. } = fence.prepare(&rig.read("fence", 0)).await.unwrap() else { panic!("not ready") };
    fence.observe(&fencing, &rig.read("fence", 2)).await.unwrap();
    promote.prepare(&rig.read("promote", 0)).await.unwrap();
    assert_eq!(transactions(), before, "looking took a transaction number");
    assert_eq!(files, self::files(&rig), "looking left a file");

    rig.lab.node(PRIMARY).kill_group().unwrap();
    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    let Readiness::Ready { intent, .. } = promote.prepare(&rig.read("promote", 1)).await.unwrap() else { panic!("not ready") };
    promote.observe(&intent, &rig.read("promote", 2)).await.unwrap();
    fence.observe(&fencing, &rig.read("fence", 2)).await.unwrap();
    rig.lab.node(WEST).psql("postgres", "select pg_promote()").unwrap();
    promote.observe(&intent, &rig.read("promote", 2)).await.unwrap();

    let mut asked = 0;
    for region in REGIONS {
        let log = std::fs::read_to_string(&rig.lab.node(region).log).unwrap();
        assert!(!log.contains("lifeboat_act@"), "looking logged in as the acting role on {region}");
        // Statements of several lines go on with a tab.
        let mut ours = false;
        for line in log.lines() {
            ours = if line.starts_with('\t') { ours } else { line.contains("lifeboat_probe@") };
            if ours {
                asked += 1;
                let line = line.to_lowercase();
                let effect = EFFECTS.iter().find(|word| line.contains(*word));
                assert!(effect.is_none(), "looking sent {effect:?} to {region}: {line}");
            }
        }
    }
    assert!(asked > 50, "the log shows {asked} lines of the probe: the test looks at the wrong place");
}

/// Names of the files at the top of each data directory.
fn files(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = REGIONS
        .into_iter()
        .flat_map(|region| {
            std::fs::read_dir(&rig.lab.node(region).data).unwrap().map(move |entry| format!("{region}/{:?}", entry.unwrap().file_name()))
        })
        .collect();
    names.sort();
    names
}
