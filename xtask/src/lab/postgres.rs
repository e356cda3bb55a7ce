//! Three PostgreSQL nodes named after regions: starting, stopping, killing, asking. How their clusters are made is in `template`.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lab::place::{self, Place};
use crate::lab::process::{self, Account, Server, Signal};
use crate::lab::template::{self, ROLES};
use crate::patience::look_until;
use crate::trouble::{Doing, Result, Trouble};

/// The region whose node is the primary when a lab starts.
pub const PRIMARY: &str = "us-east-1";
/// The regions, in the order of their addresses. The first is the primary's.
pub const REGIONS: [&str; 3] = [PRIMARY, "us-west-2", "eu-west-1"];
/// The database that the lab's application uses.
pub const DATABASE: &str = "orders";
/// How long a server may take to accept connections, or replicas to stream. A bound for a busy machine, not a wait.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Where Debian keeps the binaries.
const BINARIES: &str = "/usr/lib/postgresql/15/bin";

/// Whether the servers wait for the disk. Tests about promotion do not need them to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync=on`, as in production.
    Full,
    /// `fsync=off`.
    Relaxed,
}

/// How PostgreSQL is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, the last WAL is shipped, a checkpoint is written.
    Fast,
    /// Everything is dropped at once; the next start recovers.
    Immediate,
}

/// What differs between one lab's node and another's.
#[derive(Debug, Clone)]
pub(crate) struct Wiring {
    pub(crate) region: String,
    pub(crate) listen: Ipv4Addr,
    pub(crate) port: u16,
    /// Where this node streams from while it is a standby.
    pub(crate) upstream: (Ipv4Addr, u16),
    /// The WAL archive that all nodes share.
    pub(crate) wal: PathBuf,
    pub(crate) durability: Durability,
}

/// One PostgreSQL node of a lab.
#[derive(Debug)]
pub struct Node {
    /// The region, which is also the node's name.
    pub name: String,
    /// A loopback address of its own.
    pub address: Ipv4Addr,
    /// The port, the same for all nodes of a lab.
    pub port: u16,
    /// The data folder.
    pub data: PathBuf,
    /// The server's log, from the start of the lab.
    pub log: PathBuf,
    /// A script that runs `pg_ctl` for this node as the user that owns it: `pg_ctl_script stop -m fast`.
    pub pg_ctl_script: PathBuf,
    account: Account,
    pids: PathBuf,
    server: Mutex<Option<Server>>,
}

