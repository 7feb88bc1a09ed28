//! One service and its endpoints to rules.
//!
//! kubernetes/kubernetes pkg/proxy/nftables/proxier.go decides the same: which destinations a service has, where each
//! leads, what is refused, dropped or masqueraded. The form differs (see `rules`): most services need no chain.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::cidr::Cidr;
use crate::endpoints::{self, NodeView, Target, Usable};
use crate::rules::{Destination, Fragment, Place, SLOTS, Step, Value};

const STICKY_SECONDS_DEFAULT: u32 = 10_800;
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// TCP when absent; `None` for what Kubernetes does not know.
    pub fn parse(text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// Rules are made for one address family at a time: a node port is the same number in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        }
    }

    pub(crate) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Family::Ipv4)
    }
}

/// `namespace/name`.
pub fn service_key(service: &Service) -> String {
    let metadata = &service.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

/// The service a slice belongs to: `namespace/name`. Slices of headless services have nothing for a proxy.
pub fn slice_service_key(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()))
}

/// The rules of one service.
pub fn plan(service: &Service, slices: &[impl AsRef<EndpointSlice>], family: Family, node: &NodeView) -> Fragment {
    let mut fragment = Fragment::default();
    let Some(spec) = &service.spec else { return fragment };
    let labelled = |label| service.metadata.labels.iter().flatten().any(|(name, _)| name == label);
    if spec.type_.as_deref() == Some("ExternalName") || labelled(PROXY_NAME_LABEL) {
        return fragment;
    }
    let Some(cluster_ip) = cluster_ip(spec, family) else { return fragment };
    let slices: Vec<&EndpointSlice> = slices
        .iter()
        .map(AsRef::as_ref)
        .filter(|slice| !slice.metadata.labels.iter().flatten().any(|(name, _)| name == HEADLESS_LABEL))
        .collect();
    let slices: Vec<SliceRef<'_>> = slices.into_iter().map(SliceRef).collect();
    let common =
        Common { key: service_key(service), spec, cluster_ip, family, ingress: ingress(service, family), node };
    for port in spec.ports.iter().flatten() {
        common.plan_port(port, &slices, &mut fragment);
    }
    fragment
}

struct SliceRef<'a>(&'a EndpointSlice);

impl AsRef<EndpointSlice> for SliceRef<'_> {
    fn as_ref(&self) -> &EndpointSlice {
        self.0
    }
}

/// The service's address of a family; `None` also for headless services.
pub fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|text| text.parse().ok()).find(|address| family.has(*address))
}

/// Load balancer addresses that lead here: not those whose balancer is a proxy and connects to node ports itself.
fn ingress(service: &Service, family: Family) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    ingress
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
        .filter(|address| family.has(*address))
        .collect()
}

struct Common<'a> {
    key: String,
    spec: &'a ServiceSpec,
    cluster_ip: IpAddr,
    family: Family,
    ingress: Vec<IpAddr>,
    node: &'a NodeView,
}

/// Where the traffic of one destination goes.
enum Spread {
    Slots(Vec<Target>),
    Chain(String),
}

impl Common<'_> {
    fn plan_port(&self, port: &ServicePort, slices: &[SliceRef<'_>], fragment: &mut Fragment) {
        let spec = self.spec;
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { return };
        let Ok(number) = u16::try_from(port.port) else { return };
        let to = |address: IpAddr| Destination { address: Some(address), protocol, port: number };
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let external_ips: Vec<IpAddr> = (spec.external_ips.iter().flatten())
            .filter_map(|text| text.parse().ok())
            .filter(|address| self.family.has(*address))
            .collect();
        let external: Vec<Destination> = (external_ips.iter().chain(&self.ingress).map(|address| to(*address)))
            .chain(node_port.map(|port| Destination { address: None, protocol, port }))
            .collect();

        let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let takes_external =
            matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) || !external_ips.is_empty();
        let external_local = takes_external && spec.external_traffic_policy.as_deref() == Some("Local");
        let wants_cluster = !internal_local || !external.is_empty();
        let wants_local = internal_local || (external_local && !external.is_empty());
        let name = port.name.as_deref().unwrap_or_default();
        let endpoints = endpoints::of_port(slices, self.family, (name, protocol), self.node);
        let usable = endpoints::usable(&endpoints, wants_cluster, wants_local, self.node);

        let part = Part { common: self, protocol, label: format!("{}/{protocol}/{number}", self.key), usable: &usable };
        fragment.elements.insert(Place::ClusterIp(self.cluster_ip), Value::Present);
        part.internal(to(self.cluster_ip), internal_local, fragment);
        part.external(&external, external_local, fragment);
        part.firewall(to, fragment);
        let local = endpoints.iter().filter(|endpoint| endpoint.local).map(|endpoint| endpoint.target);
        let used = |target: &Target| usable.cluster.contains(target) || usable.local.contains(target);
        for target in local.filter(used) {
            fragment.elements.insert(Place::Hairpin(target, protocol), Value::Present);
        }
        if let Some(check) =
            spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|p| *p != 0 && external_local)
        {
            // Not those that only linger: a balancer shall turn away from a node whose last endpoint is ending.
            let ready = endpoints.iter().filter(|endpoint| endpoint.local && endpoint.ready);
            let (_, known) = fragment.health_check.get_or_insert_with(|| (check, BTreeSet::new()));
            known.extend(ready.map(|endpoint| endpoint.target.address));
        }
    }

    fn sticky_seconds(&self) -> Option<u32> {
        if self.spec.session_affinity.as_deref() != Some("ClientIP") {
            return None;
        }
        let configured =
            self.spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        Some(configured.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(STICKY_SECONDS_DEFAULT))
    }
}

