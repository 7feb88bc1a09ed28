//! The API's plain answers: pods, configuration, figures.

use std::fmt::Write as _;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Body, answer, summary, text};
use crate::host::Host;

const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

fn as_json(value: &Value) -> Response<Body> {
    answer(StatusCode::OK, JSON, value.to_string())
}

/// `/pods`, or `/runningpods/` with what runs only.
pub(super) fn pods(host: &Host, running: bool) -> Response<Body> {
    let pods: Vec<_> = host.pods().values().cloned().collect();
    let mut items = Vec::new();
    for known in pods {
        let phase = known.status.as_ref().and_then(|status| status.phase.as_deref());
        if running && phase != Some("Running") {
            continue;
        }
        let mut pod = (*known.pod).clone();
        pod.status = known.status.map(|status| (*status).clone());
        match serde_json::to_value(&pod) {
            Ok(mut value) => {
                // Items of a list carry no kind of their own.
                if let Some(object) = value.as_object_mut() {
                    object.remove("apiVersion");
                    object.remove("kind");
                }
                items.push(value);
            }
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
    as_json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

pub(super) fn configz(host: &Host) -> Response<Body> {
    let config = &host.config;
    let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
    as_json(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "staticPodPath": config.static_pod_dir, "port": config.listen.map(|listen| listen.port()),
        "clusterDomain": config.cluster_domain, "clusterDNS": dns, "maxPods": config.max_pods,
        "authentication": {"x509": {"clientCAFile": config.client_ca_file}, "webhook": {"enabled": true}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook"},
        "imageGCHighThresholdPercent": config.image_gc_high_percent, "imageGCLowThresholdPercent": config.image_gc_low_percent,
        "containerLogMaxSize": format!("{}Mi", config.log_max_bytes >> 20), "containerLogMaxFiles": config.log_max_files,
        "evictionHard": {"imagefs.available": "15%", "memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%"},
        "nodeStatusReportFrequency": "5m0s", "nodeLeaseDurationSeconds": 40, "resolvConf": config.resolv_conf,
    }}))
}

pub(super) async fn summary(host: &Host) -> Response<Body> {
    match summary::summary(host).await {
        Ok(value) => as_json(&value),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

pub(super) fn metrics(host: &Host) -> Response<Body> {
    let pods = host.pods();
    let statuses = pods.values().filter_map(|known| known.status.as_ref());
    let running = statuses.flat_map(|status| status.container_statuses.iter().flatten());
    let running = running.filter(|c| c.state.as_ref().is_some_and(|state| state.running.is_some())).count();
    let count = pods.len();
    drop(pods);
    answer(StatusCode::OK, PROMETHEUS, host.metrics.render(count, running))
}

pub(super) fn probe_metrics(host: &Host) -> Response<Body> {
    answer(StatusCode::OK, PROMETHEUS, host.metrics.probe_lines())
}

/// One series in Prometheus' text form.
struct Series {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    lines: String,
}

impl Series {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Series {
        Series { name, kind, help, lines: String::new() }
    }

    fn add(&mut self, labels: &str, value: f64) {
        // Writing to a String cannot fail.
        writeln!(self.lines, "{}{labels} {value}", self.name).ok();
    }

    fn render(&self) -> String {
        format!("# HELP {} {}\n# TYPE {} {}\n{}", self.name, self.help, self.name, self.kind, self.lines)
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// kubernetes/kubernetes pkg/kubelet/metrics/collectors/resource_metrics.go: what metrics-server reads.
pub(super) async fn resource_metrics(host: &Host) -> Response<Body> {
    let pods = match summary::read(host).await {
        Ok(pods) => pods,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let mut cpu = Series::new(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    );
    let mut memory = Series::new(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
    );
    let mut start = Series::new(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    let mut pod_cpu = Series::new(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
    );
    let mut pod_memory =
        Series::new("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes");
    for pod in &pods {
        let meta = &pod.known.pod.metadata;
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (part(&meta.namespace), part(&meta.name));
        let (mut cpu_ns, mut working) = (0, 0);
        for (id, stats) in &pod.containers {
            let labels = format!("{{container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"}}", id.name);
            cpu.add(&labels, seconds(stats.cpu_usage_core_ns));
            memory.add(&labels, stats.memory_working_set_bytes as f64);
            if let Some(at) = summary::running_since(pod, &id.name) {
                start.add(&labels, at.as_second() as f64);
            }
            cpu_ns += stats.cpu_usage_core_ns;
            working += stats.memory_working_set_bytes;
        }
        let labels = format!("{{namespace=\"{namespace}\",pod=\"{name}\"}}");
        pod_cpu.add(&labels, seconds(cpu_ns));
        pod_memory.add(&labels, working as f64);
    }
    let mut node_cpu = Series::new(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    node_cpu.add("", seconds(summary::node_cpu_ns()));
    let mut node_memory =
        Series::new("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes");
    node_memory.add("", summary::node_working_set() as f64);
    let mut error = Series::new(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    error.add("", 0.0);
    let all = [cpu, memory, start, node_cpu, node_memory, pod_cpu, pod_memory, error];
    answer(StatusCode::OK, PROMETHEUS, all.iter().map(Series::render).collect::<String>())
}

/// The few of cAdvisor's series that dashboards live on.
pub(super) async fn cadvisor_metrics(host: &Host) -> Response<Body> {
    let pods = match summary::read(host).await {
        Ok(pods) => pods,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error),
    };
    let mut cpu =
        Series::new("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.");
    let mut usage = Series::new(
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    );
    let mut working = Series::new("container_memory_working_set_bytes", "gauge", "Current working set in bytes.");
    let mut rss = Series::new("container_memory_rss", "gauge", "Size of RSS in bytes.");
    let mut processes =
        Series::new("container_processes", "gauge", "Number of processes running inside the container.");
    for pod in &pods {
        let meta = &pod.known.pod.metadata;
        let part = |field: &Option<String>| field.clone().unwrap_or_default();
        for (id, stats) in &pod.containers {
            let labels = format!(
                "{{container=\"{}\",id=\"/kubepods/pod{}/{}\",namespace=\"{}\",pod=\"{}\"}}",
                id.name,
                id.pod_uid,
                id.name,
                part(&meta.namespace),
                part(&meta.name)
            );
            cpu.add(&labels, seconds(stats.cpu_usage_core_ns));
            usage.add(&labels, stats.memory_usage_bytes as f64);
            working.add(&labels, stats.memory_working_set_bytes as f64);
            rss.add(&labels, stats.memory_rss_bytes as f64);
            processes.add(&labels, stats.pids as f64);
        }
    }
    let mut cores = Series::new("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    cores.add("", f64::from(host.machine.cpus));
    let mut memory = Series::new("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    memory.add("", host.machine.memory_bytes as f64);
    let all = [cpu, usage, working, rss, processes, cores, memory];
    answer(StatusCode::OK, PROMETHEUS, all.iter().map(Series::render).collect::<String>())
}