impl Node {
    /// Address and port.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.port))
    }

    /// The postmaster's pid while it runs, whoever started it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut server = self.server();
        if let Some(ours) = server.as_mut()
            && ours.runs()
        {
            return Some(ours.pid());
        }
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.parse().ok()?;
        process::Identity::of(pid).is_some_and(process::Identity::runs).then_some(pid)
    }

    /// Starts the node and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start; the end of its log is in the message.
    pub fn start(&self) -> Result<()> {
        self.begin()?;
        self.finish_start()
    }

    /// Starts without waiting, so that several nodes can start side by side.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut slot = self.server();
        if slot.as_mut().is_some_and(Server::runs) {
            return Err(Trouble::new(format!("{} already runs", self.name)));
        }
        // A killed postmaster leaves its pid file; it is stale, because the process is gone, and would only cost a retry.
        *slot = Some(launch(self.account, &self.data, &self.log, &self.pids, &self.name)?);
        Ok(())
    }

    pub(crate) fn finish_start(&self) -> Result<()> {
        match self.server().as_mut() {
            Some(server) => wait_ready(server, &self.data, &self.log),
            None => Err(Trouble::new(format!("{} was not started", self.name))),
        }
    }

    /// Stops the node in an orderly way and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&self, how: Shutdown) -> Result<()> {
        let Some(server) = self.server().take() else {
            return Ok(());
        };
        server.signal(match how {
            Shutdown::Fast => Signal::Interrupt,
            Shutdown::Immediate => Signal::Quit,
        })?;
        server.wait()
    }

    /// Kills the whole node at once: the postmaster is frozen, its children are killed, then it is. Returns when nothing of it runs.
    ///
    /// Killing the postmaster alone would let backends acknowledge commits a little longer.
    ///
    /// # Errors
    /// When a process cannot be killed.
    pub fn kill_group(&self) -> Result<()> {
        match self.server().take() {
            Some(server) => server.kill_group(),
            None => Ok(()),
        }
    }

    /// Freezes every process of the node: it keeps its connections and answers nothing. `thaw` undoes it.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn freeze(&self) -> Result<()> {
        let pid = self.pid().ok_or_else(|| Trouble::new(format!("{} does not run", self.name)))?;
        process::signal(Signal::Stop, &[pid])?;
        process::signal(Signal::Stop, &process::children_of(pid))
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn thaw(&self) -> Result<()> {
        let pid = self.pid().ok_or_else(|| Trouble::new(format!("{} does not run", self.name)))?;
        process::signal(Signal::Continue, &process::children_of(pid))?;
        process::signal(Signal::Continue, &[pid])
    }

    /// Runs SQL as a role in the database `orders` and returns the rows as psql prints them with `-At`: `|` between columns.
    ///
    /// # Errors
    /// What PostgreSQL answered, or that it could not be reached.
    pub fn psql(&self, role: &str, sql: &str) -> Result<String> {
        self.psql_in(DATABASE, role, sql)
    }

    /// Like [`Node::psql`], in another database.
    ///
    /// # Errors
    /// What PostgreSQL answered, or that it could not be reached.
    pub fn psql_in(&self, database: &str, role: &str, sql: &str) -> Result<String> {
        let mut psql = psql_command(self.address, self.port, role, database);
        psql.args(["-At", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]).stdin(Stdio::piped());
        let mut child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().doing(|| "start psql".to_owned())?;
        if let Some(mut input) = child.stdin.take() {
            // psql that could not connect has closed its input; what it says on stderr is the better message.
            let _unread = input.write_all(sql.as_bytes());
        }
        let output = child.wait_with_output().doing(|| "run psql".to_owned())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(Trouble::new(format!("{} ({role}): {}", self.name, String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// How many lines of the server's log contain `text`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log_count(&self, text: &str) -> Result<usize> {
        let log = fs::read(&self.log).doing(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).count())
    }

    /// Makes this standby stream through `upstream` (a proxy, or another node) from now on.
    ///
    /// # Errors
    /// When the setting cannot be changed.
    pub fn stream_from(&self, upstream: SocketAddr) -> Result<()> {
        let SocketAddr::V4(upstream) = upstream else {
            return Err(Trouble::new(format!("{upstream} is no IPv4 address")));
        };
        let info = conninfo(&self.name, (*upstream.ip(), upstream.port())).replace('\'', "''");
        self.psql("postgres", &format!("alter system set primary_conninfo = '{info}';"))?;
        self.psql("postgres", "select pg_reload_conf();")?;
        // The walreceiver is restarted by the startup process; until its upstream is the new one, nothing was changed.
        let wanted = format!(
            "select count(*) from pg_stat_wal_receiver where sender_host = '{}' and sender_port = {} and status = 'streaming'",
            upstream.ip(),
            upstream.port()
        );
        self.wait_until(&wanted, "1")
    }

    /// Follows a node that was made as a standby. The slots of the lab stand on the primary alone, so this one gets one where it goes.
    ///
    /// # Errors
    /// Where the slot cannot be made, or it does not stream from there within a bounded time.
    pub fn cascade_from(&self, upstream: &Self) -> Result<()> {
        upstream.psql("postgres", &format!("select pg_create_physical_replication_slot('{}');", slot(&self.name)))?;
        self.stream_from(upstream.socket())
    }

    /// Asks until the answer is `answer`, at most a bounded time.
    ///
    /// # Errors
    /// The last answer, when the time is over.
    pub fn wait_until(&self, sql: &str, answer: &str) -> Result<()> {
        let mut last = Ok(String::new());
        let found = look_until(READY_WITHIN, || {
            last = self.psql("postgres", sql);
            last.as_deref().is_ok_and(|last| last == answer).then_some(())
        });
        found.ok_or_else(|| {
            Trouble::new(format!("{}: waited for {answer:?} of {sql:?}, last answer {last:?}\n{}", self.name, process::end_of(&self.log)))
        })
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The three nodes of a lab.
#[derive(Debug)]
pub struct Postgres {
    /// In the order of [`REGIONS`].
    pub nodes: Vec<Node>,
    /// The WAL archive that all nodes share.
    pub wal: PathBuf,
    secrets: PathBuf,
}

impl Postgres {
    /// Copies the template and starts all nodes; returns when both replicas stream.
    pub(crate) fn start(place: &Place, port: u16, durability: Durability) -> Result<Self> {
        let template = template::ready(place.account)?;
        let wal = place.folder.join("wal");
        let primary = (place.address(1), port);
        for role in ROLES {
            place.secret(role, &template::password(role))?;
        }
        copy(&template.join("wal"), &wal)?;
        let mut nodes = Vec::new();
        for (number, region) in (1u8..).zip(REGIONS) {
            let data = place.folder.join("postgres").join(region);
            copy(&template.join(region), &data)?;
            let wiring =
                Wiring { region: region.to_owned(), listen: place.address(number), port, upstream: primary, wal: wal.clone(), durability };
            write_wiring(&data, place.account, &wiring)?;
            let node = Node {
                name: region.to_owned(),
                address: wiring.listen,
                port,
                log: place.folder.join(format!("{region}.log")),
                pg_ctl_script: write_pg_ctl(place, region, &data)?,
                data,
                account: place.account,
                pids: place.pids(),
                server: Mutex::new(None),
            };
            node.begin()?;
            nodes.push(node);
        }
        for node in &nodes {
            node.finish_start()?;
        }
        let postgres = Self { nodes, wal, secrets: place.folder.join("secrets") };
        postgres.wait_streaming()?;
        Ok(postgres)
    }

    /// The node of a region. Panics for a region that the lab does not have: that is a mistake in the test.
    #[must_use]
    pub fn node(&self, region: &str) -> &Node {
        match self.nodes.iter().find(|node| node.name == region) {
            Some(node) => node,
            None => panic!("the lab has the nodes {REGIONS:?}, not {region:?}"),
        }
    }

    /// The file that holds a role's password.
    #[must_use]
    pub fn secret(&self, role: &str) -> PathBuf {
        self.secrets.join(role)
    }

    /// Waits until both replicas stream and have replayed everything that the primary has now.
    ///
    /// # Errors
    /// The last state seen, when they do not in time.
    pub fn wait_streaming(&self) -> Result<()> {
        let primary = self.node(PRIMARY);
        let position = primary.psql("postgres", "select pg_current_wal_lsn()")?;
        // The replicas are asked themselves: what the primary knows of their replay may be ten seconds old.
        let caught_up = format!(
            "select pg_last_wal_replay_lsn() >= '{position}' and exists \
             (select from pg_stat_wal_receiver where status = 'streaming')"
        );
        self.nodes.iter().filter(|node| node.name != PRIMARY).try_for_each(|node| node.wait_until(&caught_up, "t"))
    }

    /// Ends every node without caring for its data.
    ///
    /// The postmaster is asked first, because it collects its children; killed ones stay zombies where init does not collect.
    pub(crate) fn end(&self) -> Result<()> {
        let servers: Vec<Server> = self.nodes.iter().filter_map(|node| node.server().take()).collect();
        for server in &servers {
            server.signal(Signal::Quit)?;
        }
        servers.into_iter().try_for_each(Server::end)
    }
}

/// A number from 1 for the node of a region, for its address.
pub(crate) fn number_of(region: &str) -> u32 {
    (1u32..).zip(REGIONS).find_map(|(number, name)| (name == region).then_some(number)).unwrap_or(0)
}

/// The path of a PostgreSQL 15 program.
pub(crate) fn binary(name: &str) -> PathBuf {
    Path::new(BINARIES).join(name)
}

/// Frees the System V segments of killed servers: the kernel keeps them, has a few thousand in all, and nobody would start there again.
pub(crate) fn free_shared_memory(nodes: &Path) {
    let Ok(entries) = fs::read_dir(nodes) else { return };
    for entry in entries.flatten() {
        let Ok(pid_file) = fs::read_to_string(entry.path().join("postmaster.pid")) else { continue };
        let segment = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1).map(str::to_owned));
        if let Some(segment) = segment {
            // A segment that is gone already is just what is wanted.
            let _freed = Command::new("ipcrm").args(["-m", &segment]).stderr(Stdio::null()).status();
        }
    }
}

/// A psql that talks to one node and nothing else: no password prompt, no startup file, a bounded connect.
pub(crate) fn psql_command(address: Ipv4Addr, port: u16, role: &str, database: &str) -> Command {
    let mut psql = Command::new(binary("psql"));
    psql.args(["-X", "-w", "-h"]).arg(address.to_string()).arg("-p").arg(port.to_string());
    psql.args(["-U", role, "-d", database]);
    psql.env("PGPASSWORD", template::password(role)).env("PGCONNECT_TIMEOUT", "5").env("PGAPPNAME", "lab");
    for inherited in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE", "PGOPTIONS", "PGPASSFILE"] {
        psql.env_remove(inherited);
    }
    psql
}

