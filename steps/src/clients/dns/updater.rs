//! Signed dynamic updates (RFC 2136, RFC 8945) with the old set as their condition. What to make of a lost answer is decided
//! by the caller.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::update_message::UpdateMessage;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm as WireAlgorithm, TsigError};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType, TSigVerifier, TSigner};
use jiff::Timestamp;
use lifeboat_engine::{ReadContext, StepContext};

use super::reader::code_name;
use super::set::{RecordKind, RecordSet, full_name};
use super::wire::{self, WireError};
use crate::mutants::{self, Mutant};
use crate::resources::dns_record::{Tsig, TsigAlgorithm};

/// How far the clocks of both ends may differ, in seconds (RFC 8945, section 10, recommends this). It also bounds how late a
/// delayed copy of an update can still be taken.
pub const CLOCK_SKEW_SECONDS_MAX: u16 = 300;

/// Longest wait for the answer to an update.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A key that signs.
#[derive(Clone)]
pub struct Signer {
    inner: TSigner,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, ***)", self.inner.signer_name())
    }
}

impl Signer {
    /// Reads the key.
    ///
    /// # Errors
    /// Where it cannot be had or is no base64. The message never has the key in it.
    pub fn new(cx: &ReadContext, tsig: &Tsig) -> Result<Self, String> {
        let secret = cx.secret(&tsig.secret).map_err(|error| error.to_string())?;
        let key = data_encoding::BASE64.decode(secret.reveal().trim().as_bytes()).map_err(|_| {
            format!(
                "the key in {} is not base64: it must hold the text after \"secret\" of the server's key, and nothing else",
                tsig.secret
            )
        })?;
        let algorithm = match tsig.algorithm {
            TsigAlgorithm::HmacSha256 => WireAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => WireAlgorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => WireAlgorithm::HmacSha512,
        };
        let name = full_name(&tsig.name)?;
        let inner = TSigner::new(key, algorithm, name, CLOCK_SKEW_SECONDS_MAX).map_err(|error| error.to_string())?;
        Ok(Self { inner })
    }

    /// The key's name.
    #[must_use]
    pub fn key_name(&self) -> String {
        self.inner.signer_name().to_ascii()
    }

    pub(super) fn sign(&self, message: &mut Message, now: Timestamp) -> Result<TSigVerifier, String> {
        let seconds = u64::try_from(now.as_second()).map_err(|_| "the clock stands before 1970".to_owned())?;
        let verifier = message.finalize(&self.inner, seconds).map_err(|error| error.to_string())?;
        verifier.ok_or_else(|| "the message could not be signed".to_owned())
    }

    /// What a server said against the signature, in words.
    pub(super) fn complaint(&self, answer: &Message, now: Timestamp) -> Option<String> {
        let key = self.key_name();
        let error = answer.signature.as_ref().and_then(|record| record.data.error);
        match error {
            None if answer.metadata.response_code == ResponseCode::NotAuth => {
                Some("NOTAUTH: it is not primary for the zone, or does not know the key".into())
            }
            None => None,
            Some(TsigError::BadKey) => Some(format!("BADKEY: it knows no key named {key} with this algorithm")),
            Some(TsigError::BadSig) => Some(format!("BADSIG: its key named {key} is another one")),
            Some(TsigError::BadTrunc) => Some("BADTRUNC: it wants longer signatures".into()),
            Some(TsigError::BadTime) => {
                let other = answer.signature.as_ref().map(|record| record.data.other.clone()).unwrap_or_default();
                let theirs = other.iter().fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
                let apart = (now.as_second() - theirs).abs();
                let apart = if other.len() == 6 { format!("{apart} s apart") } else { "too far apart".into() };
                Some(format!("BADTIME: the clocks of this machine and of the server are {apart}; {CLOCK_SKEW_SECONDS_MAX} s are allowed"))
            }
            Some(TsigError::Unknown(code)) => Some(format!("TSIG error {code}")),
        }
    }
}

/// A change that is made only where the old set is still there.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// The zone.
    pub zone: &'a Name,
    /// The record's name.
    pub name: &'a Name,
    /// Its type.
    pub kind: RecordKind,
    /// The set that must be there now, value by value; `None`: there must be none.
    pub expected: Option<&'a RecordSet>,
    /// The set that shall be there after.
    pub wanted: &'a RecordSet,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateAnswer {
    /// It says that it took it. That alone is no proof.
    Accepted,
    /// The old set was not as expected: nothing was changed.
    NotAsExpected {
        /// `NXRRSET`.
        code: String,
    },
    /// It did not take it: nothing was changed.
    Rejected {
        /// Why, in words.
        why: String,
        /// Whether the cause lies with the server and may pass.
        passing: Passing,
    },
}

/// Whether a rejection may pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// A failure of the server.
    MayPass,
    /// Its rules.
    WillStay,
}

