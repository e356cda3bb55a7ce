//! The store on an etcd cluster: several machines share it, and it outlives the loss of a minority of its members. This file is its
//! surface; how things look in etcd is in `layout`, changing in `change`, reading in `read`, the ways to the members in `members`.
//!
//! What a commit may hold is less than elsewhere: etcd takes 128 operations and 1.5 MiB in one request unless it is configured
//! otherwise. A commit is one transaction, so what is larger is refused whole: at most 64 logs that are appended to (two writes each), or
//! 127 that are compared, and a little less than 1.5 MiB of records. A cluster with other limits is described by
//! [`EtcdOptions::txn_ops_max`] and [`EtcdOptions::request_bytes_max`].

mod change;
mod follow;
mod kept;
mod layout;
mod leases;
mod members;
mod read;
mod versions;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Changes, Commit, Digest, FolderLock, Forgotten, Lease, LogHead, LogId, OwnerId, Page, Record, Seq, Sharing, Store, StoreError,
};

use change::Changer;
use kept::Moments;
use layout::{FORMAT, Keys};
pub use members::MemberSeen;
use members::{ASK_AGAIN_AFTER, Members};

/// Whether servers are used whose reads may tell what was true before (etcd issue 20418).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StaleReads {
    /// They are refused.
    #[default]
    Refused,
    /// Somebody accepts it. No decision of this store rests on a read; what people are shown may be old.
    Accepted {
        /// Who, and why: shown with the notices of the store.
        why: String,
    },
}

/// How members are known and how this program shows who it is.
#[derive(Clone)]
pub struct EtcdTls {
    /// Certificates that a member's own must come from, as PEM.
    pub ca_pem: Vec<u8>,
    /// Our certificate and its key, as PEM.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("client", &self.client_pem.is_some()).finish_non_exhaustive()
    }
}

/// Where the cluster is and how it is used.
#[derive(Clone)]
pub struct EtcdOptions {
    /// The members' client addresses, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// What all keys begin with. Two stores in one cluster have different ones.
    pub prefix: String,
    /// How long a lease lasts; seconds count.
    pub lease: Duration,
    /// Longest wait for an answer to one call, over all members.
    pub answer_within: Duration,
    /// TLS. Needs `https://`.
    pub tls: Option<EtcdTls>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// Whether servers with stale reads are used.
    pub stale_reads: StaleReads,
    /// Most operations in one transaction: etcd's `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// Largest request, in bytes: etcd's `--max-request-bytes`.
    pub request_bytes_max: usize,
}

impl EtcdOptions {
    /// etcd's own limits, leases of 15 s, answers within 10 s.
    #[must_use]
    pub fn new(endpoints: &[String]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            prefix: "/lifeboat/".into(),
            lease: Duration::from_secs(15),
            answer_within: Duration::from_secs(10),
            tls: None,
            user: None,
            stale_reads: StaleReads::Refused,
            txn_ops_max: 128,
            request_bytes_max: 1_572_864,
        }
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| name);
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

/// The store of one process in a cluster. Clones share their connections.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
    _folder: Option<Arc<FolderLock>>,
}

/// What the store and its watchers share.
#[derive(Debug)]
struct Shared {
    members: Members,
    keys: Keys,
    changer: Changer,
    moments: Moments,
    lease: Duration,
    stale_reads: StaleReads,
    over: watch::Sender<()>,
    ended: watch::Receiver<()>,
}

/// Ends the watchers with the last handle.
#[derive(Debug)]
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.over.send_replace(());
    }
}

impl Shared {
    async fn gone(&self) {
        // An error would mean that the sender is gone too, which this struct holds itself.
        let _ = self.ended.clone().changed().await;
    }
}

