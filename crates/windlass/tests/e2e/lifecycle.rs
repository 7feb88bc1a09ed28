//! A node's own life: killed and started again, started twice, taken down.

use crate::Alone;
use crate::node::{IMAGE, Node, eventually};

pub const TESTS: &[(&str, Alone)] = &[
    ("killed_node_adopts_its_containers_and_loses_nothing", adoption),
    ("second_up_and_used_port_are_told", second),
    ("static_pod_and_its_mirror_follow_the_file", static_pod),
];

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

fn static_pod() {
    let node = Node::start(5);
    let ns = node.namespace("files");
    let manifest = node.path("data/manifests/web.yaml");
    std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
    let write = |words: &str| {
        let fresh = node.path("web.yaml");
        let command = format!("command: [sh, -c, 'echo {words}; exec sleep infinity']");
        let spec =
            format!("terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: main, image: {IMAGE}, {command}}}");
        let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: files}}\nspec:\n  {spec}\n");
        std::fs::write(&fresh, pod).unwrap();
        std::fs::rename(fresh, &manifest).unwrap();
    };
    let value = |path: &str| {
        ns.try_kubectl(&["get", "pod", "web-node-5", "-o", &format!("jsonpath={path}")]).unwrap_or_default()
    };
    write("first");
    eventually("the mirror runs", || (value("{.status.phase}") == "Running").then_some(()));
    let (mirror, container) = (value("{.metadata.uid}"), value("{.status.containerStatuses[0].containerID}"));
    // A mirror that is deleted comes back, and its container does not notice.
    ns.kubectl(&["delete", "pod", "web-node-5", "--wait=false"]);
    eventually("there is another mirror with a status", || {
        let uid = value("{.metadata.uid}");
        (!uid.is_empty() && uid != mirror && value("{.status.phase}") == "Running").then_some(())
    });
    assert_eq!(value("{.status.containerStatuses[0].containerID}"), container);
    // An edited file is another pod.
    write("second");
    eventually("the new pod runs", || {
        let now = value("{.status.containerStatuses[0].containerID}");
        (!now.is_empty() && now != container && value("{.status.phase}") == "Running").then_some(())
    });
    assert_eq!(ns.kubectl(&["logs", "web-node-5"]), "second\n");
    // A file that is removed while no kubelet runs takes its mirror along with the next.
    node.kill();
    std::fs::remove_file(&manifest).unwrap();
    node.up();
    eventually("the mirror is gone", || ns.try_kubectl(&["get", "pod", "web-node-5"]).is_err().then_some(()));
    write("third");
    eventually("it is there again", || (value("{.status.phase}") == "Running").then_some(()));
    std::fs::remove_file(&manifest).unwrap();
    eventually("the mirror is gone", || ns.try_kubectl(&["get", "pod", "web-node-5"]).is_err().then_some(()));
    node.down().unwrap();
}
