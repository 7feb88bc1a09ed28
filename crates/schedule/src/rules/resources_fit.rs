//! `NodeResourcesFit`: what the pod asks for must be left on the node; of those that fit the emptiest is preferred
//! (strategy `LeastAllocated` over CPU and memory).

use super::{Fit, Happening, Rule, SCORE_MAX, Unfit};
use crate::amounts::Amounts;
use crate::cycle::Cycle;
use crate::node_view::NodeView;

pub(super) const RULE: Rule = Rule {
    filter,
    score: |cycle, nodes| Some(nodes.iter().map(|node| least_allocated(cycle, node)).collect()),
    hint: |pod, happening| match happening {
        Happening::NodeAdded(node) => fits_empty(&pod.asked.requests, node),
        Happening::NodeChanged { before, now } => {
            let grown = now.allocatable != before.allocatable || now.pods_max != before.pods_max;
            grown && fits_empty(&pod.asked.requests, now)
        }
        Happening::PodGone(_) => true,
        _ => false,
    },
    ..Rule::new("NodeResourcesFit", 1)
};

fn fits_empty(requests: &Amounts, node: &NodeView) -> bool {
    lacking(requests, &Amounts::default(), &node.allocatable).is_empty() && node.pods_max > 0
}

/// Each resource that is short, and whether even an empty node would be too small.
fn lacking(requests: &Amounts, used: &Amounts, allocatable: &Amounts) -> Vec<(String, bool)> {
    let mut short = Vec::new();
    let mut look = |name: &str, wanted: i64, used: i64, has: i64| {
        if wanted > 0 && wanted > has - used {
            short.push((format!("Insufficient {name}"), wanted > has));
        }
    };
    look("cpu", requests.cpu_milli, used.cpu_milli, allocatable.cpu_milli);
    look("memory", requests.memory_bytes, used.memory_bytes, allocatable.memory_bytes);
    let storage = (requests.ephemeral_storage_bytes, used.ephemeral_storage_bytes, allocatable.ephemeral_storage_bytes);
    look("ephemeral-storage", storage.0, storage.1, storage.2);
    for (name, wanted) in &requests.other {
        let of = |amounts: &Amounts| amounts.other.get(name).copied().unwrap_or(0);
        look(name, *wanted, of(used), of(allocatable));
    }
    short
}

fn filter(cycle: &Cycle, node: &NodeView) -> Fit {
    let mut reasons = Vec::new();
    if node.pods.len() as i64 + 1 > node.pods_max {
        reasons.push(("Too many pods".to_string(), false));
    }
    reasons.extend(lacking(&cycle.pod.asked.requests, &node.requested, &node.allocatable));
    if reasons.is_empty() {
        return Ok(());
    }
    let resolvable = reasons.iter().all(|(_, too_small)| !too_small);
    Err(Unfit { reasons: reasons.into_iter().map(|(reason, _)| reason).collect(), resolvable })
}

fn least_allocated(cycle: &Cycle, node: &NodeView) -> i64 {
    let asked = &cycle.pod.asked.for_scores;
    let resources = [
        (asked.cpu_milli + node.requested_for_scores.cpu_milli, node.allocatable.cpu_milli),
        (asked.memory_bytes + node.requested_for_scores.memory_bytes, node.allocatable.memory_bytes),
    ];
    let scores = resources.iter().filter(|(_, has)| *has > 0).map(|(wanted, has)| match wanted > has {
        true => 0,
        false => (i128::from(has - wanted) * i128::from(SCORE_MAX) / i128::from(*has)) as i64,
    });
    let (sum, count) = scores.fold((0, 0), |(sum, count), score| (sum + score, count + 1));
    if count == 0 { 0 } else { sum / count }
}
