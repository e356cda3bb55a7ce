//! The members of a cluster and the ways to them: one connection each, the next one where one does not answer, and what an error says
//! about whether something happened. What is asked is not known here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, KvClient, PutOptions, TlsOptions, Txn, TxnResponse, WatchOptions,
    WatchStream,
};
use tokio::sync::OnceCell;

use super::versions::{self, Fitness};
use super::{EtcdOptions, StaleReads};
use crate::StoreError;
use crate::leases::{BootClock, LeaseClock};

/// Longest time for a connection to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Longest wait for one answer of one member. An election takes one to two seconds with etcd's defaults; a member that says nothing
/// for longer is left for another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Pause before all members are asked anew, after each of them failed.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A ping goes out this often while an answer is waited for; etcd hangs up on whoever pings more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(6);

/// A ping that is not answered for so long ends the connection.
const PONG_WITHIN: Duration = Duration::from_secs(3);

/// Most causes of an error that are told.
const CAUSES_MAX: usize = 8;

/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A member as it was seen when it was first asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSeen {
    /// Where it is asked.
    pub endpoint: String,
    /// What it says it is; `None` where it has not answered yet.
    pub version: Option<String>,
    /// Whether its reads may tell what was true before.
    pub stale_reads: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Failure {
    /// Certainly nothing.
    Refused(StoreError),
    /// Nobody knows: no answer, or one that leaves it open.
    Lost(String),
    /// Certainly nothing: the token that proves who we are has expired, or is from before users or roles were changed.
    TurnedAway(String),
}

struct Member {
    endpoint: String,
    /// Emptied where it did not answer, so that the next request does not wait behind a dead connection.
    client: Mutex<Option<Client>>,
    version: OnceCell<String>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("endpoint", &self.endpoint).field("version", &self.version.get()).finish_non_exhaustive()
    }
}

/// Everybody that may be asked.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    preferred: AtomicUsize,
    options: EtcdOptions,
}

/// A moment by which something must be over, on the clock that goes on during suspend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    ends_at: Duration,
    pub(super) within: Duration,
}

impl Deadline {
    pub(super) fn after(within: Duration) -> Self {
        Self { ends_at: BootClock.now().saturating_add(within), within }
    }

    pub(super) fn left(&self) -> Duration {
        self.ends_at.saturating_sub(BootClock.now())
    }
}

impl Members {
    pub(super) fn new(options: &EtcdOptions) -> Self {
        let member = |endpoint: &String| Member { endpoint: endpoint.clone(), client: Mutex::default(), version: OnceCell::new() };
        Self { members: options.endpoints.iter().map(member).collect(), preferred: AtomicUsize::new(0), options: options.clone() }
    }

    /// The cluster, for messages.
    pub(super) fn place(&self) -> String {
        format!("the etcd cluster at {} (keys under {})", self.options.endpoints.join(", "), self.options.prefix)
    }

