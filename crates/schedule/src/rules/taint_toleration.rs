//! `TaintToleration`: a node's taints keep away who does not tolerate them.

use kinds::nodefit::tolerates;

use super::{Happening, Rule, Unfit, normalise};
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    filter: |cycle, node| match repels(cycle.pod, node) {
        true => Err(Unfit::for_good("node(s) had untolerated taint(s)")),
        false => Ok(()),
    },
    score: |cycle, nodes| {
        let scores = nodes.iter().map(|node| soft_taints(cycle.pod, node)).collect();
        Some(normalise(scores, true))
    },
    hint: |pod, happening| match happening {
        Happening::NodeAdded(node) => !repels(pod, node),
        Happening::NodeChanged { before, now } => repels(pod, before) && !repels(pod, now),
        _ => false,
    },
    ..Rule::new("TaintToleration", 3)
};

/// A taint with `NoSchedule` or `NoExecute` that the pod does not tolerate.
pub(crate) fn repels(pod: &PodView, node: &NodeView) -> bool {
    let hard = node.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    hard.into_iter().any(|taint| !pod.tolerations().iter().any(|toleration| tolerates(toleration, taint)))
}

fn soft_taints(pod: &PodView, node: &NodeView) -> i64 {
    let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let intolerable = soft.filter(|taint| !pod.tolerations().iter().any(|toleration| tolerates(toleration, taint)));
    intolerable.count() as i64
}
