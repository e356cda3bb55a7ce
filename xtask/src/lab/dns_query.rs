//! One question to one DNS server over UDP, standard library only: addresses of a name, serial of a zone. No cache, no recursion.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::trouble::{Doing, Result, Trouble};

/// How long one server may take. The client of the demo asks often, so that a lost packet costs little.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const TYPE_A: u16 = 1;
/// The start of a zone's authority.
pub(super) const TYPE_SOA: u16 = 6;
const CLASS_IN: u16 = 1;
/// NXDOMAIN: there is no such name.
const NO_SUCH_NAME: u8 = 3;

/// The addresses a server gives for a name; none when the name has none.
///
/// # Errors
/// When the server does not answer in half a second, or answers with an error or nonsense.
pub fn addresses(server: SocketAddr, name: &str) -> Result<Vec<Ipv4Addr>> {
    let answers = ask(server, name, TYPE_A)?;
    Ok(answers.iter().filter_map(|data| <[u8; 4]>::try_from(data.as_slice()).ok()).map(Ipv4Addr::from).collect())
}

/// The serial of a zone.
///
/// # Errors
/// As [`addresses`], and when the server is not responsible for the zone.
pub fn serial(server: SocketAddr, zone: &str) -> Result<u32> {
    let answers = ask(server, zone, TYPE_SOA)?;
    // The five numbers stand at the end, behind two names of any length; the serial is the first of them.
    let soa = answers.first().ok_or_else(|| Trouble::new(format!("{server} has no SOA of {zone}")))?;
    let numbers = soa.len().checked_sub(20).and_then(|start| soa.get(start..start + 4));
    let serial = numbers.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    serial.map(u32::from_be_bytes).ok_or_else(|| Trouble::new(format!("{server} sent a broken SOA of {zone}")))
}

/// The data of every answer of the asked type.
fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Vec<Vec<u8>>> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).doing(|| "open a UDP socket".to_owned())?;
    socket.connect(server).doing(|| format!("reach {server}"))?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).doing(|| "set a timeout".to_owned())?;
    // The socket is new for each question and connected, so its port is the question's identity and the id can be fixed.
    let question = question(name, kind);
    socket.send(&question).doing(|| format!("ask {server} for {name}"))?;
    let mut buffer = [0u8; 4096];
    let length = socket.recv(&mut buffer).doing(|| format!("get {server}'s answer for {name}"))?;
    parse(&buffer[..length], kind).ok_or_else(|| Trouble::new(format!("{server} sent no usable answer for {name}")))
}

/// The message that asks for one type of one name.
pub(super) fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x4c, 0x42, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

/// `None` for an error, a truncated or a malformed answer; empty for a name or type that is not there.
fn parse(message: &[u8], kind: u16) -> Option<Vec<Vec<u8>>> {
    let code = *message.get(3)? & 0x0f;
    if code == NO_SUCH_NAME {
        return Some(Vec::new());
    }
    if code != 0 || message[2] & 0x80 == 0 {
        return None;
    }
    let answers = u16_at(message, 6)?;
    let mut place = skip_name(message, 12)? + 4;
    let mut found = Vec::new();
    for _ in 0..answers {
        place = skip_name(message, place)?;
        let its_kind = u16_at(message, place)?;
        let length = usize::from(u16_at(message, place + 8)?);
        let data = message.get(place + 10..place + 10 + length)?;
        if its_kind == kind {
            found.push(data.to_vec());
        }
        place += 10 + length;
    }
    Some(found)
}

fn skip_name(message: &[u8], mut place: usize) -> Option<usize> {
    loop {
        let length = *message.get(place)?;
        if length & 0xc0 == 0xc0 {
            return Some(place + 2);
        }
        place += 1 + usize::from(length);
        if length == 0 {
            return Some(place);
        }
    }
}

fn u16_at(message: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(place)?, *message.get(place + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one A record behind a compressed name.
    fn answer() -> Vec<u8> {
        let mut message = question("db.orders.lab.", TYPE_A);
        message[2] = 0x84;
        message[7] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 1, 2, 3]);
        message
    }

    #[test]
    fn an_answer_gives_its_address() {
        assert_eq!(parse(&answer(), TYPE_A), Some(vec![vec![127, 1, 2, 3]]));
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let whole = answer();
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], TYPE_A), None, "{length} bytes");
        }
    }

    #[test]
    fn a_refusal_is_no_answer() {
        let mut refused = answer();
        refused[3] = 5;
        assert_eq!(parse(&refused, TYPE_A), None);
    }
}
