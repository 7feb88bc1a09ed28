//! A node's own life: killed, stopped and started again, started twice, taken down, deleted.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc::Sender;

use rustix::process::Signal;

use crate::Alone;
use crate::cli::Nobody;
use crate::node::{IMAGE, Namespace, Node, eventually, expect};

pub const TESTS: &[(&str, Alone)] = &[
    ("killed_node_adopts_its_containers_and_loses_nothing", adoption),
    ("a_signal_leaves_containers_running", signals),
    ("second_up_and_used_port_are_told", second),
    ("static_pod_and_its_mirror_follow_the_file", static_pod),
    ("reset_deletes_what_is_its_own_and_nothing_else", reset),
    ("certificates_are_renewed_while_the_node_runs", renewal),
    ("every_other_part_works_beside_an_api_server_elsewhere", elsewhere),
];

/// Pods of every sort that a node may find when it comes back: several containers, one that has ended, init containers and a
/// sidecar, a completed one, one that was restarted.
fn population(ns: &Namespace) {
    let pod = |name: &str, spec: &str| {
        ns.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{spec}"
        ));
    };
    let container =
        |name: &str, script: &str| format!("  - {{name: {name}, image: {IMAGE}, command: [sh, -c, '{script}']}}\n");
    let sleep = "exec sleep infinity";
    for name in ["two-0", "two-1"] {
        pod(name, &format!("  containers:\n{}{}", container("a", sleep), container("b", sleep)));
    }
    pod(
        "started",
        &format!(
            "  initContainers:\n{}  - {{name: beside, image: {IMAGE}, command: [sleep, infinity], restartPolicy: Always}}\n  containers:\n{}",
            container("first", "echo made ready"),
            container("main", sleep)
        ),
    );
    pod(
        "half",
        &format!(
            "  restartPolicy: Never\n  containers:\n{}{}",
            container("ends", "echo over"),
            container("stays", sleep)
        ),
    );
    pod("over", &format!("  restartPolicy: Never\n  containers:\n{}", container("main", "echo all of it")));
    let twice = "test -e /kept/once || { touch /kept/once; exit 1; }; exec sleep infinity";
    pod(
        "again",
        &format!(
            "  volumes: [{{name: kept, emptyDir: {{}}}}]\n  containers:\n  - {{name: main, image: {IMAGE}, command: [sh, -c, '{twice}'], volumeMounts: [{{name: kept, mountPath: /kept}}]}}\n"
        ),
    );
    for name in ["two-0", "two-1", "started"] {
        ns.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    }
    ns.becomes("pod/over", "{.status.phase}", "Succeeded");
    ns.becomes("pod/half", "{.status.containerStatuses[?(@.name==\"ends\")].state.terminated.reason}", "Completed");
    ns.becomes("pod/again", "{.status.containerStatuses[0].restartCount}", "1");
    ns.becomes("pod/again", "{.status.phase}", "Running");
}

/// Identity, restarts and life of every container of the population.
fn containers(ns: &Namespace) -> Vec<String> {
    let one = "{.name} {.containerID} {.restartCount} {.state.running.startedAt}{.state.terminated.finishedAt}";
    ["two-0", "two-1", "started", "half", "over", "again"]
        .map(|pod| {
            let list = |field: &str| format!("{{range .status.{field}[*]}}{one};{{end}}");
            format!(
                "{pod}: {}",
                ns.value(&format!("pod/{pod}"), &(list("initContainerStatuses") + &list("containerStatuses")))
            )
        })
        .to_vec()
}

