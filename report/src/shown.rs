//! Snapshots of everything that is shown, over the nights of `judge::tests`, and a hostile corpus that must not get through.

use crate::judge::tests::{failed_night, held_night, lossy_night, overridden_night, resumed_night, undone_night};
use crate::report::Report;
use crate::tale::{Tale, clients_follow, good_night, id, loss, ms, not_before, orders, outage_began, plan, restored, step, until_fenced};
use crate::{Colour, json, text};
use lifeboat_engine::measure::Measure;
use lifeboat_runbooks::names::Effect;
use lifeboat_runbooks::plan::Return;

pub(crate) fn nights() -> Vec<(&'static str, Tale)> {
    vec![
        ("good", good_night()),
        ("lossy", lossy_night()),
        ("resumed", resumed_night()),
        ("held", held_night()),
        ("undone", undone_night()),
        ("failed", failed_night()),
        ("overridden", overridden_night()),
        (
            "in_doubt",
            until_fenced(orders("failover"))
                .starts("promote", 1)
                .at(129_400)
                .loses_sight("promote")
                .at(130_000)
                .tell(lifeboat_engine::journal::Event::StepHeld {
                    step: id("promote"),
                    why: "us-west-2 does not answer; whether it was promoted cannot be told".to_owned(),
                    evidence: lifeboat_engine::Evidence::of("us-west-2", "no answer in 5 s"),
                })
                .held(),
        ),
        ("stopped", stopped_night()),
        ("places", places_night()),
        ("region", region_night()),
        ("admitted", Tale::begins(orders("failover"), 7_000)),
        (
            "asking",
            Tale::begins(orders("failover"), 7_000)
                .at(7_050)
                .starts("loss", 1)
                .at(7_400)
                .done(
                    "loss",
                    vec![
                        outage_began(0, 120),
                        lifeboat_engine::Measure::ExpectedLoss(loss("orders-db", "heartbeat", Some(88.0), Some(90.0), None)),
                    ],
                )
                .asks("accept", 2, serde_json::json!({ "method": "heartbeat", "seconds_max": 90.0 }), 607_400)
                .at(40_000)
                .yes("accept", "bob", "go"),
        ),
    ]
}

/// People hold the run back: a pause, a freeze of the database that outlasts it, and a step with an undo of its own that is taken back.
fn stopped_night() -> Tale {
    let mut plan = orders("failover");
    plan.steps[2].undo = lifeboat_runbooks::plan::UndoRule::Written(Box::new(lifeboat_runbooks::plan::WrittenUndo {
        step_type: "command".into(),
        version: 1,
        with: serde_json::json!({}),
        timeout_ms: 60_000,
        touches: vec![],
        preview: "run /opt/release us-east-1".into(),
    }));
    let froze = |resource: Option<&str>, why: &str| lifeboat_engine::Event::RunFrozen {
        resource: resource.map(str::to_owned),
        by: Some(crate::tale::someone("bob")),
        why: why.to_owned(),
        blind: vec![],
    };
    let thawed = |resource: Option<&str>| lifeboat_engine::Event::RunThawed {
        resource: resource.map(str::to_owned),
        by: Some(crate::tale::someone("bob")),
        why: "it was the monitor".to_owned(),
    };
    let act = lifeboat_engine::journal::UndoAct {
        with: serde_json::json!({}),
        intent: serde_json::json!({}),
        evidence: lifeboat_engine::Evidence::of("program", "/opt/release"),
    };
    until_fenced(plan)
        .at(9_500)
        .tell(lifeboat_engine::Event::RunPaused { by: crate::tale::someone("alice"), comment: "is it really down?".into() })
        .at(14_000)
        .tell(froze(Some("orders-db"), "the replica looks wrong"))
        .at(16_000)
        .tell(lifeboat_engine::Event::RunContinued { by: crate::tale::someone("alice"), comment: "it is".into() })
        .at(21_000)
        .tell(thawed(Some("orders-db")))
        .starts("promote", 1)
        .at(22_500)
        .fails("promote", "the standby is too far behind", None)
        .turns_back(lifeboat_engine::journal::Turn::StepFailed { step: id("promote") })
        .at(23_000)
        .tell(froze(None, "hands off for a minute"))
        .at(26_000)
        .tell(thawed(None))
        .at(26_100)
        .tell(lifeboat_engine::Event::UndoStarted { step: id("fence"), act: Some(Box::new(act)) })
        .at(28_000)
        .tell(lifeboat_engine::Event::UndoSucceeded { step: id("fence") })
        .ends(lifeboat_engine::journal::Outcome::Undone)
}

