//! The two transition tables: every row is reached by a run, and nothing beside them is accepted.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_engine::evidence::Evidence;
use lifeboat_engine::journal::{Back as Effects, ENTRY_FORMAT, Entry, Event, Outcome, Output, Resolution, RunId, Seen, Turn};
use lifeboat_engine::run::tables::{PHASE_TABLE, PhaseChange, STEP_TABLE, StepChange, phase_after, step_after};
use lifeboat_engine::run::{Run, RunPhase, StepState as S};
use lifeboat_runbooks::plan::OnFailure;
use serde_json::json;

use crate::world::plans::{PlanWords, actor, approval, change, id, look, plan};
use crate::world::rows::{Rows, rows};
use crate::world::stage::{Stage, approve, cancel, deny, on_stage, once, resolve};
use crate::world::steps::says_now;
use crate::world::{Act, Back, Gate, Sight};

async fn seen(stage: &Stage, name: &RunId, all: &mut Rows) {
    let loaded = stage.load(name).await;
    all.add(rows(&loaded.run, &loaded.entries));
}

/// Plays a run, then these acts at rest, then resumes, and notes the rows.
fn played(all: &mut Rows, play: impl AsyncFnOnce(&Stage) -> RunId) {
    on_stage(async |stage| {
        let name = play(&stage).await;
        seen(&stage, &name, all).await;
    });
}

fn done() -> Resolution {
    Resolution::Done { outputs: json!({"said": null, "blob": ""}) }
}

