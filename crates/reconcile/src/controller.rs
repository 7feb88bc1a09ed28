//! The shape of a controller, and the table of all of them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cache::{Cache, Change, Kept, Key, Of};
use crate::meta;
use crate::plan::Plan;
use crate::settings::Settings;

/// Which keys of the controller a change concerns.
pub type Keys = fn(&Cache, &Change, &mut Vec<Key>);

/// A controller: what wakes it, and what it decides about one key.
pub struct Controller {
    /// Its name, also as the source of its events.
    pub name: &'static str,
    /// The service account in `kube-system` it writes as, by upstream's bootstrap roles; empty: the process's own user.
    pub account: &'static str,
    pub watches: &'static [(Of, Keys)],
    /// How many keys may be worked on at once.
    pub workers: usize,
    /// `gather` then `plan`.
    pub sync: fn(&Cx<'_>, &Key) -> Plan,
}

/// What a decision may depend on besides the cluster's objects.
pub struct Cx<'a> {
    pub cache: &'a Cache,
    pub now: Timestamp,
    /// When this process began to watch.
    pub started: Timestamp,
    pub settings: &'a Settings,
    /// Why the key's last plan could not be carried out.
    pub failure: Option<&'a Failure>,
}

/// An action that the API server refused.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `create`, `update`, `patch`, `delete` or `evict`.
    pub verb: &'static str,
    pub resource: String,
    pub name: String,
    /// The Status's reason, such as `AlreadyExists` or `Forbidden`.
    pub reason: String,
    pub message: String,
}

/// The changed object's own key.
pub fn own(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    keys.extend(change.meta().map(Key::of));
}

/// The key of the `K` that controls the changed object, before and after.
pub fn controlling<K: Kept>(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    for meta in change.metas() {
        if let Some(owner) = meta::controller_of(meta)
            && let Some(key) = resolve::<K>(cache, meta::namespace(meta), owner)
        {
            keys.push(key);
        }
    }
}

/// The key an owner reference means, if that very object (by uid) is there.
pub fn resolve<K: Kept>(cache: &Cache, namespace: &str, owner: &OwnerReference) -> Option<Key> {
    if !meta::refers_to::<K>(owner) {
        return None;
    }
    let found = K::store(cache).get(namespace, &owner.name)?;
    (meta::uid(found.metadata()) == owner.uid).then(|| Key::of(found.metadata()))
}

/// Every controller that works key by key.
pub static CONTROLLERS: &[&Controller] = &[
    &crate::serviceaccount::SERVICEACCOUNT,
    &crate::rootca::ROOTCA,
    &crate::deployment::DEPLOYMENT,
    &crate::replicaset::REPLICASET,
    &crate::replicaset::REPLICATIONCONTROLLER,
    &crate::daemonset::DAEMONSET,
    &crate::statefulset::STATEFULSET,
    &crate::job::JOB,
    &crate::cronjob::CRONJOB,
    &crate::ttl::TTLAFTERFINISHED,
    &crate::endpoints::slices::ENDPOINTSLICE,
    &crate::endpoints::plain::ENDPOINTS,
    &crate::endpoints::mirror::ENDPOINTSLICE_MIRRORING,
    &crate::nodehealth::NODELIFECYCLE,
    &crate::tainteviction::TAINTEVICTION,
    &crate::podgc::PODGC,
    &crate::disruption::DISRUPTION,
    &crate::quota::RESOURCEQUOTA,
    &crate::protection::PVCPROTECTION,
    &crate::protection::PVPROTECTION,
    &crate::protection::VACPROTECTION,
    &crate::binder::CLAIMBINDER,
    &crate::binder::VOLUMEBINDER,
    &crate::ephemeral::EPHEMERALVOLUME,
    &crate::clusterroles::CLUSTERROLEAGGREGATION,
    &crate::tokens::TOKENS,
    &crate::nodeipam::NODEIPAM,
    &crate::nodettl::NODETTL,
    &crate::servicecidr::SERVICECIDR,
    &crate::csr::signing::SIGNING,
    &crate::csr::cleaner::CLEANER,
    &crate::bootstrap::signer::BOOTSTRAPSIGNER,
    &crate::bootstrap::cleaner::TOKENCLEANER,
];
