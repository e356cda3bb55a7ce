//! Step types and an inventory for the tests of the language: the shapes of the real ones, written with `serde` and `schemars` as those
//! are, but reading nothing.

#![expect(dead_code, unreachable_pub, reason = "parameters are only read for their form, and each test uses its part")]

use std::collections::BTreeMap;

use lifeboat_runbooks::catalog::{BadParameters, DrillPolicy, Undoable};
use lifeboat_runbooks::{Catalog, Effect, Examined, Period, ResourceInfo, Resources, StepTypeInfo, Touch};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Compares positions and heartbeats.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MeasureRpo {
    /// The database.
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    db: String,
    /// Where it is.
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    from: String,
    /// Where it would go.
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    to: String,
}

#[derive(Serialize, JsonSchema)]
struct Loss {
    within_rpo: bool,
    bytes: u64,
    share: f64,
    /// Not there when the source cannot be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    lag: Period,
    method: Method,
    nodes: Vec<Node>,
    labels: BTreeMap<String, String>,
    raw: Value,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// By heartbeats.
    Heartbeat,
    /// By positions.
    Position,
}

#[derive(Serialize, JsonSchema)]
struct Node {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
}

/// Waits for people.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Approval {
    /// Who may.
    roles: Vec<String>,
    /// How many.
    #[schemars(range(min = 1, max = 20))]
    count: u32,
    /// How long.
    timeout: Period,
    /// What they see.
    show: Option<Value>,
}

#[derive(Serialize, JsonSchema)]
struct Approved {
    by: Vec<String>,
}

/// Stops writes on a node.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FenceDb {
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    db: String,
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    node: String,
}

/// Keeps a copy.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackUp {
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    db: String,
}

/// Makes a replica the primary.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PromoteDb {
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    db: String,
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    node: String,
    /// Most data, in time, that may be lost.
    max_loss: Option<Period>,
    /// Most data, in bytes, that may be lost.
    max_loss_bytes: Option<u64>,
    /// How sure.
    #[serde(default)]
    strict: bool,
    /// How to choose.
    #[serde(default)]
    choose: Choose,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
enum Choose {
    /// The node that is named.
    #[default]
    Named,
    /// The most advanced one.
    MostAdvanced,
}

#[derive(Serialize, JsonSchema)]
struct Promoted {
    timeline: u32,
    address: String,
}

/// Points a record elsewhere.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UpdateDns {
    #[schemars(extend("x-lifeboat-resource" = "dns-record"))]
    record: String,
    #[schemars(extend("x-lifeboat-node-of" = "record"))]
    to: String,
    /// Seconds.
    #[schemars(range(min = 1, max = 86400))]
    ttl: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct Nothing {}

/// Proves that a service works.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    checks: Vec<Check>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Check {
    /// Over HTTP.
    Http { url: String, status: Option<u16>, consecutive: Option<u32> },
    /// In a database.
    Sql {
        #[schemars(extend("x-lifeboat-resource" = "database"))]
        db: String,
        #[schemars(extend("x-lifeboat-node-of" = "db"))]
        node: String,
        query: String,
        equals: Value,
    },
}

/// Lets time pass.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// How long.
    period: Period,
    /// Not before this instant.
    #[serde(default)]
    after: Option<String>,
}

/// Runs a program.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Command {
    /// The program and its arguments.
    #[schemars(length(min = 1))]
    argv: Vec<String>,
    env: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, JsonSchema)]
struct Ran {
    exit_code: i32,
    stdout: String,
}

pub struct Types(Vec<StepTypeInfo>);

impl Types {
    pub fn new() -> Self {
        Self(vec![
            info::<Approval, Approved>("approval", Effect::Read),
            info::<BackUp, Nothing>("back-up", Effect::Protect),
            info::<Command, Ran>("command", Effect::Change),
            info::<FenceDb, Nothing>("fence-db", Effect::Change),
            info::<MeasureRpo, Loss>("measure-rpo", Effect::Read),
            info::<PromoteDb, Promoted>("promote-db", Effect::Change),
            info::<UpdateDns, Nothing>("update-dns", Effect::Change),
            info::<Verify, Nothing>("verify", Effect::Read),
            info::<Wait, Nothing>("wait", Effect::Read),
        ])
    }
}

fn info<W: JsonSchema, O: JsonSchema>(name: &'static str, effect: Effect) -> StepTypeInfo {
    let with_schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<W>().to_value();
    let output_schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<O>().to_value();
    let summary = with_schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    StepTypeInfo { name, version: 1, summary, with_schema, output_schema, effect, undo: Undoable::No }
}

