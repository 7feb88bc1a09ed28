//! How long kubelets may rely on the ConfigMaps and Secrets they have read: the longer, the larger the cluster.
//!
//! kubernetes/kubernetes pkg/controller/ttl: decides the steps. They overlap, so that a cluster on a border between two
//! does not go to and fro.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::cache::{Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};

const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// Fewest and most nodes, and the seconds for as many.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

pub static NODETTL: Controller = Controller {
    name: "ttl-controller",
    account: "ttl-controller",
    watches: &[(Of::Node, own)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    node: Arc<Node>,
    count: usize,
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    Some(View { node: cx.cache.nodes.at(key)?, count: cx.cache.nodes.len() })
}

/// The seconds for so many nodes, staying with what was so far where steps overlap.
fn seconds(count: usize, had: Option<u32>) -> u32 {
    let holds = |(fewest, most, _): &&(usize, usize, u32)| (*fewest..=*most).contains(&count);
    let same = STEPS.iter().filter(holds).find(|(_, _, seconds)| had == Some(*seconds));
    same.or_else(|| STEPS.iter().find(holds)).map_or(0, |(_, _, seconds)| *seconds)
}

fn plan(view: &View) -> Plan {
    let node = view.node.as_ref();
    let had = meta::annotation(&node.metadata, TTL).and_then(|text| text.parse().ok());
    let wanted = seconds(view.count, had);
    if had == Some(wanted) {
        return Plan::default();
    }
    let patch = json!({"metadata": {"annotations": {TTL: wanted.to_string()}}});
    Plan { actions: vec![Action::patch(node, patch)], ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_kept_as_long_as_it_holds() {
        for (count, had, wanted) in [
            (1, None, 0),
            (100, Some(0), 0),
            (101, Some(0), 15),
            (95, Some(15), 15),
            (89, Some(15), 0),
            (5000, None, 300),
            (1900, Some(300), 300),
        ] {
            assert_eq!(seconds(count, had), wanted, "{count} nodes, {had:?} before");
        }
    }
}
