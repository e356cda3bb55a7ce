//! The `dns-record` kind of resource: one name, what it may point at, and who changes it. Changing it is in `update_dns`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lifeboat_engine::inventory::{BadParameters, Resource};
use lifeboat_engine::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::dns::{RecordKind, RecordSet, full_name};

/// A DNS record that a runbook may move from one target to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsRecord {
    /// Its full name: `db.orders.example.com.`
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// How long answers may be cached, in seconds. Lowering it during a failover does nothing for answers given out before.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 0, max = 86400))]
    pub ttl: u32,
    /// Values by the name of the target, usually a region. Nothing else is ever written, except a former set put back by an undo.
    #[schemars(extend("minProperties" = 1))]
    pub targets: BTreeMap<String, Vec<String>>,
    /// Changed by signed dynamic updates (BIND, Knot, PowerDNS, Windows).
    #[serde(default)]
    pub rfc2136: Option<Rfc2136>,
    /// Changed through Amazon Route 53.
    #[serde(default)]
    pub route53: Option<Route53>,
}

/// Largest TTL that may be written, in seconds: a day. A longer one would hold clients at the old place after the next failover.
pub const TTL_SECONDS_MAX: u32 = 86_400;

/// Most values of one target. More do not fit an answer over UDP.
pub const VALUES_MAX: usize = 24;

/// Most authoritative servers of one zone.
pub const SERVERS_MAX: usize = 32;

fn a_minute() -> u32 {
    60
}

/// Who takes dynamic updates for the record's zone, and who must have seen them before the change counts as proven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rfc2136 {
    /// The zone: `orders.example.com.`
    pub zone: String,
    /// The primary authoritative server, which takes updates: an IP address, with a port where it is not 53.
    pub primary: ServerAddress,
    /// Every authoritative server of the zone. Left out: those that the primary names in the zone's NS records.
    #[serde(default)]
    pub servers: Vec<ServerAddress>,
    /// How many of them may stay silent, for example because they stood in the region that is lost. One that answers with
    /// something old is never overlooked.
    #[serde(default)]
    pub silent_servers_max: u32,
    /// The key that signs updates.
    pub tsig: Tsig,
}

/// A TSIG key (RFC 8945).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tsig {
    /// Its name, as the server knows it.
    pub name: String,
    /// How it signs.
    #[serde(default)]
    pub algorithm: TsigAlgorithm,
    /// Where the key is, in base64.
    pub secret: SecretRef,
}

/// How a TSIG key signs. Older algorithms are not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// A hosted zone of Amazon Route 53, pinned to its account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route53 {
    /// The hosted zone's id: `Z0123456789ABCDEFGHIJ`.
    pub zone_id: String,
    /// The hosted zone's name: `orders.example.com.`; the change is refused where the id belongs to another name.
    pub zone: String,
    /// The account that must own the credentials. A change under another account is refused.
    pub account_id: String,
    /// Region of the regional STS endpoint that confirms the account.
    pub region: String,
    /// The access key.
    pub credentials: AwsCredentials,
    /// How the record is routed.
    #[serde(default)]
    pub routing: Routing,
    /// Another endpoint than Amazon's, for tests.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// How often the change is asked about, in seconds. Amazon asks for 5 or more; less only for tests with `endpoint`.
    #[serde(default = "five")]
    pub poll_seconds: u32,
}

fn five() -> u32 {
    5
}

/// Where an AWS access key is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsCredentials {
    /// The access key's id.
    pub access_key_id: SecretRef,
    /// The secret access key.
    pub secret_access_key: SecretRef,
    /// The session token, for temporary keys.
    #[serde(default)]
    pub session_token: Option<SecretRef>,
}

/// How Route 53 chooses between the records of one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Routing {
    /// One record; moving it replaces its values with those of the target.
    #[default]
    Simple,
    /// One record for each target, told apart by its SetIdentifier; moving gives the target all the weight.
    Weighted {
        /// SetIdentifier by target.
        identifiers: BTreeMap<String, String>,
        /// Weight of the chosen target, 1 to 255; the others get 0.
        #[serde(default = "full_weight")]
        weight: u8,
    },
    /// A PRIMARY and a SECONDARY record; moving exchanges their places.
    Failover {
        /// SetIdentifier by target; exactly two.
        identifiers: BTreeMap<String, String>,
    },
}

fn full_weight() -> u8 {
    255
}

/// An IP address with an optional port (53 where left out). A host name is not taken: finding a DNS server must not need DNS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerAddress(pub SocketAddr);

impl TryFrom<String> for ServerAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(address, 53)));
        }
        text.parse::<SocketAddr>()
            .map(Self)
            .map_err(|_| format!("{text:?} is no server address: write an IP address, with a port where it is not 53 (192.0.2.53:5353)"))
    }
}

