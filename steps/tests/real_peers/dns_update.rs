//! `update-dns` against real Knot servers: a primary that takes signed updates, and a secondary that follows it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::stage::{self, Stage, ready, refusal, seen, step};
use lifeboat_engine::census::Census;
use lifeboat_engine::step::{Observation, Retryable, Step, StepError};
use lifeboat_steps::update_dns::UpdateDns;
use serde_json::{Value, json};
use xtask::lab::dns::{KEY_NAME, RECORD, ZONE};
use xtask::lab::proxy::Loss;
use xtask::lab::{Lab, Parts};

const WEST: &str = "127.77.0.12";
const EAST: &str = "127.77.0.11";

fn lab() -> Lab {
    Lab::start(Parts::Dns).unwrap()
}

fn record(lab: &Lab, primary: SocketAddr) -> Value {
    json!({
        "name": RECORD, "type": "A", "ttl": 1,
        "targets": { "us-east-1": [EAST], "us-west-2": [WEST], "eu-west-1": ["127.77.0.13", "127.77.0.14"] },
        "rfc2136": {
            "zone": ZONE,
            "primary": primary.to_string(),
            "servers": [primary.to_string(), lab.dns().secondary.to_string()],
            "tsig": { "name": KEY_NAME, "algorithm": "hmac-sha256", "secret": format!("file:{}", lab.secret("tsig").display()) },
        },
    })
}

fn stage_with(lab: &Lab, record: Value) -> Stage {
    Stage::new(json!({ "lifeboat": "v1", "dns-records": { "orders-dns": record } }), lab.folder())
}

fn stage(lab: &Lab) -> Stage {
    stage_with(lab, record(lab, lab.dns().primary))
}

fn to(target: &str) -> UpdateDns {
    step(json!({ "record": "orders-dns", "to": target }))
}

fn addresses(lab: &Lab) -> Vec<String> {
    lab.dns().addresses(RECORD).unwrap().iter().map(ToString::to_string).collect()
}

/// Updates that the primary worked on, by its own log.
fn updates_seen(lab: &Lab) -> usize {
    std::fs::read_to_string(&lab.dns().log).unwrap().lines().filter(|line| line.contains("DDNS")).count()
}

#[tokio::test]
async fn a_record_moves_on_every_server_and_the_serial_rises_by_one() {
    let lab = lab();
    let stage = stage(&lab);
    let before = (lab.dns().serial().unwrap(), addresses(&lab));
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!(addresses(&lab), [WEST]);
    assert_eq!(lab.dns().serial().unwrap(), before.0 + 1);
    assert_eq!((moved.serial_before, moved.serial_after), (Some(before.0), Some(before.0 + 1)));
    assert_eq!((moved.previous.clone(), moved.now.clone(), moved.changed), (before.1, vec![WEST.to_owned()], true));
    assert_eq!(moved.servers.len(), 2);
    assert!(moved.servers.iter().all(|server| server.serial == Some(before.0 + 1)), "{:?}", moved.servers);
    assert!(moved.submitted_at <= moved.proven_at);
    let measures = UpdateDns::measures(&moved);
    assert_eq!(measures.len(), 2, "{measures:?}");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "done");
}

#[tokio::test]
async fn a_whole_set_replaces_a_whole_set() {
    let lab = lab();
    let stage = stage(&lab);
    for (target, wanted) in [("eu-west-1", vec!["127.77.0.13", "127.77.0.14"]), ("us-west-2", vec![WEST])] {
        let step = to(target);
        step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
        let mut found = addresses(&lab);
        found.sort();
        assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn preparing_and_observing_send_no_update() {
    let lab = lab();
    let stage = stage(&lab);
    let (serial, updates) = (lab.dns().serial().unwrap(), updates_seen(&lab));
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "not done");
    assert_eq!((lab.dns().serial().unwrap(), updates_seen(&lab)), (serial, updates));
    // The witness is one that speaks: the update itself does show in that log.
    step.execute(&intent, &stage.act()).await.unwrap();
    assert!(updates_seen(&lab) > updates, "the log of the server does not show updates");
}

#[tokio::test]
async fn a_lost_request_is_found_not_done_and_tried_again() {
    let lab = lab();
    let proxy = lab.dns_proxy().unwrap();
    let stage = stage_with(&lab, record(&lab, proxy.address));
    let serial = lab.dns().serial().unwrap();
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    proxy.lose_updates(Loss::Request, 1);
    let lost = step.execute(&intent, &stage.act_for(Duration::from_secs(5))).await;
    assert!(matches!(lost, Err(StepError::Unknown { .. })), "{lost:?}");
    assert_eq!(proxy.lost(), 1);
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "not done");
    step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!((addresses(&lab), lab.dns().serial().unwrap()), (vec![WEST.to_owned()], serial + 1));
}

