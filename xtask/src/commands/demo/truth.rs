//! What the client saw, and whether the engine's report agrees with it. Pure: logs and figures in, sentences out.

use std::collections::BTreeSet;

use super::client::Acknowledged;
use super::instant::Instant;
use super::json::Json;

/// How far apart two clocks of one machine read the same moment, in seconds: a row's acknowledgement is stamped after a pipe and a thread.
const CLOCK_GRAIN_SECONDS: f64 = 0.06;

/// What the client saw with its own eyes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Truth {
    /// From the last acknowledgement before the kill to the first one after, in seconds.
    pub(super) outage_seconds: f64,
    /// Acknowledged rows.
    pub(super) acknowledged: usize,
    /// Acknowledged rows that are not in the new primary.
    pub(super) lost: Vec<u64>,
    /// From the first lost acknowledgement to the last one before the kill, in seconds; zero when none was lost.
    pub(super) lost_seconds: f64,
}

impl Truth {
    /// Compares what was acknowledged with what the new primary has. `None` when the client never came back.
    ///
    /// The outage is the longest silence that ended after the kill began: a last acknowledgement may be read a moment after it.
    pub(super) fn tell(rows: &[Acknowledged], found: &BTreeSet<u64>, kill_began: Instant) -> Option<Self> {
        let silences = rows.windows(2).filter(|pair| pair[1].at >= kill_began);
        let longest = silences.max_by(|a, b| a[1].at.since(a[0].at).total_cmp(&b[1].at.since(b[0].at)))?;
        let (last, next) = (longest[0], longest[1]);
        let lost: Vec<&Acknowledged> = rows.iter().filter(|row| !found.contains(&row.number)).collect();
        Some(Self {
            outage_seconds: next.at.since(last.at),
            acknowledged: rows.len(),
            lost_seconds: lost.first().map_or(0.0, |first| last.at.since(first.at).max(0.0)),
            lost: lost.iter().map(|row| row.number).collect(),
        })
    }
}

/// One comparison, with both figures in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) agrees: Agrees,
    pub(super) sentence: String,
}

/// Whether the report and the client agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agrees {
    Yes,
    No,
}

/// Holds the report's figures against the truth.
pub(super) fn compare(report: &Json, truth: &Truth) -> Vec<Verdict> {
    vec![outage(report, truth), loss(report, truth)]
}

fn verdict(agrees: bool, sentence: String) -> Verdict {
    Verdict { agrees: if agrees { Agrees::Yes } else { Agrees::No }, sentence }
}

fn outage(report: &Json, truth: &Truth) -> Verdict {
    let seen = truth.outage_seconds;
    let bound = |name: &str| report.number(&format!("actuals.rta_outage.{name}"));
    let (Some(min), Some(max)) = (bound("seconds_min"), bound("seconds_max")) else {
        return verdict(false, format!("outage: the client saw {seen:.2} s, the report has no figure"));
    };
    let contains = min <= seen + CLOCK_GRAIN_SECONDS && seen <= max + CLOCK_GRAIN_SECONDS;
    // How wide it is depends on the heartbeat's period, the record's time to live and how busy the machine is; it is shown, not judged.
    verdict(contains, format!("outage: the client saw {seen:.2} s, the report says {min:.2} to {max:.2} s ({:.2} s wide)", max - min))
}

fn loss(report: &Json, truth: &Truth) -> Verdict {
    let said = report.number("actuals.rpa.seconds_max");
    let method = report.text("actuals.rpa.method").unwrap_or("no method");
    let bytes = report.number("actuals.rpa.bytes").map_or(String::new(), |bytes| format!(", {bytes:.0} bytes of WAL"));
    let client = match truth.lost.as_slice() {
        [] => format!("loss: all {} rows that the client saw acknowledged are there", truth.acknowledged),
        [only] => format!("loss: row {only} of {} is gone", truth.acknowledged),
        [first, .., last] => format!(
            "loss: {} of {} acknowledged rows are gone ({first} to {last}, {:.2} s of work)",
            truth.lost.len(),
            truth.acknowledged,
            truth.lost_seconds
        ),
    };
    match said {
        // Never below the truth is the promise; how far above depends on the method.
        Some(max) => verdict(
            max + CLOCK_GRAIN_SECONDS >= truth.lost_seconds,
            format!("{client}; the report says at most {max:.2} s ({method}{bytes})"),
        ),
        None => verdict(false, format!("{client}; the report has no figure")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(acknowledged: &[(u64, f64)]) -> Vec<Acknowledged> {
        acknowledged.iter().map(|(number, at)| Acknowledged { number: *number, at: Instant::at_seconds(*at) }).collect()
    }

    fn report(min: f64, max: f64, loss: f64) -> Json {
        let text = format!(
            "{{\"actuals\": {{\"rta_outage\": {{\"seconds_min\": {min}, \"seconds_max\": {max}}}, \"rpa\": {{\"method\": \"heartbeat\", \"seconds_max\": {loss}}}}}}}"
        );
        Json::parse(&text).unwrap()
    }

    fn truth() -> Truth {
        let seen = rows(&[(1, 10.0), (2, 10.5), (3, 11.0), (9, 14.0)]);
        Truth::tell(&seen, &BTreeSet::from([1, 9]), Instant::at_seconds(11.2)).unwrap()
    }

    #[test]
    fn the_outage_is_from_the_last_acknowledgement_to_the_next() {
        let truth = truth();
        assert!((truth.outage_seconds - 3.0).abs() < 1e-9);
        assert_eq!(truth.lost, [2, 3]);
        assert!((truth.lost_seconds - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_client_that_never_came_back_has_no_truth_to_tell() {
        assert_eq!(Truth::tell(&rows(&[(1, 10.0)]), &BTreeSet::new(), Instant::at_seconds(11.0)), None);
    }

    #[test]
    fn a_report_that_contains_the_truth_agrees() {
        assert!(compare(&report(2.5, 3.5, 1.0), &truth()).iter().all(|verdict| verdict.agrees == Agrees::Yes));
    }

    #[test]
    fn a_report_below_the_true_loss_or_beside_the_outage_does_not_agree() {
        for (wrong, place) in [(report(2.5, 3.5, 0.2), 1), (report(0.5, 1.0, 1.0), 0), (report(3.5, 9.0, 1.0), 0)] {
            assert_eq!(compare(&wrong, &truth())[place].agrees, Agrees::No);
        }
        let silent = Json::parse("{\"actuals\": {\"rta_outage\": null, \"rpa\": {\"method\": \"unknown\"}}}").unwrap();
        assert!(compare(&silent, &truth()).iter().all(|verdict| verdict.agrees == Agrees::No));
    }
}
