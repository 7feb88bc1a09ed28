//! DELETE of an object or of a collection: grace, finalizers, what becomes of dependents.
//!
//! `kubernetes/apiserver pkg/registry/rest/delete.go` and `pkg/registry/generic/registry/store.go`.

use jiff::{Span, Timestamp};
use journal::{Decider, Record, Subject, What};
use kinds::{Kind, Subresource};
use machinery::gvk::GroupResource;
use machinery::object;
use machinery::status::{Details, Status};
use serde_json::Value;

use crate::admission;
use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::{DeleteOptions, Propagation};
use crate::registry::Stored;
use crate::strategy::seconds;
use crate::verbs::list;
use crate::{codec, respond};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// `kubernetes/kubernetes pkg/registry/batch/job/storage/storage.go: deleteOptionWarnings`.
const CHILDREN_STAY: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background \
                             to remove them or set propagationPolicy=Orphan to suppress this warning";
/// A deletion that others keep overtaking gives up after this many tries.
const ATTEMPTS: usize = 10;

/// What came of a deletion.
pub struct Deleted {
    pub value: Value,
    /// It is gone, rather than waiting for finalizers or its grace period.
    pub gone: bool,
}

pub async fn delete(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    let options = read_options(cx, payload)?;
    let deleted = delete_object(cx, &options).await?;
    // Only who asks in the old way that dependents go too is told that the object stays for now.
    let code = if !deleted.gone && options.orphan_dependents == Some(false) { 202 } else { 200 };
    if !deleted.gone || returns_object(&cx.kind) {
        return respond::object(cx, code, deleted.value);
    }
    let details = Details {
        name: cx.info.name.clone(),
        group: cx.kind.group.to_string(),
        kind: cx.kind.names.plural.to_string(),
        uid: object::uid(&deleted.value).to_owned(),
        ..Details::default()
    };
    let bytes = Status::success(Some(details)).to_json();
    respond::tree(cx, 200, &serde_json::from_slice(&bytes).map_err(Status::internal)?)
}

fn read_options(cx: &Cx, payload: &Payload) -> Result<DeleteOptions, Status> {
    let body = codec::delete_options(payload)?;
    let options = DeleteOptions::parse(&cx.query, body.as_ref())?;
    let undecided = options.propagation.is_none() && options.orphan_dependents.is_none();
    if undecided && cx.kind.group == "batch" && cx.kind.names.plural == "jobs" {
        cx.warn(CHILDREN_STAY);
    }
    Ok(options)
}

/// Kinds whose deletion answers with the object (upstream's `ReturnDeletedObject`).
pub fn returns_object(kind: &Kind) -> bool {
    match kind.group.as_ref() {
        "" => matches!(
            kind.names.plural.as_ref(),
            "resourcequotas"
                | "persistentvolumes"
                | "serviceaccounts"
                | "persistentvolumeclaims"
                | "namespaces"
                | "pods"
                | "services"
                | "podtemplates"
        ),
        "storage.k8s.io" => kind.names.plural != "csistoragecapacities",
        "resource.k8s.io" => kind.names.plural != "devicetaintrules",
        _ => false,
    }
}

/// Deletes the named object, or begins to.
pub async fn delete_object(cx: &Cx, options: &DeleteOptions) -> Result<Deleted, Status> {
    let mut on_record = options.dry_run;
    for _ in 0..ATTEMPTS {
        let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
        let old = found.ok_or_else(|| cx.not_found())?;
        check_preconditions(cx, &old, options)?;
        admission::delete(cx, &old.value, options).await?;
        let mut new = old.value.clone();
        let step = begin(cx, &mut new, options);
        if step != Step::Pending && !on_record {
            put_on_record(cx, &old.value, &new);
            on_record = true;
        }
        let key = cx.key(&cx.info.name);
        let revision = match step {
            Step::Pending => return Ok(Deleted { value: old.value, gone: false }),
            _ if options.dry_run => return Ok(Deleted { value: new, gone: step == Step::Now }),
            Step::Now => cx.server.registry.delete(&key, old.revision).await?,
            Step::Later => cx.server.registry.update(&cx.kind, &key, &new, old.revision).await?,
        };
        if let Some(revision) = revision {
            object::set_resource_version(&mut new, &revision.to_string());
            return Ok(Deleted { value: new, gone: step == Step::Now });
        }
        if options.resource_version.is_some() {
            break;
        }
    }
    Err(Status::modified(&cx.resource(), &cx.info.name))
}