/// `kubectl create` of several objects; tells the name of each as soon as it is acknowledged. Ends with the server.
fn create(ns: &Namespace, manifests: &str, told: &Sender<String>) {
    let mut child = ns
        .command(&["create", "--validate=false", "-o", "name", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    for name in BufReader::new(child.stdout.take().unwrap()).lines() {
        told.send(name.unwrap()).unwrap();
    }
    child.wait().unwrap();
}

const CLIENTS: usize = 8;
/// How many objects each client creates.
const EACH: usize = 25;

/// Clients create objects all at once, every tenth a pod, and the node is killed when half of them are acknowledged.
/// Returns the names of all that were acknowledged.
fn storm(ns: &Namespace) -> Vec<String> {
    let manifest = |n: usize| match n % 10 {
        0 => format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}}}\nspec: {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: {IMAGE}, command: [sleep, infinity]}}]}}\n"
        ),
        _ => format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{n}}}\n"),
    };
    let (told, acknowledged) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let told = told.clone();
            let manifests: Vec<String> = (client * EACH..(client + 1) * EACH).map(manifest).collect();
            scope.spawn(move || create(ns, &manifests.join("---\n"), &told));
        }
        drop(told);
        let mut names: Vec<String> = acknowledged.iter().take(CLIENTS * EACH / 2).collect();
        assert_eq!(names.len(), CLIENTS * EACH / 2, "creates failed before the kill");
        ns.node.kill();
        names.extend(acknowledged);
        names
    })
}

/// The pod's one container `c` was started once, and nothing else runs in the pod.
fn runs_once(ns: &Namespace, pod: &str) {
    let of = "{.metadata.uid} {.status.phase}{range .status.containerStatuses[*]} {.containerID} {.restartCount}{end}";
    let shown = ns.value(pod, of);
    let (uid, status) = shown.split_once(' ').unwrap();
    // One that the kill caught between making and starting is made once more, which counts as upstream counts it.
    let counted = |attempt: u32| status == format!("Running windlass://{uid}/c/{attempt} {attempt}");
    assert!(counted(0) || counted(1), "{pod}: {status}");
    let why = || {
        let name = format!("{}/{}", ns.name, pod.trim_start_matches("pod/"));
        expect(ns.node.windlass(&["why", &name]).output().unwrap())
    };
    assert_eq!(ns.node.container_processes(uid), [1], "{pod}: {status}\n{}", why());
}

fn adoption() {
    let node = Node::start(2);
    let ns = node.namespace("adoption");
    population(&ns);
    let before = containers(&ns);
    // Creates go on while the process is killed; what was acknowledged must be there afterwards.
    let acknowledged = storm(&ns);
    node.up();
    assert!(acknowledged.len() < CLIENTS * EACH, "nothing was left to create at the kill");
    let pods: Vec<&str> = acknowledged.iter().map(String::as_str).filter(|name| name.starts_with("pod/")).collect();
    assert!(pods.len() > 2, "{acknowledged:?}");
    let found = ns.kubectl(&["get", "configmaps,pods", "-o", "name"]);
    for name in &acknowledged {
        assert!(found.lines().any(|line| line == name), "{name} is lost");
    }
    for pod in &pods {
        ns.becomes(pod, "{.status.phase}", "Running");
    }
    assert_eq!(containers(&ns), before);
    // Adopted, not only listed: they are looked into, and their ends are seen.
    assert_eq!(ns.kubectl(&["exec", "two-0", "-c", "b", "--", "echo", "here"]), "here\n");
    assert_eq!(ns.kubectl(&["logs", "over"]), "all of it\n");
    assert_eq!(ns.kubectl(&["logs", "started", "-c", "first"]), "made ready\n");
    ns.kubectl(&["delete", "pod", "two-0", "started", "--timeout=60s"]);
    // Last, so that a second container of a pod has had the time to come.
    for pod in pods {
        runs_once(&ns, pod);
    }
    node.down().unwrap();
}

