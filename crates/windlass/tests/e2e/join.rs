//! A second host: how it joins, what crosses between the nodes, and what it leaves.

use std::process::{Command, Output};

use crate::Alone;
use crate::node::{IMAGE, Namespace, Node, eventually, expect};

pub const TESTS: &[(&str, Alone)] = &[
    ("a_second_host_joins_and_is_a_node_like_the_first", second_node),
    ("a_joined_node_renews_its_certificates", renewal),
    ("nodes_with_a_router_between_them_reach_each_others_pods", routed),
];

/// A network namespace as another host, on one segment with a bridge of this one.
struct Host {
    name: String,
    /// Of the bridge, and of the host.
    addresses: [String; 2],
}

fn ip(arguments: &str) -> Output {
    Command::new("ip").args(arguments.split(' ')).output().expect("package iproute2 is missing")
}

impl Host {
    fn new(first: &Node, third: u16) -> Host {
        let name = format!("wlh{}", first.tag());
        let address = |last: u16| format!("172.30.{third}.{last}");
        let host = Host { name: name.clone(), addresses: [address(1), address(2)] };
        host.remove();
        let [bridge, own] = &host.addresses;
        for step in [
            format!("netns add {name}"),
            format!("link add {name} type bridge"),
            format!("address add {bridge}/24 dev {name}"),
            format!("link add {name}p type veth peer name eth0 netns {name}"),
            format!("link set {name}p master {name} up"),
            format!("link set {name} up"),
            format!("-n {name} address add {own}/24 dev eth0"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} route add default via {bridge}"),
        ] {
            expect(ip(&step));
        }
        host
    }

