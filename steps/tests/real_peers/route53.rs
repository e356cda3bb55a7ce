//! `update-dns` with Route 53: the ministack emulator, behind a front that throttles and loses as Amazon and networks do.

use std::time::Duration;

use lifeboat_engine::step::{Step, StepError};
use lifeboat_steps::update_dns::{Moved, UpdateDns};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::lab::route53::Route53;

use crate::route53_front::{Front, Mischief};
use crate::stage::{Stage, ready, refusal, seen, step};

const ACCOUNT: &str = "123456789012";

/// The emulator with one zone, its front, and an inventory.
struct Place {
    emulator: Route53,
    front: Front,
    zone: String,
    folder: TempDir,
}

impl Place {
    fn new(records: &[&str]) -> Self {
        let emulator = Route53::start().unwrap();
        let zone = emulator.create_zone("orders.lab.").unwrap();
        let front = Front::start(emulator.address);
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("key"), "secret").unwrap();
        let place = Self { emulator, front, zone, folder };
        if !records.is_empty() {
            place.change("CREATE", records);
        }
        place
    }

    fn change(&self, action: &str, records: &[&str]) {
        let answer =
            self.emulator.request("POST", &format!("/2013-04-01/hostedzone/{}/rrset/", self.zone), &batch(action, records)).unwrap();
        assert!(answer.contains("ChangeInfo"), "{answer}");
    }

    /// The listing of the zone, straight from the emulator.
    fn listing(&self) -> String {
        self.emulator.request("GET", &format!("/2013-04-01/hostedzone/{}/rrset", self.zone), "").unwrap()
    }

    /// The record with this identifier, or the only one, as XML.
    fn record(&self, mark: &str) -> String {
        let listing = self.listing();
        let mut all = listing.split("<ResourceRecordSet>").filter(|set| set.contains("<Name>db.orders.lab.") && set.contains(mark));
        let found = all.next().unwrap_or_else(|| panic!("no record {mark} in {listing}")).to_owned();
        assert!(all.next().is_none(), "two records {mark} in {listing}");
        found
    }

    fn stage(&self, routing: Value) -> Stage {
        self.stage_with(&json!({ "routing": routing }))
    }

    fn stage_with(&self, fields: &Value) -> Stage {
        let mut hosted = json!({
            "zone_id": self.zone, "zone": "orders.lab.", "account_id": ACCOUNT, "region": "us-west-2", "poll_seconds": 0,
            "endpoint": self.front.endpoint(), "credentials": { "access_key_id": "file:key", "secret_access_key": "file:key" },
        });
        for (key, value) in fields.as_object().unwrap() {
            hosted[key] = value.clone();
        }
        let record = json!({
            "name": "db.orders.lab.", "type": "A", "ttl": 5, "targets": { "east": ["192.0.2.1"], "west": ["192.0.2.2"] }, "route53": hosted,
        });
        Stage::new(json!({ "lifeboat": "v1", "dns-records": { "orders-dns": record } }), self.folder.path())
    }
}

