//! A lab of real peers on loopback: three PostgreSQL nodes, two DNS servers, proxies that lose messages. One `Lab` cleans up after itself.
//!
//! ```no_run
//! use xtask::lab::{Lab, Parts};
//! let lab = Lab::start(Parts::PostgresAndDns)?;
//! lab.node("us-east-1").kill_group()?;
//! lab.node("us-west-2").psql("postgres", "select pg_promote()")?;
//! # Ok::<(), xtask::Trouble>(())
//! ```
//! Several labs may live at once, in one process or in many: addresses follow from the pid, ports are searched.
//! Everything a lab started ends with it: on drop, on panic, and, by way of a guardian process, on Ctrl-C and SIGKILL.

mod certificates;
pub mod dns;
mod dns_notify;
pub mod dns_query;
pub mod etcd;
pub mod install;
mod place;
pub mod postgres;
mod process;
pub mod proxy;
pub mod rivals;
pub mod route53;
mod template;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dns::{Dns, Zone};
use place::Place;
use postgres::{Durability, Node, Postgres};
use process::{Account, Guardian};
use proxy::{DnsProxy, Speaks, TcpProxy};

use crate::trouble::{Result, Trouble};

pub use place::{only_one, others_may_reach, root, target};
pub use process::{Signal, is_root, service_user};

/// Which servers a lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// The three PostgreSQL nodes.
    Postgres,
    /// The two DNS servers.
    Dns,
    /// Both; the record names the address of the PostgreSQL primary.
    PostgresAndDns,
}

/// Which ports the servers of a lab listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Any that are free.
    Free,
    /// These and no others, because they are written down somewhere: for PostgreSQL, for DNS.
    Exactly(u16, u16),
}

/// How a lab is laid out when the defaults of [`Lab::start`] do not fit.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Which servers.
    pub parts: Parts,
    /// Whether PostgreSQL waits for the disk.
    pub durability: Durability,
    /// A fixed folder and the address before its first node's, or a place of this process's own under `target/peers/labs`.
    pub at: Option<(PathBuf, Ipv4Addr)>,
    /// Which ports the servers listen on.
    pub ports: Ports,
    /// What the guardian prints on stderr when it had to clean up after us; empty for silence.
    pub farewell: String,
}

impl Layout {
    /// The layout of a test's lab.
    #[must_use]
    pub fn of_test(parts: Parts) -> Self {
        Self { parts, durability: Durability::Relaxed, at: None, ports: Ports::Free, farewell: String::new() }
    }
}

/// Real servers on loopback, ended when this is dropped.
#[derive(Debug)]
pub struct Lab {
    place: Place,
    postgres: Option<Postgres>,
    dns: Option<Dns>,
    guardian: Mutex<Guardian>,
    stays: Mutex<Stay>,
}

/// What becomes of the servers when the lab is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// They end and the folder is removed.
    UntilDropped,
    /// They go on without us.
    Forever,
}

impl Lab {
    /// Starts a lab for a test and returns when all its servers are ready and both replicas stream.
    ///
    /// # Errors
    /// When something is not installed (with the command to type) or does not start (with the end of its log).
    pub fn start(parts: Parts) -> Result<Self> {
        Self::lay_out(Layout::of_test(parts))
    }

