//! Where journals are kept, as the inventory says it: in the data folder, or in an etcd cluster that several machines share. Only the
//! words and their limits; opening happens where the real parts are built.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use lifeboat_runbooks::catalog::BadParameters;
use lifeboat_runbooks::duration::Period;

/// Shortest and longest lease: below, one slow election costs a run its process; above, a successor waits too long in a disaster.
const LEASE_MIN: Duration = Duration::from_secs(5);
const LEASE_MAX: Duration = Duration::from_secs(300);

/// Where journals are kept. Without it: in the data folder, on one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreChoice {
    /// In an etcd cluster, so that several machines can drive runs and one can take over from another.
    #[serde(default)]
    pub etcd: Option<EtcdChoice>,
}

/// An etcd cluster: three members or five, each in a place that fails apart from the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdChoice {
    /// The client addresses of all members, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// What all keys begin with; ends with `/`. `/lifeboat/` where it is left out.
    #[serde(default)]
    pub prefix: Option<String>,
    /// How long a process holds a run without renewing: 15 s where it is left out, 5 s to 5 min.
    #[serde(default)]
    pub lease: Option<Period>,
    /// Certificates that the members' own must come from, as a PEM file. Needed for `https://`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our certificate, as a PEM file.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key, as PEM.
    #[serde(default)]
    pub key: Option<SecretRef>,
    /// The name of an etcd user.
    #[serde(default)]
    pub user: Option<String>,
    /// That user's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// Who accepts members whose reads may be stale (etcd issue 20418: 3.4.20 to 3.4.41, 3.5.0 to 3.5.27, 3.6.0 to 3.6.8), and why.
    /// Such members are refused without it; with it, these words are shown by `status`.
    #[serde(default)]
    pub accept_stale_reads: Option<String>,
    /// The members' `--max-txn-ops`, where it is not 128.
    #[serde(default)]
    pub txn_ops_max: Option<u32>,
    /// The members' `--max-request-bytes`, where it is not 1572864.
    #[serde(default)]
    pub request_bytes_max: Option<u32>,
}

impl StoreChoice {
    /// What the types of the fields cannot say.
    pub(super) fn check(&self, problems: &mut Vec<BadParameters>) {
        let Some(etcd) = &self.etcd else { return };
        let mut bad = |field: &str, message: String| problems.push(BadParameters { pointer: format!("/store/etcd{field}"), message });
        if etcd.endpoints.is_empty() {
            bad("/endpoints", "name the client address of every member, for example http://10.0.0.1:2379".into());
        }
        for (place, endpoint) in etcd.endpoints.iter().enumerate() {
            let secure = endpoint.starts_with("https://");
            if !secure && !endpoint.starts_with("http://") {
                bad(&format!("/endpoints/{place}"), format!("{endpoint:?} is no address: begin it with http:// or https://"));
            } else if secure != etcd.ca.is_some() {
                let message = if secure { "https:// needs `ca`" } else { "with `ca` every address begins with https://" };
                bad(&format!("/endpoints/{place}"), message.into());
            }
        }
        if etcd.prefix.as_ref().is_some_and(|prefix| !prefix.ends_with('/')) {
            bad("/prefix", "a prefix ends with /, or another store could begin with the same letters".into());
        }
        if etcd.lease.is_some_and(|lease| lease.0 < LEASE_MIN || lease.0 > LEASE_MAX) {
            bad("/lease", format!("a lease lasts {} to {}", Period(LEASE_MIN), Period(LEASE_MAX)));
        }
        if etcd.user.is_some() != etcd.password.is_some() {
            bad("", "`user` and `password` go together".into());
        }
        if etcd.certificate.is_some() != etcd.key.is_some() {
            bad("", "`certificate` and `key` go together".into());
        }
        if etcd.accept_stale_reads.as_ref().is_some_and(|why| why.trim().len() < 10) {
            bad("/accept_stale_reads", "say who accepts it and why: these words are shown to everybody who looks at a run".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(etcd: serde_json::Value) -> Vec<String> {
        let choice: StoreChoice = serde_json::from_value(json!({ "etcd": etcd })).unwrap();
        let mut problems = Vec::new();
        choice.check(&mut problems);
        problems.into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn a_cluster_that_cannot_be_meant_is_told_at_its_place() {
        assert_eq!(problems(json!({ "endpoints": ["http://a:2379"] })), Vec::<String>::new());
        let secure =
            json!({ "endpoints": ["https://a:2379"], "ca": "ca.pem", "certificate": "me.pem", "key": "file:me.key", "lease": "30s" });
        assert_eq!(problems(secure), Vec::<String>::new());
        for (etcd, pointer) in [
            (json!({ "endpoints": [] }), "/store/etcd/endpoints"),
            (json!({ "endpoints": ["a:2379"] }), "/store/etcd/endpoints/0"),
            (json!({ "endpoints": ["http://a:1", "https://b:1"] }), "/store/etcd/endpoints/1"),
            (json!({ "endpoints": ["http://a:1"], "ca": "ca.pem" }), "/store/etcd/endpoints/0"),
            (json!({ "endpoints": ["http://a:1"], "prefix": "/life" }), "/store/etcd/prefix"),
            (json!({ "endpoints": ["http://a:1"], "lease": "1s" }), "/store/etcd/lease"),
            (json!({ "endpoints": ["http://a:1"], "lease": "1h" }), "/store/etcd/lease"),
            (json!({ "endpoints": ["http://a:1"], "user": "ann" }), "/store/etcd"),
            (json!({ "endpoints": ["http://a:1"], "key": "file:me.key" }), "/store/etcd"),
            (json!({ "endpoints": ["http://a:1"], "accept_stale_reads": "yes" }), "/store/etcd/accept_stale_reads"),
        ] {
            assert_eq!(problems(etcd.clone()), [pointer], "{etcd}");
        }
    }
}
