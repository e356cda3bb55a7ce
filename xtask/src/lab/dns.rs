//! Two authoritative Knot servers with the zone `orders.lab`: ns1 takes signed updates, ns2 follows it. Asking them is in `dns_query`.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::lab::dns_notify::Notifier;
use crate::lab::dns_query;
use crate::lab::place::{self, Place};
use crate::lab::process::{self, Server};
use crate::patience::look_until;
use crate::trouble::{Doing, Result, Trouble};

/// The zone.
pub const ZONE: &str = "orders.lab.";
/// The name under which clients find the database.
pub const RECORD: &str = "db.orders.lab.";
/// The name of the TSIG key.
pub const KEY_NAME: &str = "lifeboat-key.";
/// The algorithm of the TSIG key.
pub const KEY_ALGORITHM: &str = "hmac-sha256";
/// The TSIG secret in base64. The servers listen on loopback only.
const KEY_SECRET: &str = "bGlmZWJvYXQtbGFiLWtleS1vbi1sb29wYmFjay1vbmx5IQ==";
/// The serial of a new zone.
pub const FIRST_SERIAL: u32 = 1;
/// How long a server may take to answer for the zone. A bound, not a wait.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The DNS servers of a lab.
#[derive(Debug)]
pub struct Dns {
    /// The primary server, named `ns1.orders.lab.`, which takes updates over UDP and TCP.
    pub primary: SocketAddr,
    /// The secondary server, named `ns2.orders.lab.`, which is notified and transfers.
    pub secondary: SocketAddr,
    /// The file that holds the TSIG secret in base64.
    pub key_file: PathBuf,
    /// The log of the primary server: one line with the serials for each change.
    pub log: PathBuf,
    servers: Mutex<Vec<Server>>,
    /// Ends with the lab; it does nothing that anybody calls.
    #[expect(dead_code, reason = "held for its drop")]
    notifier: Notifier,
}

/// What the zone says before anything changes it.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    /// The address that the record has.
    pub(crate) answer: Ipv4Addr,
    /// Time to live of the record, in seconds.
    pub(crate) ttl_seconds: u32,
}

impl Dns {
    /// Starts both servers and returns when both answer for the zone.
    pub(crate) fn start(place: &Place, port: u16, zone: &Zone) -> Result<Self> {
        let primary = SocketAddr::from((place.address(1), port));
        let secondary = SocketAddr::from((place.address(2), port));
        let key_file = place.secret("tsig", KEY_SECRET)?;
        let explain = |error: Trouble| {
            let logs = ["ns1", "ns2"].map(|name| process::end_of(&place.folder.join(format!("{name}.log"))));
            Trouble::new(format!("{error}\n{}", logs.join("\n")))
        };
        let mut servers = Vec::new();
        for (name, own, other) in [("ns1", primary, secondary), ("ns2", secondary, primary)] {
            let folder = place.make_for_servers(&format!("dns/{name}"))?;
            let settings = folder.join("knot.conf");
            write_for_servers(place, &settings, &configuration(name, own, other, &folder))?;
            if name == "ns1" {
                write_for_servers(place, &folder.join("orders.lab.zone"), &zone_file(zone, primary, secondary))?;
            }
            let mut knotd = place.account.command("/usr/sbin/knotd");
            knotd.arg("-c").arg(&settings);
            // ns2 would wait a second before it asks an ns1 again that was not there yet.
            if name == "ns2" {
                wait_serial(primary, FIRST_SERIAL, &mut servers).map_err(explain)?;
            }
            servers.push(Server::start(knotd, &place.pids(), name, &place.folder.join(format!("{name}.log")))?);
        }
        let notifier = Notifier::start(primary, secondary, ZONE)?;
        let log = place.folder.join("ns1.log");
        let dns = Self { primary, secondary, key_file, log, servers: Mutex::new(servers), notifier };
        dns.wait_serial(FIRST_SERIAL).map_err(|error| {
            let logs = ["ns1", "ns2"].map(|name| process::end_of(&place.folder.join(format!("{name}.log"))));
            Trouble::new(format!("{error}\n{}", logs.join("\n")))
        })?;
        Ok(dns)
    }

