//! Whether the promotion may happen: fence, other primaries, the replica. The loss gate is in `limit`, the probe's rights in `probe`.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::context::Proof;
use lifeboat_engine::run::StepState;
use lifeboat_engine::{Evidence, ReadContext, Readiness, StepError, StepId};
use serde_json::json;

use super::choose::{Answers, Chosen, Stage, choose, other_primary, told};
use super::limit::{allowed, refuse_early};
use super::probe::rights_and_history;
use super::{PromoteDb, PromoteIntent};
use crate::clients::postgres::{Seen, SessionError, look};
use crate::fence_db::proof::{Accepted, GETS_LOG, Verdict, prove};
use crate::fence_db::{FenceOnRecord, Fenced, on_record};
use crate::measure_rpo::loss::{SourceEnd, Weighed};
use crate::measure_rpo::{Between, MeasuredRpo, database, node, source_end};
use crate::mutants::{self, Mutant};
use crate::resources::database::Database;

/// The whole gate. Refusals come as [`StepError::Refused`].
pub(super) async fn check(step: &PromoteDb, cx: &ReadContext) -> Result<Readiness<PromoteIntent>, StepError> {
    let database = database(cx, &step.db)?;
    let wanted = step.node.clone().or_else(|| asked_before(cx));
    if let Some(wanted) = &wanted {
        node(&database, &step.db, wanted)?;
    }
    let fence = on_record(cx, &step.db);
    let (answers, stage) = match &fence {
        FenceOnRecord::Done { .. } => (settled(cx, &database).await, Stage::Settled),
        FenceOnRecord::Waiting(_) | FenceOnRecord::Worthless { .. } | FenceOnRecord::None => {
            (ask_all(cx, &database).await, Stage::Streaming)
        }
    };
    let old_primary = match &fence {
        FenceOnRecord::Done { fenced, .. } => Some(fenced.node.clone()),
        // Before the fence the old primary is the node that answers as one; if none does, it is the one that is going to be fenced.
        FenceOnRecord::Waiting(id) => primary(&answers).or_else(|| to_be_fenced(cx, id)),
        FenceOnRecord::Worthless { .. } | FenceOnRecord::None => primary(&answers),
    };
    let timeline = last_timeline(cx, &database, &step.db, &answers, old_primary.as_deref());
    let refused = |(why, evidence)| StepError::Refused { why, evidence };
    match &fence {
        FenceOnRecord::None => return Err(refused((unfenced(old_primary.as_deref(), &answers), told(&answers)))),
        FenceOnRecord::Worthless { why } => {
            return Err(refused((format!("{why}: nothing is promoted before the old primary is proven fenced"), told(&answers))));
        }
        FenceOnRecord::Waiting(_) | FenceOnRecord::Done { .. } => {}
    }
    if let Some((name, seen)) = other_primary(&answers, old_primary.as_deref()) {
        let why = format!("{name} answers as a primary on timeline {}: promoting another node would make two", seen.timeline);
        return Err(refused((why, told(&answers))));
    }
    let chosen = choose(&database, &answers, wanted.as_deref(), old_primary.as_deref(), timeline, stage).map_err(refused)?;
    let mut evidence = told(&answers);
    let history = rights_and_history(cx, &database, &chosen, &evidence).await?;
    let fenced = match fence {
        FenceOnRecord::Done { fenced, step } => {
            evidence.note("fence on record", json!({ "step": step.as_str(), "proven": fenced.proven, "method": fenced.method }));
            fenced
        }
        FenceOnRecord::Waiting(id) => {
            let expected = expect(step, cx, &database, &chosen, old_primary.as_deref(), None, &mut evidence).await?;
            refuse_early(step, cx, &expected, &evidence)?;
            return Ok(Readiness::Later { needs: format!("the fence by step {id}"), evidence });
        }
        FenceOnRecord::Worthless { .. } | FenceOnRecord::None => return Err(refused(("nothing fences the old primary".into(), evidence))),
    };
    fence_stands(cx, &database, &fenced, &mut evidence).await?;
    let fenced_at = fenced.proof.as_ref().map(|proof| proof.at);
    let expected = expect(step, cx, &database, &chosen, Some(&fenced.node), fenced_at, &mut evidence).await?;
    let allowed = allowed(step, cx, &expected, fenced_at).map_err(|why| refused((why, evidence.clone())))?;
    evidence.note("accepted loss", json!(allowed));
    let standby = chosen.standby();
    let source_end = database.nodes.get(&fenced.node).map_or(SourceEnd::Open, |node| {
        let silent = Err(SessionError::Ours { why: "fenced".into() });
        source_end(answers.get(&fenced.node).unwrap_or(&silent), node, fenced_at, &mut evidence)
    });
    let intent = PromoteIntent {
        node: chosen.node.clone(),
        system_identifier: chosen.seen.system_identifier.clone(),
        timeline: chosen.seen.timeline,
        history,
        receive: standby.receive,
        replay: standby.replay,
        old_primary: Some(fenced.node.clone()),
        source_end,
        expected: expected.loss,
        allowed,
        proof_key: format!("promote-{}", cx.idempotency_key()),
    };
    Ok(Readiness::Ready { intent, evidence })
}

