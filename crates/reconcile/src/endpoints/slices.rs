//! `EndpointSlice`: the pods of a Service, in pieces of at most a hundred.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Backed, HEADLESS, address, headless, hostname, listed, port_of, publishes_not_ready};
use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ENDPOINTS_MAX: usize = 100;

pub static ENDPOINTSLICE: Controller = Controller {
    name: "endpoint-slice-controller",
    account: "endpointslice-controller",
    watches: &[(Of::Service, own), (Of::Pod, super::of_pod), (Of::EndpointSlice, of_slice)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    backed: Backed,
    slices: Vec<Arc<EndpointSlice>>,
    nodes: BTreeMap<String, Arc<Node>>,
}

fn of_slice(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    for meta in change.metas().filter(|m| meta::label(m, MANAGED_BY) == Some(MANAGER)) {
        if let Some(service) = meta::label(meta, SERVICE_NAME) {
            keys.push(Key::new(meta::namespace(meta), service));
        }
    }
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let backed = super::gather(cx, key)?;
    let ours = |slice: &Arc<EndpointSlice>| {
        meta::label(&slice.metadata, MANAGED_BY) == Some(MANAGER)
            && meta::label(&slice.metadata, SERVICE_NAME) == Some(&key.name)
            && !meta::deleting(&slice.metadata)
    };
    let slices = cx.cache.slices.within(&key.namespace).into_iter().filter(ours).collect();
    let nodes = cx.cache.nodes.all().into_iter().map(|n| (meta::name(&n.metadata).to_string(), n)).collect();
    Some(View { backed, slices, nodes })
}

fn plan(view: &View) -> Plan {
    let service = view.backed.service.as_ref();
    let mut plan = Plan::default();
    let families = service.spec.as_ref().and_then(|s| s.ip_families.clone()).filter(|f| !f.is_empty());
    let families = families.unwrap_or_else(|| vec!["IPv4".to_string()]);
    for family in &families {
        reconcile_family(view, service, family, &mut plan);
    }
    for slice in view.slices.iter().filter(|s| !families.contains(&s.address_type)) {
        plan.actions.push(Action::delete(slice.as_ref()));
    }
    plan
}

type Ports = Vec<EndpointPort>;

fn reconcile_family(view: &View, service: &Service, family: &str, plan: &mut Plan) {
    let mut wanted: Vec<(Ports, Vec<Endpoint>)> = Vec::new();
    for pod in view.backed.pods.iter().filter(|p| listed(p)) {
        let Some(ip) = address(pod, family) else { continue };
        let ports = ports_of(service, pod);
        let endpoint = endpoint(view, service, pod, ip);
        match wanted.iter_mut().find(|(p, _)| *p == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => wanted.push((ports, vec![endpoint])),
        }
    }
    let mut existing: Vec<Arc<EndpointSlice>> =
        view.slices.iter().filter(|s| s.address_type == family).cloned().collect();
    if wanted.is_empty() {
        // A Service without pods keeps one empty slice, which says that there are none.
        wanted.push((existing.first().map(|s| sorted(s.ports.clone())).unwrap_or_default(), Vec::new()));
    }
    for (ports, endpoints) in wanted {
        let (same, rest) = existing.into_iter().partition(|s| sorted(s.ports.clone()) == ports);
        existing = rest;
        pack(service, family, &ports, endpoints, same, plan);
    }
    plan.actions.extend(existing.iter().map(|slice| Action::delete(slice.as_ref())));
}

fn sorted(ports: Option<Ports>) -> Ports {
    let mut ports = ports.unwrap_or_default();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

/// Leaves endpoints where they are, fills what has room, adds slices for the rest.
fn pack(
    service: &Service,
    family: &str,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
    existing: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let mut left: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (e.addresses.join(","), e)).collect();
    let labels = labels(service);
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in existing {
        let stay = slice.endpoints.iter().flatten().filter_map(|e| left.remove(&e.addresses.join(",")));
        let stay: Vec<Endpoint> = stay.collect();
        kept.push((slice, stay));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    for (_, endpoints) in &mut kept {
        let room = ENDPOINTS_MAX.saturating_sub(endpoints.len()).min(left.len());
        endpoints.extend(left.drain(..room));
    }
    let mut any = !left.is_empty();
    for chunk in left.chunks(ENDPOINTS_MAX) {
        plan.actions.push(Action::create(&fresh(service, family, ports, chunk.to_vec(), &labels)));
    }
    any |= kept.iter().any(|(_, endpoints)| !endpoints.is_empty());
    let mut placeholder = any;
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && placeholder {
            plan.actions.push(Action::delete(slice.as_ref()));
            continue;
        }
        placeholder = true;
        let same_endpoints = slice.endpoints.as_deref().unwrap_or(&[]) == endpoints.as_slice();
        if !same_endpoints || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut updated = slice.as_ref().clone();
            updated.endpoints = Some(endpoints);
            updated.ports = Some(ports.clone());
            updated.metadata.labels = Some(labels.clone());
            plan.actions.push(Action::update(&updated));
        }
    }
    if !placeholder {
        plan.actions.push(Action::create(&fresh(service, family, ports, Vec::new(), &labels)));
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), meta::name(&service.metadata).into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn fresh(
    service: &Service,
    family: &str,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
    labels: &BTreeMap<String, String>,
) -> EndpointSlice {
    EndpointSlice {
        address_type: family.into(),
        endpoints: Some(endpoints),
        ports: Some(ports.clone()),
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![meta::controller_reference(service)]),
            ..Default::default()
        },
    }
}

fn ports_of(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    let found = ports.into_iter().flatten().filter_map(|port| {
        port_of(pod, port).map(|number| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    sorted(Some(found.collect()))
}

fn endpoint(view: &View, service: &Service, pod: &Pod, ip: &str) -> Endpoint {
    let serving = podstate::ready(pod);
    let terminating = meta::deleting(&pod.metadata);
    let node = Some(podstate::node_name(pod).to_string()).filter(|n| !n.is_empty());
    let zone = node
        .as_ref()
        .and_then(|n| view.nodes.get(n))
        .and_then(|n| meta::label(&n.metadata, "topology.kubernetes.io/zone").map(str::to_string));
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: node,
        target_ref: Some(target(pod)),
        zone,
        ..Default::default()
    }
}

pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some(<Pod as k8s_openapi::Resource>::KIND.into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}
