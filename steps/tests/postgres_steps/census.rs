//! What a drill lists of a real database: roles, timelines and lasting slots, as the nodes answer, and nothing that changes by itself.

use std::collections::BTreeMap;

use lifeboat_engine::census::{Census, Found, Listing, compare};
use lifeboat_engine::step::Step;
use lifeboat_steps::fence_db::FenceDb;
use lifeboat_steps::promote_db::PromoteDb;
use serde_json::json;
use xtask::lab::postgres::{PRIMARY, Shutdown};

use crate::rig::{EUROPE, Rig, WEST};

/// Name and state of everything listed.
async fn listed(rig: &Rig) -> BTreeMap<String, String> {
    let of_fence = <FenceDb as Step>::census("orders-db", &rig.read("fence", 0)).await.unwrap();
    let of_promotion = <PromoteDb as Step>::census("orders-db", &rig.read("promote", 0)).await.unwrap();
    assert_eq!(of_fence, of_promotion, "both act on the same things");
    let Census::Listed(things) = of_fence else { panic!("{of_fence:?}") };
    let count = things.len();
    let named: BTreeMap<String, String> = things.into_iter().map(|thing| (thing.name, thing.state)).collect();
    assert_eq!(named.len(), count, "no two things share a name");
    named
}

/// What a drill would say is left behind: thing, before, after.
async fn left(rig: &Rig, before: &BTreeMap<String, String>) -> Vec<(String, Option<String>, Option<String>)> {
    let listing = |things: &BTreeMap<String, String>| {
        let things = things.iter().map(|(name, state)| lifeboat_engine::census::Thing::new(name.clone(), state.clone())).collect();
        [Listing { resource: "orders-db".into(), step_type: "fence-db".into(), found: Found::of(Census::Listed(things)) }]
    };
    let found = compare(&listing(before), &listing(&listed(rig).await));
    assert_eq!((found.failed.len(), found.unlisted.len()), (0, 0));
    found.differences.into_iter().map(|difference| (difference.thing, difference.before, difference.after)).collect()
}

fn changed(thing: &str, before: Option<&str>, after: Option<&str>) -> (String, Option<String>, Option<String>) {
    (thing.into(), before.map(str::to_owned), after.map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_last_are_listed_with_what_they_are_and_those_that_go_with_their_session_are_not() {
    let rig = Rig::start();
    let (primary, west) = (rig.lab.node(PRIMARY), rig.lab.node(WEST));
    let before = listed(&rig).await;
    let role = &before[&format!("node {PRIMARY}")];
    assert!(role.starts_with("primary on timeline 1 of cluster "), "{before:?}");
    assert!(before[&format!("node {WEST}")].starts_with("standby that streams timeline 1 of cluster "), "{before:?}");
    // Work goes on, and nothing of it is a difference.
    primary.psql("app", "insert into orders (id) values (1)").unwrap();
    assert_eq!(left(&rig, &before).await, []);
    primary.psql("postgres", "select pg_create_physical_replication_slot('stray', true)").unwrap();
    west.psql("postgres", "select pg_create_physical_replication_slot('stray')").unwrap();
    primary.psql("postgres", "select pg_create_physical_replication_slot('passing', true, true)").unwrap();
    let stray = [PRIMARY, WEST].map(|node| changed(&format!("slot stray on {node}"), None, Some("physical")));
    assert_eq!(left(&rig, &before).await, stray);
    // That it is used, and how far it has come, changes by itself.
    let with_slot = listed(&rig).await;
    primary.psql("app", "insert into orders (id) values (2)").unwrap();
    primary.psql("postgres", "select pg_switch_wal()").unwrap();
    assert_eq!(left(&rig, &with_slot).await, []);
    for node in [primary, west] {
        node.psql("postgres", "select pg_drop_replication_slot('stray')").unwrap();
    }
    assert_eq!(left(&rig, &before).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_or_promoted_or_waits_for_others_is_not_as_it_was() {
    let mut rig = Rig::start();
    let before = listed(&rig).await;
    let (europe, west) = (format!("node {EUROPE}"), format!("node {WEST}"));
    rig.lab.node(EUROPE).stop(Shutdown::Fast).unwrap();
    assert_eq!(left(&rig, &before).await, [changed(&europe, Some(&before[&europe]), Some("does not answer"))]);
    rig.lab.node(EUROPE).start().unwrap();
    assert_eq!(left(&rig, &before).await, []);

    let primary = format!("node {PRIMARY}");
    let wait = |names: &str| {
        rig.lab.node(PRIMARY).psql("postgres", &format!("alter system set synchronous_standby_names = '{names}'")).unwrap();
        rig.lab.node(PRIMARY).psql("postgres", "select pg_reload_conf()").unwrap();
        rig.lab.node(PRIMARY).wait_until("show synchronous_standby_names", names).unwrap();
    };
    wait("ANY 1 (*)");
    let waits = format!("{}, waits for ANY 1 (*)", before[&primary]);
    assert_eq!(left(&rig, &before).await, [changed(&primary, Some(&before[&primary]), Some(&waits))]);
    wait("");
    assert_eq!(left(&rig, &before).await, []);

    rig.run::<FenceDb>("fence", json!({ "db": "orders-db", "node": PRIMARY })).await;
    rig.run::<PromoteDb>("promote", json!({ "db": "orders-db", "node": WEST, "max_loss": "1m" })).await;
    let found = left(&rig, &before).await;
    let promoted = before[&west].replace("standby that streams timeline 1 of", "primary on timeline 2 of");
    let alone = before[&europe].replace("streams timeline 1 of", "streams from nobody of");
    // What stands on a node that does not answer cannot be listed either, and is not taken for being there.
    let slot = |name: &str| changed(&format!("slot {name} on {PRIMARY}"), Some("physical"), None);
    let wanted = [
        changed(&europe, Some(&before[&europe]), Some(&alone)),
        changed(&primary, Some(&before[&primary]), Some("does not answer")),
        changed(&west, Some(&before[&west]), Some(&promoted)),
        slot("eu_west_1"),
        slot("us_west_2"),
    ];
    assert_eq!(found, wanted, "{EUROPE}, which nobody touched, has lost whom it followed");
}
