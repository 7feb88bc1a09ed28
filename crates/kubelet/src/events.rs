//! Kubernetes events: told once, then counted.
//!
//! client-go tools/record: the same event about the same thing raises a count rather than making another object.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use pods::worker::Severity;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many events wait for the API server before new ones are dropped.
const WAITING_MAX: usize = 1000;
/// How many distinct events are remembered for counting.
const REMEMBERED_MAX: usize = 4096;

struct Told {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Takes events from anywhere; one task writes them.
pub(crate) struct Recorder {
    to: Sender<Told>,
    node: String,
}

impl Recorder {
    pub(crate) fn new(client: kube::Client, node: &str) -> Recorder {
        let (to, from) = channel(WAITING_MAX);
        tokio::spawn(write_all(client, node.to_string(), from));
        Recorder { to, node: node.to_string() }
    }

    /// About a pod, or one of its containers.
    pub(crate) fn pod(&self, pod: &Pod, container: Option<&str>, severity: Severity, reason: &str, message: String) {
        let meta = &pod.metadata;
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: container.map(|name| field_path(pod, name)),
        };
        self.tell(about, severity, reason, message);
    }

    /// About the node; upstream gives it its name as uid.
    pub(crate) fn node(&self, severity: Severity, reason: &str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.tell(about, severity, reason, message);
    }

    fn tell(&self, about: ObjectReference, severity: Severity, reason: &str, message: String) {
        let told = Told { about, severity, reason: reason.into(), message, at: Timestamp::now() };
        if self.to.try_send(told).is_err() {
            tracing::debug!(reason, "event dropped: the API server does not keep up");
        }
    }
}

/// kubernetes/kubernetes pkg/kubelet/container/ref.go: `spec.containers{name}`.
fn field_path(pod: &Pod, name: &str) -> String {
    let spec = pod.spec.as_ref();
    let is_init = spec.is_some_and(|s| s.init_containers.iter().flatten().any(|c| c.name == name));
    let is_ephemeral = spec.is_some_and(|s| s.ephemeral_containers.iter().flatten().any(|c| c.name == name));
    match (is_init, is_ephemeral) {
        (true, _) => format!("spec.initContainers{{{name}}}"),
        (_, true) => format!("spec.ephemeralContainers{{{name}}}"),
        _ => format!("spec.containers{{{name}}}"),
    }
}

/// What makes two events the same.
type Key = (String, String, String, String);

struct Remembered {
    name: String,
    count: i32,
}

async fn write_all(client: kube::Client, node: String, mut from: Receiver<Told>) {
    let mut known: HashMap<Key, Remembered> = HashMap::new();
    let mut serial: u64 = 0;
    while let Some(told) = from.recv().await {
        if known.len() > REMEMBERED_MAX {
            known.clear();
        }
        let namespace = told.about.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        let about = format!("{}/{}", part(&told.about.uid), part(&told.about.field_path));
        let key = (namespace.clone(), about, told.reason.clone(), told.message.clone());
        serial += 1;
        let result = match known.get_mut(&key) {
            Some(before) => count(&api, before, told.at).await,
            None => {
                let event = first(&told, &namespace, &node, serial);
                let name = event.metadata.name.clone().unwrap_or_default();
                let result = api.create(&PostParams::default(), &event).await.map(|_| ());
                if result.is_ok() {
                    known.insert(key.clone(), Remembered { name, count: 1 });
                }
                result
            }
        };
        if let Err(error) = result {
            known.remove(&key);
            tracing::debug!(%error, reason = told.reason, "event not written");
        }
    }
}

async fn count(api: &Api<Event>, before: &mut Remembered, at: Timestamp) -> kube::Result<()> {
    before.count += 1;
    let patch = serde_json::json!({"count": before.count, "lastTimestamp": pods::status::time(at)});
    api.patch(&before.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
}

fn first(told: &Told, namespace: &str, node: &str, serial: u64) -> Event {
    let at: Time = pods::status::time(told.at);
    // Upstream's names: the object's, and the time in nanoseconds as hexadecimal; the serial keeps them apart.
    let nanos = (told.at.as_nanosecond() as u64).wrapping_add(serial);
    let name = format!("{}.{nanos:x}", told.about.name.as_deref().unwrap_or("unknown"));
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        involved_object: told.about.clone(),
        type_: Some(match told.severity {
            Severity::Normal => "Normal".into(),
            Severity::Warning => "Warning".into(),
        }),
        reason: Some(told.reason.clone()),
        message: Some(told.message.clone()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        count: Some(1),
        ..Event::default()
    }
}
