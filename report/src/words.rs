//! How figures, instants and foreign text are written for people. Which figures there are is decided in `judge`.
//!
//! Bounds are rounded outwards, so that a rounded interval still holds the truth. Text from outside (names, evidence, comments) is
//! made harmless here, once: control and direction characters become visible, so that nothing a peer answers can paint on a terminal
//! or reorder a line.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::report::Figure;

/// Longest piece of foreign text shown, in characters; more is cut with an ellipsis. JSON holds all of it.
pub(crate) const SHOWN_CHARS_MAX: usize = 400;

/// Whether a character may change how its surroundings are shown.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Foreign text on one line, harmless in a terminal.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\t' => out.push(' '),
            c if misleads(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Foreign text for HTML and SVG: harmless as content and inside double quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// At most so many characters.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// A found value as people read it: text without quotes, an object as `key: value` pairs, everything else as JSON.
pub(crate) fn value(found: &Value) -> String {
    match found {
        Value::String(text) => text.clone(),
        Value::Object(map) if !map.is_empty() && map.values().all(|v| !v.is_object() && !v.is_array()) => {
            map.iter().map(|(key, item)| format!("{key}: {}", value(item))).collect::<Vec<_>>().join(", ")
        }
        Value::Null => "unknown".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => found.to_string(),
    }
}

/// Which way a bound is rounded.
#[derive(Clone, Copy)]
enum Round {
    Down,
    Near,
    Up,
}

impl Round {
    fn to(self, value: f64, decimals: i32) -> f64 {
        let scale = 10f64.powi(decimals);
        // A hair of tolerance: 0.3 * 10 is a little more than 3 and must not become 4.
        match self {
            Self::Down => (value * scale + 1e-6).floor() / scale,
            Self::Near => (value * scale).round() / scale,
            Self::Up => (value * scale - 1e-6).ceil() / scale,
        }
    }
}

/// Number and unit, apart, so that an interval can share the unit.
fn parts(seconds: f64, round: Round) -> (String, &'static str) {
    if seconds < 1.0 {
        return (trim(round.to(seconds, 2)), " s");
    }
    if round.to(seconds, 1) < 60.0 {
        return (trim(round.to(seconds, 1)), " s");
    }
    let whole = round.to(seconds, 0);
    let (hours, minutes, rest) = ((whole / 3600.0).floor(), (whole % 3600.0 / 60.0).floor(), whole % 60.0);
    if hours > 0.0 {
        let minutes = round.to(whole % 3600.0 / 60.0, 0);
        return match minutes {
            60.0 => (format!("{} h", hours + 1.0), ""),
            0.0 => (format!("{hours} h"), ""),
            minutes => (format!("{hours} h {minutes:02} min"), ""),
        };
    }
    if rest == 0.0 { (format!("{minutes} min"), "") } else { (format!("{minutes} min {rest} s"), "") }
}

fn trim(value: f64) -> String {
    // Adding zero turns a negative zero, which rounding up can leave, into a plain one.
    let text = format!("{:.2}", value + 0.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A length of time, rounded to the nearest.
pub(crate) fn seconds(value: f64) -> String {
    let (number, unit) = parts(value.max(0.0), Round::Near);
    format!("{number}{unit}")
}

/// A length of time, or that it is unknown.
pub(crate) fn seconds_or_unknown(value: Option<f64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), seconds)
}

/// An upper bound on its own, rounded up.
pub(crate) fn at_most(value: f64) -> String {
    let (number, unit) = parts(value.max(0.0), Round::Up);
    format!("{number}{unit}")
}

/// An interval, rounded outwards: `7.2–8.1 s`, `at least 7.2 s`, `unknown`.
pub(crate) fn interval(figure: Figure) -> String {
    match (figure.seconds_min, figure.seconds_max) {
        (None, None) => "unknown".to_owned(),
        (Some(min), None) => {
            let (number, unit) = parts(min, Round::Down);
            format!("at least {number}{unit}")
        }
        (None, Some(max)) => format!("at most {}", at_most(max)),
        (Some(min), Some(max)) => {
            let (low, low_unit) = parts(min, Round::Down);
            let (high, high_unit) = parts(max, Round::Up);
            if low == high && low_unit == high_unit {
                format!("{low}{low_unit}")
            } else if low_unit == high_unit && !low_unit.is_empty() {
                format!("{low}–{high}{high_unit}")
            } else {
                format!("{low}{low_unit} – {high}{high_unit}")
            }
        }
    }
}

/// An amount of data, rounded up, in powers of 1000.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    for (size, unit) in UNITS {
        if count >= size {
            let tenths = count.div_ceil(size / 10);
            return if tenths.is_multiple_of(10) {
                format!("{} {unit}", tenths / 10)
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
    }
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// `23:41:07.123`, UTC.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// The time of day, with the day in front where it is not that of the reference.
pub(crate) fn instant(at: Timestamp, reference: Timestamp) -> String {
    if day(at) == day(reference) { time_of_day(at) } else { format!("{} {}", day(at), time_of_day(at)) }
}

/// `once`, `twice`, `3 times`.
pub(crate) fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

/// `2026-11-22`, UTC.
pub(crate) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// `1 attempt`, `3 attempts`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// `a, b and c`.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => format!("{} and {}", head.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "), last.as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(min: f64, max: f64) -> Figure {
        Figure { seconds_min: Some(min), seconds_max: Some(max) }
    }

    #[test]
    fn a_rounded_interval_still_holds_the_truth() {
        assert_eq!(interval(figure(7.29, 8.11)), "7.2–8.2 s");
        assert_eq!(interval(figure(0.0, 0.451)), "0–0.46 s");
        assert_eq!(interval(figure(0.3, 0.3)), "0.3 s");
        assert_eq!(interval(figure(59.94, 61.2)), "59.9 s – 1 min 2 s");
        assert_eq!(interval(figure(3599.0, 3661.0)), "59 min 59 s – 1 h 02 min");
        assert_eq!(interval(figure(0.0, 1e-6)), "0–0.01 s");
        assert_eq!(interval(figure(0.0, 0.0)), "0 s");
        assert_eq!(interval(figure(-0.0, 0.0)), "0 s");
    }

    #[test]
    fn unknown_is_never_written_as_zero() {
        assert_eq!(interval(Figure::default()), "unknown");
        assert_eq!(interval(Figure { seconds_min: Some(3.0), seconds_max: None }), "at least 3 s");
        assert_eq!(interval(Figure { seconds_min: None, seconds_max: Some(3.0) }), "at most 3 s");
        assert_eq!(seconds_or_unknown(None), "unknown");
        assert_eq!(value(&Value::Null), "unknown");
    }

    #[test]
    fn lengths_read_like_speech() {
        for (number, words) in
            [(0.0, "0 s"), (0.345, "0.35 s"), (5.0, "5 s"), (59.96, "1 min"), (300.0, "5 min"), (3600.0, "1 h"), (7384.0, "2 h 03 min")]
        {
            assert_eq!(seconds(number), words);
        }
        assert_eq!(
            (bytes(0), bytes(1), bytes(1001), bytes(2_000_000)),
            ("0 bytes".into(), "1 byte".into(), "1.1 kB".into(), "2 MB".into())
        );
    }

    #[test]
    fn characters_that_mislead_become_visible() {
        assert_eq!(clean("\u{1b}[2Jred\u{202e}txt\u{0}\n\u{200b}"), "\\u{1b}[2Jred\\u{202e}txt\\u{0} \\u{200b}");
        assert_eq!(escape("</script><b a='x' b=\"y\">&"), "&lt;/script&gt;&lt;b a=&#39;x&#39; b=&quot;y&quot;&gt;&amp;");
    }

    #[test]
    fn long_foreign_text_is_cut() {
        assert_eq!(clean(&"x".repeat(10_000)).chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
