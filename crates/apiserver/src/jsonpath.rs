//! The JSON paths of a CustomResourceDefinition's printer columns: fields, indices, wildcards and simple filters.
//!
//! `kubernetes/apiextensions-apiserver pkg/registry/customresource/tableconvertor: the first result fills the cell`.

use jiff::Timestamp;
use serde_json::Value;

/// The cell of a column: typed as the column says, null when nothing is found.
pub fn cell(object: &Value, path: &str, of: &str, now: Timestamp) -> Value {
    let found = find(object, path);
    let Some(first) = found.first() else { return Value::Null };
    match (of, *first) {
        ("date", Value::String(text)) => Value::String(age(text, now)),
        ("string", Value::String(text)) => Value::String(text.clone()),
        ("string", Value::Null) => Value::Null,
        ("string", other) => Value::String(other.to_string()),
        ("integer" | "number", value @ Value::Number(_)) => value.clone(),
        ("boolean", value @ Value::Bool(_)) => value.clone(),
        _ => Value::Null,
    }
}

/// `kubernetes/apimachinery pkg/util/duration: HumanDuration`, as `kubectl` would print the age.
fn age(text: &str, now: Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else { return "<invalid>".to_owned() };
    human(now.as_second() - then.as_second())
}

/// Seconds in the two largest units that still say something.
pub fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 3600;
    const DAY: i64 = 86_400;
    const YEAR: i64 = 31_536_000;
    let two = |big: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{sub}") }
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// Every value a path leads to.
pub fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut at = vec![object];
    for step in steps(path) {
        at = at.into_iter().flat_map(|value| follow(value, &step)).collect();
    }
    at
}

enum Step {
    Field(String),
    Index(i64),
    All,
    /// `?(@.field=="value")`
    Equal(String, String),
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner);
            steps.extend(bracket(&inner[..end]));
            rest = inner.get(end + 1..).unwrap_or_default();
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (name, after) = field_name(rest);
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
        if after.len() == rest.len() {
            break;
        }
        rest = after;
    }
    steps
}

/// The position of the bracket's end, quotes respected.
fn closing(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return at,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    text.len()
}

fn bracket(inner: &str) -> Option<Step> {
    let unquote = |text: &str| text.trim().trim_matches(|c| c == '\'' || c == '"').to_owned();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(@.").and_then(|text| text.strip_suffix(')')) {
        let (field, value) = filter.split_once("==")?;
        return Some(Step::Equal(field.trim().to_owned(), unquote(value)));
    }
    match inner.parse() {
        Ok(index) => Some(Step::Index(index)),
        Err(_) => Some(Step::Field(unquote(inner))),
    }
}

/// A field name up to an unescaped dot or a bracket.
fn field_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, &text[at..]),
            _ => name.push(c),
        }
    }
    (name, "")
}

fn follow<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(0);
            let at = if *index < 0 { index + length } else { *index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Equal(field, wanted), Value::Array(items)) => {
            items.iter().filter(|item| crate::catalog::field_value(item, field) == *wanted).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_printer_columns() {
        let object = json!({"spec": {"a.b": 3, "list": [{"x": 1}, {"x": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        let show = |path: &str, of: &str| cell(&object, path, of, Timestamp::UNIX_EPOCH).to_string();
        assert_eq!(show(".status.conditions[?(@.type==\"Ready\")].status", "string"), "\"True\"");
        assert_eq!(show(".spec.list[-1].x", "integer"), "2");
        assert_eq!(show(".spec.list[*].x", "integer"), "1");
        assert_eq!(show(".spec.a\\.b", "integer"), "3");
        assert_eq!(show(".spec.none", "string"), "null");
        assert_eq!([human(90), human(125), human(7200), human(200_000)], ["90s", "2m5s", "120m", "2d7h"]);
    }
}
