//! `ImageLocality`: prefers nodes that have the pod's images already, the less the more nodes lack them.

use super::{Rule, SCORE_MAX};
use crate::cycle::Cycle;
use crate::node_view::NodeView;

pub(super) const RULE: Rule = Rule { score, ..Rule::new("ImageLocality", 1) };

/// Bytes below which an image does not count, and above which it counts no more.
const BYTES_MIN: i64 = 23 * 1024 * 1024;
const BYTES_MAX: i64 = 1000 * 1024 * 1024;

fn score(cycle: &Cycle, nodes: &[&NodeView]) -> Option<Vec<i64>> {
    let spec = cycle.pod.spec();
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let in_containers = containers.filter_map(|container| container.image.as_deref());
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    let images: Vec<String> = in_containers.chain(volumes).map(with_tag).collect();
    if images.is_empty() {
        return None;
    }
    let total = cycle.nodes().count() as f64;
    let spread = |image: &String| cycle.nodes().filter(|node| node.images.contains_key(image)).count() as f64 / total;
    let spreads: Vec<f64> = images.iter().map(spread).collect();
    let highest = BYTES_MAX * images.len() as i64;
    let score_of = |node: &&NodeView| {
        let sizes = images
            .iter()
            .zip(&spreads)
            .filter_map(|(image, spread)| node.images.get(image).map(|size| (*size as f64 * spread) as i64));
        let sum = sizes.sum::<i64>().clamp(BYTES_MIN, highest);
        SCORE_MAX * (sum - BYTES_MIN) / (highest - BYTES_MIN)
    };
    Some(nodes.iter().map(score_of).collect())
}

fn with_tag(image: &str) -> String {
    if image.rfind(':') <= image.rfind('/') { format!("{image}:latest") } else { image.to_string() }
}
