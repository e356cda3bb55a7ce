//! The `fence-db` step: its parameters, gate, act and observation. How a server is stopped is in `methods`, what counts as proof
//! in `proof`.

mod methods;
mod operator;
pub mod proof;
mod record;
mod reopen;

use std::time::Duration;

use lifeboat_engine::census::Census;
use lifeboat_engine::context::Proof;
use lifeboat_engine::inventory::Undoable;
use lifeboat_engine::run::StepState;
use lifeboat_engine::{Effect, Evidence, Measure, Observation, ReadContext, Readiness, Step, StepContext, StepError, StepId, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clients::postgres::census;
use crate::clients::postgres::files;
use crate::clients::postgres::{NodeState, Seen, look};
use crate::measure_rpo::{database, identity, node};
use crate::resources::database::{Database, FenceMethod, Node};
use proof::{Accepted, FenceProof, Verdict, prove};
pub(crate) use record::{FenceOnRecord, on_record};

/// Keeps the old primary from taking writes, and proves it from at least two vantages.
///
/// Its undo opens the server again where it was fenced by `pg_ctl` or `reject`, and every other node answers as a standby of the same
/// cluster; what a program of the operator's did has no undo.
///
/// The inventory lists the ways for each node, strongest first; each is tried until one is proven. A local server is left with
/// `standby.signal`, so that it comes back as a standby, never as a second primary. Where nothing can be proven, the step holds for a
/// person, unless `accept_risk` names an approval of this run: then the risk of two primaries is taken on record.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceDb {
    /// The database.
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    pub db: String,
    /// The old primary.
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    pub node: String,
    /// The id of an approval step that this one needs: its yes accepts that the node could not be proven fenced.
    #[serde(default)]
    pub accept_risk: Option<String>,
}

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceIntent {
    /// The node.
    pub node: String,
    /// The cluster that it belongs to, as far as anybody could tell.
    pub system_identifier: Option<String>,
    /// How it stood.
    pub was: NodeState,
    /// The methods that will be tried, in order.
    pub methods: Vec<String>,
    /// What happens to `standby.signal`; to reopen the server by hand, take back what was left.
    pub standby_signal: StandbySignal,
}

/// What happens to the file that makes a server come back as a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandbySignal {
    /// The step leaves one in the data directory.
    WillBeLeft,
    /// It was there before.
    WasThere,
    /// The server's files are not on this machine.
    OutOfReach,
}

/// How the node was fenced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fenced {
    /// The database.
    pub db: String,
    /// The node.
    pub node: String,
    /// Whether it is proven. False only where people accepted the risk.
    pub proven: bool,
    /// The method that worked, if this attempt saw one work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<FenceProof>,
    /// Who accepted the risk, where there is no proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_accepted: Option<RiskAccepted>,
}

/// People took the risk of two primaries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RiskAccepted {
    /// The approval step.
    pub step: String,
    /// Who.
    pub by: Vec<String>,
    /// Why the fence could not be proven.
    pub because: String,
}

impl FenceDb {
    fn risk_accepted(&self, cx: &ReadContext, because: &str) -> Option<RiskAccepted> {
        let step = self.accept_risk.as_deref()?;
        let id = StepId::new(step).ok()?;
        let record = cx.facts.step(&id)?;
        let counts = cx.facts.ancestors().contains(&id)
            && record.step_type == "approval"
            && record.state == StepState::Succeeded
            && record.proof == Proof::Seen
            && !record.approvals.is_empty();
        let by = record.approvals.iter().map(|approval| approval.by.clone()).collect();
        counts.then(|| RiskAccepted { step: step.to_owned(), by, because: because.to_owned() })
    }

    fn fenced(&self, proof: FenceProof, method: Option<&FenceMethod>) -> Fenced {
        Fenced {
            db: self.db.clone(),
            node: self.node.clone(),
            proven: true,
            method: method.map(|method| method.name().to_owned()),
            proof: Some(proof),
            risk_accepted: None,
        }
    }

    fn fenced_by_nothing(&self) -> Fenced {
        Fenced { db: self.db.clone(), node: self.node.clone(), proven: false, method: None, proof: None, risk_accepted: None }
    }

    /// Whether what is asked about is an undo of this step.
    fn is_reopening(&self, cx: &ReadContext) -> bool {
        cx.facts.step(&cx.step).is_some_and(|own| matches!(own.state, StepState::Undoing | StepState::UndoInDoubt))
    }

