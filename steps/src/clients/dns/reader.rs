//! Asking one server what it serves itself (no recursion, no cache). Nothing here can change anything.
#![expect(clippy::wildcard_enum_match_arm, reason = "the record types and codes of DNS are not ours, and the list of them grows")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use lifeboat_engine::ReadContext;

use super::set::{RecordKind, RecordSet};
use super::updater::Signer;
use super::wire::{self, WireError};

/// Longest wait for one answer over TCP.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A question that was not answered, or not with an answer that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Nothing came back.
    #[error("DNS server {server} does not answer: {why}")]
    Silent {
        /// Which.
        server: SocketAddr,
        /// What happened.
        why: String,
    },
    /// It answered that it will not or cannot say.
    #[error("DNS server {server} answered {code} when asked for {what}")]
    Refused {
        /// Which.
        server: SocketAddr,
        /// `REFUSED`, `SERVFAIL`.
        code: String,
        /// What was asked.
        what: String,
    },
    /// It answered from somewhere else than its own zone data.
    #[error("DNS server {server} is not authoritative for {what}")]
    NotAuthoritative {
        /// Which.
        server: SocketAddr,
        /// What was asked.
        what: String,
    },
    /// Its answer is no DNS message, or not to what was asked.
    #[error("DNS server {server} gave an answer that cannot be read: {why}")]
    Malformed {
        /// Which.
        server: SocketAddr,
        /// Why.
        why: String,
    },
    /// It does not accept the key.
    #[error("DNS server {server} does not accept the key {key}: {why}")]
    KeyRefused {
        /// Which.
        server: SocketAddr,
        /// The key's name.
        key: String,
        /// Why.
        why: String,
    },
}

/// What a server serves at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The set of the kind asked for.
    pub set: Option<RecordSet>,
    /// A CNAME standing there instead.
    pub alias: Option<String>,
}

/// A server's view of its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The SOA serial.
    pub serial: u32,
    /// How long "there is no such record" may be cached, in seconds: the lower of the SOA's TTL and minimum (RFC 2308).
    pub negative_ttl_seconds: u32,
}

/// Asks servers. Made from the right to look.
#[derive(Clone, Debug)]
pub struct Reader {
    cx: ReadContext,
}

impl Reader {
    /// A reader for this call.
    #[must_use]
    pub fn new(cx: &ReadContext) -> Self {
        Self { cx: cx.clone() }
    }

    /// The set at a name, as this server has it in its own zone data.
    ///
    /// # Errors
    /// Where it does not say, or is not authoritative.
    pub async fn set(&self, server: SocketAddr, name: &Name, kind: RecordKind) -> Result<Seen, DnsError> {
        let answer = self.ask(server, name, kind.wire()).await?;
        let set = RecordSet::among(&answer.answers, name, kind);
        let alias = match kind {
            RecordKind::Cname => None,
            RecordKind::A | RecordKind::Aaaa => {
                RecordSet::among(&answer.answers, name, RecordKind::Cname).and_then(|set| set.values.into_iter().next())
            }
        };
        Ok(Seen { set, alias })
    }

