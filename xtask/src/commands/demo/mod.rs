//! `cargo xtask demo [--keep] [--lossy] [--stop]`: a real primary dies, a real replica takes over, and a client that Lifeboat knows nothing of
//! says whether the report is true. The order of events is here; the client, the second terminal and the comparison are beside.

mod client;
mod instant;
mod json;
mod second_terminal;
mod truth;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask::lab::postgres::{Durability, PRIMARY, REGIONS};
use xtask::lab::proxy::TcpProxy;
use xtask::lab::{self, Lab, Layout, Parts, Ports, dns, install};
use xtask::{Result, Trouble, look_until};

use client::Client;
use instant::Instant;
use json::Json;
use truth::{Agrees, Truth};

/// The address before the first node's. They are written in the example's inventory too.
const ADDRESSES: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 0);
/// The ports of the example's inventory: PostgreSQL, DNS.
const PORTS: Ports = Ports::Exactly(15_432, 15_353);
/// The region that takes over.
const TARGET: &str = "us-west-2";
/// Rows that are acknowledged before anything bad happens: two seconds of ordinary life.
const ROWS_BEFORE: usize = 40;
/// Rows that are acknowledged after replication was cut: four seconds of work that will be lost, twice what the runbook promises at most.
const ROWS_TO_LOSE: usize = 80;
/// Rows that must come back through the new address before the client is believed.
const ROWS_AFTER: usize = 20;
/// A bound for everything that is waited for; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command line asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Wishes {
    afterwards: Afterwards,
    replication: Replication,
}

/// What becomes of the lab at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Afterwards {
    #[default]
    CleanUp,
    Keep,
}

/// How replication is until the primary dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Replication {
    #[default]
    Healthy,
    /// Cut four seconds before, so that acknowledged rows exist on the dying primary only.
    CutBefore,
}

/// Runs the demo.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let mut wishes = Wishes::default();
    for word in words {
        match *word {
            "--keep" => wishes.afterwards = Afterwards::Keep,
            "--lossy" => wishes.replication = Replication::CutBefore,
            "--stop" => return stop(),
            other => return Err(Trouble::new(format!("`demo` knows --keep, --lossy and --stop, not `{other}`"))),
        }
    }
    let _turn = lab::only_one(&folder().with_extension("lock"), "another demo is running in this clone")?;
    let stage = Stage::prepare(wishes.replication)?;
    let verdicts = stage.play()?;
    if wishes.afterwards == Afterwards::Keep {
        stage.keep();
    } else {
        drop(stage);
        println!("\ncleaned up; the report stays in {}", folder().join("report.html").display());
    }
    match verdicts {
        Agrees::Yes => Ok(()),
        Agrees::No => Err(Trouble::new("the report and the client do not agree; see above")),
    }
}

fn stop() -> Result<()> {
    lab::end_kept(&folder().join("lab"))?;
    println!("nothing of the demo runs any more");
    Ok(())
}

fn folder() -> PathBuf {
    lab::target().join("demo")
}

fn example(name: &str) -> PathBuf {
    lab::root().join("examples/postgres-failover").join(name)
}

fn say(text: &str) {
    println!("\n\u{2500}\u{2500} {text}");
}

/// Everything that stands before the first bad thing happens.
struct Stage {
    lab: Lab,
    /// Replication streams through these when it is to be cut; without them it is as usual.
    links: Vec<TcpProxy>,
    lifeboat: PathBuf,
    config: PathBuf,
    data: PathBuf,
}

