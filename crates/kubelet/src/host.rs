//! What all parts of the kubelet share: configuration, ports, caches.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use journal::{Journal, Record, RecordId, Subject, What};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use pods::dns::{ClusterDns, parse_resolver};
use pods::ports::{ContainerId, Exit, Network, Runtime};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};

use crate::certificates::Certificates;
use crate::config::KubeletConfig;
use crate::events::Recorder;
use crate::garbage::ImageAges;
use crate::images::Images;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::pressure::Pressure;
use crate::server::Rates;
use crate::task::Message;
use crate::tokens::Tokens;

const UNCLAIMED_MAX: usize = 10_000;

/// A pod as the rest of the kubelet sees it while its task runs.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: Option<Arc<PodStatus>>,
    pub(crate) to: UnboundedSender<Message>,
    /// `None` with the host's network, or without a sandbox.
    pub(crate) network_namespace: Option<PathBuf>,
    /// It is no longer at the API server: it takes no room that anybody counts on.
    pub(crate) gone: bool,
}

impl Known {
    /// Nothing of it runs any more or will.
    pub(crate) fn is_over(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

pub(crate) struct Host {
    pub(crate) config: KubeletConfig,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) client: kube::Client,
    pub(crate) objects: Objects,
    pub(crate) images: Images,
    pub(crate) image_ages: ImageAges,
    pub(crate) events: Recorder,
    pub(crate) tokens: Tokens,
    pub(crate) certificates: Certificates,
    pub(crate) machine: Machine,
    pub(crate) metrics: Metrics,
    pub(crate) pressure: Pressure,
    pub(crate) rates: Rates,
    /// The node as the API server last showed it.
    pub(crate) node: Mutex<Option<Node>>,
    /// Whether this process has written the node's status yet.
    pub(crate) reported: watch::Sender<bool>,
    /// A pod's task has ended.
    pub(crate) ended: Notify,
    /// By pod uid.
    pods: Mutex<HashMap<String, Known>>,
    /// Exits of containers whose pods have not been heard of yet: the API server may come up long after its containers.
    unclaimed: Mutex<Vec<(ContainerId, Exit)>>,
}

impl Host {
    pub(crate) fn new(
        config: KubeletConfig,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        journal: Arc<dyn Journal>,
        client: kube::Client,
    ) -> Host {
        Host {
            objects: Objects::new(client.clone()),
            images: Images::default(),
            image_ages: ImageAges::default(),
            events: Recorder::new(client.clone(), &config.node_name),
            tokens: Tokens::default(),
            certificates: Certificates::default(),
            machine: Machine::read(),
            metrics: Metrics::default(),
            pressure: Pressure::default(),
            rates: Rates::default(),
            node: Mutex::default(),
            reported: watch::Sender::new(false),
            ended: Notify::new(),
            pods: Mutex::default(),
            unclaimed: Mutex::default(),
            config,
            runtime,
            network,
            journal,
            client,
        }
    }

    pub(crate) fn pods(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // The map is whole between any two statements, so a panic elsewhere has not broken it.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods that take room on this node, but for one.
    pub(crate) fn pods_beside(&self, uid: &str) -> Vec<Arc<Pod>> {
        let pods = self.pods();
        let beside = pods.iter().filter(|(of, known)| *of != uid && !known.gone && !known.is_over());
        beside.map(|(_, known)| Arc::clone(&known.pod)).collect()
    }

    pub(crate) fn set_node(&self, node: Node) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
    }

    /// Brings an exit to its pod's task, or keeps it until there is one.
    pub(crate) fn route_exit(&self, id: ContainerId, exit: Exit) {
        let pods = self.pods();
        match pods.get(&id.pod_uid) {
            Some(known) => {
                let message = Message::Exited { container: id.name, attempt: id.attempt, exit };
                known.to.send(message).ok();
            }
            None => {
                let mut unclaimed = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
                if unclaimed.len() < UNCLAIMED_MAX {
                    unclaimed.push((id, exit));
                }
            }
        }
    }

    /// The kept exits of a pod that has been heard of now. The caller holds `pods`, so that none slips in between.
    pub(crate) fn take_unclaimed(&self, uid: &str) -> Vec<(ContainerId, Exit)> {
        let mut unclaimed = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, others) = std::mem::take(&mut *unclaimed).into_iter().partition(|(id, _)| id.pod_uid == uid);
        *unclaimed = others;
        own
    }

    /// The pod of this name that is known here.
    pub(crate) fn pod_named(&self, namespace: &str, name: &str) -> Option<Known> {
        let pods = self.pods();
        let of_name = |known: &&Known| {
            let meta = &known.pod.metadata;
            meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
        };
        // A successor may already be here while its predecessor is being taken down.
        let mut all: Vec<&Known> = pods.values().filter(of_name).collect();
        all.sort_by_key(|known| known.pod.metadata.deletion_timestamp.is_some());
        all.first().map(|known| (*known).clone())
    }

    pub(crate) fn record(&self, subject: Subject, what: What) -> RecordId {
        self.journal.write(Timestamp::now(), Record::new(subject, what))
    }

    /// Everything of a pod that lies on this node's disk, but its logs.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.data_dir.join("pods").join(uid)
    }

    pub(crate) fn pod_log_dir(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        self.config.log_dir.join(format!("{}_{}_{}", part(&meta.namespace), part(&meta.name), part(&meta.uid)))
    }

    pub(crate) fn dns(&self) -> ClusterDns {
        // A node without the file has no resolver of its own to hand on.
        let text = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        ClusterDns {
            servers: self.config.cluster_dns.clone(),
            domain: self.config.cluster_domain.clone(),
            host: parse_resolver(&text),
        }
    }
}

/// Whom records about a pod are about.
pub(crate) fn subject(pod: &Pod) -> Subject {
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    Subject::pod(part(&pod.metadata.namespace), part(&pod.metadata.name), part(&pod.metadata.uid))
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
