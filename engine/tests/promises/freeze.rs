//! Freezes: durable, for all runs and all executors, undo included. After the commit of a freeze no intent that it stops commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_engine::Clock;
use lifeboat_engine::executor::Executor;
use lifeboat_engine::freeze::{self, FreezeError};
use lifeboat_engine::history;
use lifeboat_engine::journal::{Event, Outcome, RunId};
use lifeboat_engine::run::StepState as S;
use lifeboat_runbooks::plan::{OnFailure, Plan};
use lifeboat_store::{Changes, Commit, Digest, Lease, LogHead, LogId, MemoryStore, OwnerId, Page, Record, Seq, Sharing, Store, StoreError};

use crate::world::plans::{PlanWords, actor, approval, change, id, look, note, plan, poke};
use crate::world::stage::{Rest, RestWords, Stage, approve, nobody, on_stage, once};
use crate::world::{Act, Back};

async fn freeze(stage: &Stage, resource: Option<&str>) {
    freeze::freeze(&stage.ports(), resource.map(str::to_owned), &actor("ann"), "the replica looks wrong").await.unwrap();
}

async fn unfreeze(stage: &Stage, resource: Option<&str>) {
    freeze::unfreeze(&stage.ports(), resource.map(str::to_owned), &actor("bob"), "it was the monitor").await.unwrap();
}

/// A process drives the run for so long while something else happens, and is killed.
async fn meanwhile(stage: &Stage, plan: Plan, seconds: u64, happens: impl Future<Output = ()>) -> (RunId, Rest) {
    let admitted = stage.admit(plan).await;
    let name = admitted.run.id.clone();
    let (executor, handle) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
    let mut none = nobody;
    let driving = stage.attend(executor, handle, &mut none, Duration::from_secs(seconds));
    let (rest, ()) = tokio::join!(driving, happens);
    (name, rest)
}

#[test]
fn a_freeze_of_everything_stops_what_changes_and_not_what_looks() {
    on_stage(async |stage| {
        freeze(&stage, None).await;
        let steps = [change("a"), look("b").on("db"), note("c"), change("d").on("dns"), look("e").after(&["d"])];
        let (name, _) = meanwhile(&stage, plan(steps), 3600, async {}).await;
        for (step, state) in [("a", S::Waiting), ("b", S::Succeeded), ("c", S::Succeeded), ("d", S::Waiting), ("e", S::Waiting)] {
            assert_eq!(stage.state(&name, step).await, state, "{step}");
        }
        assert_eq!(stage.world.calls("prepare", "a"), 0);
        unfreeze(&stage, None).await;
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_freeze_of_one_resource_stops_only_what_changes_it() {
    on_stage(async |stage| {
        freeze(&stage, Some("db")).await;
        let steps = [change("a"), look("b").on("db"), change("c").on("dns")];
        let (name, _) = meanwhile(&stage, plan(steps), 3600, async {}).await;
        for (step, state) in [("a", S::Waiting), ("b", S::Succeeded), ("c", S::Succeeded)] {
            assert_eq!(stage.state(&name, step).await, state, "{step}");
        }
    });
}

#[test]
fn a_run_that_touches_nothing_frozen_does_not_hear_of_it() {
    on_stage(async |stage| {
        freeze(&stage, Some("web")).await;
        let (name, rest) = stage.run(plan([change("a")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert!(!stage.events(&name).await.iter().any(|event| matches!(event, Event::RunFrozen { .. })));
    });
}

#[test]
fn a_waiting_run_goes_on_within_two_seconds_of_the_unfreezing_and_says_who_and_why() {
    on_stage(async |stage| {
        freeze(&stage, None).await;
        let thaw = async {
            stage.clock.sleep(Duration::from_secs(1000)).await;
            unfreeze(&stage, None).await;
        };
        let (name, rest) = meanwhile(&stage, plan([change("a")]), 3600, thaw).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let entries = stage.load(&name).await.entries;
        let at = |wanted: &dyn Fn(&Event) -> bool| entries.iter().find(|entry| wanted(&entry.event)).unwrap().at;
        let thawed = at(&|event| *event == Event::RunThawed { resource: None, by: Some(actor("bob")), why: "it was the monitor".into() });
        let frozen = at(
            &|event| matches!(event, Event::RunFrozen { resource: None, by: Some(by), why, .. } if *by == actor("ann") && why == "the replica looks wrong"),
        );
        let waited = thawed.duration_since(frozen).as_secs();
        assert!((1000..=1002).contains(&waited), "the run went on after {waited} s");
    });
}

#[test]
fn what_acts_when_the_freeze_comes_ends_and_nothing_follows() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(5000)]);
        let cold = async {
            stage.clock.sleep(Duration::from_secs(3)).await;
            freeze(&stage, None).await;
        };
        let (name, _) = meanwhile(&stage, plan([change("a"), change("b").after(&["a"])]), 3600, cold).await;
        assert_eq!((stage.state(&name, "a").await, stage.state(&name, "b").await), (S::Succeeded, S::Waiting));
    });
}

#[test]
fn a_step_whose_gate_is_being_asked_when_the_freeze_comes_does_not_start() {
    on_stage(async |stage| {
        // The gate is out of reach for a while, and asked again and again.
        stage.world.gates("a", &[crate::world::Gate::NotDone; 4]);
        let cold = async {
            stage.clock.sleep(Duration::from_secs(3)).await;
            assert_eq!(stage.world.calls("execute", "a"), 0, "the freeze comes while the gate is asked");
            freeze(&stage, Some("db")).await;
        };
        let (name, _) = meanwhile(&stage, plan([change("a").tries(20)]), 3600, cold).await;
        assert_eq!((stage.state(&name, "a").await, stage.world.calls("execute", "a")), (S::Waiting, 0));
    });
}

#[test]
fn a_freeze_stops_undo_too() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("second", &[Back::SucceedAfter(5000)]);
        let mut cold = None;
        let frozen = Arc::new(AtomicBool::new(false));
        let steps = [change("first"), change("second").after(&["first"]), change("bad").after(&["second"])];
        let freezing = async {
            while cold.is_none() {
                stage.clock.sleep(Duration::from_millis(100)).await;
                if stage.world.calls("undo", "second") > 0 {
                    freeze(&stage, None).await;
                    cold = Some(());
                    frozen.store(true, Ordering::SeqCst);
                }
            }
        };
        let (name, _) = meanwhile(&stage, plan(steps).failing(OnFailure::Undo), 3600, freezing).await;
        assert!(frozen.load(Ordering::SeqCst));
        assert_eq!((stage.state(&name, "second").await, stage.state(&name, "first").await), (S::Undone, S::Succeeded));
        assert_eq!(stage.world.calls("undo", "first"), 0);
        unfreeze(&stage, None).await;
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
    });
}

