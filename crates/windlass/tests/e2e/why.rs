//! What dies is explained: `windlass why`, with the API server there and with it killed.

use crate::Alone;
use crate::node::{IMAGE, Namespace, Node, eventually};

pub const TESTS: &[(&str, Alone)] = &[
    ("why_names_the_cause_of_every_ending", endings),
    ("a_probe_that_cannot_be_asked_kills_nothing_and_is_told", broken_exec),
];

fn why(ns: &Namespace, pod: &str) -> String {
    let output = ns.node.windlass(&["why", &format!("{}/{pod}", ns.name)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for a verdict, which is the first line, to say all of this.
fn verdict(ns: &Namespace, pod: &str, parts: &[&str]) -> String {
    eventually(&format!("the verdict about {pod} says {parts:?}"), || {
        let text = why(ns, pod);
        let first = text.lines().next().unwrap_or_default();
        parts.iter().all(|part| first.contains(part)).then_some(text)
    })
}

fn endings() {
    let node = Node::start(7);
    let ns = node.namespace("endings");
    let probe = "    livenessProbe: {exec: {command: [sh, -c, 'echo no; exit 3']}, periodSeconds: 1, failureThreshold: 2}\n  - name: well\n";
    let well = format!("    image: {IMAGE}\n    command: [sh, -c, 'exec sleep infinity']\n");
    let sick = format!("{probe}{well}");
    ns.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: live}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: {IMAGE}\n    command: [sh, -c, 'exec sleep infinity']\n{sick}"
    ));
    ns.run_script(
        "oom",
        "x=0123456789abcdef; while true; do x=$x$x; done",
        "    resources: {limits: {memory: 24Mi}}\n",
    );
    ns.run_script("crash", "echo starting; echo no such table >&2; exit 4", "");
    ns.run_script("nofit", "true", "    resources: {requests: {cpu: '900'}}\n");
    ns.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: noimage}\nspec: {containers: [{name: main, image: '127.0.0.1:9/none/such:v1'}]}\n");
    ns.run_script("gone", "exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/gone", "--timeout=60s"]);
    ns.kubectl(&["delete", "pod", "gone"]);
    let expected: [(&str, &[&str]); 6] = [
        ("live", &["container main was killed by its liveness probe after 2 failures in a row (exit code 3, it said"]),
        ("oom", &["container main was killed by the kernel, out of memory"]),
        ("crash", &["container main crashed: exit code 4"]),
        ("noimage", &["image 127.0.0.1:9/none/such:v1 cannot be had", "Connection refused"]),
        ("nofit", &["not scheduled", "0/1 nodes are available: 1 Insufficient cpu."]),
        ("gone", &["deleted by user kubernetes-admin"]),
    ];
    let chains: Vec<String> = expected.iter().map(|(pod, parts)| verdict(&ns, pod, parts)).collect();
    assert!(chains[0].contains("SIGTERM sent: the kubelet decided"), "{}", chains[0]);
    assert!(chains[2].contains("      | no such table"), "{}", chains[2]);
    assert!(chains[5].contains("deletion requested by user kubernetes-admin"), "{}", chains[5]);
    eventually("the restart counts", || {
        let query = "{.status.containerStatuses[?(@.name==\"main\")].restartCount}";
        ns.value("pod/live", query).parse::<u32>().is_ok_and(|count| count > 0).then_some(())
    });
    assert_eq!(ns.value("pod/live", "{.status.containerStatuses[?(@.name==\"well\")].restartCount}"), "0");
    node.kill();
    for (pod, parts) in expected {
        verdict(&ns, pod, parts);
    }
    node.down().unwrap();
}

/// The node's limit of processes is used up, as it was by a leak that broke every exec of a real node.
fn broken_exec() {
    let node = Node::start(8);
    let ns = node.namespace("broken");
    let probe = "    livenessProbe: {exec: {command: ['true']}, periodSeconds: 1, failureThreshold: 1}\n";
    ns.run_script("spared", "exec sleep infinity", probe);
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/spared", "--timeout=60s"]);
    let id = ns.value("pod/spared", "{.status.containerStatuses[0].containerID}");
    let limit = node.process_limit();
    std::fs::write(&limit, "1").unwrap();
    let type_ = "{.status.conditions[?(@.type==\"windlass.dev/ProbeNotAsked\")].status}";
    ns.becomes("pod/spared", type_, "True");
    let parts = ["container main was not killed: its liveness probe could not be asked", "could not make a process"];
    eventually("it was tried more often than the threshold allows failures", || {
        let asked = why(&ns, "spared");
        (asked.matches("could not be asked").count() > 3).then_some(())
    });
    verdict(&ns, "spared", &parts);
    eventually("the event is there", || {
        let events = ns.kubectl(&["get", "events", "--field-selector=involvedObject.name=spared"]);
        events.contains("could not make a process").then_some(())
    });
    assert_eq!(ns.value("pod/spared", "{.status.containerStatuses[0].restartCount}"), "0");
    node.kill();
    verdict(&ns, "spared", &parts);
    std::fs::write(&limit, "max").unwrap();
    node.up();
    ns.becomes("pod/spared", type_, "False");
    assert_eq!(ns.value("pod/spared", "{.status.conditions[?(@.type==\"windlass.dev/ProbeNotAsked\")].message}"), "");
    assert_eq!(ns.value("pod/spared", "{.status.containerStatuses[0].containerID}"), id);
    assert_eq!(ns.value("pod/spared", "{.status.containerStatuses[0].restartCount}"), "0");
    node.down().unwrap();
}
