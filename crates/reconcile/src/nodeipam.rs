//! Node IPAM: each node gets a range of its own of the cluster's pod addresses.
//!
//! kubernetes/kubernetes pkg/controller/nodeipam/ipam/range_allocator.go: decides what is written. The lowest range that
//! no node has is taken; a node that has gone leaves its own to the next.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::range::Range;
use crate::settings::PodRanges;

pub static NODEIPAM: Controller = Controller {
    name: "node-ipam-controller",
    account: "node-controller",
    watches: &[(Of::Node, of_node)],
    // One at a time: two nodes must not be given the same range.
    workers: 1,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    node: Arc<Node>,
    ranges: PodRanges,
    taken: Vec<Range>,
}

fn ranges_of(node: &Node) -> Vec<Range> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|text| Range::parse(text)).collect()
}

/// A node that has gone may leave room for those that wait.
fn of_node(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    if change.new.is_some() {
        return own(cache, change, keys);
    }
    let waiting = cache.nodes.all().into_iter().filter(|node| ranges_of(node).is_empty());
    keys.extend(waiting.map(|node| Key::of(&node.metadata)));
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let ranges = cx.settings.pod_ranges?;
    let node = cx.cache.nodes.at(key).filter(|node| ranges_of(node).is_empty() && !meta::deleting(&node.metadata))?;
    let taken = cx.cache.nodes.all().iter().flat_map(|node| ranges_of(node)).collect();
    Some(View { node, ranges, taken })
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    let node = view.node.as_ref();
    let free = |range: &Range| !view.taken.iter().any(|taken| taken.overlaps(range));
    let Some(range) = view.ranges.cluster.parts(view.ranges.node_prefix).find(free) else {
        let text = format!("Node {} status is now: CIDRNotAvailable", meta::name(&node.metadata));
        plan.events.push(Event::normal(node, "CIDRNotAvailable", text));
        return plan;
    };
    let range = range.to_string();
    plan.actions.push(Action::patch(node, json!({"spec": {"podCIDR": range, "podCIDRs": [range]}})));
    plan
}
