//! A client outside the engine: finds the database by its DNS name, commits numbered rows, remembers what was acknowledged and when.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use xtask::lab::postgres::{DATABASE, PRIMARY};
use xtask::lab::{Lab, dns, dns_query};
use xtask::look_until;

use super::clock;
use super::process::PATIENCE;

/// Time between two rows.
const BETWEEN_ROWS: Duration = Duration::from_millis(50);
/// How long the client waits for one acknowledgement before it connects anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// An acknowledged row: its number, and when the acknowledgement arrived, in seconds since 1970.
pub(crate) type Row = (u64, f64);

/// A client that writes until it is stopped.
#[derive(Debug)]
pub(crate) struct Client {
    rows: Arc<Mutex<Vec<Row>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts writing and returns after the first rows.
    #[track_caller]
    pub(crate) fn start(lab: &Lab) -> Self {
        let (dns, port) = (lab.dns().primary, lab.node(PRIMARY).port);
        let password = std::fs::read_to_string(lab.secret("app")).unwrap_or_else(|error| panic!("{error}"));
        let (rows, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (its_rows, its_stop) = (Arc::clone(&rows), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut session: Option<Session> = None;
            let mut number = 0;
            while !its_stop.load(Ordering::SeqCst) {
                number += 1;
                session = session.or_else(|| Session::open(dns, port, &password));
                match session.as_mut().map(|session| session.commit(number)) {
                    Some(true) => its_rows.lock().unwrap_or_else(PoisonError::into_inner).push((number, clock::wall())),
                    // Whether this row is there nobody knows, so nobody relies on it. The next one has a new number.
                    Some(false) => session = None,
                    None => {}
                }
                std::thread::sleep(BETWEEN_ROWS);
            }
        });
        let client = Self { rows, stop, thread: Some(thread) };
        client.wait_for_more(5);
        client
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more rows are acknowledged.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, count: usize) {
        let wanted = self.rows().len() + count;
        assert!(look_until(PATIENCE, || (self.rows().len() >= wanted).then_some(())).is_some(), "the client's rows are not acknowledged");
    }

    /// Stops, and tells what it saw around an instant at which the old primary was surely alive for the last time.
    #[track_caller]
    pub(crate) fn truth(mut self, lab: &Lab, new_primary: &str, kill_began: f64) -> Truth {
        self.stop();
        let rows = self.rows();
        let text = lab.node(new_primary).psql("app", "select id from orders").unwrap_or_else(|error| panic!("{error}"));
        let found: BTreeSet<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let silences = rows.windows(2).filter(|pair| pair[1].1 >= kill_began);
        let longest = silences.max_by(|a, b| (a[1].1 - a[0].1).total_cmp(&(b[1].1 - b[0].1)));
        let Some(&[(_, last), (_, next)]) = longest else { panic!("the client never came back") };
        let lost: Vec<Row> = rows.iter().filter(|(number, _)| !found.contains(number)).copied().collect();
        Truth {
            last_seen: last,
            seen_again: next,
            outage_seconds: next - last,
            lost_rows: lost.len(),
            lost_seconds: lost.first().map_or(0.0, |(_, first)| (last - first).max(0.0)),
        }
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the client saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth {
    /// The last acknowledgement before the silence, in seconds since 1970.
    pub(crate) last_seen: f64,
    /// The first one after it.
    pub(crate) seen_again: f64,
    /// From the last acknowledgement before the silence to the first one after it.
    pub(crate) outage_seconds: f64,
    /// Acknowledged rows that the new primary does not have.
    pub(crate) lost_rows: usize,
    /// From the first of them to the last acknowledgement.
    pub(crate) lost_seconds: f64,
}

/// A psql that stays connected.
#[derive(Debug)]
struct Session {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Session {
    fn open(dns: SocketAddr, port: u16, password: &str) -> Option<Self> {
        let address = *dns_query::addresses(dns, dns::RECORD).ok()?.first()?;
        let mut psql = Command::new("/usr/lib/postgresql/15/bin/psql");
        psql.args(["-X", "-w", "-A", "-t", "-q", "-h"]).arg(address.to_string()).arg("-p").arg(port.to_string());
        psql.args(["-U", "app", "-d", DATABASE]).env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "2").env_remove("PGOPTIONS");
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let (input, output) = (child.stdin.take()?, child.stdout.take()?);
        let (sender, answers) = sync_channel(16);
        std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Some(Self { child, input, answers })
    }

    fn commit(&mut self, number: u64) -> bool {
        let sent = writeln!(self.input, "insert into orders (id) values ({number}) returning id;").and_then(|()| self.input.flush());
        sent.is_ok() && self.answers.recv_timeout(ANSWER_WITHIN).is_ok_and(|line| line.trim() == number.to_string())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
