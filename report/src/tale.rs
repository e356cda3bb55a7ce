//! Hand-made plans and journals that read aloud, for tests. Real journals are written by the engine.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::evidence::Evidence;
use lifeboat_engine::journal::{Actor, Back, ENTRY_FORMAT, Entry, Event, Incident, Lock, Outcome, Output, Resolution, RunId, Seen, Turn};
use lifeboat_engine::measure::{Loss, Measure};
use lifeboat_runbooks::catalog::Touch;
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{Objectives, OnFailure, PLAN_FORMAT, Places, Plan, PlanStep, Retry, Return, UndoRule};
use serde_json::{Value, json};

/// So many milliseconds after 03:12:00 UTC of the bad night.
pub(crate) fn ms(offset: i64) -> Timestamp {
    "2026-11-22T03:12:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(offset)
}

pub(crate) fn id(text: &str) -> StepId {
    StepId::new(text).unwrap()
}

pub(crate) fn step(name: &str, step_type: &str, needs: &[&str], effect: Option<(&str, Effect)>) -> PlanStep {
    PlanStep {
        id: id(name),
        step_type: step_type.to_owned(),
        version: 1,
        with: json!({}),
        needs: needs.iter().map(|need| id(need)).collect(),
        condition: None,
        asserts: Vec::new(),
        timeout_ms: 60_000,
        retry: Retry { attempts: 1, backoff_min_ms: 1000, backoff_max_ms: 1000, on: None },
        undo: UndoRule::Default,
        on_failure: None,
        point_of_no_return: Return::Possible,
        touches: effect.map(|(resource, effect)| Touch { resource: resource.to_owned(), effect }).into_iter().collect(),
        preview: format!("would do {name}"),
        line: 1,
        scope: None,
        inner: None,
        structure: String::new(),
    }
}

/// The runbook of the design page: loss, accept, fence, promote, dns, verify.
pub(crate) fn orders(mode: &str) -> Plan {
    let mut promote = step("promote", "promote-db", &["fence"], Some(("orders-db", Effect::Destroy)));
    promote.point_of_no_return = Return::NoReturn;
    promote.preview = "promote us-west-2 of orders-db if at most 1m of data would be lost".to_owned();
    let mut dns = step("dns", "update-dns", &["promote"], Some(("orders-dns", Effect::Change)));
    dns.retry = Retry { attempts: 5, backoff_min_ms: 2000, backoff_max_ms: 30_000, on: None };
    let mut accept = step("accept", "approval", &["loss"], None);
    accept.condition = Some("mode == \"failover\" && !steps.loss.outputs.within_rpo".to_owned());
    plan(
        mode,
        vec![
            step("loss", "measure-rpo", &[], Some(("orders-db", Effect::Read))),
            accept,
            step("fence", "fence-db", &["accept"], Some(("orders-db", Effect::Change))),
            promote,
            dns,
            step("verify", "verify", &["dns"], None),
        ],
    )
}

pub(crate) fn plan(mode: &str, steps: Vec<PlanStep>) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        runbook: "orders-failover".to_owned(),
        title: "Move orders to another region".to_owned(),
        owner: Some("team-orders".to_owned()),
        objectives: Objectives { rto_ms: Some(300_000), rpo_ms: Some(60_000) },
        mode: mode.to_owned(),
        inputs: BTreeMap::new(),
        on_failure: OnFailure::Hold,
        deadline_ms: None,
        steps,
        finally: Vec::new(),
        scopes: Vec::new(),
        resources: BTreeMap::new(),
        structure: "5".repeat(64),
        binding: "b".repeat(64),
        places: Places::default(),
    }
}

pub(crate) fn someone(name: &str) -> Actor {
    Actor { person: Some(name.to_owned()), system_user: name.to_owned(), via: "terminal".to_owned() }
}

pub(crate) fn outage_began(earliest: i64, latest: i64) -> Measure {
    Measure::OutageBegan { earliest: ms(earliest), latest: ms(latest), method: "heartbeat".to_owned() }
}

pub(crate) fn not_before(at: i64) -> Measure {
    Measure::NotRestoredBefore { at: ms(at), because: "the DNS record still named us-east-1".to_owned() }
}

pub(crate) fn clients_follow(at: i64) -> Measure {
    Measure::ClientsFollowBy { at: ms(at), because: "answers with a TTL of 1 s were given out until then".to_owned() }
}

pub(crate) fn restored(at: i64) -> Measure {
    Measure::ServiceRestored { at: ms(at), method: "3 of 3 checks through orders.example.com".to_owned() }
}

pub(crate) fn loss(resource: &str, method: &str, min: Option<f64>, max: Option<f64>, bytes: Option<u64>) -> Loss {
    Loss { resource: resource.to_owned(), method: method.to_owned(), seconds_min: min, seconds_max: max, bytes }
}

/// A journal being told. Time is in milliseconds after 03:12:00 UTC and is given where something happens.
pub(crate) struct Tale {
    pub(crate) plan: Plan,
    pub(crate) entries: Vec<Entry>,
    owner: String,
    now: i64,
}

impl Tale {
    pub(crate) fn begins(plan: Plan, at: i64) -> Self {
        let admitted = Event::RunAdmitted {
            run: RunId::new("20261122t031207-orders-failover-x7k2").unwrap(),
            plan: "p".repeat(64),
            structure: plan.structure.clone(),
            binding: plan.binding.clone(),
            runbook: plan.runbook.clone(),
            mode: plan.mode.clone(),
            by: someone("alice"),
            locks: vec![Lock { resource: "orders-db".to_owned(), effect: Effect::Destroy }],
            incident: Incident { outage_began: None, detected_at: Some(ms(at - 1000)), declared_at: Some(ms(at)) },
            predicted: None,
        };
        let mut tale = Self { plan, entries: Vec::new(), owner: "first".to_owned(), now: at };
        tale.push(admitted);
        tale
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.entries.push(Entry { format: ENTRY_FORMAT, at: ms(self.now), owner: self.owner.clone(), event });
    }