fn read<T: DeserializeOwned>(with: &Value) -> Result<T, BadParameters> {
    serde_path_to_error::deserialize(with).map_err(|error| {
        let pointer = error.path().iter().map(|part| format!("/{part}")).collect::<String>();
        BadParameters { pointer, message: error.into_inner().to_string() }
    })
}

fn touch(resource: String, effect: Effect) -> Touch {
    Touch { resource, effect }
}

impl Catalog for Types {
    fn step_types(&self) -> Vec<&StepTypeInfo> {
        self.0.iter().collect()
    }

    fn step_type(&self, name: &str) -> Option<&StepTypeInfo> {
        self.0.iter().find(|info| info.name == name)
    }

    fn examine(&self, name: &str, with: &Value) -> Result<Examined, BadParameters> {
        let (touches, preview) = match name {
            "measure-rpo" => {
                let MeasureRpo { db, from, to } = read(with)?;
                let preview = format!("measure what going from {from} to {to} would lose");
                (vec![touch(db, Effect::Read)], preview)
            }
            "back-up" => {
                let BackUp { db } = read(with)?;
                let preview = format!("copy {db}");
                (vec![touch(db, Effect::Protect)], preview)
            }
            "fence-db" => {
                let FenceDb { db, node } = read(with)?;
                (vec![touch(db, Effect::Change)], format!("stop writes on {node}"))
            }
            "promote-db" => {
                let PromoteDb { db, node, max_loss, max_loss_bytes, strict: _, choose: _ } = read(with)?;
                if max_loss.is_some() && max_loss_bytes.is_some() {
                    return Err(BadParameters {
                        pointer: "/max_loss_bytes".to_owned(),
                        message: "only one of max_loss and max_loss_bytes".to_owned(),
                    });
                }
                (vec![touch(db, Effect::Change)], format!("promote {node}"))
            }
            "update-dns" => {
                let UpdateDns { record, to, ttl: _ } = read(with)?;
                let preview = format!("point {record} at {to}");
                (vec![touch(record, Effect::Change)], preview)
            }
            "approval" => {
                let Approval { roles, count, timeout, show: _ } = read(with)?;
                (vec![], format!("wait {timeout} for {count} of {}", roles.join(", ")))
            }
            "verify" => {
                let Verify { checks } = read(with)?;
                let touches = checks.iter().filter_map(|check| match check {
                    Check::Sql { db, node: _, query: _, equals: _ } => Some(touch(db.clone(), Effect::Read)),
                    Check::Http { url: _, status: _, consecutive: _ } => None,
                });
                (touches.collect(), format!("make {} checks", checks.len()))
            }
            "wait" => {
                let Wait { period, after } = read(with)?;
                if after.is_some_and(|instant| !instant.ends_with('Z')) {
                    return Err(BadParameters { pointer: "/after".to_owned(), message: "an instant ends with Z".to_owned() });
                }
                (vec![], format!("wait {period}"))
            }
            "command" => {
                let Command { argv, env: _ } = read(with)?;
                (vec![], format!("run {}", argv.join(" ")))
            }
            other => unreachable!("no type {other}"),
        };
        Ok(Examined { touches, preview })
    }
}

pub struct Inventory(Vec<ResourceInfo>);

impl Inventory {
    pub fn new() -> Self {
        let regions = ["us-east-1", "us-west-2", "eu-west-1"].map(str::to_owned).to_vec();
        let resource = |name: &str, kind: &str, nodes: &[String], drill: DrillPolicy| ResourceInfo {
            name: name.to_owned(),
            kind: kind.to_owned(),
            nodes: nodes.to_vec(),
            region: None,
            depends_on: vec![],
            drill,
            identity: json!({ "address": format!("{name}.lab") }),
        };
        Self(vec![
            resource("billing-db", "database", &regions[..2], DrillPolicy::Deny),
            resource("orders-db", "database", &regions, DrillPolicy::As("orders-drill-db".to_owned())),
            resource("orders-dns", "dns-record", &regions, DrillPolicy::As("orders-drill-dns".to_owned())),
            resource("orders-drill-db", "database", &regions, DrillPolicy::Allow),
            resource("orders-drill-dns", "dns-record", &regions, DrillPolicy::Allow),
            resource("stray-db", "database", &regions, DrillPolicy::As("orders-dns".to_owned())),
        ])
    }
}

impl Resources for Inventory {
    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|resource| resource.name.as_str()).collect()
    }

    fn resource(&self, name: &str) -> Option<ResourceInfo> {
        self.0.iter().find(|resource| resource.name == name).cloned()
    }

    fn roles(&self) -> Vec<&str> {
        vec!["dba", "oncall"]
    }
}
