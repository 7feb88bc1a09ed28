//! Workloads: from a manifest to running containers and back.

use crate::Shared;
use crate::node::{IMAGE, Namespace, eventually};

pub const TESTS: &[(&str, Shared)] = &[
    ("the_example_runs_as_it_stands", example),
    ("deployment_rolls_out_scales_and_goes_back", deployment),
    ("service_and_dns_answer_inside_a_pod", service),
    ("failing_liveness_probe_restarts_only_its_container", liveness),
    ("job_completes_and_is_waited_for", job),
    ("statefulset_and_daemonset_run", sets),
    ("volumes_and_environment_reach_the_container", volumes),
    ("crashing_container_backs_off", crash),
    ("a_pod_beyond_its_limit_of_disk_is_evicted", disk_limit),
    ("a_pod_that_the_node_does_not_take_fails", refused),
    ("debug_adds_a_container_to_a_running_pod", debug),
];

fn web(name: &str, message: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: web\n        image: {IMAGE}\n        command: [web, -m, {message}]\n        ports: [{{containerPort: 8080}}]\n        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}\n"
    )
}

fn example(ns: &Namespace) {
    ns.kubectl(&["apply", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello.yaml")]);
    ns.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let answer = eventually("the service answers", || {
        ns.try_kubectl(&["exec", "deploy/hello", "--", "sh", "-c", "wget -T 2 -qO- http://hello"]).ok()
    });
    assert!(answer.starts_with("Hello from Windlass, pod hello-"), "{answer}");
}

fn deployment(ns: &Namespace) {
    ns.apply(&web("hello", "first", 2));
    ns.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(ns.value("deployment/hello", "{.status.readyReplicas}"), "2");
    ns.apply(&web("hello", "second", 2));
    ns.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let history = ns.kubectl(&["rollout", "history", "deployment/hello"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    ns.kubectl(&["rollout", "undo", "deployment/hello"]);
    ns.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(ns.value("deployment/hello", "{.spec.template.spec.containers[0].command[2]}"), "first");
    ns.kubectl(&["scale", "deployment/hello", "--replicas=3"]);
    ns.becomes("deployment/hello", "{.status.readyReplicas}", "3");
    ns.kubectl(&["wait", "--for=condition=Available", "deployment/hello", "--timeout=60s"]);
    ns.kubectl(&["delete", "deployment/hello", "--wait"]);
    eventually("the pods are gone", || ns.kubectl(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
}

fn service(ns: &Namespace) {
    ns.apply(&web("hello", "greetings", 1));
    ns.kubectl(&["expose", "deployment/hello", "--port=80", "--target-port=8080"]);
    ns.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let pod = ns.value("pods", "{.items[0].metadata.name}");
    let script = format!("until wget -T 2 -q -O - http://hello.{}.svc.cluster.local; do sleep 0.2; done", ns.name);
    ns.run_script("client", &script, "");
    ns.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", "--timeout=60s"]);
    assert_eq!(ns.kubectl(&["logs", "client"]).lines().last(), Some(format!("greetings, pod {pod}").as_str()));
    ns.run_script("resolver", "nslookup kubernetes.default && nslookup hello", "");
    ns.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/resolver", "--timeout=60s"]);
    let address = ns.value("service/hello", "{.spec.clusterIP}");
    assert!(ns.kubectl(&["logs", "resolver"]).contains(&format!("Address: {address}")));
}

fn liveness(ns: &Namespace) {
    ns.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sick}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: well\n    image: {IMAGE}\n    command: [sleep, infinity]\n  - name: sick\n    image: {IMAGE}\n    command: [sh, -c, 'touch /tmp/ok; sleep 3; rm /tmp/ok; exec sleep infinity']\n    livenessProbe: {{exec: {{command: [cat, /tmp/ok]}}, periodSeconds: 1, failureThreshold: 1}}\n"
    ));
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/sick", "--timeout=60s"]);
    let restarts = |name: &str| format!("{{.status.containerStatuses[?(@.name==\"{name}\")].restartCount}}");
    ns.becomes("pod/sick", &restarts("sick"), "1");
    assert_eq!(ns.value("pod/sick", &restarts("well")), "0");
    let why = ns.node.windlass(&["why", &format!("{}/sick", ns.name)]).output().unwrap();
    let why = String::from_utf8(why.stdout).unwrap();
    let verdict = why.lines().next().unwrap_or_default();
    assert!(verdict.contains("liveness probe"), "{why}");
}

fn job(ns: &Namespace) {
    ns.kubectl(&["create", "job", "count", &format!("--image={IMAGE}"), "--", "sh", "-c", "echo counted"]);
    ns.kubectl(&["wait", "--for=condition=Complete", "job/count", "--timeout=60s"]);
    assert_eq!(ns.kubectl(&["logs", "job/count"]), "counted\n");
    assert_eq!(ns.value("job/count", "{.status.succeeded}"), "1");
}

fn sets(ns: &Namespace) {
    let pod = format!(
        "template: {{metadata: {{labels: {{app: NAME}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: {IMAGE}, command: [sleep, infinity]}}]}}}}"
    );
    let set = |kind: &str, name: &str, more: &str| {
        let pod = pod.replace("NAME", name);
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{selector: {{matchLabels: {{app: {name}}}}}, {more} {pod}}}\n"
        )
    };
    ns.apply(&set("StatefulSet", "ordered", "serviceName: ordered, replicas: 2,"));
    ns.apply(&set("DaemonSet", "everywhere", ""));
    ns.kubectl(&["rollout", "status", "statefulset/ordered", "--timeout=60s"]);
    ns.kubectl(&["rollout", "status", "daemonset/everywhere", "--timeout=60s"]);
    assert_eq!(ns.value("pod/ordered-1", "{.status.phase}"), "Running");
    assert_eq!(ns.value("daemonset/everywhere", "{.status.numberReady}"), "1");
}

fn volumes(ns: &Namespace) {
    ns.kubectl(&["create", "configmap", "settings", "--from-literal=colour=blue"]);
    ns.kubectl(&["create", "secret", "generic", "keys", "--from-literal=token=hidden"]);
    ns.run_script(
        "reader",
        "cat /settings/colour; echo; echo $TOKEN $POD; echo kept > /work/file; cat /work/file; ls /var/run/secrets/kubernetes.io/serviceaccount",
        "    env:\n    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}\n    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    volumeMounts:\n    - {name: settings, mountPath: /settings}\n    - {name: work, mountPath: /work}\n  volumes:\n  - {name: settings, configMap: {name: settings}}\n  - {name: work, emptyDir: {}}\n",
    );
    ns.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "--timeout=60s"]);
    assert_eq!(ns.kubectl(&["logs", "reader"]), "blue\nhidden reader\nkept\nca.crt\nnamespace\ntoken\n");
}