fn signals() {
    let node = Node::start(4);
    let ns = node.namespace("signals");
    ns.run_script("survivor", "trap 'echo hit' TERM INT HUP; while true; do sleep 0.2; done", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/survivor", "--timeout=60s"]);
    let of = "{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}";
    let before = ns.value("pod/survivor", of);
    for signal in [Signal::TERM, Signal::INT] {
        node.signal(signal);
        node.up();
        ns.becomes("pod/survivor", "{.status.conditions[?(@.type==\"Ready\")].status}", "True");
        assert_eq!(ns.value("pod/survivor", of), before, "after {signal:?}");
        assert_eq!(ns.kubectl(&["exec", "survivor", "--", "echo", "here"]), "here\n");
    }
    assert_eq!(ns.kubectl(&["logs", "survivor"]), "", "a signal to the node reached the container");
    node.down().unwrap();
}

fn second() {
    let node = Node::start(3);
    let refused = |different: &[(&str, &str)]| {
        let again = node.windlass_with(&["up"], different).output().unwrap();
        assert!(!again.status.success());
        String::from_utf8(again.stderr).unwrap()
    };
    let files = || {
        expect(
            std::process::Command::new("find")
                .arg(node.path("data"))
                .args(["-name", "*.crt", "-printf", "%p %T@\n"])
                .output()
                .unwrap(),
        )
    };
    let before = files();
    let (port, kubelet_port) = ((node.port() + 20).to_string(), (node.kubelet_port() + 20).to_string());
    // What differs would have certificates made anew, were the directory not looked at first.
    for different in
        [&[][..], &[("--secure-port", &*port), ("--kubelet-port", &*kubelet_port), ("--node-name", "other")]]
    {
        let words = refused(different);
        let data = node.path("data");
        let told = format!("{} is used by another process (pid ", data.display());
        assert!(words.contains(&told) && words.contains("stop it first or choose another data directory"), "{words}");
    }
    assert_eq!(files(), before);
    let (data, run) = (node.path("data2").display().to_string(), node.path("run2").display().to_string());
    let words = refused(&[("--data-dir", &data)]);
    assert!(words.contains(&format!("{} is used by another process", node.path("run").display())), "{words}");
    let words = refused(&[("--data-dir", &data), ("--run-dir", &run)]);
    assert!(words.contains(&format!("port {} is already in use", node.port())), "{words}");
    node.kubectl(&["get", "nodes"]).output().map(expect).unwrap();
    node.down().unwrap();
    // The node was Ready when it was stopped: that is not believed where its kubelet cannot serve.
    let taken = std::net::TcpListener::bind(("0.0.0.0", node.kubelet_port())).unwrap();
    let words = refused(&[]);
    assert!(words.contains(&format!("listen on 0.0.0.0:{}: Address already in use", node.kubelet_port())), "{words}");
    drop(taken);
    node.down().unwrap();
}

fn reset() {
    let node = Node::new(9);
    let home = node.path("home");
    let merged = home.join(".kube/config");
    let mut up = node.windlass(&["up"]);
    up.env_remove("KUBECONFIG").env("HOME", &home);
    node.up_as(up);
    assert!(node.read("up.out").contains(&format!("merged into {}", merged.display())), "{}", node.read("up.out"));
    let context = |arguments: &[&str]| {
        let mut kubectl = std::process::Command::new(crate::node::kubectl_program());
        kubectl.args(arguments).env("HOME", &home).env_remove("KUBECONFIG").output().unwrap()
    };
    assert_eq!(expect(context(&["config", "current-context"])), "windlass\n");
    assert!(expect(context(&["get", "nodes"])).contains(" Ready "));
    let ns = node.namespace("reset");
    ns.run_script("main", "echo said; exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/main", "--timeout=60s"]);
    // The directory of logs is another kubelet's too.
    let foreign = node.path("logs/kube-system_foreign_00000000-0000-0000-0000-000000000000");
    std::fs::create_dir(&foreign).unwrap();
    assert_eq!(std::fs::read_dir(node.path("logs")).unwrap().count(), 2);
    let data = node.path("data").display().to_string();
    let words = |output: std::process::Output| {
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    // With nothing but the data directory named, as a user would who has forgotten the rest.
    let plain = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(arguments).env("HOME", &home).env_remove("KUBECONFIG").output().unwrap()
    };
    let told = words(plain(&["reset", "--data-dir", &data]));
    assert!(told.contains(&format!("this deletes {data}: say --yes to mean it")), "{told}");
    let told = words(plain(&["reset", "--yes", "--data-dir", &node.path("home").display().to_string()]));
    assert!(told.contains("is no data directory of Windlass; nothing was deleted"), "{told}");
    std::fs::set_permissions(node.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let told = words(Nobody::new().windlass(&["reset", "--yes", "--data-dir", &data]).output().unwrap());
    assert!(told.contains("run this as root"), "{told}");
    assert!(ns.kubectl(&["get", "pods"]).contains("Running"), "a refused reset did something");
    expect(plain(&["reset", "--yes", "--data-dir", &data]));
    node.ends_by(&["down"]).unwrap();
    assert!(!node.path("data").exists() && !node.path("admin.conf").exists() && !node.path("run").exists());
    assert!(foreign.exists(), "another kubelet's logs are gone");
    assert_eq!(std::fs::read_dir(node.path("logs")).unwrap().count(), 1);
    assert_eq!(expect(context(&["config", "get-contexts", "-o", "name"])), "");
}

/// Certificates that live for seconds: the node outlives several of them.
fn renewal() {
    let node = Node::new(6);
    node.up_as(node.windlass(&["up", "--certificate-validity-period", "12"]));
    let ns = node.namespace("renewal");
    ns.run_script("main", "echo said; exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/main", "--timeout=60s"]);
    let shown = |port: u16| {
        let script =
            format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial");
        expect(std::process::Command::new("sh").args(["-c", &script]).output().unwrap())
    };
    let serials = || [shown(node.port()), shown(node.kubelet_port())];
    let mut last = serials();
    let client = std::fs::read(node.path("admin.conf")).unwrap();
    for _ in 0..3 {
        eventually("both servers show new certificates", || {
            let now = serials();
            (now[0] != last[0] && now[1] != last[1]).then(|| last = now)
        });
        // Each of them takes part: ours to the API server, that one's to the kubelet, the kubelet's own.
        assert_eq!(ns.kubectl(&["logs", "main"]), "said\n");
        assert_eq!(ns.kubectl(&["exec", "main", "--", "echo", "here"]), "here\n");
    }
    assert_ne!(std::fs::read(node.path("admin.conf")).unwrap(), client);
    node.down().unwrap();
}

