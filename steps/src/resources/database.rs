//! The `database` resource: one PostgreSQL cluster, its nodes, who logs in, how a node is fenced. No connection is made here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use lifeboat_engine::inventory::Resource;
use lifeboat_engine::secret::SecretRef;
use lifeboat_engine::{BadParameters, Inventory, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One PostgreSQL cluster (14 or later): a primary and its streaming replicas, whichever of them is which today.
///
/// The probe role looks and nothing else: a member of `pg_monitor` that may neither promote, nor run programs, nor write files;
/// preparing a promotion refuses a probe that could. The acting role has `EXECUTE` on `pg_promote`, is a member of
/// `pg_monitor` and `pg_signal_backend`, may write the heartbeat table, and may `ALTER SYSTEM` the parameters
/// `synchronous_standby_names` and `default_transaction_read_only`. Both read timeline histories, either through
/// `EXECUTE` on `pg_read_file(text)` or, better for the probe, through a function `lifeboat.timeline_history(integer)`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The database that holds the heartbeat and takes the write that proves a promotion.
    pub database: String,
    /// The cluster's system identifier, as `pg_control_system()` shows it. Given: any other cluster is refused.
    #[serde(default)]
    #[schemars(regex(pattern = "^[0-9]{1,20}$"))]
    pub system_identifier: Option<String>,
    /// The nodes by name. Addresses are those of the servers themselves: no pooler, no name that may move.
    pub nodes: BTreeMap<String, Node>,
    /// The role that looks.
    pub probe: Login,
    /// The role that acts.
    pub act: Login,
    /// How connections are protected.
    #[serde(default)]
    pub tls: Tls,
    /// PEM file of the authorities that sign the servers' certificates, for `verify-full`. Relative to the inventory.
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    /// Longest wait for a connection, login included.
    #[serde(default = "three_seconds")]
    pub connect_timeout: Period,
    /// Longest wait for the answer to one statement.
    #[serde(default = "five_seconds")]
    pub statement_timeout: Period,
    /// The heartbeat, the best measure of data loss in seconds. Without it loss is measured in bytes and by replay times.
    #[serde(default)]
    pub heartbeat: Option<Heartbeat>,
}

/// One server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name or address of the server itself.
    pub host: String,
    /// Its port.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Where it is.
    #[serde(default)]
    pub region: Option<String>,
    /// Its files, if it runs on the machine where Lifeboat runs.
    #[serde(default)]
    pub local: Option<Local>,
    /// Ways to fence it, strongest first: each is tried until one is proven to have worked.
    #[serde(default)]
    pub fence: Vec<FenceMethod>,
}

/// A server on this machine. Its files are touched as their owner: run Lifeboat as that user, or as root.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The folder of `pg_ctl`, `pg_controldata` and `pg_waldump`: `/usr/lib/postgresql/15/bin`.
    pub bin_dir: PathBuf,
}

/// A way to keep a server from taking writes.
///
/// The first two need `local` and leave `standby.signal` in the data directory, so that the server comes back as a standby, never
/// as a second primary, whoever starts it. To take that back, remove the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FenceMethod {
    /// Stop the local server through `pg_ctl stop`.
    PgCtl(PgCtlStop),
    /// Let the local server run, but refuse every login (a `reject` block on top of `pg_hba.conf`) and end every session.
    Reject(RejectLogins),
    /// Run a program that powers the machine off or cuts its network.
    Command(FenceCommand),
}

/// How a local server is stopped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgCtlStop {
    /// What is tried first. `fast` ships the last WAL to the replicas; if it does not end in time, `immediate` follows.
    #[serde(default)]
    pub mode: StopMode,
    /// Longest wait for each.
    #[serde(default = "ten_seconds")]
    pub timeout: Period,
}

/// As `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopMode {
    /// Sessions end, the last WAL is shipped, a checkpoint is written.
    #[default]
    Fast,
    /// Everything is dropped at once.
    Immediate,
}

/// How logins are refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectLogins {
    /// Longest wait until every session is gone.
    #[serde(default = "ten_seconds")]
    pub timeout: Period,
}

/// A program of the operator's. The programs must be allowed by `policies.programs`; there is never a shell.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceCommand {
    /// Program and arguments. Exit code 0: the action was accepted. It may be run again and must bear that.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// Program and arguments that look. Exit code 0: the machine is proven off. Without it, refused connections and replicas
    /// that lost their stream are the proof; a machine that merely does not answer is not proven off.
    #[serde(default)]
    pub check: Vec<String>,
    /// Longest wait for each.
    #[serde(default = "half_a_minute")]
    pub timeout: Period,
}

/// A role and its password.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
}

/// How connections are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Plain text: for loopback and private wires only.
    #[default]
    Disable,
    /// Encrypted, whoever answers.
    Require,
    /// Encrypted, and the certificate names the host and is signed by `tls_ca`.
    VerifyFull,
}

/// A numbered row that `lifeboat heartbeat` writes, whose acknowledged values are kept outside the database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The table: `lifeboat_heartbeat` or `lifeboat.heartbeat`.
    #[serde(default = "heartbeat_table")]
    pub table: TableName,
    /// The role that writes it.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
    /// Time from one row to the next.
    #[serde(default = "one_second")]
    pub period: Period,
    /// The file of acknowledged values. Relative to the inventory; must not lie on a machine that this database can take with it.
    pub acknowledged: PathBuf,
}

/// A table, with or without its schema: lower-case letters, digits and `_`, so that it needs no quoting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

impl TableName {
    /// As SQL.
    #[must_use]
    pub fn as_sql(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TableName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let name = |part: &str| {
            part.len() <= 63
                && part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() <= 2 && parts.iter().all(|part| name(part)) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no table name: write `table` or `schema.table` in lower-case letters, digits and _"))
        }
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.0
    }
}

