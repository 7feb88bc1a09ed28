//! A plan in the making: the Deployment and its ReplicaSets as they shall be.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use serde_json::json;

use crate::controller::Failure;
use crate::fence::{self, Round};
use crate::meta;
use crate::plan::{self, Action, Note, Plan};

pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// One ReplicaSet, as read and as it shall be.
pub(super) struct Set {
    pub read: Arc<ReplicaSet>,
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub annotations: BTreeMap<String, String>,
}

impl Set {
    fn new(read: Arc<ReplicaSet>) -> Set {
        Set {
            replicas: read.spec.replicas.unwrap_or(1),
            min_ready_seconds: read.spec.min_ready_seconds.unwrap_or(0),
            annotations: read.metadata.annotations.clone().unwrap_or_default(),
            read,
        }
    }

    pub fn name(&self) -> &str {
        meta::name(&self.read.metadata)
    }

    pub fn available(&self) -> i32 {
        self.read.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
    }

    pub fn actual(&self) -> i32 {
        self.read.status.as_ref().map_or(0, |s| s.replicas)
    }

    pub fn number(&self, annotation: &str) -> Option<i32> {
        self.annotations.get(annotation)?.parse().ok().filter(|n| *n >= 0)
    }
}

pub(super) struct Draft {
    /// The Deployment with the status it shall have.
    pub deployment: Deployment,
    pub read: Arc<Deployment>,
    /// Oldest first.
    pub sets: Vec<Set>,
    /// Index in `sets` of the ReplicaSet of the current template.
    pub new: Option<usize>,
    pub failure: Option<Failure>,
    pub now: Timestamp,
    pub plan: Plan,
    /// The revision the Deployment's annotation shall name.
    pub revision: Option<String>,
}

impl Draft {
    pub fn new(read: Arc<Deployment>, sets: Vec<Arc<ReplicaSet>>, failure: Option<Failure>, now: Timestamp) -> Draft {
        let mut sets: Vec<Set> = sets.into_iter().map(Set::new).collect();
        sets.sort_by(|a, b| {
            let made = |set: &Set| (meta::created(&set.read.metadata), set.name().to_string());
            made(a).cmp(&made(b))
        });
        let deployment = read.as_ref().clone();
        Draft { deployment, read, sets, new: None, failure, now, plan: Plan::default(), revision: None }
    }

    pub fn status(&mut self) -> &mut DeploymentStatus {
        self.deployment.status.get_or_insert_with(DeploymentStatus::default)
    }

    pub fn wanted(&self) -> i32 {
        self.read.spec.replicas.unwrap_or(1)
    }

    pub fn paused(&self) -> bool {
        self.read.spec.paused == Some(true)
    }

    pub fn rolls(&self) -> bool {
        !super::recreates(&self.read)
    }

    /// `maxSurge` and `maxUnavailable` in pods.
    fn fences(&self) -> (i32, i32) {
        let rolling = self.read.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let surge = fence::scaled(rolling.and_then(|r| r.max_surge.as_ref()), self.wanted(), Round::Up);
        let unavailable = fence::scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), self.wanted(), Round::Down);
        match (surge, unavailable) {
            // Both may round to zero, and then nothing could ever move.
            (0, 0) => (0, 1),
            both => both,
        }
    }

    pub fn max_surge(&self) -> i32 {
        if self.rolls() { self.fences().0 } else { 0 }
    }

    pub fn max_unavailable(&self) -> i32 {
        if !self.rolls() || self.wanted() == 0 { 0 } else { self.fences().1.min(self.wanted()) }
    }

    pub fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect()
    }

    /// Replicas asked of all sets together.
    pub fn total(&self) -> i32 {
        self.sets.iter().map(|s| s.replicas).sum()
    }

    /// Gives a set another size; says whether it changed.
    pub fn resize(&mut self, at: usize, replicas: i32, force: bool) -> bool {
        let (desired, max) = (self.wanted(), self.wanted() + self.max_surge());
        let set = &mut self.sets[at];
        let changed = set.replicas != replicas;
        if changed || force {
            set.replicas = replicas;
            set.annotations.insert(DESIRED.into(), desired.to_string());
            set.annotations.insert(MAX.into(), max.to_string());
        }
        changed
    }

    /// Turns the drafted sets into actions.
    pub fn write_sets(&mut self) {
        for set in &self.sets {
            let had = set.read.spec.replicas.unwrap_or(1);
            let none = BTreeMap::new();
            let annotations = set.read.metadata.annotations.as_ref().unwrap_or(&none);
            let same_ready = set.read.spec.min_ready_seconds.unwrap_or(0) == set.min_ready_seconds;
            if had == set.replicas && annotations == &set.annotations && same_ready {
                continue;
            }
            let patch = json!({
                "metadata": {"annotations": set.annotations, "resourceVersion": set.read.metadata.resource_version},
                "spec": {"replicas": set.replicas, "minReadySeconds": set.min_ready_seconds},
            });
            let mut action = Action::patch(set.read.as_ref(), patch);
            if had != set.replicas {
                let direction = if had < set.replicas { "up" } else { "down" };
                let name = set.name();
                let text = format!("Scaled {direction} replica set {name} from {had} to {}", set.replicas);
                action = action.noted(Note {
                    about: plan::reference(self.read.as_ref()),
                    done: ("ScalingReplicaSet", text.into()),
                    failed: ("", "".into()),
                });
            }
            self.plan.actions.push(action);
        }
    }

    /// Completes the plan. `rollout`: report progress as well.
    pub fn finish(mut self, rollout: bool) -> Plan {
        self.write_sets();
        let named = meta::annotation(&self.read.metadata, super::revision::REVISION).map(str::to_string);
        if let Some(revision) = self.revision.take()
            && named.as_ref() != Some(&revision)
        {
            self.plan.actions.push(Action::changed(self.read.as_ref(), |d| {
                d.metadata.annotations.get_or_insert_default().insert(super::revision::REVISION.into(), revision);
            }));
            // The update makes a new version of the Deployment, which the next plan reports on.
            return self.plan;
        }
        self.write_status(rollout);
        self.plan
    }
}