    pub(super) fn unreachable(&self, why: impl Into<String>) -> StoreError {
        StoreError::Unreachable { place: self.place(), why: why.into() }
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { folder: self.place(), what: what.into() }
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.options.answer_within)
    }

    /// Asks every member who it is. Those that do not answer are judged when they are first used.
    ///
    /// # Errors
    /// [`StoreError::UnfitServer`]; [`StoreError::Unreachable`] where nobody answers.
    pub(super) async fn judge_all(&self) -> Result<(), StoreError> {
        let mut last = None;
        let mut answered = false;
        let asked: Vec<_> = self.members.iter().map(|member| Box::pin(self.connected(member))).collect();
        for answer in join_all(asked).await {
            match answer {
                Ok(_) => answered = true,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::TurnedAway(why)) => return Err(self.unreachable(why)),
                Err(Failure::Lost(why)) => last = Some(why),
            }
        }
        if answered { Ok(()) } else { Err(self.unreachable(last.unwrap_or_else(|| "no endpoint is named".into()))) }
    }

    pub(super) fn seen(&self) -> Vec<MemberSeen> {
        let seen = |member: &Member| {
            let version = member.version.get().cloned();
            let stale_reads = version.as_deref().is_some_and(|version| versions::judge(version) == Fitness::Stale);
            MemberSeen { endpoint: member.endpoint.clone(), version, stale_reads }
        };
        self.members.iter().map(seen).collect()
    }

    /// Asks one member once. For what must not happen twice.
    pub(super) async fn txn_once(&self, deadline: Deadline, txn: Txn) -> Result<TxnResponse, Failure> {
        let ask = |client: Client| {
            let txn = txn.clone();
            async move { large(&client).txn(txn).await }
        };
        self.once(deadline, &ask).await
    }

    /// A transaction that may happen twice, or only looks.
    pub(super) async fn txn(&self, deadline: Deadline, txn: Txn) -> Result<TxnResponse, StoreError> {
        let ask = |client: Client| {
            let txn = txn.clone();
            async move { large(&client).txn(txn).await }
        };
        self.surely(deadline, ask).await
    }

    /// What is at a key, or in a range.
    pub(super) async fn get(&self, deadline: Deadline, key: Vec<u8>, options: Option<GetOptions>) -> Result<GetResponse, StoreError> {
        let ask = |client: Client| {
            let (key, options) = (key.clone(), options.clone());
            async move { large(&client).get(key, options).await }
        };
        self.surely(deadline, ask).await
    }

    /// Writes; twice is no harm.
    pub(super) async fn put(
        &self,
        deadline: Deadline,
        key: Vec<u8>,
        value: Vec<u8>,
        options: Option<PutOptions>,
    ) -> Result<i64, StoreError> {
        let ask = |client: Client| {
            let (key, value, options) = (key.clone(), value.clone(), options.clone());
            async move { client.kv_client().put(key, value, options).await }
        };
        Ok(self.surely(deadline, ask).await?.header().map_or(0, |header| header.revision()))
    }

    /// A new etcd lease. One that is granted and not used ends by itself.
    pub(super) async fn grant(&self, deadline: Deadline, seconds: i64) -> Result<i64, StoreError> {
        let ask = |client: Client| async move { client.lease_client().grant(seconds, None).await };
        Ok(self.surely(deadline, ask).await?.id())
    }

    /// A watch on a range of keys that has begun.
    pub(super) async fn watch(&self, deadline: Deadline, from: Vec<u8>, end: Vec<u8>) -> Result<WatchStream, StoreError> {
        let ask = |client: Client| {
            let (from, options) = (from.clone(), WatchOptions::new().with_range(end.clone()));
            async move {
                let mut stream = client.watch_client().watch(from, Some(options)).await?;
                // The first answer says that the watch is there.
                match stream.message().await? {
                    Some(first) if first.created() && !first.canceled() => Ok(stream),
                    Some(_) | None => Err(Error::WatchError("the watch was not begun".into())),
                }
            }
        };
        self.surely(deadline, ask).await
    }

    /// One request to one member. It is repeated only where it was turned away at the door, with a proof of who we are that has become
    /// old: nothing of it happened.
    async fn once<T, F>(&self, deadline: Deadline, ask: &impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let place = self.preferred.load(Ordering::Relaxed) % self.members.len().max(1);
        let Some(member) = self.members.get(place) else { return Err(Failure::Lost("no endpoint is named".into())) };
        // On the heap: the client's futures are large, and everything above would carry them.
        let mut answer = Box::pin(self.ask(member, deadline, ask)).await;
        if matches!(answer, Err(Failure::TurnedAway(_))) {
            // A new connection shows name and password anew.
            *member.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
            answer = Box::pin(self.ask(member, deadline, ask)).await;
        }
        if let Err(Failure::TurnedAway(why)) = answer {
            return Err(Failure::Refused(self.unreachable(why)));
        }
        if matches!(answer, Err(Failure::Lost(_))) {
            self.leave(place, member);
        }
        answer
    }

    /// Asks one member after the other until one answers. For what may happen twice, or only looks.
    async fn surely<T, F>(&self, deadline: Deadline, ask: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut tries = 0;
        loop {
            match self.once(deadline, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::TurnedAway(why)) => return Err(self.unreachable(why)),
                Err(Failure::Lost(why)) if deadline.left().is_zero() => return Err(self.unreachable(why)),
                Err(Failure::Lost(_)) => tries += 1,
            }
            if tries % self.members.len().max(1) == 0 {
                pause(ASK_AGAIN_AFTER.min(deadline.left())).await;
            }
        }
    }

    fn leave(&self, place: usize, member: &Member) {
        *member.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let next = (place + 1) % self.members.len();
        // Where another task left it first, that choice stands.
        let _ = self.preferred.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn ask<T, F>(&self, member: &Member, deadline: Deadline, ask: &impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = Box::pin(self.connected(member)).await?;
        let within = deadline.left().min(ANSWER_WITHIN);
        match tokio::time::timeout(within, ask(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.sort(&member.endpoint, error)),
            Err(_) => Err(Failure::Lost(format!("{} did not answer within {within:?}", member.endpoint))),
        }
    }

    /// A connection to a member whose version was judged.
    async fn connected(&self, member: &Member) -> Result<Client, Failure> {
        let known = member.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = match known {
            Some(client) => client,
            None => {
                let connected =
                    tokio::time::timeout(ANSWER_WITHIN, Client::connect([&member.endpoint], Some(self.connect_options()))).await;
                let client = match connected {
                    Ok(Ok(client)) => client,
                    Ok(Err(error)) => return Err(self.sort(&member.endpoint, error)),
                    Err(_) => return Err(Failure::Lost(format!("{} could not be reached within {ANSWER_WITHIN:?}", member.endpoint))),
                };
                *member.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
                client
            }
        };
        member.version.get_or_try_init(|| self.version(member, client.clone())).await?;
        Ok(client)
    }

    async fn version(&self, member: &Member, client: Client) -> Result<String, Failure> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, client.maintenance_client().status()).await;
        let status = match asked {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(self.sort(&member.endpoint, error)),
            Err(_) => return Err(Failure::Lost(format!("{} did not answer within {ANSWER_WITHIN:?}", member.endpoint))),
        };
        let version = status.version().to_owned();
        let unfit = |why| Err(Failure::Refused(StoreError::UnfitServer { member: member.endpoint.clone(), version: version.clone(), why }));
        match (versions::judge(&version), &self.options.stale_reads) {
            (Fitness::Fit, _) | (Fitness::Stale, StaleReads::Accepted { .. }) => Ok(version),
            (Fitness::Stale, StaleReads::Refused) => unfit(versions::STALE),
            (Fitness::Unknown, _) => unfit(versions::TOO_OLD),
        }
    }

    fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_WITHIN)
            .with_keep_alive(PING_EVERY, PONG_WITHIN)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some((name, password)) = &self.options.user {
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        if let Some(tls) = &self.options.tls {
            let mut wanted = TlsOptions::new().ca_certificate(etcd_client::Certificate::from_pem(&tls.ca_pem));
            if let Some((certificate, key)) = &tls.client_pem {
                wanted = wanted.identity(Identity::from_pem(certificate, key));
            }
            options = options.with_tls(wanted);
        }
        options
    }

    /// What an error says about whether something happened.
    fn sort(&self, endpoint: &str, error: Error) -> Failure {
        let Error::GRpcStatus(status) = error else { return Failure::Lost(format!("{endpoint}: {error}")) };
        let why = format!("{endpoint}: {}", self.told(status.message(), std::error::Error::source(&status)));
        // Numbers of gRPC's specification; the type that names them belongs to a crate that is not ours.
        const INVALID_ARGUMENT: i32 = 3;
        const NOT_FOUND: i32 = 5;
        const PERMISSION_DENIED: i32 = 7;
        const RESOURCE_EXHAUSTED: i32 = 8;
        const OUT_OF_RANGE: i32 = 11;
        const UNAUTHENTICATED: i32 = 16;
        match i32::from(status.code()) {
            RESOURCE_EXHAUSTED if status.message().contains("database space exceeded") => {
                Failure::Refused(StoreError::DiskFull { folder: format!("{} (its alarm NOSPACE is raised)", self.place()) })
            }
            UNAUTHENTICATED => Failure::TurnedAway(why),
            // Its code differs from version to version.
            _ if status.message().contains("revision in header is old") || status.message().contains("revision of auth store is old") => {
                Failure::TurnedAway(why)
            }
            RESOURCE_EXHAUSTED | INVALID_ARGUMENT | PERMISSION_DENIED | OUT_OF_RANGE | NOT_FOUND => Failure::Refused(self.unreachable(why)),
            _ => Failure::Lost(why),
        }
    }

    /// A message with what is behind it: "transport error" alone tells nobody that a certificate is not the right one.
    fn told(&self, message: &str, cause: Option<&(dyn std::error::Error + 'static)>) -> String {
        let mut why = message.to_owned();
        let of_connection = cause.is_some();
        for cause in std::iter::successors(cause, |cause| cause.source()).take(CAUSES_MAX).map(ToString::to_string) {
            if !why.ends_with(&cause) {
                why = format!("{why}: {cause}");
            }
        }
        if let (Some(tls), true) = (&self.options.tls, of_connection) {
            // A member that wants another certificate hangs up, and seldom says why.
            let shown = if tls.client_pem.is_some() { "its certificate" } else { "no certificate" };
            why = format!("{why} (over TLS; this program showed {shown})");
        }
        why
    }
}

/// A client that takes answers as large as ours may be.
fn large(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// A name that no other handle, commit or grant has.
pub(super) fn fresh_name() -> [u8; 16] {
    uuid::Uuid::now_v7().into_bytes()
}

#[expect(clippy::disallowed_methods, reason = "a bounded pause between requests over a network; no run is measured or decided by it")]
pub(super) async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Waits for all at once.
async fn join_all<T>(work: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut work: Vec<_> = work.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (one, done) in &mut work {
            if done.is_none() {
                match one.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    work.into_iter().filter_map(|(_, done)| done).collect()
}
