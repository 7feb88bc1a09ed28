//! What an event must say, in either of the two groups that serve it.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/events.go`: the older group is lenient; failures name the fields of the
//! older form in both.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::{names, object};
use serde_json::Value;

use crate::validate::{At, immutable};

const TEXT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// An event of the core group, or one in its form; `reporter` is what the reporting controller is called there.
pub fn lenient(event: &Value, reporter: &str, errors: &mut FieldErrors) {
    let at = At::root(event);
    let (own, about) = (object::namespace(event), at.fields(&["involvedObject", "namespace"]));
    let timed = at.field("eventTime").is_set();
    let fits = match (timed, about.text()) {
        (false, "") => matches!(own, "" | "default"),
        (false, namespace) => namespace == own,
        (true, "") => matches!(own, "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        errors.push(FieldError::invalid(&about.path, about.text(), "does not match event.namespace"));
    }
    if !timed {
        return;
    }
    let controller = at.field("reportingComponent").reported_at(Path::new(reporter));
    controller.must_be_set(errors);
    controller.invalid_each(errors, names::qualified_name(controller.text()));
    for text in ["reportingInstance", "action", "reason"].map(|name| at.field(name)) {
        text.must_be_set(errors);
        at_most(&text, TEXT_MAX, errors);
    }
    at_most(&at.field("message"), NOTE_MAX, errors);
}

fn at_most(text: &At, most: usize, errors: &mut FieldErrors) {
    if text.text().len() > most {
        errors.push(FieldError::invalid(&text.path, "", format!("can have at most {most} characters")));
    }
}

/// What the newer group asks beyond that, of an event in the older form.
pub fn strict(event: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(event);
    let changed = old.is_none_or(|old| old.get("series") != event.get("series"));
    if let Some(series) = at.set("series").filter(|_| changed) {
        let path = |name: &str| Path::new(&format!("series.{name}"));
        if series.field("count").int() < 2 {
            errors.push(FieldError::invalid(&path("count"), "", "should be at least 2"));
        }
        series.field("lastObservedTime").reported_at(path("lastObservedTime")).must_be_set(errors);
    }
    if let Some(old) = old {
        let kept = [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "type",
            "eventTime",
            "action",
            "related",
        ];
        for field in kept {
            immutable(&at.field(field), &At::root(old).field(field), errors);
        }
        return;
    }
    at.field("eventTime").must_be_set(errors);
    let of = at.field("type");
    if !matches!(of.text(), "Normal" | "Warning") {
        errors.push(FieldError::invalid(&of.path, "", format!("has invalid value: {}", of.text())));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"].map(|name| at.field(name)) {
        if !field.is_empty() {
            errors.push(FieldError::invalid(&field.path, "", "needs to be unset"));
        }
    }
}
