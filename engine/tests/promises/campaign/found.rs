//! What the campaign found in the engine, kept as plays of their own: seeds change their meaning with every new shape.

use lifeboat_engine::clock::Clock as _;
use lifeboat_engine::executor::{Executor, ExecutorError};
use lifeboat_engine::journal::{Outcome, Resolution};
use lifeboat_engine::resume;
use lifeboat_engine::run::StepState as S;
use lifeboat_engine::sim::Fault;
use lifeboat_engine::steering::SteerError;
use lifeboat_runbooks::plan::OnFailure;
use serde_json::json;
use std::time::Duration;

use super::play::{Keep, play};
use super::schedule::{Crowd, Machines, Schedule, Strike};
use super::shapes::{named, shapes};
use crate::world::Act;
use crate::world::plans::{PlanWords, change, look, plan};
use crate::world::stage::{RestWords, nobody, on_shared_stage, on_stage, once, resolve};

/// Plays that are kept: what a seed found once, whatever seeds mean today.
pub(crate) fn kept() -> Vec<(usize, Schedule)> {
    let strike = |life, point, fault| Strike { run: 0, life, point, fault };
    let strikes = vec![
        strike(0, 7, Fault::PauseAfter(20)),
        strike(1, 0, Fault::PauseBefore(120)),
        strike(1, 3, Fault::PauseAfter(3)),
        strike(2, 0, Fault::PauseBefore(20)),
    ];
    let two_claims = vec![strike(0, 3, Fault::PauseAfter(120)), strike(1, 0, Fault::PauseBefore(20)), strike(2, 1, Fault::PauseBefore(3))];
    let several = |strikes| Schedule { machines: Machines::Several, crowd: Crowd::Scripted, strikes };
    vec![(named("records are put back").unwrap(), several(strikes)), (named("slow step").unwrap(), several(two_claims))]
}

/// Found by seed 450. A process that stood still between its lease and its claim closed the journal to the process that had got the
/// lease meanwhile, and that one acted after it had been overtaken.
#[test]
fn a_process_that_stood_still_past_its_lease_claims_nothing() {
    for (place, schedule) in kept() {
        let played = play(&shapes()[place], &schedule, Keep::Lines);
        assert_eq!(played.broken, [], "{}", played.trace.lines().join("\n"));
    }
}

/// Found by seed 48. A process that stood still between its claim and its first look got the lease back after another one had brought the
/// run to its end, and waited for people for ever on a state that was long past.
#[test]
fn a_process_that_claimed_a_run_long_ago_does_not_drive_it_from_there() {
    on_shared_stage(Duration::from_secs(15), async |stage| {
        stage.world.acts("a", &[Act::Hang]);
        let name = stage.run_and_kill(plan([change("a").tries(3)]), 1000).await;
        stage.clock.sleep(Duration::from_secs(20)).await;
        let (ports, owner) = (stage.ports(), stage.owner());
        let claimed = resume::claim(&ports, &owner, &name).await.unwrap();
        stage.clock.sleep(Duration::from_secs(20)).await;
        let (others, other) = (stage.ports(), stage.owner());
        let taken = resume::claim(&others, &other, &name).await.unwrap();
        let (executor, handle) = Executor::new(others, other, taken.run, taken.next);
        assert_eq!(stage.attend(executor, handle, &mut nobody, Duration::from_secs(3600)).await.outcome(), Outcome::Succeeded);
        let (executor, _handle) = Executor::new(ports, owner, claimed.run, claimed.next);
        assert!(matches!(executor.drive().await, Err(ExecutorError::Overtaken(_))));
    });
}

/// Found by seed 1476. A person called a failed step done while the final steps ran, and the run said that it was undone.
#[test]
fn a_run_that_has_undone_what_was_done_takes_nobodys_word_for_one_more_effect() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).always("last", Act::SucceedAfter(3000));
        let done = Resolution::Done { outputs: json!({ "said": "by hand", "blob": "" }) };
        let mut people = once("last", S::Running, resolve("bad", done), "ann");
        let steps = plan([change("a"), change("bad").after(&["a"])]).failing(OnFailure::Undo).finally([look("last")]);
        let (name, rest) = stage.run_with(steps, &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert!(matches!(stage.answers()[..], [Err(SteerError::NotNow(_))]), "{:?}", stage.answers());
        assert_eq!(stage.state(&name, "bad").await, S::Failed);
    });
}