impl EtcdStore {
    /// Connects, judges the members that answer, and looks whether this program knows the format of what is there.
    ///
    /// # Errors
    /// [`StoreError::UnfitServer`], [`StoreError::NewerFormat`], and [`StoreError::Unreachable`] where no majority answers.
    pub async fn open(options: EtcdOptions) -> Result<Self, StoreError> {
        let members = Members::new(&options);
        members.judge_all().await?;
        let keys = Keys::new(&options.prefix);
        format(&members, &keys).await?;
        let changer = Changer::new(&keys, options.txn_ops_max, options.request_bytes_max);
        let (over, ended) = watch::channel(());
        let shared = Arc::new(Shared {
            members,
            keys,
            changer,
            moments: Moments::default(),
            lease: options.lease,
            stale_reads: options.stale_reads,
            over,
            ended,
        });
        Ok(Self { _alive: Arc::new(Alive(Arc::clone(&shared))), shared, _folder: None })
    }

    /// Keeps a data folder for as long as this store is open.
    #[must_use]
    pub fn with_folder(mut self, folder: FolderLock) -> Self {
        self._folder = Some(Arc::new(folder));
        self
    }

    /// The members as they were seen so far.
    #[must_use]
    pub fn members(&self) -> Vec<MemberSeen> {
        self.shared.members.seen()
    }
}

/// Marks an empty place as ours, or reads the mark.
async fn format(members: &Members, keys: &Keys) -> Result<(), StoreError> {
    let deadline = members.deadline();
    let key = keys.format();
    loop {
        let found = members.get(deadline, key.clone(), None).await?;
        if let Some(found) = found.kvs().first() {
            let number = std::str::from_utf8(found.value()).ok().and_then(|text| text.parse::<u32>().ok());
            return match number {
                Some(FORMAT) => Ok(()),
                Some(newer) => Err(StoreError::NewerFormat { folder: members.place(), found: newer, known: FORMAT }),
                None => Err(members.damaged("the mark of its format is no number")),
            };
        }
        let txn = etcd_client::Txn::new()
            .when([etcd_client::Compare::create_revision(key.clone(), etcd_client::CompareOp::Equal, 0)])
            .and_then([etcd_client::TxnOp::put(key.clone(), FORMAT.to_string(), None)]);
        members.txn(deadline, txn).await?;
    }
}

#[async_trait]
impl Store for EtcdStore {
    fn sharing(&self) -> Sharing {
        Sharing::Shared { lease: self.shared.lease }
    }

    fn notices(&self) -> Vec<String> {
        let members = self.members();
        let of = |member: &MemberSeen| Some(format!("etcd {} at {}", member.version.as_ref()?, member.endpoint));
        let stale: Vec<String> = members.iter().filter(|member| member.stale_reads).filter_map(of).collect();
        match &self.shared.stale_reads {
            StaleReads::Accepted { why } if !stale.is_empty() => {
                vec![format!("what is shown may be old: {}: {}. Accepted: {why}", stale.join(", "), versions::STALE)]
            }
            StaleReads::Accepted { .. } | StaleReads::Refused => Vec::new(),
        }
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.shared.changer.commit(&self.shared.members, &self.shared.keys, commit).await
    }

    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        read::page(&self.shared.members, &self.shared.keys, log, from, limit.get() as usize).await
    }

    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        read::heads(&self.shared.members, &self.shared.keys, prefix, after, limit).await
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        Ok(Changes::new(follow::follow(&self.shared, prefix).await?))
    }

    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.shared.changer.truncate(&self.shared.members, &self.shared.keys, log, before, carry).await
    }

    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.shared.changer.remove(&self.shared.members, &self.shared.keys, log).await
    }

    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        kept::keep(&self.shared.members, &self.shared.keys, &self.shared.moments, bytes).await
    }

    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        kept::kept(&self.shared.members, &self.shared.keys, digest).await
    }

    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        kept::values(&self.shared.members, &self.shared.keys, after, limit.get() as usize).await
    }

    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        kept::forget(&self.shared.members, &self.shared.keys, &self.shared.moments, digest, grace).await
    }

    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        self.shared.changer.restore(&self.shared.members, &self.shared.keys, log, first, chain, carry).await
    }

    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        leases::take(&self.shared.members, &self.shared.keys, log, owner, ttl).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        leases::renew(&self.shared.members, &self.shared.keys, lease).await
    }

    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        leases::release(&self.shared.members, &self.shared.keys, &lease).await
    }
}
