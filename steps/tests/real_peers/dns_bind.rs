//! `update-dns` against real BIND servers. The secondary is told of nothing until the test tells it: a server that lags.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lifeboat_engine::census::Census;
use lifeboat_engine::step::{Step, StepError};
use lifeboat_steps::update_dns::UpdateDns;
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::lab::dns_query;

use crate::stage::{Stage, look_until, ready, refusal, seen, step};

const KEY: &str = "bGlmZWJvYXQtdGVzdC1rZXktb24tbG9vcGJhY2stb25seSE=";
const NAMED: &str = "/usr/sbin/named";

/// How long a server may take to start. A bound, not a wait.
const READY: Duration = Duration::from_secs(30);

/// Two BIND servers for `bind.lab.`, killed when this is dropped.
struct Bind {
    primary: SocketAddr,
    secondary: SocketAddr,
    folder: TempDir,
    children: Vec<Child>,
}

impl Drop for Bind {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Bind {
    fn start() -> Self {
        assert!(Path::new(NAMED).exists(), "{NAMED} is missing: run `cargo xtask install`, or `apt-get install bind9`");
        let folder = TempDir::new().unwrap();
        open(folder.path());
        let (primary, secondary) = (free(), free());
        std::fs::write(folder.path().join("key"), format!("{KEY}\n")).unwrap();
        let zone =
            "$TTL 30\n@ SOA ns1 hostmaster 7 3600 3600 86400 9\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.1\ndb 30 A 192.0.2.1\n";
        let mut bind = Self { primary, secondary, folder, children: Vec::new() };
        bind.serve(
            "primary",
            primary,
            "type primary; file \"zone\"; allow-transfer { any; }; notify no; update-policy { grant lifeboat-key zonesub any; };",
            Some(zone),
        );
        bind.serve(
            "secondary",
            secondary,
            &format!("type secondary; file \"copy\"; notify no; masters {{ {} port {}; }};", primary.ip(), primary.port()),
            None,
        );
        bind
    }

    fn serve(&mut self, name: &str, address: SocketAddr, zone: &str, file: Option<&str>) {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        open(&folder);
        if let Some(file) = file {
            std::fs::write(folder.join("zone"), file).unwrap();
        }
        let at = folder.display();
        let mut settings = format!("key \"lifeboat-key\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\ncontrols {{}};\n");
        write!(
            settings,
            "options {{ directory \"{at}\"; pid-file none; session-keyfile \"{at}/session.key\"; managed-keys-directory \"{at}\"; \
             listen-on port {} {{ {}; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; allow-notify {{ any; }}; }};\n\
             zone \"bind.lab\" {{ {zone} }};\n",
            address.port(),
            address.ip()
        )
        .unwrap();
        std::fs::write(folder.join("named.conf"), settings).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        // As root it gives its rights away first, like every server of the tests.
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig", "KILL", "--", NAMED]);
            command
        } else {
            Command::new(NAMED)
        };
        command.arg("-c").arg(folder.join("named.conf")).args(["-g", "-n", "1"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children.push(command.spawn().unwrap());
        // Also by TCP, which a zone is transferred with: a secondary that is refused asks again much later.
        let up = look_until(READY, || {
            let answers = dns_query::serial(address, "bind.lab.").ok();
            answers.filter(|_| std::net::TcpStream::connect(address).is_ok())
        });
        assert!(up.is_some(), "{name} does not serve: {}", std::fs::read_to_string(folder.join("log")).unwrap());
    }

    fn serial(&self, server: SocketAddr) -> u32 {
        dns_query::serial(server, "bind.lab.").unwrap()
    }

    /// Tells the secondary that there is something new.
    fn notify(&self) {
        let notify = format!("NOTIFY={}", self.serial(self.primary));
        let told = Command::new("kdig")
            .args(["-p", &self.secondary.port().to_string(), &format!("@{}", self.secondary.ip()), "bind.lab.", &notify])
            .output()
            .unwrap();
        assert!(told.status.success(), "{told:?}");
    }

    /// Changes the zone as another person would.
    fn update(&self, lines: &str) {
        use std::io::Write as _;
        let mut child = Command::new("knsupdate").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let script = format!(
            "server {} {}\nkey hmac-sha256:lifeboat-key {KEY}\nzone bind.lab.\n{lines}\nsend\nquit\n",
            self.primary.ip(),
            self.primary.port()
        );
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn stage(&self, name: &str, key: &str) -> Stage {
        let record: Value = json!({
            "name": name, "type": "A", "ttl": 30, "targets": { "east": ["192.0.2.1"], "west": ["192.0.2.2"] },
            "rfc2136": {
                "zone": "bind.lab.", "primary": self.primary.to_string(), "servers": [self.primary.to_string(), self.secondary.to_string()],
                "tsig": { "name": key, "secret": "file:key" },
            },
        });
        Stage::new(json!({ "lifeboat": "v1", "dns-records": { "orders-dns": record } }), self.folder.path())
    }
}

fn open(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

fn free() -> SocketAddr {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    // Below the ports that the system gives to connections, because a name server needs its number for TCP and UDP alike.
    let begin = std::process::id().wrapping_mul(17);
    let ports = (0..10_000).map(|_| 20_000 + begin.wrapping_add(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) % 10_000);
    let mut addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap())));
    addresses
        .find(|address| std::net::UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok())
        .expect("no port is free")
}

fn west() -> UpdateDns {
    step(json!({ "record": "orders-dns", "to": "west" }))
}

#[tokio::test]
async fn a_server_that_lags_is_waited_for_and_named() {
    let bind = Bind::start();
    let (stage, step) = (bind.stage("db.bind.lab.", "lifeboat-key"), west());
    let serial = bind.serial(bind.primary);
    let intent = ready(&step, &stage).await;
    let late = step.execute(&intent, &stage.act_for(Duration::from_secs(3))).await;
    let Err(StepError::Unknown { why }) = late else { panic!("{late:?}") };
    assert!(why.contains(&format!("{} still says 192.0.2.1 (TTL 30 s) (serial {serial})", bind.secondary)), "{why}");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "in progress");
    bind.notify();
    let moved = step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!((moved.serial_after, bind.serial(bind.primary)), (Some(serial + 1), serial + 1), "the change was sent twice");
    assert!(moved.servers.iter().all(|server| server.serial == Some(serial + 1)), "{:?}", moved.servers);
    assert_eq!(moved.ttl_seconds, 30);
}