fn batch(action: &str, records: &[&str]) -> String {
    let changes: String = records
        .iter()
        .map(|record| {
            format!("<Change><Action>{action}</Action><ResourceRecordSet><Name>db.orders.lab.</Name><Type>A</Type>{record}</ResourceRecordSet></Change>")
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
         <ChangeBatch><Changes>{changes}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    )
}

const EAST: &str = "<TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords><HealthCheckId>hc-east</HealthCheckId>";
const EAST_HEAVY: &str = "<SetIdentifier>e</SetIdentifier><Weight>100</Weight><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords><HealthCheckId>hc-east</HealthCheckId>";
const WEST_LIGHT: &str = "<SetIdentifier>w</SetIdentifier><Weight>0</Weight><TTL>30</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.2</Value></ResourceRecord></ResourceRecords><HealthCheckId>hc-west</HealthCheckId>";
const EAST_FIRST: &str = "<SetIdentifier>e</SetIdentifier><Failover>PRIMARY</Failover><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords><HealthCheckId>hc-east</HealthCheckId>";
const WEST_SECOND: &str = "<SetIdentifier>w</SetIdentifier><Failover>SECONDARY</Failover><TTL>30</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.2</Value></ResourceRecord></ResourceRecords><HealthCheckId>hc-west</HealthCheckId>";

fn west() -> UpdateDns {
    step(json!({ "record": "orders-dns", "to": "west" }))
}

async fn go(stage: &Stage) -> Result<Moved, StepError> {
    let step = west();
    let intent = ready(&step, stage).await;
    step.execute(&intent, &stage.act()).await
}

#[tokio::test]
async fn a_simple_record_moves_keeps_its_health_check_and_can_be_put_back() {
    let place = Place::new(&[EAST]);
    let stage = place.stage(json!("simple"));
    let step = west();
    let intent = ready(&step, &stage).await;
    assert_eq!(place.front.writes(), Vec::<String>::new(), "preparing wrote");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "not done");
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!((moved.previous.clone(), moved.now.clone(), moved.ttl_seconds), (vec!["192.0.2.1".into()], vec!["192.0.2.2".into()], 60));
    let after = place.record("192.0.2.2");
    assert!(after.contains("<HealthCheckId>hc-east<") && after.contains("<TTL>5<"), "{after}");
    assert_eq!(place.front.changes(), 1);
    step.undo(&intent, moved, &stage.act()).await.unwrap();
    let back = place.record("192.0.2.1");
    assert!(back.contains("<HealthCheckId>hc-east<") && back.contains("<TTL>60<"), "{back}");
}

#[tokio::test]
async fn weights_move_without_losing_a_field() {
    let place = Place::new(&[EAST_HEAVY, WEST_LIGHT]);
    let stage = place.stage(json!({ "weighted": { "identifiers": { "east": "e", "west": "w" }, "weight": 200 } }));
    go(&stage).await.unwrap();
    let (east, west) = (place.record("<SetIdentifier>e<"), place.record("<SetIdentifier>w<"));
    assert!(east.contains("<Weight>0<") && east.contains("hc-east") && east.contains("<TTL>60<") && east.contains("192.0.2.1"), "{east}");
    assert!(west.contains("<Weight>200<") && west.contains("hc-west") && west.contains("<TTL>30<") && west.contains("192.0.2.2"), "{west}");
}

#[tokio::test]
async fn failover_records_exchange_their_places() {
    let place = Place::new(&[EAST_FIRST, WEST_SECOND]);
    let stage = place.stage(json!({ "failover": { "identifiers": { "east": "e", "west": "w" } } }));
    go(&stage).await.unwrap();
    let (east, west) = (place.record("<SetIdentifier>e<"), place.record("<SetIdentifier>w<"));
    assert!(east.contains("<Failover>SECONDARY<") && east.contains("hc-east"), "{east}");
    assert!(west.contains("<Failover>PRIMARY<") && west.contains("hc-west"), "{west}");
}

#[tokio::test]
async fn a_busy_route_53_is_asked_again_after_a_pause() {
    let place = Place::new(&[EAST]);
    let busy = |code| Mischief::Answer { status: 400, code };
    place.front.next([busy("Throttling"), busy("PriorRequestNotComplete"), busy("Throttling")]);
    go(&place.stage(json!("simple"))).await.unwrap();
    assert_eq!(place.front.changes(), 4);
    place.record("192.0.2.2");
}

#[tokio::test]
async fn a_route_53_that_stays_busy_is_not_done() {
    let place = Place::new(&[EAST]);
    place.front.next((0..40).map(|_| Mischief::Answer { status: 400, code: "Throttling" }));
    let (stage, step) = (place.stage(json!("simple")), west());
    let intent = ready(&step, &stage).await;
    let ended = step.execute(&intent, &stage.act_for(Duration::from_secs(4))).await;
    assert!(matches!(&ended, Err(StepError::NotDone { why, .. }) if why.contains("no more requests")), "{ended:?}");
    place.record("192.0.2.1");
}

#[tokio::test]
async fn a_lost_answer_is_found_and_waited_for_again() {
    let place = Place::new(&[EAST]);
    let (stage, step) = (place.stage(json!("simple")), west());
    let intent = ready(&step, &stage).await;
    place.front.next([Mischief::LoseAnswer]);
    let ended = step.execute(&intent, &stage.act()).await;
    assert!(matches!(ended, Err(StepError::Unknown { .. })), "{ended:?}");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "in progress");
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!((moved.changed, place.front.changes()), (true, 2));
    place.record("192.0.2.2");
}

