use serde_json::json;

use super::*;
use k8s_openapi::api::discovery::v1::EndpointSlice;

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local");
    zone.set_namespace("default", true);
    zone.set_namespace("empty", true);
    for service in [
        json!({"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"name": "dns", "protocol": "UDP", "port": 53}]}}),
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1", "fd00::1"], "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]}}),
        json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}),
        json!({"metadata": {"name": "idle", "namespace": "default"}, "spec": {"clusterIP": "None"}}),
        json!({"metadata": {"name": "out", "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": "Example.com."}}),
    ] {
        zone.set_service(&serde_json::from_value(service).unwrap());
    }
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "db-1", "namespace": "default"}, "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.244.0.7"], "hostname": "db-0"},
            {"addresses": ["10.244.0.8"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.9"], "conditions": {"ready": false}},
        ],
    }))
    .unwrap();
    zone.set_endpoints("default/db", &[std::sync::Arc::new(slice)]);
    zone
}

fn ask(name: &str, kind: Kind) -> String {
    let show = |records: &[Record]| {
        records.iter().map(|record| format!("{} {:?}\n", record.name, record.data)).collect::<String>()
    };
    match answer(&zone(), name, kind) {
        Answer::Records { records, additional } if additional.is_empty() => show(&records),
        Answer::Records { records, additional } => format!("{}additional\n{}", show(&records), show(&additional)),
        Answer::NoData(soa) => format!("no data, soa of {}", soa.name),
        Answer::NoName(_) => "no such name".to_owned(),
        Answer::Elsewhere => "elsewhere".to_owned(),
    }
}

#[test]
fn services_have_their_cluster_addresses() {
    insta::assert_snapshot!(ask("web.default.svc.cluster.local.", Kind::A), @"web.default.svc.cluster.local A(10.96.1.1)");
    insta::assert_snapshot!(ask("web.default.svc.cluster.local", Kind::Aaaa), @"web.default.svc.cluster.local Aaaa(fd00::1)");
    insta::assert_snapshot!(ask("kube-dns.kube-system.svc.cluster.local", Kind::Aaaa), @"no data, soa of cluster.local");
    insta::assert_snapshot!(ask("nothing.default.svc.cluster.local", Kind::A), @"no such name");
    insta::assert_snapshot!(ask("web.default.svc.cluster.local.default.svc.cluster.local", Kind::A), @"no such name");
}

#[test]
fn headless_services_have_their_ready_endpoints() {
    insta::assert_snapshot!(ask("db.default.svc.cluster.local", Kind::A), @"
    db.default.svc.cluster.local A(10.244.0.8)
    db.default.svc.cluster.local A(10.244.0.7)
    ");
    insta::assert_snapshot!(ask("db-0.db.default.svc.cluster.local", Kind::A), @"db-0.db.default.svc.cluster.local A(10.244.0.7)");
    insta::assert_snapshot!(ask("10-244-0-8.db.default.svc.cluster.local", Kind::A), @"10-244-0-8.db.default.svc.cluster.local A(10.244.0.8)");
    insta::assert_snapshot!(ask("10-244-0-9.db.default.svc.cluster.local", Kind::A), @"no such name");
    insta::assert_snapshot!(ask("idle.default.svc.cluster.local", Kind::A), @"no such name");
}

#[test]
fn named_ports_have_srv_records() {
    insta::assert_snapshot!(ask("_http._tcp.web.default.svc.cluster.local", Kind::Srv), @r#"
    _http._tcp.web.default.svc.cluster.local Srv { priority: 0, weight: 100, port: 80, target: "web.default.svc.cluster.local" }
    additional
    web.default.svc.cluster.local A(10.96.1.1)
    web.default.svc.cluster.local Aaaa(fd00::1)
    "#);
    insta::assert_snapshot!(ask("_sql._tcp.db.default.svc.cluster.local", Kind::Srv), @r#"
    _sql._tcp.db.default.svc.cluster.local Srv { priority: 0, weight: 50, port: 5432, target: "10-244-0-8.db.default.svc.cluster.local" }
    _sql._tcp.db.default.svc.cluster.local Srv { priority: 0, weight: 50, port: 5432, target: "db-0.db.default.svc.cluster.local" }
    additional
    10-244-0-8.db.default.svc.cluster.local A(10.244.0.8)
    db-0.db.default.svc.cluster.local A(10.244.0.7)
    "#);
    insta::assert_snapshot!(ask("_http._udp.web.default.svc.cluster.local", Kind::Srv), @"no such name");
    insta::assert_snapshot!(ask("_tcp.web.default.svc.cluster.local", Kind::Srv), @"no data, soa of cluster.local");
    insta::assert_snapshot!(ask("_http._tcp.web.default.svc.cluster.local", Kind::A), @"no data, soa of cluster.local");
}

#[test]
fn addresses_have_names() {
    insta::assert_snapshot!(ask("1.1.96.10.in-addr.arpa", Kind::Ptr), @r#"1.1.96.10.in-addr.arpa Ptr("web.default.svc.cluster.local")"#);
    insta::assert_snapshot!(ask("7.0.244.10.in-addr.arpa", Kind::Ptr), @r#"7.0.244.10.in-addr.arpa Ptr("db-0.db.default.svc.cluster.local")"#);
    insta::assert_snapshot!(ask("9.9.9.9.in-addr.arpa", Kind::Ptr), @"elsewhere");
    let v6 = format!("1{}.d.f.ip6.arpa", ".0".repeat(29));
    assert!(ask(&v6, Kind::Ptr).contains("web.default.svc.cluster.local"));
}

#[test]
fn the_rest_of_the_zone() {
    insta::assert_snapshot!(ask("out.default.svc.cluster.local", Kind::A), @r#"out.default.svc.cluster.local Cname("example.com")"#);
    insta::assert_snapshot!(ask("10-1-2-3.default.pod.cluster.local", Kind::A), @"10-1-2-3.default.pod.cluster.local A(10.1.2.3)");
    insta::assert_snapshot!(ask("nonsense.default.pod.cluster.local", Kind::A), @"no such name");
    insta::assert_snapshot!(ask("10-1-2-3.nowhere.pod.cluster.local", Kind::A), @"no such name");
    insta::assert_snapshot!(ask("dns-version.cluster.local", Kind::Txt), @r#"dns-version.cluster.local Txt("1.1.0")"#);
    insta::assert_snapshot!(ask("empty.svc.cluster.local", Kind::A), @"no data, soa of cluster.local");
    insta::assert_snapshot!(ask("nowhere.svc.cluster.local", Kind::A), @"no such name");
    insta::assert_snapshot!(ask("cluster.local", Kind::Ns), @r#"
    cluster.local Ns("ns.dns.cluster.local")
    additional
    ns.dns.cluster.local A(10.96.0.10)
    "#);
    insta::assert_snapshot!(ask("example.com", Kind::A), @"elsewhere");
    insta::assert_snapshot!(ask("notcluster.local", Kind::A), @"elsewhere");
}

#[test]
fn a_deleted_service_leaves_nothing() {
    let mut zone = zone();
    zone.remove_service("default/web");
    zone.remove_service("default/db");
    zone.set_endpoints("default/db", &[] as &[std::sync::Arc<EndpointSlice>]);
    for name in ["web.default.svc.cluster.local", "db-0.db.default.svc.cluster.local"] {
        assert!(matches!(answer(&zone, name, Kind::A), Answer::NoName(_)));
    }
    for name in ["1.1.96.10.in-addr.arpa", "7.0.244.10.in-addr.arpa"] {
        assert_eq!(answer(&zone, name, Kind::Ptr), Answer::Elsewhere);
    }
}
