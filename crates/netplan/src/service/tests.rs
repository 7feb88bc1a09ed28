use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::rules::{Change, Rules};

fn service(spec: Json) -> Service {
    let mut service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
        "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"], "type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}});
    for (name, value) in spec.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    serde_json::from_value(service).unwrap()
}

/// Endpoints as (last octet of the address, node, conditions): `r` ready, `s` serving, `t` terminating.
fn slices(endpoints: &[(u8, &str, &str)]) -> Vec<Arc<EndpointSlice>> {
    let endpoints: Vec<Json> = endpoints
        .iter()
        .map(|(octet, node, conditions)| {
            let has = |flag| conditions.contains(flag);
            json!({"addresses": [format!("10.244.0.{octet}")], "nodeName": node,
                "conditions": {"ready": has('r'), "serving": has('s'), "terminating": has('t')}})
        })
        .collect();
    let slice = json!({"metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints});
    vec![Arc::new(serde_json::from_value(slice).unwrap())]
}

fn node() -> NodeView {
    NodeView { name: "here".into(), zone: Some("z1".into()), address: Some("192.0.2.1".parse().unwrap()) }
}

fn planned(spec: Json, endpoints: &[(u8, &str, &str)]) -> String {
    plan(&service(spec), &slices(endpoints), Family::Ipv4, &node()).to_string()
}

const TWO: &[(u8, &str, &str)] = &[(5, "here", "rs"), (6, "there", "rs")];
const REMOTE: &[(u8, &str, &str)] = &[(6, "there", "rs")];

#[test]
fn a_cluster_ip_is_slots_and_no_chain() {
    insta::assert_snapshot!(planned(json!({}), TWO), @"
    cluster-ip 10.96.1.1
    hairpin tcp 10.244.0.5:8080
    slots 10.96.1.1 tcp 80: 8 x 10.244.0.5:8080, 8 x 10.244.0.6:8080
    ");
}

#[test]
fn a_health_check_counts_ready_local_endpoints() {
    let checked = |endpoints| {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "ports": [{"port": 80, "nodePort": 30080}]});
        planned(spec, endpoints).lines().find_map(|line| line.strip_prefix("health check on ").map(str::to_owned))
    };
    let here: &[(u8, &str, &str)] = &[(5, "here", "rs"), (6, "there", "rs"), (7, "here", "rs"), (8, "here", "st")];
    assert_eq!(checked(here).as_deref(), Some("31000: 2 local endpoints"));
    // It still takes connections, but a balancer shall look elsewhere.
    assert_eq!(checked(&[(8, "here", "st")]).as_deref(), Some("31000: 0 local endpoints"));
    assert_eq!(checked(REMOTE).as_deref(), Some("31000: 0 local endpoints"));
}

#[test]
fn no_endpoints_is_refused() {
    insta::assert_snapshot!(planned(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}), &[]), @"
    cluster-ip 10.96.1.1
    no-endpoints node tcp 30080 -> reject
    no-endpoints 10.96.1.1 tcp 80 -> reject
    ");
    assert_eq!(planned(json!({}), &[(5, "here", "")]), planned(json!({}), &[]));
}

