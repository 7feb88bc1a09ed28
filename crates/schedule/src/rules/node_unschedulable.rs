//! `NodeUnschedulable`: a cordoned node takes only pods that tolerate it.

use k8s_openapi::api::core::v1::Taint;
use kinds::nodefit::tolerates;

use super::{Happening, Rule, Unfit};
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    filter: |cycle, node| match refuses(cycle.pod, node) {
        true => Err(Unfit::for_good("node(s) were unschedulable")),
        false => Ok(()),
    },
    hint: |pod, happening| match happening {
        Happening::NodeAdded(node) => !refuses(pod, node),
        Happening::NodeChanged { before, now } => refuses(pod, before) && !refuses(pod, now),
        _ => false,
    },
    ..Rule::new("NodeUnschedulable", 0)
};

fn refuses(pod: &PodView, node: &NodeView) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_string(),
        effect: "NoSchedule".to_string(),
        ..Taint::default()
    };
    node.is_unschedulable() && !pod.tolerations().iter().any(|toleration| tolerates(toleration, &taint))
}
