//! What is used: `kubectl top`, and the series that Prometheus reads.

use crate::Shared;
use crate::node::{IMAGE, Namespace, eventually};

pub const TESTS: &[(&str, Shared)] = &[("top_shows_what_a_busy_pod_uses", top)];

/// A pod with a container that spins up to its limit of CPU, beside one that sleeps.
fn busy(ns: &Namespace) {
    ns.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: busy, labels: {{load: high}}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: spin\n    image: {IMAGE}\n    command: [sh, -c, 'while true; do :; done']\n    resources: {{limits: {{cpu: 400m}}}}\n  - name: sleep\n    image: {IMAGE}\n    command: [sleep, infinity]\n"
    ));
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/busy", "--timeout=60s"]);
}

/// The figure in a column of a row: `250m` or `12Mi`.
fn figure(row: &str, column: usize, unit: &str) -> u64 {
    let cell = row.split_whitespace().nth(column).unwrap_or_else(|| panic!("column {column} of {row:?}"));
    let number = cell.strip_suffix(unit).unwrap_or_else(|| panic!("{cell:?} is not in {unit} in {row:?}"));
    number.parse().unwrap_or_else(|_| panic!("{cell:?} in {row:?}"))
}

fn top(ns: &Namespace) {
    busy(ns);
    let mut last = String::new();
    let row = eventually("the busy pod shows its use", || {
        last = ns.try_kubectl(&["top", "pod", "busy", "--no-headers"]).unwrap_or_else(|words| words);
        last.starts_with("busy").then(|| last.clone()).filter(|row| figure(row, 1, "m") >= 50)
    });
    assert!(figure(&row, 1, "m") <= 800, "more than twice its limit: {row}");
    // The shell needs less than what the column counts in.
    assert!(figure(&row, 2, "Mi") < 100, "{row}");
    let memory =
        ns.kubectl(&["get", "podmetrics", "busy", "-o", "jsonpath={.containers[?(@.name=='spin')].usage.memory}"]);
    assert!((1..100_000).contains(&figure(&memory, 0, "Ki")), "{memory}");

    let containers = ns.kubectl(&["top", "pod", "--containers", "--no-headers", "--sort-by=cpu", "-l", "load=high"]);
    let rows: Vec<&str> = containers.lines().collect();
    assert!(rows.len() == 2 && rows[0].contains("spin") && rows[1].contains("sleep"), "{containers}");
    assert!(figure(rows[0], 2, "m") > figure(rows[1], 2, "m"), "{containers}");
    let everywhere = ns.kubectl(&["top", "pods", "-A", "--sort-by=memory"]);
    assert!(everywhere.contains(&format!("{} ", ns.name)) && everywhere.contains("NAMESPACE"), "{everywhere}");
    let none = ns.try_kubectl(&["top", "pods", "-l", "load=none"]).unwrap();
    assert_eq!(none, "");
    assert_eq!(ns.refused(&["top", "pod", "missing"]), "Error from server (NotFound): pods \"missing\" not found");

    let node = ns.kubectl(&["top", "node", "--no-headers"]);
    assert!(node.starts_with("node-1") && figure(&node, 1, "m") >= figure(&row, 1, "m") / 2, "{node}");
    assert!(figure(&node, 3, "Mi") > 100, "{node}");
    let one = ns.kubectl(&["get", "podmetrics", "busy", "-o", "jsonpath={.kind} {.metadata.labels.load} {.window}"]);
    assert!(one.starts_with("PodMetrics high ") && one.ends_with('s'), "{one}");
    let table = ns.kubectl(&["get", "nodes.metrics.k8s.io"]);
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "CPU", "MEMORY", "WINDOW"]);
    assert!(ns.kubectl(&["explain", "podmetrics.containers"]).contains("usage"));
    ns.kubectl(&["delete", "pod", "busy"]);
}
