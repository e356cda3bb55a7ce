//! The lab itself, against the real servers: that it stands, that its faults are faults, and that nothing outlives it.

use xtask::lab::postgres::{PRIMARY, Shutdown};
use xtask::lab::proxy::Loss;
use xtask::lab::route53::Route53;
use xtask::lab::{Lab, Parts};

#[test]
fn a_lab_streams_and_its_record_names_the_primary() {
    let lab = Lab::start(Parts::PostgresAndDns).unwrap();
    let primary = lab.node(PRIMARY);
    assert_eq!(lab.dns().addresses("db.orders.lab.").unwrap(), vec![primary.address]);
    primary.psql("app", "insert into orders (id) values (1)").unwrap();
    for replica in ["us-west-2", "eu-west-1"] {
        lab.node(replica).wait_until("select count(*) from orders", "1").unwrap();
        assert_eq!(lab.node(replica).psql("lifeboat_probe", "select pg_is_in_recovery()").unwrap(), "t");
    }
}

#[test]
fn the_probe_role_cannot_promote_read_files_or_run_programs() {
    let lab = Lab::start(Parts::Postgres).unwrap();
    let replica = lab.node("us-west-2");
    for forbidden in
        ["select pg_promote()", "select pg_read_file('pg_hba.conf')", "copy (select 1) to program 'true'", "create table t(i int)"]
    {
        let refused = replica.psql("lifeboat_probe", forbidden).unwrap_err().to_string();
        let reasons = ["permission denied", "must be superuser", "read-only"];
        assert!(reasons.iter().any(|reason| refused.contains(reason)), "{forbidden}: {refused}");
    }
    assert_eq!(replica.psql("lifeboat_probe", "select pg_has_role('pg_monitor', 'member')").unwrap(), "t");
}

#[test]
fn the_acting_role_promotes_and_the_probe_reads_the_history() {
    let lab = Lab::start(Parts::Postgres).unwrap();
    lab.node(PRIMARY).kill_group().unwrap();
    let next = lab.node("us-west-2");
    assert_eq!(next.psql("lifeboat_act", "select pg_promote()").unwrap(), "t");
    let history = next.psql("lifeboat_probe", "select lifeboat.timeline_history(2)").unwrap();
    assert!(history.starts_with("1\t0/"), "{history}");
    assert_eq!(next.log_count("received promote request").unwrap(), 1);
    next.psql("lifeboat_act", "alter system set synchronous_standby_names = ''").unwrap();
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
    lab.dns().update("update delete db.orders.lab. A\nupdate add db.orders.lab. 1 A 127.9.9.9").unwrap();
    assert_eq!(lab.dns().serial().unwrap(), before + 1);
    lab.dns().wait_serial(before + 1).unwrap();
    assert_eq!(xtask::lab::dns_query::addresses(lab.dns().secondary, "db.orders.lab.").unwrap().len(), 1);
}

#[test]
fn a_lost_answer_leaves_the_deed_done_and_a_lost_request_does_not() {
    let lab = Lab::start(Parts::PostgresAndDns).unwrap();
    let proxy = lab.proxy_to(PRIMARY).unwrap();
    let through = |sql: &str| {
        let mut psql = std::process::Command::new("/usr/lib/postgresql/15/bin/psql");
        psql.args(["-X", "-w", "-h"]).arg(proxy.address.ip().to_string());
        psql.arg("-p").arg(proxy.address.port().to_string());
        psql.args(["-U", "app", "-d", "orders", "-c", sql]);
        psql.env("PGPASSWORD", std::fs::read_to_string(lab.secret("app")).unwrap());
        psql.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        psql.spawn().unwrap()
    };
    let has = |id: i32| lab.node(PRIMARY).psql("app", &format!("select count(*) from orders where id = {id}")).unwrap() == "1";
    assert!(through("insert into orders values (1)").wait().unwrap().success());

    proxy.lose(Loss::Answer, "values (2)", 1);
    let mut waiting = through("insert into orders values (2)");
    lab.node(PRIMARY).wait_until("select count(*) from orders where id = 2", "1").unwrap();
    assert_eq!(proxy.lost(), 1);
    assert_eq!(waiting.try_wait().unwrap(), None, "the client must still wait for its answer");
    waiting.kill().unwrap();
    waiting.wait().unwrap();

    proxy.lose(Loss::Request, "values (3)", 1);
    let mut waiting = through("insert into orders values (3)");
    wait_for(|| proxy.lost() == 2);
    assert_eq!(waiting.try_wait().unwrap(), None);
    assert!(!has(3));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert!(through("insert into orders values (3)").wait().unwrap().success(), "the rule was for one request");
    assert!(has(3));
}

