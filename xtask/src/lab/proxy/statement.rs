//! Splits what a PostgreSQL client sends into messages and tells when a statement is really executed. Carries nothing itself.
//!
//! A prepared statement names its text when it is parsed, and is executed later by messages that only name it. A proxy that lost
//! the answer to the parsing would lose the wrong thing: the execution would never be asked for.

use std::collections::HashSet;

use crate::lab::proxy::contains;

/// Codes in the place of a protocol version that ask for encryption; another startup message follows them.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// The longest message kept together. A client of Lifeboat sends far less; beyond it the stream is taken as it comes.
const LONGEST_MESSAGE_BYTES: usize = 1 << 20;

/// One message of the client, whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// All its bytes, as to be forwarded.
    pub(super) bytes: Vec<u8>,
    /// Whether it executes a statement whose text contains the pattern.
    pub(super) executes: Executes,
}

/// Whether a message executes what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Executes {
    /// It makes the server run a statement with the pattern in it.
    Pattern,
    /// It does something else.
    Other,
}

/// The state of one connection's stream from client to server.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pending: Vec<u8>,
    started: bool,
    prepared: HashSet<Vec<u8>>,
    bound: HashSet<Vec<u8>>,
}

impl Statements {
    /// Takes the next bytes and gives the messages that are whole now.
    pub(super) fn feed(&mut self, bytes: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Vec<Message> {
        self.pending.extend_from_slice(bytes);
        let mut messages = Vec::new();
        while let Some(length) = self.whole_message() {
            let rest = self.pending.split_off(length);
            let bytes = std::mem::replace(&mut self.pending, rest);
            let executes = self.look(&bytes, &is_wanted);
            messages.push(Message { bytes, executes });
        }
        messages
    }

    /// The length of the first message, when all of it is here.
    fn whole_message(&self) -> Option<usize> {
        let header = usize::from(self.started);
        let length = self.pending.get(header..header + 4)?;
        let length = header + u32::from_be_bytes(length.try_into().ok()?) as usize;
        if length > LONGEST_MESSAGE_BYTES {
            return Some(self.pending.len());
        }
        (self.pending.len() >= length && length > header).then_some(length)
    }

    fn look(&mut self, message: &[u8], is_wanted: &impl Fn(&[u8]) -> bool) -> Executes {
        if !self.started {
            let code = message.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
            self.started = !ENCRYPTION_REQUESTS.contains(&code);
            return Executes::Other;
        }
        let body = message.get(5..).unwrap_or_default();
        let mut texts = body.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        let wanted = match message[0] {
            b'Q' => is_wanted(body),
            b'P' => {
                remember(&mut self.prepared, first, is_wanted(&second));
                false
            }
            b'B' => {
                let of_wanted = self.prepared.contains(&second);
                remember(&mut self.bound, first, of_wanted);
                false
            }
            b'E' => self.bound.contains(&first),
            _ => false,
        };
        if wanted { Executes::Pattern } else { Executes::Other }
    }
}

/// A name given anew forgets what it stood for.
fn remember(names: &mut HashSet<Vec<u8>>, name: Vec<u8>, wanted: bool) {
    if wanted {
        names.insert(name);
    } else {
        names.remove(&name);
    }
}

/// Whether a statement's text has the pattern in it.
pub(super) fn has(pattern: &[u8]) -> impl Fn(&[u8]) -> bool + '_ {
    move |text| contains(text, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(0).to_be_bytes());
        message.extend_from_slice(body);
        message
    }

    fn startup() -> Vec<u8> {
        vec![0, 0, 0, 9, 0, 3, 0, 0, 0]
    }

    fn kinds(stream: &[u8], piece: usize) -> Vec<Executes> {
        let mut statements = Statements::default();
        stream.chunks(piece).flat_map(|bytes| statements.feed(bytes, has(b"pg_promote"))).map(|m| m.executes).collect()
    }

    #[test]
    fn a_prepared_statement_counts_when_it_is_executed() {
        let stream = [
            vec![0, 0, 0, 8, 4, 210, 22, 47],
            startup(),
            typed(b'P', b"s1\0select pg_promote()\0\0\0"),
            typed(b'D', b"Ss1\0"),
            typed(b'S', b""),
            typed(b'B', b"\0s1\0\0\0\0\0\0\0"),
            typed(b'E', b"\0\0\0\0\0"),
            typed(b'S', b""),
        ]
        .concat();
        for piece in [1, 7, stream.len()] {
            let seen = kinds(&stream, piece);
            let executing: Vec<usize> = (0..seen.len()).filter(|n| seen[*n] == Executes::Pattern).collect();
            assert_eq!(executing, vec![6], "in pieces of {piece}");
        }
    }

    #[test]
    fn a_simple_query_counts_at_once_and_another_does_not() {
        let stream = [startup(), typed(b'Q', b"select 1\0"), typed(b'Q', b"select pg_promote(false)\0")].concat();
        assert_eq!(kinds(&stream, 5), vec![Executes::Other, Executes::Other, Executes::Pattern]);
    }

    #[test]
    fn a_name_used_again_for_another_statement_is_forgotten() {
        let stream = [
            startup(),
            typed(b'P', b"\0select pg_promote()\0\0\0"),
            typed(b'P', b"\0select 1\0\0\0"),
            typed(b'B', b"\0\0\0\0\0\0\0\0"),
            typed(b'E', b"\0\0\0\0\0"),
        ]
        .concat();
        assert!(!kinds(&stream, 64).contains(&Executes::Pattern));
    }
}
