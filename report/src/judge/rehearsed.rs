//! How drills are judged: what they would have been, what they put back, what they left.

use lifeboat_engine::Event;
use lifeboat_engine::census::{Found, Listing, Moment, Thing};
use lifeboat_engine::journal::{Outcome, Turn};

use super::tests::close;
use super::*;
use crate::report::Verdict;
use crate::tale::good_night;

#[test]
fn a_drill_meets_no_objective_and_says_what_it_would_have_been() {
    let mut tale = good_night();
    tale.plan.mode = "drill".to_owned();
    tale.entries.truncate(tale.entries.len() - 2);
    let tale = tale
        .tell(listed(Moment::Before, "primary"))
        .turns_back(Turn::DrillEnded)
        .undone("dns", 16_000, 16_100)
        .undone("promote", 16_100, 17_000)
        .undone("fence", 17_000, 17_100)
        .tell(listed(Moment::After, "primary"))
        .ends(Outcome::Succeeded);
    let report = tale.report();
    assert_eq!(report.met, Met { rto: None, rpo: None });
    assert_eq!(report.verdict, Verdict::DrillPassed);
    assert!(report.drill.as_ref().unwrap().passed);
    let rehearsal = report.rehearsal.unwrap();
    assert_eq!((rehearsal.within_rto, rehearsal.counted_from.as_str()), (Some(true), "outage_began"));
    assert!(close(rehearsal.recovery.seconds_max, 14.25));
}

fn listed(moment: Moment, state: &str) -> Event {
    let found = Found::Things(vec![Thing::new("node us-east-1", state)]);
    Event::PeersListed { moment, listings: vec![Listing { resource: "orders-db".into(), step_type: "fence-db".into(), found }] }
}

#[test]
fn a_drill_whose_peers_list_something_else_afterwards_has_not_passed_and_says_what() {
    let mut tale = good_night();
    tale.plan.mode = "drill".to_owned();
    tale.entries.truncate(tale.entries.len() - 2);
    let tale = tale
        .tell(listed(Moment::Before, "primary"))
        .turns_back(Turn::DrillEnded)
        .undone("dns", 16_000, 16_100)
        .undone("promote", 16_100, 17_000)
        .undone("fence", 17_000, 17_100)
        .tell(listed(Moment::After, "standby"))
        .ends(Outcome::Succeeded);
    let report = tale.report();
    assert_eq!(report.verdict, Verdict::NotRecovered);
    let drill = report.drill.clone().unwrap();
    assert!(!drill.passed);
    let line = drill.lines.iter().find(|line| line.what == "clean_up").unwrap();
    assert_eq!((line.holds, line.evidence.as_str()), (Some(false), "0 things are listed again as before, 1 not"));
    let text = crate::drill_text(&report);
    assert!(text.contains("before: primary") && text.contains("after:  standby"), "{text}");
}

#[test]
fn a_drill_that_leaves_something_behind_has_not_passed() {
    let mut tale = good_night();
    tale.plan.mode = "drill".to_owned();
    tale.entries.truncate(tale.entries.len() - 2);
    let tale = tale.turns_back(Turn::DrillEnded).undone("dns", 16_000, 16_100).undone("promote", 16_100, 17_000).ends(Outcome::Succeeded);
    let report = tale.report();
    assert_eq!(report.verdict, Verdict::NotRecovered);
    assert_eq!(report.headline, "Drill not passed: it left fence behind");
}
