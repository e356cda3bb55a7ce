//! What is judged from hand-made journals, and that no interval ever loses the truth.

use lifeboat_engine::journal::{Outcome, Resolution, Turn};
use lifeboat_engine::measure::Measure;
use lifeboat_engine::run::StepState;
use serde_json::json;

use super::*;
use crate::report::Verdict;
use crate::tale::{
    Tale, clients_follow, good_night, id, loss, ms, not_before, orders, outage_began, plan, restored, step, until_fenced, until_promoted,
};

fn codes(report: &Report) -> Vec<&str> {
    report.notices.iter().map(|notice| notice.code.as_str()).collect()
}

pub(super) fn close(actual: Option<f64>, expected: f64) -> bool {
    actual.is_some_and(|actual| (actual - expected).abs() < 1e-9)
}

#[test]
fn a_good_night_is_recovered_within_both_objectives() {
    let report = good_night().report();
    assert_eq!((report.verdict, report.outcome), (Verdict::Met, Standing::Succeeded));
    // Ended in 0..120 ms; not back before 13,050 ms; the last client followed by 14,250 ms.
    assert!(close(report.actuals.rta_outage.seconds_min, 12.93), "{:?}", report.actuals.rta_outage);
    assert!(close(report.actuals.rta_outage.seconds_max, 14.25), "{:?}", report.actuals.rta_outage);
    assert!(close(report.actuals.rta_declared_seconds, 7.25));
    assert_eq!(report.met, Met { rto: Some(true), rpo: Some(true) });
    assert_eq!(
        (report.actuals.rpa.method.as_str(), report.actuals.rpa.seconds_max, report.actuals.rpa.bytes),
        ("heartbeat", Some(0.45), Some(1184))
    );
    assert_eq!(report.critical_path, ["loss", "fence", "promote", "dns", "verify"]);
    assert!(close(report.actuals.automation_seconds, 8.85) && report.actuals.human_seconds == Some(0.0));
    assert!(close(report.actuals.preparing_seconds, 0.05), "from the admission to the first step: {:?}", report.actuals.preparing_seconds);
    assert!(close(report.actuals.rta_run_seconds, 7.25));
}

#[test]
fn service_restored_is_neither_the_last_step_nor_the_end_of_the_run() {
    let report = good_night().report();
    assert_eq!(report.clock.service_restored_at.unwrap().at, ms(14_100));
    assert_eq!(report.clock.run_ended_at, Some(ms(15_900)));
    assert_eq!(report.clock.verified_at, Some(ms(15_850)));
}

#[test]
fn without_a_measure_of_restored_service_the_recovery_time_is_unknown() {
    let mut tale = good_night();
    drop_measures(&mut tale, |measure| matches!(measure, Measure::ServiceRestored { .. }));
    let report = tale.report();
    assert_eq!(report.actuals.rta_outage.seconds_max, None);
    assert_eq!((report.met.rto, report.verdict), (None, Verdict::Unproven));
    assert!(codes(&report).contains(&"restoration-unknown"));
}

#[test]
fn an_outage_whose_begin_nobody_saw_has_an_unknown_length() {
    let mut tale = good_night();
    drop_measures(&mut tale, |measure| matches!(measure, Measure::OutageBegan { .. }));
    let report = tale.report();
    assert_eq!(report.actuals.rta_outage, Figure::default());
    assert_eq!(report.met, Met { rto: None, rpo: Some(true) });
    assert!(codes(&report).contains(&"outage-unknown"));
    assert!(close(report.actuals.rta_declared_seconds, 7.25), "the declaration is known all the same");
}

fn drop_measures(tale: &mut Tale, unwanted: fn(&Measure) -> bool) {
    for entry in &mut tale.entries {
        if let lifeboat_engine::journal::Event::StepSucceeded { measures, .. } = &mut entry.event {
            measures.retain(|measure| !unwanted(measure));
        }
    }
}

#[test]
fn an_expected_loss_is_no_actual_loss() {
    let mut tale = good_night();
    drop_measures(&mut tale, |measure| matches!(measure, Measure::Loss(_)));
    let report = tale.report();
    assert_eq!((report.actuals.rpa.method.as_str(), report.actuals.rpa.seconds_max, report.met.rpo), ("unknown", None, None));
    assert_eq!(report.expected_losses.len(), 1);
    assert!(codes(&report).contains(&"loss-unknown"));
}