fn primary(answers: &Answers) -> Option<String> {
    answers.iter().find(|(_, answer)| answer.as_ref().is_ok_and(|seen| seen.standby().is_none())).map(|(name, _)| name.clone())
}

/// The node that a fence which has not come to its turn is meant for.
fn to_be_fenced(cx: &ReadContext, fence: &StepId) -> Option<String> {
    let with = cx.facts.step(fence)?.with.as_ref()?;
    with.get("node")?.as_str().map(str::to_owned)
}

/// The node that an earlier attempt of this step meant. However it looks now, a promotion may still be under way there: another
/// replica is never taken in its place.
fn asked_before(cx: &ReadContext) -> Option<String> {
    let intent = cx.facts.step(&cx.step)?.intent.clone()?;
    serde_json::from_value::<PromoteIntent>(intent).ok().map(|intent| intent.node)
}

/// Asks every node at once, so that all positions are of one moment and silent nodes cost one timeout, not one each.
pub(super) async fn ask_all(cx: &ReadContext, database: &Database) -> Answers {
    let mut asked = tokio::task::JoinSet::new();
    for (name, node) in &database.nodes {
        let (cx, database, name, node) = (cx.clone(), database.clone(), name.clone(), node.clone());
        asked.spawn(async move {
            let answer = look(&cx, &database, &node).await;
            (name, answer)
        });
    }
    let mut answers = Answers::new();
    while let Some(joined) = asked.join_next().await {
        if let Ok((name, answer)) = joined {
            answers.insert(name, answer);
        }
    }
    for name in database.nodes.keys() {
        let unasked = || Err(SessionError::Ours { why: format!("{name} could not be asked") });
        answers.entry(name.clone()).or_insert_with(unasked);
    }
    answers
}

/// Asks until every replica has replayed what it received, or does not get any further: then positions and commits are final.
pub(super) async fn settled(cx: &ReadContext, database: &Database) -> Answers {
    let mut answers = ask_all(cx, database).await;
    for _ in 0..SETTLING_LOOKS {
        let busy = |answers: &Answers| -> Vec<_> {
            let standbys = answers.values().filter_map(|answer| answer.as_ref().ok().and_then(Seen::standby));
            standbys
                .filter(|standby| standby.receive > standby.replay && standby.pause == "not paused")
                .map(|standby| standby.replay)
                .collect()
        };
        let before = busy(&answers);
        if before.is_empty() {
            break;
        }
        cx.sleep(BETWEEN_LOOKS).await;
        answers = ask_all(cx, database).await;
        if busy(&answers) == before {
            break;
        }
    }
    answers
}

/// How often, and how far apart, replicas that are still replaying are looked at again.
const SETTLING_LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

fn unfenced(old_primary: Option<&str>, answers: &Answers) -> String {
    match old_primary {
        Some(name) => format!("{name} still takes writes, and no fence-db step comes before this one: two primaries would be the result"),
        None => {
            let silent: Vec<&str> = answers.iter().filter(|(_, answer)| answer.is_err()).map(|(name, _)| name.as_str()).collect();
            format!(
                "no fence-db step comes before this one, and silence is no proof: {} may still take writes",
                if silent.is_empty() { "the old primary".to_owned() } else { silent.join(", ") }
            )
        }
    }
}