#[tokio::test]
async fn a_lost_answer_is_found_done_and_nothing_is_sent_again() {
    let lab = lab();
    let proxy = lab.dns_proxy().unwrap();
    let stage = stage_with(&lab, record(&lab, proxy.address));
    let serial = lab.dns().serial().unwrap();
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    proxy.lose_updates(Loss::Answer, 1);
    let lost = step.execute(&intent, &stage.act_for(Duration::from_secs(5))).await;
    assert!(matches!(lost, Err(StepError::Unknown { .. })), "{lost:?}");
    lab.dns().wait_serial(serial + 1).unwrap();
    let updates = updates_seen(&lab);
    let observed = step.observe(&intent, &stage.read()).await;
    let Ok(Observation::Done(moved)) = observed else { panic!("{observed:?}") };
    assert_eq!((moved.now, moved.changed), (vec![WEST.to_owned()], true));
    // A successor that executes all the same adopts what is there.
    step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!((updates_seen(&lab), lab.dns().serial().unwrap()), (updates, serial + 1));
}

#[tokio::test]
async fn a_change_by_somebody_else_is_left_alone() {
    let lab = lab();
    let stage = stage(&lab);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    lab.dns().update(&format!("update delete {RECORD} A\nupdate add {RECORD} 1 A 127.77.0.99")).unwrap();
    let refused = step.execute(&intent, &stage.act()).await;
    let Err(StepError::Refused { why, .. }) = refused else { panic!("{refused:?}") };
    assert!(why.contains("somebody else") && why.contains("127.77.0.99"), "{why}");
    assert_eq!(addresses(&lab), ["127.77.0.99"]);
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "foreign");
}

#[tokio::test]
async fn of_two_updaters_at_once_one_wins_and_the_other_is_told() {
    let lab = lab();
    let stage = stage(&lab);
    let serial = lab.dns().serial().unwrap();
    let (one, other) = (to("us-west-2"), to("eu-west-1"));
    let (first, second) = (ready(&one, &stage).await, ready(&other, &stage).await);
    let (cx, cy) = (stage.act(), stage.act());
    let ended = tokio::join!(one.execute(&first, &cx), other.execute(&second, &cy));
    let winner = match &ended {
        (Ok(moved), Err(StepError::Refused { .. })) | (Err(StepError::Refused { .. }), Ok(moved)) => moved,
        other => panic!("{other:?}"),
    };
    let mut found = addresses(&lab);
    found.sort();
    assert_eq!(found, winner.now);
    assert_eq!(lab.dns().serial().unwrap(), serial + 1);
}

#[tokio::test]
async fn a_silent_server_keeps_the_change_from_being_proven() {
    let lab = lab();
    let stage = stage(&lab);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    lab.dns().kill_server(1).unwrap();
    let unproven = step.execute(&intent, &stage.act_for(Duration::from_secs(4))).await;
    let Err(StepError::Unknown { why }) = unproven else { panic!("{unproven:?}") };
    assert!(why.contains(&lab.dns().secondary.to_string()), "{why}");
    assert_eq!(addresses(&lab), [WEST]);
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "in progress");
}

#[tokio::test]
async fn a_silent_server_may_be_overlooked_where_the_inventory_says_so() {
    let lab = lab();
    let mut record = record(&lab, lab.dns().primary);
    record["rfc2136"]["silent_servers_max"] = json!(1);
    let stage = stage_with(&lab, record);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    lab.dns().kill_server(1).unwrap();
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    let silent: Vec<_> = moved.servers.iter().filter(|server| server.serial.is_none()).collect();
    assert_eq!(silent.len(), 1, "{:?}", moved.servers);
    assert_eq!(silent[0].server, lab.dns().secondary.to_string());
}

#[tokio::test]
async fn undo_puts_the_former_set_back_once() {
    let lab = lab();
    let stage = stage(&lab);
    let before = addresses(&lab);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    let serial = lab.dns().serial().unwrap();
    for _ in 0..2 {
        step.undo(&intent, moved.clone(), &stage.act()).await.unwrap();
        assert_eq!((addresses(&lab), lab.dns().serial().unwrap()), (before.clone(), serial + 1));
    }
}

