//! What may happen next: creation and deletion in order, and the rolling update from the last ordinal down.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::api::core::v1::Pod;

use super::Draft;
use crate::fence::{self, Round};
use crate::history::HASH;
use crate::meta;
use crate::podstate;

impl Draft<'_> {
    fn in_order(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn unavailable(&self, pod: Option<&Pod>) -> bool {
        pod.is_none_or(|p| !self.available(p) || meta::deleting(&p.metadata))
    }

    fn outdated(&self, pod: &Pod) -> bool {
        meta::label(&pod.metadata, HASH) != Some(&self.update.name)
    }

    pub(super) fn act(&mut self, status: &mut StatefulSetStatus) {
        let strategy = self.set.spec.update_strategy.as_ref().and_then(|s| s.type_.clone());
        if strategy.as_deref() == Some("Recreate") {
            let (set, namespace) = (meta::name(&self.set.metadata), meta::namespace(&self.set.metadata));
            let text = format!(
                "statefulset {namespace}/{set} uses Recreate strategy but feature gate StatefulSetRecreateStrategy is disabled"
            );
            return self.tell("UnknownStrategy", text);
        }
        let in_order = self.in_order();
        let mut waits = false;
        for at in 0..self.places.len() {
            if self.process(at, in_order) {
                waits = true;
                if in_order {
                    return;
                }
            }
        }
        for at in 0..self.condemned.len() {
            let (ordinal, pod) = self.condemned[at].clone();
            self.own_claims(ordinal, Some(&pod));
        }
        if waits && in_order {
            return;
        }
        let first_unavailable = self.first_unavailable();
        for at in 0..self.condemned.len() {
            let (_, pod) = self.condemned[at].clone();
            if self.condemn(&pod, first_unavailable.as_deref(), in_order) && in_order {
                return;
            }
        }
        if self.rolls() {
            self.roll(status);
        }
    }

    /// One place: replaces what has ended, makes what is missing; true if the later ones must wait for it.
    fn process(&mut self, at: usize, in_order: bool) -> bool {
        let ordinal = self.places[at].ordinal;
        let Some(pod) = self.places[at].there.clone() else {
            if !self.make_claims(ordinal) {
                return true;
            }
            self.create(at);
            return in_order;
        };
        if podstate::finished(&pod) {
            if !meta::deleting(&pod.metadata) {
                self.delete(&pod);
            }
            return true;
        }
        if podstate::phase(&pod) == "Pending" {
            self.make_claims(ordinal);
        }
        let settled = !meta::deleting(&pod.metadata) && self.running_and_ready(&pod) && self.available(&pod);
        if in_order && !settled {
            return true;
        }
        self.own_claims(ordinal, None);
        false
    }

    /// The lowest place, then the lowest condemned pod, that is not available.
    fn first_unavailable(&self) -> Option<Arc<Pod>> {
        let places = self.places.iter().filter_map(|p| p.there.clone());
        let all = places.chain(self.condemned.iter().rev().map(|(_, pod)| pod.clone()));
        all.into_iter().find(|pod| self.unavailable(Some(pod)))
    }

    /// One pod beyond the wanted number; true if the others must wait.
    fn condemn(&mut self, pod: &Arc<Pod>, first_unavailable: Option<&Pod>, in_order: bool) -> bool {
        if meta::deleting(&pod.metadata) {
            return in_order;
        }
        let settled = self.running_and_ready(pod) && self.available(pod);
        let first = first_unavailable.is_some_and(|f| f.metadata.uid == pod.metadata.uid);
        if in_order && !settled && !first {
            return true;
        }
        self.delete(pod);
        true
    }

    fn roll(&mut self, status: &mut StatefulSetStatus) {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.clone());
        let partition = rolling.as_ref().and_then(|r| r.partition).unwrap_or(0);
        let lowest = usize::try_from(partition).unwrap_or(0);
        let most = rolling.as_ref().and_then(|r| r.max_unavailable.as_ref()).map_or(1, |most| {
            let replicas = self.set.spec.replicas.unwrap_or(1);
            fence::scaled(Some(most), replicas, Round::Down).max(1)
        });
        let there: Vec<Option<Arc<Pod>>> = self.places.iter().map(|p| p.there.clone()).collect();
        let unavailable = there.iter().filter(|p| self.unavailable(p.as_deref())).count() as i32;
        let stuck = |draft: &Self, pod: &Pod| {
            !draft.in_order() && draft.outdated(pod) && !draft.available(pod) && !meta::deleting(&pod.metadata)
        };
        let needing = there.iter().flatten().filter(|p| stuck(self, p)).count();
        if unavailable >= most && needing == 0 {
            return;
        }
        let mut room = most - unavailable;
        for pod in there.iter().enumerate().rev().filter(|(at, _)| *at >= lowest).filter_map(|(_, p)| p.clone()) {
            if !self.outdated(&pod) || meta::deleting(&pod.metadata) {
                continue;
            }
            // What is not available anyway costs nothing to replace.
            let free = stuck(self, &pod);
            if !free && room <= 0 {
                continue;
            }
            room -= i32::from(!free);
            self.delete(&pod);
            status.current_replicas = status.current_replicas.map(|n| n - 1).filter(|n| *n > 0);
        }
    }
}
