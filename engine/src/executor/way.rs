//! Making way for a live run: the wish in a lock's log, or a request, becomes the turn of this run. Looks under way are cut off; what
//! may have an effect is waited for.

use lifeboat_runbooks::plan::OnFailure;

use super::perform::{Kind, UnderWay};
use super::{Executor, ExecutorError};
use crate::history;
use crate::journal::{Back, Event, RunId, Turn};
use crate::preemption::makes_way;
use crate::run::RunPhase;

impl Executor {
    /// Begins to watch for wishes, where this run makes way at all, and looks for one that came before.
    pub(super) async fn watch_wishes(&mut self) -> Result<(), ExecutorError> {
        if self.run.phase != RunPhase::Ended && makes_way(&self.run.plan.mode, &self.run.locks) {
            self.wishes = Some(self.ports.store.watch("lock/").await?);
            self.look_for_wish().await?;
        }
        Ok(())
    }

    /// Turns back where a live run waits for one of our locks.
    pub(super) async fn look_for_wish(&mut self) -> Result<(), ExecutorError> {
        for place in 0..self.run.locks.len() {
            let state = history::lock_state(self.ports.store.as_ref(), &self.run.locks[place].resource).await?;
            // Also a wish whose time is over: the live run comes again, and this one is not in its way then.
            if let (Some(holder), Some((by, _))) = (state.holder, state.wanted)
                && holder == self.run.id
            {
                return self.make_way(by);
            }
        }
        Ok(())
    }

    /// Turns back for this live run, unless the run is over already or cannot turn back any more.
    pub(super) fn make_way(&mut self, by: RunId) -> Result<(), ExecutorError> {
        self.wishes = None;
        let goes_on = matches!(self.run.phase, RunPhase::Admitted | RunPhase::Running | RunPhase::Held);
        if !goes_on || !self.run.can_turn_back() {
            return Ok(());
        }
        let back = if self.run.run_rule() == OnFailure::Undo { Back::Undo } else { Back::Keep };
        self.record(Event::UnwindingStarted { turn: Turn::Preempted { by }, back })?;
        self.cut_off_looks();
        Ok(())
    }

    /// Ends calls that can have no effect: a wait of an hour must not keep a disaster waiting.
    fn cut_off_looks(&mut self) {
        for UnderWay { step, kind, task, .. } in self.of_task.values() {
            let looks = match kind {
                Kind::Prepare => true,
                Kind::Execute => self.run.plan.step(step).is_some_and(|step| !self.may_change(step)),
                Kind::Observe | Kind::Undo | Kind::Give => false,
            };
            if looks {
                task.abort();
            }
        }
    }
}
