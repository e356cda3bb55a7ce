//! `wait` on a clock that the test moves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::clock::{Clock, Instant};
use lifeboat_engine::step::{Step, StepError};
use lifeboat_steps::wait::Wait;
use serde_json::json;

use crate::stage::{Stage, journaled, ready, seen, step};

/// A clock that stands still, except that sleeping moves it.
#[derive(Debug)]
struct Moved(Mutex<(Timestamp, Duration)>);

impl Moved {
    fn new() -> Self {
        Self(Mutex::new(("2026-11-22T04:00:00Z".parse().unwrap(), Duration::ZERO)))
    }

    fn advance(&self, length: Duration) {
        let mut time = self.0.lock().unwrap();
        *time = (time.0 + length, time.1 + length);
    }
}

#[async_trait::async_trait]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }
    fn instant(&self) -> Instant {
        Instant(self.0.lock().unwrap().1)
    }
    async fn sleep(&self, length: Duration) {
        self.advance(length);
    }
}

fn stage() -> (Stage, Arc<Moved>) {
    let clock = Arc::new(Moved::new());
    let mut stage = Stage::new(json!({ "lifeboat": "v1" }), std::path::Path::new("/"));
    stage.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    (stage, clock)
}

#[tokio::test]
async fn a_wait_ends_when_its_time_has_come() {
    let (stage, clock) = stage();
    let step: Wait = step(json!({ "for": "45s" }));
    let intent = ready(&step, &stage).await;
    let waited = step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!(waited.seen_at.to_string(), "2026-11-22T04:00:45Z");
    assert_eq!(clock.instant().0, Duration::from_secs(45));
}

#[tokio::test]
async fn a_restart_does_not_begin_the_wait_anew() {
    let (stage, clock) = stage();
    let step: Wait = step(json!({ "for": "50s" }));
    let intent = ready(&step, &stage).await;
    clock.advance(Duration::from_secs(40));
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "in progress");
    let waited = step.execute(&journaled(&intent), &stage.act()).await.unwrap();
    assert_eq!(waited.seen_at.to_string(), "2026-11-22T04:00:50Z");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "done");
}

#[tokio::test]
async fn an_instant_that_has_passed_is_not_waited_for() {
    let (stage, clock) = stage();
    let step: Wait = step(json!({ "until": "2026-11-22T05:00:00+02:00" }));
    step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    assert_eq!(clock.instant().0, Duration::ZERO);
}

#[tokio::test]
async fn a_wait_longer_than_the_step_may_take_says_so_at_once() {
    let (stage, clock) = stage();
    let step: Wait = step(json!({ "for": "2h" }));
    let ended = step.execute(&ready(&step, &stage).await, &stage.act()).await;
    assert!(matches!(&ended, Err(StepError::NotDone { why, .. }) if why.contains("longer `timeout`")), "{ended:?}");
    assert_eq!(clock.instant().0, Duration::ZERO);
}

#[test]
fn exactly_one_way_to_say_how_long_is_given() {
    for (with, words) in [
        (json!({}), "say how long"),
        (json!({ "for": "1s", "until": "2026-11-22T05:00:00Z" }), "not both"),
        (json!({ "for": "0s" }), "zero"),
        (json!({ "until": "2026-11-22T05:00:00" }), "offset"),
        (json!({ "fro": "1s" }), "unknown field"),
    ] {
        let why = serde_json::from_value::<Wait>(with.clone()).expect_err("accepted").to_string();
        assert!(why.contains(words), "{with}: {why}");
    }
}
