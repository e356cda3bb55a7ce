//! Slots of schedules against an oracle that walks through every minute, in many time zones and through their clock changes, and against
//! the `cron` crate where there are none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::str::FromStr as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use lifeboat_runbooks::schedule::Cron;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn next(cron: &str, after: &str, zone_name: &str) -> String {
    Cron::parse(cron).unwrap().next_after(at(after), &zone(zone_name)).unwrap().to_string()
}

#[test]
fn clock_changes_lose_no_slot_and_double_none() {
    for (cron, zone, after, slots) in [
        // Berlin, 29 March 2026: 02:00 becomes 03:00. The wall time 02:30 is kept at the first instant after it.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        // All wall times inside the gap are one slot, which is also that of 03:00.
        ("*/15 2-3 * * *", "Europe/Berlin", "2026-03-29T00:59:00Z", ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"]),
        // Berlin, 25 October 2026: 03:00 becomes 02:00. 02:30 comes twice and counts the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", ["2026-10-26T01:30:00Z", "2026-10-27T01:30:00Z"]),
        // Lord Howe moves by half an hour.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T10:00:00Z", ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]),
        // Cairo, 24 April 2026: midnight does not exist.
        ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", ["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"]),
        // Samoa had no 30 December 2011.
        ("0 12 * * *", "Pacific/Apia", "2011-12-30T00:00:00Z", ["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]),
        // Troll moves by two hours.
        ("30 1 * * *", "Antarctica/Troll", "2026-03-28T12:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-29T23:30:00Z"]),
    ] {
        let cron_read = Cron::parse(cron).unwrap();
        assert_eq!(next(cron, after, zone), slots[0], "{cron} in {zone} after {after}");
        let second = cron_read.next_after(at(slots[0]), &self::zone(zone)).unwrap();
        assert_eq!(second.to_string(), slots[1], "{cron} in {zone} after {}", slots[0]);
    }
}

#[test]
fn fields_are_read_as_vixie_cron_reads_them() {
    for (cron, after, wanted) in [
        ("*/5 * * * *", "2026-11-22T00:03:00Z", "2026-11-22T00:05:00Z"),
        ("0 4 * * SUN", "2026-11-23T00:00:00Z", "2026-11-29T04:00:00Z"),
        ("0 4 * * 7", "2026-11-23T00:00:00Z", "2026-11-29T04:00:00Z"),
        ("0 4 * * 5-7", "2026-11-28T04:00:00Z", "2026-11-29T04:00:00Z"),
        ("0 4 * * mon-fri", "2026-11-27T04:00:00Z", "2026-11-30T04:00:00Z"),
        // Both days limited: either is enough.
        ("0 0 13 * FRI", "2026-11-22T00:00:00Z", "2026-11-27T00:00:00Z"),
        ("0 0 */10 * FRI", "2026-11-22T00:00:00Z", "2026-12-11T00:00:00Z"),
        ("5/20 * * * *", "2026-11-22T00:05:00Z", "2026-11-22T00:25:00Z"),
        ("0 0 29 FEB *", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
    ] {
        assert_eq!(next(cron, after, "UTC"), wanted, "{cron} after {after}");
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_the_field_in_the_words() {
    for (cron, says) in [
        ("", "has 0"),
        ("* * * *", "has 4"),
        ("* * * * * *", "has 6"),
        ("@daily", "has 1"),
        ("60 * * * *", "minute \"60\""),
        ("* 24 * * *", "hour \"24\""),
        ("* * 0 * *", "day of month \"0\""),
        ("* * * 13 *", "month \"13\""),
        ("* * * * 8", "day of week \"8\""),
        ("*/0 * * * *", "has no step"),
        ("*/x * * * *", "has no step"),
        ("5-1 * * * *", "runs backwards"),
        ("1,,2 * * * *", "\"\" is not from 0 to 59"),
        ("* * L * *", "\"L\""),
        ("* * 15W * *", "\"15W\""),
        ("* * * * 5#2", "\"5#2\""),
        ("+1 * * * *", "\"+1\""),
        ("001 * * * *", "\"001\""),
        ("0 3 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
    ] {
        let problem = Cron::parse(cron).unwrap_err();
        assert!(problem.why.contains(says), "{cron:?}: {problem}");
    }
    assert!(Cron::parse(&format!("{} * * * *", "1,".repeat(400))).unwrap_err().why.contains("512"));
    // 30 February never comes, and every Friday does.
    assert!(Cron::parse("0 3 30 2 FRI").is_ok());
}

/// The promise in other words. Minute by minute of real time: the wall clocks passed since the minute before are those shown now, and
/// those that were leapt over; one that was shown or leapt over before does not count again.
fn oracle(cron: &str, zone: &TimeZone, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
    let fields: Vec<BTreeSet<i64>> =
        cron.split(' ').zip([(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]).map(|(field, range)| set(field, range)).collect();
    let limited = |place: usize| !cron.split(' ').nth(place).unwrap().starts_with('*');
    let takes = |wall: jiff::civil::DateTime| {
        let day = fields[2].contains(&i64::from(wall.day()));
        let weekday = fields[4].contains(&i64::from(wall.weekday().to_sunday_zero_offset()));
        let days = if limited(2) && limited(4) { day || weekday } else { day && weekday };
        days && fields[0].contains(&i64::from(wall.minute()))
            && fields[1].contains(&i64::from(wall.hour()))
            && fields[3].contains(&i64::from(wall.month()))
    };
    let mut latest = zone.to_datetime(from);
    let mut slots = Vec::new();
    for minute in 1..=minutes {
        let now = from.checked_add(SignedDuration::from_mins(minute)).unwrap();
        let shown = zone.to_datetime(now);
        let mut due = false;
        while latest < shown {
            latest = latest.checked_add(1.minute()).unwrap();
            due |= takes(latest);
        }
        if due {
            slots.push(now);
        }
    }
    slots
}

fn set(field: &str, (min, max): (i64, i64)) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        found.extend((from..=to).step_by(step));
    }
    found
}

/// Zones whose offsets are whole minutes; among them half hours, gaps at midnight, two hours, and changes in Ramadan.
const ZONES: [&str; 24] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Lisbon",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/St_Johns",
    "America/Havana",
    "America/Godthab",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Asia/Tehran",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Easter",
    "Pacific/Kiritimati",
];

const CRONS: [&str; 12] = [
    "30 2 * * *",
    "0 0 * * *",
    "*/15 * * * *",
    "0 * * * *",
    "15 1-3 * * *",
    "59 23 * * *",
    "30 0 * * 0",
    "*/7 2 * * *",
    "45 1 * * 6,0",
    "0 3 1 * 5",
    "5 0-4/2 */2 * *",
    "10,40 2,3 * 3,4,10,11 *",
];

#[test]
fn every_clock_change_of_many_zones_agrees_with_an_oracle_that_walks_through_every_minute() {
    let mut changes = 0;
    for (number, name) in ZONES.iter().enumerate() {
        let zone = zone(name);
        let from = at("2000-01-01T00:00:00Z");
        let all: Vec<Timestamp> = zone
            .following(from)
            .take_while(|change| change.timestamp() < at("2040-01-01T00:00:00Z"))
            .map(|change| change.timestamp())
            .collect();
        // A third of the changes with two schedules each: all of it takes minutes in a test build.
        for (place, change) in all.iter().enumerate().filter(|(place, _)| place % 3 == number % 3) {
            changes += 1;
            for cron in [CRONS[place % CRONS.len()], CRONS[(place / 2 + number) % CRONS.len()]] {
                let begin = change.checked_sub(SignedDuration::from_hours(5)).unwrap();
                let begin = Timestamp::from_second(begin.as_second() / 60 * 60).unwrap();
                let wanted = oracle(cron, &zone, begin, 32 * 60);
                let until = begin.checked_add(SignedDuration::from_mins(32 * 60)).unwrap();
                let got = Cron::parse(cron).unwrap().slots_between(begin, until, &zone, 10_000);
                assert_eq!(got, wanted, "{cron} in {name} around {change}");
            }
        }
    }
    assert!(changes > 350, "only {changes} clock changes were tried");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_clock_changes_the_cron_crate_agrees(
        minute in prop::sample::select(vec!["*", "0", "*/7", "5,50", "10-40/10"]),
        hour in prop::sample::select(vec!["*", "3", "*/5", "1,23", "8-17"]),
        day in prop::sample::select(vec!["*", "1", "31", "*/3", "13-20"]),
        month in prop::sample::select(vec!["*", "2", "*/4", "6-8", "1,12"]),
        weekday in prop::sample::select(vec!["*", "SUN", "MON-FRI", "TUE,SAT"]),
        from in 1_600_000_000_i64..2_000_000_000,
    ) {
        // That crate asks for both days where both are limited, and has seconds and Sundays as 1.
        prop_assume!(day.starts_with('*') || weekday == "*");
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        let ours = Cron::parse(&text);
        let theirs = cron::Schedule::from_str(&format!("0 {text}")).unwrap();
        let begin = chrono::DateTime::from_timestamp(from, 0).unwrap();
        let wanted: Vec<i64> = theirs.after(&begin).take(5).map(|slot| slot.timestamp()).collect();
        let Ok(ours) = ours else {
            // What never comes is refused when it is read.
            prop_assert!(wanted.is_empty(), "{text}");
            return Ok(());
        };
        let mut here = Timestamp::from_second(from).unwrap();
        for slot in wanted {
            here = ours.next_after(here, &TimeZone::UTC).unwrap();
            prop_assert_eq!(here.as_second(), slot, "{}", text);
        }
    }

    #[test]
    fn any_text_is_answered(text in "[0-9A-Za-z*,/#@ -]{0,30}|\\PC{0,20}") {
        if let Ok(cron) = Cron::parse(&text) {
            let _ = cron.next_after(Timestamp::MAX, &TimeZone::UTC);
            prop_assert!(cron.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_some(), "{text:?} is a schedule that never comes");
        }
    }
}