#[tokio::test]
async fn an_alias_that_comes_between_is_not_taken_for_success() {
    let bind = Bind::start();
    let (stage, step) = (bind.stage("new.bind.lab.", "lifeboat-key"), west());
    let intent = ready(&step, &stage).await;
    // BIND would answer NOERROR to an address beside it, and do nothing.
    bind.update("update add new.bind.lab. 30 CNAME ns1.bind.lab.");
    let refused = step.execute(&intent, &stage.act()).await;
    assert!(matches!(&refused, Err(StepError::Refused { why, .. }) if why.contains("somebody else")), "{refused:?}");
}

#[tokio::test]
async fn bind_says_which_key_it_does_not_take() {
    let bind = Bind::start();
    let why = refusal(&west(), &bind.stage("db.bind.lab.", "unknown-key")).await;
    assert!(why.contains("BADKEY"), "{why}");
    std::fs::write(bind.folder.path().join("key"), "d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXktISE=").unwrap();
    let why = refusal(&west(), &bind.stage("db.bind.lab.", "lifeboat-key")).await;
    assert!(why.contains("BADSIG"), "{why}");
}

#[tokio::test]
async fn a_rule_of_the_server_against_the_update_is_told() {
    let bind = Bind::start();
    // A secondary takes no updates.
    let (stage, step) = (bind.stage("db.bind.lab.", "lifeboat-key"), west());
    let intent = ready(&step, &stage).await;
    let mut elsewhere = intent.clone();
    let lifeboat_steps::update_dns::Intent::Rfc2136(inner) = &mut elsewhere else { panic!("{intent:?}") };
    inner.primary = bind.secondary;
    let refused = step.execute(&elsewhere, &stage.act()).await;
    assert!(matches!(&refused, Err(StepError::NotDone { why, .. }) if why.contains("did not take the update")), "{refused:?}");
    assert_eq!(bind.serial(bind.primary), 7);
}

#[tokio::test]
async fn a_server_that_lags_is_listed_apart_and_an_alias_is_told_as_one() {
    let bind = Bind::start();
    let states = async |stage: &Stage| {
        let listed = <UpdateDns as Step>::census("orders-dns", &stage.read()).await.unwrap();
        let Census::Listed(things) = listed else { panic!("{listed:?}") };
        let state = |server: SocketAddr| things.iter().find(|thing| thing.name.ends_with(&format!(" at {server}"))).unwrap().state.clone();
        (state(bind.primary), state(bind.secondary))
    };
    let stage = bind.stage("db.bind.lab.", "lifeboat-key");
    let before = states(&stage).await;
    assert!(before.0 == before.1 && before.0.contains("192.0.2.1"), "{before:?}");
    bind.update("update delete db.bind.lab. A\nupdate add db.bind.lab. 30 A 192.0.2.9");
    let lagging = states(&stage).await;
    assert!(lagging.0.contains("192.0.2.9") && lagging.1 == before.1, "each server speaks for itself: {lagging:?}");
    bind.update("update delete db.bind.lab. A\nupdate add db.bind.lab. 30 CNAME ns1.bind.lab.");
    let alias = states(&stage).await.0;
    assert!(alias.contains("alias of ns1.bind.lab"), "{alias}");
    let none = states(&bind.stage("new.bind.lab.", "lifeboat-key")).await;
    assert!(none.0 == none.1 && !none.0.contains("192.0.2"), "a record that is not there is listed as that: {none:?}");
}