#[test]
fn a_cut_replication_loses_acknowledged_rows() {
    let lab = Lab::start(Parts::Postgres).unwrap();
    let link = lab.proxy_to(PRIMARY).unwrap();
    let replica = lab.node("us-west-2");
    replica.stream_from(link.address).unwrap();
    lab.node(PRIMARY).psql("app", "insert into orders values (1)").unwrap();
    replica.wait_until("select max(id) from orders", "1").unwrap();
    link.cut();
    lab.node(PRIMARY).psql("app", "insert into orders values (2)").unwrap();
    lab.node(PRIMARY).kill_group().unwrap();
    replica.psql("lifeboat_act", "select pg_promote()").unwrap();
    assert_eq!(replica.psql("app", "select max(id) from orders").unwrap(), "1");
}

#[test]
fn a_dns_proxy_loses_the_update_or_only_its_answer() {
    let lab = Lab::start(Parts::Dns).unwrap();
    let proxy = lab.dns_proxy().unwrap();
    let serial = || lab.dns().serial().unwrap();
    let before = serial();
    assert_eq!(xtask::lab::dns_query::serial(proxy.address, "orders.lab.").unwrap(), before);
    for (loss, change, after) in [(Loss::Answer, "127.5.5.5", before + 1), (Loss::Request, "127.6.6.6", before + 1)] {
        let lost_before = proxy.lost();
        proxy.lose_updates(loss, 1);
        let update = format!("update delete db.orders.lab. A\nupdate add db.orders.lab. 1 A {change}");
        let mut sender = lab.dns().begin_update(proxy.address, &update).unwrap();
        wait_for(|| proxy.lost() == lost_before + 1);
        sender.kill().unwrap();
        sender.wait().unwrap();
        lab.dns().wait_serial(after).unwrap();
        assert_eq!(serial(), after, "{loss:?}");
    }
    assert_eq!(lab.dns().addresses("db.orders.lab.").unwrap()[0].to_string(), "127.5.5.5");
}

fn wait_for(is_so: impl Fn() -> bool) {
    let found = xtask::look_until(std::time::Duration::from_secs(30), || is_so().then_some(()));
    assert!(found.is_some(), "waited in vain");
}

#[test]
fn nothing_outlives_a_lab_whose_owner_was_killed() {
    let mut owner = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    owner.arg("lab").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut owner = owner.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
    let folder = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("lab: ").map(std::path::PathBuf::from)).unwrap();
    let pids = std::fs::read_dir(folder.join("pids")).unwrap();
    let pids: Vec<String> = pids.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(pids.len(), 5, "three databases and two DNS servers: {pids:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_for(|| !folder.exists());
    for line in pids {
        let pid = line.split(' ').next().unwrap().to_owned();
        // A killed orphan stays a zombie until init collects it, which is not ours to do.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| ") Z".to_owned());
        wait_for(|| state().contains(") Z"));
    }
}

#[test]
fn a_route53_change_is_pending_first_and_in_sync_when_asked_again() {
    let route53 = Route53::start().unwrap();
    let zone = route53.create_zone("orders.example.").unwrap();
    let body = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes><Change>\
        <Action>UPSERT</Action><ResourceRecordSet><Name>db.orders.example.</Name><Type>A</Type><TTL>60</TTL><ResourceRecords>\
        <ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch>\
        </ChangeResourceRecordSetsRequest>";
    let answer = route53.request("POST", &format!("/2013-04-01/hostedzone/{zone}/rrset"), body).unwrap();
    let change = answer.split("<Id>/change/").nth(1).unwrap().split('<').next().unwrap();
    let status = || route53.request("GET", &format!("/2013-04-01/change/{change}"), "").unwrap();
    assert!(status().contains("PENDING"));
    assert!(status().contains("INSYNC"));
}
