//! What a write does to an object around the kind's own rules: which part it may change, and how its failures are told.

use kinds::kind::SchemaSource;
use kinds::prepare::Fresh;
use kinds::{Kind, Subresource};
use machinery::field::{BadValue, ErrorType, FieldError, Path};
use machinery::object;
use machinery::status::Status;
use serde_json::Value;

use crate::context::Cx;

/// Which part of an object a request may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// What the subresource lets through; its kind knows.
    Sub(Subresource),
}

impl Part {
    /// The subresource's name, empty for the whole.
    pub fn name(&self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Sub(subresource) => subresource.name(),
        }
    }

    pub fn subresource(&self) -> Option<&Subresource> {
        match self {
            Part::Whole => None,
            Part::Sub(subresource) => Some(subresource),
        }
    }
}

/// System fields, generation and the kind's own rules, before an object is created.
pub fn prepare_for_create(cx: &Cx, value: &mut Value, suffix: &str) {
    let uid = uuid::Uuid::new_v4().to_string();
    object::metadata_mut(value).remove("resourceVersion");
    cx.kind.prepare_for_create(value, &Fresh { now: cx.now, uid: &uid, suffix });
    if cx.kind.subresources.contains(&Subresource::Approval) {
        note_requester(cx, value);
    }
    default(&cx.kind, value);
}

/// What needs approval tells who asked for it, whatever the client wrote there.
/// `kubernetes/kubernetes pkg/registry/certificates/certificates/strategy.go: PrepareForCreate`.
fn note_requester(cx: &Cx, value: &mut Value) {
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    if let Ok(Value::Object(user)) = serde_json::to_value(&cx.user) {
        spec.extend(user);
    }
}

/// Time as objects show it: RFC 3339 to the second, in UTC.
pub fn seconds(at: jiff::Timestamp) -> String {
    kinds::prepare::second(at)
}

/// Fills what the client left out.
pub fn default(kind: &Kind, value: &mut Value) {
    kind.default(value);
}

/// Keeps what an update may not touch, and lets the kind's rules see both versions.
pub fn prepare_for_update(cx: &Cx, new: &mut Value, old: &Value, part: &Part) {
    crate::allocate::keep(cx, new, old);
    match part {
        Part::Whole => cx.kind.prepare_for_update(new, old),
        // A scale changes the spec by itself; what it leaves in place is as an update through the object.
        Part::Sub(Subresource::Scale(_)) => cx.kind.prepare_for_update(new, &with_status(old, new)),
        Part::Sub(subresource) => cx.kind.prepare_for_subresource(subresource, new, old),
    }
    default(&cx.kind, new);
}

/// The old object with the new one's status, for a subresource that may set both.
fn with_status(old: &Value, new: &Value) -> Value {
    let mut old = old.clone();
    if let Some(status) = new.get("status") {
        old["status"] = status.clone();
    }
    old
}

const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
                           errors to complete validation";

/// Whether an object with such a failure is no longer one that rules can be asked about.
/// `kubernetes/apiextensions-apiserver pkg/registry/customresource/strategy.go: hasBlockingErr`.
fn blocks_rules(error: &FieldError) -> bool {
    use ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
}

/// Every failure of the object, in one 422.
pub fn validate(cx: &Cx, new: &Value, old: Option<&Value>, part: &Part) -> Result<(), Status> {
    let errors = match part {
        Part::Whole | Part::Sub(Subresource::Status | Subresource::Scale(_)) => {
            let mut errors = cx.kind.validate(new, old);
            if let SchemaSource::Custom(schema) = &cx.kind.schema {
                errors.extend(schema.validate(new, old).0);
                let broken = errors.iter().any(blocks_rules);
                match machinery::cel::has_rules(schema) {
                    true if broken => {
                        let nothing = BadValue::Shown("null".to_owned());
                        errors.push(FieldError::invalid(&Path::ROOT, nothing, NOT_CHECKED));
                    }
                    true => errors.extend(machinery::cel::validate_rules(schema, new, old).0),
                    false => {}
                }
            }
            errors
        }
        Part::Sub(subresource) => match old {
            Some(old) => cx.kind.validate_subresource(subresource, new, old),
            None => return Ok(()),
        },
    };
    if errors.is_empty() {
        if let (Part::Whole, Some(warnings)) = (part, cx.kind.warnings) {
            warnings(new, old).into_iter().for_each(|warning| cx.warn(warning));
        }
        return Ok(());
    }
    Err(Status::invalid(&cx.group_kind(), object::name(new), &errors))
}
