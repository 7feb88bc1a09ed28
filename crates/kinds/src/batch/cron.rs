//! Cron schedules: five fields with names, ranges and steps, `@daily` and `@every 1h`; and what is wrong with a text that is none.
//!
//! `robfig/cron/v3 parser.go`, which upstream parses with: the grammar and the texts.

use machinery::duration::Duration;

/// Smallest and largest value of a field, and the names its values may have.
struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Bounds; 5] = [
    Bounds { low: 0, high: 59, names: &[] },
    Bounds { low: 0, high: 23, names: &[] },
    Bounds { low: 1, high: 31, names: &[] },
    Bounds { low: 1, high: 12, names: MONTHS },
    Bounds { low: 0, high: 6, names: DAYS },
];

/// A schedule that was read.
#[derive(Debug)]
pub enum Schedule {
    /// `@every`: the time from one to the next.
    Every(Duration),
    Fields(Fields),
}

/// The values that each field takes, as bits.
#[derive(Debug)]
pub struct Fields {
    pub minutes: u64,
    pub hours: u64,
    pub days: u64,
    pub months: u64,
    /// From Sunday, which is 0.
    pub weekdays: u64,
    /// `*` in the day or in the weekday: both must fit then, otherwise either.
    pub both_days: bool,
}

/// What is wrong with a schedule; none when it is one. A time zone before it is passed over: it has a complaint of its own.
pub fn complaint(schedule: &str) -> Option<String> {
    let mut text = schedule;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        text = text.split_once(' ').map_or("", |(_, rest)| rest.trim());
        if text.is_empty() {
            return Some(count_complaint(&[]));
        }
    }
    parse(text).err()
}

fn count_complaint(fields: &[&str]) -> String {
    format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "))
}

/// Reads a schedule without a time zone.
///
/// # Errors
/// What is wrong with it, in the words of upstream's parser.
pub fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if let Some(every) = text.strip_prefix("@every ") {
        let every = Duration::parse(every).map_err(|error| format!("failed to parse duration {text}: {error}"))?;
        return Ok(Schedule::Every(every));
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
    if fields.len() != FIELDS.len() {
        return Err(count_complaint(&fields));
    }
    let mut sets = [(0, false); FIELDS.len()];
    for ((set, field), bounds) in sets.iter_mut().zip(fields).zip(&FIELDS) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            let (bits, star) = range(part, bounds)?;
            *set = (set.0 | bits, set.1 || star);
        }
    }
    let [(minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday)] = sets;
    Ok(Schedule::Fields(Fields { minutes, hours, days, months, weekdays, both_days: any_day || any_weekday }))
}

fn number(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"));
    }
    match text.parse::<i64>() {
        Ok(value) if value < 0 => Err(format!("negative number ({value}) not allowed: {text}")),
        Ok(value) => Ok(u32::try_from(value).unwrap_or(u32::MAX)),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: value out of range")),
    }
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, String> {
    match bounds.names.iter().zip(bounds.low..).find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, value)) => Ok(value),
        None => number(text),
    }
}

/// `*`, `3`, `1-5`, `*/2`, `1-5/2`, `3/5`: the bits, and whether it is a star without a step.
fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let halves: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = halves[0].split('-').collect();
    let (low, mut high) = match ends.as_slice() {
        ["*" | "?", ..] => (bounds.low, bounds.high),
        [one] => {
            let value = number_or_name(one, bounds)?;
            (value, value)
        }
        [low, high] => (number_or_name(low, bounds)?, number_or_name(high, bounds)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match halves.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                high = bounds.high;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
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
    Ok((bits, matches!(ends[0], "*" | "?") && step == 1))
}