/// Starts the postmaster as a child of ours, so that its pid is known from the first moment.
pub(crate) fn launch(account: Account, data: &Path, log: &Path, pids: &Path, name: &str) -> Result<Server> {
    let mut postgres = account.command(binary("postgres"));
    postgres.arg("-D").arg(data);
    Server::start(postgres, pids, name, log)
}

/// Waits until `postmaster.pid` says that connections are accepted.
pub(crate) fn wait_ready(server: &mut Server, data: &Path, log: &Path) -> Result<()> {
    let ready = look_until(READY_WITHIN, || {
        let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = status.lines();
        let ours = lines.next() == Some(&server.pid().to_string());
        if ours && lines.nth(6).map(str::trim) == Some("ready") {
            return Some(true);
        }
        (!server.runs()).then_some(false)
    });
    match ready {
        Some(true) => Ok(()),
        Some(false) | None => Err(Trouble::new(format!("{} did not start: {}", data.display(), process::end_of(log)))),
    }
}

/// The name of a node's replication slot.
pub(crate) fn slot(region: &str) -> String {
    region.replace('-', "_")
}

fn conninfo(region: &str, upstream: (Ipv4Addr, u16)) -> String {
    let (host, port) = upstream;
    let password = template::password("replicator");
    format!("host={host} port={port} user=replicator password={password} application_name={region} connect_timeout=5")
}

