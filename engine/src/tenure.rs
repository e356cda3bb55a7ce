//! This process's hold on a run in a store that several machines share: the lease, renewed while it lasts and timed by the holder's own
//! count. What is done without it is decided in the executor and in `resume`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::{Clock, Instant};
use crate::history::run_log;
use crate::journal::RunId;
use crate::mutants::{self, Mutant};
use crate::ports::Ports;
use lifeboat_store::{Lease, OwnerId, Sharing, Store, StoreError};

/// The holder stops this part of the lease's length before its end: clocks of two machines differ in rate, and a call that has just been
/// let through needs a moment to leave.
const MARGIN_OF: u32 = 5;

/// The lease is renewed this often in its length.
const RENEWALS_IN: u32 = 4;

/// A run that this process cannot hold.
#[derive(Debug)]
pub(crate) enum TenureError {
    /// Another process has the lease.
    Taken { by: String },
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for TenureError {
    fn from(error: StoreError) -> Self {
        if let StoreError::Held { by, .. } = error { Self::Taken { by } } else { Self::Store(error) }
    }
}

/// Hold on a run. Dropping it stops renewing; the lease then ends by itself.
#[derive(Debug)]
pub(crate) struct Tenure {
    standing: Standing,
    /// On the heap: most runs have a store to themselves.
    kept: Option<Box<Kept>>,
}

#[derive(Debug)]
struct Kept {
    store: Arc<dyn Store>,
    lease: Lease,
    _renewing: JoinSet<()>,
}

/// Whether this process certainly holds the run, asked again before every act.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    clock: Arc<dyn Clock>,
    /// Until when, by this process's own count from before it asked. `None` where nobody else can have the run.
    until: Option<watch::Receiver<Instant>>,
}

impl Tenure {
    /// Takes the lease of a run, or takes it again. Where the store has one owner there is nothing to take.
    ///
    /// # Errors
    /// [`TenureError::Taken`] where another process has it.
    pub(crate) async fn begin(ports: &Ports, owner: &OwnerId, run: &RunId) -> Result<Self, TenureError> {
        let clock = Arc::clone(&ports.clock);
        let Sharing::Shared { lease: length } = ports.store.sharing() else {
            return Ok(Self { standing: Standing { clock, until: None }, kept: None });
        };
        // Counted from before the request left: the store counts from a later moment.
        let asked_at = clock.instant();
        let lease = ports.store.lease(&run_log(run)?, owner, length).await?;
        let (certain, until) = watch::channel(certain_until(asked_at, length));
        let mut renewing = JoinSet::new();
        renewing.spawn(renew(Arc::clone(&ports.store), Arc::clone(&clock), lease.clone(), certain));
        let kept = Kept { store: Arc::clone(&ports.store), lease, _renewing: renewing };
        Ok(Self { standing: Standing { clock, until: Some(until) }, kept: Some(Box::new(kept)) })
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Gives the lease back, so that a successor need not wait for its end. Only where nothing of this process acts any more.
    pub(crate) async fn give_back(self) {
        if let Some(kept) = self.kept {
            // A store that cannot be told lets the lease end by itself.
            let _ = kept.store.release(kept.lease).await;
        }
    }
}

impl Standing {
    /// Where nobody else can have the run.
    pub(crate) fn sole(clock: Arc<dyn Clock>) -> Self {
        Self { clock, until: None }
    }

    /// Whether the run is certainly still this process's.
    pub(crate) fn holds(&self) -> bool {
        mutants::is(Mutant::LeaseIgnored) || self.until.as_ref().is_none_or(|until| self.clock.instant() < *until.borrow())
    }

    /// Whether others may take the run over at all.
    pub(crate) fn is_leased(&self) -> bool {
        self.until.is_some()
    }

    /// Waits until the run may be somebody else's.
    pub(crate) async fn over(&self) {
        match self.until.clone().filter(|_| !mutants::is(Mutant::LeaseIgnored)) {
            // On the heap: a run that nobody else can have does not keep room for this.
            Some(until) => Box::pin(self.ended(until)).await,
            None => std::future::pending().await,
        }
    }

    async fn ended(&self, mut until: watch::Receiver<Instant>) {
        loop {
            let left = until.borrow_and_update().since(self.clock.instant());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.clock.sleep(left) => {}
                // Nobody renews any more: what is left of the time still holds.
                changed = until.changed() => if changed.is_err() { self.clock.sleep(left).await },
            }
        }
    }
}

fn certain_until(asked_at: Instant, length: Duration) -> Instant {
    asked_at.after(length - length / MARGIN_OF)
}

/// Renews until the lease is lost. A renewal whose answer is lost is tried again while there is time: it can only have made the lease
/// longer.
async fn renew(store: Arc<dyn Store>, clock: Arc<dyn Clock>, lease: Lease, certain: watch::Sender<Instant>) {
    let pause = lease.ttl / RENEWALS_IN;
    loop {
        clock.sleep(pause).await;
        let asked_at = clock.instant();
        match store.renew(&lease).await {
            Ok(()) => {
                let until = certain_until(asked_at, lease.ttl);
                // An answer that took so long that the time before it was over must not call back what was given up.
                let late = clock.instant() >= *certain.borrow();
                if late || certain.send(until).is_err() {
                    return;
                }
            }
            Err(StoreError::Lost { .. }) => {
                certain.send_replace(Instant(Duration::ZERO));
                return;
            }
            Err(_) => {
                if clock.instant() >= *certain.borrow() {
                    return;
                }
            }
        }
    }
}
