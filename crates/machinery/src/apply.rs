//! Server-side apply and the ownership of fields (`metadata.managedFields`).
//!
//! The algorithm is that of `sigs.k8s.io/structured-merge-diff` under the wrapping of
//! `k8s.io/apimachinery pkg/util/managedfields`: an object and its schema give a set of field paths ([`set`],
//! [`walk`]); two objects give the paths added, changed and removed ([`compare`]); an applied configuration merges
//! into the live object ([`merge`]) and what its manager no longer names, and nobody else owns, is taken away
//! ([`prune`]). [`update`] records who wrote what in an ordinary write, [`apply()`] does the apply.

mod compare;
mod conflict;
mod managed;
mod merge;
mod path;
mod prune;
mod remove;
mod set;
mod validate;
mod walk;

use serde_json::{Value, json};

pub use compare::{Comparison, compare};
pub use managed::{Managed, Manager};
pub use path::PathElement;
pub use set::{FieldSet, SetError};
pub use walk::field_set;

use crate::gvk::GroupVersionKind;
use crate::object;
use crate::schema::Schema;
use crate::status::Status;

/// How many managers of ordinary writes are told apart; the oldest beyond become `ancient-changes`.
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// The annotation of client-side apply.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, to what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The request's field manager; empty counts as `unknown`.
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub gvk: &'a GroupVersionKind,
    /// The schema of the whole object, `metadata` included.
    pub schema: &'a Schema,
    /// Fields this endpoint resets and so nobody comes to own through it (`status` for the object itself).
    pub reset: &'a FieldSet,
    pub now: jiff::Timestamp,
}

/// Records in `new` (about to be stored) which fields this write changed. `live` is what was stored before; for a
/// create it is the type's empty object as its encoder writes it (upstream compares with that, so `spec` and other
/// parts that are always written are nobody's), or null when there is no such thing. The caller's own `managedFields` in `new` are honoured as upstream does.
pub fn update(live: &Value, new: &mut Value, write: &Write<'_>) {
    let Some(mut managed) = managed_of_update(live, new, write.subresource) else { return };
    strip_managed_fields(new);
    // Objects from before ownership was recorded stay without it until somebody applies.
    let created = object::uid(live).is_empty();
    if managed.is_empty() && !created {
        return;
    }
    if validate::has_fields(new, write.schema) {
        record_update(live, new, &mut managed, write, write.manager);
        managed.cap(UPDATE_MANAGERS_MAX);
    }
    managed.write_to(new);
}

/// The live object with a configuration's fields over it, whoever owns them. The error names a list that cannot be merged.
pub fn overlay(live: &Value, config: &Value, schema: &Schema) -> Result<Value, String> {
    merge::merge(live, config, schema)
}

/// The places where a value sets something that is merged as a whole: atomic objects, and lists whose items are not told
/// apart.
/// `k8s.io/apiserver pkg/admission/plugin/policy/mutating/patch/smd.go: findAtomics`.
pub fn atomics(value: &Value, schema: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    walk::atomics(value, schema, &mut String::new(), &mut found);
    found
}

/// Applies `config` to `live` (an object with `apiVersion` and `kind` alone when there is none yet) and gives the
/// object to store, or upstream's conflict. The result may hold nulls where fields were removed from a custom
/// resource: decode or drop them as after any patch.
pub fn apply(live: &Value, config: &Value, write: &Write<'_>, force: bool) -> Result<Value, Status> {
    check_request(config, write)?;
    let mut managed = Managed::read(object::metadata(live).and_then(|meta| meta.get("managedFields")))
        .map_err(|error| internal(format!("failed to decode managed fields: {error}")))?;
    if managed.is_empty() {
        let empty = json!({"apiVersion": object::api_version(config), "kind": object::kind(config)});
        record_update(&empty, live, &mut managed, write, BEFORE_FIRST_APPLY);
        managed.cap(UPDATE_MANAGERS_MAX);
    }
    let outcome = match apply_managed(live, config, managed.clone(), write, force) {
        Err(ApplyError::Conflicts(conflicts)) if write.manager == "kubectl" => {
            retry_from_client_side(live, config, managed, write, conflicts)
        }
        other => other,
    };
    let (mut merged, managed) = outcome.map_err(Status::from)?;
    if write.manager == "kubectl" && object::annotation(&merged, LAST_APPLIED).is_some_and(|old| !old.is_empty()) {
        let mut applied = config.clone();
        object::take(&mut applied, &["metadata", "annotations", LAST_APPLIED]);
        object::annotations_mut(&mut merged).insert(LAST_APPLIED.to_owned(), Value::from(format!("{applied}\n")));
    }
    managed.write_to(&mut merged);
    Ok(merged)
}

