//! The SQL check: one reading query with an expected value, on a named node or along the way that clients take. Logging in is
//! in `clients::postgres`.

use lifeboat_engine::{Period, ReadContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::path;
use crate::clients::postgres::Session;
use crate::resources::database::{Database, Node};

/// A query answers as wanted. It runs as the database's probe role, in a transaction that can only read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlCheck {
    /// The database.
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    pub db: String,
    /// The node that is asked. Left out where `through` is given.
    #[serde(default)]
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    pub node: Option<String>,
    /// A DNS record whose own servers are asked for the address to connect to: the way that clients take.
    #[serde(default)]
    #[schemars(extend("x-lifeboat-resource" = "dns-record"))]
    pub through: Option<String>,
    /// The port, with `through`. Left out: that of the database's nodes, where all have the same.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// One query that answers one row. Its first column is judged.
    pub query: String,
    /// The wanted value: true, false, a number, text, or null.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// The least number that passes.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The greatest number that passes.
    #[serde(default)]
    pub at_most: Option<f64>,
    /// How often it must pass in a row.
    #[serde(default = "super::check::once")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: u32,
    /// Slower answers do not pass. The time includes logging in.
    #[serde(default)]
    pub latency_max: Option<Period>,
}

/// `equals: null` is a wanted value, not a missing one.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 10_000;

impl SqlCheck {
    /// Names of the resources it looks at.
    pub(super) fn resources(&self) -> Vec<String> {
        std::iter::once(&self.db).chain(&self.through).cloned().collect()
    }

    pub(super) fn prepare(&self, cx: &ReadContext) -> Result<(), String> {
        let db = self.database(cx)?;
        match (&self.node, &self.through) {
            (Some(node), None) => named(&db, node).map(|_| ())?,
            (None, Some(record)) => {
                path::usable(cx, record)?;
                self.port(&db)?;
            }
            (None, None) | (Some(_), Some(_)) => return Err("give either `node` or `through`".into()),
        }
        reads_only(&self.query)?;
        if self.equals.is_none() && self.at_least.is_none() && self.at_most.is_none() {
            return Err("say what the query must answer: equals, at_least or at_most".into());
        }
        match &self.equals {
            Some(Value::Array(_) | Value::Object(_)) => Err("a list or a map is no value of a column".into()),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => Ok(()),
        }
    }

    pub(super) async fn make(&self, cx: &ReadContext) -> Result<String, String> {
        let db = self.database(cx)?;
        let mut why = "no address to connect to".to_owned();
        for node in self.nodes(cx, &db).await? {
            match Session::reading(cx, &db, &node).await {
                Ok(session) => return self.ask(&session).await,
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    async fn ask(&self, session: &Session) -> Result<String, String> {
        reads_only(&self.query)?;
        // Rolled back, because before PostgreSQL 16 a read-only transaction may still make large objects. The line end closes a
        // comment at the end of the query, which would hide what follows.
        let sql = format!("begin transaction read only; {}\n; rollback", self.query);
        let answer = session.ask_text(&sql).await.map_err(|error| error.to_string())?;
        self.judge(answer.as_deref())?;
        Ok(format!("{} at {}", answer.as_deref().unwrap_or("NULL"), session.address()))
    }

    fn judge(&self, answer: Option<&str>) -> Result<(), String> {
        let shown = answer.map_or_else(|| "NULL".to_owned(), |answer| format!("{:?}", answer.chars().take(200).collect::<String>()));
        if let Some(wanted) = &self.equals
            && !equal(wanted, answer)
        {
            return Err(format!("the query answered {shown} instead of {wanted}"));
        }
        let bounds = [(self.at_least, "at least", f64::ge as fn(&f64, &f64) -> bool), (self.at_most, "at most", f64::le)];
        for (bound, words, holds) in bounds {
            let Some(bound) = bound else {
                continue;
            };
            match answer.and_then(|answer| answer.parse::<f64>().ok()).filter(|number| number.is_finite()) {
                Some(number) if holds(&number, &bound) => {}
                Some(_) => return Err(format!("the query answered {shown}, which is not {words} {bound}")),
                None => return Err(format!("the query answered {shown}, which is no number")),
            }
        }
        Ok(())
    }

    async fn nodes(&self, cx: &ReadContext, db: &Database) -> Result<Vec<Node>, String> {
        match (&self.node, &self.through) {
            (Some(node), None) => Ok(vec![named(db, node)?.clone()]),
            (None, Some(record)) => {
                let addresses = path::addresses(cx, record, self.port(db)?).await?;
                Ok(addresses.into_iter().map(|address| at(address.ip().to_string(), address.port())).collect())
            }
            (None, None) | (Some(_), Some(_)) => Err("give either `node` or `through`".into()),
        }
    }

    fn port(&self, db: &Database) -> Result<u16, String> {
        if let Some(port) = self.port {
            return Ok(port);
        }
        let mut ports: Vec<u16> = db.nodes.values().map(|node| node.port).collect();
        ports.sort_unstable();
        ports.dedup();
        match ports[..] {
            [port] => Ok(port),
            _ => Err(format!("the nodes of {} have different ports: say which one clients use (`port`)", self.db)),
        }
    }

    fn database(&self, cx: &ReadContext) -> Result<Database, String> {
        cx.inventory.get::<Database>(&self.db).map_err(|error| error.to_string())
    }
}

/// A server that the inventory does not name: nothing but an address is known of it.
fn at(host: String, port: u16) -> Node {
    Node { host, port, region: None, local: None, fence: Vec::new() }
}

fn named<'a>(db: &'a Database, node: &str) -> Result<&'a Node, String> {
    db.nodes.get(node).ok_or_else(|| {
        let known: Vec<&str> = db.nodes.keys().map(String::as_str).collect();
        format!("there is no node {node:?}; there are {}", known.join(", "))
    })
}

/// Whether this is one query that begins as a reading one does. The role's lack of rights and the read-only transaction stand
/// behind this; it is here so that a slip is told when the runbook is prepared.
fn reads_only(query: &str) -> Result<(), String> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(format!("a query of {} bytes is longer than {QUERY_BYTES_MAX}", query.len()));
    }
    if query.contains(';') {
        return Err("a check makes one query: leave out the semicolon".into());
    }
    let word: String = query.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    if matches!(word.to_ascii_lowercase().as_str(), "select" | "with" | "values" | "table" | "show") {
        return Ok(());
    }
    Err(format!("a check only reads: a query that begins with {word:?} is not made"))
}