#[tokio::test]
async fn undo_leaves_a_later_change_by_somebody_else_alone() {
    let lab = lab();
    let stage = stage(&lab);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    lab.dns().update(&format!("update delete {RECORD} A\nupdate add {RECORD} 1 A 127.77.0.99")).unwrap();
    let refused = step.undo(&intent, moved, &stage.act()).await;
    assert!(matches!(refused, Err(StepError::Refused { .. })), "{refused:?}");
    assert_eq!(addresses(&lab), ["127.77.0.99"]);
}

#[tokio::test]
async fn a_record_that_was_not_there_is_made_and_never_emptied_again() {
    let lab = lab();
    let mut fresh = record(&lab, lab.dns().primary);
    fresh["name"] = json!("new.orders.lab.");
    let stage = stage_with(&lab, fresh);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!((moved.previous.len(), moved.ttl_seconds), (0, 1), "the zone's negative TTL is 1 s");
    let refused = step.undo(&intent, moved, &stage.act()).await;
    let Err(StepError::Refused { why, .. }) = refused else { panic!("{refused:?}") };
    assert!(why.contains("never emptied"), "{why}");
    assert_eq!(lab.dns().addresses("new.orders.lab.").unwrap().len(), 1);
}

#[tokio::test]
async fn a_record_that_already_is_as_wanted_is_only_proven() {
    let lab = lab();
    let stage = stage(&lab);
    let step = to("us-west-2");
    step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    let (serial, updates) = (lab.dns().serial().unwrap(), updates_seen(&lab));
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    assert!(!moved.changed && UpdateDns::measures(&moved).is_empty());
    step.undo(&intent, moved, &stage.act()).await.unwrap();
    assert_eq!((lab.dns().serial().unwrap(), updates_seen(&lab), addresses(&lab)), (serial, updates, vec![WEST.to_owned()]));
}

#[tokio::test]
async fn a_longer_ttl_alone_moves_no_client() {
    let lab = lab();
    let mut record = record(&lab, lab.dns().primary);
    record["targets"]["us-west-2"] = json!(addresses(&lab));
    record["ttl"] = json!(2);
    let stage = stage_with(&lab, record);
    let step = to("us-west-2");
    let moved = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    assert!(moved.changed && UpdateDns::measures(&moved).is_empty(), "{moved:?}");
}

#[tokio::test]
async fn a_cname_and_an_address_are_never_put_beside_each_other() {
    let lab = lab();
    lab.dns().update("update add alias.orders.lab. 1 CNAME ns1.orders.lab.").unwrap();
    let serial = lab.dns().serial().unwrap();
    let mut alias = record(&lab, lab.dns().primary);
    alias["name"] = json!("alias.orders.lab.");
    let why = refusal(&to("us-west-2"), &stage_with(&lab, alias)).await;
    assert!(why.contains("is a CNAME to ns1.orders.lab."), "{why}");
    let mut over = record(&lab, lab.dns().primary);
    over["type"] = json!("CNAME");
    over["targets"] = json!({ "us-west-2": ["ns2.orders.lab."] });
    let why = refusal(&to("us-west-2"), &stage_with(&lab, over)).await;
    assert!(why.contains("has records of type A"), "{why}");
    assert_eq!(lab.dns().serial().unwrap(), serial);
}

#[tokio::test]
async fn a_cname_moves_too() {
    let lab = lab();
    lab.dns().update("update add alias.orders.lab. 1 CNAME ns1.orders.lab.").unwrap();
    let mut alias = record(&lab, lab.dns().primary);
    alias["name"] = json!("alias.orders.lab.");
    alias["type"] = json!("CNAME");
    alias["targets"] = json!({ "us-west-2": ["ns2.orders.lab."] });
    let stage = stage_with(&lab, alias);
    let step = to("us-west-2");
    let moved = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    assert_eq!((moved.previous, moved.now), (vec!["ns1.orders.lab.".to_owned()], vec!["ns2.orders.lab.".to_owned()]));
}

#[tokio::test]
async fn a_key_that_the_server_does_not_take_is_found_out_before_anything_is_sent() {
    let lab = lab();
    let wrong = lab.folder().join("wrong-key");
    std::fs::write(&wrong, "d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXktISE=\n").unwrap();
    let no_base64 = lab.folder().join("no-base64");
    std::fs::write(&no_base64, "not*base64\n").unwrap();
    let cases = [
        ("name", json!("other-key."), "BADKEY"),
        ("secret", json!(format!("file:{}", wrong.display())), "BADSIG"),
        ("secret", json!(format!("file:{}", no_base64.display())), "not base64"),
        ("secret", json!("file:nowhere"), "cannot be read"),
    ];
    let updates = updates_seen(&lab);
    for (field, value, words) in cases {
        let mut record = record(&lab, lab.dns().primary);
        record["rfc2136"]["tsig"][field] = value;
        let why = refusal(&to("us-west-2"), &stage_with(&lab, record)).await;
        assert!(why.contains(words), "{why}");
        assert!(!why.contains("not*base64"), "the secret is in the message: {why}");
    }
    assert_eq!(updates_seen(&lab), updates);
}

