//! A call without an answer is not repeated blindly: the world is asked. Proxies swallow the answer, or the request, of a promotion and a DNS update.

mod support;

use lifeboat_engine::journal::Event;
use support::journal::{self, Journal};
use support::stage::{Stage, WEST};
use xtask::lab::postgres::PRIMARY;
use xtask::lab::proxy::{DnsProxy, Loss, TcpProxy};

/// A statement that promotes. Questions about the right to do so only name the function.
const PROMOTION: &str = "select pg_promote(";

/// A stage on which the new primary and the DNS server that takes updates are reached through proxies.
fn stage() -> (Stage, TcpProxy, DnsProxy) {
    let stage = Stage::new();
    let west = stage.lab.node(WEST);
    let postgres = stage.lab.proxy_to(WEST).unwrap_or_else(|error| panic!("{error}"));
    let dns = stage.lab.dns_proxy().unwrap_or_else(|error| panic!("{error}"));
    let direct = (format!("host: {}\n        port: {}", west.address, west.port), format!("primary: \"{}\"", stage.lab.dns().primary));
    let proxied =
        (format!("host: {}\n        port: {}", postgres.address.ip(), postgres.address.port()), format!("primary: \"{}\"", dns.address));
    stage.inventory(|text| {
        assert!(text.contains(&direct.0) && text.contains(&direct.1), "{direct:?} is not in {text}");
        text.replace(&direct.0, &proxied.0).replace(&direct.1, &proxied.1)
    });
    // What is tested here are lost messages, not the limit of the loss; and clients do not use the proxy's port.
    let through = format!("through: orders-dns, port: {},", west.port);
    stage.write_runbook(|text| {
        assert!(text.contains("through: orders-dns,"), "{text}");
        text.replace("limit: 2s", "limit: 1h").replace("max_loss: 2s", "max_loss: 1h").replace("through: orders-dns,", &through)
    });
    (stage, postgres, dns)
}

fn failover_losing(loss: Loss) -> (Stage, Journal) {
    let (stage, postgres, dns) = stage();
    let heartbeat = stage.beat();
    stage.lab.node(PRIMARY).kill_group().unwrap_or_else(|error| panic!("{error}"));
    postgres.lose(loss, PROMOTION, 1);
    dns.lose_updates(loss, 1);
    stage.lifeboat(&stage.run_words()).expect(0);
    assert_eq!((postgres.lost(), dns.lost()), (1, 1), "what was to be lost did not pass by the proxies");
    drop(heartbeat);
    let journal = journal::only(&stage.data);
    assert_eq!(journal.done_and_started_again(), Vec::<String>::new());
    stage.assert_one_failover();
    (stage, journal)
}

fn doubts(journal: &Journal, id: &str) -> usize {
    journal.entries.iter().filter(|entry| matches!(&entry.event, Event::StepInDoubt { step, .. } if step.as_str() == id)).count()
}

#[test]
fn a_swallowed_answer_is_found_done_and_the_run_goes_on() {
    let (stage, journal) = failover_losing(Loss::Answer);
    for step in ["promote", "dns"] {
        assert_eq!((journal.starts(step), journal.successes(step)), (1, 1), "{step} was done once and found done: {journal:#?}");
    }
    let report = stage.report();
    assert_eq!(report["outcome"], "succeeded");
}

#[test]
fn a_swallowed_request_is_found_not_done_and_tried_again() {
    let (stage, journal) = failover_losing(Loss::Request);
    for step in ["promote", "dns"] {
        assert_eq!(doubts(&journal, step), 1, "{step} was in doubt: {journal:#?}");
        assert_eq!((journal.starts(step), journal.successes(step)), (2, 1), "{step} was looked at and tried again: {journal:#?}");
    }
    let report = stage.report();
    assert_eq!(report["outcome"], "succeeded");
    let again: Vec<u64> = ["promote", "dns"]
        .iter()
        .filter_map(|id| report["steps"].as_array()?.iter().find(|step| step["id"] == **id)?["attempts"].as_u64())
        .collect();
    assert_eq!(again, [2, 2]);
}
