use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::harness::{LOCALHOST, Namespace, Node, ip};
use crate::{NodeView, ProxyConfig, ServiceProxy};

const SERVICE: &str = "10.96.1.1";

/// A node with two pods and the proxy.
struct Cluster {
    node: Node,
    proxy: ServiceProxy,
    a: Namespace,
    b: Namespace,
    client: Namespace,
}

impl Cluster {
    fn new(name: &str) -> Cluster {
        let node = Node::new(name);
        let (a, _) = node.pod("a");
        let (b, _) = node.pod("b");
        let (client, _) = node.pod("client");
        let config =
            ProxyConfig { node: NodeView { name: "here".to_owned(), ..NodeView::default() }, ..ProxyConfig::default() };
        let mut proxy = node.host.run(move || ServiceProxy::open(config)).unwrap();
        proxy.update([]).unwrap();
        Cluster { node, proxy, a, b, client }
    }

    /// Replaces the one service: its spec, and the last octets of its endpoints.
    fn set(&mut self, spec: Value, endpoints: &[(u8, &str)]) {
        let (service, slices) = service(spec, endpoints);
        self.proxy.update([("default/web", Some(&service), slices)]).unwrap();
    }

    fn answers(&self, from: &Namespace, to: (IpAddr, u16), times: usize) -> BTreeSet<String> {
        (0..times).map(|_| from.ask_tcp(to).unwrap_or_else(|error| error.to_string())).collect()
    }
}