impl Stage {
    fn prepare(replication: Replication) -> Result<Self> {
        if replication == Replication::CutBefore {
            second_terminal::possible()?;
        }
        say("what the lab needs");
        install::peers(&mut |line| println!("{line}"))?;
        let lifeboat = build()?;
        println!("PostgreSQL 15, Knot and the lifeboat binary are here");

        say("a lab on loopback: three PostgreSQL nodes, two DNS servers");
        lab::end_kept(&folder().join("lab"))?;
        empty(&folder())?;
        let lab = Lab::lay_out(Layout {
            parts: Parts::PostgresAndDns,
            durability: Durability::Full,
            at: Some((folder().join("lab"), ADDRESSES)),
            ports: PORTS,
            farewell: "\ndemo: interrupted; every process that it started is ended".to_owned(),
        })?;
        for region in REGIONS {
            let role = if region == PRIMARY { "primary" } else { "streaming replica" };
            println!("{region}: {} ({role})", lab.node(region).socket());
        }
        println!("{} is answered by {} and {}, time to live 1 s", dns::RECORD, lab.dns().primary, lab.dns().secondary);
        let mut links = Vec::new();
        if replication == Replication::CutBefore {
            for region in REGIONS.into_iter().filter(|region| *region != PRIMARY) {
                let link = lab.proxy_to(PRIMARY)?;
                lab.node(region).stream_from(link.address)?;
                links.push(link);
            }
        }
        let config = match replication {
            Replication::Healthy => example("lifeboat.yaml"),
            Replication::CutBefore => second_terminal::inventory(&lab, &example("lifeboat.yaml"), &folder())?,
        };
        let data = second_terminal::data_folder(&lab, &folder());
        Ok(Self { lab, links, lifeboat, config, data })
    }

