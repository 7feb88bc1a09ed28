//! Cron expressions as robfig/cron reads them: five fields, names, steps, `@daily` and `@every 1h`.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// When something happens.
#[derive(Debug)]
pub enum Schedule {
    Every(SignedDuration),
    Spec(Box<Spec>),
}

/// Bits of the values a field takes.
#[derive(Debug)]
pub struct Spec {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// `*` in the day or in the weekday: both must fit then, otherwise either.
    both_days: bool,
}

/// How far ahead a date is looked for: 29 February on a given weekday comes within 40 years, but upstream gives up
/// after five.
const YEARS_AHEAD_MAX: i16 = 5;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 5] = [
    Bounds { low: 0, high: 59, names: &[] },
    Bounds { low: 0, high: 23, names: &[] },
    Bounds { low: 1, high: 31, names: &[] },
    Bounds { low: 1, high: 12, names: MONTHS },
    Bounds { low: 0, high: 6, names: WEEKDAYS },
];

/// Reads an expression.
pub fn parse(text: &str) -> Result<Schedule, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("empty spec string".into());
    }
    if let Some(every) = text.strip_prefix("@every ") {
        let parsed = machinery::duration::Duration::parse(every)
            .map_err(|error| format!("failed to parse duration {text}: {error}"))?;
        let seconds = SignedDuration::from_nanos(parsed.nanos).as_secs().max(1);
        return Ok(Schedule::Every(SignedDuration::from_secs(seconds)));
    }
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
        other => other,
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let mut sets = [(0, false); 5];
    for (at, (field, bounds)) in fields.iter().zip(&BOUNDS).enumerate() {
        for part in field.split(',') {
            let (bits, star) = range(part, bounds)?;
            sets[at] = (sets[at].0 | bits, sets[at].1 || star);
        }
    }
    let [minutes, hours, days, months, weekdays] = sets;
    Ok(Schedule::Spec(Box::new(Spec {
        minutes: minutes.0,
        hours: hours.0,
        days: days.0,
        months: months.0,
        weekdays: weekdays.0,
        both_days: days.1 || weekdays.1,
    })))
}

/// `*`, `3`, `1-5`, `*/2`, `1-5/2`, `3/5`; true if it is a star without a step.
fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (span, step) = match text.split_once('/') {
        None => (text, None),
        Some((span, step)) if !step.contains('/') => (span, Some(number(step, &[])?)),
        Some(_) => return Err(format!("too many slashes: {text}")),
    };
    let mut star = false;
    let (low, mut high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => {
            star = true;
            (bounds.low, bounds.high)
        }
        None => {
            let low = number(span, bounds.names)?;
            (low, low)
        }
        Some((_, high)) if high.contains('-') => return Err(format!("too many hyphens: {text}")),
        Some((low, high)) => (number(low, bounds.names)?, number(high, bounds.names)?),
    };
    if step.is_some() && !span.contains('-') {
        high = bounds.high;
    }
    let step = step.unwrap_or(1);
    if step > 1 {
        star = false;
    }
    if low < bounds.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", bounds.low));
    }
    if high > bounds.high {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", bounds.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let bits = (low..=high).step_by(step as usize).fold(0, |bits, at| bits | 1 << at);
    Ok((bits, star))
}

fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = names.iter().position(|name| *name == lower) {
        return Ok(at as u32 + u32::from(names.len() == 12));
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
}

impl Schedule {
    /// The first time after `after`; none if there is none within five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(every) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*every).ok()
            }
            Schedule::Spec(spec) => spec.next(after, zone),
        }
    }
}