#[test]
fn a_promoted_resource_without_a_measured_loss_makes_the_whole_loss_unknown() {
    let mut other = orders("failover");
    other.steps[3]
        .touches
        .push(lifeboat_runbooks::catalog::Touch { resource: "users-db".to_owned(), effect: lifeboat_runbooks::names::Effect::Change });
    let report = until_promoted(other).report();
    assert_eq!(report.losses.len(), 2);
    assert_eq!(report.actuals.rpa.seconds_max, None, "orders-db alone lost 0.45 s, but nobody knows of users-db");
}

#[test]
fn the_worst_resource_decides_and_the_best_method_speaks_for_each() {
    let losses = [
        loss("a", "replay-timestamp", Some(0.0), Some(9.0), None),
        loss("a", "heartbeat", Some(0.0), Some(1.0), None),
        loss("a", "exact-lsn", None, None, Some(77)),
        loss("b", "backup-start", Some(1.0), Some(5.0), Some(3)),
    ];
    let all = loss::by_resource(&losses, &BTreeSet::new());
    assert_eq!((all[0].method.as_str(), all[0].seconds_max, all[0].bytes), ("heartbeat", Some(1.0), Some(77)));
    let worst = loss::worst(&all);
    assert_eq!(
        (worst.method.as_str(), worst.seconds_min, worst.seconds_max, worst.bytes),
        ("backup-start", Some(1.0), Some(5.0), Some(80))
    );
}

#[test]
fn losses_by_one_method_that_disagree_are_taken_together() {
    let all = loss::by_resource(
        &[loss("a", "heartbeat", Some(0.5), Some(1.0), Some(5)), loss("a", "heartbeat", Some(0.2), Some(3.0), Some(9))],
        &BTreeSet::new(),
    );
    assert_eq!((all[0].seconds_min, all[0].seconds_max, all[0].bytes), (Some(0.2), Some(3.0), Some(9)));
}

#[test]
fn bounds_are_rounded_outwards_to_microseconds() {
    assert_eq!((floor_micros(1_001), ceil_micros(1_001)), (0.000_001, 0.000_002));
    assert_eq!((floor_micros(2_000), ceil_micros(2_000)), (0.000_002, 0.000_002));
}

#[test]
fn a_loss_of_an_unheard_of_method_ranks_last_and_nonsense_is_unknown() {
    let all = loss::by_resource(
        &[loss("a", "guess", Some(0.0), Some(0.0), None), loss("a", "backup-start", Some(0.0), Some(60.0), None)],
        &BTreeSet::new(),
    );
    assert_eq!((all[0].method.as_str(), all[0].seconds_max), ("backup-start", Some(60.0)));
    let nonsense = loss::of(&loss("a", "heartbeat", Some(f64::NAN), Some(-1.0), None));
    assert_eq!((nonsense.seconds_min, nonsense.seconds_max), (None, None));
}

#[test]
fn a_run_that_has_not_ended_is_never_green_but_can_already_be_late() {
    let mut tale = good_night();
    tale.entries.truncate(tale.entries.len() - 2);
    let report = tale.report();
    assert_eq!((report.outcome, report.verdict, report.met), (Standing::Running, Verdict::Underway, Met { rto: None, rpo: None }));

    let mut late = until_promoted(orders("failover"));
    late.plan.objectives.rto_ms = Some(10_000);
    let late = late.starts("dns", 1).at(13_300).done("dns", vec![not_before(13_050)]);
    let report = late.report();
    assert_eq!(report.met.rto, Some(false), "not back before 13.05 s, of 10 s");
    assert!(report.headline.contains("already missed"), "{}", report.headline);
}

#[test]
fn a_run_whose_check_was_skipped_is_never_green() {
    let tale = until_promoted(orders("failover"))
        .starts("dns", 1)
        .at(13_300)
        .done("dns", vec![not_before(13_050), clients_follow(14_250), restored(13_200)])
        .skipped("verify")
        .ends(Outcome::Succeeded);
    let report = tale.report();
    assert_eq!((report.verdict, report.met), (Verdict::Unproven, Met { rto: None, rpo: None }));
    assert!(codes(&report).contains(&"not-verified"));
}

