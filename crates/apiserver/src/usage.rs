//! `metrics.k8s.io`: what nodes and pods use, read from the kubelets' `/stats/summary` when a client asks.
//!
//! Nodes are asked at the same time, each with a deadline; one that does not answer is left out, with its pods.
//! `kubernetes-sigs/metrics-server pkg/api, pkg/storage`: which pods are shown, units, and errors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kinds::Kind;
use machinery::gvk::GroupResource;
use machinery::object;
use machinery::quantity::{Format, Quantity};
use machinery::status::Status;
use serde_json::{Value, json};

use crate::cache::Object;
use crate::context::Cx;
use crate::dial;
use crate::select::Filter;
use crate::server::Inner;

/// How long a node has to answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a rate is over when the kubelet does not say: cAdvisor reads again after 10 to 20 seconds.
const WINDOW: Duration = Duration::from_secs(15);

/// The stored objects that figures are about.
fn stored(cx: &Cx, plural: &str, namespace: &str) -> Result<(&'static Kind, Vec<Arc<Object>>), Status> {
    let kind = kinds::by_resource("", "v1", plural).ok_or_else(Status::unknown_path)?;
    let cache = cx.server.caches.of(kind).ok_or_else(Status::unknown_path)?;
    Ok((kind, cache.list(namespace).0))
}

/// Everything acknowledged before is seen.
async fn catch_up(cx: &Cx) -> Result<(), Status> {
    cx.server.caches.wait_for(cx.server.registry.revision().await?).await
}

pub async fn of_nodes(cx: &Cx, filter: &Filter) -> Result<Vec<Value>, Status> {
    catch_up(cx).await?;
    let mut nodes = stored(cx, "nodes", "")?.1;
    nodes.retain(|node| filter.matches(&cx.kind, node));
    let nodes: Vec<Value> = nodes.iter().map(|node| node.value()).collect();
    let summaries = summaries(&cx.server, nodes.iter().collect()).await;
    Ok(nodes.iter().filter_map(|node| node_metrics(cx, node, summaries.get(object::name(node))?)).collect())
}

pub async fn of_node(cx: &Cx) -> Result<Value, Status> {
    let name = &cx.info.name;
    let kind = kinds::by_resource("", "v1", "nodes").ok_or_else(Status::unknown_path)?;
    let found = cx.server.registry.get(kind, "", name).await?;
    let node = found.ok_or_else(|| Status::not_found(&crate::registry::group_resource(kind), name))?.value;
    let summaries = summaries(&cx.server, vec![&node]).await;
    let metrics = summaries.get(name).and_then(|summary| node_metrics(cx, &node, summary));
    metrics.ok_or_else(|| Status::not_found(&GroupResource::new(cx.kind.group.as_ref(), "nodemetrics"), name))
}

pub async fn of_pods(cx: &Cx, filter: &Filter) -> Result<Vec<Value>, Status> {
    catch_up(cx).await?;
    let mut pods = stored(cx, "pods", &cx.info.namespace)?.1;
    pods.retain(|pod| filter.matches(&cx.kind, pod));
    let pods: Vec<Value> =
        pods.iter().map(|pod| pod.value()).filter(|pod| pod["status"]["phase"] == "Running").collect();
    pods_metrics(cx, &pods).await
}

pub async fn of_pod(cx: &Cx) -> Result<Value, Status> {
    let (namespace, name) = (&cx.info.namespace, &cx.info.name);
    let kind = kinds::by_resource("", "v1", "pods").ok_or_else(Status::unknown_path)?;
    let found = cx.server.registry.get(kind, namespace, name).await?;
    let pod = found.ok_or_else(|| Status::not_found(&crate::registry::group_resource(kind), name))?.value;
    let running = pod["status"]["phase"] == "Running";
    let metrics = if running { pods_metrics(cx, &[pod]).await?.pop() } else { None };
    let unknown = || {
        let resource = GroupResource::new(cx.kind.group.as_ref(), "podmetrics");
        Status::not_found(&resource, &format!("{namespace}/{name}"))
    };
    metrics.ok_or_else(unknown)
}

async fn pods_metrics(cx: &Cx, pods: &[Value]) -> Result<Vec<Value>, Status> {
    let wanted: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    let nodes = stored(cx, "nodes", "")?.1;
    let nodes: Vec<Value> = nodes.iter().filter(|node| wanted.contains(node.name())).map(|node| node.value()).collect();
    let summaries = summaries(&cx.server, nodes.iter().collect()).await;
    let mut by_uid: BTreeMap<&str, &Value> = BTreeMap::new();
    for pod in summaries.values().flat_map(|summary| summary["pods"].as_array().into_iter().flatten()) {
        by_uid.insert(pod["podRef"]["uid"].as_str().unwrap_or_default(), pod);
    }
    Ok(pods.iter().filter_map(|pod| pod_metrics(cx, pod, by_uid.get(object::uid(pod))?)).collect())
}