#[test]
fn every_row_of_both_tables_is_reached() {
    let mut all = Rows::default();
    // Success, skip, retry, lost answers, adoption before and after a further look.
    played(&mut all, async |stage| {
        stage
            .world
            .acts("a", &[Act::NotDone, Act::Late(12_000)])
            .acts("b", &[Act::LoseRequest])
            .sights("b", &[Sight::NotDone, Sight::InProgress]);
        stage.world.acts("c", &[Act::LoseAnswer]).acts("d", &[Act::LoseAnswer]).sights("d", &[Sight::NotDone]);
        let steps = [change("a").tries(3), change("b"), change("c"), change("d"), look("e").when("mode == 'other'")];
        stage.run(plan(steps)).await.0
    });
    // Held, and every decision about it.
    for (resolution, after) in [(done(), None), (Resolution::Skip, None), (Resolution::GiveUp, None), (Resolution::Retry, Some(cancel()))] {
        played(&mut all, async |stage| {
            stage.world.acts("a", &[Act::LoseRequest]).always_sight("a", Sight::Unknown).always_gate("g", Gate::Refused);
            let (name, _) = stage.run(plan([change("a"), change("g"), change("n").after(&["a"])])).await;
            for step in ["a", "g"] {
                stage.steer_at_rest(&name, resolve(step, resolution.clone()), actor("ann")).await.unwrap();
            }
            if let Some(command) = after.clone() {
                stage.steer_at_rest(&name, command, actor("ann")).await.unwrap();
            }
            stage.resume(&name).await;
            name
        });
    }
    // Failed, and every decision about it; then held by a later look and gate; cancelled while held.
    for resolution in [done(), Resolution::Skip, Resolution::GiveUp, Resolution::Retry] {
        played(&mut all, async |stage| {
            stage.world.acts("a", &[Act::Hopeless]).gates("a", &[Gate::Ready, Gate::Refused]);
            stage.world.acts("b", &[Act::Hopeless]).sights("b", &[Sight::Foreign]).always("c", Act::LoseRequest);
            let (name, _) = stage.run(plan([change("a"), change("b"), change("c")])).await;
            for step in ["a", "b"] {
                stage.steer_at_rest(&name, resolve(step, resolution.clone()), actor("ann")).await.unwrap();
            }
            stage.resume(&name).await;
            stage.steer_at_rest(&name, cancel(), actor("ann")).await.unwrap();
            stage.resume(&name).await;
            name
        });
    }
    // Approvals.
    played(&mut all, async |stage| {
        let name = stage.run_and_kill(plan([approval("ask", 2)]), 1000).await;
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        stage.steer_at_rest(&name, deny("ask"), actor("bob")).await.unwrap();
        stage.steer_at_rest(&name, resolve("ask", Resolution::Retry), actor("bob")).await.unwrap();
        stage.resume(&name).await;
        stage.steer_at_rest(&name, resolve("ask", Resolution::Retry), actor("bob")).await.unwrap();
        stage.steer_at_rest(&name, cancel(), actor("bob")).await.unwrap();
        stage.resume(&name).await;
        name
    });
    played(&mut all, async |stage| {
        let mut people = once("ask", S::AwaitingApproval, approve("ask"), "ann");
        stage.run_with(plan([approval("ask", 1)]), &mut people).await.0
    });
    played(&mut all, async |stage| {
        let mut people = once("ask", S::AwaitingApproval, cancel(), "ann");
        stage.run_with(plan([approval("ask", 1)]), &mut people).await.0
    });
    // Facts that got worse: before the step that relies on them, then at the last yes.
    played(&mut all, async |stage| {
        let show = json!("${{ steps.loss.outputs.said }}");
        let steps = [look("loss").says(json!(5)), approval("ask", 1).with("show", show).after(&["loss"]), change("a").after(&["ask"])];
        let name = stage.run_and_kill(plan(steps), 3000).await;
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        says_now("loss", json!(6));
        let mut left = Some(approve("ask"));
        let mut people = |run: &Run| {
            let asked = run.state(&id("ask")) == S::AwaitingApproval;
            asked.then(|| left.take()).flatten().map(|command| {
                says_now("loss", json!(7));
                (command, actor("ann"))
            })
        };
        stage.resume_with(&name, &mut people).await;
        name
    });
    // Refused by its gate, and cancelled.
    played(&mut all, async |stage| {
        stage.world.always_gate("g", Gate::Refused);
        let mut people = once("g", S::Held, cancel(), "ann");
        stage.run_with(plan([change("g")]), &mut people).await.0
    });
    // Rejected, and what becomes of it.
    for resolution in [done(), Resolution::GiveUp] {
        played(&mut all, async |stage| {
            let mut people = once("a", S::Rejected, resolve("a", resolution.clone()), "ann");
            stage.run_with(plan([change("a").asserts("1 == 2")]), &mut people).await.0
        });
    }
    played(&mut all, async |stage| stage.run(plan([change("a").asserts("1 == 2")]).failing(OnFailure::Undo)).await.0);
    // Deaths while running, in doubt, undoing and while an undo is in doubt.
    played(&mut all, async |stage| {
        stage.world.acts("a", &[Act::Hang]).always("bad", Act::Hopeless).backs("a", &[Back::Hang, Back::Fail]).backs("b", &[Back::Hang]);
        let steps = plan([change("a").timeout_ms(20_000), change("b").on("dns"), change("bad").after(&["a", "b"])]);
        let name = stage.run_and_kill(steps.failing(OnFailure::Undo), 2000).await;
        stage.claim(&name).await.unwrap();
        let claimed = stage.claim(&name).await.unwrap();
        let (executor, handle) = lifeboat_engine::executor::Executor::new(stage.ports(), stage.owner(), claimed.run, claimed.next);
        let mut nobody = crate::world::stage::nobody;
        stage.attend(executor, handle, &mut nobody, std::time::Duration::from_secs(10)).await;
        stage.claim(&name).await.unwrap();
        stage.resume(&name).await;
        name
    });
    // An undo that failed, while another goes on.
    for resolution in [done(), Resolution::Retry] {
        played(&mut all, async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("b", &[Back::Fail]).backs("a", &[Back::SucceedAfter(3000)]);
            let steps = plan([change("a"), change("b").on("dns"), change("bad").after(&["a", "b"])]).failing(OnFailure::Undo);
            let mut people = once("b", S::UndoFailed, resolve("b", resolution.clone()), "ann");
            stage.run_with(steps, &mut people).await.0
        });
    }
    // Undos whose answer is lost, seen as done, as not done and as nobody knows what; one that fails and may pass; and a stuck run that
    // is taken up again.
    played(&mut all, async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("a", &[Back::LoseAnswer]).backs("b", &[Back::LoseRequest, Back::NotDone]);
        stage.world.backs("c", &[Back::LoseRequest]).sights("c", &[Sight::Unknown; 6]);
        let steps = [change("a"), change("b").on("dns").tries(4), change("c").on("web"), change("bad").after(&["a", "b", "c"])];
        let name = stage.run(plan(steps).failing(OnFailure::Undo)).await.0;
        stage.steer_at_rest(&name, resolve("c", Resolution::Retry), actor("ann")).await.unwrap();
        stage.resume(&name).await;
        name
    });
    // Skipped before it began.
    played(&mut all, async |stage| {
        let name = stage.admit(plan([change("a")])).await.run.id;
        stage.steer_at_rest(&name, resolve("a", Resolution::Skip), actor("ann")).await.unwrap();
        stage.resume(&name).await;
        name
    });
    // Ends before anything began.
    played(&mut all, async |stage| stage.run(plan([]).finally([look("last")])).await.0);
    played(&mut all, async |stage| {
        let name = stage.admit(plan([look("a")])).await.run.id;
        stage.steer_at_rest(&name, cancel(), actor("ann")).await.unwrap();
        stage.resume(&name).await;
        name
    });

    let unreached: Vec<_> = STEP_TABLE.iter().filter(|row| !all.steps.contains(row)).collect();
    assert!(unreached.is_empty(), "rows of the step table that no run reached: {unreached:#?}");
    let unreached: Vec<_> = PHASE_TABLE.iter().filter(|row| !all.phases.contains(row)).collect();
    assert!(unreached.is_empty(), "rows of the phase table that no run reached: {unreached:#?}");
}

