//! `ControllerRevision`s: the past templates of a DaemonSet or StatefulSet.
//!
//! kubernetes/kubernetes pkg/controller/history: decides names, numbers and equality.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kinds::complete::complete;
use serde_json::{Value, json};

use crate::cache::{Kept, Key};
use crate::controller::{Cx, Failure};
use crate::hash;
use crate::meta;
use crate::plan::Action;

pub const HASH: &str = "controller-revision-hash";

/// The revisions of an owner, the current template's apart.
pub struct History {
    /// Absent until the revision that `actions` creates is there.
    pub current: Option<Arc<ControllerRevision>>,
    /// All others, by revision number.
    pub old: Vec<Arc<ControllerRevision>>,
    pub actions: Vec<Action>,
    /// The revision's name is taken by another template: count it, so that the next name is another.
    pub collision: bool,
}

/// An owner's revisions and the orphans of its namespace.
pub fn gather(cx: &Cx<'_>, key: &Key, uid: &str) -> Vec<Arc<ControllerRevision>> {
    let near = |r: &Arc<ControllerRevision>| meta::controller_of(&r.metadata).is_none_or(|owner| owner.uid == uid);
    cx.cache.revisions.within(&key.namespace).into_iter().filter(near).collect()
}

const TEMPLATE: &str = "io.k8s.api.core.v1.PodTemplateSpec";

/// What a revision keeps of its owner: a patch that puts the template back, in the bytes that Go writes, for others compare
/// them.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or(Value::Null);
    complete(&mut template, TEMPLATE);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn same(revision: &ControllerRevision, data: &Value) -> bool {
    let plain = |data: &Value| {
        let mut data = data.clone();
        if let Some(template) = data.pointer_mut("/spec/template") {
            complete(template, TEMPLATE);
        }
        hash::without_empty(&mut data);
        data
    };
    plain(&revision.data.0) == plain(data)
}

/// `label` is where a revision carries its hash. Finds the revision of `template` among the owner's, numbers it as the newest, or makes it.
pub fn revise<O: Kept>(
    owner: &O,
    template: &PodTemplateSpec,
    mut revisions: Vec<Arc<ControllerRevision>>,
    collisions: Option<i32>,
    label: &str,
    failure: Option<&Failure>,
) -> History {
    let data = data_of(template);
    revisions.sort_by_key(|r| (r.revision, meta::created(&r.metadata), r.metadata.name.clone()));
    let at = revisions.iter().rposition(|r| same(r, &data));
    let current = at.map(|at| revisions.remove(at));
    let newest = revisions.last().and_then(|r| r.revision).unwrap_or(0);
    let mut history = History { current: current.clone(), old: revisions, actions: Vec::new(), collision: false };
    match current {
        Some(current) if current.revision.unwrap_or(0) <= newest && !history.old.is_empty() => {
            history.actions.push(Action::patch(current.as_ref(), json!({"revision": newest + 1})));
        }
        Some(_) => {}
        None => {
            history.collision =
                failure.is_some_and(|f| f.resource == "controllerrevisions" && f.reason == "AlreadyExists");
            if !history.collision {
                let fresh = fresh(owner, template, data, newest + 1, collisions, label);
                history.actions.push(Action::create(&fresh));
            }
        }
    }
    history
}

fn fresh<O: Kept>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
    collisions: Option<i32>,
    label: &str,
) -> ControllerRevision {
    let hash = hash::template(template, collisions);
    let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(label.into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.metadata()))),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone(),
            owner_references: Some(vec![meta::controller_reference(owner)]),
            ..Default::default()
        },
        data: RawExtension(data),
        revision: Some(number),
    }
}

/// The hash by which pods name a revision.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    meta::label(&revision.metadata, HASH).unwrap_or_else(|| meta::name(&revision.metadata))
}

/// The template a revision keeps.
pub fn template_of(revision: &ControllerRevision) -> PodTemplateSpec {
    let mut template = revision.data.0["spec"]["template"].clone();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    serde_json::from_value(template).unwrap_or_default()
}

/// Deletes the oldest revisions beyond `limit` that no pod names.
pub fn truncate(
    old: &[Arc<ControllerRevision>],
    limit: i32,
    live: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Action> {
    let dead: Vec<_> = old.iter().filter(|r| !live(r)).collect();
    let excess = dead.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    dead.into_iter().take(excess).map(|r| Action::delete(r.as_ref())).collect()
}
