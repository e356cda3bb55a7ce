//! Good runbooks: checked clean, planned, and read the same by another YAML reader. Bad ones are in `bad.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::collections::BTreeMap;
use std::path::PathBuf;

use catalog::{Inventory, Types};
use lifeboat_runbooks::render::{self, Colour};
use lifeboat_runbooks::{PlanRequest, Runbook, Source, check, parse, plan};
use serde_json::json;

fn file(name: &str) -> Source {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/good").join(name);
    Source { name: name.into(), text: std::fs::read_to_string(path).unwrap().into() }
}

fn read(source: &Source) -> Runbook {
    let (runbook, mut problems) = parse(source);
    if let Some(runbook) = &runbook {
        problems.extend(check(runbook, &Types::new(), Some(&Inventory::new())));
    }
    assert!(problems.is_empty(), "{}", render::text(source, &problems, Colour::Plain));
    runbook.unwrap()
}

fn request(mode: Option<&str>, inputs: &[(&str, &str)]) -> PlanRequest {
    PlanRequest {
        mode: mode.map(str::to_owned),
        inputs: inputs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

#[test]
fn the_example_of_the_design_checks_clean_and_plans() {
    let source = file("orders-failover.yaml");
    let runbook = read(&source);
    let made = plan(&runbook, &request(Some("failover"), &[("to", "eu-west-1")]), &Types::new(), &Inventory::new());
    let made = made.unwrap_or_else(|problems| panic!("{}", render::text(&source, &problems, Colour::Plain)));
    let order: Vec<&str> = made.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(order, ["loss", "accept", "fence", "promote", "dns", "verify"]);
    assert_eq!(made.inputs, BTreeMap::from([("from".to_owned(), json!("us-east-1")), ("to".to_owned(), json!("eu-west-1"))]));
    assert_eq!(made.steps[3].preview, "promote eu-west-1");
    assert_eq!(made.steps[3].with["node"], "${{ inputs.to }}");
    assert_eq!(made.steps[4].touches[0].resource, "orders-dns");
    assert_eq!(made.objectives.rto_ms, Some(300_000));
    assert_eq!(made.resources.keys().collect::<Vec<_>>(), ["orders-db", "orders-dns"]);
}
