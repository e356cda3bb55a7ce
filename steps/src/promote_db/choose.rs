//! Which replica may be promoted: pure rules over what every node said in one pass. Asking them is in `gate`.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use lifeboat_engine::Evidence;
use serde_json::json;

use crate::clients::postgres::{NodeState, Seen, SessionError, Standby};
use crate::mutants::{self, Mutant};
use crate::resources::database::Database;

/// What every node said, in one pass.
pub(super) type Answers = BTreeMap<String, Result<Seen, SessionError>>;

/// A replica that may be promoted, as far as the replicas themselves tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) node: String,
    pub(super) seen: Seen,
}

/// The standby part of a chosen node.
impl Chosen {
    pub(super) fn standby(&self) -> Standby {
        self.seen.standby().cloned().unwrap_or_default()
    }
}

/// Why no replica may be promoted, as a sentence, with what was seen.
pub(super) type Refusal = (String, Evidence);

/// Whether positions can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The old primary may still send its log.
    Streaming,
    /// It is fenced, and the replicas have replayed what they received.
    Settled,
}

/// Checks the wanted replica, or picks the most advanced one. `old_primary` is the node that was fenced or is about to be;
/// `timeline` is the one it was last known to be on.
pub(super) fn choose(
    database: &Database,
    answers: &Answers,
    wanted: Option<&str>,
    old_primary: Option<&str>,
    timeline: Option<u32>,
    stage: Stage,
) -> Result<Chosen, Refusal> {
    let evidence = told(answers);
    let refuse = |why: String| Err((why, evidence.clone()));
    let candidates: Vec<(&String, &Seen)> = answers
        .iter()
        .filter(|(name, _)| Some(name.as_str()) != old_primary)
        .filter_map(|(name, answer)| answer.as_ref().ok().filter(|seen| seen.standby().is_some()).map(|seen| (name, seen)))
        .collect();
    let node = match wanted {
        Some(name) => name.to_owned(),
        None => match candidates.iter().max_by_key(|(_, seen)| (seen.timeline, seen.position())) {
            Some((name, _)) => (*name).clone(),
            None => return refuse("no replica answers, so none can be promoted".into()),
        },
    };
    let seen = match answers.get(&node) {
        None => {
            let known: Vec<&str> = database.nodes.keys().map(String::as_str).collect();
            return refuse(format!("there is no node {node:?}; the nodes are {}", known.join(", ")));
        }
        Some(Err(error)) => return refuse(format!("{node} does not answer, and nothing is promoted unseen: {error}")),
        Some(Ok(seen)) => seen,
    };
    if old_primary == Some(node.as_str()) {
        return refuse(format!("{node} is the node that was fenced; it cannot take over from itself"));
    }
    let Some(standby) = seen.standby() else {
        return refuse(format!("{node} is a primary already, on timeline {}: there is nothing to promote", seen.timeline));
    };
    identity(database, answers, &node, seen).map_err(|why| (why, evidence.clone()))?;
    replay(&node, standby).map_err(|why| (why, evidence.clone()))?;
    upstream(database, answers, &node, standby, old_primary).map_err(|why| (why, evidence.clone()))?;
    line(&node, seen, &candidates, timeline).map_err(|why| (why, evidence.clone()))?;
    match stage {
        Stage::Settled => furthest(&node, seen, &candidates).map_err(|why| (why, evidence.clone()))?,
        // Replicas of a live primary are ahead of each other by turns; what counts is where they end.
        Stage::Streaming => {}
    }
    Ok(Chosen { node, seen: seen.clone() })
}

/// Any node but the old one that answers as a primary: the run would make a second one.
pub(super) fn other_primary<'a>(answers: &'a Answers, old_primary: Option<&str>) -> Option<(&'a str, &'a Seen)> {
    answers
        .iter()
        .filter(|(name, _)| Some(name.as_str()) != old_primary)
        .find_map(|(name, answer)| answer.as_ref().ok().filter(|seen| seen.standby().is_none()).map(|seen| (name.as_str(), seen)))
}

/// What every node said, for people.
pub(super) fn told(answers: &Answers) -> Evidence {
    let mut evidence = Evidence::none();
    for (name, answer) in answers {
        evidence.note(format!("{name} state"), json!(NodeState::from(answer)));
        if let Some(standby) = answer.as_ref().ok().and_then(Seen::standby) {
            let positions = json!({ "receive": standby.receive, "replay": standby.replay, "pause": standby.pause });
            evidence.note(format!("{name} replay"), positions);
        }
    }
    evidence
}

