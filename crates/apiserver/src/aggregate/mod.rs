//! Groups and versions that other API servers serve: which they are, whether they can be reached, and the way there.
//!
//! `kubernetes/kube-aggregator pkg/apiserver`: an APIService that names a service hands its group and version over to it.

mod available;
mod call;
mod documents;
mod proxy;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIServiceSpec, APIServiceStatus};
use serde::Deserialize;
use serde_json::Value;

use crate::request_info::RequestInfo;
use crate::server::Inner;

pub use available::follow;
pub use call::headers;
pub use documents::{aggregated, group, groups, index, openapi};
pub use proxy::forward;

const GROUP: &str = "apiregistration.k8s.io";

/// An APIService, as much of it as is needed to go there.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Written")]
pub struct Registered {
    pub name: String,
    pub group: String,
    pub version: String,
    /// `None`: this server serves it itself.
    pub service: Option<Service>,
    pub insecure: bool,
    /// PEM.
    pub ca_bundle: Vec<u8>,
    pub available: bool,
    pub version_priority: i32,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

impl Service {
    /// The name that its certificate must be for.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

#[derive(Deserialize)]
struct Written {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<APIServiceSpec>,
    #[serde(default)]
    status: Option<APIServiceStatus>,
}

impl From<Written> for Registered {
    fn from(written: Written) -> Registered {
        let spec = written.spec.unwrap_or_default();
        let conditions = written.status.into_iter().flat_map(|status| status.conditions.into_iter().flatten());
        let mut available = conditions.filter(|condition| condition.type_ == "Available");
        Registered {
            name: written.metadata.name.unwrap_or_default(),
            group: spec.group.unwrap_or_default(),
            version: spec.version.unwrap_or_default(),
            service: spec.service.map(|service| Service {
                namespace: service.namespace.unwrap_or_default(),
                name: service.name.unwrap_or_default(),
                port: service.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(443),
            }),
            insecure: spec.insecure_skip_tls_verify.unwrap_or(false),
            ca_bundle: spec.ca_bundle.map(|bundle| bundle.0).unwrap_or_default(),
            available: available.any(|condition| condition.status == "True"),
            version_priority: spec.version_priority,
        }
    }
}

/// What the other servers say they serve: their `APIResourceList`s, by the APIService's name.
#[derive(Default)]
pub struct Documents(Mutex<BTreeMap<String, Arc<Value>>>);

impl Documents {
    pub fn get(&self, name: &str) -> Option<Arc<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn put(&self, name: &str, list: Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(list));
    }

    /// Forgets what is registered no more.
    pub fn keep(&self, names: &[String]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
    }
}

/// The APIServices that lead elsewhere.
pub fn remotes(server: &Inner) -> Vec<Arc<Registered>> {
    let mut all: Vec<Arc<Registered>> = server.view().list(GROUP, "apiservices", "");
    all.retain(|registered| registered.service.is_some());
    all
}

/// Who else serves a group and version.
pub fn serving(server: &Inner, group: &str, version: &str) -> Option<Arc<Registered>> {
    let name = format!("{version}.{group}");
    let found: Arc<Registered> = server.view().get(GROUP, "apiservices", &name)?;
    found.service.is_some().then_some(found)
}

/// Who else a request is for: `/apis/<group>/<version>` and everything below.
pub fn of(server: &Inner, info: &RequestInfo) -> Option<Arc<Registered>> {
    if info.is_resource {
        return if info.group.is_empty() { None } else { serving(server, &info.group, &info.version) };
    }
    match info.path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["apis", group, version, ..] => serving(server, group, version),
        _ => None,
    }
}
