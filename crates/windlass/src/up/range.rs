//! Which addresses the pods of the control plane's own node have. It is started before any controller could give it some,
//! so it takes what node IPAM would give it and registers with that.

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use net::Cidr;
use runner::Range;

use crate::config::Settings;

/// What the node has already, else what the operator says, else the lowest range that no node has.
pub async fn of_this_node(client: &kube::Client, settings: &Settings) -> anyhow::Result<Cidr> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.context("cannot list the nodes")?.items;
    decide(&nodes, settings)
}

fn decide(nodes: &[Node], settings: &Settings) -> anyhow::Result<Cidr> {
    let ranges = |node: &Node| -> Vec<String> { node.spec.iter().filter_map(|spec| spec.pod_cidr.clone()).collect() };
    let is_this = |node: &&Node| node.metadata.name.as_deref() == Some(&settings.node_name);
    let has = nodes.iter().find(is_this).and_then(|node| ranges(node).pop());
    match (has, settings.pod_range) {
        (Some(has), Some(told)) if has != told.to_string() => bail!(
            "--pod-cidr {told}: node {} has {has} already, which does not change: delete the node first",
            settings.node_name
        ),
        (Some(has), _) => has.parse().with_context(|| format!("spec.podCIDR of node {}", settings.node_name)),
        (None, Some(told)) => Ok(told),
        (None, None) => {
            let taken: Vec<Range> = nodes.iter().flat_map(ranges).filter_map(|text| Range::parse(&text)).collect();
            let cluster = Range::parse(&settings.cluster_range.to_string());
            let mut parts = cluster.into_iter().flat_map(|cluster| cluster.parts(settings.node_prefix()));
            let free = parts.find(|part| !taken.iter().any(|range| range.overlaps(part)));
            let free = free.with_context(|| {
                format!("--cluster-cidr {} has no room for this node's pods", settings.cluster_range)
            })?;
            Ok(free.to_string().parse()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    #[test]
    fn a_node_keeps_its_range_and_takes_no_others() {
        let settings = |pod_cidr: Option<&str>| {
            let (cluster_cidr, pod_cidr) = (Some("10.9.0.0/22".to_owned()), pod_cidr.map(str::to_owned));
            let data_dir = Some("/nonexistent/windlass".into());
            let node_name = Some("n".to_owned());
            Options { cluster_cidr, pod_cidr, data_dir, node_name, ..Options::default() }.resolve().unwrap()
        };
        let node = |name: &str, range: Option<&str>| -> Node {
            serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "spec": {"podCIDR": range}})).unwrap()
        };
        let decided = |nodes: &[Node], told| decide(nodes, &settings(told)).map(|range| range.to_string());
        let other = || node("other", Some("10.9.0.0/24"));
        assert_eq!(decided(&[], None).unwrap(), "10.9.0.0/24");
        assert_eq!(decided(&[node("n", None), other()], None).unwrap(), "10.9.1.0/24");
        assert_eq!(decided(&[other()], Some("10.9.3.0/26")).unwrap(), "10.9.3.0/26");
        let has = [node("n", Some("10.9.2.0/24"))];
        assert_eq!(decided(&has, None).unwrap(), "10.9.2.0/24");
        assert!(decided(&has, Some("10.9.3.0/24")).unwrap_err().to_string().contains("has 10.9.2.0/24 already"));
        let full: Vec<Node> = (0..4).map(|n| node(&format!("n{n}"), Some(&format!("10.9.{n}.0/24")))).collect();
        assert!(decided(&full, None).unwrap_err().to_string().contains("has no room"));
    }
}
