//! Scenarios: clusters and pods in, upstream's words out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

use crate::testing::{at, cluster, gone, node, pod, set, step};
use crate::{Change, ClusterEvent};

fn plain(name: &str, cpu: &str) -> ClusterEvent {
    node(name, cpu, "8Gi", json!({ "kubernetes.io/hostname": name }), json!({}))
}

fn on(pod: &Arc<Pod>, node: &str) -> ClusterEvent {
    let mut pod = Pod::clone(pod);
    pod.spec.as_mut().unwrap().node_name = Some(node.to_string());
    ClusterEvent::Pod(Change::Set(Arc::new(pod)))
}

const NO_VICTIMS: &str = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
const NO_HELP: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

fn one_pod(node: ClusterEvent, more: serde_json::Value) -> String {
    let mut cluster = cluster(vec![node, set(&pod("a", "1", more))]);
    step(&mut cluster, at(1))
}

#[test]
fn nothing_to_schedule_on() {
    let mut cluster = cluster(vec![set(&pod("a", "1", json!({})))]);
    assert_eq!(step(&mut cluster, at(1)), "a: no nodes available to schedule pods");
    cluster.on_event(&plain("n1", "4"), at(2));
    assert_eq!(step(&mut cluster, at(3)), "a -> n1");
}

#[test]
fn too_little_cpu_whoever_goes() {
    let refused = one_pod(plain("n1", "500m"), json!({}));
    assert_eq!(refused, format!("a: 0/1 nodes are available: 1 Insufficient cpu. {NO_HELP}"));
}

#[test]
fn too_little_cpu_is_left_then_a_pod_goes() {
    let first = pod("first", "3", json!({}));
    let mut cluster = cluster(vec![plain("n1", "4"), set(&first)]);
    assert_eq!(step(&mut cluster, at(1)), "first -> n1");
    cluster.on_event(&on(&first, "n1"), at(2));
    cluster.on_event(&set(&pod("second", "2", json!({}))), at(3));
    let refused = format!("second: 0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIMS}");
    assert_eq!(step(&mut cluster, at(3)), refused);
    // A heartbeat of the node does not help, time alone neither.
    cluster.on_event(&plain("n1", "4"), at(60));
    assert_eq!(step(&mut cluster, at(60)), "nothing to do");
    cluster.on_event(&gone(&first), at(61));
    assert_eq!(step(&mut cluster, at(61)), "second -> n1");
}

#[test]
fn cordoned_tainted_and_elsewhere() {
    let cordoned = node("n1", "4", "8Gi", json!({}), json!({ "unschedulable": true }));
    assert_eq!(
        one_pod(cordoned, json!({})),
        format!("a: 0/1 nodes are available: 1 node(s) were unschedulable. {NO_HELP}")
    );
    let tainted = json!({ "taints": [{ "key": "dedicated", "value": "db", "effect": "NoSchedule" }] });
    let tainted = node("n1", "4", "8Gi", json!({}), tainted);
    let refused = format!("a: 0/1 nodes are available: 1 node(s) had untolerated taint(s). {NO_HELP}");
    assert_eq!(one_pod(tainted.clone(), json!({})), refused);
    let tolerant = json!({ "tolerations": [{ "key": "dedicated", "operator": "Exists" }] });
    assert_eq!(one_pod(tainted, tolerant), "a -> n1");
    let refused = format!("a: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {NO_HELP}");
    assert_eq!(one_pod(plain("n1", "4"), json!({ "nodeSelector": { "disk": "ssd" } })), refused);
}

#[test]
fn reasons_are_counted_over_nodes() {
    let tainted = json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] });
    let mut cluster = cluster(vec![
        plain("n1", "500m"),
        plain("n2", "500m"),
        node("n3", "4", "8Gi", json!({}), tainted),
        set(&pod("a", "1", json!({}))),
    ]);
    let refused = "a: 0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
                   preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(step(&mut cluster, at(1)), refused);
}

#[test]
fn affinity_to_a_node_by_name() {
    let by_name = |name: &str| {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [name] });
        let required = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } } })
    };
    let daemon = |name: &str| set(&pod("d", "1", by_name(name)));
    let mut cluster = cluster(vec![plain("n1", "4"), plain("n2", "4"), plain("n3", "500m"), daemon("n2")]);
    assert_eq!(step(&mut cluster, at(1)), "d -> n2");
    cluster.on_event(&set(&pod("e", "1", by_name("n3"))), at(1));
    let refused = "e: 0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
                   preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(step(&mut cluster, at(1)), refused);
}

#[test]
fn the_emptier_node_is_preferred() {
    let busy = pod("busy", "2", json!({}));
    let mut cluster =
        cluster(vec![plain("n1", "4"), plain("n2", "4"), on(&busy, "n1"), set(&pod("a", "1", json!({})))]);
    assert_eq!(step(&mut cluster, at(1)), "a -> n2");
}