    async fn gate(&self, cx: &ReadContext) -> Result<Readiness<FenceIntent>, StepError> {
        let database = database(cx, &self.db)?;
        let node = node(&database, &self.db, &self.node)?;
        let mut evidence = Evidence::none();
        let refused = |why: String, evidence: Evidence| Ok(Readiness::Refused { why, evidence });
        let answer = look(cx, &database, node).await;
        evidence.note(format!("{} state", self.node), json!(NodeState::from(&answer)));
        let heirs = heirs(cx, &database, &self.node, &mut evidence).await;
        let mut identifier = answer.as_ref().ok().map(|seen| seen.system_identifier.clone());
        if let (None, Some(local)) = (&identifier, &node.local) {
            match files::control(&*cx.clock, local).await {
                Ok(control) => {
                    evidence.note(format!("{} control file", self.node), format!("{}, timeline {}", control.state, control.timeline));
                    identifier = Some(control.system_identifier);
                }
                Err(why) => evidence.note(format!("{} control file", self.node), why),
            }
        }
        if let Some(found) = &identifier
            && let Err(why) = identity(&database, &self.node, found)
        {
            return refused(why, evidence);
        }
        if let Ok(seen) = &answer
            && seen.standby().is_some()
        {
            let why = format!(
                "{} is a standby now; a fence is for the old primary, and would only take a node away that could take over",
                self.node
            );
            return refused(why, evidence);
        }
        let kin: Vec<&(String, Seen)> =
            heirs.iter().filter(|(_, seen)| identifier.as_ref().is_none_or(|id| *id == seen.system_identifier)).collect();
        if kin.is_empty() {
            let why = format!(
                "no other node of {} answers as a standby of the same cluster: with {} fenced nothing could take over",
                self.db, self.node
            );
            return refused(why, evidence);
        }
        if let Some(why) = operator::forbidden(&cx.inventory, node) {
            return refused(format!("{} cannot be fenced as the inventory says: {why}", self.node), evidence);
        }
        if node.fence.is_empty()
            && let Some(readiness) = self.without_method(cx, &database, &mut evidence).await
        {
            return Ok(readiness);
        }
        let standby_signal = match &node.local {
            Some(local) if files::comes_back_as_standby(local) => StandbySignal::WasThere,
            Some(_) if node.fence.iter().any(|method| !matches!(method, FenceMethod::Command(_))) => StandbySignal::WillBeLeft,
            Some(_) | None => StandbySignal::OutOfReach,
        };
        let intent = FenceIntent {
            node: self.node.clone(),
            system_identifier: identifier.or_else(|| kin.first().map(|(_, seen)| seen.system_identifier.clone())),
            was: NodeState::from(&answer),
            methods: node.fence.iter().map(|method| method.name().to_owned()).collect(),
            standby_signal,
        };
        Ok(Readiness::Ready { intent, evidence })
    }

    /// With no method there is only what can be seen, and what people accept.
    async fn without_method(&self, cx: &ReadContext, database: &Database, evidence: &mut Evidence) -> Option<Readiness<FenceIntent>> {
        let why = match prove(cx, database, &self.node, Accepted::Unknown).await {
            Verdict::Proven(_) => return None,
            Verdict::TakesWrites(_) => {
                let why = format!("{} takes writes, and the inventory names no way to fence it: add `fence` to the node", self.node);
                return Some(Readiness::Refused { why, evidence: evidence.clone() });
            }
            Verdict::Unproven { why, vantages } => {
                evidence.note(format!("{} vantages", self.node), json!(vantages));
                why
            }
        };
        match &self.accept_risk {
            Some(_) if self.risk_accepted(cx, &why).is_some() => None,
            Some(step) if cx.facts.ancestors().iter().any(|id| id.as_str() == step) && cx.attempt == 0 => {
                Some(Readiness::Later { needs: format!("the yes of {step} to the risk"), evidence: evidence.clone() })
            }
            Some(_) | None => {
                let why =
                    format!("{why}; the inventory names no way to fence it: a person must accept the risk of two primaries (accept_risk)");
                Some(Readiness::Refused { why, evidence: evidence.clone() })
            }
        }
    }
}

/// How long a method that was accepted is given to show: machines take a while to die.
const PROOF_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

async fn prove_within(cx: &StepContext, database: &Database, node: &str, accepted: Accepted, patience: Duration) -> Option<FenceProof> {
    let until = cx.clock.instant().after(patience.min(cx.time_left() / 2));
    loop {
        match prove(cx, database, node, accepted).await {
            Verdict::Proven(proof) => return Some(proof),
            Verdict::TakesWrites(_) | Verdict::Unproven { .. } if cx.clock.instant() >= until => return None,
            Verdict::TakesWrites(_) | Verdict::Unproven { .. } => cx.sleep(LOOK_AGAIN).await,
        }
    }
}

/// The other nodes that answer as standbys.
async fn heirs(cx: &ReadContext, database: &Database, fenced: &str, evidence: &mut Evidence) -> Vec<(String, Seen)> {
    let mut heirs = Vec::new();
    for (name, node) in database.nodes.iter().filter(|(name, _)| *name != fenced) {
        let answer = look(cx, database, node).await;
        evidence.note(format!("{name} state"), json!(NodeState::from(&answer)));
        if let Ok(seen) = answer
            && seen.standby().is_some()
        {
            heirs.push((name.clone(), seen));
        }
    }
    heirs
}

impl Step for FenceDb {
    const TYPE: &'static str = "fence-db";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Change;
    const UNDO: Undoable = Undoable::Yes;
    type Intent = FenceIntent;
    type Output = Fenced;

