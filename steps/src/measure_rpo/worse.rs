//! Whether a loss is worse than the one that people were shown. Pure; measuring it is next door.

use super::MeasuredRpo;
use super::loss::{CLOCK_GRAIN_SECONDS, Growth, seconds};

/// What is worse now, in words. More at the upper end, and no longer known, are worse. A loss that was shown as growing may have grown
/// by the time that passed since, as `promote-db` allows it too: people saw that it grows. Else every yes would come too late.
pub(super) fn worse(shown: &MeasuredRpo, now: &MeasuredRpo) -> Option<String> {
    let grown = match shown.growth {
        Growth::Growing => seconds(shown.measured_at, now.measured_at),
        Growth::Settled => 0.0,
    };
    if (&shown.db, &shown.from, &shown.to) != (&now.db, &now.from, &now.to) {
        return Some(format!(
            "it was measured from {} to {} of {}, and now from {} to {}",
            shown.from, shown.to, shown.db, now.from, now.to
        ));
    }
    match (shown.loss.seconds_max, now.loss.seconds_max) {
        (Some(before), None) => return Some(format!("at most {before:.1} s would have been lost, and now nobody knows how much")),
        (Some(before), Some(after)) if after > before + grown + CLOCK_GRAIN_SECONDS => {
            let more = after - before;
            let passed = if grown > 0.0 { format!(", although only {grown:.1} s have passed") } else { String::new() };
            return Some(format!("at most {before:.1} s would have been lost, and now {after:.1} s: {more:.1} s more{passed}"));
        }
        // An unknown loss is the worst that people can agree to.
        (Some(_), Some(_)) | (None, _) => {}
    }
    if shown.within_rpo && !now.within_rpo {
        return Some("the loss was within its limit, and is no longer".into());
    }
    if shown.growth == Growth::Settled && now.growth == Growth::Growing {
        return Some(format!("{} had ended, and may acknowledge commits again: the loss grows as time passes", shown.from));
    }
    match (shown.loss.bytes, now.loss.bytes, shown.growth) {
        (Some(before), Some(after), Growth::Settled) if after > before => {
            Some(format!("{before} bytes of log would have been lost, and now {after}"))
        }
        (_, _, Growth::Settled | Growth::Growing) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::postgres::NodeState;
    use jiff::Timestamp;
    use lifeboat_engine::measure::Loss;

    fn measured(second: i64, most: Option<f64>, growth: Growth) -> MeasuredRpo {
        let node = || serde_json::from_value::<NodeState>(serde_json::json!({ "state": "unreachable" })).unwrap();
        MeasuredRpo {
            db: "orders-db".into(),
            from: "east".into(),
            to: "west".into(),
            within_rpo: false,
            loss: Loss { resource: "orders-db".into(), method: "heartbeat".into(), seconds_min: Some(0.0), seconds_max: most, bytes: None },
            growth,
            measured_at: Timestamp::from_second(second).unwrap(),
            source: node(),
            target: node(),
            recovered_to: None,
            acknowledged_to: None,
            outage_began: None,
        }
    }

    #[test]
    fn more_loss_at_the_upper_end_is_worse_and_less_is_not() {
        let shown = measured(0, Some(10.0), Growth::Settled);
        let words = worse(&shown, &measured(60, Some(70.0), Growth::Settled)).unwrap();
        assert_eq!(words, "at most 10.0 s would have been lost, and now 70.0 s: 60.0 s more");
        assert_eq!(worse(&shown, &measured(60, Some(10.0), Growth::Settled)), None);
        assert_eq!(worse(&shown, &measured(60, Some(3.0), Growth::Settled)), None);
    }

    #[test]
    fn a_loss_that_is_no_longer_known_is_worse_than_any_known_one_and_unknown_stays_what_it_was() {
        let shown = measured(0, Some(10.0), Growth::Settled);
        assert!(worse(&shown, &measured(1, None, Growth::Settled)).unwrap().contains("nobody knows how much"));
        let unknown = measured(0, None, Growth::Growing);
        assert_eq!(worse(&unknown, &measured(60, None, Growth::Growing)), None);
        assert_eq!(worse(&unknown, &measured(60, Some(1000.0), Growth::Growing)), None);
    }

    #[test]
    fn what_was_shown_as_growing_may_grow_by_the_time_that_passed_and_no_more() {
        let shown = measured(0, Some(10.0), Growth::Growing);
        assert_eq!(worse(&shown, &measured(60, Some(70.0), Growth::Growing)), None);
        let words = worse(&shown, &measured(60, Some(90.0), Growth::Growing)).unwrap();
        assert!(words.ends_with("80.0 s more, although only 60.0 s have passed"), "{words}");
    }

    #[test]
    fn a_source_that_acknowledges_again_a_crossed_limit_and_more_bytes_are_worse() {
        let shown = measured(0, Some(10.0), Growth::Settled);
        assert!(worse(&shown, &measured(60, Some(10.0), Growth::Growing)).unwrap().contains("may acknowledge commits again"));
        let within = MeasuredRpo { within_rpo: true, ..measured(0, Some(10.0), Growth::Growing) };
        assert!(worse(&within, &measured(60, Some(60.0), Growth::Growing)).unwrap().contains("within its limit"));
        let bytes = |count| {
            let mut measured = measured(0, Some(10.0), Growth::Settled);
            measured.loss.bytes = Some(count);
            measured
        };
        assert!(worse(&bytes(100), &bytes(101)).unwrap().contains("101"));
        assert_eq!(worse(&bytes(100), &bytes(99)), None);
    }
}