impl From<ServerAddress> for String {
    fn from(address: ServerAddress) -> Self {
        address.0.to_string()
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for ServerAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServerAddress".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "An IP address, with a port where it is not 53" })
    }
}

/// Who changes a record.
#[derive(Clone, Copy, Debug)]
pub enum Provider<'a> {
    /// Dynamic updates.
    Rfc2136(&'a Rfc2136),
    /// Amazon Route 53.
    Route53(&'a Route53),
}

impl DnsRecord {
    /// Who changes it.
    ///
    /// # Errors
    /// Where the inventory names none or two (the inventory's own check refuses that too).
    pub fn provider(&self) -> Result<Provider<'_>, String> {
        match (&self.rfc2136, &self.route53) {
            (Some(zone), None) => Ok(Provider::Rfc2136(zone)),
            (None, Some(zone)) => Ok(Provider::Route53(zone)),
            (None, None) => Err(format!("nothing says who changes {}: give rfc2136 or route53", self.name)),
            (Some(_), Some(_)) => Err(format!("{} has both rfc2136 and route53: give the one that serves it", self.name)),
        }
    }

    /// The set that a target stands for.
    ///
    /// # Errors
    /// Where there is no such target, or its values do not fit.
    pub fn wanted(&self, target: &str) -> Result<RecordSet, String> {
        let values = self.targets.get(target).ok_or_else(|| {
            let known: Vec<&str> = self.targets.keys().map(String::as_str).collect();
            format!("{} has no target {target:?}; it has {}", self.name, known.join(", "))
        })?;
        RecordSet::new(self.kind, self.ttl, values)
    }
}

fn bad(pointer: impl Into<String>, message: impl Into<String>) -> BadParameters {
    BadParameters { pointer: pointer.into(), message: message.into() }
}

impl Resource for DnsRecord {
    const KIND: &'static str = "dns-record";
    const SECTION: &'static str = "dns-records";

    fn nodes(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }

    fn check(&self) -> Result<(), BadParameters> {
        let name = full_name(&self.name).map_err(|why| bad("/name", why))?;
        if self.ttl > TTL_SECONDS_MAX {
            return Err(bad("/ttl", format!("{} s is longer than a day: clients would stay at the old place that long", self.ttl)));
        }
        if self.targets.is_empty() {
            return Err(bad("/targets", "a record needs at least one target"));
        }
        for (target, values) in &self.targets {
            let pointer = format!("/targets/{}", target.replace('~', "~0").replace('/', "~1"));
            if values.len() > VALUES_MAX {
                return Err(bad(pointer, format!("{} values are more than {VALUES_MAX}", values.len())));
            }
            if self.kind == RecordKind::Cname && values.len() != 1 {
                return Err(bad(pointer, format!("a CNAME points at exactly one name, not {}", values.len())));
            }
            RecordSet::new(self.kind, self.ttl, values).map_err(|why| bad(pointer, why))?;
        }
        let zone = match self.provider().map_err(|why| bad("", why))? {
            Provider::Rfc2136(server) => {
                check_rfc2136(server)?;
                ("/rfc2136/zone", &server.zone)
            }
            Provider::Route53(hosted) => {
                check_route53(hosted, &self.targets)?;
                ("/route53/zone", &hosted.zone)
            }
        };
        let apex = full_name(zone.1).map_err(|why| bad(zone.0, why))?;
        if !apex.zone_of(&name) {
            return Err(bad(zone.0, format!("{} is not inside the zone {apex}", self.name)));
        }
        if self.kind == RecordKind::Cname && apex == name {
            return Err(bad("/type", format!("{name} is the top of its zone, where a CNAME is not allowed (RFC 1034, 3.6.2)")));
        }
        Ok(())
    }
}

fn check_rfc2136(server: &Rfc2136) -> Result<(), BadParameters> {
    full_name(&server.tsig.name).map_err(|why| bad("/rfc2136/tsig/name", why))?;
    if server.servers.len() > SERVERS_MAX {
        return Err(bad("/rfc2136/servers", format!("{} servers are more than {SERVERS_MAX}", server.servers.len())));
    }
    if !server.servers.is_empty() && server.silent_servers_max as usize >= server.servers.len() {
        return Err(bad("/rfc2136/silent_servers_max", "at least one server must answer, or nothing is proven"));
    }
    Ok(())
}