impl Spec {
    /// The first whole minute after `after` that the zone's clocks show as the fields want it. A time of day that the
    /// clocks skip does not come that day, one they show twice comes twice.
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        let last_year = date.year().checked_add(YEARS_AHEAD_MAX)?;
        while date.year() <= last_year {
            if self.takes(date)
                && let Some(at) = self.next_within(date, after, zone)
            {
                return Some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The first such minute of one date.
    fn next_within(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let hours = (0..24).filter(|h| self.hours >> h & 1 == 1);
        let mut first: Option<Timestamp> = None;
        for local in hours.flat_map(|h| self.minutes_of(date, h)) {
            let shown = zone.to_ambiguous_timestamp(local);
            let (times, once) = match shown.offset() {
                AmbiguousOffset::Unambiguous { offset } => ([offset.to_timestamp(local).ok(), None], true),
                AmbiguousOffset::Fold { before, after } => {
                    ([before.to_timestamp(local).ok(), after.to_timestamp(local).ok()], false)
                }
                AmbiguousOffset::Gap { .. } => continue,
            };
            let next = times.into_iter().flatten().filter(|at| *at > after).min();
            first = [first, next].into_iter().flatten().min();
            // What follows a time shown once comes after it; among times shown twice the order is not that of the clock.
            if once && next.is_some() {
                break;
            }
        }
        first
    }

    fn minutes_of(&self, date: Date, hour: i8) -> impl Iterator<Item = DateTime> {
        (0..60).filter(|m| self.minutes >> m & 1 == 1).map(move |minute| date.at(hour, minute, 0, 0))
    }

    fn takes(&self, date: Date) -> bool {
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        let fits = if self.both_days { day && weekday } else { day || weekday };
        self.months >> date.month() & 1 == 1 && fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str, from: &str, zone: &str, count: usize) -> Vec<String> {
        let schedule = parse(text).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        (0..count)
            .map(|_| {
                at = schedule.next(at, &zone).unwrap();
                at.to_string()
            })
            .collect()
    }

    #[test]
    fn fields_steps_and_names() {
        assert_eq!(
            runs("*/20 9-10 * * mon-fri", "2026-11-20T10:30:00Z", "UTC", 3),
            ["2026-11-20T10:40:00Z", "2026-11-23T09:00:00Z", "2026-11-23T09:20:00Z"]
        );
        assert_eq!(runs("@monthly", "2026-12-05T00:00:00Z", "UTC", 1), ["2027-01-01T00:00:00Z"]);
        assert_eq!(runs("@every 90s", "2026-12-05T00:00:00.5Z", "UTC", 1), ["2026-12-05T00:01:30Z"]);
        assert_eq!(runs("5/25 * * * *", "2026-12-05T00:00:00Z", "UTC", 3).len(), 3);
    }

    #[test]
    fn a_day_or_a_weekday_when_both_are_given() {
        assert_eq!(
            runs("0 0 13 * fri", "2026-11-12T12:00:00Z", "UTC", 3),
            ["2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"]
        );
    }

    #[test]
    fn local_time_of_the_zone_and_hours_that_do_not_exist() {
        assert_eq!(runs("0 8 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", 1), ["2026-07-01T06:00:00Z"]);
        assert_eq!(runs("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin", 1), ["2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn an_hour_shown_twice_counts_twice() {
        assert_eq!(
            runs("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Berlin", 3),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            runs("*/30 1-2 * * *", "2026-11-01T05:00:00Z", "America/New_York", 5),
            [
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:00:00Z",
                "2026-11-01T06:30:00Z",
                "2026-11-01T07:00:00Z",
                "2026-11-01T07:30:00Z"
            ]
        );
    }

    #[test]
    fn zones_are_known_where_the_host_has_none() {
        let bundled = jiff::tz::TimeZoneDatabase::bundled();
        assert!(bundled.get("Europe/Berlin").is_ok() && bundled.get("America/New_York").is_ok());
    }

    #[test]
    fn a_date_that_never_comes() {
        let never = parse("59 23 31 2 *").unwrap();
        assert_eq!(never.next("2026-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
    }

    #[test]
    fn what_is_refused() {
        for text in ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "@never", "a * * * *"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
