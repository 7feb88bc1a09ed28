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