fn check_route53(hosted: &Route53, targets: &BTreeMap<String, Vec<String>>) -> Result<(), BadParameters> {
    if hosted.zone_id.is_empty() || hosted.zone_id.len() > 32 || !hosted.zone_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(bad(
            "/route53/zone_id",
            format!("{:?} is no hosted zone id (letters and digits, without /hostedzone/)", hosted.zone_id),
        ));
    }
    if hosted.account_id.len() != 12 || !hosted.account_id.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("/route53/account_id", format!("{:?} is no AWS account id (12 digits, in quotes)", hosted.account_id)));
    }
    if hosted.endpoint.is_none() && hosted.poll_seconds < five() {
        return Err(bad("/route53/poll_seconds", "Route 53 allows 5 calls a second for the whole account: ask every 5 s or less often"));
    }
    let identifiers = match &hosted.routing {
        Routing::Simple => return Ok(()),
        Routing::Weighted { identifiers, weight } => {
            if *weight == 0 {
                return Err(bad("/route53/routing/weighted/weight", "with weight 0 everywhere, Route 53 spreads clients over all records"));
            }
            identifiers
        }
        Routing::Failover { identifiers } => {
            if identifiers.len() != 2 {
                return Err(bad(
                    "/route53/routing/failover/identifiers",
                    "failover routing has exactly one PRIMARY and one SECONDARY: name two targets",
                ));
            }
            identifiers
        }
    };
    for (target, identifier) in identifiers {
        if !targets.contains_key(target) {
            return Err(bad("/route53/routing", format!("{target:?} is no target of this record")));
        }
        if identifier.is_empty() || identifier.len() > 128 {
            return Err(bad("/route53/routing", format!("the SetIdentifier of {target:?} must have 1 to 128 characters")));
        }
    }
    if let Some(target) = targets.keys().find(|target| !identifiers.contains_key(*target)) {
        return Err(bad("/route53/routing", format!("target {target:?} has no SetIdentifier")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lab() -> Value {
        json!({
            "name": "db.orders.lab.", "type": "A", "ttl": 1,
            "targets": { "us-east-1": ["127.0.0.11"], "us-west-2": ["127.0.0.12"] },
            "rfc2136": {
                "zone": "orders.lab.", "primary": "127.0.0.1:5353", "servers": ["127.0.0.1:5353", "127.0.0.1:5354"],
                "tsig": { "name": "lifeboat-key", "algorithm": "hmac-sha256", "secret": "file:secrets/tsig" },
            },
        })
    }

    fn read(value: Value) -> Result<DnsRecord, String> {
        let record: DnsRecord = serde_json::from_value(value).map_err(|error| error.to_string())?;
        record.check().map_err(|bad| format!("{}: {}", bad.pointer, bad.message))?;
        Ok(record)
    }

    #[test]
    fn the_lab_record_is_accepted_and_names_its_targets() {
        let record = read(lab()).unwrap();
        assert_eq!(record.nodes(), ["us-east-1", "us-west-2"]);
        assert_eq!(record.wanted("us-west-2").unwrap().to_string(), "127.0.0.12 (TTL 1 s)");
        assert!(record.wanted("mars").unwrap_err().contains("it has us-east-1, us-west-2"));
    }

    #[test]
    fn a_port_is_53_where_none_is_written_and_names_are_refused() {
        assert_eq!(ServerAddress::try_from("192.0.2.1".to_owned()).unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(ServerAddress::try_from("[2001:db8::1]".to_owned()).unwrap().to_string(), "[2001:db8::1]:53");
        assert_eq!(ServerAddress::try_from("[2001:db8::1]:54".to_owned()).unwrap().to_string(), "[2001:db8::1]:54");
        assert!(ServerAddress::try_from("ns1.orders.lab:53".to_owned()).unwrap_err().contains("IP address"));
    }

    #[test]
    fn each_slip_of_the_pen_is_named() {
        let slips: [(&str, Value, &str); 9] = [
            ("/targets/us-east-1", json!([]), "empty the name"),
            ("/targets/us-east-1", json!(["999.1.1.1"]), "IPv4"),
            ("/targets/us-east-1", json!(["127.0.0.1", "127.0.0.1"]), "twice"),
            ("/name", json!("db.other.lab."), "not inside the zone"),
            ("/name", json!("a..b"), "no domain name"),
            ("/ttl", json!(86_401), "longer than a day"),
            ("/type", json!("CNAME"), "top of its zone"),
            ("/rfc2136/silent_servers_max", json!(2), "at least one server must answer"),
            ("/rfc2136/tsig/secret", json!("c2VjcmV0"), "never by its value"),
        ];
        for (pointer, value, words) in slips {
            let mut record = lab();
            if pointer == "/type" {
                record["name"] = json!("orders.lab.");
                record["targets"] = json!({ "us-east-1": ["x.lab."] });
            }
            if let Some(field) = record.pointer_mut(pointer) {
                *field = value;
            } else {
                record["rfc2136"]["silent_servers_max"] = value;
            }
            let why = read(record).expect_err(pointer);
            assert!(why.contains(words), "{pointer}: {why}");
        }
    }
}
