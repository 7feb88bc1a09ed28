use std::process::Command;

use serde_json::json;

use super::harness::{Namespace, Node, ip, pod};
use crate::{DNS_PORT, Dns, DnsConfig, ProxyConfig, ServiceProxy};

/// A DNS server on the node, reached as pods do, and a pod to ask from.
struct Setup {
    _node: Node,
    pod: Namespace,
}

fn serve(host: &Namespace, config: DnsConfig, zone: netplan::dns::Zone) {
    let (ready, bound) = std::sync::mpsc::channel();
    host.run(move || {
        // A runtime of one thread, which is a child of the namespace's and so lives there too.
        std::thread::spawn(move || {
            super::harness::block_on(async {
                let dns = Dns::bind(config).await.unwrap();
                ready.send(dns.addresses()).unwrap();
                dns.run_with(zone).await;
            });
        });
    });
    bound.recv().unwrap();
}

fn config(listen: (std::net::IpAddr, u16), upstreams: Vec<std::net::SocketAddr>) -> DnsConfig {
    DnsConfig {
        listen: vec![listen.into()],
        domain: "cluster.local".to_owned(),
        upstreams: Some(upstreams),
        own_addresses: vec![],
    }
}

fn setup(name: &str) -> Setup {
    let node = Node::new(name);
    let gateway = ip("10.244.0.1");
    let mut zone = netplan::dns::Zone::new("cluster.local");
    zone.set_namespace("default", true);
    let dns_service = json!({"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10"], "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}});
    let dns_service = serde_json::from_value(dns_service).unwrap();
    zone.set_service(&dns_service);
    for (name, spec) in [
        ("web", json!({"clusterIP": "10.96.1.1", "ports": [{"name": "http", "port": 80}]})),
        ("out", json!({"type": "ExternalName", "externalName": "elsewhere.example"})),
        ("big", json!({"clusterIP": "None"})),
    ] {
        let service = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        zone.set_service(&serde_json::from_value(service).unwrap());
    }
    let endpoints: Vec<_> = (1..100).map(|octet| json!({"addresses": [format!("10.244.9.{octet}")]})).collect();
    let big =
        json!({"metadata": {"name": "big-1", "namespace": "default"}, "addressType": "IPv4", "endpoints": endpoints});
    zone.set_endpoints("default/big", &[std::sync::Arc::new(serde_json::from_value(big).unwrap())]);

    // Stands for the servers of the node's resolv.conf.
    let mut upstream = netplan::dns::Zone::new("example");
    let elsewhere = json!({"metadata": {"name": "elsewhere", "namespace": "svc"}, "spec": {"clusterIP": "192.0.2.80"}});
    upstream.set_service(&serde_json::from_value(elsewhere).unwrap());
    serve(&node.host, config((gateway, 5300), vec![]), upstream);
    serve(&node.host, config((gateway, DNS_PORT), vec![(gateway, 5300).into()]), zone);

    let slice = json!({"metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [gateway.to_string()]}],
        "ports": [{"name": "dns", "port": DNS_PORT, "protocol": "UDP"}, {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"}]});
    let slice = std::sync::Arc::new(serde_json::from_value(slice).unwrap());
    let mut proxy = node.host.run(|| ServiceProxy::open(ProxyConfig::default())).unwrap();
    proxy.update([("kube-system/kube-dns", Some(&dns_service), vec![slice])]).unwrap();
    let namespace = Namespace::new();
    node.attach(&pod("client", &namespace));
    Setup { _node: node, pod: namespace }
}

fn dig(from: &Namespace, arguments: &str) -> String {
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    let output = from.run(move || {
        Command::new("dig")
            .args(["@10.96.0.10", "+tries=1", "+timeout=3"])
            .args(arguments)
            .output()
            .expect("dig (Debian: bind9-dnsutils)")
    });
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pods_ask_the_service_and_get_names_of_the_cluster() {
    let setup = setup("dns");
    let ask = |arguments: &str| dig(&setup.pod, arguments).trim_end().to_owned();
    assert_eq!(ask("+short web.default.svc.cluster.local"), "10.96.1.1");
    assert_eq!(ask("+short +tcp WEB.default.svc.cluster.local"), "10.96.1.1");
    assert_eq!(ask("+short SRV _http._tcp.web.default.svc.cluster.local"), "0 100 80 web.default.svc.cluster.local.");
    assert_eq!(ask("+short -x 10.96.1.1"), "web.default.svc.cluster.local.");
    assert_eq!(ask("+short TXT dns-version.cluster.local"), "\"1.1.0\"");
    let absent = ask("absent.default.svc.cluster.local");
    assert!(absent.contains("status: NXDOMAIN") && absent.contains("SOA\tns.dns.cluster.local."), "{absent}");
    let no_data = ask("AAAA web.default.svc.cluster.local");
    assert!(no_data.contains("status: NOERROR") && no_data.contains("ANSWER: 0"), "{no_data}");
    let ttl = ask("+noall +answer web.default.svc.cluster.local");
    assert_eq!(ttl.split_whitespace().nth(1), Some("5"), "{ttl}");
}

#[test]
fn long_answers_go_by_tcp() {
    let setup = setup("dns-long");
    let cut = dig(&setup.pod, "+ignore +noedns big.default.svc.cluster.local");
    assert!(cut.contains("flags: qr aa tc") && cut.contains("ANSWER: 0"), "{cut}");
    assert_eq!(dig(&setup.pod, "+short big.default.svc.cluster.local").lines().count(), 99);
}

#[test]
fn other_names_are_asked_of_the_nodes_name_servers() {
    let setup = setup("dns-forward");
    // The stand-in knows `elsewhere.svc.svc.example`, and says of others that they do not exist.
    assert_eq!(dig(&setup.pod, "+short elsewhere.svc.svc.example"), "192.0.2.80\n");
    assert_eq!(dig(&setup.pod, "+short elsewhere.svc.svc.example"), "192.0.2.80\n", "from the cache");
    let absent = dig(&setup.pod, "absent.example");
    assert!(absent.contains("status: NXDOMAIN"), "{absent}");
    let chased = dig(&setup.pod, "out.default.svc.cluster.local");
    assert!(chased.contains("CNAME\telsewhere.example."), "{chased}");
    let dead_end = dig(&setup.pod, "example.org");
    assert!(dead_end.contains("status: SERVFAIL"), "{dead_end}");
}

/// A question for the address of a name, and the code of the answer to one with this number.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Number and response code.
fn answer(bytes: &[u8]) -> (u16, u8) {
    (u16::from_be_bytes([bytes[0], bytes[1]]), bytes[3] & 0x0f)
}

const NO_ERROR: u8 = 0;
const REFUSED: u8 = 5;

#[test]
fn questions_that_other_servers_leave_open_are_bounded() {
    use std::io::{Read, Write};
    use std::net::{TcpStream, UdpSocket};
    // Has every question and answers none.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (ready, bound) = std::sync::mpsc::channel();
    let upstream = silent.local_addr().unwrap();
    std::thread::spawn(move || {
        super::harness::block_on(async {
            let dns = Dns::bind(config((ip("127.0.0.1"), 0), vec![upstream])).await.unwrap();
            ready.send(dns.addresses()[0]).unwrap();
            let mut zone = netplan::dns::Zone::new("cluster.local");
            zone.set_namespace("default", true);
            let web = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.1.1"}});
            zone.set_service(&serde_json::from_value(web).unwrap());
            dns.run_with(zone).await;
        });
    });
    let server = bound.recv().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    socket.connect(server).unwrap();
    let own = "web.default.svc.cluster.local";
    let (mut codes, mut buffer) = (Vec::new(), [0u8; 512]);
    let beyond = 40;
    for id in 0..u16::try_from(crate::dns::FORWARDED_MAX + beyond).unwrap() {
        socket.send(&question(id, &format!("n{id}.example"))).unwrap();
        if id % 16 == 15 || usize::from(id) + 1 == crate::dns::FORWARDED_MAX + beyond {
            // The cluster's own names are answered still, and in turn: everything before has been looked at.
            socket.send(&question(u16::MAX, own)).unwrap();
            loop {
                let length = socket.recv(&mut buffer).unwrap();
                match answer(&buffer[..length]) {
                    (u16::MAX, code) => break assert_eq!(code, NO_ERROR),
                    (_, code) => codes.push(code),
                }
            }
        }
    }
    assert_eq!(codes, vec![REFUSED; beyond]);
    let mut stream = TcpStream::connect(server).unwrap();
    for (name, wanted) in [("more.example", REFUSED), (own, NO_ERROR)] {
        let query = question(1, name);
        stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(answer(&bytes).1, wanted, "{name}");
    }
    // Connections that say nothing take no more places than there are.
    let mut held = vec![stream];
    let closed = loop {
        assert!(held.len() <= crate::dns::CONNECTIONS_MAX, "connections without end");
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let query = question(2, own);
        let asked = stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat());
        match asked.and_then(|()| stream.read(&mut [0; 512])) {
            Ok(length) if length > 0 => held.push(stream),
            ended => break ended,
        }
    };
    assert_eq!(held.len(), crate::dns::CONNECTIONS_MAX, "{closed:?}");
}