/// One port of a service with the endpoints it can use.
struct Part<'a> {
    common: &'a Common<'a>,
    protocol: Protocol,
    /// `namespace/name/protocol/port`, unique in the cluster: names chains.
    label: String,
    usable: &'a Usable,
}

impl Part<'_> {
    /// The cluster's own address.
    fn internal(&self, to: Destination, local: bool, fragment: &mut Fragment) {
        let (policy, targets) = if local { ("local", &self.usable.local) } else { ("cluster", &self.usable.cluster) };
        match (targets.is_empty(), self.usable.any) {
            (false, _) => self.lead(to, policy, targets, fragment),
            // There are endpoints, but not here: dropped, as another node would have answered.
            (true, true) => drop(fragment.elements.insert(Place::NoEndpoints(to), Value::Drop)),
            (true, false) => drop(fragment.elements.insert(Place::NoEndpoints(to), Value::Reject)),
        }
    }

    /// Node ports, external and load balancer addresses.
    fn external(&self, external: &[Destination], local: bool, fragment: &mut Fragment) {
        if external.is_empty() {
            return;
        }
        if !self.usable.any {
            for to in external {
                fragment.elements.insert(Place::NoEndpoints(*to), Value::Reject);
            }
            return;
        }
        if !local {
            for to in external {
                // The endpoint may be on another node, which must answer through this one.
                fragment.elements.insert(Place::Masquerade(*to), Value::Present);
                self.lead(*to, "cluster", &self.usable.cluster, fragment);
            }
            return;
        }
        // Clients of the cluster itself may use every endpoint, as if they came in by the balancer.
        let mut steps = Vec::new();
        if !self.usable.cluster.is_empty() {
            let everywhere = self.chain("cluster", &self.usable.cluster, fragment);
            steps.push(Step::FromPods(everywhere.clone()));
            steps.push(Step::FromNode(everywhere));
        }
        if !self.usable.local.is_empty() {
            steps.push(Step::Goto(self.chain("local", &self.usable.local, fragment)));
        }
        let name = format!("external-{}", self.label);
        fragment.chains.insert(name.clone(), steps);
        for to in external {
            fragment.elements.insert(Place::Chain(*to), Value::Goto(name.clone()));
            self.note_udp(*to, self.usable.cluster.iter().chain(&self.usable.local), fragment);
            if self.usable.local.is_empty() {
                fragment.elements.insert(Place::NoEndpoints(*to), Value::Drop);
            }
        }
    }

    /// `loadBalancerSourceRanges`; a range of everything is none.
    fn firewall(&self, to: impl Fn(IpAddr) -> Destination, fragment: &mut Fragment) {
        let common = self.common;
        let ranges = common.spec.load_balancer_source_ranges.iter().flatten();
        let mut ranges: Vec<Cidr> = ranges
            .filter_map(|text| text.trim().parse::<Cidr>().ok())
            .filter(|range| common.family.has(range.address()))
            .collect();
        if ranges.is_empty() || common.ingress.is_empty() || ranges.iter().any(|range| range.prefix() == 0) {
            return;
        }
        // A node that may reach the balancer loops back with the balancer's address as its own.
        if common.node.address.is_some_and(|address| ranges.iter().any(|range| range.contains(address))) {
            ranges.extend(common.ingress.iter().map(|address| Cidr::single(*address)));
        }
        let name = format!("firewall-{}", self.label);
        fragment.chains.insert(name.clone(), vec![Step::DropUnlessFrom(ranges)]);
        for address in &common.ingress {
            fragment.elements.insert(Place::Firewall(to(*address)), Value::Goto(name.clone()));
        }
    }

    fn lead(&self, to: Destination, policy: &str, targets: &[Target], fragment: &mut Fragment) {
        self.note_udp(to, targets.iter(), fragment);
        match self.spread(policy, targets, fragment) {
            Spread::Chain(name) => drop(fragment.elements.insert(Place::Chain(to), Value::Goto(name))),
            Spread::Slots(targets) => {
                for (slot, target) in (0..SLOTS).zip(targets.iter().cycle()) {
                    fragment.elements.insert(Place::Slot(to, slot), Value::Target(*target));
                }
            }
        }
    }

    fn spread(&self, policy: &str, targets: &[Target], fragment: &mut Fragment) -> Spread {
        if targets.len() <= usize::from(SLOTS) && self.common.sticky_seconds().is_none() {
            Spread::Slots(targets.to_vec())
        } else {
            Spread::Chain(self.chain(policy, targets, fragment))
        }
    }

    fn chain(&self, policy: &str, targets: &[Target], fragment: &mut Fragment) -> String {
        let name = format!("{policy}-{}", self.label);
        let step = match self.common.sticky_seconds() {
            Some(seconds) => Step::Sticky(targets.to_vec(), seconds),
            None => Step::Balance(targets.to_vec()),
        };
        fragment.chains.insert(name.clone(), vec![step]);
        name
    }

    fn note_udp<'t>(&self, to: Destination, targets: impl Iterator<Item = &'t Target>, fragment: &mut Fragment) {
        if self.protocol == Protocol::Udp {
            fragment.udp.extend(targets.map(|target| (to, *target)));
        }
    }
}

#[cfg(test)]
mod tests;