#[test]
fn a_check_that_a_person_declared_done_proves_nothing() {
    let tale = until_promoted(orders("failover"))
        .starts("dns", 1)
        .at(13_300)
        .done("dns", vec![restored(13_200)])
        .starts("verify", 1)
        .at(14_000)
        .fails("verify", "503 Service Unavailable", None)
        .held()
        .at(30_000)
        .resolved("verify", "bob", Resolution::Done { outputs: json!({}) }, "looks fine to me")
        .ends_after_release();
    let report = tale.report();
    assert_eq!((report.verdict, report.met.rto), (Verdict::Unproven, None));
    assert!(codes(&report).contains(&"override") && codes(&report).contains(&"not-verified"));
    assert!(close(report.actuals.human_seconds, 16.0), "from the failure to bob's word: {:?}", report.actuals.human_seconds);
}

impl Tale {
    fn ends_after_release(self) -> Self {
        self.tell(lifeboat_engine::journal::Event::RunReleased).ends(Outcome::Succeeded)
    }
}

#[test]
fn waiting_for_people_is_counted_apart_and_their_words_are_kept() {
    let report = lossy_night().report();
    assert!(close(report.actuals.human_seconds, 92.0), "{:?}", report.actuals.human_seconds);
    assert_eq!(report.approvals.len(), 1);
    assert_eq!(report.approvals[0].answers.iter().map(|answer| answer.by.name.as_str()).collect::<Vec<_>>(), ["bob", "carol"]);
    assert_eq!(report.approvals[0].end, crate::report::ApprovalEnd::Granted);
    assert!(close(report.actuals.automation_seconds, 7.35), "0.35 + 2 + 3 + 0.4 + 1.6 s: {:?}", report.actuals.automation_seconds);
    assert_eq!(report.critical_path[1], "accept");
    assert_eq!((report.met.rto, report.met.rpo), (Some(true), Some(false)));
    assert_eq!(report.verdict, Verdict::Missed);
}

/// Replication was cut before the primary died: two people accept the loss.
pub(crate) fn lossy_night() -> Tale {
    let loss_of = |min, max| loss("orders-db", "heartbeat", Some(min), Some(max), Some(81_920));
    Tale::begins(orders("failover"), 7_000)
        .at(7_050)
        .starts("loss", 1)
        .at(7_400)
        .done("loss", vec![outage_began(0, 120), Measure::ExpectedLoss(loss_of(88.0, 90.0))])
        .at(8_000)
        .asks("accept", 2, json!({ "method": "heartbeat", "seconds_max": 90.0, "within_rpo": false }), 608_000)
        .at(60_000)
        .yes("accept", "bob", "orders of the last minute are in the queue as well")
        .at(100_000)
        .yes("accept", "carol", "go")
        .starts("fence", 1)
        .at(102_000)
        .done("fence", vec![Measure::Fenced { at: ms(101_900) }])
        .starts("promote", 1)
        .at(105_000)
        .done(
            "promote",
            vec![Measure::PromoteSent { at: ms(102_100) }, Measure::Writable { at: ms(104_900) }, Measure::Loss(loss_of(88.2, 89.7))],
        )
        .starts("dns", 1)
        .at(105_400)
        .done("dns", vec![not_before(105_100), clients_follow(106_300)])
        .starts("verify", 1)
        .at(107_000)
        .done("verify", vec![restored(105_900), Measure::Verified { at: ms(106_950) }])
        .ends(Outcome::Succeeded)
}

#[test]
fn a_run_resumed_twice_counts_the_gaps_and_finds_what_was_done() {
    let report = resumed_night().report();
    assert_eq!(report.resumes.len(), 2);
    assert_eq!(report.resumes[0].in_doubt, ["promote"]);
    let promote = &report.steps[3];
    assert_eq!((promote.known_by.as_deref(), promote.state), (Some("observed"), StepState::Succeeded));
    assert!((promote.in_doubt_seconds - 0.5).abs() < 1e-9);
    assert!(codes(&report).contains(&"resumed") && codes(&report).contains(&"found-done"));
    // 9.4 to 20 s inside promote, 21 to 25 s inside dns.
    assert!(close(report.actuals.engine_away_seconds, 14.6), "{:?}", report.actuals.engine_away_seconds);
    assert_eq!(report.verdict, Verdict::Met);
}

#[test]
fn checks_between_steps_and_absence_between_steps_are_told_apart() {
    let report = until_fenced(orders("failover")).at(10_000).claimed("second").at(12_000).starts("promote", 1).report();
    // 50 ms before the first step, 2 s after the claim; 0.6 s between the fence and the claim.
    assert!(close(report.actuals.preparing_seconds, 2.05), "{:?}", report.actuals.preparing_seconds);
    assert!(close(report.actuals.engine_away_seconds, 0.6), "{:?}", report.actuals.engine_away_seconds);
    assert_eq!(report.steps[3].ready_at, Some(ms(9_400)));
}