fn identity(database: &Database, answers: &Answers, node: &str, seen: &Seen) -> Result<(), String> {
    crate::measure_rpo::identity(database, node, &seen.system_identifier)?;
    for (other, answer) in answers {
        if let Ok(other_seen) = answer
            && other_seen.system_identifier != seen.system_identifier
        {
            return Err(format!(
                "{node} and {other} belong to different clusters ({} and {}): an address in the inventory is wrong",
                seen.system_identifier, other_seen.system_identifier
            ));
        }
    }
    Ok(())
}

fn replay(node: &str, standby: &Standby) -> Result<(), String> {
    if standby.pause != "not paused" {
        return Err(format!(
            "replay on {node} is {}: somebody stopped it for a reason, and promoting would replay all of it; resume it first",
            if standby.pause.is_empty() { "unknown" } else { &standby.pause }
        ));
    }
    if standby.delay_ms > 0 {
        return Err(format!(
            "{node} is a delayed replica ({} s): promoting would apply at once what the delay protects from; promote another",
            standby.delay_ms / 1000
        ));
    }
    if let Some(targets) = &standby.recovery_targets {
        return Err(format!("{node} recovers to a point in time ({targets}); it is no replica to fail over to"));
    }
    if standby.position().is_none() {
        return Err(format!("{node} has neither received nor replayed anything"));
    }
    Ok(())
}

/// A replica of a replica can be behind in a way that its own stream does not show. An upstream that is no node's address (a proxy)
/// cannot be judged and is taken as it is.
fn upstream(database: &Database, answers: &Answers, node: &str, standby: &Standby, old_primary: Option<&str>) -> Result<(), String> {
    let Some(address) = standby.upstream.as_deref().or(standby.upstream_set.as_deref()) else {
        return Ok(());
    };
    let source =
        database.nodes.iter().find(|(_, other)| format!("{}:{}", other.host, other.port) == address).map(|(name, _)| name.as_str());
    match source {
        Some(source) if source == node => Err(format!("{node} is set to stream from itself ({address})")),
        Some(source)
            if Some(source) != old_primary
                && answers.get(source).is_some_and(|answer| answer.as_ref().is_ok_and(|seen| seen.standby().is_some())) =>
        {
            Err(format!("{node} is a cascading replica: it streams from {source}, which is a replica itself; promote {source}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Positions compare only on one timeline: the one that the old primary was on, and that no other replica has left.
fn line(node: &str, seen: &Seen, candidates: &[(&String, &Seen)], timeline: Option<u32>) -> Result<(), String> {
    if mutants::is(Mutant::TimelineIgnored) {
        return Ok(());
    }
    if let Some(timeline) = timeline
        && timeline != seen.timeline
    {
        return Err(format!("{node} is on the wrong timeline: it follows {}, the primary was on {timeline}", seen.timeline));
    }
    match candidates.iter().find(|(_, other)| other.timeline > seen.timeline) {
        Some((other, ahead)) => {
            Err(format!("{node} is on the wrong timeline: it follows {}, but {other} follows {}", seen.timeline, ahead.timeline))
        }
        None => Ok(()),
    }
}

/// How much later the last commit of another replica may be before promoting this one is refused. Streams of a primary that dies do not
/// break in the same instant, and what one replica lacks then is counted by the loss gate like everything else that is lost.
const COMMITS_APART_MAX: SignedDuration = SignedDuration::from_secs(1);

/// Another replica may hold more of the log. That counts where it holds later commits, too: the end of a stream that broke is often
/// half a record, or bookkeeping.
fn furthest(node: &str, seen: &Seen, candidates: &[(&String, &Seen)]) -> Result<(), String> {
    let own = seen.position();
    let own_commit = seen.standby().and_then(|standby| standby.last_replayed_commit);
    let ahead = candidates.iter().filter(|(name, other)| {
        let commit = other.standby().and_then(|standby| standby.last_replayed_commit);
        // A replica that has replayed nothing since its start cannot tell its last commit, so its position alone counts.
        let later = commit.zip(own_commit).is_none_or(|(theirs, own)| theirs.duration_since(own) > COMMITS_APART_MAX);
        name.as_str() != node && other.timeline == seen.timeline && other.position() > own && later
    });
    match ahead.max_by_key(|(_, other)| other.position()) {
        Some((other, ahead)) => {
            let bytes = ahead.position().zip(own).map_or(0, |(ahead, own)| ahead.beyond(own));
            Err(format!("{other} has {bytes} bytes more of the log than {node}; promoting {node} would lose them: promote {other}"))
        }
        None => Ok(()),
    }
}
