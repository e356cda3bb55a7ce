//! How long a run will take and what is left of it, in a line for people. The figures come from the engine.

use std::time::Duration;

use lifeboat_engine::StepId;
use lifeboat_engine::predict::{Left, Predicted};

use super::words;

/// Names of steps told in one line.
const NAMES_MAX: usize = 5;

/// Before the start: `predicted about 2 min 10 s, p90 3 min 40 s, from 6 runs; RTO 5 min 00 s: fits`.
pub(crate) fn before(predicted: &Predicted, rto: Option<Duration>) -> String {
    let (p50, p90) = (Duration::from_millis(predicted.p50_ms), Duration::from_millis(predicted.p90_ms));
    let runs = if predicted.runs == 1 { "1 run".to_owned() } else { format!("{} runs", predicted.runs) };
    let mut text = format!("predicted about {}, p90 {}, from {runs}", words::length(p50), words::length(p90));
    if let Some(rto) = rto {
        let fits = match (p50 <= rto, p90 <= rto, predicted.never_timed) {
            (true, true, 0) => "fits".to_owned(),
            (true, true, _) => "fits, as far as it is known".to_owned(),
            (true, false, _) => format!("fits mostly: p90 is {} past it", words::length(p90.saturating_sub(rto))),
            (false, _, _) => format!("MISSED by {}", words::length(p50.saturating_sub(rto))),
        };
        text.push_str(&format!("; RTO {}: {fits}", words::length(rto)));
    }
    if predicted.never_timed > 0 {
        let steps = if predicted.never_timed == 1 { "1 step".to_owned() } else { format!("{} steps", predicted.never_timed) };
        text.push_str(&format!("\n  {steps} never timed, so it takes longer: {}", names(&predicted.never_timed_steps)));
    }
    if !predicted.waits_for_people.is_empty() {
        text.push_str(&format!("\n  waits for people come on top: {}", names(&predicted.waits_for_people)));
    }
    text
}

/// While it goes on: `about 2 min 10 s left, RTO missed by 40.0 s`. `used` is the time since the outage began, as far as known.
pub(crate) fn left(left: &Left, used: Duration, rto: Option<Duration>) -> String {
    let rest = Duration::from_millis(left.p50_ms);
    let at_least = if left.never_timed > 0 { "at least" } else { "about" };
    let people = if left.waits_for_people { " and what people take" } else { "" };
    let mut text = format!("{at_least} {} left{people}", words::length(rest));
    if let Some(rto) = rto {
        let ends = used.saturating_add(rest);
        match rto.checked_sub(ends) {
            Some(spare) => text.push_str(&format!(", RTO kept with {} to spare", words::length(spare))),
            None => text.push_str(&format!(", RTO missed by {}", words::length(ends.saturating_sub(rto)))),
        }
    }
    text
}

fn names(steps: &[StepId]) -> String {
    let told: Vec<&str> = steps.iter().take(NAMES_MAX).map(StepId::as_str).collect();
    let more = steps.len().saturating_sub(NAMES_MAX);
    if more > 0 { format!("{} and {more} more", told.join(", ")) } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predicted(p50_ms: u64, p90_ms: u64, never_timed: u64) -> Predicted {
        Predicted { p50_ms, p90_ms, runs: 6, never_timed, never_timed_steps: vec![], waits_for_people: vec![], critical_path: vec![] }
    }

    #[test]
    fn a_prediction_says_whether_it_fits_the_objective() {
        let rto = Some(Duration::from_secs(300));
        let text = before(&predicted(130_000, 220_000, 0), rto);
        assert_eq!(text, "predicted about 2 min 10 s, p90 3 min 40 s, from 6 runs; RTO 5 min 00 s: fits");
        assert!(before(&predicted(130_000, 310_000, 0), rto).ends_with("fits mostly: p90 is 10.0 s past it"));
        assert!(before(&predicted(340_000, 400_000, 0), rto).ends_with("MISSED by 40.0 s"));
        assert!(before(&predicted(1, 2, 3), rto).contains("3 steps never timed"));
    }

    #[test]
    fn what_is_left_is_held_against_the_objective() {
        let rest = Left { p50_ms: 130_000, p90_ms: 0, never_timed: 0, waits_for_people: false };
        let rto = Some(Duration::from_secs(300));
        assert_eq!(left(&rest, Duration::from_secs(210), rto), "about 2 min 10 s left, RTO missed by 40.0 s");
        assert_eq!(left(&rest, Duration::from_secs(110), rto), "about 2 min 10 s left, RTO kept with 1 min 00 s to spare");
        let open = Left { never_timed: 1, waits_for_people: true, ..rest };
        assert_eq!(left(&open, Duration::ZERO, None), "at least 2 min 10 s left and what people take");
    }
}