/// The other API server is ours in another process; `make swap` puts upstream's there. Certificates are short-lived, so that
/// all clients exchange theirs.
fn elsewhere() {
    let (server, node) = (Node::new(17), Node::new(18));
    let alone = ["up", "--control-plane-only", "--disable", "scheduler,controllers", "--no-merge-kubeconfig"];
    server.up_as(server.windlass_with(&alone, &[("--service-cidr", &node.service_range())]));
    std::fs::create_dir_all(node.path("data/pki")).unwrap();
    for file in std::fs::read_dir(server.path("data/pki")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), node.path("data/pki").join(file.file_name())).unwrap();
    }
    let url = format!("https://127.0.0.1:{}", server.port());
    node.up_as(node.windlass(&["up", "--api-server", &url, "--certificate-validity-period", "12"]));
    let begun = std::time::Instant::now();
    let ns = node.namespace("elsewhere");
    let deployed = |name: &str| {
        ns.kubectl(&[
            "create",
            "deployment",
            name,
            &format!("--image={IMAGE}"),
            "--",
            "sh",
            "-c",
            "echo said; sleep inf",
        ]);
        ns.kubectl(&["wait", "--for=condition=Available", &format!("deployment/{name}"), "--timeout=60s"]);
        assert_eq!(ns.kubectl(&["logs", &format!("deployment/{name}")]), "said\n");
    };
    deployed("first");
    // Longer than the certificates live that the clients began with.
    std::thread::sleep(std::time::Duration::from_secs(14).saturating_sub(begun.elapsed()));
    deployed("second");
    node.down().unwrap();
    server.down().unwrap();
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
