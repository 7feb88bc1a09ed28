//! What the process knows of the cluster: one store per kind, shared by every controller.
//!
//! A store takes objects from two sources: the watch, and the answers to the process's own writes.
//! Because an answer enters the cache before the next decision is taken, a controller always reads
//! its own writes and needs no counters of expected creations and deletions, as upstream's
//! `pkg/controller/controller_utils.go` keeps them. An answer that the watch has already overtaken is dropped,
//! so that an object deleted in the meantime does not come back.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::backoff::Backoffs;
use crate::gc::Graph;
use crate::meta;
use crate::resource::Resource;

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(meta: &ObjectMeta) -> Key {
        Key::new(meta::namespace(meta), meta::name(meta))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Watch,
    Answer,
}

/// Any object of the cache, whatever its kind.
pub trait Object: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A kind that has a store in the [`Cache`].
pub trait Kept:
    k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Serialize + Clone + Send + Sync + 'static
{
    const OF: Of;
    fn store(cache: &Cache) -> &Store<Self>;
}

impl<K: Kept> Object for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// What happened to one object of the cache.
pub struct Change {
    pub of: Of,
    pub old: Option<Arc<dyn Object>>,
    pub new: Option<Arc<dyn Object>>,
}

impl Change {
    /// The newest state known.
    pub fn meta(&self) -> Option<&ObjectMeta> {
        self.new.as_ref().or(self.old.as_ref()).map(|o| o.meta())
    }

    pub fn before<K: Kept>(&self) -> Option<&K> {
        self.old.as_ref().and_then(|o| o.as_any().downcast_ref())
    }

    pub fn after<K: Kept>(&self) -> Option<&K> {
        self.new.as_ref().and_then(|o| o.as_any().downcast_ref())
    }

    /// Both states, the older first.
    pub fn metas(&self) -> impl Iterator<Item = &ObjectMeta> {
        self.old.iter().chain(self.new.iter()).map(|o| o.meta())
    }

    /// Both states as `K`, the older first.
    pub fn both<K: Kept>(&self) -> impl Iterator<Item = &K> {
        self.before::<K>().into_iter().chain(self.after::<K>())
    }
}

/// The objects of one kind.
pub struct Store<K> {
    inner: RwLock<Inner<K>>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    by_controller: HashMap<String, BTreeSet<Key>>,
    /// The newest resourceVersion the watch has delivered.
    seen: u64,
    synced: bool,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        let inner = Inner { objects: BTreeMap::new(), by_controller: HashMap::new(), seen: 0, synced: false };
        Store { inner: RwLock::new(inner) }
    }
}

impl<K: Kept> Inner<K> {
    fn put(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.take(&key);
        if let Some(owner) = meta::controller_of(object.metadata()) {
            self.by_controller.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        self.objects.insert(key, object);
        old
    }

    fn take(&mut self, key: &Key) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        if let Some(owner) = meta::controller_of(old.metadata())
            && let Some(keys) = self.by_controller.get_mut(&owner.uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_controller.remove(&owner.uid);
            }
        }
        Some(old)
    }
}

