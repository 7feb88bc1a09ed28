//! Which ReplicaSet carries the current template, its revision, and going back to an older one.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::draft::{DESIRED, Draft, MAX};
use crate::hash;
use crate::meta;
use crate::plan::{self, Action, Event, Note, Plan};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const ROLLBACK: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const HASH: &str = "pod-template-hash";
/// The most characters the list of past revisions may take.
const HISTORY_MAX: usize = 2000;
/// The longest name of an object.
const NAME_MAX: usize = 253;

/// Annotations of a Deployment that its ReplicaSets do not take over.
fn stays(annotation: &str) -> bool {
    [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, ROLLBACK].contains(&annotation)
}

/// The revision the deprecated annotation asks to go back to; 0 means the one before.
pub(super) fn rollback_to(deployment: &Deployment) -> Option<i64> {
    meta::annotation(&deployment.metadata, ROLLBACK)?.parse().ok()
}

fn revision_of(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Whether two templates are the same but for the hash label and for what is empty rather than absent.
fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let plain = |template: &PodTemplateSpec| {
        let mut value = serde_json::to_value(template).unwrap_or(Value::Null);
        if let Some(labels) = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        hash::without_empty(&mut value);
        value
    };
    a == b || plain(a) == plain(b)
}

impl Draft {
    /// Finds the ReplicaSet of the current template; of several, the oldest.
    pub fn find_new(&mut self) {
        let template = &self.read.spec.template;
        let carries = |set: &ReplicaSet| set.spec.template.as_ref().is_some_and(|t| same_template(t, template));
        self.new = self.sets.iter().position(|set| carries(&set.read));
    }

    fn newest_old_revision(&self) -> i64 {
        self.old().iter().map(|at| revision_of(&self.sets[*at].annotations)).max().unwrap_or(0)
    }

    /// Brings the new ReplicaSet's annotations up to date, or makes it if `create`.
    pub fn sync_revision(&mut self, create: bool) {
        self.find_new();
        let revision = self.newest_old_revision() + 1;
        let Some(at) = self.new else {
            if create {
                self.create_new(revision);
            }
            return;
        };
        let before = self.sets[at].annotations.clone();
        let annotations = self.annotations_for(before.clone(), revision);
        let min_ready = self.read.spec.min_ready_seconds.unwrap_or(0);
        let set = &mut self.sets[at];
        let renewed = annotations != before || set.min_ready_seconds != min_ready;
        set.annotations = annotations;
        set.min_ready_seconds = min_ready;
        if renewed {
            return;
        }
        self.revision = set.annotations.get(REVISION).cloned();
        if self.has_deadline() && self.condition("Progressing").is_none() {
            let name = self.sets[at].name().to_string();
            let text = format!("Found new replica set {name:?}");
            self.set_condition("Progressing", "True", "FoundNewReplicaSet", &text);
        }
    }

    /// The annotations of a ReplicaSet that carries the template in `revision`.
    fn annotations_for(&self, had: BTreeMap<String, String>, revision: i64) -> BTreeMap<String, String> {
        let mut annotations = had;
        for (key, value) in self.read.metadata.annotations.iter().flatten() {
            if !stays(key) {
                annotations.insert(key.clone(), value.clone());
            }
        }
        let old = annotations.get(REVISION).cloned();
        if revision_of(&annotations) < revision {
            annotations.insert(REVISION.into(), revision.to_string());
            if let Some(old) = old {
                let mut history: Vec<String> = annotations
                    .get(HISTORY)
                    .filter(|h| !h.is_empty())
                    .map(|h| h.split(',').map(str::to_string).collect())
                    .unwrap_or_default();
                history.push(old);
                while history.join(",").len() > HISTORY_MAX {
                    history.remove(0);
                }
                annotations.insert(HISTORY.into(), history.join(","));
            }
        }
        annotations
    }

