//! The lab itself, against the real servers: that it stands, that its faults are faults, and that nothing outlives it.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is the test's failure"
)]

use xtask::lab::postgres::{PRIMARY, Shutdown};
use xtask::lab::{Lab, Parts};

#[test]
fn a_lab_streams_and_its_record_names_the_primary() {
    let lab = Lab::start(Parts::PostgresAndDns).unwrap();
    let primary = lab.node(PRIMARY);
    assert_eq!(
        lab.dns().addresses("db.orders.lab.").unwrap(),
        vec![primary.address]
    );
    primary
        .psql("app", "insert into orders (id) values (1)")
        .unwrap();
    for replica in ["us-west-2", "eu-west-1"] {
        lab.node(replica)
            .wait_until("select count(*) from orders", "1")
            .unwrap();
        assert_eq!(
            lab.node(replica)
                .psql("lifeboat_probe", "select pg_is_in_recovery()")
                .unwrap(),
            "t"
        );
    }
}

#[test]
fn the_probe_role_cannot_promote_read_files_or_run_programs() {
    let lab = Lab::start(Parts::Postgres).unwrap();
    let replica = lab.node("us-west-2");
    for forbidden in [
        "select pg_promote()",
        "select pg_read_file('pg_hba.conf')",
        "copy (select 1) to program 'true'",
        "create table t(i int)",
    ] {
        let refused = replica
            .psql("lifeboat_probe", forbidden)
            .unwrap_err()
            .to_string();
        let reasons = ["permission denied", "must be superuser", "read-only"];
        assert!(
            reasons.iter().any(|reason| refused.contains(reason)),
            "{forbidden}: {refused}"
        );
    }
    assert_eq!(
        replica
            .psql(
                "lifeboat_probe",
                "select pg_has_role('pg_monitor', 'member')"
            )
            .unwrap(),
        "t"
    );
}

#[test]
fn the_acting_role_promotes_and_the_probe_reads_the_history() {
    let lab = Lab::start(Parts::Postgres).unwrap();
    lab.node(PRIMARY).kill_group().unwrap();
    let next = lab.node("us-west-2");
    assert_eq!(
        next.psql("lifeboat_act", "select pg_promote()").unwrap(),
        "t"
    );
    let history = next
        .psql("lifeboat_probe", "select lifeboat.timeline_history(2)")
        .unwrap();
    assert!(history.starts_with("1\t0/"), "{history}");
    assert_eq!(next.log_count("received promote request").unwrap(), 1);
    next.psql(
        "lifeboat_act",
        "alter system set synchronous_standby_names = ''",
    )
    .unwrap();
}

#[test]
fn a_killed_node_is_gone_at_once_and_starts_again() {
    let lab = Lab::start(Parts::Postgres).unwrap();
    let primary = lab.node(PRIMARY);
    let pid = primary.pid().unwrap();
    primary.kill_group().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(primary.pid(), None);
    primary.start().unwrap();
    assert_eq!(primary.psql("app", "select 1").unwrap(), "1");
    primary.stop(Shutdown::Fast).unwrap();
    assert_eq!(primary.pid(), None);
}

#[test]
fn a_signed_update_reaches_both_servers_and_raises_the_serial_by_one() {
    let lab = Lab::start(Parts::Dns).unwrap();
    let before = lab.dns().serial().unwrap();
    lab.dns()
        .update("update delete db.orders.lab. A\nupdate add db.orders.lab. 1 A 127.9.9.9")
        .unwrap();
    assert_eq!(lab.dns().serial().unwrap(), before + 1);
    lab.dns().wait_serial(before + 1).unwrap();
    assert_eq!(
        xtask::lab::dns_query::addresses(lab.dns().secondary, "db.orders.lab.")
            .unwrap()
            .len(),
        1
    );
}