/// Killed in the middle of the promotion, and again in the middle of the DNS change.
pub(crate) fn resumed_night() -> Tale {
    until_fenced(orders("failover"))
        .starts("promote", 1)
        .at(20_000)
        .claimed("second")
        .at(20_500)
        .found_done(
            "promote",
            vec![Measure::Writable { at: ms(20_400) }, Measure::Loss(loss("orders-db", "heartbeat", Some(0.0), Some(0.45), Some(1184)))],
        )
        .at(21_000)
        .starts("dns", 1)
        .at(25_000)
        .claimed("third")
        .at(25_400)
        .fails("dns", "the update had not arrived", Some(25_500))
        .at(25_500)
        .starts("dns", 2)
        .at(26_000)
        .done("dns", vec![not_before(25_600), clients_follow(27_000)])
        .starts("verify", 1)
        .at(28_000)
        .done("verify", vec![restored(26_900), Measure::Verified { at: ms(27_900) }])
        .ends(Outcome::Succeeded)
}

#[test]
fn a_refused_step_tells_a_person_what_to_type() {
    let report = held_night().report();
    assert_eq!((report.verdict, report.outcome), (Verdict::NeedsPerson, Standing::Held));
    assert_eq!(report.wanted.len(), 1);
    assert!(report.wanted[0].why.contains("us-east-1 still accepts writes"));
    assert!(report.wanted[0].commands.iter().any(|command| command.starts_with("lifeboat resolve") && command.contains("promote retry")));
    assert_eq!(report.met, Met { rto: None, rpo: None });
}

/// Someone says no, and another goes on all the same; then the fence cannot be proven, and a person's word takes its place.
pub(crate) fn overridden_night() -> Tale {
    Tale::begins(orders("failover"), 7_000)
        .at(7_050)
        .starts("loss", 1)
        .at(7_400)
        .done("loss", vec![outage_began(0, 120), Measure::ExpectedLoss(loss("orders-db", "heartbeat", Some(0.0), Some(1.0), None))])
        .asks("accept", 1, json!({ "method": "heartbeat", "seconds_max": 1.0 }), 607_400)
        .at(8_000)
        .tell(lifeboat_engine::journal::Event::ApprovalDenied {
            step: id("accept"),
            by: crate::tale::someone("carol"),
            comment: Some("wait for the provider".to_owned()),
        })
        .held()
        .at(8_500)
        .resolved("accept", "bob", Resolution::Skip, "we cannot wait")
        .tell(lifeboat_engine::journal::Event::RunReleased)
        .starts("fence", 1)
        .at(9_000)
        .fails("fence", "us-east-1 does not answer", None)
        .held()
        .at(9_400)
        .resolved("fence", "bob", Resolution::Done { outputs: json!({}) }, "the provider cut its power")
        .tell(lifeboat_engine::journal::Event::RunReleased)
        .starts("promote", 1)
        .at(12_900)
        .done(
            "promote",
            vec![
                Measure::PromoteSent { at: ms(9_600) },
                Measure::Writable { at: ms(12_800) },
                Measure::Loss(loss("orders-db", "heartbeat", Some(0.0), Some(0.45), Some(1184))),
            ],
        )
        .starts("dns", 1)
        .at(13_300)
        .done("dns", vec![not_before(13_050), clients_follow(14_250)])
        .starts("verify", 1)
        .at(15_900)
        .done("verify", vec![restored(14_100), Measure::Verified { at: ms(15_850) }])
        .ends(Outcome::Succeeded)
}

#[test]
fn a_run_that_went_on_over_a_no_or_without_a_proven_fence_is_not_plainly_good() {
    let report = overridden_night().report();
    assert_eq!(report.met, Met { rto: Some(true), rpo: Some(true) }, "the figures stand");
    assert_eq!(report.verdict, Verdict::Overridden);
    assert_eq!(
        report.headline,
        "Recovered within both objectives, with an override: bob skipped the denied approval (accept); bob declared the fence done (fence)"
    );
    let marked = crate::marks::of_verdict(report.verdict);
    assert_ne!(marked.tone, crate::marks::Tone::Good);
}

