//! `verify` by SQL against real PostgreSQL nodes, by name of the node and through the DNS record that clients use.

use lifeboat_engine::step::{Step, StepError};
use lifeboat_steps::verify::{Verified, Verify};
use serde_json::{Value, json};
use xtask::lab::dns::{KEY_NAME, RECORD, ZONE};
use xtask::lab::postgres::{DATABASE, REGIONS};
use xtask::lab::{Lab, Parts};

use crate::stage::{Stage, ready, refusal, step};

fn stage(lab: &Lab) -> Stage {
    let secret = |name: &str| format!("file:{}", lab.secret(name).display());
    let node = |region: &str| {
        let node = lab.node(region);
        json!({ "host": node.address.to_string(), "port": node.port, "region": region })
    };
    let nodes: serde_json::Map<String, Value> = REGIONS.iter().map(|region| ((*region).to_owned(), node(region))).collect();
    let targets: serde_json::Map<String, Value> =
        REGIONS.iter().map(|region| ((*region).to_owned(), json!([lab.node(region).address.to_string()]))).collect();
    let (primary, secondary) = (lab.dns().primary.to_string(), lab.dns().secondary.to_string());
    Stage::new(
        json!({
            "lifeboat": "v1",
            "databases": { "orders-db": {
                "database": DATABASE, "nodes": nodes,
                "probe": { "user": "lifeboat_probe", "password": secret("lifeboat_probe") },
                "act": { "user": "lifeboat_act", "password": secret("lifeboat_act") },
            } },
            "dns-records": { "orders-dns": {
                "name": RECORD, "type": "A", "ttl": 1, "targets": targets,
                "rfc2136": { "zone": ZONE, "primary": primary, "servers": [primary, secondary], "tsig": { "name": KEY_NAME, "secret": secret("tsig") } },
            } },
        }),
        lab.folder(),
    )
}

fn sql(extra: Value) -> Value {
    let mut check = json!({ "db": "orders-db", "query": "select not pg_is_in_recovery()", "equals": true });
    for (key, value) in extra.as_object().unwrap() {
        check[key] = value.clone();
    }
    if check.get("at_least").is_some() {
        check.as_object_mut().unwrap().remove("equals");
    }
    json!({ "within": "3s", "interval": "100ms", "checks": [{ "sql": check }] })
}

async fn verify(stage: &Stage, extra: Value) -> Result<Verified, StepError> {
    let step: Verify = step(sql(extra));
    let intent = ready(&step, stage).await;
    step.execute(&intent, &stage.act()).await
}

fn failure(ended: Result<Verified, StepError>) -> String {
    match ended {
        Err(StepError::NotDone { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_query_is_judged_by_its_answer_where_it_was_asked() {
    let lab = Lab::start(Parts::PostgresAndDns).unwrap();
    let stage = stage(&lab);
    verify(&stage, json!({ "node": "us-east-1", "consecutive": 3 })).await.unwrap();
    let why = failure(verify(&stage, json!({ "node": "us-west-2" })).await);
    assert!(why.contains("\"f\" instead of true"), "{why}");
    // Through the record it is the node that the name leads to, before and after the name has moved.
    let through = verify(&stage, json!({ "through": "orders-dns" })).await.unwrap();
    assert!(through.checks[0].found.contains(&lab.node("us-east-1").socket().to_string()), "{:?}", through.checks);
    lab.dns().update(&format!("update delete {RECORD} A\nupdate add {RECORD} 1 A {}", lab.node("us-west-2").address)).unwrap();
    let why = failure(verify(&stage, json!({ "through": "orders-dns" })).await);
    assert!(why.contains("instead of true"), "{why}");
    lab.node("us-west-2").psql("postgres", "select pg_promote()").unwrap();
    let through = verify(&stage, json!({ "through": "orders-dns" })).await.unwrap();
    assert!(through.checks[0].found.contains(&lab.node("us-west-2").socket().to_string()), "{:?}", through.checks);
    lab.node("us-west-2").kill_group().unwrap();
    let why = failure(verify(&stage, json!({ "through": "orders-dns" })).await);
    assert!(why.contains("attempts failed"), "{why}");
}

#[tokio::test]
async fn a_check_cannot_write_and_what_is_not_a_check_is_refused() {
    let lab = Lab::start(Parts::PostgresAndDns).unwrap();
    let stage = stage(&lab);
    let on_east = |query: &str| json!({ "node": "us-east-1", "query": query, "at_least": 0 });
    let numbered = verify(&stage, on_east("select count(*) from pg_stat_activity -- how many")).await.unwrap();
    assert!(numbered.checks[0].attempts >= 1);
    // A function call looks like reading; the transaction and the role's lack of rights stop it.
    lab.node("us-east-1").psql_in(DATABASE, "postgres", "create sequence s; create table t (x int); grant all on t, s to public").unwrap();
    for (query, words) in [
        ("select nextval('s')", "read-only transaction"),
        ("with gone as (delete from t returning 1) select count(*) from gone", "read-only transaction"),
        ("select 1 from set_config('transaction_read_only', 'off', false)", "read-write mode"),
        ("select pg_promote()::int", "permission denied"),
    ] {
        let why = failure(verify(&stage, on_east(query)).await);
        assert!(why.contains(words), "{query}: {why}");
    }
    // PostgreSQL 15 lets a read-only transaction make large objects; nothing of it may stay.
    verify(&stage, on_east("select lo_create(0)")).await.unwrap();
    assert_eq!(lab.node("us-east-1").psql_in(DATABASE, "postgres", "select count(*) from pg_largeobject_metadata").unwrap().trim(), "0");
    assert_eq!(lab.node("us-east-1").psql_in(DATABASE, "postgres", "select is_called from s").unwrap().trim(), "f");
    for (extra, words) in [
        (json!({ "node": "us-east-1", "query": "select 1; select 2" }), "semicolon"),
        (json!({ "node": "us-east-1", "query": "delete from lifeboat.heartbeat" }), "only reads"),
        (json!({ "node": "mars" }), "no node \"mars\""),
        (json!({}), "either `node` or `through`"),
        (json!({ "node": "us-east-1", "through": "orders-dns" }), "either `node` or `through`"),
        (json!({ "node": "us-east-1", "equals": [1] }), "no value of a column"),
    ] {
        let why = refusal(&step::<Verify>(sql(extra.clone())), &stage).await;
        assert!(why.contains(words), "{extra}: {why}");
    }
}
