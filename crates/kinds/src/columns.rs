//! What the cells of tables are made of; which cells a kind has stands in the kind's file.
//!
//! `kubernetes/kubernetes pkg/printers/internalversion/printers.go`: the texts. Upstream's server always sends the
//! wide columns too; the client hides those of a priority above 0.

use std::borrow::Cow;

use jiff::Timestamp;
use machinery::labels::Selector;
use machinery::object;
use serde_json::{Map, Value, json};

use crate::kind::{Column, Columns, Kind};

/// A column of a built-in table.
pub const fn column(name: &'static str, of: &'static str) -> Column {
    described(name, of, "", 0, None)
}

/// The same of what a field says: `field` of the definition `of_type`.
pub const fn column_of(name: &'static str, of: &'static str, of_type: &'static str, field: &'static str) -> Column {
    described(name, of, "", 0, Some((of_type, field)))
}

/// A column shown only with `-o wide`.
pub const fn wide(name: &'static str, of: &'static str) -> Column {
    described(name, of, "", 1, None)
}

/// The same of what a field says.
pub const fn wide_of(name: &'static str, of: &'static str, of_type: &'static str, field: &'static str) -> Column {
    described(name, of, "", 1, Some((of_type, field)))
}

/// A column in the form of a name, of what a field says.
pub const fn named_of(name: &'static str, priority: i32, of_type: &'static str, field: &'static str) -> Column {
    described(name, "string", "name", priority, Some((of_type, field)))
}

const fn described(
    name: &'static str,
    of: &'static str,
    format: &'static str,
    priority: i32,
    documented_by: Option<(&'static str, &'static str)>,
) -> Column {
    Column {
        name: Cow::Borrowed(name),
        of: Cow::Borrowed(of),
        format: Cow::Borrowed(format),
        priority,
        description: Cow::Borrowed(""),
        documented_by,
    }
}

/// A column that holds the object's name.
pub const fn named(name: &'static str, priority: i32) -> Column {
    described(name, "string", "name", priority, None)
}

/// The table of a kind that has none of its own.
static GENERIC: &[Column] = &[named("Name", 0), column("Created At", "date")];

impl Kind {
    /// The head of the kind's table.
    pub fn columns(&self) -> Vec<Column> {
        match &self.columns {
            Columns::Generic => GENERIC.to_vec(),
            Columns::BuiltIn { head, .. } => head.to_vec(),
            Columns::Paths(columns) => {
                let mut head = vec![named("Name", 0)];
                head.extend(columns.iter().map(|(column, _)| column.clone()));
                head
            }
        }
    }

    /// The cells of one object, one for each column.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.columns {
            Columns::Generic => vec![name(object), object["metadata"]["creationTimestamp"].clone()],
            Columns::BuiltIn { cells, .. } => cells(object, now),
            Columns::Paths(columns) => {
                let mut cells = vec![name(object)];
                cells.extend(columns.iter().map(|(column, path)| crate::custom::cell(object, column, path, now)));
                cells
            }
        }
    }

    /// The conditions of a row: a pod that has ended is marked `Completed`.
    pub fn row_conditions(&self, object: &Value) -> Vec<Value> {
        if !(self.group.is_empty() && self.names.kind == "Pod") {
            return Vec::new();
        }
        let (reason, message) = match object["status"]["phase"].as_str() {
            Some("Succeeded") => ("Succeeded", "The pod has completed successfully."),
            Some("Failed") => ("Failed", "The pod failed."),
            _ => return Vec::new(),
        };
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    }
}

impl Column {
    /// As a `TableColumnDefinition`.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.of, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }
}

/// The text at a JSON pointer; empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The text at a pointer, or another where it is empty.
pub fn text_or(object: &Value, pointer: &str, other: &str) -> Value {
    match text(object, pointer) {
        "" => json!(other),
        found => json!(found),
    }
}

/// The number at a pointer; 0 when there is none.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The flag at a pointer.
pub fn flag_or(object: &Value, pointer: &str, other: bool) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(other)
}

/// The items of the list at a pointer.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How many entries the list or map at a pointer has.
pub fn count(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(fields)) => fields.len(),
        _ => 0,
    }
}

/// What a number or string reads like; empty when there is none.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub fn name(object: &Value) -> Value {
    json!(object::name(object))
}

/// How long ago the object was created.
pub fn age(object: &Value, now: Timestamp) -> Value {
    json!(since(&object["metadata"]["creationTimestamp"], now))
}