/// The summaries of the nodes that answer, by name.
async fn summaries(server: &Arc<Inner>, nodes: Vec<&Value>) -> BTreeMap<String, Value> {
    let asked = nodes.into_iter().filter(|node| !is_lost(node)).map(|node| async move {
        let name = object::name(node).to_owned();
        match tokio::time::timeout(NODE_TIMEOUT, summary(server, node)).await {
            Ok(Ok(summary)) => return Some((name, summary)),
            Ok(Err(status)) => tracing::warn!(node = %name, error = %status.message, "no figures of a node"),
            Err(_) => tracing::warn!(node = %name, "no figures of a node within {NODE_TIMEOUT:?}"),
        }
        None
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn summary(server: &Inner, node: &Value) -> Result<Value, Status> {
    let kubelet = dial::kubelet_address(node)?;
    let bytes = dial::get(server, &kubelet, "/stats/summary").await?;
    serde_json::from_slice(&bytes).map_err(Status::internal)
}

/// A node that the control plane has lost touch with is not waited for.
fn is_lost(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "Unknown")
}

fn node_metrics(cx: &Cx, node: &Value, summary: &Value) -> Option<Value> {
    let figures = &summary["node"];
    let usage = usage(figures)?;
    let (timestamp, window) = taken(figures)?;
    Some(json!({
        "kind": "NodeMetrics",
        "apiVersion": cx.kind.api_version(),
        "metadata": metadata(cx, node),
        "timestamp": timestamp,
        "window": window,
        "usage": usage,
    }))
}

/// A pod is shown when every one of its containers that runs has figures.
fn pod_metrics(cx: &Cx, pod: &Value, figures: &Value) -> Option<Value> {
    let mut containers = Vec::new();
    let mut earliest: Option<(&str, String)> = None;
    for container in figures["containers"].as_array()? {
        containers.push(json!({ "name": container["name"], "usage": usage(container)? }));
        let (timestamp, window) = taken(container)?;
        if earliest.as_ref().is_none_or(|(before, _)| timestamp < *before) {
            earliest = Some((timestamp, window));
        }
    }
    let (timestamp, window) = earliest?;
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": cx.kind.api_version(),
        "metadata": metadata(cx, pod),
        "timestamp": timestamp,
        "window": window,
        "containers": containers,
    }))
}

/// The figures bear the labels of what they are about, and were made now.
fn metadata(cx: &Cx, of: &Value) -> Value {
    let mut metadata = json!({ "name": object::name(of), "creationTimestamp": crate::strategy::seconds(cx.now) });
    for field in ["namespace", "labels"] {
        if let Some(value) = of["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    metadata
}

/// Processor time a second in nanocores, and the working set in bytes, both as quantities.
fn usage(figures: &Value) -> Option<Value> {
    let nano_cores = figures["cpu"]["usageNanoCores"].as_u64()?;
    let bytes = figures["memory"]["workingSetBytes"].as_u64()?;
    let cpu = Quantity::parse(&format!("{nano_cores}n")).ok()?;
    let memory = Quantity::new(i64::try_from(bytes).ok()?, Format::BinarySi);
    Some(json!({ "cpu": cpu.to_string(), "memory": memory.to_string() }))
}

/// When the figures were taken, and the time that their rate is over.
fn taken(figures: &Value) -> Option<(&str, String)> {
    let window = figures["cpu"]["usageWindowNanoSeconds"].as_u64().map_or(WINDOW, Duration::from_nanos);
    Some((figures["cpu"]["time"].as_str()?, go_duration(window)))
}

/// A duration to the millisecond, as Go writes one: `1m0.5s`, `15s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let minutes = if minutes == 0 { String::new() } else { format!("{minutes}m") };
    format!("{minutes}{}{dot}{fraction}s", rest / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_quantities() {
        let figures = json!({
            "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 12_345_678, "usageWindowNanoSeconds": 15_020_400_000_u64},
            "memory": {"workingSetBytes": 5000 * 1024},
        });
        assert_eq!(usage(&figures), Some(json!({"cpu": "12345678n", "memory": "5000Ki"})));
        assert_eq!(taken(&figures), Some(("2026-01-01T00:00:00Z", "15.02s".to_owned())));
        assert_eq!(usage(&json!({"cpu": {}, "memory": {"workingSetBytes": 1}})), None);
        assert_eq!(go_duration(Duration::from_millis(60_500)), "1m0.5s");
        assert_eq!(go_duration(WINDOW), "15s");
    }

    #[test]
    fn a_node_out_of_touch_is_not_asked() {
        let node = |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        assert!(is_lost(&node("Unknown")) && !is_lost(&node("False")) && !is_lost(&node("True")));
    }
}