    /// Starts a lab with a layout of the caller's.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn lay_out(layout: Layout) -> Result<Self> {
        install::check()?;
        let account = Account::find()?;
        place::reap(account)?;
        let place = match &layout.at {
            None => Place::of_this_process(account)?,
            Some((folder, base)) => Place::at(folder, *base, account)?,
        };
        let guardian = Guardian::start(&place.folder, &layout.farewell)?;
        // From here on `drop` cleans up, also when one of the next steps fails.
        let stays = Mutex::new(Stay::UntilDropped);
        let mut lab = Self { place, postgres: None, dns: None, guardian: Mutex::new(guardian), stays };
        let (postgres_port, dns_port) = match layout.ports {
            Ports::Free => (lab.place.free_port()?, lab.place.free_port()?),
            Ports::Exactly(postgres, dns) => (lab.place.exact_port(postgres)?, lab.place.exact_port(dns)?),
        };
        if matches!(layout.parts, Parts::Dns | Parts::PostgresAndDns) {
            let zone = Zone { answer: lab.place.address(1), ttl_seconds: 1 };
            lab.dns = Some(Dns::start(&lab.place, dns_port, &zone)?);
        }
        if matches!(layout.parts, Parts::Postgres | Parts::PostgresAndDns) {
            lab.postgres = Some(Postgres::start(&lab.place, postgres_port, layout.durability)?);
        }
        Ok(lab)
    }

    /// The folder of this lab; a test may keep its own files in it. It is removed with the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// The PostgreSQL nodes. Panics when the lab was started without them.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        match &self.postgres {
            Some(postgres) => postgres,
            None => panic!("this lab was started without PostgreSQL"),
        }
    }

    /// The DNS servers. Panics when the lab was started without them.
    #[must_use]
    pub fn dns(&self) -> &Dns {
        match &self.dns {
            Some(dns) => dns,
            None => panic!("this lab was started without DNS"),
        }
    }

    /// The PostgreSQL node of a region.
    #[must_use]
    pub fn node(&self, region: &str) -> &Node {
        self.postgres().node(region)
    }

    /// The file with the password of a role, or with the TSIG secret under the name `tsig`. Mode 0600.
    #[must_use]
    pub fn secret(&self, name: &str) -> PathBuf {
        self.place.folder.join("secrets").join(name)
    }

    /// An address and port of this lab's that nobody uses yet, for a proxy or a server of the test.
    ///
    /// # Errors
    /// When every port is taken.
    pub fn free_socket(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from((self.place.address(1), self.place.free_port()?)))
    }

    /// Puts a proxy in front of a PostgreSQL node: use its `address` in the place of the node's.
    ///
    /// # Errors
    /// When no port is free.
    pub fn proxy_to(&self, region: &str) -> Result<TcpProxy> {
        let node = self.node(region);
        let listen = SocketAddr::from((node.address, self.place.free_port()?));
        TcpProxy::start(listen, node.socket(), Speaks::Postgres)
    }

    /// Puts a proxy, UDP and TCP, in front of the DNS server that takes updates.
    ///
    /// # Errors
    /// When no port is free.
    pub fn dns_proxy(&self) -> Result<DnsProxy> {
        let upstream = self.dns().primary;
        DnsProxy::start(SocketAddr::from((upstream.ip(), self.place.free_port()?)), upstream)
    }

    /// Lets the servers go on when this value is dropped: `cargo xtask demo --keep`.
    pub fn keep(&self) {
        *self.stays.lock().unwrap_or_else(PoisonError::into_inner) = Stay::Forever;
    }

    /// Records a process that the caller started for this lab, so that it ends with the lab whatever happens.
    ///
    /// # Errors
    /// When the process is gone already or cannot be recorded.
    pub fn adopt(&self, name: &str, pid: u32) -> Result<()> {
        process::record(&self.place.pids(), name, pid)
    }

    fn end(&self) -> Result<()> {
        let ended = self.postgres.as_ref().map_or(Ok(()), Postgres::end);
        let dns_ended = self.dns.as_ref().map_or(Ok(()), Dns::kill);
        place::remove(&self.place.folder)?;
        ended.and(dns_ended)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let stays = *self.stays.lock().unwrap_or_else(PoisonError::into_inner);
        if stays == Stay::UntilDropped {
            // What could not be removed is found by the next lab's reaper; a panic here would hide the test's own.
            let _left_for_the_reaper = self.end();
        }
        self.guardian.lock().unwrap_or_else(PoisonError::into_inner).dismiss();
    }
}

/// Ends a lab that was kept: kills what its folder records and removes the folder.
///
/// # Errors
/// When something cannot be killed or removed.
pub fn end_kept(folder: &Path) -> Result<()> {
    match std::fs::canonicalize(folder) {
        Ok(folder) => place::remove(&folder),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Trouble::new(format!("cannot look into {}: {error}", folder.display()))),
    }
}
