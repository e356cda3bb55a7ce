//! Drives a run in the foreground: control socket, live progress, Ctrl-C, and the report at the end.

use std::sync::Arc;

use lifeboat_engine::executor::{Driven, Executor, ExecutorError, Handle, Notice, Request};
use lifeboat_engine::growth;
use lifeboat_engine::journal::Outcome;
use lifeboat_engine::ports::Ports;
use lifeboat_engine::proof;
use lifeboat_engine::run::Run;
use lifeboat_engine::{freeze, history};
use lifeboat_server::control::{Control, Listener};
use lifeboat_store::{OwnerId, Seq};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast;

use super::report;
use crate::args::{Format, Global, ReportFormat};
use crate::exit::{Exit, Trouble, say};
use crate::render::progress::Progress;
use crate::wiring;

/// What to do when only a person can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Wait for the answer.
    Stay,
    /// Leave with exit code 4.
    Leave,
}

/// How often the elapsed time is drawn anew, in milliseconds.
const REDRAW_MS: u64 = 200;

pub(crate) async fn drive(
    global: &Global,
    ports: Ports,
    owner: OwnerId,
    run: Run,
    next: Seq,
    waiting: Waiting,
    format: Format,
) -> Result<Exit, Trouble> {
    for notice in ports.store.notices() {
        say(&format!("note: {notice}"));
    }
    let control = Control::new(ports.clone(), owner.clone());
    let listener = Listener::open(&global.data, control.clone())
        .map_err(|error| Trouble::engine(format!("the control socket in {} cannot be opened: {error}", global.data.display())))?;
    let id = run.id.clone();
    let locks = run.locks.clone();
    // Without timings the progress says less, and the run goes on all the same.
    let proofs = proof::read(ports.store.as_ref(), &run.plan.runbook).await.unwrap_or_default();
    let mut progress = Progress::new(run.clone(), proofs, Arc::clone(&ports.clock), wiring::command(global), global.color);
    let (executor, handle) = Executor::new(ports.clone(), owner, run, next);
    let mut notices = handle.notices.subscribe();
    control.drives(handle.clone());
    let mut task = tokio::spawn(executor.drive());
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let mut asked_to_leave = 0;
    // Where they cannot be read everything counts as frozen, as the journal has it.
    if let Ok(freezes) = freeze::read(ports.store.as_ref()).await {
        progress.knows_freezes(&freezes);
    }
    progress.begin();
    let ended = loop {
        tokio::select! {
            ended = &mut task => break ended,
            notice = notices.recv() => match notice {
                Ok(Notice::Entry(entry)) => progress.entry(&entry),
                Ok(Notice::Progress { step, words }) => progress.words(&step, &words),
                // Too slow to follow: the journal has it all.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    if let Ok(loaded) = history::load(ports.store.as_ref(), &id).await {
                        progress.replace(loaded.run);
                    }
                }
                Err(broadcast::error::RecvError::Closed) => {}
            },
            () = ports.clock.sleep(std::time::Duration::from_millis(REDRAW_MS)) => progress.tick(),
            _ = interrupt.recv() => asked_to_leave += 1,
            _ = terminate.recv() => asked_to_leave += 1,
        }
        if waiting == Waiting::Leave && progress.needs_person() {
            leave(&handle).await;
        }
        match asked_to_leave {
            0 => {}
            1 => {
                asked_to_leave += 1;
                progress.pause();
                say(
                    "leaving: nothing more is started; steps that are acting are waited for (again Ctrl-C: leave at once, they are looked at on resume)",
                );
                leave(&handle).await;
            }
            2 => {}
            _ => {
                task.abort();
                progress.finish();
                return Ok(left(&id));
            }
        }
    };
    while let Ok(notice) = notices.try_recv() {
        if let Notice::Entry(entry) = notice {
            progress.entry(&entry);
        }
    }
    progress.finish();
    control.drives_no_more(&id);
    drop(listener);
    match ended {
        Ok(Ok(Driven::Ended(outcome))) => {
            // The run is over and durable: what is folded now only keeps the next start short, and the next end tries again.
            let _ = growth::fold(ports.store.as_ref(), &locks).await;
            let loaded = history::load(ports.store.as_ref(), &id).await.map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
            let format = match format {
                Format::Text => ReportFormat::Text,
                Format::Json => ReportFormat::Json,
            };
            report::write(global, &loaded.run.plan, &loaded.entries, format, None).map_err(|trouble| {
                // Whoever sees a failure here must not take it for the run's and do its work again.
                trouble
                    .about(&format!("run {id} itself {}; only its report could not be given", ended_as(outcome)))
                    .help(format!("`lifeboat report {id}` gives it again"))
            })?;
            Ok(match outcome {
                Outcome::Succeeded => Exit::Done,
                Outcome::Failed | Outcome::Undone | Outcome::Cancelled => Exit::RunFailed,
                Outcome::Stuck => Exit::Waiting,
            })
        }
        Ok(Ok(Driven::Detached)) => Ok(left(&id)),
        Ok(Err(ExecutorError::Store(error))) => Err(wiring::store_trouble(&error)),
        Ok(Err(error)) => {
            Err(Trouble::from_error(Exit::Engine, &error).help(format!("what was acknowledged is kept; `lifeboat resume {id}` goes on")))
        }
        Err(error) => Err(Trouble::engine(format!("the executor failed: {error}"))
            .help(format!("what was acknowledged is kept; `lifeboat resume {id}` goes on"))),
    }
}

pub(super) fn ended_as(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Undone => "was undone",
        Outcome::Cancelled => "was cancelled",
        Outcome::Stuck => "ended stuck",
    }
}

fn signals(kind: SignalKind) -> Result<Signal, Trouble> {
    signal(kind).map_err(|error| Trouble::engine(format!("signals cannot be received: {error}")))
}

async fn leave(handle: &Handle) {
    // An executor that has just ended needs no request.
    let _ = handle.requests.send(Request::Detach).await;
}

fn left(id: &lifeboat_engine::RunId) -> Exit {
    say(&format!("run {id} is unfinished; `lifeboat status {id}` tells what it waits for, `lifeboat resume {id}` goes on"));
    Exit::Waiting
}
