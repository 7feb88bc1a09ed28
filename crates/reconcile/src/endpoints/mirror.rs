//! Slices mirrored from `Endpoints` that somebody wrote by hand for a Service without selector.
//!
//! kubernetes/kubernetes pkg/controller/endpointslicemirroring: decides which Endpoints are mirrored.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::has_selector;
use super::slices::{MANAGED_BY, SERVICE_NAME};
use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints alone.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
const ADDRESSES_MAX: usize = 1000;

pub static ENDPOINTSLICE_MIRRORING: Controller = Controller {
    name: "endpoint-slice-mirroring-controller",
    account: "endpointslicemirroring-controller",
    watches: &[(Of::Endpoints, own), (Of::Service, own), (Of::EndpointSlice, of_slice)],
    workers: 5,
    sync: |cx, key| plan(&gather(cx, key)),
};

struct View {
    /// The Endpoints to mirror; none: there shall be no mirror.
    endpoints: Option<Arc<Endpoints>>,
    slices: Vec<Arc<EndpointSlice>>,
}

fn of_slice(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    for meta in change.metas().filter(|m| meta::label(m, MANAGED_BY) == Some(MANAGER)) {
        keys.extend(meta::label(meta, SERVICE_NAME).map(|name| Key::new(meta::namespace(meta), name)));
    }
}

fn mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    meta::label(meta, SKIP) != Some("true") && meta::annotation(meta, LEADER).is_none() && !meta::deleting(meta)
}

fn gather(cx: &Cx<'_>, key: &Key) -> View {
    let plain = cx.cache.services.at(key).is_some_and(|s| !has_selector(&s));
    let endpoints = cx.cache.endpoints.at(key).filter(|e| plain && mirrored(e));
    let ours = |slice: &Arc<EndpointSlice>| {
        meta::label(&slice.metadata, MANAGED_BY) == Some(MANAGER)
            && meta::label(&slice.metadata, SERVICE_NAME) == Some(&key.name)
            && !meta::deleting(&slice.metadata)
    };
    View { endpoints, slices: cx.cache.slices.within(&key.namespace).into_iter().filter(ours).collect() }
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    let mut left = view.slices.clone();
    let subsets = view.endpoints.iter().flat_map(|e| e.subsets.iter().flatten().map(move |s| (e, s)));
    for (endpoints, subset) in subsets {
        for family in ["IPv4", "IPv6"] {
            let wanted = slice_of(endpoints, subset, family);
            if wanted.endpoints.as_ref().is_none_or(Vec::is_empty) {
                continue;
            }
            let same_place = |s: &Arc<EndpointSlice>| s.address_type == wanted.address_type && s.ports == wanted.ports;
            match left.iter().position(same_place).map(|at| left.remove(at)) {
                None => plan.actions.push(Action::create(&wanted)),
                Some(had) => {
                    let (before, after) = (&had.metadata, &wanted.metadata);
                    let annotated =
                        before.annotations.clone().unwrap_or_default() == after.annotations.clone().unwrap_or_default();
                    if had.endpoints != wanted.endpoints || before.labels != after.labels || !annotated {
                        let mut updated = had.as_ref().clone();
                        updated.metadata.annotations = wanted.metadata.annotations;
                        updated.endpoints = wanted.endpoints;
                        updated.metadata.labels = wanted.metadata.labels;
                        plan.actions.push(Action::update(&updated));
                    }
                }
            }
        }
    }
    plan.actions.extend(left.iter().map(|slice| Action::delete(slice.as_ref())));
    plan
}

fn slice_of(endpoints: &Endpoints, subset: &EndpointSubset, family: &str) -> EndpointSlice {
    let of_family = |a: &&EndpointAddress| a.ip.contains(':') == (family == "IPv6");
    let ready = subset.addresses.iter().flatten().filter(of_family).map(|a| endpoint(a, true));
    let unready = subset.not_ready_addresses.iter().flatten().filter(of_family).map(|a| endpoint(a, false));
    let mut labels: BTreeMap<String, String> = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), meta::name(&endpoints.metadata).into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    let ports = subset.ports.iter().flatten().map(|p| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: p.app_protocol.clone(),
    });
    EndpointSlice {
        address_type: family.into(),
        endpoints: Some(ready.chain(unready).take(ADDRESSES_MAX).collect()),
        ports: Some(ports.collect()),
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(&endpoints.metadata))),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![meta::controller_reference(endpoints)]),
            ..Default::default()
        },
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}
