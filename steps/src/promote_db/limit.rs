//! The loss gate: how much may be lost, and who says so. Weighing the loss itself is the business of `measure_rpo::loss`.

use jiff::Timestamp;
use lifeboat_engine::context::Proof;
use lifeboat_engine::measure::Loss;
use lifeboat_engine::run::StepState;
use lifeboat_engine::{Evidence, ReadContext, StepError, StepId};

use super::{Allowed, PromoteDb};
use crate::measure_rpo::MeasuredRpo;
use crate::measure_rpo::loss::{CLOCK_GRAIN_SECONDS, Growth, Weighed, seconds};
use crate::mutants::{self, Mutant};

/// Before the fence the loss can only be foretold; it refuses early where nobody is going to be asked.
pub(super) fn refuse_early(step: &PromoteDb, cx: &ReadContext, expected: &Weighed, evidence: &Evidence) -> Result<(), StepError> {
    let asks = cx.facts.ancestors().iter().any(|id| cx.facts.step(id).is_some_and(|record| record.step_type == "approval"));
    match step.max_loss {
        Some(limit) if !asks && expected.loss.seconds_max.is_none_or(|most| most > limit.0.as_secs_f64()) => {
            let why = format!("{}, more than max_loss ({limit}) allows, and no approval comes before", foretold(&expected.loss));
            Err(StepError::refused(why, evidence.clone()))
        }
        None if !asks => {
            let why = "nothing says how much may be lost: set max_loss, or let an approval show the output of measure-rpo".to_owned();
            Err(StepError::refused(why, evidence.clone()))
        }
        Some(_) | None => Ok(()),
    }
}

/// The loss gate: within `max_loss`, or no worse than what people accepted.
pub(super) fn allowed(step: &PromoteDb, cx: &ReadContext, expected: &Weighed, fenced_at: Option<Timestamp>) -> Result<Allowed, String> {
    let mut best = step.max_loss.map(|limit| Allowed {
        seconds_max: Some(limit.0.as_secs_f64()),
        bytes_max: None,
        because: format!("max_loss {limit}"),
    });
    if best.as_ref().is_some_and(|limit| fits(&expected.loss, limit)) {
        return best.ok_or_else(String::new);
    }
    for (id, accepted) in accepted(cx, &step.db) {
        let limit = accepted_limit(&id, &accepted, fenced_at.unwrap_or_else(|| cx.now()));
        if fits(&expected.loss, &limit) {
            return Ok(limit);
        }
        best = Some(limit);
    }
    match best {
        Some(limit) => Err(format!("{}, which is more than allowed ({})", foretold(&expected.loss), limit.because)),
        None if expected.loss.seconds_max == Some(0.0) => {
            Ok(Allowed { seconds_max: Some(0.0), bytes_max: None, because: "nothing is lost".into() })
        }
        None => Err(format!(
            "{}, and nothing says how much may be lost: set max_loss, or let an approval show the output of measure-rpo",
            foretold(&expected.loss)
        )),
    }
}

/// A loss that was still growing when people accepted it may have grown until the fence, and no further.
fn accepted_limit(id: &StepId, accepted: &MeasuredRpo, until: Timestamp) -> Allowed {
    let grown = match accepted.growth {
        Growth::Growing => seconds(accepted.measured_at, until),
        Growth::Settled => 0.0,
    };
    Allowed {
        seconds_max: accepted.loss.seconds_max.map(|most| most + grown + CLOCK_GRAIN_SECONDS),
        bytes_max: accepted.loss.bytes.filter(|_| accepted.growth == Growth::Settled),
        because: format!("the loss that was accepted in step {id}"),
    }
}

fn fits(loss: &Loss, limit: &Allowed) -> bool {
    let in_seconds = match (loss.seconds_max, limit.seconds_max) {
        (_, None) => true,
        (None, Some(_)) => mutants::is(Mutant::UnknownLossFits),
        (Some(loss), Some(limit)) => loss <= limit || mutants::is(Mutant::LossUnlimited),
    };
    let in_bytes = match (loss.bytes, limit.bytes_max) {
        (_, None) => true,
        (None, Some(_)) => limit.seconds_max.is_some(),
        (Some(loss), Some(limit)) => loss <= limit,
    };
    in_seconds && in_bytes
}

fn foretold(loss: &Loss) -> String {
    match (loss.seconds_max, loss.bytes) {
        (Some(most), Some(bytes)) => format!("up to {most:.1} s of commits and {bytes} bytes of log would be lost (by {})", loss.method),
        (Some(most), None) => format!("up to {most:.1} s of commits would be lost (by {})", loss.method),
        (None, _) => "it is unknown how much would be lost".to_owned(),
    }
}

/// The losses that people of this run said yes to, in the approvals that this step needs.
fn accepted(cx: &ReadContext, db: &str) -> Vec<(StepId, MeasuredRpo)> {
    let mut accepted = Vec::new();
    for id in cx.facts.ancestors() {
        let Some(record) = cx.facts.step(id) else {
            continue;
        };
        // A yes by some of those who were asked, or by somebody who spoke for them, is none.
        if record.step_type != "approval" || record.state != StepState::Succeeded || record.proof != Proof::Seen {
            continue;
        }
        // Everybody was shown the same facts; the last to say yes saw the newest.
        let shown = record.approvals.last().map(|approval| approval.shown.clone());
        if let Some(Ok(shown)) = shown.map(serde_json::from_value::<MeasuredRpo>)
            && shown.db == db
        {
            accepted.push((id.clone(), shown));
        }
    }
    accepted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_loss_that_people_accepted_fits_also_after_it_went_through_the_journal() {
        // This figure is read back one unit in the last place smaller than it was written.
        let most = std::time::Duration::from_nanos(1_869_625_065).as_secs_f64();
        let loss = Loss {
            resource: "orders-db".into(),
            method: "heartbeat".into(),
            seconds_min: Some(1.0),
            seconds_max: Some(most),
            bytes: Some(6648),
        };
        let measured = json!({
            "db": "orders-db", "from": "a", "to": "b", "within_rpo": false, "loss": loss, "growth": "settled",
            "measured_at": "2026-11-23T00:45:36Z", "source": { "state": "stopped" }, "target": { "state": "standby" },
        });
        let shown: MeasuredRpo = serde_json::from_str(&measured.to_string()).unwrap();
        let limit = accepted_limit(&StepId::new("accept").unwrap(), &shown, shown.measured_at);
        assert!(fits(&loss, &limit), "{limit:?}");
        assert!(!fits(&Loss { seconds_max: Some(most + 0.1), ..loss.clone() }, &limit));
        assert!(!fits(&Loss { bytes: Some(6649), ..loss }, &limit));
    }

    #[test]
    fn an_unknown_loss_is_within_no_limit_and_a_larger_one_is_not_within_a_smaller() {
        let loss = |seconds_max| Loss { resource: "db".into(), method: "heartbeat".into(), seconds_min: None, seconds_max, bytes: None };
        let limit = Allowed { seconds_max: Some(3600.0), bytes_max: None, because: "max_loss 1h".into() };
        assert!(!fits(&loss(None), &limit), "what nobody can tell is not within an hour");
        assert!(!fits(&loss(Some(3600.5)), &limit));
        assert!(fits(&loss(Some(3600.0)), &limit));
    }
}