/// Writes `lab.conf`, which `postgresql.conf` includes as its last line.
pub(crate) fn write_wiring(data: &Path, account: Account, wiring: &Wiring) -> Result<()> {
    let Wiring { region, listen, port, upstream, wal, durability } = wiring;
    let fsync = match durability {
        Durability::Full => "on",
        Durability::Relaxed => "off",
    };
    // The timeout of the walreceiver is short, so that a cut link is noticed and retried within a test's patience.
    let text = format!(
        "listen_addresses = '{listen}'\nport = {port}\ncluster_name = '{region}'\nfsync = {fsync}\n\
         archive_command = 'test -f \"{wal}/%f\" || (cp \"%p\" \"{wal}/%f.$$\" && mv \"{wal}/%f.$$\" \"{wal}/%f\")'\n\
         restore_command = 'cp \"{wal}/%f\" \"%p\" 2>/dev/null'\n\
         primary_conninfo = '{conninfo}'\nprimary_slot_name = '{slot}'\nwal_retrieve_retry_interval = 200ms\n",
        wal = wal.display(),
        conninfo = conninfo(region, *upstream),
        slot = if region == PRIMARY { String::new() } else { slot(region) },
    );
    let file = data.join("lab.conf");
    fs::write(&file, text).doing(|| format!("write {}", file.display()))?;
    place::restrict(&file, 0o600)?;
    account.own(&file)
}

/// A script per node, because `pg_ctl` refuses to run as root and a runbook's command is an argument list.
fn write_pg_ctl(place: &Place, region: &str, data: &Path) -> Result<PathBuf> {
    let folder = place.folder.join("bin");
    fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
    let script = folder.join(format!("pg_ctl-{region}"));
    let text = format!(
        "#!/bin/sh\n# pg_ctl of the node {region}, as the user that owns it.\ncd / && {} {} -D '{}' \"$@\"\n",
        place.account.shell_prefix(),
        binary("pg_ctl").display(),
        data.display()
    );
    fs::write(&script, text).doing(|| format!("write {}", script.display()))?;
    place::restrict(&script, 0o755)?;
    Ok(script)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(from).arg(to).status().doing(|| "run cp".to_owned())?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("cannot copy {} to {}", from.display(), to.display()))) }
}
