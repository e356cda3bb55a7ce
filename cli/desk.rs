//! One desk for looking at runs and steering them: the store itself where nobody owns the data folder, else its owner.

use lifeboat_engine::history;
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::journal::{Entry, RunId};
use lifeboat_engine::ports::Ports;
use lifeboat_engine::proof::{self, Proofs};
use lifeboat_engine::registry::Registry;
use lifeboat_engine::run::Run;
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::Plan;
use lifeboat_server::control::{
    Client, ClientError, Control, FreezeRequest, Listing, PageOf, Reply, Request, actor_of, this_user, user_name,
};
use lifeboat_store::{Sharing, StoreError};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use crate::args::Global;
use crate::exit::{Exit, Trouble, say};
use crate::render::Driver;
use crate::wiring;

/// How many of the newest runs are read to find the newest that can be.
const NEWEST: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");

/// Where runs are looked at and steered.
pub(crate) enum Desk {
    /// This process owns the folder now.
    Here { ports: Box<Ports>, control: Control, found: Found },
    /// Another process does.
    There { client: Client, owner: Owner, command: String },
}

/// In what state the folder was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It opened.
    Whole,
    /// It did not, and this is what reads of it.
    InPart,
}

/// What a desk is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// What reads of a damaged folder is better than nothing.
    Look,
    /// Only a whole one will do.
    Steer,
}

/// Whose the folder is.
pub(crate) enum Owner {
    /// It is open in a process, described.
    Process(String),
    /// Its files are those of another user, so who has it open cannot be seen.
    User(String),
}

impl Desk {
    /// To look at runs. What happened is in the journal alone, so a missing inventory is no hindrance.
    pub(crate) fn look(global: &Global) -> Result<Self, Trouble> {
        let registry = lifeboat_steps::registry();
        Self::with(global, registry, wiring::inventory_if_there(global)?, Purpose::Look)
    }

    /// To follow a run while it goes on, which nothing does in a damaged folder.
    pub(crate) fn follow(global: &Global) -> Result<Self, Trouble> {
        let registry = lifeboat_steps::registry();
        Self::with(global, registry, wiring::inventory_if_there(global)?, Purpose::Steer)
    }

    /// To steer runs: who may is in the inventory.
    pub(crate) fn open(global: &Global) -> Result<Self, Trouble> {
        let registry = lifeboat_steps::registry();
        let inventory = wiring::inventory(global, &registry)?;
        Self::with(global, registry, inventory, Purpose::Steer)
    }

    fn with(global: &Global, registry: Registry, inventory: Inventory, purpose: Purpose) -> Result<Self, Trouble> {
        if !global.data.exists() && inventory.store.etcd.is_none() {
            return Err(Trouble::usage(format!("there is no data folder {}", global.data.display()))
                .help("say where runs are kept with --data DIR"));
        }
        match wiring::open_store_to_look(global, &inventory) {
            Ok(store) => {
                let store = wiring::witnessed(store, &inventory, &global.data)?;
                let ports = wiring::ports(store, registry, inventory);
                let control = Control::new(ports.clone(), wiring::owner());
                Ok(Self::Here { ports: Box::new(ports), control, found: Found::Whole })
            }
            Err(StoreError::InUse { owner, .. }) => {
                Ok(Self::There { client: Client::new(&global.data), owner: Owner::Process(owner), command: wiring::hint(global) })
            }
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied && !wiring::is_mine(&global.data) => {
                // Somebody else's folder: a member of the control group may still ask its owner.
                let user = std::fs::metadata(&global.data).map_or_else(|_| "another user".into(), |found| user_name(found.uid()));
                Ok(Self::There { client: Client::new(&global.data), owner: Owner::User(user), command: wiring::hint(global) })
            }
            Err(error @ StoreError::Damaged { .. }) if purpose == Purpose::Look && inventory.store.etcd.is_none() => {
                let salvaged = wiring::salvage(global, &error).ok_or_else(|| wiring::open_trouble(&global.data, &error))?;
                let ports = wiring::ports(Arc::new(salvaged.store), registry, inventory);
                let control = Control::new(ports.clone(), wiring::owner());
                Ok(Self::Here { ports: Box::new(ports), control, found: Found::InPart })
            }
            Err(error) => Err(wiring::open_trouble(&global.data, &error)),
        }
    }

    /// The exit code of a command that has shown what it found here: what reads of a damaged folder never passes for the whole.
    pub(crate) fn exit(&self, exit: Exit) -> Exit {
        match self {
            Self::Here { found: Found::InPart, .. } => Exit::Engine,
            Self::Here { found: Found::Whole, .. } | Self::There { .. } => exit,
        }
    }