/// A list for which many places were planned and few were needed.
fn places_night() -> Tale {
    use lifeboat_runbooks::plan::{Inner, Item, ItemValue, PlanScope, ScopeKind};
    const PLACES: u32 = 100;
    let item = |index: u32| Item { of: id("copy"), index, at_once: None, value: ItemValue::Of(id("copy[]")) };
    let scopes = (0..PLACES)
        .map(|index| PlanScope { id: id(&format!("copy[{index}]")), parent: None, kind: ScopeKind::Item(item(index)) })
        .collect();
    let mut list = step("copy[]", "for_each", &[], None);
    list.inner = Some(Inner::List { list: serde_json::json!("${{ ['a', 'b', 'c'] }}"), max: PLACES });
    let mut steps = vec![list];
    steps.extend((0..PLACES).map(|index| {
        let mut one = step(&format!("copy[{index}]"), "command", &["copy[]"], None);
        one.scope = Some(index as usize);
        one
    }));
    steps.push(step("tell", "command", &["copy[99]"], None));
    let mut plan = plan("failover", steps);
    plan.scopes = scopes;
    let list = lifeboat_engine::Event::StepSucceeded {
        step: id("copy[]"),
        output: lifeboat_engine::journal::Output::Inline(serde_json::json!(["a", "b", "c"])),
        measures: vec![],
        seen: lifeboat_engine::journal::Seen::Executed,
    };
    let mut tale = Tale::begins(plan, 7_000).at(7_050).starts("copy[]", 1).tell(list);
    for index in 0..3 {
        tale = tale.starts(&format!("copy[{index}]"), 1);
    }
    for index in 3..PLACES {
        tale =
            tale.tell(lifeboat_engine::Event::StepSkipped { step: id(&format!("copy[{index}]")), why: "the list has 3 items only".into() });
    }
    for index in 0..3 {
        tale = tale.at(8_000 + i64::from(index) * 400).done(&format!("copy[{index}]"), vec![]);
    }
    tale.starts("tell", 1).at(9_500).done("tell", vec![]).ends(lifeboat_engine::journal::Outcome::Succeeded)
}