impl<K: Kept> Store<K> {
    // A panic while the lock is held leaves maps that are at worst one object behind; the watch repairs them.
    fn read(&self) -> RwLockReadGuard<'_, Inner<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<K>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().objects.get(&Key::new(namespace, name)).cloned()
    }

    pub fn at(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// The objects of `namespace`, by name.
    pub fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read()
            .objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects whose controller has this uid.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        let inner = self.read();
        let keys = inner.by_controller.get(uid);
        keys.into_iter().flatten().filter_map(|key| inner.objects.get(key).cloned()).collect()
    }

    /// Takes an object in; says what it replaced, or nothing if it was not news.
    pub fn apply(&self, mut object: K, source: Source) -> Option<Change> {
        object.metadata_mut().managed_fields = None;
        let rv = meta::revision(object.metadata());
        let key = Key::of(object.metadata());
        let mut inner = self.write();
        let overtaken = source == Source::Answer && rv <= inner.seen && rv > 0;
        if source == Source::Watch {
            inner.seen = inner.seen.max(rv);
        }
        let older = inner.objects.get(&key).is_some_and(|had| rv > 0 && meta::revision(had.metadata()) >= rv);
        if overtaken || older {
            return None;
        }
        let object = Arc::new(object);
        let old = inner.put(key, object.clone());
        Some(Change { of: K::OF, old: old.map(|o| o as Arc<dyn Object>), new: Some(object) })
    }

    /// Takes out an object that is gone; `meta` is its last state.
    pub fn remove(&self, meta: &ObjectMeta, source: Source) -> Option<Change> {
        let mut inner = self.write();
        if source == Source::Watch {
            inner.seen = inner.seen.max(meta::revision(meta));
        }
        let key = Key::of(meta);
        if inner.objects.get(&key)?.metadata().uid != meta.uid {
            return None;
        }
        let old = inner.take(&key)?;
        Some(Change { of: K::OF, old: Some(old), new: None })
    }

    /// The whole content at `revision`, after a list.
    pub fn replace(&self, objects: Vec<K>, revision: u64) -> Vec<Change> {
        let mut fresh: BTreeSet<Key> = BTreeSet::new();
        let mut changes = Vec::new();
        for object in objects {
            fresh.insert(Key::of(object.metadata()));
            changes.extend(self.apply(object, Source::Watch));
        }
        let mut inner = self.write();
        let gone: Vec<Key> = inner
            .objects
            .iter()
            .filter(|(key, had)| !fresh.contains(key) && meta::revision(had.metadata()) <= revision)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            let old = inner.take(&key).map(|o| o as Arc<dyn Object>);
            changes.push(Change { of: K::OF, old, new: None });
        }
        inner.seen = inner.seen.max(revision);
        inner.synced = true;
        changes
    }

    pub fn synced(&self) -> bool {
        self.read().synced
    }

    /// Everything up to `revision` has been told of.
    pub fn observe(&self, revision: u64) {
        let mut inner = self.write();
        inner.seen = inner.seen.max(revision);
    }

    /// The last revision that a list or watch has told of.
    pub fn seen(&self) -> u64 {
        self.read().seen
    }
}

/// A store seen by the code that fills it, which knows bytes and not kinds.
pub trait AnyStore: Send + Sync {
    fn apply_json(&self, object: &str, source: Source) -> Result<Option<Change>, serde_json::Error>;
    fn remove_json(&self, object: &str, source: Source) -> Result<Option<Change>, serde_json::Error>;
    fn replace_json(&self, objects: &[&RawValue], revision: u64) -> Result<Vec<Change>, serde_json::Error>;
    fn observe(&self, revision: u64);
    fn forget(&self, key: &Key, uid: &str) -> Option<Change>;
    fn object(&self, key: &Key) -> Option<Arc<dyn Object>>;
    fn objects(&self) -> Vec<Arc<dyn Object>>;
    fn has_synced(&self) -> bool;
}

impl<K: Kept> AnyStore for Store<K> {
    fn apply_json(&self, object: &str, source: Source) -> Result<Option<Change>, serde_json::Error> {
        Ok(self.apply(serde_json::from_str(object)?, source))
    }

    fn remove_json(&self, object: &str, source: Source) -> Result<Option<Change>, serde_json::Error> {
        let object: K = serde_json::from_str(object)?;
        Ok(self.remove(object.metadata(), source))
    }

    fn replace_json(&self, objects: &[&RawValue], revision: u64) -> Result<Vec<Change>, serde_json::Error> {
        let objects: Result<Vec<K>, _> = objects.iter().map(|raw| serde_json::from_str(raw.get())).collect();
        Ok(self.replace(objects?, revision))
    }

    fn observe(&self, revision: u64) {
        Store::observe(self, revision);
    }

    fn forget(&self, key: &Key, uid: &str) -> Option<Change> {
        let gone = self.at(key)?;
        if gone.metadata().uid.as_deref() != Some(uid) {
            return None;
        }
        self.remove(gone.metadata(), Source::Answer)
    }

    fn object(&self, key: &Key) -> Option<Arc<dyn Object>> {
        self.at(key).map(|o| o as Arc<dyn Object>)
    }

    fn objects(&self) -> Vec<Arc<dyn Object>> {
        self.all().into_iter().map(|o| o as Arc<dyn Object>).collect()
    }

    fn has_synced(&self) -> bool {
        self.synced()
    }
}

trait Scoped {
    const NAMESPACED: bool;
}
impl Scoped for k8s_openapi::NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl Scoped for k8s_openapi::ClusterResourceScope {
    const NAMESPACED: bool = false;
}

/// The names of a typed kind.
const fn names<K>() -> Resource
where
    K: k8s_openapi::Resource,
    K::Scope: Scoped,
{
    Resource::builtin(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT, K::KIND, <K::Scope as Scoped>::NAMESPACED)
}