const STATES: [S; 15] = [
    S::Waiting,
    S::AwaitingApproval,
    S::Running,
    S::Backoff,
    S::InDoubt,
    S::Held,
    S::Succeeded,
    S::Rejected,
    S::Failed,
    S::Skipped,
    S::NotRun,
    S::Undoing,
    S::Undone,
    S::UndoFailed,
    S::UndoInDoubt,
];

const PHASES: [RunPhase; 6] =
    [RunPhase::Admitted, RunPhase::Running, RunPhase::Held, RunPhase::Unwinding, RunPhase::Finalising, RunPhase::Ended];

fn dawn() -> Timestamp {
    Timestamp::from_second(lifeboat_engine::sim::DAWN_SECONDS).unwrap()
}

fn entry(event: Event) -> Entry {
    Entry { format: ENTRY_FORMAT, at: dawn(), owner: "test".into(), event }
}

/// A run of one step, admitted, with step and phase set by hand.
fn standing(state: S, phase: RunPhase) -> Run {
    let name = RunId::new("r").unwrap();
    let mut run = Run::new(name.clone(), Arc::new(plan([change("a")]).bound_to(&crate::world::plans::inventory())));
    let binding = run.plan.binding.clone();
    let admission = Event::RunAdmitted {
        run: name,
        plan: String::new(),
        structure: String::new(),
        binding,
        runbook: "orders".into(),
        mode: "failover".into(),
        by: actor("sam"),
        locks: Vec::new(),
        incident: lifeboat_engine::journal::Incident::default(),
        predicted: None,
    };
    run.apply(&entry(admission)).unwrap();
    run.phase = phase;
    if phase == RunPhase::Ended {
        run.outcome = Some(Outcome::Failed);
    }
    let step = std::sync::Arc::make_mut(run.steps.get_mut(&id("a")).unwrap());
    step.state = state;
    step.ask = Some(Box::new(lifeboat_engine::run::Ask {
        roles: Vec::new(),
        count: 2,
        shown: json!(null),
        facts: String::new(),
        outputs: std::collections::BTreeMap::new(),
        asked_at: dawn(),
        expires_at: dawn(),
    }));
    run
}

