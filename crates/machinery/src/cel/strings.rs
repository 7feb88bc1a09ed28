//! Functions of strings, counted in characters.

use super::CelError;
use super::eval::{fail, no_overload};
use super::value::Val;
use crate::schema::re2;

type Outcome = Result<Val, CelError>;

fn regex(pattern: &str) -> Result<regex::Regex, CelError> {
    re2::compile(pattern).map_err(CelError::Runtime)
}

fn int(value: usize) -> Val {
    Val::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn texts(items: impl IntoIterator<Item = impl AsRef<str>>) -> Val {
    Val::list(items.into_iter().map(|item| Val::text(item.as_ref())).collect())
}

/// A function of a string.
pub(super) fn of_text(text: &str, name: &str, args: &[Val]) -> Outcome {
    match (name, args) {
        ("startsWith", [Val::Text(part)]) => Ok(Val::Bool(text.starts_with(&**part))),
        ("endsWith", [Val::Text(part)]) => Ok(Val::Bool(text.ends_with(&**part))),
        ("contains", [Val::Text(part)]) => Ok(Val::Bool(text.contains(&**part))),
        ("matches", [Val::Text(pattern)]) => Ok(Val::Bool(regex(pattern)?.is_match(text))),
        ("find", [Val::Text(pattern)]) => Ok(Val::text(regex(pattern)?.find(text).map_or("", |found| found.as_str()))),
        ("findAll", [Val::Text(pattern)]) => Ok(texts(regex(pattern)?.find_iter(text).map(|found| found.as_str()))),
        ("findAll", [Val::Text(pattern), Val::Int(count)]) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            Ok(texts(regex(pattern)?.find_iter(text).take(count).map(|found| found.as_str())))
        }
        ("format", [Val::List(items)]) => format(text, items),
        ("lowerAscii", []) => Ok(Val::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Val::text(text.to_ascii_uppercase())),
        ("trim", []) => Ok(Val::text(text.trim())),
        ("reverse", []) => Ok(Val::text(text.chars().rev().collect::<String>())),
        ("charAt", [Val::Int(at)]) => char_at(text, *at),
        ("substring", [Val::Int(from)]) => substring(text, *from, None),
        ("substring", [Val::Int(from), Val::Int(to)]) => substring(text, *from, Some(*to)),
        ("indexOf" | "lastIndexOf", [Val::Text(part)]) => {
            let found = if name == "indexOf" { text.find(&**part) } else { text.rfind(&**part) };
            Ok(found.map_or(Val::Int(-1), |at| int(text[..at].chars().count())))
        }
        ("replace", [Val::Text(from), Val::Text(to)]) => Ok(Val::text(text.replace(&**from, to))),
        ("replace", [Val::Text(from), Val::Text(to), Val::Int(count)]) => {
            Ok(Val::text(match usize::try_from(*count) {
                Ok(count) => text.replacen(&**from, to, count),
                Err(_) => text.replace(&**from, to),
            }))
        }
        ("split", [Val::Text(by)]) => Ok(split(text, by, -1)),
        ("split", [Val::Text(by), Val::Int(count)]) => Ok(split(text, by, *count)),
        _ => no_overload(),
    }
}

/// `'%s has %d'.format(['x', 1])`: the clauses of CEL's string extension.
/// `github.com/google/cel-go ext/formatting.go`.
fn format(text: &str, items: &[Val]) -> Outcome {
    let mut out = String::new();
    let (mut rest, mut items) = (text.chars(), items.iter().enumerate());
    while let Some(next) = rest.next() {
        if next != '%' {
            out.push(next);
            continue;
        }
        let mut clause = rest.next();
        if clause == Some('%') {
            out.push('%');
            continue;
        }
        let mut precision = None;
        if clause == Some('.') {
            let digits: String = rest.as_str().chars().take_while(char::is_ascii_digit).collect();
            rest = rest.as_str()[digits.len()..].chars();
            precision = digits.parse::<usize>().ok();
            clause = rest.next();
        }
        let Some((at, item)) = items.next() else {
            return fail(format!("could not parse formatting clause: index {} out of range", count(text)));
        };
        match clause.and_then(|clause| shown(clause, precision, item)) {
            Some(shown) => out.push_str(&shown),
            None => return fail(format!("error during formatting: could not format argument {at}")),
        }
    }
    Ok(Val::text(out))
}

