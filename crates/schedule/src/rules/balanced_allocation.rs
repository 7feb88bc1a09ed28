//! `NodeResourcesBalancedAllocation`: prefers nodes whose CPU and memory fill up evenly, compared with before.

use super::{Rule, SCORE_MAX};
use crate::cycle::Cycle;
use crate::node_view::NodeView;

pub(super) const RULE: Rule = Rule { score, ..Rule::new("NodeResourcesBalancedAllocation", 1) };

fn score(cycle: &Cycle, nodes: &[&NodeView]) -> Option<Vec<i64>> {
    let asked = &cycle.pod.asked.requests;
    // Pods that ask for nothing would all be sent to one node.
    if asked.cpu_milli == 0 && asked.memory_bytes == 0 {
        return None;
    }
    let score_of = |node: &&NodeView| {
        let has = [node.allocatable.cpu_milli, node.allocatable.memory_bytes];
        let before = [node.requested.cpu_milli, node.requested.memory_bytes];
        let after = [before[0] + asked.cpu_milli, before[1] + asked.memory_bytes];
        SCORE_MAX / 2 + (SCORE_MAX / 2 + evenness(after, has) - evenness(before, has)) / 2
    };
    Some(nodes.iter().map(score_of).collect())
}

/// 100 when both resources are used to the same fraction, 50 at the most uneven.
fn evenness(used: [i64; 2], has: [i64; 2]) -> i64 {
    let fractions: Vec<f64> =
        (0..2).filter(|&i| has[i] > 0).map(|i| (used[i] as f64 / has[i] as f64).min(1.0)).collect();
    let deviation = match fractions.as_slice() {
        [one, other] => ((one - other) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}
