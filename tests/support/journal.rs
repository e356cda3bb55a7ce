//! What a data folder's journal says, read from a copy: whoever opens a store after a crash repairs it, and that is the product's task.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use lifeboat_engine::history;
use lifeboat_engine::journal::{Entry, Event, Outcome, RunId};
use lifeboat_store::{SledOptions, SledStore};

/// Numbers the copies of one process.
static COPY: AtomicU32 = AtomicU32::new(0);

/// One run's journal.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    pub(crate) run: RunId,
    pub(crate) entries: Vec<Entry>,
}

/// The journals of every run that a data folder holds, oldest first. A folder that is not there yet holds none.
#[track_caller]
pub(crate) fn all(data: &Path) -> Vec<Journal> {
    if !data.exists() {
        return Vec::new();
    }
    let copy = data.with_file_name(format!("copy-{}", COPY.fetch_add(1, Ordering::Relaxed)));
    let copied = Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(data).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", data.display());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    let journals = runtime.block_on(async {
        let store = SledStore::open(&copy, &SledOptions::default()).unwrap_or_else(|error| panic!("the journal is unreadable: {error}"));
        let runs = history::list(&store).await.unwrap_or_else(|error| panic!("the runs are unreadable: {error}"));
        let mut journals = Vec::new();
        for run in runs {
            let loaded = history::load(&store, &run).await.unwrap_or_else(|error| panic!("run {run} is unreadable: {error}"));
            journals.push(Journal { run, entries: loaded.entries });
        }
        journals
    });
    let _removed = std::fs::remove_dir_all(&copy);
    journals
}

/// The journal of the only run.
#[track_caller]
pub(crate) fn only(data: &Path) -> Journal {
    let mut journals = all(data);
    assert_eq!(journals.len(), 1, "{journals:?}");
    journals.remove(0)
}

impl Journal {
    /// How the run ended.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.entries.iter().find_map(|entry| if let Event::RunEnded { outcome, .. } = &entry.event { Some(*outcome) } else { None })
    }

    /// How often each attempt of a step began.
    pub(crate) fn starts(&self, id: &str) -> usize {
        self.entries.iter().filter(|entry| matches!(&entry.event, Event::StepStarted { step, .. } if step.as_str() == id)).count()
    }

    /// How often a step was journaled as done.
    pub(crate) fn successes(&self, id: &str) -> usize {
        self.entries.iter().filter(|entry| matches!(&entry.event, Event::StepSucceeded { step, .. } if step.as_str() == id)).count()
    }

    /// Steps that were started again after they had been journaled as done.
    pub(crate) fn done_and_started_again(&self) -> Vec<String> {
        let mut done: Vec<&str> = Vec::new();
        let mut again = Vec::new();
        for entry in &self.entries {
            if let Event::StepStarted { step, .. } | Event::StepSucceeded { step, .. } = &entry.event
                && done.contains(&step.as_str())
            {
                again.push(step.to_string());
            }
            if let Event::StepSucceeded { step, .. } = &entry.event {
                done.push(step.as_str());
            }
        }
        again
    }

    /// The step whose effect was under way at the end of the journal, if there is one.
    pub(crate) fn open_step(&self) -> Option<String> {
        let mut open: Option<String> = None;
        for entry in &self.entries {
            if let Event::StepStarted { step, .. } | Event::StepInProgress { step } = &entry.event {
                open = Some(step.to_string());
            } else if matches!(&entry.event, Event::StepSucceeded { .. } | Event::StepFailed { .. } | Event::StepHeld { .. }) {
                open = None;
            }
        }
        open
    }

    /// The last entry in two words.
    pub(crate) fn last(&self) -> String {
        self.entries.last().map_or_else(
            || "nothing".to_owned(),
            |entry| {
                let text = format!("{:?}", entry.event);
                let name = text.split([' ', '{']).next().unwrap_or_default().to_owned();
                let step = serde_json::to_value(&entry.event).ok().and_then(|value| {
                    value
                        .as_object()
                        .and_then(|object| object.values().next())
                        .and_then(|event| event.get("step")?.as_str().map(str::to_owned))
                });
                format!("{name} {}", step.unwrap_or_default()).trim_end().to_owned()
            },
        )
    }
}
