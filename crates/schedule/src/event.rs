//! What the scheduler is told of the cluster.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};

/// An object as it is now, or the last one known of an object that is gone.
#[derive(Clone, Debug)]
pub enum Change<T> {
    Set(Arc<T>),
    Gone(Arc<T>),
}

impl<T> Change<T> {
    pub fn object(&self) -> &Arc<T> {
        match self {
            Self::Set(object) | Self::Gone(object) => object,
        }
    }
}

/// One change of one object. Of services and workloads only the selectors matter: pods that belong together are spread.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    Claim(Change<PersistentVolumeClaim>),
    Volume(Change<PersistentVolume>),
    StorageClass(Change<StorageClass>),
    CsiNode(Change<CSINode>),
    Budget(Change<PodDisruptionBudget>),
    Service(Change<Service>),
    ReplicationController(Change<ReplicationController>),
    ReplicaSet(Change<ReplicaSet>),
    StatefulSet(Change<StatefulSet>),
}
