//! The kinds of check: their parameters, and one making of each. Counting and time are in the step.

use std::fmt;
use std::time::Duration;

use lifeboat_engine::{Period, ReadContext};
use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::path;
use super::sql::SqlCheck;
use crate::clients::http::{self, Body, Hosts};
use crate::clients::tcp;

/// One thing that must hold.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A web address answers as wanted.
    Http(HttpCheck),
    /// A query answers as wanted.
    Sql(SqlCheck),
    /// A port accepts connections.
    Tcp(TcpCheck),
    /// Every authoritative server of a record serves a target.
    Dns(DnsCheck),
}

/// A web address answers as wanted. Redirects are answers, and are not followed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The address.
    pub url: String,
    /// A DNS record whose own servers are asked for the address to connect to, instead of the machine's resolver.
    #[serde(default)]
    #[schemars(extend("x-lifeboat-resource" = "dns-record"))]
    pub through: Option<String>,
    /// The wanted status, or a list of good ones.
    #[serde(default)]
    pub status: Statuses,
    /// Text that must be in the answer's first mebibyte.
    #[serde(default)]
    pub contains: Option<String>,
    /// How often it must pass in a row.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: u32,
    /// Slower answers do not pass.
    #[serde(default)]
    pub latency_max: Option<Period>,
    /// How long one answer is waited for.
    #[serde(default = "three_seconds")]
    pub timeout: Period,
}

/// A port accepts connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {
    /// The host, by name or address. Left out where `through` is given.
    #[serde(default)]
    pub host: Option<String>,
    /// A DNS record whose own servers are asked for the address.
    #[serde(default)]
    #[schemars(extend("x-lifeboat-resource" = "dns-record"))]
    pub through: Option<String>,
    /// The port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// How often it must pass in a row.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: u32,
    /// Slower connections do not pass.
    #[serde(default)]
    pub latency_max: Option<Period>,
    /// How long one connection is waited for.
    #[serde(default = "three_seconds")]
    pub timeout: Period,
}

/// Every authoritative server of a record serves a target.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsCheck {
    /// The record.
    #[schemars(extend("x-lifeboat-resource" = "dns-record"))]
    pub record: String,
    /// The target it must point at.
    #[schemars(extend("x-lifeboat-node-of" = "record"))]
    pub to: String,
    /// How often it must pass in a row.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: u32,
}

pub(super) fn once() -> u32 {
    1
}

fn three_seconds() -> Period {
    Period(Duration::from_secs(3))
}

impl Check {
    /// Names of the resources it looks at.
    pub(super) fn resources(&self) -> Vec<String> {
        match self {
            Self::Http(check) => check.through.iter().cloned().collect(),
            Self::Sql(check) => check.resources(),
            Self::Tcp(check) => check.through.iter().cloned().collect(),
            Self::Dns(check) => vec![check.record.clone()],
        }
    }

    pub(super) fn consecutive(&self) -> u32 {
        match self {
            Self::Http(check) => check.consecutive,
            Self::Sql(check) => check.consecutive,
            Self::Tcp(check) => check.consecutive,
            Self::Dns(check) => check.consecutive,
        }
    }

    fn latency_max(&self) -> Option<Period> {
        match self {
            Self::Http(check) => check.latency_max,
            Self::Sql(check) => check.latency_max,
            Self::Tcp(check) => check.latency_max,
            Self::Dns(_) => None,
        }
    }

