//! `NodePorts`: two pods cannot have the same port of a host.

use super::{Happening, Rule, Unfit};
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    filter: |cycle, node| match collides(cycle.pod, node) {
        true => Err(Unfit::resolvable("node(s) didn't have free ports for the requested pod ports")),
        false => Ok(()),
    },
    hint: |pod, happening| match happening {
        Happening::NodeAdded(_) => true,
        Happening::PodGone(gone) => meets(pod, gone),
        _ => false,
    },
    ..Rule::new("NodePorts", 0)
};

fn meets(pod: &PodView, other: &PodView) -> bool {
    pod.host_ports.iter().any(|port| other.host_ports.iter().any(|taken| port.meets(taken)))
}

fn collides(pod: &PodView, node: &NodeView) -> bool {
    !pod.host_ports.is_empty() && node.pods.values().any(|other| meets(pod, other))
}
