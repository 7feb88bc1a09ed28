//! `Endpoints`: the pods of a Service in one object, for clients older than `EndpointSlice`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::slices::target;
use super::{Backed, HEADLESS, address, headless, hostname, listed, port_of, publishes_not_ready};
use crate::cache::{Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Note, Plan, reference};
use crate::podstate;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ADDRESSES_MAX: usize = 1000;

pub static ENDPOINTS: Controller = Controller {
    name: "endpoint-controller",
    account: "endpoint-controller",
    watches: &[(Of::Service, own), (Of::Pod, super::of_pod), (Of::Endpoints, own)],
    workers: 5,
    sync: |cx, key| {
        if cx.cache.services.at(key).is_none() {
            return gone(cx, key);
        }
        gather(cx, key).map(|view| plan(&view)).unwrap_or_default()
    },
};

struct View {
    backed: Backed,
    existing: Option<Arc<Endpoints>>,
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let backed = super::gather(cx, key)?;
    Some(View { backed, existing: cx.cache.endpoints.at(key) })
}

/// A Service takes its Endpoints along, unless they are a leader-election record.
fn gone(cx: &Cx<'_>, key: &Key) -> Plan {
    let mut plan = Plan::default();
    if let Some(left) = cx.cache.endpoints.at(key)
        && meta::label(&left.metadata, MANAGED_BY) == Some(MANAGER)
    {
        plan.actions.push(Action::delete(left.as_ref()));
    }
    plan
}

fn plan(view: &View) -> Plan {
    let service = view.backed.service.as_ref();
    let (subsets, truncated) = subsets(view, service);
    let mut labels: BTreeMap<String, String> = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut plan = Plan::default();
    let mut wanted = match &view.existing {
        Some(existing) => existing.as_ref().clone(),
        None => Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.metadata.namespace.clone(),
                ..Default::default()
            },
            subsets: None,
        },
    };
    wanted.metadata.labels = Some(labels);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    annotations.remove(OVER_CAPACITY);
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    match &view.existing {
        None => {
            let note = Note {
                about: reference(&wanted),
                done: ("", "".into()),
                failed: ("FailedToCreateEndpoint", failed("create", service).into()),
            };
            plan.actions.push(Action::create(&wanted).noted(note));
        }
        Some(existing) if same(existing, &wanted) => {}
        Some(existing) => {
            let note = Note {
                about: reference(existing.as_ref()),
                done: ("", "".into()),
                failed: ("FailedToUpdateEndpoint", failed("update", service).into()),
            };
            plan.actions.push(Action::update(&wanted).noted(note));
        }
    }
    plan
}

fn failed(verb: &str, service: &Service) -> String {
    let key = Key::of(&service.metadata);
    format!("Failed to {verb} endpoint {key}: {{error}}")
}

fn same(a: &Endpoints, b: &Endpoints) -> bool {
    a.metadata.labels == b.metadata.labels
        && a.metadata.annotations.clone().unwrap_or_default() == b.metadata.annotations.clone().unwrap_or_default()
        && a.subsets.as_deref().unwrap_or(&[]) == b.subsets.as_deref().unwrap_or(&[])
}

/// One subset for each set of ports, with the addresses that have it; true if there were too many.
fn subsets(view: &View, service: &Service) -> (Vec<EndpointSubset>, bool) {
    let family = service.spec.as_ref().and_then(|s| s.ip_families.as_ref()).and_then(|f| f.first());
    let family = family.map_or("IPv4", String::as_str);
    let mut pods: Vec<&Arc<Pod>> = view.backed.pods.iter().filter(|p| listed(p)).collect();
    pods.retain(|pod| publishes_not_ready(service) || !meta::deleting(&pod.metadata));
    let mut subsets: Vec<EndpointSubset> = Vec::new();
    let (mut count, mut truncated) = (0, false);
    for pod in pods {
        let Some(ip) = address(pod, family) else { continue };
        let ports = ports_of(service, pod);
        let has_ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).is_some_and(|p| !p.is_empty());
        if ports.is_none() && has_ports {
            continue;
        }
        count += 1;
        if count > ADDRESSES_MAX {
            truncated = true;
            break;
        }
        let at = match subsets.iter().position(|s| s.ports == ports) {
            Some(at) => at,
            None => {
                subsets.push(EndpointSubset { ports, ..Default::default() });
                subsets.len() - 1
            }
        };
        let ready = publishes_not_ready(service) || podstate::ready(pod);
        let subset = &mut subsets[at];
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(EndpointAddress {
            ip: ip.to_string(),
            hostname: hostname(pod, service),
            node_name: Some(podstate::node_name(pod).to_string()).filter(|n| !n.is_empty()),
            target_ref: Some(target(pod)),
        });
    }
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    (subsets, truncated)
}

fn ports_of(service: &Service, pod: &Pod) -> Option<Vec<EndpointPort>> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref())?;
    let mut found: Vec<EndpointPort> = ports
        .iter()
        .filter_map(|port| {
            port_of(pod, port).map(|number| EndpointPort {
                name: port.name.clone().filter(|n| !n.is_empty()),
                port: number,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    found.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    (!found.is_empty()).then_some(found)
}