fn crash(ns: &Namespace) {
    ns.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: crasher}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: main, image: {IMAGE}, command: [sh, -c, 'echo last words; exit 3']}}\n"
    ));
    ns.becomes("pod/crasher", "{.status.containerStatuses[0].state.waiting.reason}", "CrashLoopBackOff");
    assert_eq!(ns.value("pod/crasher", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "3");
    let why = ns.node.windlass(&["why", &format!("{}/crasher", ns.name)]).output().unwrap();
    let why = String::from_utf8(why.stdout).unwrap();
    assert!(why.contains("exit code 3") && why.contains("last words"), "{why}");
}

fn disk_limit(ns: &Namespace) {
    ns.run_script(
        "greedy",
        "head -c 4194304 /dev/zero > /work/file; exec sleep infinity",
        "    volumeMounts:\n    - {name: work, mountPath: /work}\n  volumes:\n  - {name: work, emptyDir: {sizeLimit: 1Mi}}\n",
    );
    ns.becomes("pod/greedy", "{.status.phase} {.status.reason}", "Failed Evicted");
    let message = ns.value("pod/greedy", "{.status.message}");
    assert_eq!(message, "Usage of EmptyDir volume \"work\" exceeds the limit \"1Mi\". ");
}

fn refused(ns: &Namespace) {
    let node = ns.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    // Named to the node, past the scheduler.
    let named = format!("    resources: {{requests: {{cpu: '900'}}}}\n  nodeName: {node}\n");
    ns.run_script("large", "true", &named);
    ns.becomes("pod/large", "{.status.phase} {.status.reason}", "Failed OutOfcpu");
    let message = ns.value("pod/large", "{.status.message}");
    assert!(
        message.starts_with("Pod was rejected: Node didn't have enough resource: cpu, requested: 900000, used: "),
        "{message}"
    );
    let elsewhere = format!("  nodeName: {node}\n  nodeSelector: {{disk: tape}}\n");
    ns.run_script("elsewhere", "true", &elsewhere);
    ns.becomes("pod/elsewhere", "{.status.phase} {.status.reason}", "Failed NodeAffinity");
    let sysctls = "  securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}, {name: kernel.msgmax, value: '1'}]}\n";
    ns.run_script("sysctl", "true", sysctls);
    ns.becomes("pod/sysctl", "{.status.phase} {.status.reason}", "Failed SysctlForbidden");
    ns.run_script(
        "allowed",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "  securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '81'}]}\n",
    );
    ns.becomes("pod/allowed", "{.status.phase}", "Succeeded");
    assert_eq!(ns.kubectl(&["logs", "allowed"]), "81\n");
}

fn debug(ns: &Namespace) {
    ns.run_script("target", "exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/target", "--timeout=60s"]);
    let image = format!("--image={IMAGE}");
    ns.kubectl(&["debug", "target", &image, "--container=look", "--target=main", "--", "sh", "-c", "ps; exit 7"]);
    ns.becomes("pod/target", "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}", "7");
    let seen = ns.kubectl(&["logs", "target", "-c", "look"]);
    assert!(seen.contains("sleep infinity"), "the target's processes are seen: {seen}");
    assert_eq!(ns.value("pod/target", "{.status.phase} {.status.containerStatuses[0].restartCount}"), "Running 0");
}
