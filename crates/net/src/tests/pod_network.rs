use std::io::ErrorKind;

use pods::ports::{HostPort, Network};

use super::harness::{LOCALHOST, Namespace, Node, block_on, ip, pod};
use crate::netlink::Socket;
use crate::{BridgeNetwork, nft, route};

fn host_port(host_port: u16, protocol: &str) -> HostPort {
    HostPort { host_ip: None, host_port, container_port: 80, protocol: protocol.to_owned() }
}

#[test]
fn pods_and_node_reach_one_another() {
    let node = Node::new("reach");
    let (a, a_ip) = node.pod("a");
    let (b, b_ip) = node.pod("b");
    assert_eq!((a_ip, b_ip), (ip("10.244.0.2"), ip("10.244.0.3")));
    assert_eq!(a.ask_tcp((b_ip, 80)), Ok("b 10.244.0.2".to_owned()));
    assert_eq!(b.ask_udp((a_ip, 80)), Ok("a 10.244.0.3".to_owned()));
    assert_eq!(node.host.ask_tcp((a_ip, 80)), Ok("a 10.244.0.1".to_owned()));
    node.host.serve("node", 7000);
    assert_eq!(a.ask_tcp((ip("10.244.0.1"), 7000)), Ok("node 10.244.0.2".to_owned()));
}

#[test]
fn attach_again_gives_the_same_address_and_detach_gives_it_back() {
    let node = Node::new("again");
    let (a, a_ip) = node.pod("a");
    assert_eq!(node.attach(&pod("a", &a)), a_ip);
    // A process that takes over from one that was killed.
    let next = Node::start(&node.host, &node.config);
    assert_eq!(block_on(next.attach(&pod("a", &a))).unwrap(), [a_ip]);
    assert_eq!(node.host.ask_tcp((a_ip, 80)), Ok("a 10.244.0.1".to_owned()));
    let (_b, b_ip) = node.pod("b");
    assert_eq!(b_ip, ip("10.244.0.3"));
    block_on(next.detach("uid-a")).unwrap();
    block_on(next.detach("uid-a")).unwrap();
    assert_eq!(block_on(next.ready()), None);
    let namespace = Namespace::new();
    assert_eq!(block_on(next.attach(&pod("c", &namespace))).unwrap(), [ip("10.244.0.3")]);
}

#[test]
fn retain_releases_pods_that_are_not_known() {
    let node = Node::new("retain");
    let (_a, _) = node.pod("a");
    let (_b, b_ip) = node.pod("b");
    block_on(node.network.retain(&["uid-b".to_owned()])).unwrap();
    let left: Vec<_> = std::fs::read_dir(&node.config.state_directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "last")
        .collect();
    assert_eq!(left, [b_ip.to_string()]);
}

#[test]
fn a_namespace_that_is_gone_is_an_error_and_leaves_nothing() {
    let node = Node::new("gone");
    let mut absent = pod("a", &node.host);
    absent.network_namespace = "/run/windlass-no-such-namespace".into();
    let error = block_on(node.network.attach(&absent)).unwrap_err().to_string();
    assert_eq!(error, "open network namespace /run/windlass-no-such-namespace: No such file or directory (os error 2)");
    let left = std::fs::read_dir(&node.config.state_directory).unwrap().count();
    assert_eq!(left, 1, "only the mark of the last address");
}

#[test]
fn host_ports_lead_to_the_pod() {
    let node = Node::new("host-ports");
    let namespace = Namespace::new();
    let mut a = pod("a", &namespace);
    a.host_ports = vec![host_port(8080, "TCP"), host_port(8081, "UDP")];
    let a_ip = node.attach(&a);
    namespace.serve("a", 80);
    let (b, _) = node.pod("b");
    let gateway = ip("10.244.0.1");
    assert_eq!(b.ask_tcp((gateway, 8080)), Ok("a 10.244.0.3".to_owned()));
    assert_eq!(b.ask_udp((gateway, 8081)), Ok("a 10.244.0.3".to_owned()));
    assert_eq!(node.host.ask_tcp((gateway, 8080)), Ok("a 10.244.0.1".to_owned()));
    assert_eq!(node.host.ask_tcp((LOCALHOST, 8080)), Ok("a 10.244.0.1".to_owned()));
    // Hairpin: the pod reaches itself through the node.
    assert_eq!(namespace.ask_tcp((gateway, 8080)), Ok("a 10.244.0.1".to_owned()));
    assert_eq!(a_ip, ip("10.244.0.2"));
    block_on(node.network.detach("uid-a")).unwrap();
    assert_eq!(b.ask_tcp((gateway, 8080)), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn cleanup_removes_every_interface_rule_and_file() {
    let node = Node::new("cleanup");
    let (_a, _) = node.pod("a");
    let config = node.config.clone();
    let links = node.host.run(move || {
        BridgeNetwork::cleanup(&config).unwrap();
        BridgeNetwork::cleanup(&config).unwrap();
        assert!(!nft::table_exists(&mut Socket::netfilter().unwrap(), &config.table).unwrap());
        route::links(&mut Socket::route().unwrap()).unwrap()
    });
    assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo"]);
    assert!(!node.config.state_directory.exists());
}

#[test]
fn a_pod_is_attached_within_milliseconds() {
    let node = Node::new("speed");
    let namespaces: Vec<Namespace> = (0..50).map(|_| Namespace::new()).collect();
    let start = std::time::Instant::now();
    for (number, namespace) in namespaces.iter().enumerate() {
        node.attach(&pod(&number.to_string(), namespace));
    }
    let attached = start.elapsed() / 50;
    let start = std::time::Instant::now();
    for number in 0..50 {
        block_on(node.network.detach(&format!("uid-{number}"))).unwrap();
    }
    println!("attach {attached:?}, detach {:?}", start.elapsed() / 50);
    assert!(attached.as_millis() < 100, "attach took {attached:?}");
}