#[test]
fn terminating_endpoints_serve_when_none_is_ready() {
    insta::assert_snapshot!(planned(json!({}), &[(5, "here", "st"), (6, "there", "t")]), @"
    cluster-ip 10.96.1.1
    hairpin tcp 10.244.0.5:8080
    slots 10.96.1.1 tcp 80: 16 x 10.244.0.5:8080
    ");
    insta::assert_snapshot!(planned(json!({}), &[(5, "here", "st"), (6, "there", "rs")]), @"
    cluster-ip 10.96.1.1
    slots 10.96.1.1 tcp 80: 16 x 10.244.0.6:8080
    ");
}

#[test]
fn outside_destinations_hide_the_client() {
    let spec = json!({"type": "NodePort", "externalIPs": ["198.51.100.7"], "ports": [{"port": 80, "nodePort": 30080}]});
    insta::assert_snapshot!(planned(spec, REMOTE), @"
    cluster-ip 10.96.1.1
    masquerade node tcp 30080
    masquerade 198.51.100.7 tcp 80
    slots node tcp 30080: 16 x 10.244.0.6:8080
    slots 10.96.1.1 tcp 80: 16 x 10.244.0.6:8080
    slots 198.51.100.7 tcp 80: 16 x 10.244.0.6:8080
    ");
}

#[test]
fn external_policy_local_keeps_the_client_and_drops_without_local_endpoints() {
    let spec =
        json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]});
    insta::assert_snapshot!(planned(spec.clone(), TWO), @"
    cluster-ip 10.96.1.1
    chain node tcp 30080 -> external-shop/web/tcp/80
    hairpin tcp 10.244.0.5:8080
    slots 10.96.1.1 tcp 80: 8 x 10.244.0.5:8080, 8 x 10.244.0.6:8080
    cluster-shop/web/tcp/80:
      any of 10.244.0.5:8080, 10.244.0.6:8080
    external-shop/web/tcp/80:
      from pods: goto cluster-shop/web/tcp/80
      from the node: masquerade, goto cluster-shop/web/tcp/80
      goto local-shop/web/tcp/80
    local-shop/web/tcp/80:
      any of 10.244.0.5:8080
    ");
    insta::assert_snapshot!(planned(spec, REMOTE), @"
    cluster-ip 10.96.1.1
    chain node tcp 30080 -> external-shop/web/tcp/80
    no-endpoints node tcp 30080 -> drop
    slots 10.96.1.1 tcp 80: 16 x 10.244.0.6:8080
    cluster-shop/web/tcp/80:
      any of 10.244.0.6:8080
    external-shop/web/tcp/80:
      from pods: goto cluster-shop/web/tcp/80
      from the node: masquerade, goto cluster-shop/web/tcp/80
    ");
}

#[test]
fn internal_policy_local_uses_local_endpoints_only() {
    insta::assert_snapshot!(planned(json!({"internalTrafficPolicy": "Local"}), TWO), @"
    cluster-ip 10.96.1.1
    hairpin tcp 10.244.0.5:8080
    slots 10.96.1.1 tcp 80: 16 x 10.244.0.5:8080
    ");
    insta::assert_snapshot!(planned(json!({"internalTrafficPolicy": "Local"}), REMOTE), @"
    cluster-ip 10.96.1.1
    no-endpoints 10.96.1.1 tcp 80 -> drop
    ");
}

#[test]
fn session_affinity_and_many_endpoints_need_a_chain() {
    let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    insta::assert_snapshot!(planned(spec, TWO), @"
    cluster-ip 10.96.1.1
    chain 10.96.1.1 tcp 80 -> cluster-shop/web/tcp/80
    hairpin tcp 10.244.0.5:8080
    cluster-shop/web/tcp/80:
      any of 10.244.0.5:8080, 10.244.0.6:8080, the same for 60 s
    ");
    let many: Vec<(u8, &str, &str)> = (10..27).map(|octet| (octet, "there", "rs")).collect();
    assert!(planned(json!({}), &many).contains("chain 10.96.1.1 tcp 80 -> cluster-shop/web/tcp/80"));
}

#[test]
fn source_ranges_guard_load_balancer_addresses_only() {
    let mut with_balancer =
        service(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 203.0.113.0/24", "192.0.2.0/24"],
        "ports": [{"port": 80, "nodePort": 30080}]}));
    with_balancer.status = serde_json::from_value(
        json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}]}}),
    )
    .unwrap();
    insta::assert_snapshot!(plan(&with_balancer, &slices(REMOTE), Family::Ipv4, &node()).to_string(), @"
    cluster-ip 10.96.1.1
    firewall 198.51.100.9 tcp 80 -> firewall-shop/web/tcp/80
    masquerade node tcp 30080
    masquerade 198.51.100.9 tcp 80
    slots node tcp 30080: 16 x 10.244.0.6:8080
    slots 10.96.1.1 tcp 80: 16 x 10.244.0.6:8080
    slots 198.51.100.9 tcp 80: 16 x 10.244.0.6:8080
    firewall-shop/web/tcp/80:
      drop unless from 203.0.113.0/24, 192.0.2.0/24, 198.51.100.9/32
    ");
}

#[test]
fn hints_narrow_only_when_complete() {
    let mut slices = slices(TWO);
    let hint = |slices: &mut Vec<Arc<EndpointSlice>>, at: usize, zone: &str| {
        let slice = Arc::make_mut(&mut slices[0]);
        slice.endpoints.as_mut().unwrap()[at].hints =
            serde_json::from_value(json!({"forZones": [{"name": zone}]})).unwrap();
    };
    hint(&mut slices, 0, "z1");
    let shown = |slices: &[Arc<EndpointSlice>]| plan(&service(json!({})), slices, Family::Ipv4, &node()).to_string();
    assert!(shown(&slices).contains("8 x 10.244.0.5:8080, 8 x 10.244.0.6:8080"));
    hint(&mut slices, 1, "z2");
    assert!(shown(&slices).contains("16 x 10.244.0.5:8080"));
    hint(&mut slices, 0, "z3");
    assert!(shown(&slices).contains("8 x 10.244.0.5:8080, 8 x 10.244.0.6:8080"));
}

#[test]
fn services_that_are_not_proxied_have_no_rules() {
    assert_eq!(planned(json!({"clusterIP": "None", "clusterIPs": ["None"]}), TWO), "");
    assert_eq!(planned(json!({"type": "ExternalName", "externalName": "example.com"}), TWO), "");
    let mut other = service(json!({}));
    other.metadata.labels = Some([(PROXY_NAME_LABEL.to_owned(), "mine".to_owned())].into());
    assert_eq!(plan(&other, &slices(TWO), Family::Ipv4, &node()), Fragment::default());
}

#[test]
fn a_change_is_what_differs_and_a_shared_place_has_one_owner() {
    let with_ip = |cluster_ip: &str| {
        service(json!({"clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "externalIPs": ["198.51.100.7"]}))
    };
    let fragment = |cluster_ip: &str, endpoints| plan(&with_ip(cluster_ip), &slices(endpoints), Family::Ipv4, &node());
    let mut rules = Rules::default();
    let first = rules.replace("a/a", Some(fragment("10.96.1.1", TWO)));
    assert_eq!((first.add.len(), first.remove.len()), (1 + 1 + 1 + 32, 0));
    assert_eq!(rules.replace("a/a", Some(fragment("10.96.1.1", TWO))), Change::default());
    // The second service shares the external address and the local endpoint.
    let second = rules.replace("b/b", Some(fragment("10.96.2.2", TWO)));
    assert_eq!((second.add.len(), second.remove.len()), (1 + 16, 0));
    let narrowed = rules.replace("a/a", Some(fragment("10.96.1.1", REMOTE)));
    assert_eq!((narrowed.add.len(), narrowed.remove.len()), (16, 16));
    let gone = rules.replace("a/a", None);
    // Its own address and slots go; the slots of the shared address pass to the other service.
    assert_eq!((gone.add.len(), gone.remove.len()), (8, 1 + 16 + 8));
    assert!(!crate::rules::diff(&rules, &Rules::default()).is_empty());
    rules.replace("b/b", None);
    assert!(rules.everything().is_empty());
}
