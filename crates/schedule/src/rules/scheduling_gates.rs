//! `SchedulingGates`: a gated pod is not even tried. The queue holds it back; the rule is here for its name and words.

use super::Rule;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    prefilter: |cycle| match gates(cycle.pod).as_slice() {
        [] => Ok(None),
        gates => Err(format!("waiting for scheduling gates: [{}]", gates.join(" "))),
    },
    // Only a change of the pod itself takes a gate away.
    hint: |_, _| false,
    ..Rule::new("SchedulingGates", 0)
};

pub(crate) fn gates(pod: &PodView) -> Vec<&str> {
    pod.spec().scheduling_gates.iter().flatten().map(|gate| gate.name.as_str()).collect()
}