    /// What a person should know of the store now.
    pub(crate) fn notices(&self) -> Vec<String> {
        match self {
            Self::Here { ports, .. } => ports.store.notices(),
            // The process that drives says what it has to say itself.
            Self::There { .. } => Vec::new(),
        }
    }

    /// Whether a process may drive what this desk shows. Whoever owns the folder itself knows that none does, unless other machines
    /// have the store too.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Self::Here { ports, .. } => match ports.store.sharing() {
                Sharing::Sole => Driver::Gone,
                Sharing::Shared { .. } => Driver::Alive,
            },
            Self::There { .. } => Driver::Alive,
        }
    }

    /// The newest runs, and what people should know of the store.
    pub(crate) async fn page(&self, page: PageOf) -> Result<Listing, Trouble> {
        match self {
            Self::Here { control, .. } => control.page(&page).await.map_err(Trouble::engine),
            Self::There { .. } => match self.ask(&Request::Page(page)).await? {
                Reply::Runs(listing) => Ok(listing),
                Reply::Failed(why) => Err(Trouble::engine(why)),
                Reply::Names(_) | Reply::Journal { .. } | Reply::Done | Reply::Refused(_) | Reply::MakesWay(_) | Reply::Proofs(_) => {
                    Err(another_question())
                }
            },
        }
    }

    /// The names of all runs, oldest first.
    async fn names(&self) -> Result<Vec<RunId>, Trouble> {
        match self {
            Self::Here { control, .. } => control.names().await.map_err(Trouble::engine),
            Self::There { .. } => match self.ask(&Request::Names).await? {
                Reply::Names(names) => Ok(names),
                Reply::Failed(why) => Err(Trouble::engine(why)),
                Reply::Runs(_) | Reply::Journal { .. } | Reply::MakesWay(_) | Reply::Proofs(_) | Reply::Done | Reply::Refused(_) => {
                    Err(another_question())
                }
            },
        }
    }

    /// Says what people should know of the store, wherever they look at it.
    pub(crate) async fn warn(&self) -> Result<(), Trouble> {
        for notice in self.page(PageOf { limit: NonZeroU32::MIN, before: None }).await?.notices {
            say(&format!("warning: {notice}"));
        }
        Ok(())
    }

    pub(crate) async fn journal(&self, run: &RunId) -> Result<(Plan, Vec<Entry>), Trouble> {
        match self {
            Self::Here { ports, .. } => {
                let loaded = history::load(ports.store.as_ref(), run).await.map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
                Ok(((*loaded.run.plan).clone(), loaded.entries))
            }
            Self::There { .. } => match self.ask(&Request::Journal(run.clone())).await? {
                Reply::Journal { plan, entries } => Ok((*plan, entries)),
                Reply::Failed(why) => Err(Trouble::engine(why)),
                Reply::Runs(_) | Reply::Names(_) | Reply::Done | Reply::Refused(_) | Reply::MakesWay(_) | Reply::Proofs(_) => {
                    Err(another_question())
                }
            },
        }
    }

    pub(crate) async fn steer(&self, run: &RunId, command: Command) -> Result<(), Trouble> {
        self.try_steer(run, command).await?.map_err(|error| Trouble::refused(error.to_string()))
    }

    /// Steers; a refusal comes back as it is, for whoever can say more about it.
    pub(crate) async fn try_steer(&self, run: &RunId, command: Command) -> Result<Result<(), SteerError>, Trouble> {
        let reply = match self {
            Self::Here { ports, control, .. } => {
                let by = actor_of(&this_user(), "terminal", &ports.inventory);
                control.steer(run.clone(), command, by).await
            }
            Self::There { .. } => self.ask(&Request::Steer { run: run.clone(), command }).await?,
        };
        match reply {
            Reply::Done => Ok(Ok(())),
            Reply::Refused(error) => Ok(Err(error)),
            Reply::Failed(why) => Err(Trouble::engine(why)),
            Reply::Runs(_) | Reply::Names(_) | Reply::Journal { .. } | Reply::MakesWay(_) | Reply::Proofs(_) => Err(another_question()),
        }
    }

    /// What the runs of a runbook proved.
    pub(crate) async fn proofs(&self, runbook: &str) -> Result<Proofs, Trouble> {
        match self {
            Self::Here { ports, .. } => proof::read(ports.store.as_ref(), runbook).await.map_err(|error| wiring::store_trouble(&error)),
            Self::There { .. } => match self.ask(&Request::Proofs(runbook.to_owned())).await? {
                Reply::Proofs(proofs) => Ok(*proofs),
                Reply::Failed(why) => Err(Trouble::engine(why)),
                Reply::Runs(_) | Reply::Names(_) | Reply::Journal { .. } | Reply::Done | Reply::Refused(_) | Reply::MakesWay(_) => {
                    Err(another_question())
                }
            },
        }
    }

    /// Freezes a resource, or everything, for every run of the folder.
    pub(crate) async fn freeze(&self, wanted: FreezeRequest) -> Result<(), Trouble> {
        done(match self {
            Self::Here { ports, control, .. } => control.freeze(wanted, actor_of(&this_user(), "terminal", &ports.inventory)).await,
            Self::There { .. } => self.ask(&Request::Freeze(wanted)).await?,
        })
    }

    /// Lifts a freeze.
    pub(crate) async fn unfreeze(&self, wanted: FreezeRequest) -> Result<(), Trouble> {
        done(match self {
            Self::Here { ports, control, .. } => control.unfreeze(wanted, actor_of(&this_user(), "terminal", &ports.inventory)).await,
            Self::There { .. } => self.ask(&Request::Unfreeze(wanted)).await?,
        })
    }

    /// The run that a person means by all or the end of its name; without a name the newest.
    pub(crate) async fn find(&self, name: Option<&str>) -> Result<RunId, Trouble> {
        let Some(name) = name else {
            let newest = self.page(PageOf { limit: NEWEST, before: None }).await?;
            return newest.runs.last().map(|run| run.run.clone()).ok_or_else(|| self.missing(Trouble::usage("there are no runs yet")));
        };
        // One that cannot be read is found as well: what is wrong with it is then told.
        let names = self.names().await?;
        match wiring::only(&names, name) {
            Ok(run) => Ok(run),
            Err(trouble) => match self.archived(name).await? {
                Some((run, file)) => Err(Trouble::usage(format!("run {run} was archived; its journal is in {file} and no longer here"))
                    .help(
                        "`lifeboat store import FILE --data ANOTHER` brings it back to a data folder of its own, where it can be looked at",
                    )),
                None => Err(self.missing(trouble)),
            },
        }
    }

    /// A run that is not there: in a damaged folder it may be among what is lost.
    fn missing(&self, trouble: Trouble) -> Trouble {
        match self {
            Self::Here { found: Found::InPart, .. } => trouble.ending(Exit::Engine),
            Self::Here { found: Found::Whole, .. } | Self::There { .. } => trouble,
        }
    }

    /// A run that left the store, with its archive file.
    async fn archived(&self, name: &str) -> Result<Option<(RunId, String)>, Trouble> {
        let all = self.page(PageOf { limit: NonZeroU32::MAX, before: None }).await?;
        let found = all.archived.into_iter().find(|record| record.run.as_str().ends_with(name));
        Ok(found.map(|record| (record.run, record.file)))
    }

    /// A run as its journal adds up.
    pub(crate) async fn run(&self, id: &RunId) -> Result<Run, Trouble> {
        let (plan, entries) = self.journal(id).await?;
        let mut run = Run::new(id.clone(), Arc::new(plan));
        for entry in &entries {
            run.apply(entry).map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
        }
        Ok(run)
    }

    async fn ask(&self, request: &Request) -> Result<Reply, Trouble> {
        match self {
            Self::Here { .. } => Err(Trouble::engine("this process owns the folder itself")),
            Self::There { client, owner, command } => client.ask(request).await.map_err(|error| unanswered(&error, owner, command)),
        }
    }
}