#[test]
fn an_override_is_named_beside_what_was_missed_too() {
    let mut tale = overridden_night();
    tale.plan.objectives.rto_ms = Some(10_000);
    let report = tale.report();
    assert_eq!(report.verdict, Verdict::Missed);
    assert!(report.headline.starts_with("Recovered, but later than promised, with an override: bob"), "{}", report.headline);
}

/// The gate before the promotion says no.
pub(crate) fn held_night() -> Tale {
    until_fenced(orders("failover")).at(9_500).refused("promote", "us-east-1 still accepts writes: fence it first").held().at(9_600)
}

#[test]
fn service_that_was_seen_and_then_undone_is_not_restored() {
    let report = undone_night().report();
    assert_eq!((report.verdict, report.outcome), (Verdict::NotRecovered, Standing::Undone));
    assert_eq!((report.clock.service_restored_at, report.met.rto), (None, None));
}

/// Service came back, a later step failed, and everything was undone.
pub(crate) fn undone_night() -> Tale {
    let mut plan = orders("failover");
    plan.steps[3].point_of_no_return = lifeboat_runbooks::plan::Return::Possible;
    plan.steps.push(step("announce", "command", &["verify"], None));
    until_promoted(plan)
        .starts("dns", 1)
        .at(13_300)
        .done("dns", vec![not_before(13_050)])
        .starts("verify", 1)
        .at(15_900)
        .done("verify", vec![restored(14_100), Measure::Verified { at: ms(15_850) }])
        .starts("announce", 1)
        .at(16_000)
        .fails("announce", "exit status 1", None)
        .turns_back(Turn::StepFailed { step: id("announce") })
        .undone("dns", 16_100, 16_400)
        .undone("promote", 16_400, 17_000)
        .undone("fence", 17_000, 18_000)
        .ends(Outcome::Undone)
}

#[test]
fn effects_that_stand_after_a_failure_are_named() {
    let report = failed_night().report();
    assert_eq!(report.verdict, Verdict::NotRecovered);
    let left: Vec<&str> = report.left_behind.iter().map(|left| left.step.as_str()).collect();
    assert_eq!(left, ["fence", "promote"]);
    assert!(codes(&report).contains(&"given-up"));
}

/// DNS fails for good and a person gives up.
pub(crate) fn failed_night() -> Tale {
    until_promoted(orders("failover"))
        .starts("dns", 1)
        .at(13_000)
        .fails("dns", "SERVFAIL", Some(15_000))
        .at(15_000)
        .starts("dns", 2)
        .at(15_200)
        .fails("dns", "NOTAUTH: the key is unknown", None)
        .held()
        .at(75_200)
        .resolved("dns", "alice", Resolution::GiveUp, "the zone moved; will do it by hand")
        .tell(lifeboat_engine::journal::Event::StepNotRun { step: id("verify"), why: "dns failed".to_owned() })
        .ends(Outcome::Failed)
}

#[test]
fn observations_that_exclude_each_other_are_said_and_the_widest_interval_is_used() {
    let mut tale = good_night();
    if let lifeboat_engine::journal::Event::RunAdmitted { incident, .. } = &mut tale.entries[0].event {
        incident.outage_began = Some((ms(2_000), ms(3_000)));
    }
    let report = tale.report();
    let began = report.clock.outage_began_at.clone().unwrap();
    assert_eq!((began.earliest, began.latest, began.method.as_str()), (ms(0), ms(3_000), "reported + heartbeat"));
    assert!(codes(&report).contains(&"outage-conflict"));
}

/// The good night, in which a person said when service ended.
fn night_reported(earliest: i64, latest: i64) -> Report {
    let mut tale = good_night();
    if let lifeboat_engine::journal::Event::RunAdmitted { incident, .. } = &mut tale.entries[0].event {
        incident.outage_began = Some((ms(earliest), ms(latest)));
    }
    tale.report()
}

