//! The pods behind a Service: `EndpointSlice`s (`slices.rs`), the older `Endpoints` (`plain.rs`), and slices mirrored
//! from hand-written `Endpoints` (`mirror.rs`).
//!
//! kubernetes/endpointslice and kubernetes/kubernetes pkg/controller/endpoint: decide who is listed and how.

pub mod mirror;
pub mod plain;
pub mod slices;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::{Cache, Change, Key};
use crate::controller::Cx;
use crate::meta;
use crate::podstate;
use crate::selector;

pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// A Service with its pods.
pub(crate) struct Backed {
    pub service: Arc<Service>,
    pub pods: Vec<Arc<Pod>>,
}

/// The Services that take a pod, before and after the change.
pub(crate) fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(pod) = change.both::<Pod>().next() else { return };
    for service in cache.services.within(meta::namespace(&pod.metadata)) {
        if change.both::<Pod>().any(|pod| takes(&service, pod)) {
            keys.push(Key::of(&service.metadata));
        }
    }
}

pub(crate) fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.selector.as_ref().is_some_and(|s| !s.is_empty()))
}

fn takes(service: &Service, pod: &Pod) -> bool {
    let wanted = service.spec.as_ref().and_then(|s| s.selector.clone());
    has_selector(service) && selector::contains(&wanted, &pod.metadata.labels)
}

/// The Service and its pods, if it is one that has pods.
pub(crate) fn gather(cx: &Cx<'_>, key: &Key) -> Option<Backed> {
    let service = cx.cache.services.at(key)?;
    let external = service.spec.as_ref().is_some_and(|s| s.type_.as_deref() == Some("ExternalName"));
    if external || !has_selector(&service) || meta::deleting(&service.metadata) {
        return None;
    }
    let pods = cx.cache.pods.within(&key.namespace).into_iter().filter(|pod| takes(&service, pod)).collect();
    Some(Backed { service, pods })
}

pub(crate) fn headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.publish_not_ready_addresses == Some(true))
}

/// The container port a Service port means for this pod.
pub(crate) fn port_of(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            ports
                .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|p| p.container_port)
        }
    }
}

/// The pod's address of a family (`IPv4` or `IPv6`).
pub(crate) fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    all.into_iter().find(|ip| ip.contains(':') == (family == "IPv6"))
}

/// Whether a pod may be listed at all.
pub(crate) fn listed(pod: &Pod) -> bool {
    !podstate::finished(pod)
}

/// The name by which the pod is found below the Service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let name = spec.hostname.clone().filter(|h| !h.is_empty())?;
    (spec.subdomain.as_deref() == service.metadata.name.as_deref()).then_some(name)
}