/// How long ago a time was, as `<unknown>` when there is none.
pub fn since(time: &Value, now: Timestamp) -> String {
    match instant(time) {
        Some(then) => human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A time of the API.
pub fn instant(time: &Value) -> Option<Timestamp> {
    time.as_str()?.parse().ok()
}

/// A duration as a person would say it: two units at most, fewer the longer it is.
///
/// `k8s.io/apimachinery pkg/util/duration HumanDuration`: where it changes units.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// The names of the containers at a pointer.
pub fn container_names(object: &Value, pointer: &str) -> Value {
    json!(join(list(object, pointer), "name", ","))
}

/// The images of the containers at a pointer.
pub fn container_images(object: &Value, pointer: &str) -> Value {
    json!(join(list(object, pointer), "image", ","))
}

/// A field of each item, joined.
pub fn join(items: &[Value], field: &str, separator: &str) -> String {
    let texts: Vec<&str> = items.iter().map(|item| item[field].as_str().unwrap_or_default()).collect();
    texts.join(separator)
}

/// The texts of a list, joined.
pub fn join_texts(items: &[Value], separator: &str) -> String {
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    texts.join(separator)
}

/// A map of labels as `a=b,c=d`, or `<none>`.
pub fn labels(object: &Value, pointer: &str) -> Value {
    let pairs: Vec<String> = object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") })
}

/// A label selector as text; `<none>` when it is missing or selects everything.
pub fn label_selector(object: &Value, pointer: &str) -> Value {
    let text = selector_text(object, pointer);
    json!(if text.is_empty() { "<none>".to_owned() } else { text })
}

/// A label selector as text, empty when it selects everything.
pub fn selector_text(object: &Value, pointer: &str) -> String {
    let selector = Selector::from_label_selector(object.pointer(pointer));
    selector.map_or_else(|_| "<error>".to_owned(), |found| found.to_string())
}

/// The status of a condition, by its type.
pub fn condition<'a>(object: &'a Value, of: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| condition["type"] == of)
}

/// At most `max` of a list, and how many there are beyond.
pub fn with_more(texts: &[String], max: usize) -> String {
    let head = texts.iter().take(max).cloned().collect::<Vec<_>>().join(",");
    match texts.len() {
        0 => "<unset>".to_owned(),
        all if all > max => format!("{head} + {} more...", all - max),
        _ => head,
    }
}

/// `RWO,ROX` of a list of access modes, in upstream's order, each once.
pub fn access_modes(object: &Value, pointer: &str) -> Value {
    let modes = list(object, pointer);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found: Vec<&str> =
        short.iter().filter(|(mode, _)| modes.iter().any(|has| has == mode)).map(|(_, short)| *short).collect();
    json!(found.join(","))
}

/// The addresses of a load balancer's status, sorted, each once.
pub fn load_balancer(object: &Value) -> String {
    let entries = list(object, "/status/loadBalancer/ingress").iter();
    let mut found: Vec<&str> = entries
        .map(|entry| match text(entry, "/ip") {
            "" => text(entry, "/hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found.join(",")
}

/// The subjects of a role binding of one kind: names, or `namespace/name` for service accounts.
pub fn subjects(object: &Value, kind: &str) -> Value {
    let subjects = list(object, "/subjects").iter().filter(|subject| subject["kind"] == kind);
    let names: Vec<String> = subjects
        .map(|subject| match (kind, text(subject, "/namespace")) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => format!("{namespace}/{}", text(subject, "/name")),
            _ => text(subject, "/name").to_owned(),
        })
        .collect();
    json!(names.join(", "))
}

/// `version/Kind` of a policy's parameters.
pub fn param_kind(object: &Value) -> Value {
    match object.pointer("/spec/paramKind").filter(|kind| !kind.is_null()) {
        Some(kind) => json!(format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind"))),
        None => json!("<unset>"),
    }
}

/// Which parameters a policy's binding names.
pub fn param_ref(object: &Value) -> Value {
    let Some(reference) = object.pointer("/spec/paramRef").filter(|reference| !reference.is_null()) else {
        return json!("<unset>");
    };
    match (text(reference, "/name"), text(reference, "/namespace")) {
        ("", _) if reference["selector"].is_object() => json!(selector_text(reference, "/selector")),
        ("", _) => json!("<unset>"),
        (name, "") => json!(format!("*/{name}")),
        (name, namespace) => json!(format!("{namespace}/{name}")),
    }
}

/// A map that is there, or an empty one.
pub fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_read_as_upstreams() {
        let cases = [(-2, "<invalid>"), (-1, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (600, "10m")];
        let long = [(10800, "3h"), (11000, "3h3m"), (86400, "24h"), (172800, "2d"), (180000, "2d2h"), (691200, "8d")];
        let years = [(63072000, "2y"), (63072000 + 86400, "2y1d"), (252288000, "8y")];
        for (seconds, shown) in cases.iter().chain(&long).chain(&years) {
            assert_eq!(human_duration(*seconds), *shown);
        }
    }
}
