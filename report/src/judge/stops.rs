//! Tests of pauses and freezes in a report: shown apart, with who and why, and never taken off the measured times.

use crate::report::Stop;
use crate::tale::{Tale, good_night, ms, orders, someone};
use lifeboat_engine::journal::Event;

fn frozen(resource: &str) -> Event {
    Event::RunFrozen { resource: Some(resource.into()), by: Some(someone("ann")), why: "the replica looks wrong".into(), blind: vec![] }
}

#[test]
fn a_freeze_and_a_pause_are_shown_apart_with_who_and_why() {
    let tale = Tale::begins(orders("failover"), 1000)
        .at(2000)
        .tell(frozen("orders-db"))
        .at(62_000)
        .tell(Event::RunThawed { resource: Some("orders-db".into()), by: Some(someone("bob")), why: "it was the monitor".into() })
        .at(70_000)
        .tell(Event::RunPaused { by: someone("ann"), comment: "a look first".into() })
        .at(75_000)
        .tell(Event::CancelRequested { by: someone("ann"), comment: None });
    let report = tale.report();
    let [freeze, pause] = &report.stops[..] else { panic!("{:?}", report.stops) };
    let ended = |stop: &Stop| (stop.kind.clone(), stop.seconds, stop.to, stop.by.as_ref().map(|by| by.name.clone()));
    assert_eq!(ended(freeze), ("frozen".into(), Some(60.0), Some(ms(62_000)), Some(someone("ann").name().to_owned())));
    assert_eq!(ended(pause), ("paused".into(), Some(5.0), None, Some(someone("ann").name().to_owned())));
    let said: Vec<&str> = report.notices.iter().map(|notice| notice.text.as_str()).collect();
    let frozen = said.iter().find(|text| text.starts_with("orders-db was frozen")).unwrap();
    assert!(frozen.contains("for 1 min (the replica looks wrong)") && frozen.ends_with("let it go on: it was the monitor"), "{frozen}");
    assert!(said.iter().any(|text| text.starts_with("The run was paused") && text.ends_with("it is so still")), "{said:?}");
}

#[test]
fn a_run_that_nobody_held_back_says_nothing_of_it() {
    let report = good_night().report();
    assert_eq!(report.stops, []);
    assert!(report.notices.iter().all(|notice| !notice.code.starts_with("was-frozen") && !notice.code.starts_with("was-paused")));
}
