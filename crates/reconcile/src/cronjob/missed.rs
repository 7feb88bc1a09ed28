//! Which scheduled times have come and gone since the last one served.
//!
//! kubernetes/kubernetes pkg/controller/cronjob/utils.go: decides where the search begins and how exact it is.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

use super::schedule::Schedule;
use crate::meta;

/// What lies between the last time served and now.
pub struct Recent {
    /// Where the search began: the last time served, the CronJob's creation or the starting deadline.
    earliest: Timestamp,
    /// The latest time that has come; none also when some are missed but none is near enough to now.
    pub latest: Option<Timestamp>,
    /// About how many times have come: exact for a schedule of even steps.
    pub missed: i64,
}

impl Recent {
    /// The time after which the next one is waited for.
    pub fn go_on_from(&self, now: Timestamp) -> Timestamp {
        match (self.latest, self.missed) {
            (Some(latest), _) => latest,
            (None, 0) => self.earliest,
            (None, _) => now,
        }
    }
}

/// Looks for the latest time not after `now`; `deadline` says whether `startingDeadlineSeconds` bounds the search.
///
/// # Errors
/// The schedule has no two times, such as one for the 31st of February.
pub fn recent(
    cron: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
    deadline: bool,
) -> Result<Recent, &'static str> {
    let served = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
    let mut earliest = served.map_or(meta::created(&cron.metadata), |t| t.0);
    if let Some(most) = cron.spec.starting_deadline_seconds.filter(|_| deadline)
        // A deadline that reaches beyond the calendar bounds nothing.
        && let Ok(bound) = now.checked_sub(SignedDuration::from_secs(most))
    {
        earliest = earliest.max(bound);
    }
    let first = schedule.next(earliest, zone).ok_or(NEVER)?;
    if now < first {
        return Ok(Recent { earliest, latest: None, missed: 0 });
    }
    let second = schedule.next(first, zone).ok_or(NEVER)?;
    if now < second {
        return Ok(Recent { earliest, latest: Some(first), missed: 0 });
    }
    let step = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / step + 1;
    // Near the end of the gap the exact times are walked; before it, their number is an estimate.
    let near = first.as_second() + (missed - 2) * step;
    let mut at = Timestamp::from_second(near).map_err(|_| NEVER)?;
    let mut latest = None;
    while let Some(next) = schedule.next(at, zone).filter(|t| *t <= now) {
        latest = Some(next);
        at = next;
    }
    Ok(Recent { earliest, latest, missed })
}

const NEVER: &str = "time difference between two schedules is less than 1 second";