    /// The serial that the primary server has.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn serial(&self) -> Result<u32> {
        dns_query::serial(self.primary, ZONE)
    }

    /// The addresses that the primary server gives for a name; none when there is no such record.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn addresses(&self, name: &str) -> Result<Vec<Ipv4Addr>> {
        dns_query::addresses(self.primary, name)
    }

    /// Waits until both servers have at least this serial.
    ///
    /// # Errors
    /// The last answers, when they do not in time.
    pub fn wait_serial(&self, serial: u32) -> Result<()> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        wait_serial(self.primary, serial, &mut servers)?;
        wait_serial(self.secondary, serial, &mut servers)
    }

    /// Sends a signed update with `knsupdate`, as another tool or person would. `commands` are its lines without
    /// `server`, `zone` and `send`, for example `update add db.orders.lab. 1 A 127.0.0.1`.
    ///
    /// # Errors
    /// What the server answered when it is not NOERROR.
    pub fn update(&self, commands: &str) -> Result<()> {
        let output = self.begin_update(self.primary, commands)?.wait_with_output().doing(|| "run knsupdate".to_owned())?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        if output.status.success() && !said.contains("failed") {
            return Ok(());
        }
        Err(Trouble::new(format!("update refused: {}", said.trim())))
    }

    /// Like [`Dns::update`], through another address (a proxy's), and without waiting for the answer.
    ///
    /// # Errors
    /// When `knsupdate` does not start.
    pub fn begin_update(&self, server: SocketAddr, commands: &str) -> Result<Child> {
        let script = format!(
            "server {} {}\nzone {ZONE}\nkey {KEY_ALGORITHM}:{KEY_NAME} {KEY_SECRET}\n{commands}\nsend\n",
            server.ip(),
            server.port()
        );
        let mut child = Command::new("knsupdate")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| "start knsupdate".to_owned())?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(script.as_bytes()).doing(|| "talk to knsupdate".to_owned())?;
        }
        Ok(child)
    }

    /// Kills one server (0 is ns1), for tests about a server that does not answer.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_server(&self, number: usize) -> Result<()> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if number >= servers.len() {
            return Err(Trouble::new(format!("there is no running DNS server number {number}")));
        }
        servers.remove(number).kill_group()
    }

    /// Kills both servers.
    pub(crate) fn kill(&self) -> Result<()> {
        let servers = std::mem::take(&mut *self.servers.lock().unwrap_or_else(PoisonError::into_inner));
        servers.into_iter().try_for_each(Server::kill_group)
    }
}

/// Asks until the serial is reached, one of the servers ended, or the time is over.
fn wait_serial(server: SocketAddr, serial: u32, servers: &mut [Server]) -> Result<()> {
    let mut last = String::new();
    let reached = look_until(READY_WITHIN, || {
        let answer = dns_query::serial(server, ZONE);
        last = format!("{answer:?}");
        match answer {
            Ok(answer) if answer >= serial => Some(true),
            Ok(_) | Err(_) => servers.iter_mut().any(|server| !server.runs()).then_some(false),
        }
    });
    match reached {
        Some(true) => Ok(()),
        Some(false) | None => Err(Trouble::new(format!("{server} has not reached serial {serial} of {ZONE}, last answer {last}"))),
    }
}

fn write_for_servers(place: &Place, file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).doing(|| format!("write {}", file.display()))?;
    place::restrict(file, 0o600)?;
    place.account.own(file)
}

/// The journal holds all content, so that a killed server comes back with every update it acknowledged.
fn configuration(name: &str, own: SocketAddr, other: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let role = if name == "ns1" {
        "    notify: other\n    acl: [update, transfer]\n    zonefile-load: difference-no-serial\n    serial-policy: increment\n"
    } else {
        "    master: other\n    acl: [notify, notify-lab]\n    zonefile-load: none\n"
    };
    format!(
        "server:\n    rundir: {folder}\n    identity: {name}\n    listen: {}@{}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: {folder}\n    journal-db-max-size: 8M\n    timer-db-max-size: 1M\n\
         log:\n  - target: stdout\n    any: info\n\
         key:\n  - id: {KEY_NAME}\n    algorithm: {KEY_ALGORITHM}\n    secret: {KEY_SECRET}\n\
         remote:\n  - id: other\n    address: {}@{}\n    key: {KEY_NAME}\n\
         acl:\n  - id: update\n    key: {KEY_NAME}\n    action: update\n  - id: transfer\n    key: {KEY_NAME}\n    action: transfer\n  \
         - id: notify\n    key: {KEY_NAME}\n    action: notify\n  - id: notify-lab\n    address: 127.0.0.0/8\n    action: notify\n\
         zone:\n  - domain: {ZONE}\n    storage: {folder}\n    file: orders.lab.zone\n    zonefile-sync: -1\n    journal-content: all\n{role}",
        own.ip(),
        own.port(),
        other.ip(),
        other.port(),
    )
}

fn zone_file(zone: &Zone, primary: SocketAddr, secondary: SocketAddr) -> String {
    let Zone { answer, ttl_seconds } = zone;
    format!(
        "$ORIGIN {ZONE}\n$TTL 1\n\
         @ 1 SOA ns1 hostmaster {FIRST_SERIAL} 2 1 3600 1\n\
         @ 1 NS ns1\n@ 1 NS ns2\n\
         ns1 1 A {}\nns2 1 A {}\n\
         db {ttl_seconds} A {answer}\n",
        primary.ip(),
        secondary.ip()
    )
}
