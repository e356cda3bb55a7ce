//! Lengths of time against a reader written in other words: what both take is equally long, what one refuses the other does.

use std::time::Duration;

use lifeboat_runbooks::Period;
use proptest::prelude::*;

/// Units from large to small, with their milliseconds.
const UNITS: [(&str, u128); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A leap year, in milliseconds.
const LONGEST_MS: u128 = 366 * 86_400_000;

/// The same promise in other words: split at every border between letters and digits, then take the pieces two by two.
fn oracle(text: &str) -> Option<u128> {
    let mut pieces: Vec<String> = Vec::new();
    for letter in text.chars() {
        let joins =
            pieces.last().and_then(|piece| piece.chars().next()).is_some_and(|first| first.is_ascii_digit() == letter.is_ascii_digit());
        match pieces.last_mut().filter(|_| joins) {
            Some(piece) => piece.push(letter),
            None => pieces.push(letter.to_string()),
        }
    }
    if pieces.is_empty() || !pieces.len().is_multiple_of(2) {
        return None;
    }
    let mut total: u128 = 0;
    let mut smaller_than = usize::MAX;
    for pair in pieces.chunks(2) {
        let amount: u64 = if pair[0].bytes().all(|byte| byte.is_ascii_digit()) { pair[0].parse().ok()? } else { return None };
        let place = UNITS.iter().position(|(unit, _)| *unit == pair[1])?;
        if smaller_than != usize::MAX && place <= smaller_than {
            return None;
        }
        smaller_than = place;
        total += u128::from(amount) * UNITS[place].1;
    }
    (1..=LONGEST_MS).contains(&total).then_some(total)
}

fn agrees(text: &str) -> Result<(), TestCaseError> {
    match (Period::parse(text), oracle(text)) {
        (Ok(Period(length)), Some(ms)) => prop_assert_eq!(length.as_millis(), ms, "{:?}", text),
        (Err(why), None) => prop_assert!(why.contains("30s"), "a refusal says how to write it: {}", why),
        (got, wanted) => prop_assert!(false, "{text:?}: read as {got:?}, and meant {wanted:?}"),
    }
    Ok(())
}

/// Amounts at the borders of everything that is counted in.
fn amount() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..400_u64).prop_map(|n| n.to_string()),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        1 => (0..70_000_u64).prop_map(|n| format!("00{n}")),
        1 => prop::sample::select(vec!["31622400", "31622401", "31622400000", "31622400001", "366", "367", "8784", "18446744073709551615", "18446744073709551616", "213503982334601", ""])
            .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn amounts_and_units_in_any_order_are_read_as_written_or_refused(
        parts in prop::collection::vec((amount(), prop::sample::select(vec!["d", "h", "m", "s", "ms", "ms", "us", "M", "D", "w", "min", ""])), 0..6)
    ) {
        agrees(&parts.iter().map(|(amount, unit)| format!("{amount}{unit}")).collect::<String>())?;
    }

    #[test]
    fn units_from_large_to_small_are_added_up(parts in prop::collection::vec((0..5_usize, 0..50_u64), 1..5)) {
        let mut parts = parts;
        parts.sort_by_key(|(unit, _)| *unit);
        parts.dedup_by_key(|(unit, _)| *unit);
        let wanted: u128 = parts.iter().map(|(unit, amount)| u128::from(*amount) * UNITS[*unit].1).sum();
        let text: String = parts.iter().map(|(unit, amount)| format!("{amount}{}", UNITS[*unit].0)).collect();
        match Period::parse(&text) {
            Ok(Period(length)) => prop_assert_eq!(length.as_millis(), wanted),
            Err(why) => prop_assert!(wanted == 0, "{} is {} ms: {}", text, wanted, why),
        }
    }

    #[test]
    fn any_text_is_answered_as_by_the_other_reader(text in "[0-9dhms. -]{0,14}|\\PC{0,12}") {
        agrees(&text)?;
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_length(ms in prop_oneof![1..100_000_u64, 1..=31_622_400_000_u64]) {
        let period = Period(Duration::from_millis(ms));
        let text = period.to_string();
        prop_assert_eq!(Period::parse(&text), Ok(period));
        prop_assert_eq!(oracle(&text), Some(u128::from(ms)));
        // Through JSON as through YAML.
        let json = serde_json::to_string(&period).unwrap_or_default();
        prop_assert_eq!(serde_json::from_str::<Period>(&json).ok(), Some(period));
    }
}
