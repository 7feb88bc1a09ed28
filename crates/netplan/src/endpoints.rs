//! Which endpoints of a service port take its traffic on this node.
//!
//! kubernetes/kubernetes pkg/proxy/topology.go decides the same: ready endpoints, narrowed by hints; when there are none,
//! those that are terminating but still serve; cluster-wide and node-local apart.

use core::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::service::{Family, Protocol};

/// Where traffic ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub address: IpAddr,
    pub port: u16,
}

/// An endpoint of one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub target: Target,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub local: bool,
    pub node_hints: Vec<String>,
    pub zone_hints: Vec<String>,
}

impl Endpoint {
    /// Not ready, but the last that a connection can still be given to.
    fn lingers(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }
}

/// What a node must know of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    pub name: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The node's own address.
    pub address: Option<IpAddr>,
}

/// The endpoints for traffic of each policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usable {
    pub cluster: Vec<Target>,
    pub local: Vec<Target>,
    /// There is a usable endpoint somewhere, though perhaps not for this node.
    pub any: bool,
}

/// Collects the endpoints of the service port of this name and protocol from all the service's slices. An address that
/// two slices hold counts once, the more useful of them.
pub(crate) fn of_port(
    slices: &[impl AsRef<EndpointSlice>],
    family: Family,
    (name, protocol): (&str, Protocol),
    node: &NodeView,
) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = Vec::new();
    for slice in slices.iter().map(AsRef::as_ref).filter(|slice| slice.address_type == family.address_type()) {
        let port = slice.ports.iter().flatten().find(|port| {
            port.name.as_deref().unwrap_or_default() == name
                && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
        });
        let Some(port) = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            // The addresses of one endpoint are interchangeable: the first is used.
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else { continue };
            let conditions = endpoint.conditions.as_ref();
            let hints = endpoint.hints.as_ref();
            all.push(Endpoint {
                target: Target { address, port },
                ready: conditions.and_then(|c| c.ready).unwrap_or(true),
                serving: conditions.and_then(|c| c.serving).unwrap_or(true),
                terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
                local: endpoint.node_name.as_deref() == Some(&node.name),
                node_hints: hints.iter().flat_map(|h| h.for_nodes.iter().flatten()).map(|n| n.name.clone()).collect(),
                zone_hints: hints.iter().flat_map(|h| h.for_zones.iter().flatten()).map(|z| z.name.clone()).collect(),
            });
        }
    }
    all.sort_by_key(|endpoint| (endpoint.target, !endpoint.ready, !endpoint.serving));
    all.dedup_by_key(|endpoint| endpoint.target);
    all
}

/// `wants_cluster` and `wants_local`: whether the service has traffic of that policy at all.
pub(crate) fn usable(endpoints: &[Endpoint], wants_cluster: bool, wants_local: bool, node: &NodeView) -> Usable {
    let pick = |choose: &dyn Fn(&Endpoint) -> bool| -> Vec<Target> {
        endpoints.iter().filter(|endpoint| choose(endpoint)).map(|endpoint| endpoint.target).collect()
    };
    let ready_or_lingering = |choose: &dyn Fn(&Endpoint) -> bool| {
        let ready = pick(&|endpoint| endpoint.ready && choose(endpoint));
        if ready.is_empty() { pick(&|endpoint| endpoint.lingers() && choose(endpoint)) } else { ready }
    };
    let mut usable = Usable::default();
    if wants_cluster {
        let preference = preference(endpoints, node);
        usable.cluster = pick(&|endpoint| endpoint.ready && preference.allows(endpoint, node));
        if usable.cluster.is_empty() {
            usable.cluster = pick(&Endpoint::lingers);
        }
        usable.any = !usable.cluster.is_empty();
    }
    if wants_local {
        usable.any |= endpoints.iter().any(|endpoint| endpoint.ready || endpoint.lingers());
        usable.local = ready_or_lingering(&|endpoint| endpoint.local);
    }
    usable
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    Anywhere,
    SameNode,
    SameZone,
}

/// Hints count only when every ready endpoint has one and one of them names this node, or its zone.
fn preference(endpoints: &[Endpoint], node: &NodeView) -> Preference {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
    if ready().next().is_none() {
        return Preference::Anywhere;
    }
    let complete_and_allow = |preference: Preference, hints: fn(&Endpoint) -> &[String]| {
        ready().all(|endpoint| !hints(endpoint).is_empty()) && ready().any(|endpoint| preference.allows(endpoint, node))
    };
    if complete_and_allow(Preference::SameNode, |endpoint| &endpoint.node_hints) {
        Preference::SameNode
    } else if complete_and_allow(Preference::SameZone, |endpoint| &endpoint.zone_hints) {
        Preference::SameZone
    } else {
        Preference::Anywhere
    }
}

impl Preference {
    fn allows(self, endpoint: &Endpoint, node: &NodeView) -> bool {
        match self {
            Preference::Anywhere => true,
            Preference::SameNode => endpoint.node_hints.contains(&node.name),
            Preference::SameZone => node.zone.as_ref().is_some_and(|zone| endpoint.zone_hints.contains(zone)),
        }
    }
}