fn service(spec: Value, endpoints: &[(u8, &str)]) -> (Service, Vec<Arc<EndpointSlice>>) {
    let mut service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": SERVICE,
        "clusterIPs": [SERVICE], "ports": [{"name": "t", "port": 8080, "protocol": "TCP"}, {"name": "u", "port": 8080, "protocol": "UDP"}]}});
    for (name, value) in spec.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(octet, node)| json!({"addresses": [format!("10.244.0.{octet}")], "nodeName": node, "conditions": {"ready": true}}))
        .collect();
    let slice = json!({"metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "t", "port": 80, "protocol": "TCP"}, {"name": "u", "port": 80, "protocol": "UDP"}]});
    (serde_json::from_value(service).unwrap(), vec![Arc::new(serde_json::from_value(slice).unwrap())])
}

const BOTH: &[(u8, &str)] = &[(2, "here"), (3, "here")];

fn set_of(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn a_cluster_ip_leads_to_all_endpoints_by_tcp_and_udp() {
    let mut cluster = Cluster::new("cluster-ip");
    cluster.set(json!({}), BOTH);
    let to = (ip(SERVICE), 8080);
    assert_eq!(cluster.answers(&cluster.client, to, 40), set_of(&["a 10.244.0.4", "b 10.244.0.4"]));
    assert_eq!(cluster.answers(&cluster.node.host, to, 40), set_of(&["a 10.244.0.1", "b 10.244.0.1"]));
    let by_udp: BTreeSet<String> = (0..40).map(|_| cluster.client.ask_udp(to).unwrap()).collect();
    assert_eq!(by_udp, set_of(&["a 10.244.0.4", "b 10.244.0.4"]));
    // Hairpin: a pod that is sent to itself sees the gateway.
    assert_eq!(cluster.answers(&cluster.a, to, 40), set_of(&["a 10.244.0.1", "b 10.244.0.2"]));
    // A port that the service does not have is refused at once.
    assert_eq!(cluster.client.ask_tcp((ip(SERVICE), 81)), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn a_service_without_endpoints_refuses() {
    let mut cluster = Cluster::new("refuse");
    let spec = json!({"type": "NodePort", "ports": [{"name": "t", "port": 8080, "nodePort": 30080, "protocol": "TCP"}, {"name": "u", "port": 8080, "protocol": "UDP"}]});
    cluster.set(spec.clone(), &[]);
    for from in [&cluster.client, &cluster.node.host] {
        assert_eq!(from.ask_tcp((ip(SERVICE), 8080)), Err(ErrorKind::ConnectionRefused));
        assert_eq!(from.ask_tcp((ip("10.244.0.1"), 30080)), Err(ErrorKind::ConnectionRefused));
    }
    assert_eq!(cluster.client.ask_udp((ip(SERVICE), 8080)), Err(ErrorKind::ConnectionRefused));
    // The sender's own kernel refuses: the datagram does not leave at all.
    assert_eq!(cluster.node.host.ask_udp((ip(SERVICE), 8080)), Err(ErrorKind::PermissionDenied));
    cluster.set(spec, BOTH);
    assert!(cluster.client.ask_tcp((ip(SERVICE), 8080)).is_ok());
    cluster.proxy.update([("default/web", None, vec![])]).unwrap();
    assert_eq!(cluster.client.ask_tcp((ip("10.244.0.1"), 30080)), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn node_ports_and_external_addresses_lead_in_from_everywhere() {
    let mut cluster = Cluster::new("node-port");
    let spec = json!({"type": "NodePort", "externalIPs": ["198.51.100.7"],
        "ports": [{"name": "t", "port": 8080, "nodePort": 30080, "protocol": "TCP"}]});
    cluster.set(spec, &[(2, "here")]);
    let gateway = ip("10.244.0.1");
    for to in [(gateway, 30080), (ip("198.51.100.7"), 8080)] {
        assert_eq!(cluster.client.ask_tcp(to), Ok("a 10.244.0.1".to_owned()), "{to:?}");
    }
    assert_eq!(cluster.node.host.ask_tcp((gateway, 30080)), Ok("a 10.244.0.1".to_owned()));
    assert_eq!(cluster.node.host.ask_tcp((LOCALHOST, 30080)), Ok("a 10.244.0.1".to_owned()));
}

#[test]
fn session_affinity_keeps_a_client_with_its_endpoint() {
    let mut cluster = Cluster::new("affinity");
    let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}});
    cluster.set(spec.clone(), BOTH);
    let to = (ip(SERVICE), 8080);
    let first = cluster.answers(&cluster.client, to, 20);
    assert_eq!(first.len(), 1, "{first:?}");
    // Another endpoint comes: the client stays. Its own goes: it moves.
    cluster.node.pod("c");
    cluster.set(spec.clone(), &[(2, "here"), (3, "here"), (5, "here")]);
    assert_eq!(cluster.answers(&cluster.client, to, 20), first);
    let left: Vec<(u8, &str)> = if first.contains("a 10.244.0.4") { vec![(3, "here")] } else { vec![(2, "here")] };
    cluster.set(spec, &left);
    let second = cluster.answers(&cluster.client, to, 20);
    assert_eq!((second.len(), second == first), (1, false), "{second:?}");
    cluster.set(json!({}), BOTH);
    assert_eq!(cluster.answers(&cluster.client, to, 40).len(), 2);
}

#[test]
fn policy_local_keeps_the_client_address_and_drops_elsewhere() {
    let mut cluster = Cluster::new("local");
    let ports = json!([{"name": "t", "port": 8080, "nodePort": 30080, "protocol": "TCP"}]);
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports});
    // The endpoint `b` counts as another node's. Pods of the cluster use all.
    cluster.set(spec, &[(2, "here"), (3, "there")]);
    let gateway = ip("10.244.0.1");
    assert_eq!(cluster.answers(&cluster.client, (gateway, 30080), 40), set_of(&["a 10.244.0.4", "b 10.244.0.4"]));
    cluster.set(json!({"internalTrafficPolicy": "Local"}), &[(2, "here"), (3, "there")]);
    assert_eq!(cluster.answers(&cluster.client, (ip(SERVICE), 8080), 20), set_of(&["a 10.244.0.4"]));
    cluster.set(json!({"internalTrafficPolicy": "Local"}), &[(3, "there")]);
    assert_eq!(cluster.client.ask_tcp((ip(SERVICE), 8080)), Err(ErrorKind::TimedOut));
}

#[test]
fn more_endpoints_than_slots_all_get_traffic() {
    let mut cluster = Cluster::new("many");
    // Most of them are not there; what counts is that both real ones are found among seventeen.
    let many: Vec<(u8, &str)> = (2..4).chain(100..115).map(|octet| (octet, "here")).collect();
    cluster.set(json!({}), &many);
    cluster.set(json!({}), BOTH);
    cluster.set(json!({}), &many);
    cluster.set(json!({}), BOTH);
    assert_eq!(cluster.answers(&cluster.client, (ip(SERVICE), 8080), 40).len(), 2);
}

#[test]
fn a_udp_client_does_not_talk_to_a_pod_that_is_gone() {
    let mut cluster = Cluster::new("stale-udp");
    cluster.set(json!({}), &[(2, "here")]);
    let socket = cluster.client.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.connect((SERVICE, 8080)).unwrap();
        socket
    });
    let ask = || {
        socket.send(b"?").unwrap();
        let mut buffer = [0; 64];
        socket.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    assert_eq!(ask().unwrap(), "a 10.244.0.4");
    cluster.set(json!({}), &[(3, "here")]);
    assert_eq!(ask().unwrap(), "b 10.244.0.4");
}

#[test]
fn rules_that_somebody_flushed_are_written_anew() {
    let mut cluster = Cluster::new("flushed");
    cluster.set(json!({}), BOTH);
    cluster.node.host.run(|| ServiceProxy::cleanup(&ProxyConfig::default())).unwrap();
    cluster.set(json!({}), &[(3, "here")]);
    assert_eq!(cluster.client.ask_tcp((ip(SERVICE), 8080)), Ok("b 10.244.0.4".to_owned()));
    drop(cluster.b);
}