#[tokio::test]
async fn a_lost_request_is_found_not_done() {
    let place = Place::new(&[EAST]);
    let (stage, step) = (place.stage(json!("simple")), west());
    let intent = ready(&step, &stage).await;
    place.front.next([Mischief::LoseRequest]);
    let ended = step.execute(&intent, &stage.act()).await;
    assert!(matches!(ended, Err(StepError::Unknown { .. })), "{ended:?}");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "not done");
    step.execute(&intent, &stage.act()).await.unwrap();
    place.record("192.0.2.2");
}

#[tokio::test]
async fn a_server_error_after_a_change_is_unknown() {
    let place = Place::new(&[EAST]);
    place.front.next([Mischief::Answer { status: 500, code: "InternalError" }]);
    let ended = go(&place.stage(json!("simple"))).await;
    assert!(matches!(ended, Err(StepError::Unknown { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_writer_that_comes_between_is_not_overwritten() {
    let place = Place::new(&[EAST]);
    let (stage, step) = (place.stage(json!("simple")), west());
    let intent = ready(&step, &stage).await;
    let other = EAST.replace("192.0.2.1", "192.0.2.99");
    place.front.next([Mischief::Overtake { body: batch("UPSERT", &[&other]) }]);
    let ended = step.execute(&intent, &stage.act()).await;
    assert!(matches!(&ended, Err(StepError::Refused { why, .. }) if why.contains("somebody else")), "{ended:?}");
    place.record("192.0.2.99");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "foreign");
    let undone = step.undo(&intent, moved_of(&place), &stage.act()).await;
    assert!(matches!(undone, Err(StepError::Refused { .. })), "{undone:?}");
    place.record("192.0.2.99");
}

/// An output as a run would have it.
fn moved_of(_: &Place) -> Moved {
    serde_json::from_value(json!({
        "name": "db.orders.lab.", "to": "west", "previous": ["192.0.2.1"], "now": ["192.0.2.2"], "changed": true, "ttl_seconds": 60,
        "submitted_at": "2026-11-22T04:00:00Z", "proven_at": "2026-11-22T04:00:00Z", "serial_before": null, "serial_after": null, "servers": [],
    }))
    .unwrap()
}

#[tokio::test]
async fn another_account_or_another_zone_is_refused() {
    let place = Place::new(&[EAST]);
    let why = refusal(&west(), &place.stage_with(&json!({ "zone": "lab." }))).await;
    assert!(why.contains("is orders.lab., not lab."), "{why}");
    let why = refusal(&west(), &place.stage_with(&json!({ "zone_id": "ZNOWHERE" }))).await;
    assert!(why.contains("NoSuchHostedZone"), "{why}");
    place.front.account("999999999999");
    let why = refusal(&west(), &place.stage(json!("simple"))).await;
    assert!(why.contains("belong to account 999999999999"), "{why}");
    assert_eq!(place.front.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_this_step_would_break_is_refused() {
    let place = Place::new(&[EAST_HEAVY, WEST_LIGHT]);
    let why = refusal(&west(), &place.stage(json!("simple"))).await;
    assert!(why.contains("told apart by SetIdentifier"), "{why}");
    let why = refusal(&west(), &place.stage(json!({ "weighted": { "identifiers": { "east": "e", "west": "other" } } }))).await;
    assert!(why.contains("wired before"), "{why}");
    let latency = Place::new(&[
        "<SetIdentifier>l</SetIdentifier><Region>us-west-2</Region><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>",
    ]);
    let why = refusal(&west(), &latency.stage(json!("simple"))).await;
    assert!(why.contains("latency routing"), "{why}");
}

#[tokio::test]
async fn a_record_that_was_not_there_is_made() {
    let place = Place::new(&[]);
    let (stage, step) = (place.stage(json!("simple")), west());
    let intent = ready(&step, &stage).await;
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    place.record("192.0.2.2");
    let refused = step.undo(&intent, moved, &stage.act()).await;
    assert!(matches!(&refused, Err(StepError::Refused { why, .. }) if why.contains("never emptied")), "{refused:?}");
}
