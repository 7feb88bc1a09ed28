//! Moving pods from old ReplicaSets to the new one: `RollingUpdate` and `Recreate`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::draft::Draft;
use crate::meta;
use crate::podstate;

impl Draft {
    /// The size the new set may have now, being `now` large.
    pub fn size_of_new(&self, now: i32) -> i32 {
        if !self.rolls() {
            return self.wanted();
        }
        let most = self.wanted() + self.max_surge();
        let room = most - self.total();
        if room <= 0 { now } else { now + room.min(self.wanted() - now) }
    }

    /// One step of a rolling update: up if it can, else down if it can.
    pub fn roll(&mut self) {
        self.sync_revision(true);
        let Some(new) = self.new else { return };
        let size = self.sets[new].replicas;
        let target = if size > self.wanted() { self.wanted() } else { self.size_of_new(size) };
        if size != self.wanted() && self.resize(new, target, false) {
            return;
        }
        if self.shrink_old(new) {
            return;
        }
        self.clean_up_when_complete();
    }

    fn shrink_old(&mut self, new: usize) -> bool {
        let old: Vec<usize> = self.old().into_iter().filter(|at| self.sets[*at].replicas > 0).collect();
        if old.is_empty() {
            return false;
        }
        let least = self.wanted() - self.max_unavailable();
        let new_unavailable = self.sets[new].replicas - self.sets[new].available();
        let most = self.total() - least - new_unavailable;
        if most <= 0 {
            return false;
        }
        let unhealthy = self.drop_unhealthy(&old, most);
        let healthy = self.drop_available(&old, least);
        unhealthy + healthy > 0
    }

    /// Pods that are not available are given up first: it costs nothing.
    fn drop_unhealthy(&mut self, old: &[usize], most: i32) -> i32 {
        let mut dropped = 0;
        for at in old {
            let set = &self.sets[*at];
            let unhealthy = set.replicas - set.available();
            if dropped >= most || unhealthy <= 0 {
                continue;
            }
            let step = unhealthy.min(most - dropped);
            self.resize(*at, self.sets[*at].replicas - step, false);
            dropped += step;
        }
        dropped
    }

    fn drop_available(&mut self, old: &[usize], least: i32) -> i32 {
        let available: i32 = self.sets.iter().map(|s| s.available()).sum();
        let most = available - least;
        let mut dropped = 0;
        for at in old {
            let size = self.sets[*at].replicas;
            if dropped >= most || size == 0 {
                continue;
            }
            let step = size.min(most - dropped);
            self.resize(*at, size - step, false);
            dropped += step;
        }
        dropped
    }

    /// `Recreate`: nothing new before everything old has ended.
    pub fn recreate(&mut self, pods: &[Arc<Pod>]) {
        self.sync_revision(false);
        let mut shrunk = false;
        for at in self.old() {
            if self.sets[at].replicas > 0 {
                shrunk |= self.resize(at, 0, false);
            }
        }
        if shrunk || self.old_pods_run(pods) {
            return;
        }
        if self.new.is_none() {
            self.sync_revision(true);
        }
        if let Some(new) = self.new {
            self.resize(new, self.wanted(), false);
            self.clean_up_when_complete();
        }
    }

    fn old_pods_run(&self, pods: &[Arc<Pod>]) -> bool {
        let new = self.new.map(|at| meta::uid(&self.sets[at].read.metadata)).unwrap_or("");
        self.old().iter().any(|at| self.sets[*at].actual() > 0)
            || pods.iter().any(|pod| !podstate::finished(pod) && !meta::controlled_by(&pod.metadata, new))
    }

    fn clean_up_when_complete(&mut self) {
        let status = self.read.status.clone().unwrap_or_default();
        if self.complete(&status) {
            self.clean_up();
        }
    }
}
