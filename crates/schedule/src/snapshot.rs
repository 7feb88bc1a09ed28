//! The cluster as the scheduler sees it. It is kept up by events; a copy shares everything with the original.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::labels::Selector;

use crate::affinity::{Labels, selector};
use crate::event::{Change, ClusterEvent};
use crate::node_view::NodeView;
use crate::pod_view::{PodRef, PodView};

/// Namespace and name.
pub type Name = (String, String);

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, Arc<NodeView>>,
    /// Pods that wait for the pods on a node to go, with that node.
    nominated: BTreeMap<PodRef, (String, Arc<PodView>)>,
    pub namespaces: BTreeMap<String, Labels>,
    pub claims: BTreeMap<Name, Arc<PersistentVolumeClaim>>,
    pub volumes: BTreeMap<String, Arc<PersistentVolume>>,
    pub classes: BTreeMap<String, Arc<StorageClass>>,
    pub csi_nodes: BTreeMap<String, Arc<CSINode>>,
    pub budgets: BTreeMap<Name, Arc<PodDisruptionBudget>>,
    /// Selectors of services and workloads by kind, namespace and name.
    owners: BTreeMap<(&'static str, String, String), Selector>,
}

fn name_of(meta: &ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn keep<K: Ord, T>(map: &mut BTreeMap<K, Arc<T>>, key: K, change: &Change<T>) {
    match change {
        Change::Set(object) => drop(map.insert(key, object.clone())),
        Change::Gone(_) => drop(map.remove(&key)),
    }
}

impl Snapshot {
    /// Nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values().filter(|node| node.node.is_some())
    }

    pub fn node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(name).filter(|node| node.node.is_some())
    }

    pub fn nominated(&self) -> impl Iterator<Item = (&str, &Arc<PodView>)> {
        self.nominated.values().map(|(node, pod)| (node.as_str(), pod))
    }

    /// The same cluster with one node otherwise: for trying what a preemption would bring.
    pub fn with(&self, node: NodeView) -> Self {
        let mut other = self.clone();
        other.nodes.insert(node.name.clone(), Arc::new(node));
        other
    }

    fn change_node(&mut self, name: &str, change: impl FnOnce(&mut NodeView)) {
        let node = self.nodes.entry(name.to_string()).or_insert_with(|| Arc::new(NodeView::named(name)));
        change(Arc::make_mut(node));
        if node.node.is_none() && node.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.change_node(&name, |view| view.set_node(node.clone()));
    }

    pub fn remove_node(&mut self, name: &str) {
        self.change_node(name, |view| {
            let pods = std::mem::take(&mut view.pods);
            *view = NodeView::named(name);
            pods.into_values().for_each(|pod| view.add_pod(pod));
        });
    }

    /// Puts a pod on a node: bound, or assumed to be bound soon.
    pub fn place(&mut self, pod: Arc<PodView>, node: &str) {
        self.change_node(node, |view| view.add_pod(pod));
    }

    pub fn displace(&mut self, key: &PodRef, node: &str) {
        self.change_node(node, |view| drop(view.remove_pod(key)));
    }

    pub fn nominate(&mut self, pod: Arc<PodView>, node: &str) {
        self.nominated.insert(pod.key.clone(), (node.to_string(), pod));
    }

    pub fn forget_nomination(&mut self, key: &PodRef) {
        self.nominated.remove(key);
    }

    /// Takes in everything but pods and nodes, whose changes need more than to be remembered.
    pub fn remember(&mut self, event: &ClusterEvent) {
        match event {
            ClusterEvent::Pod(_) | ClusterEvent::Node(_) => {}
            ClusterEvent::Namespace(change) => {
                let meta = &change.object().metadata;
                let name = meta.name.clone().unwrap_or_default();
                match change {
                    Change::Set(_) => drop(self.namespaces.insert(name, meta.labels.clone().unwrap_or_default())),
                    Change::Gone(_) => drop(self.namespaces.remove(&name)),
                }
            }
            ClusterEvent::Claim(change) => keep(&mut self.claims, name_of(&change.object().metadata), change),
            ClusterEvent::Volume(change) => keep(&mut self.volumes, name_of(&change.object().metadata).1, change),
            ClusterEvent::StorageClass(change) => keep(&mut self.classes, name_of(&change.object().metadata).1, change),
            ClusterEvent::CsiNode(change) => keep(&mut self.csi_nodes, name_of(&change.object().metadata).1, change),
            ClusterEvent::Budget(change) => keep(&mut self.budgets, name_of(&change.object().metadata), change),
            ClusterEvent::Service(change) => {
                let map = change.object().spec.as_ref().and_then(|spec| spec.selector.clone());
                self.set_owner("Service", change, &change.object().metadata, from_map(map));
            }
            ClusterEvent::ReplicationController(change) => {
                let map = change.object().spec.as_ref().and_then(|spec| spec.selector.clone());
                self.set_owner("ReplicationController", change, &change.object().metadata, from_map(map));
            }
            ClusterEvent::ReplicaSet(change) => {
                let wanted = Some(selector(Some(&change.object().spec.selector)));
                self.set_owner("ReplicaSet", change, &change.object().metadata, wanted);
            }
            ClusterEvent::StatefulSet(change) => {
                let wanted = Some(selector(Some(&change.object().spec.selector)));
                self.set_owner("StatefulSet", change, &change.object().metadata, wanted);
            }
        }
    }

    fn set_owner<T>(&mut self, kind: &'static str, change: &Change<T>, meta: &ObjectMeta, wanted: Option<Selector>) {
        let (namespace, name) = name_of(meta);
        match (change, wanted) {
            (Change::Set(_), Some(wanted)) => drop(self.owners.insert((kind, namespace, name), wanted)),
            _ => drop(self.owners.remove(&(kind, namespace, name))),
        }
    }

    /// kubernetes/kubernetes pkg/scheduler/framework/plugins/helper/spread.go, DefaultSelector: what the services that
    /// select the pod and the workload that owns it ask for, together. `None` when nothing does.
    pub fn default_selector(&self, pod: &PodView) -> Option<Selector> {
        let in_namespace = |kind: &str, own: &str, namespace: &str| own == kind && namespace == pod.namespace();
        let services = self.owners.iter().filter(|((kind, namespace, _), wanted)| {
            in_namespace("Service", kind, namespace) && !wanted.is_empty() && wanted.matches(&pod.labels)
        });
        let owner = pod.pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let workload = owner.and_then(|owner| {
            let mut entries = self.owners.iter();
            entries
                .find(|((kind, namespace, name), _)| in_namespace(&owner.kind, kind, namespace) && *name == owner.name)
        });
        let mut all = services.map(|(_, wanted)| wanted).chain(workload.map(|(_, wanted)| wanted)).peekable();
        all.peek()?;
        let requirements = all.flat_map(|wanted| wanted.requirements().iter().cloned());
        Some(Selector::everything().and(requirements)).filter(|wanted| !wanted.is_empty())
    }
}

fn from_map(map: Option<Labels>) -> Option<Selector> {
    let map = map.filter(|map| !map.is_empty())?;
    Some(Selector::from_set(map.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
}