/// Every event of a step with its change; `true` where it needs the run to begin or go on.
fn events() -> Vec<(StepChange, bool, Event)> {
    use StepChange as C;
    let step = || id("a");
    let why = || "why".to_owned();
    let none = Evidence::none;
    let by = || actor("ann");
    let resolved = |resolution| Event::StepResolved { step: step(), resolution, by: by(), comment: why() };
    let failed = |retry_at| Event::StepFailed { step: step(), why: why(), evidence: none(), retry_at };
    vec![
        (C::Started, true, Event::StepStarted { step: step(), attempt: 1, with: json!({}), intent: json!({}), evidence: none() }),
        (
            C::ApprovalRequested,
            true,
            Event::ApprovalRequested {
                step: step(),
                roles: vec![],
                count: 1,
                shown: json!(null),
                facts: String::new(),
                expires_at: dawn(),
            },
        ),
        (C::Skipped, true, Event::StepSkipped { step: step(), why: why() }),
        (C::Refused, true, Event::StepRefused { step: step(), why: why(), evidence: none() }),
        (C::NotRun, false, Event::StepNotRun { step: step(), why: why() }),
        (C::Granted, false, Event::ApprovalGranted { step: step(), by: by(), comment: None, facts: String::new() }),
        (C::Voided, false, Event::ApprovalVoided { step: step(), why: why() }),
        (C::Denied, false, Event::ApprovalDenied { step: step(), by: by(), comment: None }),
        (C::Expired, false, Event::ApprovalExpired { step: step() }),
        (
            C::Succeeded,
            false,
            Event::StepSucceeded { step: step(), output: Output::Inline(json!({})), measures: vec![], seen: Seen::Executed },
        ),
        (C::FailedForNow, false, failed(Some(dawn()))),
        (C::Failed, false, failed(None)),
        (C::OutcomeUnknown, false, Event::StepInDoubt { step: step(), why: why() }),
        (C::InProgress, false, Event::StepInProgress { step: step() }),
        (C::HeldForPerson, false, Event::StepHeld { step: step(), why: why(), evidence: none() }),
        (C::ResolvedDone, false, resolved(done())),
        (C::ResolvedRetry, false, resolved(Resolution::Retry)),
        (C::ResolvedSkip, false, resolved(Resolution::Skip)),
        (C::ResolvedGiveUp, false, resolved(Resolution::GiveUp)),
        (C::Rejected, false, Event::StepRejected { step: step(), assertion: why() }),
        (C::UndoStarted, false, Event::UndoStarted { step: step(), act: None }),
        (C::UndoSucceeded, false, Event::UndoSucceeded { step: step() }),
        (C::UndoOutcomeUnknown, false, Event::UndoInDoubt { step: step(), why: why() }),
        (C::UndoNotDone, false, Event::UndoNotDone { step: step(), why: why(), retry_at: dawn() }),
        (C::UndoFailed, false, Event::UndoFailed { step: step(), why: why() }),
    ]
}

#[test]
fn what_the_step_table_does_not_have_is_refused_and_changes_nothing() {
    for state in STATES {
        for (change, _, event) in events() {
            let mut run = standing(state, RunPhase::Running);
            let before = format!("{run:?}");
            let answer = run.apply(&entry(event));
            match step_after(state, change) {
                Some(to) => {
                    answer.unwrap();
                    assert_eq!(run.state(&id("a")), to, "{state:?} on {change:?}");
                }
                None => {
                    assert!(answer.is_err(), "{state:?} took {change:?}");
                    assert_eq!(format!("{run:?}"), before, "{state:?} on {change:?} was refused, and yet something changed");
                }
            }
        }
    }
}

#[test]
fn what_the_phase_table_does_not_have_is_refused_and_changes_nothing() {
    let changes = [
        (PhaseChange::Held, Event::RunHeld { why: "why".into() }),
        (PhaseChange::Released, Event::RunReleased),
        (PhaseChange::Unwound, Event::UnwindingStarted { turn: Turn::DrillEnded, back: Effects::Undo }),
        (PhaseChange::Finalising, Event::FinalisingStarted),
        (PhaseChange::Ended, Event::RunEnded { outcome: Outcome::Failed, why: "why".into() }),
    ];
    let begins = events().into_iter().filter(|(_, begins, _)| *begins).map(|(_, _, event)| (PhaseChange::Began, event));
    for (change, event) in changes.into_iter().chain(begins) {
        for phase in PHASES {
            let mut run = standing(S::Waiting, phase);
            let before = format!("{run:?}");
            let answer = run.apply(&entry(event.clone()));
            match phase_after(phase, change) {
                Some(to) => {
                    answer.unwrap();
                    assert_eq!(run.phase, to);
                }
                None => {
                    assert!(answer.is_err(), "{phase:?} took {change:?}");
                    assert_eq!(format!("{run:?}"), before, "{phase:?} on {change:?} was refused, and yet something changed");
                }
            }
        }
    }
}