    /// Whether that was quick enough.
    pub(super) fn in_time(&self, latency: Duration) -> Result<(), String> {
        match self.latency_max() {
            Some(max) if latency > max.0 => Err(format!("it took {} ms, more than {max}", latency.as_millis())),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it can be made at all. Asks nobody.
    pub(super) fn prepare(&self, cx: &ReadContext) -> Result<(), String> {
        match self {
            Self::Http(check) => {
                http::address(&check.url)?;
                check.through.as_deref().map_or(Ok(()), |record| path::usable(cx, record))
            }
            Self::Sql(check) => check.prepare(cx),
            Self::Tcp(check) => match (&check.host, &check.through) {
                (Some(_), None) => Ok(()),
                (None, Some(record)) => path::usable(cx, record),
                (None, None) | (Some(_), Some(_)) => Err("give either `host` or `through`".into()),
            },
            Self::Dns(check) => path::resource(cx, &check.record)?.wanted(&check.to).map(|_| ()),
        }
    }

    /// Makes it once: what was found, or why it does not pass.
    pub(super) async fn make(&self, cx: &ReadContext) -> Result<String, String> {
        match self {
            Self::Http(check) => check.make(cx).await,
            Self::Sql(check) => check.make(cx).await,
            Self::Tcp(check) => check.make(cx).await,
            Self::Dns(check) => check.make(cx).await,
        }
    }
}

impl HttpCheck {
    async fn make(&self, cx: &ReadContext) -> Result<String, String> {
        let url = http::address(&self.url)?;
        let hosts = match &self.through {
            Some(record) => {
                let port = url.port_or_known_default().ok_or("the web address has no port")?;
                Hosts::Pinned(path::addresses(cx, record, port).await?)
            }
            None => Hosts::Resolver,
        };
        let body = if self.contains.is_some() { Body::Read } else { Body::Ignored };
        let answer = http::get(cx, &url, hosts, self.timeout.0, body).await?;
        if !self.status.contains(answer.status) {
            return Err(format!("status {} instead of {}", answer.status, self.status));
        }
        match &self.contains {
            Some(wanted) if !answer.body.contains(wanted) => {
                Err(format!("status {}, but the answer does not contain {wanted:?}", answer.status))
            }
            Some(_) | None => Ok(format!("status {}", answer.status)),
        }
    }
}

impl TcpCheck {
    async fn make(&self, cx: &ReadContext) -> Result<String, String> {
        let addresses = match (&self.host, &self.through) {
            (Some(host), None) => tcp::addresses(host, self.port).await?,
            (None, Some(record)) => path::addresses(cx, record, self.port).await?,
            (None, None) | (Some(_), Some(_)) => return Err("give either `host` or `through`".into()),
        };
        tcp::connect(cx, &addresses, self.timeout.0).await.map(|(_, address)| format!("{address} accepts connections"))
    }
}

impl DnsCheck {
    async fn make(&self, cx: &ReadContext) -> Result<String, String> {
        let record = path::resource(cx, &self.record)?;
        let wanted = record.wanted(&self.to)?;
        match path::agreed(cx, &record).await? {
            Some(set) if set.same_values(&wanted) => Ok(set.to_string()),
            set => Err(format!("{} is {}, not {wanted}", record.name, crate::clients::dns::in_words(set.as_ref()))),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(check) => write!(f, "{} answers {}{}", check.url, check.status, Times(check.consecutive)),
            Self::Sql(check) => {
                let place = check.node.as_deref().or(check.through.as_deref()).unwrap_or("nothing");
                write!(f, "{:?} at {} through {place} answers as wanted{}", check.query, check.db, Times(check.consecutive))
            }
            Self::Tcp(check) => {
                let place = check.host.as_deref().or(check.through.as_deref()).unwrap_or("nothing");
                write!(f, "{place} accepts connections on port {}{}", check.port, Times(check.consecutive))
            }
            Self::Dns(check) => write!(f, "every server of {} points at {}{}", check.record, check.to, Times(check.consecutive)),
        }
    }
}

/// ` 3 times in a row`, or nothing for once.
struct Times(u32);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(f, " {} times in a row", self.0) } else { Ok(()) }
    }
}

/// Good HTTP statuses: one number, or a list. 200 where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Statuses(Vec<u16>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200])
    }
}

impl Statuses {
    fn contains(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&all.join(" or "))
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Statuses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an HTTP status from 100 to 599, or a list of them")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Statuses, E> {
                match u16::try_from(number) {
                    Ok(status @ 100..=599) => Ok(Statuses(vec![status])),
                    Ok(_) | Err(_) => Err(E::custom(format!("{number} is no HTTP status (100 to 599)"))),
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Statuses, E> {
                self.visit_u64(u64::try_from(number).unwrap_or(0))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Statuses, A::Error> {
                let mut all = Vec::new();
                while let Some(number) = list.next_element::<u64>()? {
                    all.extend(self.visit_u64::<A::Error>(number)?.0);
                }
                if all.is_empty() { Err(de::Error::custom("an empty list of statuses: nothing would pass")) } else { Ok(Statuses(all)) }
            }
        }
        impl Copy for OneOrMore {}
        impl Clone for OneOrMore {
            fn clone(&self) -> Self {
                *self
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = serde_json::json!({ "type": "integer", "minimum": 100, "maximum": 599 });
        schemars::json_schema!({ "oneOf": [one, { "type": "array", "minItems": 1, "items": one }] })
    }
}