    /// Whether the server has any record of this type at the name.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub async fn has(&self, server: SocketAddr, name: &Name, wanted: RecordType) -> Result<Presence, DnsError> {
        let answer = self.ask(server, name, wanted).await?;
        let found = answer.answers.iter().any(|record| record.name == *name && record.record_type() == wanted);
        Ok(if found { Presence::There } else { Presence::Absent })
    }

    /// The zone's serial.
    ///
    /// # Errors
    /// As [`Self::set`]; also where it serves no such zone.
    pub async fn zone(&self, server: SocketAddr, zone: &Name) -> Result<Zone, DnsError> {
        let answer = self.ask(server, zone, RecordType::SOA).await?;
        let soa = answer.answers.iter().filter(|record| record.name == *zone).find_map(|record| match &record.data {
            RData::SOA(soa) => Some(Zone { serial: soa.serial, negative_ttl_seconds: soa.minimum.min(record.ttl) }),
            _ => None,
        });
        soa.ok_or_else(|| DnsError::NotAuthoritative { server, what: format!("the zone {zone}") })
    }

    /// Addresses of the zone's name servers, as this server names them.
    ///
    /// # Errors
    /// As [`Self::set`]. A name server whose address this server does not know is left to the caller by name.
    pub async fn name_servers(&self, server: SocketAddr, zone: &Name) -> Result<(Vec<IpAddr>, Vec<String>), DnsError> {
        let answer = self.ask(server, zone, RecordType::NS).await?;
        let names: Vec<Name> =
            answer.answers.iter().filter_map(|record| if let RData::NS(ns) = &record.data { Some(ns.0.clone()) } else { None }).collect();
        let (mut addresses, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            let known = addresses.len();
            for kind in [RecordType::A, RecordType::AAAA] {
                // Only what the zone itself knows: finding a server of another zone would need a resolver that may be gone too.
                let Ok(found) = self.ask(server, &name, kind).await else {
                    continue;
                };
                addresses.extend(found.answers.iter().filter(|record| record.name == name).filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                }));
            }
            if addresses.len() == known {
                unknown.push(name.to_ascii());
            }
        }
        Ok((addresses, unknown))
    }

    /// Asks with a signature, which proves that the server knows the key and that both clocks agree. Changes nothing.
    ///
    /// # Errors
    /// Where it does not accept the key.
    pub async fn prove_key(&self, server: SocketAddr, zone: &Name, signer: &Signer) -> Result<(), DnsError> {
        let mut message = question(zone, RecordType::SOA);
        let mut verifier =
            signer.sign(&mut message, self.cx.now()).map_err(|why| DnsError::KeyRefused { server, key: signer.key_name(), why })?;
        let bytes = encode(server, &message)?;
        let answer = wire::stream(server, &bytes, self.limit()).await.map_err(|error| silent(server, error))?;
        let decoded = decode(server, &answer)?;
        let refused = |why: String| DnsError::KeyRefused { server, key: signer.key_name(), why };
        if let Some(why) = signer.complaint(&decoded, self.cx.now()) {
            return Err(refused(why));
        }
        check_code(server, &decoded, &format!("{zone} SOA"))?;
        verifier.verify(&answer).map(|_| ()).map_err(|error| refused(format!("its answer is not signed by that key ({error})")))
    }

    fn limit(&self) -> Duration {
        ANSWER_TIMEOUT.min(self.cx.time_left())
    }

    async fn ask(&self, server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let message = question(name, kind);
        let bytes = encode(server, &message)?;
        let fits = |answer: &[u8]| Message::from_vec(answer).is_ok_and(|answer| answers(&message, &answer));
        let short = wire::datagram(server, &bytes, self.limit(), fits).await;
        let answer = match short {
            Ok(answer) => decode(server, &answer)?,
            Err(WireError::NotSent(_) | WireError::Lost(_)) => self.ask_by_stream(server, &message, &bytes).await?,
        };
        let answer = if answer.metadata.truncation { self.ask_by_stream(server, &message, &bytes).await? } else { answer };
        let what = format!("{name} {kind}");
        check_code(server, &answer, &what)?;
        if !answer.metadata.authoritative {
            return Err(DnsError::NotAuthoritative { server, what });
        }
        Ok(answer)
    }

    async fn ask_by_stream(&self, server: SocketAddr, message: &Message, bytes: &[u8]) -> Result<Message, DnsError> {
        let answer = wire::stream(server, bytes, self.limit()).await.map_err(|error| silent(server, error))?;
        let answer = decode(server, &answer)?;
        if answers(message, &answer) { Ok(answer) } else { Err(DnsError::Malformed { server, why: "it answers another question".into() }) }
    }
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    There,
    /// It is not.
    Absent,
}

fn question(name: &Name, kind: RecordType) -> Message {
    let mut query = Query::query(name.clone(), kind);
    query.set_query_class(DNSClass::IN);
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Query;
    message.metadata.recursion_desired = false;
    message.add_query(query);
    let mut edns = Edns::new();
    edns.set_max_payload(wire::DATAGRAM_BYTES_MAX as u16);
    message.set_edns(edns);
    message
}

/// Whether this is an answer to that question: the id alone can be guessed.
fn answers(question: &Message, answer: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && (answer.queries == question.queries || (answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError))
}

fn check_code(server: SocketAddr, answer: &Message, what: &str) -> Result<(), DnsError> {
    let code = answer.metadata.response_code;
    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Ok(());
    }
    Err(DnsError::Refused { server, code: code_name(code), what: what.to_owned() })
}

/// The code as people and manuals write it.
pub(super) fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR (it does not understand the message)".into(),
        ResponseCode::ServFail => "SERVFAIL (it failed by itself)".into(),
        ResponseCode::NXDomain => "NXDOMAIN (there is no such name)".into(),
        ResponseCode::NotImp => "NOTIMP (it does not do that)".into(),
        ResponseCode::Refused => "REFUSED (its rules do not allow it)".into(),
        ResponseCode::YXDomain => "YXDOMAIN (the name exists)".into(),
        ResponseCode::YXRRSet => "YXRRSET (the record exists)".into(),
        ResponseCode::NXRRSet => "NXRRSET (the record is not as expected)".into(),
        ResponseCode::NotAuth => "NOTAUTH (not its zone, or not its key)".into(),
        ResponseCode::NotZone => "NOTZONE (the name is not in the zone)".into(),
        other => format!("{other} (code {})", u16::from(other)),
    }
}

fn encode(server: SocketAddr, message: &Message) -> Result<Vec<u8>, DnsError> {
    message.to_vec().map_err(|error| DnsError::Malformed { server, why: format!("our own message cannot be written: {error}") })
}

fn decode(server: SocketAddr, answer: &[u8]) -> Result<Message, DnsError> {
    Message::from_vec(answer).map_err(|error| DnsError::Malformed { server, why: error.to_string() })
}

fn silent(server: SocketAddr, error: WireError) -> DnsError {
    match error {
        WireError::NotSent(why) | WireError::Lost(why) => DnsError::Silent { server, why },
    }
}
