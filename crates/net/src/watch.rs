//! Services and EndpointSlices as the API server has them, kept by watches, and which services changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};

type Slices = Vec<Arc<EndpointSlice>>;

/// Gets an object that came, changed or went: its key, what it was, what it is.
pub type Told<'a, K> = dyn FnMut(&str, Option<&K>, Option<&K>) + 'a;

/// Objects of one kind by `namespace/name`.
pub struct Cache<K> {
    pub objects: HashMap<String, Arc<K>>,
    /// Keys named since a new list began; what is not among them at its end is gone.
    listed: Option<HashSet<String>>,
    /// The first list was told whole.
    pub complete: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Cache<K> {
        Cache { objects: HashMap::new(), listed: None, complete: false }
    }
}

fn key<K: kube::Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

impl<K: kube::Resource> Cache<K> {
    /// Applies an event; `changed` gets every object that it touches.
    pub fn apply(&mut self, event: Event<K>, changed: &mut Told<'_, K>) {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) => {
                let key = key(&object);
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                self.put(key, object, changed);
            }
            Event::Apply(object) => self.put(key(&object), object, changed),
            Event::Delete(object) => self.take(&key(&object), changed),
            Event::InitDone => {
                self.complete = true;
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<String> = self.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                gone.iter().for_each(|key| self.take(key, changed));
            }
        }
    }

    fn put(&mut self, key: String, object: K, changed: &mut Told<'_, K>) {
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), object.clone());
        changed(&key, before.as_deref(), Some(&object));
    }

    fn take(&mut self, key: &str, changed: &mut Told<'_, K>) {
        if let Some(before) = self.objects.remove(key) {
            changed(key, Some(&before), None);
        }
    }
}

enum Seen {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Namespace(Box<Event<Namespace>>),
}

/// What changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub services: BTreeSet<String>,
    pub endpoints: BTreeSet<String>,
    pub namespaces: BTreeSet<String>,
}

/// The services of a cluster, kept by watches.
pub struct ServiceWatch {
    events: BoxStream<'static, Result<Seen, watcher::Error>>,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    namespaces: Cache<Namespace>,
    with_namespaces: bool,
    by_service: HashMap<String, BTreeMap<String, Arc<EndpointSlice>>>,
}

impl ServiceWatch {
    /// Namespaces are only watched when wanted.
    pub fn new(client: Client, with_namespaces: bool) -> ServiceWatch {
        let services = watch(Api::<Service>::all(client.clone()), watcher::Config::default());
        let slices = watch(Api::<EndpointSlice>::all(client.clone()), watcher::Config::default());
        let services =
            services.default_backoff().map(|event| event.map(|event| Seen::Service(Box::new(event)))).boxed();
        let slices = slices.default_backoff().map(|event| event.map(|event| Seen::Slice(Box::new(event)))).boxed();
        let mut streams = vec![services, slices];
        if with_namespaces {
            let namespaces = watch(Api::<Namespace>::all(client), watcher::Config::default());
            streams.push(
                namespaces.default_backoff().map(|event| event.map(|event| Seen::Namespace(Box::new(event)))).boxed(),
            );
        }
        ServiceWatch {
            events: futures::stream::select_all(streams).boxed(),
            services: Cache::default(),
            slices: Cache::default(),
            namespaces: Cache::default(),
            with_namespaces,
            by_service: HashMap::new(),
        }
    }

    /// Every kind has been listed: what is known is all there is.
    pub fn complete(&self) -> bool {
        self.services.complete && self.slices.complete && (self.namespaces.complete || !self.with_namespaces)
    }

    /// Waits for events and takes all that are there at once. Cancelling it loses nothing.
    pub async fn changed(&mut self, changed: &mut Changed) {
        let mut next = self.events.next().await;
        while let Some(event) = next {
            match event {
                Ok(seen) => self.apply(seen, changed),
                // The stream tries again by itself, ever more slowly.
                Err(error) => tracing::warn!(%error, "watch of services failed"),
            }
            next = self.events.next().now_or_never().flatten();
        }
    }

