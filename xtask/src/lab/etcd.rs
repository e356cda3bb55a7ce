//! Three real etcd members, each with an address of its own in a network namespace, and further hosts beside them. Cables can be cut.
//! Needs root. What is asked of etcd is the callers' business; here it is only seen whether it is healthy and who leads.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use crate::lab::certificates::Certificates;
use crate::lab::place::{self, Place};
use crate::lab::process::{self, Account, Guardian, Server, Signal, end_of};
use crate::patience::look_until;
use crate::trouble::{Doing, Result, Trouble};

/// How long the members may take to elect a leader and be healthy. A bound, not a wait.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Networks to choose from: `10.77.N.0/24`.
const NETWORKS: u8 = 250;
/// Members of a cluster.
const MEMBERS: u8 = 3;
/// Where clients ask.
const CLIENT_PORT: u16 = 2379;
/// Where a member tells how it is, without a certificate or a password.
const HEALTH_PORT: u16 = 2381;

/// A place in the network: a namespace with one address, on one cable.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    cable: String,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Host {
    /// A command that will run there.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/usr/sbin/ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Pulls the cable: what is sent is lost without a word.
    ///
    /// # Errors
    /// Where the link cannot be changed.
    pub fn cut(&self) -> Result<()> {
        ip(&["link", "set", &self.cable, "down"])
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// Where the link cannot be changed.
    pub fn heal(&self) -> Result<()> {
        ip(&["link", "set", &self.cable, "up"])
    }
}

/// How the members are started.
#[derive(Debug, Clone, Default)]
pub struct EtcdSettings {
    /// Further arguments for each.
    pub arguments: Vec<String>,
    /// Who may ask.
    pub clients: Clients,
}

/// Who may ask the members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clients {
    /// Whoever reaches them, without encryption.
    #[default]
    Anybody,
    /// Whoever shows a certificate of the cluster's authority, over TLS. See [`EtcdCluster::certificates`].
    WithCertificate,
}

impl Clients {
    fn scheme(self) -> &'static str {
        match self {
            Self::Anybody => "http",
            Self::WithCertificate => "https",
        }
    }
}

/// The cluster. Everything ends when this is dropped, and, by way of the guardian, when this process is killed.
#[derive(Debug)]
pub struct EtcdCluster {
    place: Place,
    network: u8,
    settings: EtcdSettings,
    hosts: Mutex<Vec<Host>>,
    members: Vec<Mutex<Option<Server>>>,
    guardian: Mutex<Guardian>,
}

impl EtcdCluster {
    /// Starts three members and returns when each is healthy.
    ///
    /// # Errors
    /// Where it is not root, something is not installed, or a member does not come up (with the end of its log).
    pub fn start() -> Result<Self> {
        Self::start_with(EtcdSettings::default())
    }

    /// As [`EtcdCluster::start`], with settings.
    ///
    /// # Errors
    /// As [`EtcdCluster::start`].
    pub fn start_with(settings: EtcdSettings) -> Result<Self> {
        if !process::is_root() {
            return Err(Trouble::new("network namespaces need root"));
        }
        let account = Account::find()?;
        place::reap(account)?;
        let place = Place::of_this_process(account)?;
        let guardian = Guardian::start(&place.folder, "")?;
        place.make_for_servers("etcd")?;
        let network = network(&place.folder)?;
        let members = (0..MEMBERS).map(|_| Mutex::new(None)).collect();
        let cluster = Self { place, network, settings, hosts: Mutex::default(), members, guardian: Mutex::new(guardian) };
        for _ in 0..MEMBERS {
            cluster.add_host()?;
        }
        if cluster.settings.clients == Clients::WithCertificate {
            let addresses: Vec<Ipv4Addr> = (0..usize::from(MEMBERS)).map(|member| cluster.address(member)).collect();
            let certificates = cluster.certificates();
            certificates.make(&addresses)?;
            account.own(&certificates.member().1)?;
        }
        for member in 0..usize::from(MEMBERS) {
            cluster.start_member(member)?;
        }
        for member in 0..usize::from(MEMBERS) {
            cluster.wait_healthy(member)?;
        }
        Ok(cluster)
    }

