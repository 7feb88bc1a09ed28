//! `NodeName`: a pod that names its node.

use super::{Rule, Unfit};

pub(super) const RULE: Rule = Rule {
    filter: |cycle, node| match cycle.pod.node_name() {
        Some(name) if name != node.name => Err(Unfit::for_good("node(s) didn't match the requested node name")),
        _ => Ok(()),
    },
    ..Rule::new("NodeName", 0)
};
