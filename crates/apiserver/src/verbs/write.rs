//! What create, update, patch and apply have in common: an object on its way into the store.
//!
//! `kubernetes/apiserver pkg/registry/rest/{create,update}.go` and `pkg/registry/generic/registry/store.go`: the order.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::gvk::GroupKind;
use machinery::object;
use machinery::status::Status;
use rand::Rng;
use serde_json::Value;

use crate::admission::{self, Operation};
use crate::context::Cx;
use crate::managed;
use crate::query::WriteOptions;
use crate::registry::{Put, Stored};
use crate::strategy::{self, Part};
use crate::verbs::delete;

/// Tries for a free name. `kubernetes/apiserver pkg/registry/generic/registry/store.go: maxNameGenerationCreateAttempts`.
const GENERATE_ATTEMPTS: usize = 8;
/// Tries of a change that others keep overtaking; each time one of the others got on. Upstream's storage tries without end.
const CONFLICT_ATTEMPTS: usize = 64;

/// How managed fields follow a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Whatever changed belongs to the writer.
    Update,
    /// The object carries its managed fields already (server-side apply).
    Applied,
}

/// Takes a decoded, defaulted object through admission and validation into the store.
pub async fn create(cx: &Cx, mut value: Value, options: &WriteOptions, tracking: Tracking) -> Result<Value, Status> {
    check_namespace(cx, &mut value)?;
    let generated = object::name(&value).is_empty();
    if tracking == Tracking::Update {
        managed::record(cx, &mut value, None, &options.field_manager, &Part::Whole);
    }
    admission::mutate(cx, Operation::Create, &mut value, None).await?;
    admission::escalation(cx, &value, None)?;
    let revision = object::resource_version(&value).to_owned();
    let versioned = !matches!(revision.as_str(), "" | "0");
    name_and_check(cx, &mut value).await?;
    // The store refuses it, which a dry run does not come to.
    if versioned && !options.dry_run && cx.info.verb == "create" {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if versioned && options.dry_run {
        object::set_resource_version(&mut value, &revision);
    }
    insert(cx, value, generated, options).await
}

/// Gives the object what the server gives it, a name included, and asks whether it may be.
async fn name_and_check(cx: &Cx, value: &mut Value) -> Result<(), Status> {
    strategy::prepare_for_create(cx, value, &suffix());
    strategy::validate(cx, value, None, &Part::Whole)?;
    admission::validate(cx, Operation::Create, Some(value), None).await
}

/// Stores a checked object; a generated name that is taken is generated anew.
async fn insert(cx: &Cx, mut value: Value, generated: bool, options: &WriteOptions) -> Result<Value, Status> {
    for attempt in 1.. {
        let name = object::name(&value).to_owned();
        match put(cx, &mut value, None, &Part::Whole, options.dry_run).await? {
            Written::At(revision) => {
                object::set_resource_version(&mut value, &revision.to_string());
                return Ok(value);
            }
            Written::DryRun => return Ok(value),
            Written::Overtaken if generated && attempt < GENERATE_ATTEMPTS => {
                object::set_name(&mut value, "");
                name_and_check(cx, &mut value).await?;
            }
            Written::Overtaken if generated => return Err(Status::generate_name_conflict(&cx.resource(), &name, 1)),
            Written::Overtaken => return Err(Status::already_exists(&cx.resource(), &name)),
        }
    }
    unreachable!("the loop returns by its last attempt")
}

/// What became of a checked object.
enum Written {
    At(i64),
    /// Somebody else was first: there is another version, or an object of that name.
    Overtaken,
    /// Nothing, as was asked.
    DryRun,
}

/// Brings a checked object into the store, with the addresses and ports that it claims and what it takes from quotas.
async fn put(cx: &Cx, value: &mut Value, old: Option<&Stored>, part: &Part, dry_run: bool) -> Result<Written, Status> {
    let registry = &cx.server.registry;
    let (operation, revision) = old.map_or((Operation::Create, 0), |old| (Operation::Update, old.revision));
    let before = old.map(|old| &old.value);
    let name = object::name(value).to_owned();
    let key = cx.key(&name);
    let mut held_up = "the usage of a resource quota could not be updated";
    if old.is_some() && !dry_run && delete::finished(&cx.kind, value) {
        // The last finalizer went with this update: what it held goes now.
        let gone = registry.delete(&key, revision).await?;
        return Ok(gone.map_or(Written::Overtaken, Written::At));
    }
    // Before others have to wait: a webhook may be asked.
    let mut encoded = registry.encoded(&cx.kind, value).await?;
    for _ in 0..CONFLICT_ATTEMPTS {
        let charges = admission::charge(cx, operation, value, before, dry_run).await?;
        let claim = match part {
            Part::Whole => cx.server.allocator.claim(cx, value, before, dry_run).await?,
            _ => None,
        };
        if dry_run {
            let taken = old.is_none() && registry.get(&cx.kind, &cx.info.namespace, &name).await?.is_some();
            return Ok(if taken { Written::Overtaken } else { Written::DryRun });
        }
        if claim.is_some() {
            encoded = registry.encoded(&cx.kind, value).await?;
        }
        let unchanged = claim.as_ref().map(|claim| &claim.unchanged);
        match registry.put(&cx.kind, &key, encoded.clone(), revision, &charges.quotas, unchanged).await? {
            Put::Done(revision) => return Ok(Written::At(revision)),
            Put::Overtaken => return Ok(Written::Overtaken),
            // What was claimed may be another's by now.
            Put::BesideOvertaken => {
                if let Some(claim) = claim {
                    *value = claim.asked;
                    held_up = "no address could be given while other services kept changing";
                }
            }
        }
    }
    Err(Status::conflict(&cx.resource(), &name, held_up))
}

/// `kubernetes/apiserver pkg/storage/names/generate.go: five characters, none of them a vowel`.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

/// An object without a namespace takes the request's; another one's is refused.
/// `kubernetes/apiserver pkg/registry/rest/meta.go: EnsureObjectNamespaceMatchesRequestNamespace`.
pub fn check_namespace(cx: &Cx, value: &mut Value) -> Result<(), Status> {
    let wanted = if cx.kind.namespaced() { cx.info.namespace.as_str() } else { "" };
    match object::namespace(value) {
        given if given == wanted => Ok(()),
        "" => {
            object::set_namespace(value, wanted);
            Ok(())
        }
        _ if wanted.is_empty() => {
            object::set_namespace(value, "");
            Ok(())
        }
        _ => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// What an update starts from and ends in.
pub struct Update<'a> {
    pub part: Part,
    pub options: &'a WriteOptions,
    pub tracking: Tracking,
    /// Whether an object without resourceVersion is taken as it is; patches always are.
    pub unconditional: bool,
}

/// Changes the named object: `make` builds the new one from the old. It is tried again when somebody else was faster; what
/// was meant for one version alone finds another then, and is refused.
pub async fn update<F>(cx: &Cx, how: &Update<'_>, mut make: F) -> Result<Option<Value>, Status>
where
    F: FnMut(&Stored) -> Result<Value, Status>,
{
    for _ in 0..CONFLICT_ATTEMPTS {
        let Some(old) = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await? else {
            return Ok(None);
        };
        let mut new = make(&old)?;
        check_preconditions(cx, &new, &old, how.unconditional, how.options.dry_run)?;
        object::set_resource_version(&mut new, object::resource_version(&old.value));
        prepare(cx, how, &mut new, &old).await?;
        if new == old.value || managed::same_but_times(&new, &old.value) {
            return Ok(Some(old.value));
        }
        match put(cx, &mut new, Some(&old), &how.part, how.options.dry_run).await? {
            Written::At(revision) => {
                object::set_resource_version(&mut new, &revision.to_string());
                return Ok(Some(new));
            }
            Written::DryRun => return Ok(Some(new)),
            Written::Overtaken => {}
        }
    }
    Err(Status::modified(&cx.resource(), &cx.info.name))
}

async fn prepare(cx: &Cx, how: &Update<'_>, new: &mut Value, old: &Stored) -> Result<(), Status> {
    check_namespace(cx, new)?;
    if how.tracking == Tracking::Update {
        managed::record(cx, new, Some(&old.value), &how.options.field_manager, &how.part);
    }
    admission::mutate(cx, Operation::Update, new, Some(&old.value)).await?;
    admission::escalation(cx, new, Some(&old.value))?;
    strategy::prepare_for_update(cx, new, &old.value, &how.part);
    strategy::validate(cx, new, Some(&old.value), &how.part)?;
    admission::validate(cx, Operation::Update, Some(new), Some(&old.value)).await
}

/// The conflict of a write that is meant for an object of another uid.
pub fn other_uid(cx: &Cx, wanted: &str, is: &str, dry_run: bool) -> Status {
    let key = cx.key(&cx.info.name);
    // A dry run ends before the store's prefix is put before the key.
    let shown = if dry_run { key.strip_prefix("/registry").unwrap_or(&key) } else { &key };
    let words = format!(
        "StorageError: invalid object, Code: 4, Key: {shown}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
         UID in precondition: {wanted}, UID in object meta: {is}"
    );
    Status::conflict(&cx.resource(), &cx.info.name, words)
}

/// An error when the client tied its write to another version than the present one.
fn check_preconditions(cx: &Cx, new: &Value, old: &Stored, unconditional: bool, dry_run: bool) -> Result<(), Status> {
    let uid = object::uid(new);
    if !uid.is_empty() && uid != object::uid(&old.value) {
        return Err(other_uid(cx, uid, object::uid(&old.value), dry_run));
    }
    match object::resource_version(new) {
        "" | "0" if unconditional || cx.kind.unconditional_update => Ok(()),
        "" | "0" => {
            let path = Path::new("metadata").child("resourceVersion");
            let bad = machinery::field::BadValue::json(&0);
            let error = FieldError::invalid(&path, bad, "must be specified for an update");
            // Upstream's storage names the resource where its handlers name the kind.
            let named = GroupKind::new(cx.kind.group.as_ref(), cx.kind.names.plural.as_ref());
            Err(Status::invalid(&named, &cx.info.name, &FieldErrors(vec![error])))
        }
        named if named == object::resource_version(&old.value) => Ok(()),
        _ => Err(Status::modified(&cx.resource(), &cx.info.name)),
    }
}
