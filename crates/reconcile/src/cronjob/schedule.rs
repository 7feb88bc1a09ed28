//! The times of a cron expression, as robfig/cron counts them.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use kinds::batch::cron::{self, Fields};

/// When something happens.
#[derive(Debug)]
pub enum Schedule {
    Every(SignedDuration),
    Spec(Box<Spec>),
}

/// The fields of a schedule, applied to the clocks of a zone.
#[derive(Debug)]
pub struct Spec(Fields);

/// How far ahead a date is looked for: 29 February on a given weekday comes within 40 years, but upstream gives up
/// after five.
const YEARS_AHEAD_MAX: i16 = 5;

/// Reads an expression.
pub fn parse(text: &str) -> Result<Schedule, String> {
    Ok(match cron::parse(text)? {
        cron::Schedule::Every(every) => {
            let seconds = SignedDuration::from_nanos(every.nanos).as_secs().max(1);
            Schedule::Every(SignedDuration::from_secs(seconds))
        }
        cron::Schedule::Fields(fields) => Schedule::Spec(Box::new(Spec(fields))),
    })
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
        let hours = (0..24).filter(|h| self.0.hours >> h & 1 == 1);
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
        (0..60).filter(|m| self.0.minutes >> m & 1 == 1).map(move |minute| date.at(hour, minute, 0, 0))
    }

    fn takes(&self, date: Date) -> bool {
        let day = self.0.days >> date.day() & 1 == 1;
        let weekday = self.0.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        let fits = if self.0.both_days { day && weekday } else { day || weekday };
        self.0.months >> date.month() & 1 == 1 && fits
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
