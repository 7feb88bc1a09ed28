//! `metadata.managedFields`: who owns which field, kept up at every write.

use machinery::apply::{self, FieldSet, Write};
use machinery::gvk::GroupVersionKind;
use machinery::status::Status;
use serde_json::Value;

use crate::context::Cx;
use crate::strategy::Part;

/// The pieces of a [`Write`] that need an owner.
struct Frame {
    gvk: GroupVersionKind,
    schema: machinery::schema::Schema,
    reset: FieldSet,
}

impl Frame {
    fn of(cx: &Cx, part: &Part) -> Frame {
        let paths = cx.kind.reset_fields(part.subresource());
        let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        Frame {
            gvk: GroupVersionKind::new(cx.kind.group.as_ref(), cx.kind.version.as_ref(), cx.kind.names.kind.as_ref()),
            schema: cx.kind.schema(),
            reset: FieldSet::of_fields(&paths),
        }
    }

    fn write<'a>(&'a self, cx: &Cx, part: &Part, manager: &'a str) -> Write<'a> {
        Write {
            manager,
            subresource: part.name(),
            gvk: &self.gvk,
            schema: &self.schema,
            reset: &self.reset,
            now: cx.now,
        }
    }
}

/// Notes what `manager` changed from `old` to `new`. A failure costs the tracking, never the write.
pub fn record(cx: &Cx, new: &mut Value, old: Option<&Value>, manager: &str, part: &Part) {
    let frame = Frame::of(cx, part);
    let empty;
    let old = match old {
        Some(old) => old,
        None => {
            empty = cx.kind.empty();
            &empty
        }
    };
    apply::update(old, new, &frame.write(cx, part, manager));
}

/// The same for a new object that is only a subresource's, by its definition in the facts.
pub fn record_part(cx: &Cx, new: &mut Value, definition: &'static str, manager: &str, subresource: &str) {
    let mut names = definition.rsplit('.');
    let (kind, version) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let group = machinery::object::api_version(new).rsplit_once('/').map_or("", |(group, _)| group).to_owned();
    let gvk = GroupVersionKind::new(group, version, kind);
    let schema = kinds::facts::schema(definition);
    let reset = FieldSet::of_fields(&[&["status"]]);
    let write = Write { manager, subresource, gvk: &gvk, schema: &schema, reset: &reset, now: cx.now };
    apply::update(&serde_json::json!({}), new, &write);
}

/// The object after an apply, or upstream's conflict.
pub fn applied(
    cx: &Cx,
    live: &Value,
    config: &Value,
    manager: &str,
    part: &Part,
    force: bool,
) -> Result<Value, Status> {
    let frame = Frame::of(cx, part);
    apply::apply(live, config, &frame.write(cx, part, manager), force)
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