    /// Makes the ReplicaSet of the current template, or steps aside when the name is taken by another.
    fn create_new(&mut self, revision: i64) {
        if let Some(failure) = self.failure.clone().filter(|f| f.verb == "create" && f.resource == "replicasets") {
            if failure.reason == "AlreadyExists" {
                let status = self.status();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                return;
            }
            let text = format!("Failed to create new replica set {:?}: {}", failure.name, failure.message);
            if self.has_deadline() {
                self.set_condition("Progressing", "False", "ReplicaSetCreateError", &text);
            }
        }
        let deployment = self.read.clone();
        let template = &deployment.spec.template;
        let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
        let hash = hash::template(template, collisions);
        let name = meta::name(&deployment.metadata);
        let longest = NAME_MAX - 1 - hash.len();
        let short: String = name.chars().take(longest).collect();
        let replicas = self.size_of_new(0);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{short}-{hash}")),
                namespace: deployment.metadata.namespace.clone(),
                owner_references: Some(vec![meta::controller_reference(deployment.as_ref())]),
                ..Default::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: deployment.spec.min_ready_seconds,
                selector: deployment.spec.selector.clone(),
                template: Some(template.clone()),
            },
            status: None,
        };
        let labels = set.spec.template.get_or_insert_default().metadata.get_or_insert_default();
        labels.labels.get_or_insert_default().insert(HASH.into(), hash.clone());
        set.metadata.labels = labels.labels.clone();
        set.spec.selector.match_labels.get_or_insert_default().insert(HASH.into(), hash);
        let mut annotations = self.annotations_for(BTreeMap::new(), revision);
        annotations.insert(DESIRED.into(), self.wanted().to_string());
        annotations.insert(MAX.into(), (self.wanted() + self.max_surge()).to_string());
        set.metadata.annotations = Some(annotations);
        let name = meta::name(&set.metadata).to_string();
        let scaled = format!("Scaled up replica set {name} from 0 to {replicas}");
        let reason = if replicas > 0 { "ScalingReplicaSet" } else { "" };
        let failed = format!("Failed to create new replica set {name:?}: {{error}}");
        self.plan.actions.push(Action::create(&set).noted(Note {
            about: plan::reference(deployment.as_ref()),
            done: (reason, scaled.into()),
            failed: ("ReplicaSetCreateError", failed.into()),
        }));
        if self.has_deadline() && self.failure.is_none() {
            let text = format!("Created new replica set {name:?}");
            self.set_condition("Progressing", "True", "NewReplicaSetCreated", &text);
        }
    }

    /// Puts an older template back.
    pub fn roll_back(mut self, to: i64) -> Plan {
        self.sync_revision(false);
        let mut revisions: Vec<i64> = self.sets.iter().map(|s| revision_of(&s.annotations)).collect();
        revisions.sort_unstable();
        let before = revisions.len().checked_sub(2).map_or(0, |at| revisions[at]);
        let wanted = if to == 0 { before } else { to };
        let mut updated = self.read.as_ref().clone();
        let annotations = updated.metadata.annotations.get_or_insert_default();
        annotations.remove(ROLLBACK);
        let found = self.sets.iter().find(|s| wanted != 0 && revision_of(&s.annotations) == wanted);
        let event = match found {
            None if to == 0 && wanted == 0 => Event::warning(
                self.read.as_ref(),
                "DeploymentRollbackRevisionNotFound",
                "Unable to find last revision.",
            ),
            None => Event::warning(
                self.read.as_ref(),
                "DeploymentRollbackRevisionNotFound",
                "Unable to find the revision to rollback to.",
            ),
            Some(set) => {
                let old = set.read.spec.template.clone().unwrap_or_default();
                let name = meta::name(&self.read.metadata);
                if same_template(&old, &self.read.spec.template) {
                    let text =
                        format!("The rollback revision contains the same template as current deployment {name:?}");
                    Event::warning(self.read.as_ref(), "DeploymentRollbackTemplateUnchanged", text)
                } else {
                    annotations.retain(|key, _| stays(key));
                    let theirs = set.annotations.iter().filter(|(key, _)| !stays(key));
                    annotations.extend(theirs.map(|(k, v)| (k.clone(), v.clone())));
                    updated.spec.template = old;
                    if let Some(labels) = updated.spec.template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
                        labels.remove(HASH);
                    }
                    let text = format!("Rolled back deployment {name:?} to revision {wanted}");
                    Event::normal(self.read.as_ref(), "DeploymentRollback", text)
                }
            }
        };
        let mut plan = Plan::default();
        plan.events.push(event);
        plan.actions.push(Action::update(&updated));
        plan
    }

    /// Removes ReplicaSets beyond the history's limit, oldest revision first.
    pub fn clean_up(&mut self) {
        let Some(limit) = self.read.spec.revision_history_limit.filter(|l| *l != i32::MAX) else { return };
        let mut old: Vec<usize> =
            self.old().into_iter().filter(|at| !meta::deleting(&self.sets[*at].read.metadata)).collect();
        let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|at| revision_of(&self.sets[*at].annotations));
        for at in old.into_iter().take(excess) {
            let set = &self.sets[at];
            let observed = set.read.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
            let stale = meta::generation(&set.read.metadata) > observed;
            if set.actual() == 0 && set.replicas == 0 && !stale {
                self.plan.actions.push(Action::delete(set.read.as_ref()));
            }
        }
    }
}
