//! The proof of a DNS change: every authoritative server, asked itself, serves the set at a serial that has it. An answer of
//! the primary is no proof, and a server with something old is never overlooked.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::Name;
use jiff::Timestamp;
use lifeboat_engine::ReadContext;
use tokio::task::JoinSet;

use super::{ServerSeen, serial};
use crate::clients::dns::{Reader, RecordKind, RecordSet, in_words};

/// First pause between two rounds of questions; it grows by an eighth up to [`PAUSE_MAX`]. The pause before the last round is also how
/// much too late the change is seen, and so how much too wide the outage is reported: within the first seconds it stays short.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How many rounds a server must stay silent before its silence may be overlooked (where the inventory allows that at all).
const SILENT_ROUNDS_MIN: u32 = 3;

/// Time kept back from the deadline, so that the reason can still be told.
const MARGIN: Duration = Duration::from_millis(200);

/// What must be served, and by whom.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    pub(super) zone: Name,
    pub(super) name: Name,
    pub(super) kind: RecordKind,
    pub(super) set: RecordSet,
    pub(super) primary: SocketAddr,
    pub(super) servers: Vec<SocketAddr>,
}

/// Every server was seen to serve it.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// When the last one was asked.
    pub(super) at: Timestamp,
    /// The primary's serial.
    pub(super) serial: u32,
    /// The answers.
    pub(super) servers: Vec<ServerSeen>,
}

/// One server's answer in one round.
enum Answer {
    Serves { serial: u32 },
    Differs { serial: u32, found: String },
    Silent { why: String },
}

/// Asks every server once.
pub(super) async fn look(cx: &ReadContext, silent_max: u32, needed: &Needed) -> Result<Proof, String> {
    let (mut rounds, mut proof) = (0, Err(String::new()));
    // Silence is only overlooked after some rounds, so one look may take as many.
    while rounds == 0 || (proof.is_err() && silent_max > 0 && rounds < SILENT_ROUNDS_MIN) {
        rounds += 1;
        proof = round(cx, silent_max, needed, rounds).await;
    }
    proof
}

/// Asks every server again and again until all serve it or time is nearly up.
pub(super) async fn wait(cx: &ReadContext, silent_max: u32, needed: &Needed) -> Result<Proof, String> {
    let mut pause = PAUSE_MIN;
    for rounds in 1.. {
        match round(cx, silent_max, needed, rounds).await {
            Ok(proof) => return Ok(proof),
            Err(why) if cx.time_left() <= pause + MARGIN => return Err(why),
            Err(_) => {}
        }
        cx.sleep(pause).await;
        pause = (pause * 9 / 8).min(PAUSE_MAX);
    }
    Err("no server was asked".into())
}

async fn round(cx: &ReadContext, silent_max: u32, needed: &Needed, rounds: u32) -> Result<Proof, String> {
    let mut asked = JoinSet::new();
    for server in needed.servers.iter().copied() {
        let (reader, needed) = (Reader::new(cx), needed.clone());
        asked.spawn(async move { (server, ask(&reader, server, &needed).await) });
    }
    let mut answers: Vec<(SocketAddr, Answer)> = Vec::with_capacity(needed.servers.len());
    while let Some(joined) = asked.join_next().await {
        answers.push(joined.map_err(|error| format!("asking a DNS server was cut off: {error}"))?);
    }
    answers.sort_by_key(|(server, _)| *server);
    judge(silent_max, needed, rounds, &answers).map(|(serial, servers)| Proof { at: cx.now(), serial, servers })
}

async fn ask(reader: &Reader, server: SocketAddr, needed: &Needed) -> Answer {
    // The serial is read first: a set seen after it is at least as new.
    let zone = match reader.zone(server, &needed.zone).await {
        Ok(zone) => zone,
        Err(error) => return Answer::Silent { why: error.to_string() },
    };
    match reader.set(server, &needed.name, needed.kind).await {
        Ok(seen) if seen.set.as_ref() == Some(&needed.set) => Answer::Serves { serial: zone.serial },
        Ok(seen) => Answer::Differs { serial: zone.serial, found: in_words(seen.set.as_ref()) },
        Err(error) => Answer::Silent { why: error.to_string() },
    }
}