fn count(text: &str) -> usize {
    text.matches('%').count().saturating_sub(1)
}

#[allow(clippy::cast_precision_loss, reason = "a float was asked for")]
fn shown(clause: char, precision: Option<usize>, item: &Val) -> Option<String> {
    let float = match item {
        Val::Double(value) => Some(*value),
        Val::Int(value) => Some(*value as f64),
        Val::Uint(value) => Some(*value as f64),
        _ => None,
    };
    let precision = precision.unwrap_or(6);
    Some(match (clause, item) {
        ('s', item) => text_of(item)?,
        ('d', Val::Int(value)) => value.to_string(),
        ('d', Val::Uint(value)) => value.to_string(),
        ('f', _) => format!("{:.precision$}", float?),
        ('e', _) => {
            let scientific = format!("{:.precision$e}", float?);
            let (digits, exponent) = scientific.split_once('e')?;
            let exponent: i32 = exponent.parse().ok()?;
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        ('b', Val::Int(value)) => format!("{value:b}"),
        ('b', Val::Bool(value)) => u8::from(*value).to_string(),
        ('o', Val::Int(value)) => format!("{value:o}"),
        ('x', Val::Int(value)) => format!("{value:x}"),
        ('X', Val::Int(value)) => format!("{value:X}"),
        ('x', Val::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Val::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        _ => return None,
    })
}

/// A value in text, lists and maps with their parts.
fn text_of(item: &Val) -> Option<String> {
    Some(match item {
        Val::Null => "null".to_owned(),
        Val::List(items) => format!("[{}]", items.iter().map(text_of).collect::<Option<Vec<_>>>()?.join(", ")),
        Val::Map(entries) => {
            let entry = |(key, value): &(Val, Val)| Some(format!("{}: {}", text_of(key)?, text_of(value)?));
            let mut entries = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        item => super::functions::to_text(item)?,
    })
}

/// A function of a list of strings.
pub(super) fn of_list(items: &[Val], name: &str, args: &[Val]) -> Outcome {
    let by = match args {
        [] => "",
        [Val::Text(by)] => by,
        _ => return no_overload(),
    };
    let parts: Option<Vec<&str>> =
        items.iter().map(|item| if let Val::Text(text) = item { Some(&**text) } else { None }).collect();
    match (name, parts) {
        ("join", Some(parts)) => Ok(Val::text(parts.join(by))),
        _ => no_overload(),
    }
}

fn char_at(text: &str, at: i64) -> Outcome {
    let chars: Vec<char> = text.chars().collect();
    match usize::try_from(at) {
        Ok(at) if at < chars.len() => Ok(Val::text(chars[at].to_string())),
        Ok(at) if at == chars.len() => Ok(Val::text("")),
        _ => fail(format!("index out of range: {at}")),
    }
}

fn substring(text: &str, from: i64, to: Option<i64>) -> Outcome {
    let chars: Vec<char> = text.chars().collect();
    let bound = |at: i64| usize::try_from(at).ok().filter(|at| *at <= chars.len());
    let Some(from) = bound(from) else { return fail(format!("index out of range: {from}")) };
    let to = match to.map(|to| bound(to).ok_or(to)) {
        None => chars.len(),
        Some(Ok(to)) => to,
        Some(Err(to)) => return fail(format!("index out of range: {to}")),
    };
    if from > to {
        return fail(format!("invalid substring range. start: {from}, end: {to}"));
    }
    Ok(Val::text(chars[from..to].iter().collect::<String>()))
}

/// As Go's `SplitN`: between all characters when `by` is empty; no part when the count is zero.
fn split(text: &str, by: &str, count: i64) -> Val {
    if count == 0 {
        return Val::list(Vec::new());
    }
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    if by.is_empty() {
        let chars: Vec<String> = text.chars().map(String::from).collect();
        if chars.len() <= limit {
            return texts(chars);
        }
        let (head, tail) = chars.split_at(limit - 1);
        return texts(head.iter().cloned().chain([tail.concat()]));
    }
    texts(text.splitn(limit, by))
}