/// Why an apply failed.
enum ApplyError {
    Conflicts(Vec<conflict::Conflict>),
    Refused(Status),
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => conflict::status(&conflicts),
            ApplyError::Refused(status) => status,
        }
    }
}

/// An error upstream has no status of its own for.
fn internal(text: String) -> Status {
    Status::failure(500, "", text)
}

fn check_request(config: &Value, write: &Write<'_>) -> Result<(), Status> {
    let found = object::gvk(config);
    if found.as_ref() != Some(write.gvk) {
        let shown = found.map_or_else(|| "/, Kind=".to_owned(), |gvk| gvk.to_string());
        return Err(Status::bad_request(format!("invalid object type: {shown}")));
    }
    if object::metadata(config).and_then(|meta| meta.get("managedFields")).is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    validate::validate(config, write.schema).map_err(|error| {
        let (namespace, name) = (object::namespace(config), object::name(config));
        internal(format!("failed to create typed patch object ({namespace}/{name}; {}): {error}", write.gvk))
    })
}

/// The managed fields an update starts from; none leaves the object alone.
fn managed_of_update(live: &Value, new: &Value, subresource: &str) -> Option<Managed> {
    let of = |object: &Value| object::metadata(object).and_then(|meta| meta.get("managedFields")).cloned();
    let from_live = || Managed::read(of(live).as_ref()).unwrap_or_default();
    if !subresource.is_empty() {
        return Some(from_live());
    }
    object::metadata(new)?;
    let given = of(new);
    // An empty list, or one empty entry, asks to forget everything.
    let reset = match given.as_ref().and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    };
    if reset {
        return Some(Managed::default());
    }
    match Managed::read(given.as_ref()) {
        Ok(managed) if !managed.is_empty() => Some(managed),
        _ => Some(from_live()),
    }
}

fn strip_managed_fields(object: &mut Value) {
    object::take(object, &["metadata", "managedFields"]);
}

/// Everybody loses what this write changed under them; the writer gains it.
fn record_update(live: &Value, new: &Value, managed: &mut Managed, write: &Write<'_>, manager: &str) {
    let changes = compare(live, new, write.schema).without(write.reset);
    let id = Manager::update(manager, &write.gvk.group_version().to_string(), write.subresource);
    managed.take_from_all(&changes);
    let gained = changes.modified.union(&changes.added).recursive_difference(write.reset);
    let gained = gained.difference(&managed::never_owned());
    if gained.is_empty() {
        return;
    }
    let version = write.gvk.group_version().to_string();
    managed.gain(id, &version, gained, write.now);
}

fn apply_managed(
    live: &Value,
    config: &Value,
    mut managed: Managed,
    write: &Write<'_>,
    force: bool,
) -> Result<(Value, Managed), ApplyError> {
    let schema = write.schema;
    let version = write.gvk.group_version().to_string();
    let id = Manager::apply(write.manager, write.subresource);
    let merged = merge::merge(live, config, schema)
        .map_err(|error| ApplyError::Refused(internal(format!("failed to merge config: {error}"))))?;
    let last = managed.set_of(&id).cloned();
    let owned = field_set(config, schema).recursive_difference(write.reset);
    managed.replace(id.clone(), &version, owned);
    let merged = prune::prune(merged, &managed, last.as_ref(), schema);

    let changes = compare(live, &merged, schema).without(write.reset);
    let conflicts = managed.conflicts(&id, &changes);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    managed.take_from_others(&id, &changes);
    managed.strip(&id, &managed::never_owned());
    if merged == *live {
        // Nothing changed, so nobody's time does.
        let mut unchanged = live.clone();
        strip_managed_fields(&mut unchanged);
        return Ok((unchanged, managed));
    }
    managed.touch(&id, write.now);
    Ok((merged, managed))
}

/// `kubectl` that used to apply on the client's side may overwrite what it applied there.
fn retry_from_client_side(
    live: &Value,
    config: &Value,
    managed: Managed,
    write: &Write<'_>,
    conflicts: Vec<conflict::Conflict>,
) -> Result<(Value, Managed), ApplyError> {
    let Some(allowed) = allowed_from_last_applied(live, write) else { return Err(ApplyError::Conflicts(conflicts)) };
    let left: Vec<_> = conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect();
    if left.is_empty() { apply_managed(live, config, managed, write, true) } else { Err(ApplyError::Conflicts(left)) }
}

fn allowed_from_last_applied(live: &Value, write: &Write<'_>) -> Option<FieldSet> {
    let last: Value = serde_json::from_str(object::annotation(live, LAST_APPLIED)?).ok()?;
    if object::api_version(&last) != write.gvk.group_version().to_string() {
        return None;
    }
    validate::validate(&last, write.schema).ok()?;
    let changes = compare(&last, live, write.schema);
    let set = field_set(&last, write.schema);
    Some(set.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

#[cfg(test)]
mod tests;