#[test]
fn what_a_person_said_of_the_end_of_service_never_narrows_what_was_measured() {
    // Measured: 0 to 120 ms. Each of these overlaps it, and some would make the outage shorter.
    for (earliest, latest) in [(100, 5_000), (119, 120), (50, 60), (0, 1), (-9_000, 40), (-9_000, 9_000)] {
        let report = night_reported(earliest, latest);
        let began = report.clock.outage_began_at.clone().unwrap();
        assert_eq!((began.earliest, began.latest, began.method.as_str()), (ms(0), ms(120), "heartbeat"), "{earliest} to {latest}");
        assert_eq!(report.actuals.rta_outage, good_night().report().actuals.rta_outage, "{earliest} to {latest}");
    }
    // What excludes the measure widens it, at whichever end.
    for (earliest, latest, wide) in [(2_000, 3_000, (0, 3_000)), (-3_000, -2_000, (-3_000, 120))] {
        let report = night_reported(earliest, latest);
        let began = report.clock.outage_began_at.clone().unwrap();
        assert_eq!((began.earliest, began.latest), (ms(wide.0), ms(wide.1)));
        assert!(codes(&report).contains(&"outage-conflict"));
    }
}

#[test]
fn where_nothing_was_measured_a_person_may_say_when_service_ended() {
    let mut tale = good_night();
    drop_measures(&mut tale, |measure| matches!(measure, Measure::OutageBegan { .. }));
    if let lifeboat_engine::journal::Event::RunAdmitted { incident, .. } = &mut tale.entries[0].event {
        incident.outage_began = Some((ms(100), ms(5_000)));
    }
    let began = tale.report().clock.outage_began_at.unwrap();
    assert_eq!((began.earliest, began.latest, began.method.as_str()), (ms(100), ms(5_000), "reported"));
}

#[test]
fn a_clock_that_goes_back_is_flagged_and_widens_the_upper_bounds() {
    let mut tale = good_night();
    let from = tale.entries.iter().position(|entry| entry.at == ms(13_300)).unwrap();
    for entry in &mut tale.entries[from..] {
        entry.at -= jiff::SignedDuration::from_secs(5);
    }
    let report = tale.report();
    assert!(codes(&report).contains(&"clock-went-back"));
    assert!(close(report.actuals.rta_outage.seconds_max, 14.25 + 4.6), "{:?}", report.actuals.rta_outage);
    assert_eq!(report.steps[4].duration_seconds, None, "dns ended before it started, by that clock");
}

#[test]
fn a_pause_of_more_than_a_day_is_flagged() {
    let tale = until_fenced(orders("failover")).at(9_400 + 25 * 3_600_000).starts("promote", 1);
    assert!(codes(&tale.report()).contains(&"clock-jumped"));
}

#[test]
fn what_is_no_journal_of_this_plan_is_an_error() {
    let tale = good_night();
    assert_eq!(judge(&tale.plan, &[]).unwrap_err(), JudgeError::Empty);
    assert_eq!(judge(&tale.plan, &tale.entries[1..]).unwrap_err(), JudgeError::NoAdmission);
    let mut other = tale.plan.clone();
    other.structure = "6".repeat(64);
    assert!(matches!(judge(&other, &tale.entries).unwrap_err(), JudgeError::OtherPlan { .. }));
    let mut twice = tale.entries.clone();
    twice.push(tale.entries[1].clone());
    assert!(matches!(judge(&tale.plan, &twice).unwrap_err(), JudgeError::Illegal { place, .. } if place == twice.len()));
}

#[test]
fn every_beginning_of_a_journal_is_judged_and_none_is_green_before_its_end() {
    for tale in [good_night(), lossy_night(), resumed_night(), undone_night(), failed_night(), held_night(), overridden_night()] {
        for length in 1..=tale.entries.len() {
            let report = judge(&tale.plan, &tale.entries[..length]).unwrap();
            if length < tale.entries.len() {
                assert!(!report.outcome.ended());
                assert!(report.met.rto != Some(true) && report.met.rpo != Some(true) && report.verdict != Verdict::Met);
            }
            assert_eq!(report.journal_entries, length as u64);
        }
    }
}

#[test]
fn the_longest_branch_is_the_critical_path() {
    let steps = vec![
        step("a", "wait", &[], None),
        step("b", "wait", &["a"], None),
        step("c", "wait", &["a"], None),
        step("d", "verify", &["b", "c"], None),
    ];
    let report = Tale::begins(plan("failover", steps), 0)
        .starts("a", 1)
        .at(100)
        .done("a", vec![])
        .starts("b", 1)
        .starts("c", 1)
        .at(500)
        .done("c", vec![])
        .at(900)
        .done("b", vec![])
        .starts("d", 1)
        .at(1000)
        .done("d", vec![])
        .ends(Outcome::Succeeded)
        .report();
    assert_eq!(report.critical_path, ["a", "b", "d"]);
    assert!(close(report.actuals.automation_seconds, 1.0));
}