    fn remove(&self) {
        ip(&format!("link delete {}", self.name));
        ip(&format!("netns delete {}", self.name));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The first node, at an address that the host reaches.
fn first(node: &Node, address: &str, more: &[&str]) {
    let mut command = node.windlass(&["up", "--node-ip", address]);
    command.args(more);
    node.up_as(command);
}

/// The words of `windlass join` with a fresh token.
fn invitation(first: &Node, more: &[&str]) -> Vec<String> {
    let mut arguments = vec!["token", "create"];
    arguments.extend(more);
    let printed = eventually("the cluster can be joined", || {
        let output = first.windlass(&arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    });
    printed.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn joins(node: &Node, words: &[String], more: &[&str]) -> Command {
    let mut all: Vec<&str> = words.iter().map(String::as_str).collect();
    all.extend(more);
    node.windlass(&all)
}

fn refusal(node: &Node, words: &[String]) -> String {
    let output = joins(node, words, &[]).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn server(name: &str, node: &Node) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  nodeName: {}\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: web\n    image: {IMAGE}\n    command: [web, -m, {name}]\n    ports: [{{containerPort: 8080}}]\n    readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}\n",
        node.name()
    )
}

/// Pods `here` and `there` on the two nodes, each behind a service of its name, reach each other by every way there is.
fn reach_each_other(ns: &Namespace, nodes: [&Node; 2]) {
    for (name, node) in ["here", "there"].into_iter().zip(nodes) {
        ns.apply(&server(name, node));
        ns.kubectl(&["expose", &format!("pod/{name}"), "--port=80", "--target-port=8080"]);
    }
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/here", "pod/there", "--timeout=60s"]);
    for (from, to) in [("here", "there"), ("there", "here"), ("there", "there")] {
        let address = ns.value(&format!("pod/{to}"), "{.status.podIP}");
        let cluster_ip = ns.value(&format!("service/{to}"), "{.spec.clusterIP}");
        // A pod's own name is in its hosts file, so it finds its service by the longer one.
        for url in [format!("{address}:8080"), cluster_ip, format!("{to}.{}", ns.name), format!("{to}.{}.svc", ns.name)]
        {
            let answer = eventually(&format!("{from} reaches {to} as {url}"), || {
                ns.try_kubectl(&["exec", from, "--", "wget", "-T", "2", "-q", "-O", "-", &format!("http://{url}")]).ok()
            });
            assert!(answer.contains(to), "{answer}");
        }
    }
}

fn second_node() {
    let (one, tag) = (Node::new(10), 10);
    let host = Host::new(&one, tag);
    let two = Node::on(&host.name, 11);
    first(&one, &host.addresses[0], &[]);
    let words = invitation(&one, &[]);
    let replaced = |at: usize, value: &str| {
        let mut words = words.clone();
        words[at] = value.to_owned();
        words
    };
    let [id, _] = words[3].split('.').collect::<Vec<_>>()[..] else { panic!("{words:?}") };
    let told = refusal(&two, &replaced(3, "aaaaaa.0123456789abcdef"));
    assert!(told.contains("the token \"aaaaaa\" is none of this cluster's, or it has expired"), "{told}");
    let told = refusal(&two, &replaced(3, &format!("{id}.0123456789abcdef")));
    assert!(told.contains(&format!("the secret of the token \"{id}\" is wrong")), "{told}");
    let told = refusal(&two, &replaced(5, &format!("sha256:{}", "0".repeat(64))));
    assert!(told.contains("is not this cluster's, whose authority is sha256:"), "{told}");
    let expiring = invitation(&one, &["--ttl", "1s"]);
    let expiring_id = expiring[3].split('.').next().unwrap();
    eventually("the expired token is cleared away", || {
        let known = one.windlass(&["token", "list"]).output().unwrap();
        (known.status.success() && !String::from_utf8(known.stdout).unwrap().contains(expiring_id)).then_some(())
    });
    let told = refusal(&two, &expiring);
    assert!(told.contains("none of this cluster's, or it has expired"), "{told}");

    two.starts(joins(&two, &words, &[]), "is a node of the cluster");
    let ns = one.namespace("second");
    ns.kubectl(&["wait", "--for=condition=Ready", &format!("node/{}", two.name()), "--timeout=60s"]);
    ns.run_script("main", "echo said; exec sleep infinity", &format!("  nodeName: {}\n", two.name()));
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/main", "--timeout=60s"]);
    assert_eq!(ns.kubectl(&["logs", "main"]), "said\n");
    assert_eq!(ns.kubectl(&["exec", "main", "--", "echo", "here"]), "here\n");
    assert_ne!(
        ns.value(&format!("node/{}", one.name()), "{.spec.podCIDR}"),
        ns.value(&format!("node/{}", two.name()), "{.spec.podCIDR}")
    );
    reach_each_other(&ns, [&one, &two]);
    bounds(&ns, &two);

    let container = ns.value("pod/main", "{.status.containerStatuses[0].containerID}");
    two.kill();
    two.starts(two.windlass(&["join"]), "is a node of the cluster");
    assert_eq!(ns.value("pod/main", "{.status.containerStatuses[0].containerID}"), container);
    assert_eq!(ns.value("pod/main", "{.status.containerStatuses[0].restartCount}"), "0");
    assert_eq!(ns.kubectl(&["exec", "main", "--", "echo", "again"]), "again\n");
    ns.run_script("crash", "exit 4", &format!("  nodeName: {}\n", two.name()));
    eventually("why tells on the second host", || {
        let output = two.windlass(&["why", "second/crash"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("container main crashed: exit code 4").then_some(())
    });
    two.ends_by(&["reset", "--yes"]).unwrap();
    assert!(!two.path("data").exists());
    one.down().unwrap();
}

/// What a node may do is a kubelet's, and no more; the rest of its process acts as others.
fn bounds(ns: &Namespace, two: &Node) {
    let config = two.path("data/kubelet.conf").display().to_string();
    let may = |arguments: &[&str]| {
        let mut command = Command::new(crate::node::kubectl_program());
        let output = command.args(["--kubeconfig", &config, "auth", "can-i"]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    assert!(may(&["get", &format!("nodes/{}", two.name())]));
    assert!(
        !may(&["list", "pods", "-A"]) && !may(&["list", "secrets", "-A"]) && !may(&["list", "networkpolicies", "-A"])
    );
    assert!(may(&["list", "endpointslices.discovery.k8s.io", "-A", "--as=system:kube-proxy"]));
    assert!(!may(&["get", "secrets", "-A", "--as=kubernetes-admin"]));
    let refused = ns.node.kubectl(&["--kubeconfig", &config, "label", "node", "node-10", "a=b"]).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("Forbidden") || words.contains("forbidden"), "{words}");
}

/// Certificates that live for half a minute: the node outlives several.
fn renewal() {
    let one = Node::new(13);
    let host = Host::new(&one, 13);
    let two = Node::on(&host.name, 14);
    first(&one, &host.addresses[0], &["--certificate-validity-period", "15"]);
    two.starts(joins(&two, &invitation(&one, &[]), &[]), "is a node of the cluster");
    let ns = one.namespace("renewal");
    ns.run_script("main", "echo said; exec sleep infinity", &format!("  nodeName: {}\n", two.name()));
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/main", "--timeout=60s"]);
    let files = ["client", "server"].map(|name| two.path(&format!("data/pki/kubelet-{name}-current.pem")));
    let read = || files.each_ref().map(|file| std::fs::read_to_string(file).unwrap());
    let mut last = read();
    for _ in 0..3 {
        eventually("both certificates are new", || {
            let now = read();
            (now[0] != last[0] && now[1] != last[1]).then(|| last = now)
        });
        assert_eq!(ns.kubectl(&["logs", "main"]), "said\n");
        assert_eq!(ns.kubectl(&["exec", "main", "--", "echo", "here"]), "here\n");
    }
    ns.run_script("late", "echo said", &format!("  nodeName: {}\n", two.name()));
    ns.becomes("pod/late", "{.status.phase}", "Succeeded");
    two.ends_by(&["reset", "--yes"]).unwrap();
    one.down().unwrap();
}

/// Nodes whose addresses are on no common segment.
fn routed() {
    let one = Node::new(15);
    let host = Host::new(&one, 15);
    let two = Node::on(&host.name, 16);
    let [bridge, own] = &host.addresses;
    let (near, far) = ("172.31.15.1", "172.31.15.2");
    for step in [
        format!("address add {near}/32 dev {}", host.name),
        format!("route add {far} via {own}"),
        format!("-n {} address add {far}/32 dev lo", host.name),
        format!("-n {} route add {near} via {bridge}", host.name),
    ] {
        expect(ip(&step));
    }
    first(&one, near, &[]);
    two.starts(joins(&two, &invitation(&one, &[]), &["--node-ip", far]), "is a node of the cluster");
    let ns = one.namespace("routed");
    reach_each_other(&ns, [&one, &two]);
    let routes = expect(ip(&format!("-n {} route show proto 87", host.name)));
    assert!(routes.contains(&format!("dev {}-vx", two.bridge())), "{routes}");
    two.ends_by(&["reset", "--yes"]).unwrap();
    let links = expect(ip(&format!("-n {} -o link", host.name)));
    assert!(!links.contains("-vx"), "{links}");
    one.down().unwrap();
}
