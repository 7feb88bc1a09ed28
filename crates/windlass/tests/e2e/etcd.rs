//! A cluster whose objects a real etcd keeps, and two API servers on one etcd.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Alone;
use crate::member::{Etcd, program};
use crate::node::{Node, eventually, expect};

pub const TESTS: &[(&str, Alone)] = &[
    ("the_objects_are_in_an_etcd_and_two_api_servers_share_it", shared),
    ("an_etcd_that_does_not_answer_is_told", unreachable),
];

impl Etcd {
    /// Standard output of `etcdctl`.
    fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("ETCDCTL", "etcdctl"));
        expect(command.args(["--endpoints", &self.url()]).args(arguments).output().unwrap())
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        let printed = self.ctl(&["get", "--prefix", prefix, "--keys-only"]);
        printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

fn start(node: &Node, etcd: &Etcd, more: &[&str]) {
    let mut command = node.windlass(&["up", "--control-plane-only", "--etcd-servers", &etcd.url()]);
    command.args(more);
    node.up_as(command);
}

fn shared() {
    let etcd = Etcd::spawn();
    // The API server waits for an etcd that is only about to start.
    let first = Node::new(19);
    start(&first, &etcd, &[]);
    assert!(!first.path("data/store").exists(), "there is no store of our own");
    let ns = first.namespace("in-etcd");
    let mut watching = ns.command(&["get", "configmaps", "--watch", "--output-watch-events", "--no-headers"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(watching.stdout.take().unwrap()).lines();
    // What is there already is told first; whatever comes after that is an event.
    assert!(told.next().unwrap().unwrap().contains("kube-root-ca.crt"));
    ns.kubectl(&["create", "configmap", "settings", "--from-literal=colour=blue"]);
    assert_eq!(ns.value("configmap/settings", "{.data.colour}"), "blue");
    ns.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"colour":"red"}}"#]);
    let key = format!("/registry/configmaps/{}/settings", ns.name);
    assert!(etcd.ctl(&["get", &key, "--print-value-only"]).contains(r#""colour":"red""#));
    assert!(etcd.keys("/registry/").len() > 50 && etcd.keys("/registry/clusterroles/").len() > 10);
    // What somebody else does to the store is seen as well.
    etcd.ctl(&["del", &key]);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|line: &String| !line.starts_with("DELETED")) {
        let line = told.next().unwrap().unwrap();
        if line.contains("settings") {
            seen.push(line.split_whitespace().next().unwrap().to_owned());
        }
    }
    assert_eq!(seen, ["ADDED", "MODIFIED", "DELETED"]);
    watching.kill().unwrap();
    watching.wait().unwrap();
    ns.refused(&["get", "configmap", "settings"]);

    // Another API server of the same cluster: the same certificates, the same range of services.
    let second = Node::new(20);
    expect(Command::new("cp").args(["-r", "--"]).args([first.path("data/pki"), pki_parent(&second)]).output().unwrap());
    let more = ["--disable", "controllers,scheduler,dns"];
    let mut command = second.windlass_with(
        &["up", "--control-plane-only", "--etcd-servers", &etcd.url()],
        &[("--service-cidr", first.service_range().as_str())],
    );
    command.args(more);
    second.up_as(command);
    let there = crate::node::Namespace { node: &second, name: ns.name.clone() };
    let address = "{.spec.clusterIP}";
    ns.kubectl(&["create", "service", "clusterip", "one", "--tcp=80"]);
    there.kubectl(&["create", "service", "clusterip", "other", "--tcp=80"]);
    for name in ["service/one", "service/other"] {
        assert_eq!(ns.value(name, address), there.value(name, address), "both see the same");
    }
    // The controllers of the first act on what the second is told.
    there.kubectl(&["create", "deployment", "web", "--image=x", "--replicas=2"]);
    there.becomes("deployment/web", "{.status.replicas}", "2");
    ready_as_etcd_is(etcd, &first);
}

/// Where the certificates of another node go.
fn pki_parent(node: &Node) -> PathBuf {
    let data = node.path("data");
    std::fs::create_dir_all(&data).unwrap();
    data
}

/// The API server says so when etcd is away, and goes on when it is back.
fn ready_as_etcd_is(mut etcd: Etcd, node: &Node) {
    let ready = || node.kubectl(&["get", "--raw", "/readyz/etcd"]).output().unwrap().status.success();
    assert!(ready());
    let metrics = expect(node.kubectl(&["get", "--raw", "/metrics"]).output().unwrap());
    assert!(metrics.contains("apiserver_storage_objects") && !metrics.contains("fsync"), "no disk of ours is told of");
    etcd.kill();
    eventually("the API server is not ready", || (!ready()).then_some(()));
    etcd.start_again();
    eventually("the API server is ready again", || ready().then_some(()));
    eventually("what is written is seen", || {
        let ns = ["create", "namespace", "afterwards"];
        node.kubectl(&ns).output().unwrap().status.success().then_some(())
    });
    expect(node.kubectl(&["get", "namespace", "afterwards"]).output().unwrap());
}

fn unreachable() {
    let node = Node::new(21);
    let command = |more: &[&str]| {
        let mut command = node.windlass(&["up", "--control-plane-only", "--etcd-servers", "http://127.0.0.1:1"]);
        command.args(more);
        command
    };
    let refused = command(&["--etcd-bind-address", "127.0.0.1:0"]).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("--etcd-bind-address serves our own store"), "{words}");
    let mut waiting = command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let line = told.find(|line| line.as_ref().unwrap().contains("waiting for etcd")).unwrap().unwrap();
    assert!(line.contains("http://127.0.0.1:1") && line.contains("refused"), "{line}");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}