/// Who asks for the end of a pod is known only here. A kubelet that takes away the last of a pod which somebody else
/// has deleted is not the one who asked.
fn put_on_record(cx: &Cx, old: &Value, new: &Value) {
    let Some(journal) = cx.server.config.journal.as_ref().filter(|_| graceful(&cx.kind)) else { return };
    let by = Decider::of_user(&cx.user.name);
    if by == Decider::Kubelet && object::is_being_deleted(old) {
        return;
    }
    let subject = Subject::pod(object::namespace(old), object::name(old), object::uid(old));
    let grace_seconds = object::deletion_grace_period_seconds(new).unwrap_or(0);
    journal.write(Timestamp::now(), Record::new(subject, What::DeletionRequested { by, grace_seconds }));
}

/// 409 unless the object is the one that was meant.
pub fn check_preconditions(cx: &Cx, old: &Stored, options: &DeleteOptions) -> Result<(), Status> {
    let own = own_words(&cx.kind);
    // Upstream names the kind here where it names the resource elsewhere.
    let named = match own {
        None => GroupResource::new(cx.kind.group.as_ref(), cx.kind.names.kind.as_ref()),
        Some(_) => cx.resource(),
    };
    let wants = |wanted: &Option<String>, is: &str, what: &str, guess: &str| match wanted {
        Some(wanted) if wanted != is => {
            let words = match own {
                None => format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object \
                     might have been {guess}"
                ),
                Some(opening) => format!("{opening}: {what} in precondition: {wanted}, {what} in object meta: {is}"),
            };
            Err(Status::conflict(&named, &cx.info.name, words))
        }
        _ => Ok(()),
    };
    wants(&options.uid, object::uid(&old.value), "UID", "deleted and then recreated")?;
    wants(&options.resource_version, object::resource_version(&old.value), "ResourceVersion", "modified")
}

/// How a failed precondition is told of the two kinds whose deletion upstream writes apart.
fn own_words(kind: &Kind) -> Option<&'static str> {
    match (kind.subresources.contains(&Subresource::Finalize), kind.on_delete.is_some()) {
        (true, _) => Some("Precondition failed"),
        (_, true) => Some("precondition failed"),
        (false, false) => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Deletion is under way already and nothing changes.
    Pending,
    /// The object is marked and stays for now.
    Later,
    Now,
}

/// Marks the object for deletion as far as its grace period and finalizers ask for it.
fn begin(cx: &Cx, new: &mut Value, options: &DeleteOptions) -> Step {
    if let Some(hold) = cx.kind.on_delete.filter(|_| !object::is_being_deleted(new)) {
        hold(new, &seconds(cx.now));
        return Step::Later;
    }
    let before = new.clone();
    let graceful = match grace(cx, new, options) {
        Grace::Pending => return Step::Pending,
        Grace::None => false,
        Grace::Set => true,
    };
    set_garbage_finalizers(&cx.kind, new, options.propagation);
    let held = object::finalizers(new).next().is_some() || held_by_spec(&cx.kind, new);
    if graceful {
        let zero = object::deletion_grace_period_seconds(new) == Some(0);
        return if zero && !held { Step::Now } else { Step::Later };
    }
    if !held {
        return Step::Now;
    }
    mark(&cx.kind, new, cx.now);
    if *new == before { Step::Pending } else { Step::Later }
}

/// `kubernetes/apiserver pkg/registry/generic/registry/store.go: markAsDeleting`.
fn mark(kind: &Kind, value: &mut Value, now: Timestamp) {
    let deletion: Option<Timestamp> = object::deletion_timestamp(value).parse().ok();
    if deletion.is_none() && object::generation(value) > 0 {
        object::set_generation(value, object::generation(value) + 1);
    }
    if deletion.is_none_or(|at| at > now) {
        object::set_deletion_timestamp(value, &seconds(now));
    }
    object::metadata_mut(value).insert("deletionGracePeriodSeconds".to_owned(), Value::from(0));
    if kind.subresources.contains(&Subresource::Finalize) {
        object::metadata_mut(value).remove("deletionGracePeriodSeconds");
        object::put(value, &["status", "phase"], Value::from("Terminating"));
    }
}