    /// Where clients ask, as URLs.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = self.settings.clients.scheme();
        (0..usize::from(MEMBERS)).map(|member| format!("{scheme}://{}:{CLIENT_PORT}", self.address(member))).collect()
    }

    /// The certificates of a cluster that demands them.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        Certificates::within(&self.place.folder)
    }

    /// A folder for the caller's own files; it is removed with the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// Another host in the same network, for a program of the caller's.
    ///
    /// # Errors
    /// Where the namespace cannot be made.
    pub fn add_host(&self) -> Result<Host> {
        let mut hosts = self.hosts();
        let number = u8::try_from(hosts.len() + 1).unwrap_or(u8::MAX);
        let (namespace, cable) = (format!("lbt{}n{number}", self.network), format!("lbt{}v{number}", self.network));
        let address = Ipv4Addr::new(10, 77, self.network, number);
        ip(&["netns", "add", &namespace])?;
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["link", "set", &cable, "master", &bridge(self.network), "up"])?;
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        let host = Host { namespace, cable, address };
        hosts.push(host.clone());
        Ok(host)
    }

    /// A member's place in the network, counted from 0.
    #[must_use]
    pub fn host(&self, member: usize) -> Host {
        self.hosts()[member].clone()
    }

    /// The member that leads, as the members see it that answer.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &usize| {
            let told = self.ask(*member, "/metrics");
            told.is_some_and(|told| {
                ["etcd_server_is_leader 1", "etcd_server_has_leader 1"].iter().all(|word| told.lines().any(|line| line == *word))
            })
        };
        (0..self.members.len()).find(leads)
    }

    /// Sends a signal to a member: SIGKILL ends it at once, SIGSTOP freezes it.
    ///
    /// # Errors
    /// Where it does not run, or does not end.
    pub fn signal(&self, member: usize, which: Signal) -> Result<()> {
        let mut server = self.member(member);
        match which {
            Signal::Kill => match server.take() {
                Some(server) => server.kill_group(),
                None => Ok(()),
            },
            Signal::Stop | Signal::Continue | Signal::Interrupt | Signal::Terminate | Signal::Quit | Signal::HangUp => {
                server.as_ref().map_or(Ok(()), |server| server.signal(which))
            }
        }
    }

    /// Starts a member that was killed, on the data it has.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_member(&self, member: usize) -> Result<()> {
        let peer = |member: usize| format!("http://{}:2380", self.address(member));
        let client = format!("{}://{}:{CLIENT_PORT}", self.settings.clients.scheme(), self.address(member));
        let all: Vec<String> = (0..usize::from(MEMBERS)).map(|member| format!("n{member}={}", peer(member))).collect();
        let Account::Service { uid, gid } = self.place.account else { return Err(Trouble::new("network namespaces need root")) };
        let mut command = self.host(member).command(Path::new("/usr/bin/setpriv"));
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into(), etcd().display().to_string()]);
        command.args(["--name", &format!("n{member}"), "--initial-cluster-token", &bridge(self.network)]);
        command.arg("--data-dir").arg(self.place.folder.join("etcd").join(format!("n{member}")));
        command.args(["--listen-peer-urls", &peer(member), "--initial-advertise-peer-urls", &peer(member)]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-metrics-urls", &format!("http://{}:{HEALTH_PORT}", self.address(member))]);
        if self.settings.clients == Clients::WithCertificate {
            let certificates = self.certificates();
            let (certificate, key) = certificates.member();
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(certificates.authority());
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        }
        command.args(["--initial-cluster", &all.join(",")]).args(&self.settings.arguments).current_dir("/");
        *self.member(member) = Some(Server::start(command, &self.place.pids(), &format!("etcd-{member}"), &self.log(member))?);
        Ok(())
    }

    /// Waits until a member says that it is healthy: it has a leader.
    ///
    /// # Errors
    /// Where it does not come up; the end of its log is part of the message.
    pub fn wait_healthy(&self, member: usize) -> Result<()> {
        let healthy = || self.ask(member, "/health").filter(|answer| answer.contains("\"true\"")).map(|_| ());
        look_until(HEALTHY_WITHIN, healthy).ok_or_else(|| {
            Trouble::new(format!("etcd member {member} is not healthy within {HEALTHY_WITHIN:?}:\n{}", end_of(&self.log(member))))
        })
    }

    fn address(&self, member: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.network, u8::try_from(member + 1).unwrap_or(u8::MAX))
    }

    fn log(&self, member: usize) -> PathBuf {
        self.place.folder.join(format!("etcd-{member}.log"))
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, Vec<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, member: usize) -> std::sync::MutexGuard<'_, Option<Server>> {
        self.members[member].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Demands names and passwords from now on: this user has rights to the keys that begin with `prefix`, and nobody else to anything but
    /// the keeper `root`.
    ///
    /// # Errors
    /// Where a member does not do as it is told, or speaks over TLS only.
    pub fn demand_password(&self, user: &str, password: &str, prefix: &str) -> Result<()> {
        // The next key after all that begin so.
        let (last, before) = prefix.as_bytes().split_last().ok_or_else(|| Trouble::new("a prefix has letters"))?;
        let end = [before, &[last.saturating_add(1)]].concat();
        let (key, range_end) = (base64(prefix.as_bytes())?, base64(&end)?);
        for (path, body) in [
            ("role/add", r#"{"name":"root"}"#.to_owned()),
            ("user/add", r#"{"name":"root","password":"root"}"#.to_owned()),
            ("user/grant", r#"{"user":"root","role":"root"}"#.to_owned()),
            ("role/add", format!(r#"{{"name":"{user}"}}"#)),
            ("role/grant", format!(r#"{{"name":"{user}","perm":{{"permType":"READWRITE","key":"{key}","range_end":"{range_end}"}}}}"#)),
            ("user/add", format!(r#"{{"name":"{user}","password":"{password}"}}"#)),
            ("user/grant", format!(r#"{{"user":"{user}","role":"{user}"}}"#)),
            ("enable", "{}".to_owned()),
        ] {
            let length = body.len();
            let path = format!("/v3/auth/{path}");
            let answer = self.exchange(0, CLIENT_PORT, &format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"));
            if !answer.as_ref().is_some_and(|answer| answer.contains(" 200 ")) {
                return Err(Trouble::new(format!("etcd does not do {path}: {}", answer.unwrap_or_default())));
            }
        }
        Ok(())
    }

    /// What a member tells of itself; `None` where there is no whole answer.
    fn ask(&self, member: usize, path: &str) -> Option<String> {
        self.exchange(member, HEALTH_PORT, &format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// One small HTTP request.
    fn exchange(&self, member: usize, port: u16, request: &str) -> Option<String> {
        let address = SocketAddr::from((self.address(member), port));
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).ok()?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for member in &self.members {
            if let Some(server) = member.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // What does not end is found by the reaper of the next lab.
                let _ended = server.kill_group();
            }
        }
        let _left_for_the_reaper = place::remove(&self.place.folder);
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner).dismiss();
    }
}

/// Where etcd is: the one of the system, or another that was named for this run.
fn etcd() -> PathBuf {
    std::env::var_os("LIFEBOAT_ETCD").map_or_else(|| PathBuf::from("/usr/bin/etcd"), PathBuf::from)
}

fn bridge(network: u8) -> String {
    format!("lbt{network}")
}

/// Takes a network that nobody has: the bridge's name is the lock. How to take it down again is written into the lab's folder first.
fn network(folder: &Path) -> Result<u8> {
    for network in 1..=NETWORKS {
        let name = bridge(network);
        let taken = Path::new("/sys/class/net").join(&name).exists();
        if taken || ip(&["link", "add", &name, "type", "bridge"]).is_err() {
            continue;
        }
        // The cables first: with a namespace alone they go only some time later. The bridge last, because its name is the lock.
        let down = format!(
            "for v in /sys/class/net/{name}v*; do ip link del \"${{v##*/}}\"; done
for n in $(ip netns list | sed 's/ .*//' | grep '^{name}n[0-9]*$'); do ip netns del \"$n\"; done
ip link del {name}
"
        );
        let file = folder.join(place::NETWORK);
        fs::write(&file, down).doing(|| format!("write {}", file.display()))?;
        ip(&["addr", "add", &format!("10.77.{network}.254/24"), "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        return Ok(network);
    }
    Err(Trouble::new(format!("all {NETWORKS} networks 10.77.N.0/24 are taken; `ip link` lists the bridges lbtN")))
}

fn ip(words: &[&str]) -> Result<()> {
    let doing = || format!("run ip {}", words.join(" "));
    let output = Command::new("/usr/sbin/ip").args(words).output().doing(doing)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!("cannot {}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim())))
}

/// etcd takes keys in this dress.
fn base64(bytes: &[u8]) -> Result<String> {
    let mut child =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().doing(|| "run base64".to_owned())?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(bytes).doing(|| "write to base64".to_owned())?;
    }
    let output = child.wait_with_output().doing(|| "wait for base64".to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