fn done(reply: Reply) -> Result<(), Trouble> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Refused(error) => Err(Trouble::refused(error.to_string())),
        Reply::Failed(why) => Err(Trouble::engine(why)),
        Reply::Runs(_) | Reply::Names(_) | Reply::Journal { .. } | Reply::MakesWay(_) | Reply::Proofs(_) => Err(another_question()),
    }
}

fn another_question() -> Trouble {
    Trouble::engine("the owner of the data folder answered another question")
}

/// Why there is no answer, and who can help.
fn unanswered(error: &ClientError, owner: &Owner, command: &str) -> Trouble {
    let trouble = Trouble::from_error(Exit::Engine, error);
    let nobody_listens = matches!(
        error,
        ClientError::Unreachable { source, .. } if matches!(source.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
    );
    match owner {
        Owner::User(user) if nobody_listens => Trouble::engine("no process drives a run in this folder now")
            .help(format!("the folder is {user}'s: {user} must `{command} resume`, and then you can be asked")),
        Owner::Process(process) if nobody_listens => trouble.help(format!("{process} has the folder and does not listen yet; try again")),
        Owner::User(name) | Owner::Process(name) => trouble.help(format!(
            "the data folder belongs to {name}; only that user, or the inventory's `policies.control_group`, can talk to it"
        )),
    }
}