    fn touches(&self) -> Vec<Touch> {
        vec![Touch { resource: self.db.clone(), effect: Effect::Change }]
    }

    fn preview(&self) -> String {
        format!("keep {} of {} from taking writes, and prove it", self.node, self.db)
    }

    fn measures(output: &Fenced) -> Vec<Measure> {
        output.proof.iter().map(|proof| Measure::Fenced { at: proof.at }).collect()
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<FenceIntent>, StepError> {
        match self.gate(cx).await {
            Err(StepError::Refused { why, evidence }) => Ok(Readiness::Refused { why, evidence }),
            other => other,
        }
    }

    async fn census(resource: &str, cx: &ReadContext) -> Result<Census, StepError> {
        census::of_database(resource, cx).await
    }

    async fn execute(&self, intent: &FenceIntent, cx: &StepContext) -> Result<Fenced, StepError> {
        let database = database(cx, &self.db)?;
        let node = node(&database, &self.db, &self.node)?;
        same_server(cx, &database, node, intent).await?;
        let mut tried = Evidence::none();
        let mut accepted = Accepted::Unknown;
        for method in &node.fence {
            cx.progress(&format!("fencing {} by {}", self.node, method.name()));
            let patience = match methods::carry_out(cx, &database, node, method).await {
                Ok(Accepted::ByCommand) => {
                    accepted = Accepted::ByCommand;
                    PROOF_WITHIN
                }
                Ok(Accepted::Unknown) => PROOF_WITHIN,
                Err(why) => {
                    tried.note(method.name(), why);
                    Duration::ZERO
                }
            };
            if let Some(proof) = prove_within(cx, &database, &self.node, accepted, patience).await {
                return Ok(self.fenced(proof, Some(method)));
            }
        }
        let why = match prove(cx, &database, &self.node, accepted).await {
            Verdict::Proven(proof) => return Ok(self.fenced(proof, None)),
            Verdict::TakesWrites(_) => return Err(StepError::not_done(format!("{} still takes writes; {}", self.node, told(&tried)))),
            Verdict::Unproven { why, vantages } => {
                tried.note("vantages", json!(vantages));
                why
            }
        };
        match self.risk_accepted(cx, &why) {
            Some(risk) => Ok(Fenced { risk_accepted: Some(risk), ..self.fenced_by_nothing() }),
            None => Err(StepError::unknown(format!("{why}; {}", told(&tried)))),
        }
    }

    async fn observe(&self, _: &FenceIntent, cx: &ReadContext) -> Result<Observation<Fenced>, StepError> {
        let database = database(cx, &self.db)?;
        Ok(match prove(cx, &database, &self.node, Accepted::Unknown).await {
            Verdict::Proven(proof) => Observation::Done(self.fenced(proof, None)),
            // It answers as a primary: every method may be carried out again.
            Verdict::TakesWrites(_) => Observation::NotDone,
            // While it is opened again it may be stopped and no longer closed: it takes no writes, so the fence stands as yet.
            Verdict::Unproven { .. } if self.is_reopening(cx) && stopped(&database, &self.node) => {
                Observation::Done(self.fenced_by_nothing())
            }
            Verdict::Unproven { why, vantages } => {
                // People have accepted exactly this, so going on is what they want.
                if self.risk_accepted(cx, &why).is_some() {
                    Observation::InProgress
                } else {
                    let seen: Vec<String> = vantages.iter().map(|vantage| format!("{}: {}", vantage.from, vantage.saw)).collect();
                    Observation::Unknown { why: format!("{why} ({})", seen.join("; ")) }
                }
            }
        })
    }

    async fn undo(&self, intent: &FenceIntent, done: Fenced, cx: &StepContext) -> Result<(), StepError> {
        reopen::reopen(cx, &self.db, intent, &done).await
    }
}

/// Whether no process works in the node's data directory, as far as this machine can see it.
fn stopped(database: &Database, node: &str) -> bool {
    let local = database.nodes.get(node).and_then(|node| node.local.as_ref());
    local.is_some_and(|local| files::processes(local) == files::Processes::None)
}

/// The address may have come to another server since the intent was journaled.
async fn same_server(cx: &ReadContext, database: &Database, node: &Node, intent: &FenceIntent) -> Result<(), StepError> {
    match (look(cx, database, node).await, &intent.system_identifier) {
        (Ok(seen), Some(wanted)) if seen.system_identifier != *wanted => {
            let why = format!("{} answers as the cluster {}, not {wanted}: it is another server", intent.node, seen.system_identifier);
            Err(StepError::refused(why, Evidence::none()))
        }
        (Ok(_) | Err(_), Some(_) | None) => Ok(()),
    }
}

fn told(tried: &Evidence) -> String {
    if tried.0.is_empty() {
        return "the inventory names no way to fence it".into();
    }
    tried.0.iter().map(|fact| format!("{}: {}", fact.what, fact.found)).collect::<Vec<_>>().join("; ")
}
