//! Random graphs of steps, lists and children: whatever is planned keeps its order, its names and its limits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use catalog::{Inventory, Types};
use lifeboat_runbooks::plan::{Inner, Plan, ScopeKind};
use lifeboat_runbooks::{Period, PlanRequest, Source, StepId, load, plan};
use proptest::prelude::*;

/// One step of a random runbook.
#[derive(Clone, Debug)]
struct Drawn {
    needs: BTreeSet<usize>,
    kind: Kind,
    concurrency: Option<u32>,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain,
    Items(usize),
    Child,
    ChildItems(usize),
    /// So many places for the items of another step.
    InRun(u32),
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let kind = prop_oneof![
        Just(Kind::Plain),
        (0..4_usize).prop_map(Kind::Items),
        Just(Kind::Child),
        (0..3_usize).prop_map(Kind::ChildItems),
        (1..4_u32).prop_map(Kind::InRun),
    ];
    let one = (proptest::collection::vec(0..20_usize, 0..4), kind, proptest::option::of(1..4_u32));
    proptest::collection::vec(one, 1..12).prop_map(|steps| {
        let named = steps.into_iter().enumerate();
        named
            .map(|(index, (needs, kind, concurrency))| {
                let needs = if index == 0 { BTreeSet::new() } else { needs.into_iter().map(|need| need % index).collect() };
                Drawn { needs, kind, concurrency }
            })
            .collect()
    })
}

fn written(steps: &[Drawn]) -> String {
    let mut text =
        String::from("lifeboat: v1\nname: t\nsteps:\n  - { id: many, type: command, for_each: [1, 2], with: { argv: [date] } }\n");
    for (index, step) in steps.iter().enumerate() {
        let needs: Vec<String> = step.needs.iter().map(|need| format!("s{need}")).chain(["many".to_owned()]).collect();
        let list = |list: String, max: Option<u32>| {
            let max = max.map(|max| format!(", max: {max}")).unwrap_or_default();
            let concurrency = step.concurrency.map(|most| format!(", concurrency: {most}")).unwrap_or_default();
            format!("for_each: {{ list: {list}{max}{concurrency} }}, ")
        };
        let numbers = |count: usize| format!("{:?}", (0..count).collect::<Vec<_>>());
        let each = match &step.kind {
            Kind::Plain | Kind::Child => String::new(),
            Kind::Items(count) | Kind::ChildItems(count) => list(numbers(*count), None),
            Kind::InRun(max) => list("\"${{ steps.many.outputs }}\"".to_owned(), Some(*max)),
        };
        let what = match &step.kind {
            Kind::Child | Kind::ChildItems(_) => "type: runbook, with: { runbook: child }",
            Kind::Plain | Kind::Items(_) | Kind::InRun(_) => "type: wait, with: { period: 1s }",
        };
        writeln!(text, "  - {{ id: s{index}, needs: [{}], {each}{what} }}", needs.join(", ")).unwrap();
    }
    text
}

const CHILD: &str = "lifeboat: v1\nname: child\noutputs: { said: \"${{ steps.b.outputs.stdout }}\" }\nsteps:\n  - { id: a, type: wait, for_each: [x, y], with: { period: 1s } }\n  - { id: b, type: command, needs: [a], with: { argv: [date] } }\nfinally:\n  - { id: c, type: wait, with: { period: 1s } }\n";

fn planned(steps: &[Drawn]) -> Plan {
    let source = Source { name: "t.yaml".into(), text: written(steps).into() };
    let (runbook, problems) = load(&source, &BTreeMap::from([("child.yaml".to_owned(), CHILD.to_owned())]));
    assert_eq!(problems, [], "{}", source.text);
    plan(&runbook.unwrap(), &PlanRequest::default(), &Types::new(), &Inventory::new()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_flattened_keeps_order_names_and_limits(steps in drawn()) {
        let plan = planned(&steps);
        let mut seen: BTreeSet<&StepId> = BTreeSet::new();
        for step in plan.all_steps() {
            prop_assert!(step.needs.iter().all(|need| seen.contains(need)), "{} comes before what it needs", step.id);
            prop_assert!(seen.insert(&step.id), "{} stands twice", step.id);
            prop_assert!(step.scope.is_none_or(|scope| scope < plan.scopes.len()));
        }
        for (index, scope) in plan.scopes.iter().enumerate() {
            prop_assert!(scope.parent.is_none_or(|parent| parent < index));
            prop_assert!(plan.step(&scope.id).is_some(), "{} ends no scope", scope.id);
        }
        // What a step needs in the file has ended, all of it, before the first of its own steps begins.
        for (index, step) in steps.iter().enumerate() {
            let own = format!("s{index}");
            for need in &step.needs {
                let need = StepId::new(&format!("s{need}")).unwrap();
                let mine = plan.steps.iter().filter(|step| step.id.as_str().split(['/', '[']).next() == Some(own.as_str()));
                for mine in mine {
                    prop_assert!(is_after(&plan, &mine.id, &need), "{} need not come after {need}", mine.id);
                }
            }
            if let (Kind::InRun(max), Some(list)) = (&step.kind, plan.step(&StepId::new(&format!("{own}[]")).unwrap())) {
                prop_assert_eq!(&list.inner, &Some(Inner::List { list: serde_json::json!("${{ steps.many.outputs }}"), max: *max }));
            }
        }
        let items = plan.scopes.iter().filter_map(|scope| match &scope.kind { ScopeKind::Item(item) => Some(item), ScopeKind::Child(_) => None });
        prop_assert!(items.into_iter().all(|item| item.at_once.is_none_or(|most| most > 1)));
        // The same text is always the same plan, and a plan is read as it was written.
        prop_assert_eq!(&planned(&steps), &plan);
        let stored: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
        prop_assert_eq!(stored, plan);
    }

    #[test]
    fn a_length_of_time_is_read_as_it_is_printed(ms in 1..31_622_400_000_u64) {
        let period = Period(std::time::Duration::from_millis(ms));
        prop_assert_eq!(Period::parse(&period.to_string()), Ok(period));
    }
}

fn is_after(plan: &Plan, step: &StepId, before: &StepId) -> bool {
    let mut open = vec![step];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if id == before {
            return true;
        }
        if seen.insert(id) {
            open.extend(&plan.step(id).unwrap().needs);
        }
    }
    false
}
