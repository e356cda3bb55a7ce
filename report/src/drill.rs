//! A drill's own judgement, line by line, and what a run was predicted to take: as data and as text. The figures come from `judge`.

use serde::{Deserialize, Serialize};

use lifeboat_engine::census::{Comparison, Found, Listing};

use crate::report::Report;
use crate::words;

/// Whether a drill passed, with the evidence of each line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// Whether every line holds. What was not measured does not hold.
    pub passed: bool,
    /// What a drill has to show.
    pub lines: Vec<DrillLine>,
    /// What there was before and after; absent where the drill could change nothing, or ended before it was listed.
    pub clean_up: Option<CleanUp>,
}

/// One thing that a drill has to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillLine {
    /// `steps`, `verified`, `rto`, `rpo` or `clean_up`.
    pub what: String,
    /// Whether it holds; `null` where it was not measured.
    pub holds: Option<bool>,
    /// The evidence, in a sentence.
    pub evidence: String,
}

/// What the peers listed before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CleanUp {
    /// Before the first step.
    pub before: Vec<Listing>,
    /// After everything was put back.
    pub after: Vec<Listing>,
    /// Both beside each other.
    pub compared: Comparison,
}

/// What a run was expected to take when it was admitted, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// With the middle timings of earlier runs, waits for people left out.
    pub p50_seconds: f64,
    /// With those that nine of ten earlier runs stayed within.
    pub p90_seconds: f64,
    /// Earlier runs that it is from.
    pub runs: u64,
    /// Steps that were never timed and count as nothing above.
    pub never_timed: u64,
    /// What the main part took, waits for people left out; absent where it did not come to its end.
    pub actual_seconds: Option<f64>,
    /// How much longer than the middle figure that is; negative where it was quicker.
    pub error_seconds: Option<f64>,
}

impl CleanUp {
    fn things(listings: &[Listing]) -> usize {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for listing in listings {
            if let Found::Things(things) = &listing.found {
                names.extend(things.iter().map(|thing| (listing.resource.as_str(), thing.name.as_str())));
            }
        }
        names.sort_unstable();
        names.dedup();
        names.len()
    }
}

/// How a drill went, for a terminal: pass or fail, line by line, then what is left behind. Empty for a run that is no drill.
#[must_use]
pub fn drill_text(report: &Report) -> String {
    let Some(drill) = &report.drill else { return String::new() };
    let mut text = format!("{}\n", if drill.passed { "DRILL PASSED" } else { "DRILL FAILED" });
    for line in &drill.lines {
        let sign = match line.holds {
            Some(true) => '✓',
            Some(false) => '✗',
            None => '?',
        };
        text.push_str(&format!("  {sign} {:<10} {}\n", spoken(&line.what, report), words::clean(&line.evidence)));
    }
    if let Some(clean_up) = &drill.clean_up {
        text.push_str(&listed(clean_up));
    }
    text
}

fn spoken(what: &str, report: &Report) -> String {
    let promised = |name: &str, seconds: Option<f64>| seconds.map_or_else(|| name.to_owned(), |s| format!("{name} {}", words::seconds(s)));
    match what {
        "rto" => promised("RTO", report.objectives.rto_seconds),
        "rpo" => promised("RPO", report.objectives.rpo_seconds),
        "clean_up" => "clean-up".to_owned(),
        other => other.to_owned(),
    }
}

/// Differences listed before the rest is counted.
const ROWS_MAX: usize = 40;

fn listed(clean_up: &CleanUp) -> String {
    let compared = &clean_up.compared;
    let (before, after) = (CleanUp::things(&clean_up.before), CleanUp::things(&clean_up.after));
    let mut text = format!("\n  before: {before} listed · after: {after} listed · as they were: {}\n", compared.same);
    if compared.differences.is_empty() {
        text.push_str("  left behind: nothing that is listed\n");
    } else {
        text.push_str("  left behind or changed:\n");
    }
    let there = |state: &Option<String>| state.as_deref().map_or("not there".to_owned(), words::clean);
    for found in compared.differences.iter().take(ROWS_MAX) {
        text.push_str(&format!(
            "    {} of {}\n      before: {}\n      after:  {}\n",
            words::clean(&found.thing),
            words::clean(&found.resource),
            there(&found.before),
            there(&found.after)
        ));
    }
    if compared.differences.len() > ROWS_MAX {
        text.push_str(&format!("    … and {} more\n", compared.differences.len() - ROWS_MAX));
    }
    for untold in &compared.failed {
        text.push_str(&format!("  not told: {} ({}): {}\n", untold.resource, untold.step_type, words::clean(&untold.why)));
    }
    for untold in &compared.unlisted {
        text.push_str(&format!("  only its undo speaks for {}: {} cannot list what it leaves\n", untold.resource, untold.step_type));
    }
    text
}

/// What a run was expected to take beside what it took, in a sentence.
#[must_use]
pub fn prediction_text(prediction: &Prediction) -> String {
    let mut text = format!(
        "predicted {} (p90 {}) from {}",
        words::seconds(prediction.p50_seconds),
        words::seconds(prediction.p90_seconds),
        words::count(prediction.runs, "earlier run", "earlier runs")
    );
    if prediction.never_timed > 0 {
        text.push_str(&format!(", {} never timed", words::count(prediction.never_timed, "step", "steps")));
    }
    match (prediction.actual_seconds, prediction.error_seconds) {
        (Some(actual), Some(error)) => {
            let than = if error >= 0.0 { "longer" } else { "shorter" };
            text.push_str(&format!("; took {}, {} {than} than predicted", words::seconds(actual), words::seconds(error.abs())));
        }
        (_, _) => text.push_str("; the main part did not come to its end by itself, so the error is unknown"),
    }
    text
}