#[test]
fn a_run_that_has_ended_takes_nothing_but_the_release_of_its_locks_and_a_new_try_at_what_it_left_behind() {
    for state in STATES {
        let others = [
            Event::RunClaimed { why: "why".into() },
            Event::CancelRequested { by: actor("ann"), comment: None },
            Event::RunReleasedLocks { by: actor("ann"), comment: "why".into() },
            Event::RunReopened { by: actor("ann"), comment: "why".into() },
            Event::RunPaused { by: actor("ann"), comment: "why".into() },
        ];
        for event in events().into_iter().map(|(_, _, event)| event).chain(others) {
            let mut run = standing(state, RunPhase::Ended);
            assert!(run.apply(&entry(event.clone())).is_err(), "{state:?} took {event:?} after the end");
        }
    }
    let reopen = entry(Event::RunReopened { by: actor("ann"), comment: "why".into() });
    let mut stuck = standing(S::Failed, RunPhase::Ended);
    stuck.outcome = Some(Outcome::Stuck);
    assert!(stuck.holds_locks());
    stuck.turn = Some((Turn::Cancelled, Effects::Undo));
    assert!(stuck.apply(&reopen).is_err(), "no undo left anything behind");
    let mut left = standing(S::UndoFailed, RunPhase::Ended);
    left.outcome = Some(Outcome::Stuck);
    left.turn = Some((Turn::Cancelled, Effects::Undo));
    left.apply(&reopen).unwrap();
    assert_eq!((left.phase, left.outcome), (RunPhase::Unwinding, None));
    assert!(left.holds_locks());
    let release = entry(Event::RunReleasedLocks { by: actor("ann"), comment: "why".into() });
    stuck.apply(&release).unwrap();
    assert!(!stuck.holds_locks());
    assert!(stuck.apply(&release).is_err(), "locks are given up once");
    let mut left = standing(S::UndoFailed, RunPhase::Ended);
    left.outcome = Some(Outcome::Stuck);
    left.turn = Some((Turn::Cancelled, Effects::Undo));
    left.apply(&release).unwrap();
    assert!(left.apply(&reopen).is_err(), "without its locks a run touches nothing any more");
}

#[test]
fn a_voided_yes_does_not_count() {
    let mut run = standing(S::AwaitingApproval, RunPhase::Running);
    let yes = |name: &str| Event::ApprovalGranted { step: id("a"), by: actor(name), comment: None, facts: String::new() };
    run.apply(&entry(yes("ann"))).unwrap();
    run.apply(&entry(Event::ApprovalVoided { step: id("a"), why: "the lag grew".into() })).unwrap();
    run.apply(&entry(yes("bob"))).unwrap();
    assert_eq!(run.state(&id("a")), S::AwaitingApproval);
    run.apply(&entry(yes("ann"))).unwrap();
    assert_eq!(run.state(&id("a")), S::Succeeded);
}

#[test]
fn an_admission_of_another_run_or_plan_is_not_taken() {
    let run = standing(S::Waiting, RunPhase::Running);
    for event in [Event::FinalisingStarted, Event::CancelRequested { by: actor("ann"), comment: None }] {
        let mut fresh = Run::new(run.id.clone(), Arc::clone(&run.plan));
        assert!(fresh.apply(&entry(event)).is_err(), "the first entry must be the admission");
    }
    let mut other = Run::new(RunId::new("other").unwrap(), Arc::clone(&run.plan));
    let admission = Event::RunAdmitted {
        run: run.id.clone(),
        plan: String::new(),
        structure: String::new(),
        binding: run.plan.binding.clone(),
        runbook: "orders".into(),
        mode: "failover".into(),
        by: actor("sam"),
        locks: Vec::new(),
        incident: lifeboat_engine::journal::Incident::default(),
        predicted: None,
    };
    assert!(other.apply(&entry(admission.clone())).is_err());
    let mut again = run;
    assert!(again.apply(&entry(admission)).is_err(), "no run is admitted twice");
}
