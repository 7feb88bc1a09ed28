//! The ConfigMaps and Secrets that this node's pods refer to, each watched by itself, and the services.
//!
//! kubernetes/kubernetes pkg/kubelet/util/manager/watch_based_manager.go: one watch per referenced object, none any more
//! once it says that it is immutable.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::task::Message;

/// How long anybody waits for an object's first answer, and how soon one that could not be read is asked for again.
const READ_LIMIT: Duration = Duration::from_secs(10);
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Namespace and name.
type Key = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    ConfigMap,
    Secret,
}

/// A reference of a pod to an object.
pub(crate) type Reference = (Which, Key);

pub(crate) struct Objects {
    client: kube::Client,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    services: All<Service>,
    /// Watched since a pod first wanted one.
    trust_bundles: OnceLock<All<ClusterTrustBundle>>,
}

/// Pods to be told of changes, by uid.
type Wanting = Arc<Mutex<HashMap<String, UnboundedSender<Message>>>>;

fn tell(wanted_by: &Wanting) {
    for pod in wanted_by.lock().unwrap_or_else(PoisonError::into_inner).values() {
        // A pod whose task has ended needs no news.
        pod.send(Message::SourcesChanged).ok();
    }
}

/// Objects of one kind that somebody wants.
struct Cache<K>(Mutex<HashMap<Key, Entry<K>>>);

struct Entry<K> {
    state: watch::Receiver<State<K>>,
    wanted_by: Wanting,
    _task: AbortOnDropHandle<()>,
}

/// What is known of one object.
#[derive(Debug)]
enum State<K> {
    Unknown,
    Absent,
    Present(Arc<K>),
    /// It could not be read so far, with why.
    Failed(String),
}

impl<K> Clone for State<K> {
    fn clone(&self) -> Self {
        match self {
            State::Unknown => State::Unknown,
            State::Absent => State::Absent,
            State::Present(object) => State::Present(Arc::clone(object)),
            State::Failed(error) => State::Failed(error.clone()),
        }
    }
}

/// The kinds that can be declared unchangeable.
pub(crate) trait Freezable:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
    /// What the cache of this kind is called in upstream's messages.
    const NAME: &'static str;

    fn is_immutable(&self) -> bool;
}

impl Freezable for ConfigMap {
    const NAME: &'static str = "configmap";

    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Freezable for Secret {
    const NAME: &'static str = "secret";

    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Objects {
    pub(crate) fn new(client: kube::Client) -> Objects {
        Objects {
            services: All::watching(client.clone()),
            trust_bundles: OnceLock::new(),
            client,
            config_maps: Cache(Mutex::default()),
            secrets: Cache(Mutex::default()),
        }
    }

    /// `None` when there is none.
    ///
    /// # Errors
    /// It could not be read. Reading goes on, and the pod is told when it has succeeded.
    pub(crate) async fn config_map(&self, namespace: &str, name: &str, pod: &Subscriber) -> Found<ConfigMap> {
        self.config_maps.get(&self.client, (namespace.into(), name.into()), pod).await
    }

    /// As `config_map`.
    pub(crate) async fn secret(&self, namespace: &str, name: &str, pod: &Subscriber) -> Found<Secret> {
        self.secrets.get(&self.client, (namespace.into(), name.into()), pod).await
    }

    /// All services.
    ///
    /// # Errors
    /// They have not been listed yet.
    pub(crate) async fn services(&self) -> Result<Arc<Vec<Arc<Service>>>, String> {
        let services = self.services.get().await;
        services.ok_or_else(|| "services have not yet been read at least once, cannot construct envvars".to_string())
    }

    /// All ClusterTrustBundles; the pod is told when one changes.
    ///
    /// # Errors
    /// They have not been listed yet.
    pub(crate) async fn trust_bundles(&self, pod: &Subscriber) -> Result<Vec<Arc<ClusterTrustBundle>>, String> {
        let bundles = self.trust_bundles.get_or_init(|| All::watching(self.client.clone()));
        bundles.wanted_by.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.uid.clone(), pod.to.clone());
        let all = bundles.get().await.ok_or("ClusterTrustBundle informer has not yet synced")?;
        Ok(all.to_vec())
    }

    /// A pod is gone: what only it wanted is watched no longer.
    pub(crate) fn release(&self, uid: &str) {
        self.config_maps.release(uid);
        self.secrets.release(uid);
        if let Some(bundles) = self.trust_bundles.get() {
            bundles.wanted_by.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        }
    }
}

type Found<K> = Result<Option<Arc<K>>, String>;

/// Who wants an object, and where to say that it changed.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) uid: String,
    pub(crate) to: UnboundedSender<Message>,
}

