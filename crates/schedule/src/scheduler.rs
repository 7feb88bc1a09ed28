//! The scheduler's whole state, driven from outside:
//!
//! ```text
//! on_event(event, now)...      while let Some(pod) = next(now):
//!                                  match decide(&pod, seed):
//!                                      Bind { node }  -> assume(&pod, &node), then post the Binding; bind_failed(..) if it fails
//!                                      Refused(why)   -> refused(&pod, &why, now), then report, delete why.victims
//!                              sleep until next_wake() or the next event
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::cycle::{Decision, Refusal, decide_view};
use crate::event::{Change, ClusterEvent};
use crate::pod_view::{PodRef, PodView};
use crate::queue::Queue;
use crate::rules::Happening;
use crate::snapshot::Snapshot;

pub struct Scheduler {
    /// Pods of other schedulers are only obstacles.
    name: String,
    snapshot: Snapshot,
    queue: Queue,
    /// Where each pod stands, by the API or by assumption.
    placed: BTreeMap<PodRef, Placed>,
}

struct Placed {
    node: String,
    /// The API has not said so yet.
    assumed: bool,
    pod: Arc<PodView>,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new("default-scheduler")
    }
}

impl Scheduler {
    pub fn new(name: impl Into<String>) -> Self {
        let (snapshot, queue, placed) = (Snapshot::default(), Queue::default(), BTreeMap::new());
        Self { name: name.into(), snapshot, queue, placed }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn on_event(&mut self, event: &ClusterEvent, now: Timestamp) {
        match event {
            ClusterEvent::Pod(Change::Set(pod)) => self.set_pod(pod, now),
            ClusterEvent::Pod(Change::Gone(pod)) => {
                let pod = Arc::new(PodView::new(pod.clone()));
                self.forget(&pod, now);
            }
            ClusterEvent::Node(Change::Set(node)) => self.set_node(node, now),
            ClusterEvent::Node(Change::Gone(node)) => {
                let name = node.metadata.name.as_deref().unwrap_or("");
                let Some(gone) = self.snapshot.node(name).cloned() else { return };
                self.snapshot.remove_node(name);
                self.queue.happened(&Happening::NodeGone(&gone), now);
            }
            other => {
                self.snapshot.remember(other);
                self.queue.happened(&Happening::Other(other), now);
            }
        }
    }

    fn set_node(&mut self, node: &Arc<Node>, now: Timestamp) {
        let name = node.metadata.name.as_deref().unwrap_or("");
        let before = self.snapshot.node(name).cloned();
        self.snapshot.set_node(node);
        let Some(after) = self.snapshot.node(name) else { return };
        match &before {
            None => self.queue.happened(&Happening::NodeAdded(after), now),
            // A heartbeat changes nothing that a rule looks at.
            Some(before)
                if before.labels == after.labels
                    && before.taints == after.taints
                    && before.allocatable == after.allocatable
                    && before.pods_max == after.pods_max
                    && before.is_unschedulable() == after.is_unschedulable() => {}
            Some(before) => self.queue.happened(&Happening::NodeChanged { before, now: after }, now),
        }
    }

    fn set_pod(&mut self, pod: &Arc<Pod>, now: Timestamp) {
        let pod = Arc::new(PodView::new(pod.clone()));
        if pod.is_over() {
            return self.forget(&pod, now);
        }
        match pod.node_name() {
            Some(_) => self.set_placed(pod, now),
            // Told of a pod that is on its way to a node: the binding will be told too.
            None if self.placed.contains_key(&pod.key) => {}
            None if pod.is_terminating() || !self.is_mine(&pod) => {
                self.queue.remove(&pod.key);
                self.snapshot.forget_nomination(&pod.key);
            }
            None => {
                if let Some(node) = pod.nominated_node() {
                    self.snapshot.nominate(pod.clone(), node);
                }
                self.queue.set(pod, now);
            }
        }
    }

    fn is_mine(&self, pod: &PodView) -> bool {
        pod.spec().scheduler_name.as_deref().unwrap_or("default-scheduler") == self.name
    }

    fn set_placed(&mut self, pod: Arc<PodView>, now: Timestamp) {
        let node = pod.node_name().unwrap_or("").to_string();
        self.queue.remove(&pod.key);
        self.snapshot.forget_nomination(&pod.key);
        let before =
            self.placed.insert(pod.key.clone(), Placed { node: node.clone(), assumed: false, pod: pod.clone() });
        if let Some(before) = &before
            && before.node != node
        {
            self.snapshot.displace(&pod.key, &before.node);
        }
        self.snapshot.place(pod.clone(), &node);
        let matters = before.is_none_or(|before| {
            before.assumed || before.pod.labels != pod.labels || before.pod.is_terminating() != pod.is_terminating()
        });
        if matters {
            self.queue.happened(&Happening::PodPlaced(&pod), now);
        }
    }

    fn forget(&mut self, pod: &Arc<PodView>, now: Timestamp) {
        self.queue.remove(&pod.key);
        self.snapshot.forget_nomination(&pod.key);
        if let Some(placed) = self.placed.remove(&pod.key) {
            self.snapshot.displace(&pod.key, &placed.node);
            self.queue.happened(&Happening::PodGone(&placed.pod), now);
        } else if pod.nominated_node().is_some() {
            self.queue.happened(&Happening::PodGone(pod), now);
        }
    }

    /// The pod to decide on next. It is in flight until `assume`, `refused` or `bind_failed` is called for it, or it goes.
    pub fn next(&mut self, now: Timestamp) -> Option<Arc<PodView>> {
        self.queue.pop(now)
    }

    /// When `next` may have a pod although no event has come. A time in the past: now.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.queue.next_wake()
    }

    pub fn decide(&self, pod: &PodView, seed: u64) -> Decision {
        decide_view(&self.snapshot, pod, seed)
    }

    /// The pod counts as being on the node from now on, while the binding is on its way.
    pub fn assume(&mut self, pod: &Arc<PodView>, node: &str) {
        // It may have been deleted meanwhile.
        if !self.queue.is_in_flight(&pod.key) {
            return;
        }
        self.snapshot.forget_nomination(&pod.key);
        self.snapshot.place(pod.clone(), node);
        self.placed.insert(pod.key.clone(), Placed { node: node.to_string(), assumed: true, pod: pod.clone() });
    }

    /// The binding was refused: the room is free again, and the pod is tried again after its back-off.
    pub fn bind_failed(&mut self, pod: &PodRef, now: Timestamp) {
        if let Some(placed) = self.placed.remove(pod) {
            if !placed.assumed {
                self.placed.insert(pod.clone(), placed);
                return;
            }
            self.snapshot.displace(pod, &placed.node);
            self.queue.happened(&Happening::PodGone(&placed.pod), now);
        }
        self.queue.failed(pod, now);
    }

    pub fn refused(&mut self, pod: &Arc<PodView>, refusal: &Refusal, now: Timestamp) {
        if !self.queue.is_in_flight(&pod.key) {
            return;
        }
        match &refusal.nominated {
            Some(node) => self.snapshot.nominate(pod.clone(), node),
            None if refusal.clears_nomination => self.snapshot.forget_nomination(&pod.key),
            None => {}
        }
        self.queue.refused(&pod.key, refusal.plugins.clone(), now);
    }

    /// Pods that are active, back off, are unschedulable, are gated.
    pub fn pending(&self) -> [usize; 4] {
        self.queue.pending()
    }
}