#[tokio::test]
async fn a_clock_that_is_off_is_named() {
    let lab = lab();
    let mut stage = stage(&lab);
    stage.clock = std::sync::Arc::new(stage::Skewed(3600));
    let why = refusal(&to("us-west-2"), &stage).await;
    assert!(why.contains("BADTIME") && why.contains("s apart"), "{why}");
}

#[tokio::test]
async fn a_target_that_the_inventory_changed_meanwhile_is_not_written() {
    let lab = lab();
    let before = addresses(&lab);
    let step = to("us-west-2");
    let intent = ready(&step, &stage(&lab)).await;
    let mut edited = record(&lab, lab.dns().primary);
    edited["targets"]["us-west-2"] = json!(["127.77.0.66"]);
    let refused = step.execute(&intent, &stage_with(&lab, edited).act()).await;
    let Err(StepError::Refused { why, .. }) = refused else { panic!("{refused:?}") };
    assert!(why.contains("inventory was changed"), "{why}");
    assert_eq!(addresses(&lab), before);
}

#[tokio::test]
async fn a_primary_that_is_gone_is_refused_before_and_not_done_during() {
    let lab = lab();
    let stage = stage(&lab);
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    lab.dns().kill_server(0).unwrap();
    // A gate that could not be asked is asked again, as often as the step's retries allow.
    let gate = step.prepare(&stage.read()).await;
    assert!(matches!(&gate, Err(StepError::NotDone { why, retry: Retryable::Yes }) if why.contains("does not answer")), "{gate:?}");
    let failed = step.execute(&intent, &stage.act()).await;
    assert!(matches!(failed, Err(StepError::NotDone { .. })), "{failed:?}");
    assert!(seen(&step.observe(&intent, &stage.read()).await).starts_with("unknown"));
}

#[tokio::test]
async fn a_secondary_is_no_place_for_updates() {
    let lab = lab();
    let stage = stage_with(&lab, record(&lab, lab.dns().secondary));
    let step = to("us-west-2");
    let serial = lab.dns().serial().unwrap();
    let intent = ready(&step, &stage).await;
    let failed = step.execute(&intent, &stage.act()).await;
    assert!(matches!(failed, Err(StepError::NotDone { .. })), "{failed:?}");
    assert_eq!(lab.dns().serial().unwrap(), serial);
}

async fn census(stage: &Stage) -> Vec<(String, String)> {
    let listed = <UpdateDns as Step>::census("orders-dns", &stage.read()).await.unwrap();
    let Census::Listed(things) = listed else { panic!("{listed:?}") };
    things.into_iter().map(|thing| (thing.name, thing.state)).collect()
}

#[tokio::test]
async fn a_record_is_listed_as_each_of_its_servers_gives_it_and_as_before_once_it_is_put_back() {
    let lab = lab();
    let stage = stage(&lab);
    let servers = [lab.dns().primary, lab.dns().secondary].map(|server| format!("{RECORD} at {server}"));
    let before = census(&stage).await;
    assert_eq!(before.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), servers);
    let first = addresses(&lab).concat();
    assert!(before.iter().all(|(_, state)| state.contains(&first) && state.contains("TTL")), "{before:?}");
    let step = to("us-west-2");
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    let after = census(&stage).await;
    assert!(after.iter().all(|(_, state)| state.contains(WEST) && !state.contains(&first)), "{after:?}");
    assert_eq!(after.len(), before.len());
    step.undo(&intent, moved, &stage.act()).await.unwrap();
    assert_eq!(census(&stage).await, before);
    // Asking changed nothing: one update and its undo are all that there were.
    assert_eq!(lab.dns().serial().unwrap(), xtask::lab::dns::FIRST_SERIAL + 2);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_no_empty_list() {
    let lab = lab();
    let mut record = record(&lab, lab.dns().primary);
    // A socket that is bound and never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    record["rfc2136"]["servers"] = json!([lab.dns().primary.to_string(), silent.local_addr().unwrap().to_string()]);
    let stage = stage_with(&lab, record);
    let listed = <UpdateDns as Step>::census("orders-dns", &stage.read_for(Duration::from_secs(5))).await;
    assert!(
        matches!(&listed, Err(StepError::NotDone { why, .. }) if why.contains(&silent.local_addr().unwrap().to_string())),
        "{listed:?}"
    );
}