/// Whether PostgreSQL's text for a value is that value.
fn equal(wanted: &Value, answer: Option<&str>) -> bool {
    match (wanted, answer) {
        (Value::Null, answer) => answer.is_none(),
        (_, None) => false,
        (Value::Bool(wanted), Some(answer)) => match answer {
            "t" | "true" | "on" => *wanted,
            "f" | "false" | "off" => !*wanted,
            _ => false,
        },
        (Value::Number(wanted), Some(answer)) => {
            // Whole numbers are compared exactly: a counter beyond 2^53 must not be rounded into passing.
            match (wanted.as_i64(), answer.parse::<i64>()) {
                (Some(wanted), Ok(answer)) => wanted == answer,
                (Some(_), Err(_)) | (None, Ok(_) | Err(_)) => answer.parse::<f64>().is_ok_and(|answer| Some(answer) == wanted.as_f64()),
            }
        }
        (Value::String(wanted), Some(answer)) => wanted == answer,
        (Value::Array(_) | Value::Object(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_compared_as_what_it_is() {
        for (wanted, answer, same) in [
            (json!(true), Some("t"), true),
            (json!(true), Some("f"), false),
            (json!(true), Some("yes, quite"), false),
            (json!(false), Some("f"), true),
            (json!(null), None, true),
            (json!(null), Some(""), false),
            (json!(""), None, false),
            (json!(3), Some("3"), true),
            (json!(3), Some("3.0"), true),
            (json!(9_007_199_254_740_993_i64), Some("9007199254740992"), false),
            (json!(0.5), Some("0.50"), true),
            (json!("a"), Some("a"), true),
            (json!("a"), Some("A"), false),
        ] {
            assert_eq!(equal(&wanted, answer), same, "{wanted} and {answer:?}");
        }
    }

    #[test]
    fn what_does_not_only_read_is_refused() {
        for query in ["select 1", " SELECT now()", "with x as (select 1) select * from x", "show server_version", "values (1)", "table t"] {
            reads_only(query).unwrap();
        }
        for query in
            ["insert into t values (1)", "select 1; drop table t", "begin", "call p()", "", "-- select\ndelete from t", "set x = 1"]
        {
            assert!(reads_only(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_missing_answer_passes_no_bound() {
        let check: SqlCheck =
            serde_json::from_value(json!({ "db": "d", "node": "n", "query": "select 1", "at_least": 3.0, "at_most": 5 })).unwrap();
        assert!(check.judge(Some("3")).is_ok() && check.judge(Some("5")).is_ok());
        for answer in [None, Some("2.9"), Some("5.1"), Some("NaN"), Some("many")] {
            assert!(check.judge(answer).is_err(), "{answer:?}");
        }
        let null: SqlCheck = serde_json::from_value(json!({ "db": "d", "node": "n", "query": "select 1", "equals": null })).unwrap();
        assert_eq!(null.equals, Some(Value::Null));
    }
}