/// The fence is on record; now it is looked at again.
pub(super) async fn fence_stands(cx: &ReadContext, database: &Database, fenced: &Fenced, evidence: &mut Evidence) -> Result<(), StepError> {
    if mutants::is(Mutant::FenceNotSeenAgain) {
        return Ok(());
    }
    match prove(cx, database, &fenced.node, Accepted::Unknown).await {
        Verdict::Proven(proof) => {
            evidence.note(format!("{} seen fenced again", fenced.node), json!(proof.vantages));
            Ok(())
        }
        Verdict::TakesWrites(seen) => {
            let why = format!(
                "{} was fenced, but answers as a primary on timeline {} again: cancel this run and start it anew, so that it is fenced again",
                fenced.node, seen.timeline
            );
            Err(StepError::refused(why, evidence.clone()))
        }
        // A fence by an operator's program without a check is proven in full only by the attempt that ran it; a risk that people
        // accepted is not proven at all. Both stand as long as nothing shows the node alive.
        Verdict::Unproven { why, vantages } => {
            let alive = vantages.iter().any(|vantage| vantage.saw.starts_with(GETS_LOG));
            evidence.note(format!("{} looked at again", fenced.node), json!(vantages));
            let by_command = fenced.proof.as_ref().is_some_and(|proof| proof.kind == "powered-off");
            if !alive && (by_command || fenced.risk_accepted.is_some()) {
                return Ok(());
            }
            Err(StepError::refused(format!("the fence of {} does not hold any more: {why}", fenced.node), evidence.clone()))
        }
    }
}

/// The timeline that the old primary was last known to be on.
fn last_timeline(cx: &ReadContext, database: &Database, db: &str, answers: &Answers, old_primary: Option<&str>) -> Option<u32> {
    let live = old_primary
        .and_then(|name| answers.get(name))
        .and_then(|answer| answer.as_ref().ok())
        .filter(|seen| seen.standby().is_none())
        .map(|seen| seen.timeline);
    live.or_else(|| measured(cx, db).last().and_then(|(_, measured)| measured.source.timeline)).or_else(|| {
        let kept = crate::heartbeat::acknowledged(cx, database).ok().flatten()?;
        kept.recent.last().map(|beat| beat.timeline)
    })
}

/// What `measure-rpo` steps that this one needs have found for the database, in order.
fn measured(cx: &ReadContext, db: &str) -> Vec<(StepId, MeasuredRpo)> {
    cx.facts
        .ancestors()
        .iter()
        .filter_map(|id| {
            let record = cx.facts.step(id)?;
            let seen = record.state == StepState::Succeeded && record.proof == Proof::Seen && record.step_type == "measure-rpo";
            let output = record.output.clone().filter(|_| seen)?;
            serde_json::from_value::<MeasuredRpo>(output).ok().filter(|measured| measured.db == db).map(|measured| (id.clone(), measured))
        })
        .collect()
}

async fn expect(
    step: &PromoteDb,
    cx: &ReadContext,
    database: &Database,
    chosen: &Chosen,
    old_primary: Option<&str>,
    fenced_at: Option<Timestamp>,
    evidence: &mut Evidence,
) -> Result<Weighed, StepError> {
    let Some(from) = old_primary.or_else(|| database.nodes.keys().map(String::as_str).find(|name| *name != chosen.node)) else {
        return Err(StepError::refused("the database has one node only; nothing can be weighed", evidence.clone()));
    };
    let between = Between {
        db: &step.db,
        database,
        from: (from, node(database, &step.db, from)?),
        to: (&chosen.node, node(database, &step.db, &chosen.node)?),
        fenced_at,
    };
    match between.gather(cx).await {
        Ok(gathered) => {
            evidence.0.extend(gathered.evidence.0);
            Ok(gathered.weighed)
        }
        Err(error) => Err(StepError::refused(format!("{} does not answer: {error}", chosen.node), evidence.clone())),
    }
}