impl<K: Freezable> Cache<K> {
    async fn get(&self, client: &kube::Client, key: Key, pod: &Subscriber) -> Found<K> {
        let mut state = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.entry(key.clone()).or_insert_with(|| Entry::watching(client, key));
            let mut wanted_by = entry.wanted_by.lock().unwrap_or_else(PoisonError::into_inner);
            wanted_by.insert(pod.uid.clone(), pod.to.clone());
            entry.state.clone()
        };
        match state.wait_for(|state| !matches!(state, State::Unknown)).await.as_deref() {
            Ok(State::Present(object)) => Ok(Some(Arc::clone(object))),
            Ok(State::Failed(error)) => Err(format!("failed to sync {} cache: {error}", K::NAME)),
            _ => Ok(None),
        }
    }

    fn release(&self, uid: &str) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| {
            let mut wanted_by = entry.wanted_by.lock().unwrap_or_else(PoisonError::into_inner);
            wanted_by.remove(uid);
            !wanted_by.is_empty()
        });
    }
}

impl<K: Freezable> Entry<K> {
    fn watching(client: &kube::Client, key: Key) -> Entry<K> {
        let (to, state) = watch::channel(State::Unknown);
        let wanted_by = Wanting::default();
        let task = tokio::spawn(follow::<K>(client.clone(), key, to, Arc::clone(&wanted_by)));
        Entry { state, wanted_by, _task: AbortOnDropHandle::new(task) }
    }
}

/// Keeps `to` at the object's present state, and tells the pods that want it.
async fn follow<K: Freezable>(
    client: kube::Client,
    (namespace, name): Key,
    to: watch::Sender<State<K>>,
    wanted_by: Wanting,
) {
    let api: Api<K> = Api::namespaced(client, &namespace);
    let mut version = None;
    let mut set = |state: State<K>| {
        if let State::Present(object) = &state {
            let new = object.meta().resource_version.clone();
            if version.is_some() && version == new {
                return;
            }
            version = new;
        } else {
            version = None;
        }
        let first = matches!(*to.borrow(), State::Unknown);
        let failed = matches!(state, State::Failed(_));
        to.send_replace(state);
        if !first && !failed {
            tell(&wanted_by);
        }
    };
    // A plain read first: it is the quickest way to a first answer, which a starting pod waits for.
    loop {
        match tokio::time::timeout(READ_LIMIT, api.get_opt(&name)).await {
            Ok(Ok(Some(object))) if object.is_immutable() => return set(State::Present(Arc::new(object))),
            Ok(Ok(Some(object))) => break set(State::Present(Arc::new(object))),
            Ok(Ok(None)) => break set(State::Absent),
            Ok(Err(error)) => set(State::Failed(crate::api_error(&error))),
            Err(_) => set(State::Failed("timed out waiting for the condition".into())),
        }
        tokio::time::sleep(READ_AGAIN).await;
    }
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, only).default_backoff().boxed();
    let mut seen = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => seen = false,
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                seen = true;
                let done = object.is_immutable();
                set(State::Present(Arc::new(object)));
                if done {
                    return;
                }
            }
            Ok(watcher::Event::Delete(_)) => set(State::Absent),
            Ok(watcher::Event::InitDone) if !seen => set(State::Absent),
            Ok(watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!(%error, namespace, name, "watch of a referenced object"),
        }
    }
}

/// Every object of a kind, watched; `None` until they have been listed.
struct All<K> {
    state: watch::Receiver<Listed<K>>,
    wanted_by: Wanting,
    _task: AbortOnDropHandle<()>,
}

type Listed<K> = Option<Arc<Vec<Arc<K>>>>;

impl<K> All<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn watching(client: kube::Client) -> All<K> {
        let (to, state) = watch::channel(None);
        let wanted_by = Wanting::default();
        let task = tokio::spawn(follow_all::<K>(Api::all(client), to, Arc::clone(&wanted_by)));
        All { state, wanted_by, _task: AbortOnDropHandle::new(task) }
    }

    /// What there is; waits for the first list, and not for ever.
    async fn get(&self) -> Listed<K> {
        let mut state = self.state.clone();
        let listed = tokio::time::timeout(READ_LIMIT, state.wait_for(Option::is_some)).await;
        listed.ok().and_then(Result::ok).and_then(|list| list.clone())
    }
}

async fn follow_all<K>(api: Api<K>, to: watch::Sender<Listed<K>>, wanted_by: Wanting)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut all: HashMap<Key, Arc<K>> = HashMap::new();
    let mut listing: HashMap<Key, Arc<K>> = HashMap::new();
    let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listing.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listing.insert(key(&object), Arc::new(object));
            }
            Ok(watcher::Event::InitDone) => {
                all = std::mem::take(&mut listing);
                listed = true;
            }
            Ok(watcher::Event::Apply(object)) => {
                all.insert(key(&object), Arc::new(object));
            }
            Ok(watcher::Event::Delete(object)) => {
                all.remove(&key(&object));
            }
            Err(error) => tracing::debug!(%error, kind = %K::kind(&()), "watch of all objects of a kind"),
        }
        if listed {
            to.send_replace(Some(Arc::new(all.values().cloned().collect())));
            tell(&wanted_by);
        }
    }
}
