//! A node's own life: killed and started again, started twice, taken down.

use crate::Alone;
use crate::node::{Node, eventually};

pub const TESTS: &[(&str, Alone)] =
    &[("killed_node_adopts_its_containers_and_loses_nothing", adoption), ("second_up_and_used_port_are_told", second)];

fn adoption() {
    let node = Node::start(2);
    let ns = node.namespace("adoption");
    ns.run_script("survivor", "exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/survivor", "--timeout=60s"]);
    let status = |path: &str| ns.value("pod/survivor", path);
    let before =
        status("{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].state.running.startedAt}");
    // Creates go on while the process is killed; what was acknowledged must be there afterwards.
    let acknowledged = std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            let named = |n: usize| format!("m{n}");
            (0..200)
                .map(named)
                .take_while(|name| ns.try_kubectl(&["create", "configmap", name]).is_ok())
                .collect::<Vec<_>>()
        });
        eventually("some creates are acknowledged", || ns.try_kubectl(&["get", "configmap", "m20"]).ok());
        node.kill();
        creating.join().unwrap()
    });
    assert!(acknowledged.len() > 20 && acknowledged.len() < 200, "{}", acknowledged.len());
    node.up();
    let found = ns.kubectl(&["get", "configmaps", "-o", "name"]);
    for name in &acknowledged {
        assert!(found.lines().any(|line| line == format!("configmap/{name}")), "{name} is lost");
    }
    ns.becomes("pod/survivor", "{.status.phase}", "Running");
    let after =
        status("{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].state.running.startedAt}");
    assert_eq!(before, after);
    assert_eq!(status("{.status.containerStatuses[0].restartCount}"), "0");
    node.down().unwrap();
}

fn second() {
    let node = Node::start(3);
    let again = node.windlass(&["up"]).output().unwrap();
    let words = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && words.contains("port 16503 is already in use"), "{words}");
    node.down().unwrap();
}
