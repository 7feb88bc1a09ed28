//! The kubelet's own figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use journal::Outcome;
use pods::worker::{ProbeKind, title};

/// Labels of `prober_probe_total`: probe type, result, container, pod, namespace, pod uid.
type Probed = [String; 6];

#[derive(Default)]
pub(crate) struct Metrics {
    probes: Mutex<BTreeMap<Probed, u64>>,
    pub(crate) started_pods: AtomicU64,
    pub(crate) started_containers: AtomicU64,
    pub(crate) start_errors: AtomicU64,
}

impl Metrics {
    pub(crate) fn probed(&self, kind: ProbeKind, outcome: &Outcome, container: &str, subject: &journal::Subject) {
        let result = match outcome {
            Outcome::Healthy => "successful",
            Outcome::Unhealthy(_) => "failed",
            Outcome::NotAsked(_) => "unknown",
        };
        let text = str::to_string;
        let key = [
            text(title(kind)),
            text(result),
            text(container),
            subject.pod.clone(),
            subject.namespace.clone(),
            subject.uid.clone(),
        ];
        *self.probes.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    /// A pod is gone; so are its series.
    pub(crate) fn forget(&self, uid: &str) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| key[5] != uid);
    }

    /// The counters in Prometheus' text form.
    pub(crate) fn render(&self, running_pods: usize, running_containers: usize) -> String {
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String cannot fail.
            write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").ok();
        };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        one("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", running_pods as u64);
        one("kubelet_running_containers", "gauge", "Number of containers currently running", running_containers as u64);
        one("kubelet_started_pods_total", "counter", "Cumulative number of pods started", of(&self.started_pods));
        let containers = of(&self.started_containers);
        one("kubelet_started_containers_total", "counter", "Cumulative number of containers started", containers);
        let errors = of(&self.start_errors);
        one(
            "kubelet_started_containers_errors_total",
            "counter",
            "Cumulative number of errors when starting containers",
            errors,
        );
        out += &self.probe_lines();
        out
    }

    /// kubernetes/kubernetes pkg/kubelet/prober/prober_manager.go: the series of `/metrics/probes`.
    pub(crate) fn probe_lines(&self) -> String {
        let mut out = String::from(
            "# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a container by result.\n\
             # TYPE prober_probe_total counter\n",
        );
        for (key, count) in self.probes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let [kind, result, container, pod, namespace, uid] = key;
            let labels = format!(
                "container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\",pod_uid=\"{uid}\",probe_type=\"{kind}\",result=\"{result}\""
            );
            writeln!(out, "prober_probe_total{{{labels}}} {count}").ok();
        }
        out
    }
}
