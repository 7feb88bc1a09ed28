//! A node with the pods that are, or are about to be, on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::affinity::Labels;
use crate::amounts::{Amounts, units};
use crate::pod_view::{PodRef, PodView};

#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// `None` while only pods that name it are known.
    pub node: Option<Arc<Node>>,
    pub name: String,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub allocatable: Amounts,
    pub pods_max: i64,
    pub pods: BTreeMap<PodRef, Arc<PodView>>,
    pub requested: Amounts,
    /// As `requested`, but containers that ask for nothing count for a little.
    pub requested_for_scores: Amounts,
    /// Bytes by image name.
    pub images: BTreeMap<String, i64>,
}

impl NodeView {
    pub fn named(name: &str) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.clone()).unwrap_or_default();
        self.pods_max = allocatable.get("pods").map_or(0, units);
        self.allocatable = Amounts::of(&allocatable);
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let by_name = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        self.images = by_name.collect();
        self.node = Some(node);
    }

    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    pub fn add_pod(&mut self, pod: Arc<PodView>) {
        self.requested.add(&pod.asked.requests);
        self.requested_for_scores.add(&pod.asked.for_scores);
        let before = self.pods.insert(pod.key.clone(), pod);
        if let Some(before) = before {
            self.requested.subtract(&before.asked.requests);
            self.requested_for_scores.subtract(&before.asked.for_scores);
        }
    }

    pub fn remove_pod(&mut self, key: &PodRef) -> Option<Arc<PodView>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.asked.requests);
        self.requested_for_scores.subtract(&pod.asked.for_scores);
        Some(pod)
    }
}
