//! What the service proxy says of itself: health for load balancers and probes, figures for scrapers.
//!
//! kubernetes/kubernetes pkg/proxy/healthcheck/proxy_health.go: the proxy is unhealthy when a change has waited too long
//! to reach the kernel; `/healthz` also says whether new traffic should come to this node, `/livez` does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use serde_json::json;

use crate::http::{Page, not_found, page};

/// Twice upstream's `syncPeriod`.
const LATE_AFTER: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const FIGURES: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The time that stands for never.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFamily {
    ip_family: &'static str,
}

const IPV4: OfFamily = OfFamily { ip_family: "IPv4" };

#[derive(Clone, Copy, Debug, Default)]
struct Sync {
    updated: Option<Timestamp>,
    /// Since when the oldest change that the kernel does not have yet has waited.
    pending: Option<Timestamp>,
}

/// The proxy's state as others may know it.
pub(crate) struct Status {
    sync: Mutex<Sync>,
    /// The node exists, is not being deleted, and is not about to be taken away by the cluster autoscaler.
    eligible: AtomicBool,
    registry: Registry,
    healthz: Family<Code, Counter>,
    livez: Family<Code, Counter>,
    took: Family<OfFamily, Histogram>,
    last_sync: Family<OfFamily, Gauge<f64, std::sync::atomic::AtomicU64>>,
    last_queued: Family<OfFamily, Gauge<f64, std::sync::atomic::AtomicU64>>,
    failures: Family<OfFamily, Counter>,
    service_changes: Counter,
    endpoint_changes: Counter,
}

impl Status {
    pub fn new() -> Status {
        let mut registry = Registry::with_prefix("kubeproxy");
        let mut status = Status {
            sync: Mutex::default(),
            eligible: AtomicBool::new(false),
            registry: Registry::default(),
            healthz: Family::default(),
            livez: Family::default(),
            took: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            last_sync: Family::default(),
            last_queued: Family::default(),
            failures: Family::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
        };
        let rules = |name: &str| format!("sync_proxy_rules_{name}");
        registry.register("proxy_healthz", "Cumulative proxy healthz HTTP status", status.healthz.clone());
        registry.register("proxy_livez", "Cumulative proxy livez HTTP status", status.livez.clone());
        registry.register(rules("duration_seconds"), "SyncProxyRules latency in seconds", status.took.clone());
        let last = "The last time proxy rules were successfully synced";
        registry.register(rules("last_timestamp_seconds"), last, status.last_sync.clone());
        let queued = "The last time a sync of proxy rules was queued";
        registry.register(rules("last_queued_timestamp_seconds"), queued, status.last_queued.clone());
        let failures = "Cumulative proxy nftables sync failures";
        registry.register(rules("nftables_sync_failures"), failures, status.failures.clone());
        let services = "Cumulative proxy rules Service changes";
        registry.register(rules("service_changes"), services, status.service_changes.clone());
        let endpoints = "Cumulative proxy rules Endpoint changes";
        registry.register(rules("endpoint_changes"), endpoints, status.endpoint_changes.clone());
        status.registry = registry;
        status
    }

    fn sync(&self) -> MutexGuard<'_, Sync> {
        self.sync.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes have come that the kernel does not have yet.
    pub fn queued(&self, services: usize, endpoints: usize, now: Timestamp) {
        self.service_changes.inc_by(services as u64);
        self.endpoint_changes.inc_by(endpoints as u64);
        self.last_queued.get_or_create(&IPV4).set(seconds(now));
        self.sync().pending.get_or_insert(now);
    }

    /// The kernel has every change.
    pub fn updated(&self, took: Duration, now: Timestamp) {
        self.took.get_or_create(&IPV4).observe(took.as_secs_f64());
        self.last_sync.get_or_create(&IPV4).set(seconds(now));
        *self.sync() = Sync { updated: Some(now), pending: None };
    }

    pub fn failed(&self) {
        self.failures.get_or_create(&IPV4).inc();
    }

    pub fn set_eligible(&self, eligible: bool) {
        self.eligible.store(eligible, Ordering::Relaxed);
    }

    /// While it starts, and as long as no change is late.
    pub fn healthy(&self, now: Timestamp) -> bool {
        let Sync { updated, pending } = *self.sync();
        let late = pending.is_some_and(|since| now.duration_since(since).unsigned_abs() >= LATE_AFTER);
        updated.is_none() || !late
    }

    /// `/healthz` and `/livez`, open to the network.
    pub fn health_page(&self, path: &str, now: Timestamp) -> Page {
        let (healthy, updated) = (self.healthy(now), self.sync().updated);
        let eligible = match path {
            "/healthz" => Some(self.eligible.load(Ordering::Relaxed)),
            "/livez" => None,
            _ => return not_found(),
        };
        let well = healthy && eligible != Some(false);
        let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let counted = if eligible.is_some() { &self.healthz } else { &self.livez };
        counted.get_or_create(&Code { code: code.as_u16() }).inc();
        let text = |at: Option<Timestamp>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
        let mut told = json!({
            // Whoever is well is up to date, though nothing may have changed for long.
            "lastUpdated": text(if well { Some(now) } else { updated }),
            "currentTime": now.to_string(),
            "healthy": healthy,
        });
        if let Some(eligible) = eligible {
            told["nodeEligible"] = eligible.into();
        }
        if updated.is_some() {
            told["status"] = json!({"IPv4": {"lastUpdated": text(updated), "healthy": healthy}});
        }
        page(code, JSON, told.to_string())
    }

    /// `/metrics`, `/healthz` and `/proxyMode`, for this host alone.
    pub fn metrics_page(&self, path: &str) -> Page {
        match path {
            "/metrics" => {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
                    Ok(()) => page(StatusCode::OK, FIGURES, text),
                    Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
                }
            }
            "/healthz" => page(StatusCode::OK, TEXT, "ok"),
            "/proxyMode" => page(StatusCode::OK, TEXT, "nftables"),
            _ => not_found(),
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_changes_and_leaving_nodes_are_unhealthy() {
        let status = Status::new();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let code = |path: &str, seconds| status.health_page(path, at(seconds)).status().as_u16();
        assert_eq!((code("/healthz", 0), code("/livez", 0)), (503, 200), "the node is not known yet");
        status.set_eligible(true);
        status.queued(1, 0, at(0));
        assert_eq!(code("/healthz", 100), 200, "it is starting");
        status.updated(Duration::from_millis(3), at(100));
        status.queued(0, 1, at(200));
        status.queued(0, 1, at(250));
        assert_eq!([259, 260].map(|seconds| code("/healthz", seconds)), [200, 503], "since the oldest change");
        assert_eq!(code("/livez", 260), 503);
        status.failed();
        status.updated(Duration::from_millis(3), at(261));
        status.set_eligible(false);
        assert_eq!((code("/healthz", 262), code("/livez", 262), code("/other", 262)), (503, 200, 404));
        let mut figures = String::new();
        prometheus_client::encoding::text::encode(&mut figures, &status.registry).unwrap();
        for line in [
            "kubeproxy_proxy_healthz_total{code=\"503\"} 3",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 2",
            "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 2",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 261.0",
        ] {
            assert!(figures.lines().any(|l| l == line), "{line} in {figures}");
        }
    }
}