/// Pure: are these answers a proof?
fn judge(silent_max: u32, needed: &Needed, rounds: u32, answers: &[(SocketAddr, Answer)]) -> Result<(u32, Vec<ServerSeen>), String> {
    let primary = answers.iter().find_map(|(server, answer)| match answer {
        Answer::Serves { serial } if *server == needed.primary => Some(*serial),
        Answer::Serves { .. } | Answer::Differs { .. } | Answer::Silent { .. } => None,
    });
    let mut missing = Vec::new();
    let mut silent = Vec::new();
    let mut servers = Vec::new();
    for (server, answer) in answers {
        match answer {
            Answer::Serves { serial } if primary.is_none_or(|newest| serial::has_reached(*serial, newest)) => {
                servers.push(ServerSeen { server: server.to_string(), serial: Some(*serial), answer: needed.set.to_string() });
            }
            Answer::Serves { serial } => missing.push(format!("{server} is still at serial {serial}")),
            Answer::Differs { serial, found } => missing.push(format!("{server} still says {found} (serial {serial})")),
            Answer::Silent { why } => {
                silent.push(format!("{server}: {why}"));
                servers.push(ServerSeen { server: server.to_string(), serial: None, answer: format!("no answer: {why}") });
            }
        }
    }
    let overlooked = silent.len() <= silent_max as usize && rounds >= SILENT_ROUNDS_MIN;
    if !overlooked {
        missing.append(&mut silent);
    }
    match primary {
        Some(serial) if missing.is_empty() => Ok((serial, servers)),
        Some(_) => Err(format!("not every authoritative server serves {} for {}: {}", needed.set, needed.name, missing.join("; "))),
        None => Err(format!(
            "the primary {} was not seen to serve {} for {}: {}",
            needed.primary,
            needed.set,
            needed.name,
            if missing.is_empty() { silent.join("; ") } else { missing.join("; ") }
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::dns::full_name;

    fn at(number: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, number], 53))
    }

    fn needed() -> Needed {
        Needed {
            zone: full_name("orders.lab").unwrap(),
            name: full_name("db.orders.lab").unwrap(),
            kind: RecordKind::A,
            set: RecordSet::new(RecordKind::A, 1, &["192.0.2.1".into()]).unwrap(),
            primary: at(1),
            servers: vec![at(1), at(2)],
        }
    }

    fn serves(serial: u32) -> Answer {
        Answer::Serves { serial }
    }

    fn silent() -> Answer {
        Answer::Silent { why: "no answer".into() }
    }

    #[test]
    fn every_server_must_have_the_primary_s_serial() {
        let judged = |one, other| judge(0, &needed(), 9, &[(at(1), one), (at(2), other)]);
        assert_eq!(judged(serves(8), serves(8)).unwrap().0, 8);
        assert_eq!(judged(serves(8), serves(9)).unwrap().0, 8, "newer is as good");
        assert_eq!(judged(serves(0), serves(0)).unwrap().0, 0);
        assert!(judged(serves(0), serves(u32::MAX)).unwrap_err().contains("still at serial"), "serials wrap");
        assert!(judged(serves(8), serves(7)).unwrap_err().contains("127.0.0.2:53 is still at serial 7"));
        assert!(judged(serves(8), Answer::Differs { serial: 8, found: "192.0.2.9".into() }).unwrap_err().contains("still says 192.0.2.9"));
        assert!(judged(Answer::Differs { serial: 8, found: "no record".into() }, serves(8)).unwrap_err().contains("primary"));
        assert!(judged(serves(8), silent()).unwrap_err().contains("no answer"));
    }

    #[test]
    fn silence_is_overlooked_only_after_some_rounds_and_never_that_of_the_primary() {
        let judged = |rounds, one, other| judge(1, &needed(), rounds, &[(at(1), one), (at(2), other)]);
        assert!(judged(1, serves(8), silent()).is_err());
        let servers = judged(SILENT_ROUNDS_MIN, serves(8), silent()).unwrap().1;
        assert_eq!(servers.iter().map(|server| server.serial).collect::<Vec<_>>(), [Some(8), None]);
        assert!(judged(99, silent(), serves(8)).is_err());
        assert!(judged(99, serves(8), Answer::Differs { serial: 7, found: "192.0.2.9".into() }).is_err(), "an old answer is no silence");
    }
}
