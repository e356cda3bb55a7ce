//! An export, line by line, checked as it is read: form, places, chains, digests, counts. What does not fit is told and reading goes on.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use sha2::Digest as _;

use super::{EXPORT_FORMAT, LINE_BYTES_MAX, Line, digest, joined};
use crate::walk::{Follower, Problem, Seen};
use crate::{Digest, KEPT_BYTES_MAX, LogHead, LogId, RECORD_BYTES_MAX, Record, Seq};

/// A walk over an export. Each thing that does not fit is a [`Seen::Problem`] with its line.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: u64,
    hasher: sha2::Sha256,
    log: Option<Follower>,
    value: Option<Value>,
    counts: (u64, u64, u64),
    ready: VecDeque<Seen>,
    state: State,
}

#[derive(Debug)]
struct Value {
    digest: Digest,
    length: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The first line is still to come.
    Fresh,
    Reading,
    /// The last line was there.
    Ended,
    /// Nothing more can be read.
    Over,
}

impl<R: BufRead> Reader<R> {
    /// Reads from the first line on.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: 0,
            hasher: sha2::Sha256::new(),
            log: None,
            value: None,
            counts: (0, 0, 0),
            ready: VecDeque::new(),
            state: State::Fresh,
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        let (log, at) = self.log.as_ref().map_or((None, None), |log| (Some(log.head.log.clone()), Some(log.next)));
        self.ready.push_back(Seen::Problem(Problem { log, at, line: Some(self.line), what: what.into() }));
    }

    fn found(&mut self, problems: impl IntoIterator<Item = Problem>) {
        let line = Some(self.line);
        self.ready.extend(problems.into_iter().map(|problem| Seen::Problem(Problem { line, ..problem })));
    }

    /// Reads one line, or the end.
    fn step(&mut self) {
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
        self.line += 1;
        match read {
            Err(error) => {
                self.problem(format!("the export cannot be read on: {error}"));
                self.state = State::Over;
            }
            Ok(0) => self.finish(),
            Ok(_) if bytes.len() > LINE_BYTES_MAX => {
                self.problem(format!("a line has more than {LINE_BYTES_MAX} bytes"));
                self.state = State::Over;
            }
            Ok(_) => self.take_line(&bytes),
        }
    }

    fn finish(&mut self) {
        self.close();
        if self.state != State::Ended {
            self.problem("the export is cut short: it has no last line");
        }
        self.state = State::Over;
    }

    fn take_line(&mut self, bytes: &[u8]) {
        let before: Digest = Digest(self.hasher.clone().finalize().into());
        self.hasher.update(bytes);
        if self.state == State::Ended {
            self.problem("there is more behind the last line");
            self.state = State::Over;
            return;
        }
        let line = match serde_json::from_slice::<Line>(bytes) {
            Ok(line) => line,
            Err(error) => {
                self.problem(format!("this is no line of an export: {error}"));
                if self.state == State::Fresh {
                    self.state = State::Over;
                }
                return;
            }
        };
        match (&self.state, line) {
            (State::Fresh, Line::Export { format }) if format == EXPORT_FORMAT => self.state = State::Reading,
            (State::Fresh, Line::Export { format }) => {
                self.problem(format!("the export has format {format}; this program reads {EXPORT_FORMAT}"));
                self.state = State::Over;
            }
            (State::Fresh, _) => {
                self.problem("the first line does not say that this is an export");
                self.state = State::Over;
            }
            (_, Line::Export { .. }) => self.problem("an export begins inside another one"),
            (_, Line::Log { name, first, next, chain }) => self.begin_log(&name, Seq(first), Seq(next), &chain),
            (_, Line::Record { at, chain, text, bytes }) => self.record(Seq(at), &chain, joined(text, bytes), Standing::ForItself),
            (_, Line::Carry { at, chain, text, bytes }) => self.record(Seq(at), &chain, joined(text, bytes), Standing::ForOthers),
            (_, Line::Value { digest, length }) => self.begin_value(&digest, length),
            (_, Line::Part { text, bytes }) => self.part(joined(text, bytes)),
            (_, Line::End { logs, records, values, digest: named }) => {
                self.close();
                if self.counts != (logs, records, values) {
                    let (l, r, v) = self.counts;
                    self.problem(format!(
                        "the last line tells of {logs} logs, {records} records and {values} values; there are {l}, {r} and {v}"
                    ));
                }
                if digest(&named) != Ok(before) {
                    self.problem("the lines do not have the digest that the last line names: some were changed");
                }
                self.state = State::Ended;
            }
        }
    }

    /// Ends the log or the value that is being read.
    fn close(&mut self) {
        if let Some(log) = self.log.take() {
            self.found(log.end());
        }
        if let Some(value) = self.value.take() {
            if value.bytes.len() as u64 == value.length && Digest::of(&value.bytes) == value.digest {
                self.counts.2 += 1;
                self.ready.push_back(Seen::Value { digest: value.digest, bytes: value.bytes });
            } else {
                self.problem(format!("the kept value {} does not have its digest", value.digest));
            }
        }
    }

    fn begin_log(&mut self, name: &str, first: Seq, next: Seq, chain: &str) {
        self.close();
        match (LogId::new(name), digest(chain)) {
            (Ok(log), Ok(chain)) if first <= next => {
                self.counts.0 += 1;
                let head = LogHead { log, first, next, chain };
                self.log = Some(Follower::new(head.clone()));
                self.ready.push_back(Seen::Log(head));
            }
            (Err(error), _) => self.problem(error.to_string()),
            (_, Err(why)) => self.problem(why),
            (Ok(_), Ok(_)) => self.problem("a log ends before it begins"),
        }
    }

    fn record(&mut self, at: Seq, chain: &str, bytes: Result<Vec<u8>, String>, standing: Standing) {
        let (stored, bytes) = match (digest(chain), bytes) {
            (Ok(chain), Ok(bytes)) if bytes.len() <= RECORD_BYTES_MAX => (chain, bytes),
            (Ok(_), Ok(bytes)) => return self.problem(format!("a record has {} bytes, more than {RECORD_BYTES_MAX}", bytes.len())),
            (Err(why), _) | (_, Err(why)) => return self.problem(why),
        };
        let Some(log) = self.log.as_mut() else { return self.problem("a record stands outside of any log") };
        self.counts.1 += 1;
        let (name, record) = (log.head.log.clone(), Record(bytes));
        match standing {
            Standing::ForOthers => {
                let problem = log.carry(at, stored);
                self.found(problem);
                self.ready.push_back(Seen::Carry { log: name, at, chain: stored, record });
            }
            Standing::ForItself => {
                let (chain, problems) = log.record(at, Some(stored), &record);
                self.found(problems);
                self.ready.push_back(Seen::Record { log: name, at, chain, record });
            }
        }
    }

    fn begin_value(&mut self, named: &str, length: u64) {
        self.close();
        match digest(named) {
            Ok(digest) if length <= KEPT_BYTES_MAX as u64 => self.value = Some(Value { digest, length, bytes: Vec::new() }),
            Ok(digest) => self.problem(format!("the kept value {digest} has {length} bytes, more than {KEPT_BYTES_MAX}")),
            Err(why) => self.problem(why),
        }
    }

    fn part(&mut self, bytes: Result<Vec<u8>, String>) {
        match (self.value.as_mut(), bytes) {
            (Some(value), Ok(bytes)) if (value.bytes.len() + bytes.len()) as u64 <= value.length => value.bytes.extend(bytes),
            (Some(_), Ok(_)) => self.problem("a kept value is longer than it should be"),
            (None, Ok(_)) => self.problem("a part stands outside of any kept value"),
            (_, Err(why)) => self.problem(why),
        }
    }
}

enum Standing {
    ForItself,
    ForOthers,
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        while self.ready.is_empty() && self.state != State::Over {
            self.step();
        }
        self.ready.pop_front()
    }
}