#[test]
fn higher_priority_goes_first_and_then_who_waited_longer() {
    let mut cluster = cluster(vec![plain("n1", "8")]);
    cluster.on_event(&set(&pod("late", "1", json!({}))), at(2));
    cluster.on_event(&set(&pod("early", "1", json!({}))), at(1));
    cluster.on_event(&set(&pod("urgent", "1", json!({ "priority": 10 }))), at(3));
    let order: Vec<String> = (0..4).map(|_| step(&mut cluster, at(4))).collect();
    assert_eq!(order, ["urgent -> n1", "early -> n1", "late -> n1", "nothing to do"]);
}

#[test]
fn host_ports_meet() {
    let with_port = |name: &str| {
        let container = json!({ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 8080 }] });
        set(&pod(name, "1", json!({ "containers": [container] })))
    };
    let mut cluster = cluster(vec![plain("n1", "8"), with_port("a")]);
    assert_eq!(step(&mut cluster, at(1)), "a -> n1");
    cluster.on_event(&with_port("b"), at(1));
    let words = "node(s) didn't have free ports for the requested pod ports";
    assert_eq!(step(&mut cluster, at(1)), format!("b: 0/1 nodes are available: 1 {words}. {NO_VICTIMS}"));
}

#[test]
fn a_missing_claim_and_then_it_is_there() {
    let volume = json!({ "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "x" } }] });
    let mut cluster = cluster(vec![plain("n1", "4"), set(&pod("a", "1", volume))]);
    let refused = format!("a: 0/1 nodes are available: persistentvolumeclaim \"x\" not found. {NO_HELP}");
    assert_eq!(step(&mut cluster, at(1)), refused);
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({ "metadata": { "name": "x", "namespace": "default" }, "spec": {} })).unwrap();
    cluster.on_event(&ClusterEvent::Claim(Change::Set(Arc::new(claim))), at(9));
    let refused = format!("a: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. {NO_HELP}");
    assert_eq!(step(&mut cluster, at(9)), refused);
}

#[test]
fn gated_pods_wait_for_their_gates() {
    let gated = pod("a", "1", json!({ "schedulingGates": [{ "name": "example.com/wait" }] }));
    let mut cluster = cluster(vec![plain("n1", "4"), set(&gated)]);
    assert_eq!(step(&mut cluster, at(1)), "nothing to do");
    assert_eq!(cluster.pending(), [0, 0, 0, 1]);
    cluster.on_event(&set(&pod("a", "1", json!({}))), at(2));
    assert_eq!(step(&mut cluster, at(2)), "a -> n1");
}

#[test]
fn victims_are_the_least_important_that_suffice() {
    let low = |name: &str, cpu: &str, priority: i32| on(&pod(name, cpu, json!({ "priority": priority })), "n1");
    let mut cluster = cluster(vec![
        plain("n1", "4"),
        low("one", "1", 1),
        low("two", "1", 2),
        low("three", "2", 3),
        set(&pod("boss", "2", json!({ "priority": 100 }))),
    ]);
    let refused = "boss: 0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on \
                   node n1, preempting 2 victims nominated n1, victims [\"two\", \"one\"]";
    assert_eq!(step(&mut cluster, at(1)), refused);
    cluster.on_event(&gone(&pod("one", "1", json!({}))), at(2));
    cluster.on_event(&gone(&pod("two", "1", json!({}))), at(2));
    cluster.on_event(&set(&pod("sneaky", "1", json!({}))), at(2));
    assert_eq!(step(&mut cluster, at(2)), "boss -> n1");
    assert_eq!(step(&mut cluster, at(2)), format!("sneaky: 0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIMS}"));
}

#[test]
fn room_that_is_being_made_is_not_for_lower_priority() {
    let low = on(&pod("low", "3", json!({})), "n1");
    let mut cluster = cluster(vec![plain("n1", "4"), low, set(&pod("boss", "4", json!({ "priority": 100 })))]);
    assert!(step(&mut cluster, at(1)).contains("nominated n1"));
    // One CPU is free, but the boss will need it.
    cluster.on_event(&set(&pod("sneaky", "1", json!({}))), at(1));
    assert_eq!(step(&mut cluster, at(1)), format!("sneaky: 0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIMS}"));
}

#[test]
fn never_preempt() {
    let mut cluster = cluster(vec![plain("n1", "4"), on(&pod("low", "3", json!({})), "n1")]);
    let polite = json!({ "priority": 100, "preemptionPolicy": "Never" });
    cluster.on_event(&set(&pod("polite", "2", polite)), at(1));
    let refused =
        "polite: 0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.";
    assert_eq!(step(&mut cluster, at(1)), refused);
}

#[test]
fn spread_over_hosts() {
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {},
    }] });
    let mut cluster = cluster(vec![plain("n1", "8"), plain("n2", "2")]);
    for (name, second) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        cluster.on_event(&set(&pod(name, "1500m", spread.clone())), at(second));
    }
    let placed: Vec<String> = (0..3).map(|_| step(&mut cluster, at(5))).collect();
    assert_eq!(placed, ["a -> n1", "b -> n2", "c -> n1"]);
    let refused = "d: 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints. \
                   preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(step(&mut cluster, at(5)), refused);
}