/// A wider plan: two databases side by side, a retry, a wait for people on one branch, clean-up, and a promise narrowly kept.
fn region_night() -> Tale {
    let mut promote_orders = step("promote_orders", "promote-db", &["fence_orders"], Some(("orders-db", Effect::Destroy)));
    promote_orders.point_of_no_return = Return::NoReturn;
    let mut promote_users = step("promote_users", "promote-db", &["fence_users"], Some(("users-db", Effect::Destroy)));
    promote_users.point_of_no_return = Return::NoReturn;
    let mut region = plan(
        "failover",
        vec![
            step("loss", "measure-rpo", &[], Some(("orders-db", Effect::Read))),
            step("accept", "approval", &["loss"], None),
            step("drain", "command", &[], Some(("queue", Effect::Change))),
            step("fence_orders", "fence-db", &["accept"], Some(("orders-db", Effect::Change))),
            step("fence_users", "fence-db", &["accept"], Some(("users-db", Effect::Change))),
            promote_orders,
            promote_users,
            step("scale_up", "command", &["accept"], Some(("cluster", Effect::Change))),
            step("dns_orders", "update-dns", &["promote_orders", "scale_up"], Some(("orders-dns", Effect::Change))),
            step("dns_users", "update-dns", &["promote_users", "scale_up"], Some(("users-dns", Effect::Change))),
            step("verify", "verify", &["dns_orders", "dns_users", "drain"], None),
        ],
    );
    region.title = "Leave us-east-1".to_owned();
    region.finally = vec![step("announce", "command", &[], None)];
    region.objectives.rto_ms = Some(60_000);
    Tale::begins(region, 9_000)
        .at(9_050)
        .starts("loss", 1)
        .starts("drain", 1)
        .at(9_800)
        .done("loss", vec![outage_began(0, 240), Measure::ExpectedLoss(loss("orders-db", "exact-lsn", Some(0.0), Some(0.2), Some(4096)))])
        .asks("accept", 1, serde_json::json!({ "orders-db": "0-0.2 s", "users-db": "0-1.1 s" }), 609_800)
        .at(21_400)
        .yes("accept", "bob", "both are within a second, go")
        .at(21_420)
        .starts("fence_orders", 1)
        .starts("fence_users", 1)
        .starts("scale_up", 1)
        .at(23_100)
        .done("fence_users", vec![Measure::Fenced { at: ms(23_000) }])
        .starts("promote_users", 1)
        .at(24_600)
        .done("fence_orders", vec![Measure::Fenced { at: ms(24_500) }])
        .starts("promote_orders", 1)
        .at(25_900)
        .done(
            "promote_users",
            vec![
                Measure::PromoteSent { at: ms(23_200) },
                Measure::Writable { at: ms(25_800) },
                Measure::Loss(loss("users-db", "heartbeat", Some(0.0), Some(1.1), None)),
            ],
        )
        .at(26_900)
        .done(
            "promote_orders",
            vec![
                Measure::PromoteSent { at: ms(24_700) },
                Measure::Writable { at: ms(26_800) },
                Measure::Loss(loss("orders-db", "exact-lsn", Some(0.0), Some(0.12), Some(4096))),
            ],
        )
        .at(30_000)
        .done("drain", vec![])
        .at(31_000)
        .done("scale_up", vec![])
        .starts("dns_orders", 1)
        .starts("dns_users", 1)
        .at(31_900)
        .done("dns_orders", vec![not_before(31_600), clients_follow(36_500)])
        .at(32_000)
        .fails("dns_users", "SERVFAIL from ns2", Some(34_000))
        .at(34_000)
        .starts("dns_users", 2)
        .at(34_700)
        .done("dns_users", vec![not_before(34_400), clients_follow(39_400)])
        .starts("verify", 1)
        .at(43_000)
        .done("verify", vec![restored(36_000), Measure::Verified { at: ms(42_900) }])
        .tell(lifeboat_engine::Event::FinalisingStarted)
        .at(43_010)
        .starts("announce", 1)
        .at(44_000)
        .done("announce", vec![])
        .tell(lifeboat_engine::Event::RunEnded {
            outcome: lifeboat_engine::journal::Outcome::Succeeded,
            why: "every step is done".to_owned(),
        })
}

#[test]
fn text_as_people_read_it() {
    for (name, tale) in nights() {
        let shown = text(&tale.report(), 80, Colour::Plain);
        let longest = shown.lines().map(|line| line.chars().count()).max().unwrap();
        // Commands are never broken, so that they can be copied.
        assert!(
            shown.lines().all(|line| line.chars().count() <= 80 || line.trim_start().starts_with("lifeboat ")),
            "{name}: {longest} columns\n{shown}"
        );
        insta::assert_snapshot!(format!("text_{name}"), shown);
    }
}

