//! Snapshots of everything that is shown, over the nights of `judge::tests`, and a hostile corpus that must not get through.

use crate::judge::tests::{failed_night, held_night, lossy_night, resumed_night, undone_night};
use crate::report::Report;
use crate::tale::{Tale, good_night, id, loss, ms, orders, outage_began, until_fenced};
use crate::{Colour, json, text};

fn nights() -> Vec<(&'static str, Tale)> {
    vec![
        ("good", good_night()),
        ("lossy", lossy_night()),
        ("resumed", resumed_night()),
        ("held", held_night()),
        ("undone", undone_night()),
        ("failed", failed_night()),
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
fn json_as_scripts_read_it() {
    for (name, tale) in nights() {
        let report = tale.report();
        let shown = json(&report);
        assert_eq!(serde_json::from_str::<Report>(&shown).unwrap(), report, "what is written can be read");
        if matches!(name, "good" | "held") {
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
const HOSTILE: &[&str] = &[
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

#[test]
fn nothing_foreign_paints_on_a_terminal() {
    for evil in HOSTILE {
        let shown = text(&hostile_night(evil).report(), 80, Colour::Plain);
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
