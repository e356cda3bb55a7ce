//! The client outside the engine: finds the database by its DNS name, commits numbered rows, and keeps its own log of what was acknowledged.
//!
//! Its log is never an input of the report. It is what the report is held against.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xtask::lab::dns_query;
use xtask::lab::postgres::DATABASE;
use xtask::{Result, Trouble};

use super::instant::Instant;

/// Time between two rows.
const BETWEEN_ROWS: Duration = Duration::from_millis(50);
/// How long the client waits for the answer to one commit before it gives the connection up.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// One acknowledged row: its number, and when the acknowledgement arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Acknowledged {
    pub(super) number: u64,
    pub(super) at: Instant,
}

/// Where the client looks and who it is.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) dns: SocketAddr,
    pub(super) port: u16,
    pub(super) password: String,
    pub(super) psql: std::path::PathBuf,
}

/// A client that writes until it is told to stop.
#[derive(Debug)]
pub(super) struct Client {
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts writing; each acknowledgement is a line in the file `log`.
    pub(super) fn start(settings: Settings, log: &Path) -> Result<Self> {
        let mut log = File::create(log).map_err(|error| Trouble::new(format!("cannot create {}: {error}", log.display())))?;
        let mut client = Self { acknowledged: Arc::default(), ended: Arc::default(), thread: None };
        let (acknowledged, ended) = (Arc::clone(&client.acknowledged), Arc::clone(&client.ended));
        let thread = thread::Builder::new().name("client".to_owned()).spawn(move || {
            let mut session: Option<Session> = None;
            let mut number = 0;
            while !ended.load(Ordering::SeqCst) {
                let began = Instant::now();
                number += 1;
                session = session.or_else(|| Session::open(&settings).ok());
                match session.as_mut().map(|session| session.commit(number)) {
                    Some(true) => {
                        let row = Acknowledged { number, at: Instant::now() };
                        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(row);
                        // A log that cannot be written would be noticed at the end, when it is compared.
                        let _written = writeln!(log, "{} {}", row.number, row.at);
                    }
                    // The row may be there or not: it was not acknowledged, so nobody relies on it. The next one has a new number.
                    Some(false) => session = None,
                    None => {}
                }
                let spent = Instant::now().since(began);
                thread::sleep(BETWEEN_ROWS.saturating_sub(Duration::from_secs_f64(spent.max(0.0))));
            }
        });
        client.thread = Some(thread.map_err(|error| Trouble::new(format!("cannot start the client: {error}")))?);
        Ok(client)
    }

    /// What was acknowledged so far.
    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops writing and returns everything that was acknowledged.
    pub(super) fn stop(mut self) -> Vec<Acknowledged> {
        self.end();
        self.acknowledged()
    }

    fn end(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, what it acknowledged is still in the list.
            let _joined = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// One psql that stays connected, spoken to through its input and output.
#[derive(Debug)]
struct Session {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Session {
    fn open(settings: &Settings) -> Result<Self> {
        let addresses = dns_query::addresses(settings.dns, &settings.name)?;
        let address: Ipv4Addr = *addresses.first().ok_or_else(|| Trouble::new(format!("{} has no address", settings.name)))?;
        let mut psql = Command::new(&settings.psql);
        psql.args(["-X", "-w", "-A", "-t", "-q", "-h"]).arg(address.to_string()).arg("-p").arg(settings.port.to_string());
        psql.args(["-U", "app", "-d", DATABASE]).env("PGPASSWORD", &settings.password);
        psql.env("PGAPPNAME", "client").env("PGCONNECT_TIMEOUT", "2").env_remove("PGOPTIONS");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().map_err(|error| Trouble::new(format!("cannot start psql: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Trouble::new("psql has no pipes"));
        };
        let (sender, answers) = mpsc::sync_channel(16);
        thread::spawn(move || BufReader::new(output).lines().map_while(std::result::Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, input, answers })
    }

    /// Whether the commit of this row was acknowledged.
    fn commit(&mut self, number: u64) -> bool {
        let sent = writeln!(self.input, "insert into orders (id) values ({number}) returning id;");
        let flushed = sent.and_then(|()| self.input.flush());
        flushed.is_ok() && self.answers.recv_timeout(ANSWER_WITHIN).is_ok_and(|line| line.trim() == number.to_string())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use xtask::lab::postgres::PRIMARY;
    use xtask::lab::{Lab, Parts, dns};
    use xtask::look_until;

    #[test]
    fn the_client_follows_the_name_to_the_new_primary_and_knows_what_it_lost() {
        let lab = Lab::start(Parts::PostgresAndDns).unwrap();
        let link = lab.proxy_to(PRIMARY).unwrap();
        lab.node("us-west-2").stream_from(link.address).unwrap();
        let settings = Settings {
            name: dns::RECORD.to_owned(),
            dns: lab.dns().primary,
            port: lab.node(PRIMARY).port,
            password: std::fs::read_to_string(lab.secret("app")).unwrap(),
            psql: "/usr/lib/postgresql/15/bin/psql".into(),
        };
        let client = Client::start(settings, &lab.folder().join("client.log")).unwrap();
        let wait = |count: usize, since: Option<Instant>| {
            let rows = || client.acknowledged().iter().filter(|row| since.is_none_or(|since| row.at > since)).count();
            look_until(Duration::from_secs(30), || (rows() >= count).then_some(())).expect("rows");
        };
        wait(5, None);
        link.cut();
        wait(client.acknowledged().len() + 10, None);
        // Replication is asynchronous: the last rows before the cut may not have got over. What did is what the replica holds.
        let kept = lab.node("us-west-2").psql("app", "select coalesce(max(id), 0) from orders").unwrap();
        let kept: u64 = kept.trim().parse().unwrap();
        let before_kill = Instant::now();
        lab.node(PRIMARY).kill_group().unwrap();
        let next = lab.node("us-west-2");
        next.psql("lifeboat_act", "select pg_promote()").unwrap();
        lab.dns().update(&format!("update delete db.orders.lab. A\nupdate add db.orders.lab. 1 A {}", next.address)).unwrap();
        wait(3, Some(before_kill));
        let rows = client.stop();
        let found: BTreeSet<u64> = next.psql("app", "select id from orders").unwrap().lines().map(|line| line.parse().unwrap()).collect();
        let truth = super::super::truth::Truth::tell(&rows, &found, before_kill).unwrap();
        assert!(truth.lost.len() >= 9, "{truth:?}");
        assert!(truth.lost.iter().all(|lost| *lost > kept), "{truth:?}, {kept} kept");
        assert!(truth.outage_seconds > 0.0, "{truth:?}");
        let log = std::fs::read_to_string(lab.folder().join("client.log")).unwrap();
        assert_eq!(log.lines().count(), rows.len());
    }
}