    fn apply(&mut self, seen: Seen, changed: &mut Changed) {
        match seen {
            Seen::Service(event) => {
                let mut note = |key: &str, _: Option<&Service>, _: Option<&Service>| {
                    changed.services.insert(key.to_owned());
                };
                self.services.apply(*event, &mut note);
            }
            Seen::Namespace(event) => {
                let mut note = |key: &str, _: Option<&Namespace>, _: Option<&Namespace>| {
                    changed.namespaces.insert(key.trim_start_matches('/').to_owned());
                };
                self.namespaces.apply(*event, &mut note);
            }
            Seen::Slice(event) => {
                let mut touched: Vec<(String, String)> = Vec::new();
                self.slices.apply(*event, &mut |key, before, now| {
                    for owner in [before, now].into_iter().flatten().filter_map(netplan::slice_service_key) {
                        touched.push((owner, key.to_owned()));
                    }
                });
                for (owner, slice) in touched {
                    self.file(&owner, &slice);
                    changed.endpoints.insert(owner);
                }
            }
        }
    }

    /// Puts a slice under its service, or takes it from there.
    fn file(&mut self, owner: &str, slice: &str) {
        let now =
            self.slices.objects.get(slice).filter(|now| netplan::slice_service_key(now).as_deref() == Some(owner));
        let of_owner = self.by_service.entry(owner.to_owned()).or_default();
        match now {
            Some(now) => drop(of_owner.insert(slice.to_owned(), now.clone())),
            None => drop(of_owner.remove(slice)),
        }
        if of_owner.is_empty() {
            self.by_service.remove(owner);
        }
    }

    pub fn service(&self, key: &str) -> Option<&Service> {
        self.services.objects.get(key).map(AsRef::as_ref)
    }

    pub fn all_services(&self) -> impl Iterator<Item = String> {
        self.services.objects.keys().cloned()
    }

    pub fn slices(&self, service: &str) -> Slices {
        self.by_service.get(service).into_iter().flat_map(|slices| slices.values().cloned()).collect()
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.objects.contains_key(&format!("/{name}"))
    }
}

/// What the proxy wants to know of its own node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// There, not being deleted, and not about to be taken away: new traffic may come.
    pub eligible: bool,
}

/// kubernetes/kubernetes pkg/proxy/healthcheck/proxy_health.go: what the cluster autoscaler puts on a node it takes away.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

impl NodeSeen {
    fn of(node: &Node) -> NodeSeen {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        NodeSeen {
            zone: node.labels().get("topology.kubernetes.io/zone").cloned(),
            eligible: node.metadata.deletion_timestamp.is_none()
                && !taints.into_iter().any(|taint| taint.key == TO_BE_DELETED),
        }
    }
}

/// A node's own object, kept by a watch.
pub struct OwnNode {
    events: BoxStream<'static, Result<Event<Node>, watcher::Error>>,
}

impl OwnNode {
    pub fn new(client: Client, name: &str) -> OwnNode {
        let own = watcher::Config::default().fields(&format!("metadata.name={name}"));
        OwnNode { events: watch(Api::<Node>::all(client), own).default_backoff().boxed() }
    }

    /// Waits for the node's next state. Cancelling it loses nothing.
    pub async fn changed(&mut self) -> NodeSeen {
        loop {
            match self.events.next().await {
                Some(Ok(Event::InitApply(node) | Event::Apply(node))) => return NodeSeen::of(&node),
                Some(Ok(Event::Delete(_))) => return NodeSeen::default(),
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(error)) => tracing::warn!(%error, "watch of the node failed"),
                // The stream tries for ever.
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_leaving_is_not_eligible() {
        let seen = |json: serde_json::Value| NodeSeen::of(&serde_json::from_value(json).unwrap());
        let labels = serde_json::json!({"topology.kubernetes.io/zone": "z1"});
        let there = seen(serde_json::json!({"metadata": {"name": "n", "labels": labels}}));
        assert_eq!(there, NodeSeen { zone: Some("z1".into()), eligible: true });
        let taint = |key: &str| {
            let taints = [serde_json::json!({"key": key, "effect": "NoSchedule"})];
            seen(serde_json::json!({"metadata": {"name": "n"}, "spec": {"taints": taints}})).eligible
        };
        assert_eq!([taint("other"), taint(TO_BE_DELETED)], [true, false]);
    }
}