#[test]
fn approvals_count_and_do_not_expire_while_frozen() {
    on_stage(async |stage| {
        freeze(&stage, Some("db")).await;
        let (name, _) = meanwhile(&stage, plan([approval("ask", 1), change("a").after(&["ask"])]), 3600, async {}).await;
        assert_eq!(stage.state(&name, "ask").await, S::AwaitingApproval, "its ten minutes stand still");
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        assert_eq!(stage.state(&name, "ask").await, S::Succeeded);
        unfreeze(&stage, Some("db")).await;
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn freezes_are_lifted_one_by_one_and_only_real_things_are_frozen() {
    on_stage(async |stage| {
        freeze(&stage, None).await;
        freeze(&stage, Some("db")).await;
        let ports = stage.ports();
        let again = freeze::freeze(&ports, None, &actor("bob"), "me too").await;
        assert!(matches!(again, Err(FreezeError::Already { .. })), "{again:?}");
        unfreeze(&stage, None).await;
        let left = freeze::read(&stage.memory).await.unwrap();
        assert_eq!(left.in_force.keys().collect::<Vec<_>>(), [&Some("db".to_owned())]);
        let error = freeze::unfreeze(&ports, None, &actor("bob"), "again").await.unwrap_err();
        assert_eq!(error.to_string(), "everything is not frozen; frozen is db");
        let error = freeze::freeze(&ports, Some("dbb".into()), &actor("bob"), "typed at night").await.unwrap_err();
        assert_eq!(error.to_string(), "the inventory has no resource dbb; did you mean db?");
        let silent = freeze::freeze(&ports, Some("dns".into()), &actor("bob"), " ").await;
        assert!(matches!(silent, Err(FreezeError::Unfit(_))), "{silent:?}");
    });
}

#[test]
fn freezes_that_cannot_be_read_count_as_frozen_until_they_can_be() {
    on_stage(async |stage| {
        let store = Arc::new(Racing { memory: stage.memory.clone(), ..Racing::default() });
        store.unreadable.store(true, Ordering::SeqCst);
        let admitted = stage.admit(plan([change("a"), look("b")])).await;
        let name = admitted.run.id.clone();
        let (executor, handle) = Executor::new(stage.ports_on(store.clone()), stage.owner(), admitted.run, admitted.next);
        let mend = async {
            stage.clock.sleep(Duration::from_secs(600)).await;
            assert_eq!(stage.state(&name, "b").await, S::Succeeded);
            assert_eq!((stage.state(&name, "a").await, stage.world.calls("prepare", "a")), (S::Waiting, 0));
            store.unreadable.store(false, Ordering::SeqCst);
        };
        let mut none = nobody;
        let (rest, ()) = tokio::join!(stage.attend(executor, handle, &mut none, Duration::from_secs(3600)), mend);
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let events = stage.events(&name).await;
        assert!(events.iter().any(|event| matches!(event, Event::RunFrozen { by: None, resource: None, .. })));
        assert!(events.iter().any(|event| matches!(event, Event::RunThawed { by: None, resource: None, .. })));
    });
}

/// The promise itself: a freeze that commits while an executor, on another machine as it were, commits an intent.
#[test]
fn an_intent_that_races_a_freeze_and_loses_is_not_committed_anywhere() {
    for racing_step in ["a", "a behind a gate that glances", "undo of a"] {
        on_stage(async |stage| {
            let undo = racing_step == "undo of a";
            let racing = if racing_step == "a" { change("a") } else { poke("a") };
            stage.world.always("bad", Act::Hopeless);
            let store = Arc::new(Racing { memory: stage.memory.clone(), deaf: true, undo, ..Racing::default() });
            *store.stage.lock().unwrap() = Some(stage.clone());
            let steps = if undo { vec![change("a"), change("bad").after(&["a"])] } else { vec![look("before"), racing.after(&["before"])] };
            let admitted = stage.admit(plan(steps).failing(OnFailure::Undo)).await;
            let name = admitted.run.id.clone();
            let (executor, handle) = Executor::new(stage.ports_on(store.clone()), stage.owner(), admitted.run, admitted.next);
            let mut none = nobody;
            let thaw = async {
                stage.clock.sleep(Duration::from_secs(600)).await;
                assert!(store.froze.load(Ordering::SeqCst), "the freeze came just before an intent");
                let (what, state) = if undo { ("undo", S::Succeeded) } else { ("execute", S::Waiting) };
                assert_eq!((stage.world.calls(what, "a"), stage.state(&name, "a").await), (0, state), "{racing_step}");
                let intents = |events: Vec<Event>| {
                    events.into_iter().skip_while(|event| !matches!(event, Event::RunFrozen { .. })).any(|event| {
                        matches!(event, Event::UndoStarted { .. }) || matches!(event, Event::StepStarted { step, .. } if step == id("a"))
                    })
                };
                assert!(!intents(stage.events(&name).await), "{racing_step}: an intent came after the freeze");
                let before = stage.events(&name).await.iter().filter(|event| matches!(event, Event::StepSucceeded { .. })).count();
                assert_eq!(before, 1, "{racing_step}: the outcome that shared its commit stays");
                unfreeze(&stage, None).await;
            };
            let (rest, ()) = tokio::join!(stage.attend(executor, handle, &mut none, Duration::from_secs(3600)), thaw);
            let wanted = if undo { Outcome::Undone } else { Outcome::Succeeded };
            assert_eq!(rest.outcome(), wanted, "{racing_step}: it was not taken for being overtaken, and went on");
        });
    }
}

/// The stage's store as another machine's executor meets it: it hears late of changes, and a freeze commits just before its first intent.
#[derive(Debug, Default)]
struct Racing {
    memory: MemoryStore,
    /// Nothing tells of changes.
    deaf: bool,
    /// Whether the freeze races an undo's intent or a step's.
    undo: bool,
    unreadable: AtomicBool,
    froze: AtomicBool,
    stage: std::sync::Mutex<Option<Stage>>,
}

#[async_trait]
impl Store for Racing {
    fn sharing(&self) -> Sharing {
        self.memory.sharing()
    }
    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let wanted: &[u8] = if self.undo { b"undo_started" } else { b"\"step_started\":{\"step\":\"a\"" };
        let has_intent =
            commit.append.iter().flat_map(|(_, records)| records).any(|record| record.0.windows(wanted.len()).any(|part| part == wanted));
        let stage = self.stage.lock().unwrap().clone();
        if let Some(stage) = stage.filter(|_| has_intent && !self.froze.swap(true, Ordering::SeqCst)) {
            freeze(&stage, None).await;
        }
        self.memory.commit(commit).await
    }
    async fn read(&self, log: &LogId, from: Seq, limit: std::num::NonZeroU32) -> Result<Page, StoreError> {
        if log.as_str() == "freeze" && self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Damaged { folder: "log freeze".into(), what: "scripted".into() });
        }
        self.memory.read(log, from, limit).await
    }
    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: std::num::NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        self.memory.logs(prefix, after, limit).await
    }
    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        if self.deaf { Err(StoreError::Poisoned("deaf".into())) } else { self.memory.watch(prefix).await }
    }
    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.memory.truncate(log, before, carry).await
    }
    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.memory.remove(log).await
    }
    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.memory.keep(bytes).await
    }
    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.memory.kept(digest).await
    }
    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.memory.lease(log, owner, ttl).await
    }
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.memory.renew(lease).await
    }
    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.memory.release(lease).await
    }
}

#[test]
fn history_of_a_frozen_run_is_replayed_with_its_timers_where_they_stood() {
    on_stage(async |stage| {
        freeze(&stage, Some("db")).await;
        let thaw = async {
            stage.clock.sleep(Duration::from_secs(3000)).await;
            unfreeze(&stage, Some("db")).await;
        };
        let plan = plan([approval("ask", 1), change("a").after(&["ask"])]).deadline_ms(1_000_000);
        let (name, rest) = meanwhile(&stage, plan, 3200, thaw).await;
        assert!(matches!(rest, Rest::Killed), "asked for 200 s of 600, and 200 s of 1,000 are over: {rest:?}");
        let run = history::load(&stage.memory, &name).await.unwrap().run;
        assert_eq!(run.stood_still.as_secs(), 3000);
        let mut people = once("ask", S::AwaitingApproval, approve("ask"), "ann");
        assert_eq!(stage.resume_with(&name, &mut people).await.outcome(), Outcome::Succeeded);
    });
}
