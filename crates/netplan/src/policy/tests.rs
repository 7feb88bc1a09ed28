use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;

/// Namespace, label `app`, last octet of the address; on this node when that is below 100.
fn pod(namespace: &str, app: &str, octet: u8) -> PolicyPod {
    PolicyPod {
        namespace: namespace.into(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        address: IpAddr::from([10, 244, 0, octet]),
        ports: vec![("http".into(), Protocol::Tcp, 8000 + u16::from(octet)), ("dns".into(), Protocol::Udp, 53)],
        local: octet < 100,
    }
}

fn planned(specs: &[Json]) -> String {
    let policies: Vec<Arc<NetworkPolicy>> = specs
        .iter()
        .enumerate()
        .map(|(number, spec)| {
            let policy = json!({"metadata": {"name": format!("p{number}"), "namespace": "shop"}, "spec": spec});
            Arc::new(serde_json::from_value(policy).unwrap())
        })
        .collect();
    let pods = [
        pod("shop", "web", 2),
        pod("shop", "db", 3),
        pod("ops", "watch", 4),
        pod("ops", "web", 104),
        pod("x", "web", 5),
    ];
    let label = |team: &str| -> Labels { [("team".to_owned(), team.to_owned())].into() };
    let namespaces = [("shop".to_owned(), label("a")), ("ops".to_owned(), label("b"))].into();
    plan_policies(&policies, &pods, &namespaces, Family::Ipv4).to_string()
}

#[test]
fn default_deny_has_no_way_in_or_out() {
    insta::assert_snapshot!(planned(&[json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})]), @"
    to 10.244.0.2: ingress-of-0
    to 10.244.0.3: ingress-of-0
    from 10.244.0.2: egress-of-0
    from 10.244.0.3: egress-of-0
    egress-0:
    egress-of-0:
      jump egress-0
      drop
    ingress-0:
    ingress-of-0:
      jump ingress-0
      drop
    ");
    assert_eq!(planned(&[]), "");
    assert_eq!(planned(&[json!({"podSelector": {"matchLabels": {"app": "none"}}})]), "");
}

#[test]
fn peers_are_pods_namespaces_both_and_blocks() {
    let from = json!([
        {"podSelector": {"matchLabels": {"app": "db"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["b"]}]},
            "podSelector": {"matchLabels": {"app": "web"}}},
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.64/26", "192.0.2.1/32"]}},
        {"ipBlock": {"cidr": "2001:db8::/32"}},
    ]);
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": from}]});
    insta::assert_snapshot!(planned(&[spec]), @"
    to 10.244.0.2: ingress-of-0
    ingress-0:
      accept from @ingress-0-0
      accept from 192.0.2.0/24 but 192.0.2.64/26 but 192.0.2.1/32
    ingress-of-0:
      jump ingress-0
      drop
    set ingress-0-0: 10.244.0.3, 10.244.0.104
    ");
}

#[test]
fn ports_are_numbers_ranges_protocols_and_names_of_the_receiver() {
    let ports = json!([{"port": 80}, {"port": 1000, "endPort": 2000, "protocol": "UDP"}, {"protocol": "SCTP"}, {"port": "http"}]);
    let ingress = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": ports}]});
    insta::assert_snapshot!(planned(&[ingress]), @"
    to 10.244.0.2: ingress-of-0
    ingress-0:
      accept from anybody, tcp 80-80
      accept from anybody, udp 1000-2000
      accept from anybody, sctp
      accept from anybody, @ingress-0-0-ports
    ingress-of-0:
      jump ingress-0
      drop
    set ingress-0-0-ports: 10.244.0.2 tcp 8002
    ");
    let to = json!([{"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]);
    let egress = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": to, "ports": [{"port": "dns", "protocol": "UDP"}]}]});
    insta::assert_snapshot!(planned(&[egress]), @"
    from 10.244.0.2: egress-of-0
    egress-0:
      accept to anybody, @egress-0-0-ports
    egress-of-0:
      jump egress-0
      drop
    set egress-0-0: 10.244.0.2, 10.244.0.3, 10.244.0.4, 10.244.0.104
    set egress-0-0-ports: 10.244.0.2 udp 53, 10.244.0.3 udp 53, 10.244.0.4 udp 53, 10.244.0.104 udp 53
    ");
}

#[test]
fn policies_add_up_and_pods_share_chains() {
    let all = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    let web = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]},
        "ingress": [{}]});
    insta::assert_snapshot!(planned(&[all, web]), @"
    to 10.244.0.2: ingress-of-0-1
    to 10.244.0.3: ingress-of-0
    ingress-0:
    ingress-1:
      accept from anybody
    ingress-of-0:
      jump ingress-0
      drop
    ingress-of-0-1:
      jump ingress-0
      jump ingress-1
      drop
    ");
}
