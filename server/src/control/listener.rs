//! The owner's end of the control socket: what it can answer, and who may connect. How connections are served is in `reception`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_engine::executor::{Handle, Request as ExecutorRequest};
use lifeboat_engine::freeze::{self, FreezeError};
use lifeboat_engine::growth;
use lifeboat_engine::history;
use lifeboat_engine::journal::{Actor, Lock, RunId};
use lifeboat_engine::ports::{OwnerId, Ports};
use lifeboat_engine::preemption;
use lifeboat_engine::proof;
use lifeboat_engine::resume;
use lifeboat_engine::steering::{Command, SteerError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::protocol::{FreezeRequest, Listing, PageOf, Reply, Request, RunSummary, Unreadable};
use super::reception::{self, LIMITS};
use super::socket::address;
use super::system_user::{actor_of, user_name};

/// The runs that this process drives, and what it can answer.
#[derive(Clone, Debug)]
pub struct Control {
    ports: Ports,
    owner: OwnerId,
    driven: Arc<Mutex<HashMap<RunId, Handle>>>,
}

impl Control {
    /// Answers from this store.
    #[must_use]
    pub fn new(ports: Ports, owner: OwnerId) -> Self {
        Self { ports, owner, driven: Arc::default() }
    }

    /// A run that this process drives now.
    pub fn drives(&self, handle: Handle) {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.run.clone(), handle);
    }

    /// A run that it drives no longer.
    pub fn drives_no_more(&self, run: &RunId) {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    fn handle(&self, run: &RunId) -> Option<Handle> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    async fn answer_line(&self, uid: u32, line: Vec<u8>) -> Reply {
        let by = actor_of(&user_name(uid), "control socket", &self.ports.inventory);
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => self.answer(request, by).await,
            Err(error) => Reply::Failed(format!("the request cannot be read: {error}")),
        }
    }

    async fn answer(&self, request: Request, by: Actor) -> Reply {
        match request {
            Request::Runs => self.runs().await.unwrap_or_else(Reply::Failed),
            Request::Page(page) => self.page(&page).await.map_or_else(Reply::Failed, Reply::Runs),
            Request::Names => self.names().await.map_or_else(Reply::Failed, Reply::Names),
            Request::Journal(run) => match history::load(self.ports.store.as_ref(), &run).await {
                Ok(loaded) => Reply::Journal { plan: Box::new((*loaded.run.plan).clone()), entries: loaded.entries },
                Err(error) => Reply::Failed(with_causes(&error)),
            },
            Request::Proofs(runbook) => match proof::read(self.ports.store.as_ref(), &runbook).await {
                Ok(proofs) => Reply::Proofs(Box::new(proofs)),
                Err(error) => Reply::Failed(with_causes(&error)),
            },
            Request::MakeWay { by, mode, locks } => {
                self.make_way(by, &mode, &locks).await.unwrap_or_else(|error| Reply::Failed(with_causes(&error)))
            }
            Request::Steer { run, command } => self.steer(run, command, by).await,
            Request::Freeze(wanted) => self.freeze(wanted, by).await,
            Request::Unfreeze(wanted) => self.unfreeze(wanted, by).await,
        }
    }

    /// All runs.
    ///
    /// # Errors
    /// Where not even their names can be had; what failed, for people.
    pub async fn listing(&self) -> Result<Listing, String> {
        let names = self.names().await?;
        self.read(names).await
    }

    /// The names of all runs in the store, oldest first. No journal is read.
    ///
    /// # Errors
    /// As [`Control::listing`].
    pub async fn names(&self) -> Result<Vec<RunId>, String> {
        history::list(self.ports.store.as_ref()).await.map_err(|error| with_causes(&error))
    }

    /// The newest runs, those that left the store behind the others. Only what is listed is read.
    ///
    /// # Errors
    /// As [`Control::listing`].
    pub async fn page(&self, page: &PageOf) -> Result<Listing, String> {
        let store = self.ports.store.as_ref();
        let limit = page.limit.get() as usize;
        let mut names = self.names().await?;
        if let Some(before) = &page.before {
            names.retain(|run| run < before);
        }
        let live = names.split_off(names.len().saturating_sub(limit));
        let in_store: std::collections::BTreeSet<&RunId> = live.iter().chain(&names).collect();
        let mut archived = Vec::new();
        let (mut older, mut before) = (names.len() as u64, None);
        // Behind the live ones; a run that is in both places is listed once.
        while archived.len() + live.len() < limit {
            let found = growth::archived(store, before, page.limit).await.map_err(|error| with_causes(&error))?;
            let Some((last, _)) = found.last() else { break };
            before = Some(*last);
            let fits = |record: &growth::ArchiveRecord| {
                page.before.as_ref().is_none_or(|before| record.run < *before) && !in_store.contains(&record.run)
            };
            archived.extend(found.into_iter().map(|(_, record)| record).filter(fits));
        }
        let wanted = limit.saturating_sub(live.len());
        older += archived.len().saturating_sub(wanted) as u64;
        archived.truncate(wanted);
        older += growth::archived_before(store, before).await.map_err(|error| with_causes(&error))?;
        Ok(Listing { archived, older, ..self.read(live).await? })
    }

    async fn read(&self, names: Vec<RunId>) -> Result<Listing, String> {
        let mut listing = Listing { notices: self.notices().await, ..Listing::default() };
        match freeze::read(self.ports.store.as_ref()).await {
            Ok(freezes) => listing.freezes = freezes.in_force.into_values().collect(),
            Err(error) => listing.freezes_unreadable = Some(with_causes(&error)),
        }
        for run in names {
            match history::load(self.ports.store.as_ref(), &run).await {
                Ok(loaded) => listing.runs.push(RunSummary::of(&loaded.run)),
                Err(error) => listing.unreadable.push(Unreadable { run, why: with_causes(&error) }),
            }
        }
        Ok(listing)
    }

    /// Turns every run of this process back, or none: whoever asks needs the whole folder.
    async fn make_way(&self, by: RunId, mode: &str, locks: &[Lock]) -> Result<Reply, history::HistoryError> {
        let driven: Vec<Handle> = self.driven.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for handle in &driven {
            let run = history::load(self.ports.store.as_ref(), &handle.run).await?.run;
            if !preemption::yields((&run.plan.mode, &run.locks), (mode, locks)) {
                return Ok(Reply::MakesWay(Vec::new()));
            }
        }
        for handle in &driven {
            // One that has just ended is out of the way.
            let _ = handle.requests.send(ExecutorRequest::MakeWay(by.clone())).await;
        }
        Ok(Reply::MakesWay(driven.into_iter().map(|handle| handle.run).collect()))
    }

    /// What people should know: checkpoints that cannot be written, a disk that fills up.
    async fn notices(&self) -> Vec<String> {
        let limits = &self.ports.inventory.policies.disk;
        let mut notices = self.ports.store.notices();
        // A disk that cannot be asked is no news here: who writes to it will hear.
        notices.extend(limits.of(self.ports.store.as_ref()).await.ok().and_then(|verdict| verdict.warning(limits)));
        notices
    }

    async fn runs(&self) -> Result<Reply, String> {
        self.listing().await.map(Reply::Runs)
    }

    /// Freezes a resource, or everything, for every run on this store.
    pub async fn freeze(&self, wanted: FreezeRequest, by: Actor) -> Reply {
        frozen(freeze::freeze(&self.ports, wanted.resource, &by, &wanted.comment).await)
    }

    /// Lifts a freeze.
    pub async fn unfreeze(&self, wanted: FreezeRequest, by: Actor) -> Reply {
        frozen(freeze::unfreeze(&self.ports, wanted.resource, &by, &wanted.comment).await)
    }

    /// Steers a run, whether or not this process drives it.
    pub async fn steer(&self, run: RunId, command: Command, by: Actor) -> Reply {
        let Some(handle) = self.handle(&run) else {
            return match resume::steer_at_rest(&self.ports, &self.owner, &run, &command, &by).await {
                Ok(()) => Reply::Done,
                Err(resume::RestError::Refused(error)) => Reply::Refused(error),
                Err(error) => Reply::Failed(error.to_string()),
            };
        };
        let (reply, answer) = oneshot::channel();
        if handle.requests.send(ExecutorRequest::Steer { command, by, reply }).await.is_err() {
            return Reply::Refused(SteerError::NotNow(format!("run {run} has just ended")));
        }
        match answer.await {
            Ok(Ok(())) => Reply::Done,
            Ok(Err(error)) => Reply::Refused(error),
            Err(_) => Reply::Failed("the run stopped before the answer was kept; look at its status before you try again".into()),
        }
    }
}