    /// A lifeboat command on this stage.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.lifeboat);
        command.arg("--config").arg(&self.config).arg("--data").arg(&self.data).current_dir(lab::root());
        command
    }

    fn play(&self) -> Result<Agrees> {
        self.start_heartbeat()?;
        let client = self.start_client()?;
        if !self.links.is_empty() {
            self.cut_replication(&client)?;
        }
        say("the primary dies: SIGKILL for its whole process group");
        let before_kill = Instant::now();
        self.lab.node(PRIMARY).kill_group()?;
        println!("{PRIMARY} is dead; the client cannot write");

        let command_line = "lifeboat run examples/postgres-failover/runbook.yaml --mode failover";
        say(command_line);
        let answerer =
            if self.links.is_empty() { None } else { Some(second_terminal::open(&self.lab, &self.lifeboat, &self.config, &self.data)?) };
        let mut run = self.command();
        run.arg("run").arg(example("runbook.yaml")).args(["--mode", "failover"]);
        let mut run = run.spawn().map_err(|error| Trouble::new(format!("cannot start lifeboat: {error}")))?;
        self.lab.adopt("run", run.id())?;
        let ended = run.wait().map_err(|error| Trouble::new(format!("cannot wait for lifeboat: {error}")))?;
        if let Some(answerer) = answerer {
            answerer.finish()?;
        }
        if !ended.success() {
            return Err(Trouble::new(format!("`{command_line}` ended with {ended}")));
        }
        self.wait_for_rows(&client, ROWS_AFTER, Some(before_kill), "the client's writes to come back")?;
        self.judge(client, before_kill)
    }

    fn start_heartbeat(&self) -> Result<()> {
        let log = folder().join("heartbeat.log");
        let output = File::create(&log).map_err(|error| Trouble::new(format!("cannot create {}: {error}", log.display())))?;
        let mut heartbeat = self.command();
        heartbeat.args(["heartbeat", "orders-db", "--create-table"]).process_group(0);
        heartbeat.stdin(Stdio::null()).stderr(output.try_clone().map_err(|error| Trouble::new(error.to_string()))?).stdout(output);
        let mut heartbeat = heartbeat.spawn().map_err(|error| Trouble::new(format!("cannot start the heartbeat: {error}")))?;
        self.lab.adopt("heartbeat", heartbeat.id())?;
        let file = folder().join("heartbeat.json");
        // It counts as beating once a few rows were acknowledged; a heartbeat that ends explains itself in its log.
        let beats = look_until(PATIENCE, || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let beating = Json::parse(&text).is_some_and(|json| json.at("recent.3").is_some());
            if beating { Some(true) } else { heartbeat.try_wait().ok().flatten().map(|_| false) }
        });
        if beats == Some(true) {
            println!("lifeboat heartbeat orders-db: four rows a second, acknowledged ones kept in {}", file.display());
            return Ok(());
        }
        Err(Trouble::new(format!("the heartbeat does not beat: {}", std::fs::read_to_string(&log).unwrap_or_default().trim())))
    }

    fn start_client(&self) -> Result<Client> {
        let password = self.lab.secret("app");
        let settings = client::Settings {
            name: dns::RECORD.to_owned(),
            dns: self.lab.dns().primary,
            port: self.lab.node(PRIMARY).port,
            password: std::fs::read_to_string(&password)
                .map_err(|error| Trouble::new(format!("cannot read {}: {error}", password.display())))?,
            psql: PathBuf::from("/usr/lib/postgresql/15/bin/psql"),
        };
        let log = folder().join("client.log");
        let client = Client::start(settings, &log)?;
        self.wait_for_rows(&client, ROWS_BEFORE, None, "the client's first rows")?;
        println!("a client that finds the database by the name {} commits a row every 50 ms; its log: {}", dns::RECORD, log.display());
        Ok(client)
    }

    fn cut_replication(&self, client: &Client) -> Result<()> {
        say("replication is cut: from here on acknowledged rows exist in one place only");
        for link in &self.links {
            link.cut();
        }
        self.wait_for_rows(client, client.acknowledged().len() + ROWS_TO_LOSE, None, "rows that will be lost")
    }

    fn wait_for_rows(&self, client: &Client, count: usize, since: Option<Instant>, what: &str) -> Result<()> {
        let rows = || client.acknowledged().iter().filter(|row| since.is_none_or(|since| row.at > since)).count();
        look_until(PATIENCE, || (rows() >= count).then_some(())).ok_or_else(|| Trouble::new(format!("waited in vain for {what}")))
    }

    /// Holds the report against the client's log.
    fn judge(&self, client: Client, before_kill: Instant) -> Result<Agrees> {
        let rows = client.stop();
        let html = folder().join("report.html");
        self.succeed(self.command().args(["report", "--format", "html", "--output"]).arg(&html))?;
        let text = self.succeed(self.command().args(["report", "--format", "json"]))?;
        let report = Json::parse(&text).ok_or_else(|| Trouble::new("the report is no JSON"))?;
        let ids = self.lab.node(TARGET).psql("app", "select id from orders")?;
        let found: BTreeSet<u64> = ids.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let truth = Truth::tell(&rows, &found, before_kill).ok_or_else(|| Trouble::new("the client saw no end of the outage"))?;

        say("the report, held against the log of a client that Lifeboat knows nothing of");
        let verdicts = truth::compare(&report, &truth);
        for verdict in &verdicts {
            let mark = if verdict.agrees == Agrees::Yes { "agrees" } else { "DOES NOT AGREE" };
            println!("{}: {mark}", verdict.sentence);
        }
        println!("report as a page: {}", html.display());
        println!("the client's own log: {}", folder().join("client.log").display());
        Ok(if verdicts.iter().all(|verdict| verdict.agrees == Agrees::Yes) { Agrees::Yes } else { Agrees::No })
    }

    fn succeed(&self, command: &mut Command) -> Result<String> {
        let output = command.output().map_err(|error| Trouble::new(format!("cannot start lifeboat: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Trouble::new(format!("lifeboat {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
    }

    fn keep(self) {
        self.lab.keep();
        say("the lab goes on");
        let node = self.lab.node(TARGET);
        println!("PGPASSWORD=$(cat {}) psql -h {} -p {} -U app orders", self.lab.secret("app").display(), node.address, node.port);
        println!("kdig @{} -p {} {}", self.lab.dns().primary.ip(), self.lab.dns().primary.port(), dns::RECORD);
        println!("{} --config {} --data {} runs", self.lifeboat.display(), self.config.display(), self.data.display());
        println!("to end it: cargo xtask demo --stop");
    }
}

/// Builds the binary as every other build does, so that nothing is compiled twice.
pub(super) fn build() -> Result<PathBuf> {
    install::build_tools(&mut |line| println!("{line}"))?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--bin", "lifeboat"]).current_dir(lab::root());
    if lab::root().join("target/debug/lifeboat").exists() {
        cargo.arg("--quiet");
    } else {
        println!("building lifeboat: the first time takes some minutes");
    }
    let status = cargo.status();
    match status {
        Ok(status) if status.success() => Ok(lab::target().join("debug/lifeboat")),
        Ok(status) => Err(Trouble::new(format!("lifeboat does not build ({status})"))),
        Err(error) => Err(Trouble::new(format!("cannot run cargo: {error}"))),
    }
}

/// Removes what an earlier demo left: its journal would hold locks that nobody will release.
fn empty(folder: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Trouble::new(format!("cannot empty {}: {error}", folder.display())));
        }
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(folder).map_err(|error| Trouble::new(format!("cannot make {}: {error}", folder.display())))
}
