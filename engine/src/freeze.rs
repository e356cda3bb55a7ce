//! Freezes: what no run may change for now, kept in one log that every executor reads and expects. What a freeze does to a run that
//! meets it is in `run::brake`; how an executor watches it is in `executor::freezing`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::history;
use crate::journal::Actor;
use crate::ports::Ports;
use crate::steering::COMMENT_BYTES_MAX;
use lifeboat_runbooks::catalog::Resources;
use lifeboat_store::{Commit, LogId, Record, Seq, Store, StoreError};

/// Tries to commit this often when others freeze or unfreeze meanwhile.
const TRIES: u32 = 5;

/// One freeze, or one lifting of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// The resource; `None` for everything.
    pub resource: Option<String>,
    /// Who.
    pub by: Actor,
    /// Why.
    pub comment: String,
    /// When.
    pub at: Timestamp,
}

impl Freeze {
    /// What it stops, for people.
    #[must_use]
    pub fn of(&self) -> &str {
        self.resource.as_deref().unwrap_or("everything")
    }
}

/// A record of the log of freezes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FreezeRecord {
    /// From now on nothing changes it.
    Frozen(Freeze),
    /// It may be changed again.
    Unfrozen(Freeze),
}

/// The freezes as the log has them at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freezes {
    /// In force, by resource.
    pub in_force: BTreeMap<Option<String>, Freeze>,
    /// The last lifting, by resource.
    pub lifted: BTreeMap<Option<String>, Freeze>,
    /// The next free place of the log. An intent is committed only while the log still stands there.
    pub next: Seq,
}

/// A freeze or an unfreeze that is not possible. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The inventory has no such resource.
    #[error("the inventory has no resource {name}{near}")]
    NoSuchResource {
        /// As given.
        name: String,
        /// The nearest one, as the rest of the sentence.
        near: String,
    },
    /// It is so already.
    #[error("{of} is frozen already, by {by}: {comment}")]
    Already {
        /// What is frozen.
        of: String,
        /// By whom.
        by: String,
        /// Why.
        comment: String,
    },
    /// There is nothing to lift.
    #[error("{of} is not frozen{others}")]
    NotFrozen {
        /// What is not.
        of: String,
        /// What is, as the rest of the sentence.
        others: String,
    },
    /// No reason was given, or one that is too long.
    #[error("{0}")]
    Unfit(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log of freezes.
///
/// # Errors
/// Never.
pub fn freeze_log() -> Result<LogId, StoreError> {
    LogId::new("freeze")
}

/// What is frozen now.
///
/// # Errors
/// Where the log cannot be read: then everything counts as frozen.
pub async fn read(store: &dyn Store) -> Result<Freezes, StoreError> {
    let (records, next) = history::records(store, &freeze_log()?).await?;
    let mut freezes = Freezes { next, ..Freezes::default() };
    for bytes in records {
        let record: FreezeRecord =
            serde_json::from_slice(&bytes).map_err(|error| StoreError::Damaged { folder: "log freeze".into(), what: error.to_string() })?;
        match record {
            FreezeRecord::Frozen(freeze) => {
                freezes.in_force.insert(freeze.resource.clone(), freeze);
            }
            FreezeRecord::Unfrozen(lifted) => {
                freezes.in_force.remove(&lifted.resource);
                freezes.lifted.insert(lifted.resource.clone(), lifted);
            }
        }
    }
    Ok(freezes)
}

/// Freezes one resource, or everything. Once this returns, no executor commits an intent that it stops.
///
/// # Errors
/// As [`FreezeError`] says.
pub async fn freeze(ports: &Ports, resource: Option<String>, by: &Actor, comment: &str) -> Result<(), FreezeError> {
    if let Some(name) = resource.as_ref().filter(|name| ports.inventory.resource(name).is_none()) {
        let near = lifeboat_runbooks::nearest(name, ports.inventory.resources.keys().map(String::as_str));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return Err(FreezeError::NoSuchResource { name: name.clone(), near });
    }
    write(ports, resource, by, comment, |freezes, freeze| match freezes.in_force.get(&freeze.resource) {
        Some(earlier) => {
            Err(FreezeError::Already { of: earlier.of().to_owned(), by: earlier.by.name().to_owned(), comment: earlier.comment.clone() })
        }
        None => Ok(FreezeRecord::Frozen(freeze)),
    })
    .await
}

/// Lifts the freeze of one resource, or that of everything. The one leaves the other in force.
///
/// # Errors
/// As [`FreezeError`] says.
pub async fn unfreeze(ports: &Ports, resource: Option<String>, by: &Actor, comment: &str) -> Result<(), FreezeError> {
    write(ports, resource, by, comment, |freezes, lifted| {
        if freezes.in_force.contains_key(&lifted.resource) {
            return Ok(FreezeRecord::Unfrozen(lifted));
        }
        let others: Vec<&str> = freezes.in_force.values().map(Freeze::of).collect();
        let others = if others.is_empty() { String::new() } else { format!("; frozen is {}", others.join(", ")) };
        Err(FreezeError::NotFrozen { of: lifted.of().to_owned(), others })
    })
    .await
}

async fn write(
    ports: &Ports,
    resource: Option<String>,
    by: &Actor,
    comment: &str,
    record: impl Fn(&Freezes, Freeze) -> Result<FreezeRecord, FreezeError>,
) -> Result<(), FreezeError> {
    if comment.trim().is_empty() {
        return Err(FreezeError::Unfit("say why with --comment: it is kept, and whoever waits reads it".into()));
    }
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(FreezeError::Unfit(format!("the comment has {} bytes; {COMMENT_BYTES_MAX} are kept", comment.len())));
    }
    let store = ports.store.as_ref();
    let log = freeze_log()?;
    let mut tries = 0;
    loop {
        let freezes = read(store).await?;
        let freeze = Freeze { resource: resource.clone(), by: by.clone(), comment: comment.to_owned(), at: ports.clock.now() };
        let record = record(&freezes, freeze)?;
        let bytes = serde_json::to_vec(&record).map_err(|error| FreezeError::Unfit(format!("it cannot be written down: {error}")))?;
        let commit = Commit { expect: vec![(log.clone(), freezes.next)], append: vec![(log.clone(), vec![Record(bytes)])] };
        match store.commit(commit).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict { .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