fn frozen(done: Result<(), FreezeError>) -> Reply {
    match done {
        Ok(()) => Reply::Done,
        Err(FreezeError::Store(error)) => Reply::Failed(with_causes(&error)),
        Err(error @ FreezeError::Unfit(_)) => Reply::Refused(SteerError::Unfit(error.to_string())),
        Err(error @ (FreezeError::NoSuchResource { .. } | FreezeError::Already { .. } | FreezeError::NotFrozen { .. })) => {
            Reply::Refused(SteerError::NotNow(error.to_string()))
        }
    }
}

/// An error on its way to another process, where its causes would be lost.
fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source()).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The open socket. Dropping it closes and removes it.
#[derive(Debug)]
pub struct Listener {
    task: JoinHandle<()>,
    path: std::path::PathBuf,
}

impl Listener {
    /// Opens the socket in a folder that this process owns. A socket left by an earlier owner is replaced.
    ///
    /// # Errors
    /// Where it cannot be bound.
    pub fn open(folder: &Path, control: Control) -> io::Result<Self> {
        let path = folder.join(super::SOCKET_NAME);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (bind_to, keep) = address(folder)?;
        let listener = UnixListener::bind(&bind_to)?;
        drop(keep);
        let group = control.ports.inventory.policies.control_group.clone();
        admit(folder, &path, group.as_deref())?;
        let clock = Arc::clone(&control.ports.clock);
        let answer = move |uid, line| {
            let control = control.clone();
            async move { control.answer_line(uid, line).await }
        };
        let peer = |stream: &UnixStream| Ok(stream.peer_cred()?.uid());
        let task = tokio::spawn(reception::receive(listener, clock, LIMITS, peer, answer));
        Ok(Self { task, path })
    }
}

/// Who may connect: the owner; with a control group also its members, who must be able to pass through the folder, not to read it.
fn admit(folder: &Path, path: &Path, group: Option<&str>) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let Some(name) = group else { return Ok(()) };
    let found = nix::unistd::Group::from_name(name).map_err(io::Error::from)?;
    let group =
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("control_group {name:?}: the system has no such group")))?;
    nix::unistd::chown(path, None, Some(group.gid)).map_err(io::Error::from)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    nix::unistd::chown(folder, None, Some(group.gid)).map_err(io::Error::from)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o710))
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        // The next owner replaces it anyway.
        let _ = fs::remove_file(&self.path);
    }
}
