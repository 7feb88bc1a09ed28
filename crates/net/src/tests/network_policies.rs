use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use netplan::{Family, PolicyPod, PolicyRules, Protocol, plan_policies};
use serde_json::{Value as Json, json};

use super::harness::{Namespace, Node};
use crate::netlink::Socket;
use crate::nft;
use crate::policy_rules::PolicyTable;

const TABLE: &str = "test-policies";

/// A node with pods `a`, `b` and `c`, each with a server on port 80 (named `http`) for TCP and UDP.
struct Setup {
    node: Node,
    pods: Vec<(Namespace, IpAddr)>,
    table: Option<PolicyTable>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn setup(name: &str) -> Setup {
    let node = Node::new(name);
    let pods = NAMES.map(|name| node.pod(name)).into();
    let table = node.host.run(|| PolicyTable::open(TABLE)).ok();
    Setup { node, pods, table }
}

impl Setup {
    /// The rules of these policies, with `known` of the pods.
    fn plan(&self, specs: &[Json], known: &[&str]) -> PolicyRules {
        let policies: Vec<Arc<NetworkPolicy>> = (specs.iter().enumerate())
            .map(|(number, spec)| json!({"metadata": {"name": number.to_string(), "namespace": "n"}, "spec": spec}))
            .map(|policy| Arc::new(serde_json::from_value(policy).unwrap()))
            .collect();
        let pods: Vec<PolicyPod> = (NAMES.iter().zip(&self.pods))
            .filter(|(name, _)| known.contains(name))
            .map(|(name, (_, address))| PolicyPod {
                namespace: "n".into(),
                labels: [("app".to_owned(), (*name).to_owned())].into(),
                address: *address,
                ports: vec![("http".into(), Protocol::Tcp, 80)],
                local: true,
            })
            .collect();
        plan_policies(&policies, &pods, &BTreeMap::from([("n".to_owned(), BTreeMap::new())]), Family::Ipv4)
    }

    fn set(&mut self, specs: &[Json]) {
        let rules = self.plan(specs, &NAMES);
        self.table.as_mut().unwrap().set(rules).unwrap();
    }

    /// Whether one pod reaches another by TCP, by UDP.
    fn reaches(&self, from: usize, to: usize) -> (bool, bool) {
        let (client, server) = (&self.pods[from].0, (self.pods[to].1, 80));
        let answered = |answer: Result<String, ErrorKind>| match answer {
            Ok(text) => text.starts_with(NAMES[to]),
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => false,
            Err(other) => panic!("dropped is not {other}"),
        };
        (answered(client.ask_tcp(server)), answered(client.ask_udp(server)))
    }
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

fn of(app: &str) -> Json {
    json!({"matchLabels": {"app": app}})
}

#[test]
fn only_what_policies_allow_comes_in() {
    let mut setup = setup("policy-in");
    assert_eq!(setup.reaches(B, A), (true, true));
    setup.set(&[json!({"podSelector": of("a"), "policyTypes": ["Ingress"]})]);
    assert_eq!(setup.reaches(B, A), (false, false));
    assert_eq!(setup.reaches(A, B), (true, true), "its own connections and their answers pass");
    let from_node = setup.node.host.ask_tcp((setup.pods[A].1, 80));
    assert_eq!(from_node, Ok("a 10.244.0.1".to_owned()), "probes come from the node");
    let allow = json!({"from": [{"podSelector": of("b")}], "ports": [{"port": "http"}]});
    setup.set(&[
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        json!({"podSelector": of("a"), "ingress": [allow]}),
    ]);
    assert_eq!([setup.reaches(B, A), setup.reaches(C, A)], [(true, false), (false, false)]);
    let allow = json!({"ports": [{"port": 70, "endPort": 80, "protocol": "UDP"}, {"port": 81, "endPort": 90}]});
    setup.set(&[json!({"podSelector": of("a"), "ingress": [allow]})]);
    assert_eq!(setup.reaches(C, A), (false, true));
    setup.set(&[]);
    assert_eq!(setup.reaches(C, A), (true, true));
}

#[test]
fn only_what_policies_allow_goes_out() {
    let mut setup = setup("policy-out");
    let egress = |rules: Json| json!({"podSelector": of("a"), "policyTypes": ["Egress"], "egress": rules});
    setup.set(&[egress(json!([]))]);
    assert_eq!([setup.reaches(A, B), setup.reaches(B, A)], [(false, false), (true, true)]);
    setup.node.host.serve("node", 7000);
    let to_node = setup.pods[A].0.ask_tcp((setup.node.config.gateway(), 7000));
    assert!(to_node.is_ok(), "the node is always reached, its DNS among others: {to_node:?}");
    let except = format!("{}/32", setup.pods[B].1);
    setup.set(&[egress(json!([{"to": [{"ipBlock": {"cidr": "10.244.0.0/16", "except": [except]}}]}]))]);
    assert_eq!([setup.reaches(A, B), setup.reaches(A, C)], [(false, false), (true, true)]);
    // What may leave must still be let in.
    setup.set(&[egress(json!([{}])), json!({"podSelector": of("c"), "policyTypes": ["Ingress"]})]);
    assert_eq!([setup.reaches(A, B), setup.reaches(A, C)], [(true, true), (false, false)]);
}

#[test]
fn a_pod_that_comes_changes_elements_alone() {
    let mut setup = setup("policy-change");
    let from = json!([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["b", "c"]}]}}]);
    let policy = json!({"podSelector": of("a"), "ingress": [{"from": from}]});
    let before = setup.plan(std::slice::from_ref(&policy), &["a", "b"]);
    let after = setup.plan(&[policy], &NAMES);
    assert_eq!(before.chains, after.chains);
    let table = setup.table.as_mut().unwrap();
    table.set(before.clone()).unwrap();
    assert_eq!(setup.reaches(C, A), (false, false));
    setup.table.as_mut().unwrap().set(after).unwrap();
    assert_eq!([setup.reaches(B, A), setup.reaches(C, A)], [(true, true), (true, true)]);
    setup.table.as_mut().unwrap().set(before).unwrap();
    assert_eq!([setup.reaches(B, A), setup.reaches(C, A)], [(true, true), (false, false)]);
    setup.table.take().unwrap().remove().unwrap();
    let left = setup.node.host.run(|| nft::table_exists(&mut Socket::netfilter().unwrap(), TABLE).unwrap());
    assert!(!left);
}