    pub(crate) fn tell(mut self, event: Event) -> Self {
        self.push(event);
        self
    }

    pub(crate) fn at(mut self, at: i64) -> Self {
        self.now = at;
        self
    }

    pub(crate) fn starts(self, step: &str, attempt: u32) -> Self {
        let evidence = Evidence::of("us-west-2 replay position", "0/5028310").with("us-west-2 timeline", 1);
        self.tell(Event::StepStarted { step: id(step), attempt, with: json!({}), intent: Value::Null, evidence })
    }

    pub(crate) fn done(self, step: &str, measures: Vec<Measure>) -> Self {
        self.tell(Event::StepSucceeded { step: id(step), output: Output::Inline(json!({})), measures, seen: Seen::Executed })
    }

    pub(crate) fn found_done(self, step: &str, measures: Vec<Measure>) -> Self {
        self.tell(Event::StepSucceeded { step: id(step), output: Output::Inline(json!({})), measures, seen: Seen::Observed })
    }

    pub(crate) fn skipped(self, step: &str) -> Self {
        self.tell(Event::StepSkipped { step: id(step), why: "steps.loss.outputs.within_rpo".to_owned() })
    }

    pub(crate) fn fails(self, step: &str, why: &str, retry_at: Option<i64>) -> Self {
        self.tell(Event::StepFailed {
            step: id(step),
            why: why.to_owned(),
            evidence: Evidence::of("answer", why),
            retry_at: retry_at.map(ms),
        })
    }

    pub(crate) fn loses_sight(self, step: &str) -> Self {
        self.tell(Event::StepInDoubt { step: id(step), why: "no answer within 2m".to_owned() })
    }

    pub(crate) fn refused(self, step: &str, why: &str) -> Self {
        self.tell(Event::StepRefused { step: id(step), why: why.to_owned(), evidence: Evidence::of("us-east-1", "accepts writes") })
    }

    pub(crate) fn asks(self, step: &str, count: u32, shown: Value, expires: i64) -> Self {
        self.tell(Event::ApprovalRequested {
            step: id(step),
            roles: vec!["oncall".to_owned()],
            count,
            shown,
            facts: "f".repeat(64),
            expires_at: ms(expires),
        })
    }

    pub(crate) fn yes(self, step: &str, who: &str, comment: &str) -> Self {
        self.tell(Event::ApprovalGranted { step: id(step), by: someone(who), comment: Some(comment.to_owned()), facts: "f".repeat(64) })
    }

    pub(crate) fn resolved(self, step: &str, who: &str, resolution: Resolution, comment: &str) -> Self {
        self.tell(Event::StepResolved { step: id(step), resolution, by: someone(who), comment: comment.to_owned() })
    }

    pub(crate) fn held(self) -> Self {
        self.tell(Event::RunHeld { why: "a person is needed".to_owned() })
    }

    pub(crate) fn claimed(mut self, by: &str) -> Self {
        self.owner = by.to_owned();
        self.tell(Event::RunClaimed { why: "the process before is gone".to_owned() })
    }

    pub(crate) fn turns_back(self, turn: Turn) -> Self {
        self.tell(Event::UnwindingStarted { turn, back: Back::Undo })
    }

    pub(crate) fn undone(self, step: &str, began: i64, ended: i64) -> Self {
        self.at(began).tell(Event::UndoStarted { step: id(step), act: None }).at(ended).tell(Event::UndoSucceeded { step: id(step) })
    }

    pub(crate) fn ends(self, outcome: Outcome) -> Self {
        self.tell(Event::FinalisingStarted).tell(Event::RunEnded { outcome, why: "every step is done".to_owned() })
    }

    pub(crate) fn report(&self) -> crate::Report {
        crate::judge(&self.plan, &self.entries).unwrap()
    }
}

/// The good night: the primary dies at 03:12:00, the run starts 7 s later, service is back 9 s after.
pub(crate) fn good_night() -> Tale {
    until_promoted(orders("failover"))
        .starts("dns", 1)
        .at(13_300)
        .done("dns", vec![not_before(13_050), clients_follow(14_250)])
        .starts("verify", 1)
        .at(15_900)
        .done("verify", vec![restored(14_100), Measure::Verified { at: ms(15_850) }])
        .ends(Outcome::Succeeded)
}

/// As far as the promotion, which is done at 12,900 ms.
pub(crate) fn until_promoted(plan: Plan) -> Tale {
    until_fenced(plan).starts("promote", 1).at(12_900).done(
        "promote",
        vec![
            Measure::PromoteSent { at: ms(9_600) },
            Measure::Writable { at: ms(12_800) },
            Measure::Loss(loss("orders-db", "heartbeat", Some(0.0), Some(0.45), Some(1184))),
        ],
    )
}

/// As far as the fence, which is done at 9,400 ms.
pub(crate) fn until_fenced(plan: Plan) -> Tale {
    Tale::begins(plan, 7_000)
        .at(7_050)
        .starts("loss", 1)
        .at(7_400)
        .done("loss", vec![outage_began(0, 120), Measure::ExpectedLoss(loss("orders-db", "heartbeat", Some(0.0), Some(1.0), None))])
        .skipped("accept")
        .starts("fence", 1)
        .at(9_400)
        .done("fence", vec![Measure::Fenced { at: ms(9_300) }])
}
