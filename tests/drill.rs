//! A drill of a whole failover on real servers: production is never touched, the twin is, and everything of it is put back.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use support::process::PATIENCE;
use support::stage::{EUROPE, Stage, WEST, write};
use xtask::lab::postgres::PRIMARY;
use xtask::lab::root;
use xtask::look_until;

/// Production as the inventory has it: nothing listens there, so whoever touched it would fail.
const PRODUCTION: &str = "  orders-db:
    drill_as: orders-twin
    database: orders
    nodes:
      us-east-1: { host: 127.0.0.1, port: 1, region: us-east-1 }
      us-west-2: { host: 127.0.0.1, port: 2, region: us-west-2 }
      eu-west-1: { host: 127.0.0.1, port: 3, region: eu-west-1 }
    probe: { user: probe, password: \"file:no-such-file\" }
    act: { user: act, password: \"file:no-such-file\" }
  orders-twin:
    drill: allow
    database: orders
";

const PRODUCTION_DNS: &str = "  orders-dns:
    drill_as: orders-twin-dns
    name: db.orders.example.
    type: A
    ttl: 1
    targets: { us-east-1: [127.0.0.1], us-west-2: [127.0.0.2], eu-west-1: [127.0.0.3] }
    rfc2136:
      zone: orders.example.
      primary: \"127.0.0.1:1\"
      servers: [\"127.0.0.1:1\"]
      tsig: { name: key, algorithm: hmac-sha256, secret: \"file:no-such-file\" }
  orders-twin-dns:
    drill: allow
";

/// The lab as a twin, with the programs of the example where only we may write.
fn twin() -> (Stage, tempfile::TempDir) {
    let stage = Stage::new();
    let programs = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let place = |name: &str| {
        let to = programs.path().join(name);
        std::fs::copy(root().join("examples/drill").join(name), &to).unwrap_or_else(|error| panic!("{name}: {error}"));
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
        to
    };
    let (reseed, are_standbys): (PathBuf, PathBuf) = (place("reseed-standbys"), place("are-standbys"));
    stage.inventory(|text| {
        let text = text.replace("  orders-db:\n    database: orders\n", PRODUCTION).replace("  orders-dns:\n", PRODUCTION_DNS);
        let allowed = format!("policies:\n  programs: [{}, {}]\n", reseed.display(), are_standbys.display());
        assert!(text.contains("orders-twin:") && text.contains("orders-twin-dns:"), "{text}");
        text + &allowed
    });
    let runbook = std::fs::read_to_string(root().join("examples/drill/runbook.yaml")).unwrap_or_else(|error| panic!("{error}"));
    let lab = stage.lab.node(PRIMARY).data.ancestors().nth(2).map(|folder| folder.display().to_string()).unwrap_or_default();
    let runbook = runbook
        .replace("/opt/orders/reseed-standbys", &reseed.display().to_string())
        .replace("/opt/orders/are-standbys", &are_standbys.display().to_string())
        .replace("/var/lib/orders-twin/wal", &format!("{lab}/wal"))
        .replace("/var/lib/orders-twin", &format!("{lab}/postgres"));
    write(&stage.runbook, &runbook);
    (stage, programs)
}

/// Servers that the drill started again are not the lab's children any more.
struct Ended<'a>(&'a Stage);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        for region in [PRIMARY, WEST, EUROPE] {
            let _gone_already = Command::new(&self.0.lab.node(region).pg_ctl_script).args(["stop", "-m", "immediate", "-w"]).output();
        }
    }
}

#[test]
fn a_drill_on_a_twin_passes_and_leaves_everything_as_it_was() {
    let (stage, _programs) = twin();
    let _ended = Ended(&stage);
    let _heartbeat = stage.beat_in("orders-twin");
    let runbook = stage.runbook.display().to_string();
    let plan = stage.lifeboat(&["plan", &runbook, "--mode", "drill"]).expect(0).stdout;
    assert!(plan.contains("taken back by command: run") && plan.contains("(CHANGES orders-twin)"), "{plan}");
    let roles =
        || [PRIMARY, WEST, EUROPE].map(|region| stage.lab.node(region).psql("app", "select pg_is_in_recovery()").unwrap_or_default());
    let addresses = || stage.lab.dns().addresses(xtask::lab::dns::RECORD).map(|found| format!("{found:?}")).unwrap_or_default();
    let (roles_before, addresses_before) = (roles(), addresses());
    assert_eq!(roles_before, ["f", "t", "t"]);
    stage.lab.node(PRIMARY).psql("app", "insert into orders (id) values (901)").unwrap_or_else(|error| panic!("{error}"));

    let ran = stage.lifeboat(&["drill", &runbook]);
    let report = stage.report();
    let told = format!("{}\n{}\n{report:#}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, Some(0), "{told}");
    assert_eq!(report["outcome"], "succeeded", "{told}");
    assert_eq!(report["drill"]["passed"], true, "{told}");
    let state = |id: &str| {
        let steps = report["steps"].as_array().cloned().unwrap_or_default();
        steps.iter().find(|step| step["id"] == id).map(|step| step["state"].clone()).unwrap_or_default()
    };
    for step in ["fence", "promote", "dns"] {
        assert_eq!(state(step), "undone", "{step}: {told}");
    }
    assert_eq!(report["drill"]["clean_up"]["compared"]["differences"], serde_json::json!([]), "{told}");
    assert_eq!((roles(), addresses()), (roles_before, addresses_before), "{told}");
    // It is the primary that it was: what was there is there, and it takes writes.
    stage.lab.node(PRIMARY).psql("app", "insert into orders (id) values (902)").unwrap_or_else(|error| panic!("{error}"));
    // And the standbys get it: the one that was promoted and taken back, and the one that only watched.
    for region in [PRIMARY, WEST, EUROPE] {
        let rows = || stage.lab.node(region).psql("app", "select count(*) from orders where id in (901, 902)").unwrap_or_default();
        let there = look_until(PATIENCE, || (rows() == "2").then_some(()));
        assert!(there.is_some(), "{region} has {} of 2 rows: {told}", rows());
    }
}
