//! The way to the pods of other nodes: whose addresses are where.

use core::net::IpAddr;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

use crate::Cidr;

/// Every other node's pods, by their range, and the address of their node. A range that two nodes claim is nobody's.
pub fn pods_elsewhere<'n>(nodes: impl Iterator<Item = &'n Node>, own: &str) -> BTreeMap<Cidr, IpAddr> {
    let mut ways: BTreeMap<Cidr, Option<IpAddr>> = BTreeMap::new();
    for node in nodes {
        let is_own = node.metadata.name.as_deref() == Some(own);
        for range in ranges(node) {
            let overlapping = |other: &Cidr| other.contains(range.address()) || range.contains(other.address());
            let claimed: Vec<Cidr> = ways.keys().copied().filter(overlapping).collect();
            for other in &claimed {
                ways.insert(*other, None);
            }
            let way = address(node, range).filter(|_| !is_own && claimed.is_empty());
            ways.insert(range, way);
        }
    }
    ways.into_iter().filter_map(|(range, way)| Some((range, way?))).collect()
}

fn ranges(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all: Vec<&String> = match &spec.pod_cidrs {
        Some(all) if !all.is_empty() => all.iter().collect(),
        _ => spec.pod_cidr.iter().collect(),
    };
    all.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// The node's address of the same family.
fn address(node: &Node, range: Cidr) -> Option<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal =
        all.filter(|address| address.type_ == "InternalIP").filter_map(|address| address.address.parse().ok());
    internal.into_iter().find(|address: &IpAddr| address.is_ipv4() == range.address().is_ipv4())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, range: Option<&str>, address: &str) -> Node {
        let addresses = json!([{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]);
        let spec = json!({"podCIDR": range, "podCIDRs": range.map(|range| vec![range])});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": {"addresses": addresses}}))
            .unwrap()
    }

    #[test]
    fn other_nodes_pods_are_at_their_nodes() {
        let mut nodes = vec![
            node("own", Some("10.244.0.0/24"), "10.0.0.1"),
            node("a", Some("10.244.1.0/24"), "10.0.0.2"),
            node("waits", None, "10.0.0.3"),
        ];
        let said = |nodes: &[Node]| -> Vec<String> {
            pods_elsewhere(nodes.iter(), "own").iter().map(|(range, at)| format!("{range} at {at}")).collect()
        };
        assert_eq!(said(&nodes), ["10.244.1.0/24 at 10.0.0.2"]);
        nodes.push(node("thief", Some("10.244.0.0/24"), "10.0.0.4"));
        nodes.push(node("other", Some("10.244.1.128/25"), "10.0.0.5"));
        assert!(said(&nodes).is_empty(), "{:?}", said(&nodes));
    }
}