#[test]
fn pauses_and_freezes_are_drawn_where_they_were() {
    let svg = crate::timeline_svg(&stopped_night().report());
    for wanted in [
        "run paused",
        "orders-db frozen",
        "everything frozen",
        "paused by alice: 03:12:09.500 to 03:12:16.000: is it really down?",
        "paused or frozen",
    ] {
        assert!(svg.contains(wanted), "{wanted:?} is not drawn");
    }
    let across = svg.matches("class=\"halt\"").count();
    assert_eq!(across, 2, "what holds everything back goes across all steps, a freeze of one resource does not");
    assert!(!crate::timeline_svg(&good_night().report()).contains("-stopped)"), "nothing held this run back");
    let places = crate::timeline_svg(&places_night().report());
    assert!(places.contains("copy[3..99]: 97 places not used") && !places.contains(">copy[4]<"), "one row for all of them");
}

#[test]
fn json_as_scripts_read_it() {
    for (name, tale) in nights() {
        let report = tale.report();
        let shown = json(&report);
        assert_eq!(serde_json::from_str::<Report>(&shown).unwrap(), report, "what is written can be read");
        if matches!(name, "good" | "held" | "overridden") {
            insta::assert_snapshot!(format!("json_{name}"), shown);
        }
    }
}

#[test]
fn the_promised_json_fields_are_there() {
    let value: serde_json::Value = serde_json::from_str(&json(&good_night().report())).unwrap();
    for pointer in [
        "/run",
        "/runbook",
        "/mode",
        "/outcome",
        "/digests/structure",
        "/digests/binding",
        "/objectives/rto_seconds",
        "/objectives/rpo_seconds",
        "/actuals/rta_outage/seconds_min",
        "/actuals/rta_outage/seconds_max",
        "/actuals/rta_declared_seconds",
        "/actuals/automation_seconds",
        "/actuals/human_seconds",
        "/actuals/rpa/method",
        "/actuals/rpa/seconds_min",
        "/actuals/rpa/seconds_max",
        "/actuals/rpa/bytes",
        "/met/rto",
        "/met/rpo",
        "/clock/outage_began_at/earliest",
        "/clock/outage_began_at/latest",
        "/clock/detected_at",
        "/clock/declared_at",
        "/clock/run_started_at",
        "/clock/service_restored_at/at",
        "/clock/verified_at",
        "/clock/run_ended_at",
        "/steps/0/id",
        "/steps/0/type",
        "/steps/0/state",
        "/steps/0/attempts",
        "/steps/0/started_at",
        "/steps/0/ended_at",
        "/steps/0/duration_seconds",
        "/steps/0/waited_seconds",
        "/critical_path/0",
        "/journal_entries",
    ] {
        assert!(value.pointer(pointer).is_some_and(|found| !found.is_null()), "{pointer} is missing");
    }
}

/// What names, evidence, comments and reasons may hold.
pub(crate) const HOSTILE: &[&str] = &[
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "</style><style>*{display:none}",
    "</svg></title></textarea>",
    "javascript:alert(1)",
    "\u{1b}[2J\u{1b}[31mall is well\u{1b}[0m",
    "\u{1b}]0;title\u{7}",
    "\u{202e}txt.exe\u{2066}\u{200f}",
    "a\u{0}b\u{8}\u{7f}\u{9b}31m",
    "line\r\nbreak\u{2028}\u{2029}",
    "\u{feff}\u{200b}\u{e0041}",
    "`%s%n${jndi:ldap://x}`",
    "```mermaid\nclick a href",
    "\"]\nclick promote call x()",
    "{{7*7}}",
];