#[test]
fn apart_from_and_together_with_other_pods() {
    let term = |app: &str| {
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": "kubernetes.io/hostname",
        }] })
    };
    let hermit = json!({ "affinity": { "podAntiAffinity": term("web") } });
    let friend = json!({ "affinity": { "podAffinity": term("web") } });
    let mut cluster = cluster(vec![plain("n1", "8"), on(&pod("web", "1", json!({})), "n1")]);
    cluster.on_event(&set(&pod("hermit", "1", hermit)), at(1));
    let refused =
        format!("hermit: 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. {NO_VICTIMS}");
    assert_eq!(step(&mut cluster, at(1)), refused);
    cluster.on_event(&plain("n2", "8"), at(2));
    cluster.on_event(&set(&pod("friend", "1", friend.clone())), at(3));
    assert_eq!(step(&mut cluster, at(3)), "hermit -> n2");
    assert_eq!(step(&mut cluster, at(3)), "friend -> n1");
    let lonely = json!({ "affinity": { "podAffinity": term("nobody") } });
    cluster.on_event(&set(&pod("lonely", "1", lonely)), at(4));
    let refused = "lonely: 0/2 nodes are available: 2 node(s) didn't match pod affinity rules. \
                   preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    assert_eq!(step(&mut cluster, at(4)), refused);
}

#[test]
fn a_failed_binding_frees_the_room_and_waits() {
    let first = pod("a", "3", json!({}));
    let mut cluster = cluster(vec![plain("n1", "4"), set(&first)]);
    let taken = cluster.next(at(1)).unwrap();
    cluster.assume(&taken, "n1");
    cluster.bind_failed(&taken.key, at(1));
    assert_eq!(step(&mut cluster, at(1)), "nothing to do");
    assert!(cluster.next_wake().unwrap() > at(1));
    assert_eq!(step(&mut cluster, at(3)), "a -> n1");
}

/// A node with an image of so many megabytes.
fn with_image(name: &str, image: &str, megabytes: i64, spec: serde_json::Value) -> ClusterEvent {
    let ClusterEvent::Node(Change::Set(plain)) =
        node(name, "4", "8Gi", json!({ "kubernetes.io/hostname": name }), spec)
    else {
        panic!("no node");
    };
    let mut node = plain.as_ref().clone();
    let images = json!([{ "names": [image], "sizeBytes": megabytes * 1024 * 1024 }]);
    node.status.as_mut().unwrap().images = serde_json::from_value(images).unwrap();
    ClusterEvent::Node(Change::Set(Arc::new(node)))
}

#[test]
fn the_node_that_has_the_image_is_preferred() {
    for (has, lacks) in [("n1", "n2"), ("n2", "n1")] {
        // An image without a tag is the one tagged latest.
        let there = with_image(has, "i:latest", 900, json!({}));
        let mut cluster =
            cluster(vec![there, with_image(lacks, "other:latest", 900, json!({})), set(&pod("a", "1", json!({})))]);
        assert_eq!(step(&mut cluster, at(1)), format!("a -> {has}"));
    }
}

#[test]
fn an_image_too_small_to_matter_decides_nothing() {
    let nodes =
        |image: &str| vec![with_image("n1", image, 20, json!({})), with_image("n2", "other:latest", 20, json!({}))];
    let chosen = |nodes: Vec<ClusterEvent>| {
        let mut cluster = cluster(nodes);
        cluster.on_event(&set(&pod("a", "1", json!({}))), at(0));
        step(&mut cluster, at(1))
    };
    assert_eq!(chosen(nodes("i:latest")), chosen(nodes("another:latest")));
}

/// kubernetes/kubernetes pkg/scheduler/apis/config/v1/default_plugins.go: images count once, preferred affinity twice,
/// taints three times.
#[test]
fn taints_outweigh_affinity_and_affinity_outweighs_images() {
    let affinity = json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 1, "preference": { "matchExpressions": [
            { "key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"] } ] } } ] } } });
    let chosen = |taint: bool| {
        let taints = json!({ "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] });
        let second = with_image("n2", "other:latest", 900, if taint { taints } else { json!({}) });
        let wanting = set(&pod("a", "1", affinity.clone()));
        let mut cluster = cluster(vec![with_image("n1", "i:latest", 2000, json!({})), second, wanting]);
        step(&mut cluster, at(1))
    };
    assert_eq!(chosen(false), "a -> n2");
    assert_eq!(chosen(true), "a -> n1");
}

#[test]
fn after_five_minutes_a_refused_pod_is_tried_again_though_nothing_happened() {
    let mut cluster = cluster(vec![plain("n1", "500m"), set(&pod("a", "1", json!({})))]);
    let refused = format!("a: 0/1 nodes are available: 1 Insufficient cpu. {NO_HELP}");
    assert_eq!(step(&mut cluster, at(1)), refused);
    assert_eq!(step(&mut cluster, at(300)), "nothing to do");
    assert_eq!(cluster.next_wake(), Some(at(301)));
    assert_eq!(step(&mut cluster, at(301)), refused);
    assert_eq!(step(&mut cluster, at(302)), "nothing to do");
}
