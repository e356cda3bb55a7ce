//! Schedules: the five fields of cron, and the instant of the next slot in a time zone. Pure: the time comes as an argument. Which slots
//! were run or missed is the scheduler's.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Days that are looked through for the next slot: 29 February comes after 8 years at the latest (1896 to 1904, 2096 to 2104), and
/// every weekday of it after 40.
const DAYS_MAX: u32 = 41 * 366;

/// Longest text of the five fields, in bytes: lists of all minutes written out are shorter.
pub const CRON_BYTES_MAX: usize = 512;

/// A schedule that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// 0 is Sunday.
    weekdays: u64,
    /// How day of month and day of week go together.
    day: DayRule,
}

/// As in Vixie cron: where both fields of days are limited, either is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DayRule {
    Both,
    Either,
}

/// Fields that are no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronProblem {
    /// What is wrong, with the value in it.
    pub why: String,
    /// What to write instead.
    pub help: &'static str,
}

impl fmt::Display for CronProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for CronProblem {}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One of the five fields.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// Words for the numbers from `min` on.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, words: &[] },
    Field { name: "hour", min: 0, max: 23, words: &[] },
    Field { name: "day of month", min: 1, max: 31, words: &[] },
    Field { name: "month", min: 1, max: 12, words: &MONTHS },
    // 7 is Sunday too.
    Field { name: "day of week", min: 0, max: 7, words: &WEEKDAYS },
];

impl Cron {
    /// Reads minute, hour, day of month, month and day of week: `*`, numbers, ranges `1-5`, steps `*/15` and `10-40/10`, lists with `,`,
    /// and the English words of months and days by their first three letters. Where both kinds of day are limited, either is enough.
    ///
    /// # Errors
    /// What is wrong: too few or too many fields, a value out of range, a range that runs backwards, or a schedule that never comes
    /// (30 February).
    pub fn parse(text: &str) -> Result<Self, CronProblem> {
        const EXAMPLE: &str = "write minute, hour, day of month, month and day of week, for example \"0 4 * * SUN\"";
        let problem = |why: String| CronProblem { why, help: EXAMPLE };
        if text.len() > CRON_BYTES_MAX {
            return Err(problem(format!("the schedule has {} bytes; {CRON_BYTES_MAX} is the most", text.len())));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(problem(format!("a schedule has five fields, and this has {}", fields.len())));
        };
        let weekdays = FIELDS[4].read(weekday)?;
        let limited = |field: &str| !field.starts_with('*');
        let cron = Self {
            minutes: FIELDS[0].read(minute)?,
            hours: FIELDS[1].read(hour)?,
            days: FIELDS[2].read(day)?,
            months: FIELDS[3].read(month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            day: if limited(day) && limited(weekday) { DayRule::Either } else { DayRule::Both },
        };
        // A leap year has every date that there is, and weekdays come by all of them.
        let comes = (1..=12).any(|month| has(cron.months, month) && (1..=days_of(month)).any(|day| has(cron.days, day)));
        if cron.day == DayRule::Both && !comes {
            return Err(CronProblem {
                why: format!("the schedule {text:?} never comes: no such month has such a day"),
                help: "choose a day that the month has",
            });
        }
        Ok(cron)
    }

    /// The first slot after an instant. A wall time that a clock change leaves out is kept at the first instant after the gap; one that
    /// comes twice counts the first time. Several wall times inside one gap are one slot. `None` where there is none before the end of
    /// the calendar.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = zone.to_datetime(after);
        let mut date = from.date();
        for day in 0..DAYS_MAX {
            if self.takes(date) {
                // Wall times before this one are not after `after`: from walls to instants the order is kept.
                let first = if day == 0 { from.hour() } else { 0 };
                for hour in (first..24).filter(|hour| has(self.hours, *hour)) {
                    for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                        let slot = instant_of(date.at(hour, minute, 0, 0), zone)?;
                        if slot > after {
                            return Some(slot);
                        }
                    }
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The slots later than `after` and not later than `until`, in order, at most `most` of them: what was missed while nobody looked.
    #[must_use]
    pub fn slots_between(&self, after: Timestamp, until: Timestamp, zone: &TimeZone, most: usize) -> Vec<Timestamp> {
        let mut found = Vec::new();
        let mut here = after;
        while found.len() < most {
            match self.next_after(here, zone) {
                Some(slot) if slot <= until => {
                    found.push(slot);
                    here = slot;
                }
                Some(_) | None => break,
            }
        }
        found
    }

    fn takes(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let (by_day, by_weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        has(self.months, date.month())
            && match self.day {
                DayRule::Both => by_day && by_weekday,
                DayRule::Either => by_day || by_weekday,
            }
    }
}

/// The instant of a wall time.
fn instant_of(wall: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let at = zone.to_ambiguous_timestamp(wall);
    match at.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => at.earlier().ok(),
        // Read with the offset from before the gap, the wall time lies after it by as much as into it: the gap's end is the change itself.
        AmbiguousOffset::Gap { .. } => {
            let inside = at.later().ok()?;
            zone.preceding(inside.checked_add(SignedDuration::from_nanos(1)).ok()?).next().map(|change| change.timestamp())
        }
    }
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set >> value & 1 == 1)
}

/// Days of a month in a leap year.
fn days_of(month: i8) -> i8 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Field {
    /// A field as a set of bits.
    fn read(&self, text: &str) -> Result<u64, CronProblem> {
        let mut set = 0;
        for part in text.split(',') {
            set |= self.part(part, text)?;
        }
        Ok(set)
    }

    fn part(&self, part: &str, whole: &str) -> Result<u64, CronProblem> {
        let wrong = |why: String| CronProblem {
            why: format!("{} {whole:?}: {why}", self.name),
            help: "use numbers, names of days and months, and * , - /",
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.min, if self.max == 7 { 6 } else { self.max }),
            Some((from, to)) => (self.value(from).map_err(&wrong)?, self.value(to).map_err(&wrong)?),
            None => {
                let one = self.value(range).map_err(&wrong)?;
                // `5/15` means from 5 on, as in Vixie cron.
                (one, if step.is_some() { self.max } else { one })
            }
        };
        if from > to {
            return Err(wrong(format!("the range {range:?} runs backwards")));
        }
        let step = match step.map(str::parse::<u8>) {
            None => 1,
            Some(Ok(step)) if step > 0 => step,
            Some(Ok(_) | Err(_)) => return Err(wrong(format!("{part:?} has no step; a step is a whole number from 1"))),
        };
        Ok((from..=to).step_by(usize::from(step)).fold(0, |set, value| set | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        if let Some(place) = self.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(self.min + u8::try_from(place).unwrap_or(0));
        }
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u8>() {
            Ok(value) if digits && (self.min..=self.max).contains(&value) => Ok(value),
            Ok(_) | Err(_) => Err(format!("{text:?} is not from {} to {}", self.min, self.max)),
        }
    }
}