/// A night in which every foreign text is hostile.
pub(crate) fn hostile_night(evil: &str) -> Tale {
    let mut plan = orders("failover");
    (plan.title, plan.runbook, plan.owner) = (evil.to_owned(), evil.to_owned(), Some(evil.to_owned()));
    for step in &mut plan.steps {
        step.preview = evil.to_owned();
        step.step_type = if step.step_type == "verify" { step.step_type.clone() } else { evil.to_owned() };
        step.touches.iter_mut().for_each(|touch| touch.resource = evil.to_owned());
    }
    let measures = vec![
        lifeboat_engine::Measure::OutageBegan { earliest: ms(0), latest: ms(1), method: evil.to_owned() },
        lifeboat_engine::Measure::ServiceRestored { at: ms(8_000), method: evil.to_owned() },
        lifeboat_engine::Measure::NotRestoredBefore { at: ms(7_500), because: evil.to_owned() },
        lifeboat_engine::Measure::Loss(loss(evil, evil, Some(0.0), Some(1.0), None)),
        lifeboat_engine::Measure::ExpectedLoss(loss(evil, evil, Some(0.0), None, None)),
    ];
    let mut tale = Tale::begins(plan, 7_000);
    if let lifeboat_engine::Event::RunAdmitted { by, locks, .. } = &mut tale.entries[0].event {
        (by.person, by.via) = (Some(evil.to_owned()), evil.to_owned());
        locks.iter_mut().for_each(|lock| lock.resource = evil.to_owned());
    }
    tale.at(7_100)
        .starts("loss", 1)
        .at(7_400)
        .done("loss", measures)
        .asks("accept", 1, serde_json::json!({ evil: evil }), 90_000)
        .at(8_000)
        .yes("accept", evil, evil)
        .starts("fence", 1)
        .at(8_100)
        .fails("fence", evil, None)
        .at(8_200)
        .resolved("fence", evil, lifeboat_engine::journal::Resolution::Skip, evil)
        .at(8_300)
        .refused("promote", evil)
        .tell(lifeboat_engine::Event::RunHeld { why: evil.to_owned() })
        .at(9_000)
        .claimed("second")
}

/// The same as far as a question to people of whom one has answered.
pub(crate) fn hostile_question(evil: &str) -> Tale {
    let mut tale = hostile_night(evil);
    let asked = tale.entries.iter().position(|entry| matches!(entry.event, lifeboat_engine::Event::ApprovalGranted { .. })).unwrap();
    tale.entries.truncate(asked + 1);
    for entry in &mut tale.entries {
        if let lifeboat_engine::Event::ApprovalRequested { count, .. } = &mut entry.event {
            *count = 2;
        }
    }
    tale
}

#[test]
fn nothing_foreign_paints_on_a_terminal() {
    for evil in HOSTILE {
        let shown = text(&hostile_night(evil).report(), 80, Colour::Plain) + &text(&hostile_question(evil).report(), 80, Colour::Plain);
        let bad = shown.chars().find(|c| {
            (c.is_control() && *c != '\n')
                || ('\u{200b}'..='\u{200f}').contains(c)
                || ('\u{2028}'..='\u{202e}').contains(c)
                || ('\u{2066}'..='\u{2069}').contains(c)
                || *c == '\u{feff}'
                || *c >= '\u{e0000}'
        });
        assert_eq!(bad, None, "{evil:?} in\n{shown}");
    }
}

/// Writes pages to look at: `LIFEBOAT_LOOK=DIR cargo test -p lifeboat-report look -- --ignored`.
#[test]
#[ignore = "writes files for people to look at"]
fn look() {
    let Some(folder) = option_env!("LIFEBOAT_LOOK") else { return };
    // A report of a real run, as JSON, is drawn too.
    if let Ok(real) = std::fs::read_to_string(format!("{folder}/real.json")) {
        let report: Report = serde_json::from_str(&real).unwrap();
        std::fs::write(format!("{folder}/real-timeline.svg"), crate::timeline_svg(&report)).unwrap();
    }
    for (name, tale) in nights() {
        let report = tale.report();
        std::fs::write(format!("{folder}/{name}.html"), crate::html(&report, &tale.plan)).unwrap();
        std::fs::write(format!("{folder}/{name}-timeline.svg"), crate::timeline_svg(&report)).unwrap();
        std::fs::write(format!("{folder}/{name}-plan.svg"), crate::graph::svg(&tale.plan, None)).unwrap();
    }
}