/// A kind with a `finalize` subresource (namespaces) is also held by `spec.finalizers`.
fn held_by_spec(kind: &Kind, value: &Value) -> bool {
    kind.subresources.contains(&Subresource::Finalize)
        && value.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Whether an update has taken the last thing that held an object under deletion.
/// `kubernetes/apiserver pkg/registry/generic/registry/store.go: ShouldDeleteDuringUpdate`.
pub fn finished(kind: &Kind, value: &Value) -> bool {
    object::is_being_deleted(value)
        && object::finalizers(value).next().is_none()
        && !held_by_spec(kind, value)
        && object::deletion_grace_period_seconds(value).is_none_or(|seconds| seconds == 0)
}

enum Grace {
    /// The kind knows no grace, or it is over.
    None,
    /// deletionTimestamp and deletionGracePeriodSeconds are set.
    Set,
    Pending,
}

/// `kubernetes/apiserver pkg/registry/rest/delete.go: BeforeDelete`.
fn grace(cx: &Cx, value: &mut Value, options: &DeleteOptions) -> Grace {
    if !graceful(&cx.kind) {
        return Grace::None;
    }
    if object::is_being_deleted(value) {
        return shorten(cx, value, options);
    }
    let Some(period) = pod_grace(value, options) else { return Grace::None };
    set_grace(value, cx.now, period);
    if object::generation(value) > 0 {
        object::set_generation(value, object::generation(value) + 1);
    }
    Grace::Set
}

fn set_grace(value: &mut Value, from: Timestamp, period: i64) {
    let at = from.checked_add(Span::new().seconds(period)).unwrap_or(Timestamp::MAX);
    object::set_deletion_timestamp(value, &seconds(at));
    object::metadata_mut(value).insert("deletionGracePeriodSeconds".to_owned(), Value::from(period));
}

/// A deletion under way may only become shorter.
fn shorten(cx: &Cx, value: &mut Value, options: &DeleteOptions) -> Grace {
    let Some(present) = object::deletion_grace_period_seconds(value).filter(|seconds| *seconds != 0) else {
        return Grace::None;
    };
    let Some(mut period) = options.grace_seconds.filter(|period| *period < present) else { return Grace::Pending };
    let ends: Timestamp = object::deletion_timestamp(value).parse().unwrap_or(cx.now);
    let begun = ends.checked_sub(Span::new().seconds(present)).unwrap_or(cx.now);
    let wanted = begun.checked_add(Span::new().seconds(period)).unwrap_or(cx.now);
    if wanted < cx.now && period != 0 {
        // A shortened grace that is over already still leaves the last word to whoever runs the pod.
        period = 1;
    }
    object::set_deletion_timestamp(value, &seconds(wanted.max(cx.now)));
    object::metadata_mut(value).insert("deletionGracePeriodSeconds".to_owned(), Value::from(period));
    Grace::Set
}

/// The kind whose objects run somewhere and have to be stopped there first.
fn graceful(kind: &Kind) -> bool {
    kind.subresources.contains(&Subresource::Exec)
}

/// `kubernetes/kubernetes pkg/registry/core/pod/strategy.go: CheckGracefulDelete`.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> Option<i64> {
    let spec_grace = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    let mut period = options.grace_seconds.or(spec_grace).unwrap_or(0);
    if period < 0 {
        period = 1;
    }
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // A pod that no kubelet has, or that has ended, needs nobody's leave.
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Failed" | "Succeeded") {
        period = 0;
    }
    Some(period)
}

/// `kubernetes/apiserver pkg/registry/generic/registry/store.go: deletionFinalizersForGarbageCollection`.
fn set_garbage_finalizers(kind: &Kind, value: &mut Value, asked: Option<Propagation>) {
    if kind.names.plural == "events" {
        return;
    }
    let has = |name: &str| object::finalizers(value).any(|finalizer| finalizer == name);
    let policy = match (asked, has(ORPHAN), has(FOREGROUND)) {
        (Some(asked), _, _) => asked,
        (None, true, _) => Propagation::Orphan,
        (None, _, true) => Propagation::Foreground,
        (None, false, false) => default_propagation(kind),
    };
    let mut finalizers: Vec<String> = object::finalizers(value)
        .filter(|finalizer| !matches!(*finalizer, ORPHAN | FOREGROUND))
        .map(str::to_owned)
        .collect();
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    object::set_finalizers(value, finalizers);
}

/// Upstream's `DefaultGarbageCollectionPolicy`: orphaning is kept for the oldest APIs.
fn default_propagation(kind: &Kind) -> Propagation {
    match (kind.group.as_ref(), kind.version.as_ref(), kind.names.plural.as_ref()) {
        ("", "v1", "replicationcontrollers") | ("batch", "v1", "jobs") => Propagation::Orphan,
        _ => Propagation::Background,
    }
}

/// DELETE of a collection: every object that a list with the same parameters would show, one by one. The answer is
/// that list.
pub async fn delete_collection(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    let options = read_options(cx, payload)?;
    let page = match list::page(cx).await? {
        Ok(page) => page,
        Err(expired) => return Ok(expired),
    };
    for chosen in &page.objects {
        match delete_object(&cx.named(chosen.namespace(), chosen.name()), &options).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    list::write(cx, &page).await
}