impl JsonSchema for TableName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TableName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z_][a-z0-9_]{0,62}(\\.[a-z_][a-z0-9_]{0,62})?$", "description": "`table` or `schema.table`" })
    }
}

fn port() -> u16 {
    5432
}

fn heartbeat_table() -> TableName {
    TableName("lifeboat_heartbeat".into())
}

fn one_second() -> Period {
    Period(Duration::from_secs(1))
}

fn three_seconds() -> Period {
    Period(Duration::from_secs(3))
}

fn five_seconds() -> Period {
    Period(Duration::from_secs(5))
}

fn ten_seconds() -> Period {
    Period(Duration::from_secs(10))
}

fn half_a_minute() -> Period {
    Period(Duration::from_secs(30))
}

impl Database {
    /// With the paths of local servers made absolute: their programs run elsewhere than where the inventory was read.
    #[must_use]
    pub fn rooted(mut self, inventory: &Inventory) -> Self {
        for local in self.nodes.values_mut().filter_map(|node| node.local.as_mut()) {
            for path in [&mut local.data_dir, &mut local.bin_dir] {
                let joined = inventory.path(path);
                *path = std::path::absolute(&joined).unwrap_or(joined);
            }
        }
        self
    }
}

impl Resource for Database {
    const KIND: &'static str = "database";
    const SECTION: &'static str = "databases";

    fn nodes(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    fn check(&self) -> Result<(), BadParameters> {
        let bad = |pointer: String, message: String| Err(BadParameters { pointer, message });
        if self.nodes.is_empty() {
            return bad("/nodes".into(), "a database has at least one node".into());
        }
        let mut addresses = BTreeSet::new();
        for (name, node) in &self.nodes {
            if !addresses.insert((&node.host, node.port)) {
                let message = format!("{}:{} is the address of another node already", node.host, node.port);
                return bad(format!("/nodes/{name}/host"), message);
            }
            for (place, method) in node.fence.iter().enumerate() {
                if let Some(message) = method.trouble(node) {
                    return bad(format!("/nodes/{name}/fence/{place}"), message);
                }
            }
        }
        if self.probe.user == self.act.user {
            let message = "the probe and the acting role are two: what only looks must not be able to promote".into();
            return bad("/probe/user".into(), message);
        }
        if self.tls == Tls::VerifyFull && self.tls_ca.is_none() {
            return bad("/tls".into(), "verify-full needs tls_ca, the file of the authorities to trust".into());
        }
        if self.system_identifier.as_ref().is_some_and(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit())) {
            return bad("/system_identifier".into(), "a system identifier is a whole number, in quotes".into());
        }
        Ok(())
    }
}

impl FenceMethod {
    /// What journals and people call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PgCtl(_) => "pg_ctl",
            Self::Reject(_) => "reject",
            Self::Command(_) => "command",
        }
    }

    fn trouble(&self, node: &Node) -> Option<String> {
        match self {
            Self::PgCtl(_) | Self::Reject(_) => {
                node.local.is_none().then(|| format!("{} needs `local`, the server's files on this machine", self.name()))
            }
            Self::Command(command) => [&command.run, &command.check].into_iter().find_map(|words| match words.first() {
                Some(program) if !program.starts_with('/') => Some(format!("{program:?} is not an absolute path")),
                Some(_) => None,
                None => std::ptr::eq(words, &command.run).then(|| "`run` names no program".to_owned()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn database(change: impl FnOnce(&mut Value)) -> Value {
        let mut value = json!({
            "database": "orders",
            "nodes": { "a": { "host": "127.0.0.1" }, "b": { "host": "127.0.0.2", "port": 5433 } },
            "probe": { "user": "p", "password": "env:P" },
            "act": { "user": "a", "password": "file:a" },
        });
        change(&mut value);
        value
    }

    fn trouble(value: Value) -> String {
        match serde_json::from_value::<Database>(value) {
            Err(error) => error.to_string(),
            Ok(database) => database.check().unwrap_err().message,
        }
    }

    #[test]
    fn a_small_database_is_enough() {
        let database: Database = serde_json::from_value(database(|_| {})).unwrap();
        database.check().unwrap();
        assert_eq!(database.nodes(), ["a", "b"]);
        assert_eq!(database.nodes["a"].port, 5432);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        assert!(trouble(database(|v| v["nodes"]["b"] = json!({ "host": "127.0.0.1" }))).contains("another node already"));
        assert!(trouble(database(|v| v["act"]["user"] = json!("p"))).contains("must not be able to promote"));
        assert!(trouble(database(|v| v["tls"] = json!("verify-full"))).contains("tls_ca"));
        assert!(trouble(database(|v| v["nodes"]["a"]["fence"] = json!([{ "pg_ctl": {} }]))).contains("needs `local`"));
        assert!(trouble(database(|v| v["nodes"]["a"]["fence"] = json!([{ "command": { "run": ["off"] } }]))).contains("absolute"));
        assert!(trouble(database(|v| v["nodes"]["a"]["fence"] = json!([{ "command": { "run": [] } }]))).contains("no program"));
        assert!(trouble(database(|v| v["nodes"]["a"]["colour"] = json!("red"))).contains("unknown field `colour`"));
        assert!(trouble(database(|v| v["probe"]["password"] = json!("hunter2"))).contains("never by its value"));
        let table = json!({ "user": "h", "password": "env:H", "acknowledged": "x", "table": "x; drop table y" });
        assert!(trouble(database(|v| v["heartbeat"] = table)).contains("no table name"));
    }
}