macro_rules! kept {
    (
        $($(#[fields($fields:literal)])? $field:ident: $kind:ident in $group:ident $version:ident;)*
        => $(#[fields($part_fields:literal)] $part_field:ident: $part:ident of $whole:ident;)*
    ) => {
        $(use k8s_openapi::api::$group::$version::$kind;)*
        $(part!($part, $whole);)*
        stores! { $($(#[fields($fields)])? $field: $kind;)* $(#[fields($part_fields)] $part_field: $part;)* }
    };
}

/// A kind of which another part is kept too: a type and a store of its own.
macro_rules! part {
    ($part:ident, $whole:ident) => {
        #[derive(Clone, Debug, Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $part(pub $whole);

        impl k8s_openapi::Resource for $part {
            const API_VERSION: &'static str = $whole::API_VERSION;
            const GROUP: &'static str = $whole::GROUP;
            const KIND: &'static str = $whole::KIND;
            const VERSION: &'static str = $whole::VERSION;
            const URL_PATH_SEGMENT: &'static str = $whole::URL_PATH_SEGMENT;
            type Scope = <$whole as k8s_openapi::Resource>::Scope;
        }

        impl Metadata for $part {
            type Ty = ObjectMeta;
            fn metadata(&self) -> &ObjectMeta {
                self.0.metadata()
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                self.0.metadata_mut()
            }
        }
    };
}

macro_rules! stores {
    ($($(#[fields($fields:literal)])? $field:ident: $kind:ident;)*) => {
        /// The kinds the cache holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Of { $($kind,)* }

        /// One store for each kind.
        #[derive(Default)]
        pub struct Cache {
            $(pub $field: Store<$kind>,)*
            /// Every object of every resource, by its metadata alone.
            pub graph: Mutex<Graph>,
            /// What controllers have tried in vain.
            pub backoffs: Mutex<Backoffs>,
        }

        impl Of {
            pub const ALL: &[Of] = &[$(Of::$kind,)*];

            pub fn resource(self) -> &'static Resource {
                match self {
                    $(Of::$kind => { static R: Resource = names::<$kind>(); &R })*
                }
            }

            /// The field selector of the watch; empty takes every object.
            pub fn field_selector(self) -> &'static str {
                match self { $(Of::$kind => concat!("" $(, $fields)?),)* }
            }
        }

        impl Cache {
            pub fn store(&self, of: Of) -> &dyn AnyStore {
                match of { $(Of::$kind => &self.$field,)* }
            }
        }

        $(impl Kept for $kind {
            const OF: Of = Of::$kind;
            fn store(cache: &Cache) -> &Store<Self> { &cache.$field }
        })*
    };
}

kept! {
    pods: Pod in core v1;
    nodes: Node in core v1;
    namespaces: Namespace in core v1;
    services: Service in core v1;
    endpoints: Endpoints in core v1;
    service_accounts: ServiceAccount in core v1;
    #[fields("metadata.name=kube-root-ca.crt")]
    root_cas: ConfigMap in core v1;
    #[fields("type=kubernetes.io/service-account-token")]
    token_secrets: Secret in core v1;
    claims: PersistentVolumeClaim in core v1;
    volumes: PersistentVolume in core v1;
    replication_controllers: ReplicationController in core v1;
    quotas: ResourceQuota in core v1;
    replica_sets: ReplicaSet in apps v1;
    deployments: Deployment in apps v1;
    daemon_sets: DaemonSet in apps v1;
    stateful_sets: StatefulSet in apps v1;
    revisions: ControllerRevision in apps v1;
    jobs: Job in batch v1;
    cron_jobs: CronJob in batch v1;
    slices: EndpointSlice in discovery v1;
    #[fields("metadata.namespace=kube-node-lease")]
    node_leases: Lease in coordination v1;
    disruption_budgets: PodDisruptionBudget in policy v1;
    autoscalers: HorizontalPodAutoscaler in autoscaling v2;
    storage_classes: StorageClass in storage v1;
    cluster_roles: ClusterRole in rbac v1;
    signing_requests: CertificateSigningRequest in certificates v1;
    priority_classes: PriorityClass in scheduling v1;
    csi_nodes: CSINode in storage v1;
    service_cidrs: ServiceCIDR in networking v1;
    attributes_classes: VolumeAttributesClass in storage v1;
    =>
    #[fields("type=bootstrap.kubernetes.io/token")]
    bootstrap_tokens: BootstrapToken of Secret;
    #[fields("metadata.namespace=kube-public,metadata.name=cluster-info")]
    cluster_infos: ClusterInfo of ConfigMap;
}