/// An update without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Nothing left this machine.
    #[error("the update could not be sent to {server}: {why}")]
    NotSent {
        /// Where to.
        server: SocketAddr,
        /// Why.
        why: String,
    },
    /// It may have been taken.
    #[error("the update was sent to {server}, and no answer that can be trusted came back: {why}")]
    Lost {
        /// Where to.
        server: SocketAddr,
        /// What happened.
        why: String,
    },
}

/// Changes a zone. Made from the right to act.
#[derive(Debug)]
pub struct Updater<'a> {
    cx: &'a StepContext,
    server: SocketAddr,
    signer: Signer,
}

impl<'a> Updater<'a> {
    /// An updater for this call.
    #[must_use]
    pub fn new(cx: &'a StepContext, server: SocketAddr, signer: Signer) -> Self {
        Self { cx, server, signer }
    }

    /// Sends one update, once, over TCP: conditions, deletion and addition in one atomic message.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn submit(&self, change: &Change<'_>) -> Result<UpdateAnswer, UpdateError> {
        let server = self.server;
        let not_sent = |why: String| UpdateError::NotSent { server, why };
        let mut message = update(change).map_err(not_sent)?;
        let mut verifier = self.signer.sign(&mut message, self.cx.now()).map_err(not_sent)?;
        let bytes = message.to_vec().map_err(|error| not_sent(error.to_string()))?;
        let limit = ANSWER_TIMEOUT.min(self.cx.time_left());
        let answer = wire::stream(server, &bytes, limit).await.map_err(|error| match error {
            WireError::NotSent(why) => UpdateError::NotSent { server, why },
            WireError::Lost(why) => UpdateError::Lost { server, why },
        })?;
        let lost = |why: String| UpdateError::Lost { server, why };
        let decoded = Message::from_vec(&answer).map_err(|error| lost(error.to_string()))?;
        if decoded.metadata.id != message.metadata.id || decoded.metadata.op_code != OpCode::Update {
            return Err(lost("it answers another message".into()));
        }
        if let Some(why) = self.signer.complaint(&decoded, self.cx.now()) {
            return Ok(UpdateAnswer::Rejected { why, passing: Passing::WillStay });
        }
        let code = decoded.metadata.response_code;
        let signed = verifier.verify(&answer);
        match (code, signed) {
            (ResponseCode::NoError, Ok(_)) => Ok(UpdateAnswer::Accepted),
            (ResponseCode::NoError, Err(error)) => {
                Err(lost(format!("the answer is not signed by the key {} ({error})", self.signer.key_name())))
            }
            (ResponseCode::NXRRSet | ResponseCode::YXRRSet | ResponseCode::NXDomain | ResponseCode::YXDomain, _) => {
                Ok(UpdateAnswer::NotAsExpected { code: code_name(code) })
            }
            (ResponseCode::ServFail, _) => Ok(UpdateAnswer::Rejected { why: code_name(code), passing: Passing::MayPass }),
            (other, _) => Ok(UpdateAnswer::Rejected { why: code_name(other), passing: Passing::WillStay }),
        }
    }
}

fn update(change: &Change<'_>) -> Result<Message, String> {
    let mut zone = Query::query(change.zone.clone(), RecordType::SOA);
    zone.set_query_class(DNSClass::IN);
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_zone(zone);
    match change.expected {
        _ if mutants::is(Mutant::OldSetNotCompared) => {}
        // RFC 2136, 2.4.2: the whole set, value by value, with TTL 0.
        Some(expected) => message.add_pre_requisites(expected.records(change.name, change.kind, 0)?),
        // A CNAME may only stand alone, so the whole name must be free; other sets only need their own place.
        None => message.add_pre_requisite(absent(
            change.name,
            match change.kind {
                RecordKind::A | RecordKind::Aaaa => change.kind.wire(),
                RecordKind::Cname => RecordType::ANY,
            },
        )),
    }
    match change.kind {
        // BIND ignores an address beside a CNAME with NOERROR; asking for its absence makes that an error.
        RecordKind::A | RecordKind::Aaaa => message.add_pre_requisite(absent(change.name, RecordType::CNAME)),
        RecordKind::Cname => {}
    }
    // RFC 2136, 2.5.2 then 2.5.1: delete and add in one message, so that the name is never empty for anybody.
    let mut delete = Record::update0(change.name.clone(), 0, change.kind.wire());
    delete.dns_class = DNSClass::ANY;
    message.add_update(delete.into_record_of_rdata());
    message.add_updates(change.wanted.records(change.name, change.kind, change.wanted.ttl_seconds)?);
    Ok(message)
}

/// The condition that there is no set of this type (RFC 2136, 2.4.3), or with ANY no set at all (2.4.5).
fn absent(name: &Name, kind: RecordType) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = DNSClass::NONE;
    record.into_record_of_rdata()
}
