//! What the server counts, under upstream's names.

use std::sync::Mutex;
use std::time::Duration;

use kinds::{Kind, Subresource};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::query::Query;
use crate::request_info::RequestInfo;

/// Every value is one of a few: a path that anybody may ask for must not become a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    verb: &'static str,
    dry_run: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    #[prometheus(flatten)]
    request: DurationLabels,
    code: u16,
}

/// How long the store's log takes to reach the disk, in seconds: made before the store, told by it, shown by the server.
#[derive(Clone, Debug)]
pub struct SyncTimes(Histogram);

impl SyncTimes {
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Default for SyncTimes {
    /// Buckets of `etcd server/storage/wal/metrics.go`: 1 ms, doubling, to 8 s.
    fn default() -> SyncTimes {
        SyncTimes(Histogram::new(exponential_buckets(0.001, 2.0, 14)))
    }
}

/// Request counts and durations.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    registry: Mutex<Registry>,
}

/// `kubernetes/apiserver pkg/endpoints/metrics/metrics.go: apiserver_request_duration_seconds`, seconds.
const BUCKETS: [f64; 21] =
    [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0];

impl Metrics {
    pub fn new(sync_times: Option<&SyncTimes>) -> Metrics {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::<DurationLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS.iter().copied().chain([45.0, 60.0]))
        });
        let mut registry = Registry::default();
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource and scope",
            durations.clone(),
        );
        if let Some(times) = sync_times {
            registry.register(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by the write-ahead log",
                times.0.clone(),
            );
        }
        Metrics { requests, durations, registry: Mutex::new(registry) }
    }

    /// Counts a request that has been answered; `kind` is what it was for, if that is served.
    pub fn request(&self, info: &RequestInfo, query: &Query, kind: Option<&Kind>, code: u16, took: Duration) {
        let request = labels(info, query, kind);
        self.requests.get_or_create(&RequestLabels { request: request.clone(), code }).inc();
        if request.verb != "WATCH" {
            self.durations.get_or_create(&request).observe(took.as_secs_f64());
        }
    }

    /// The text that a scraper reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

fn labels(info: &RequestInfo, query: &Query, kind: Option<&Kind>) -> DurationLabels {
    let text = |of: fn(&Kind) -> &str| kind.map(of).unwrap_or_default().to_owned();
    let subresource = kind.and_then(|kind| kind.subresources.iter().find(|known| known.name() == info.subresource));
    DurationLabels {
        verb: verb(info, subresource),
        dry_run: match query.get("dryRun") {
            None | Some("") => "",
            Some("All") => "All",
            Some(_) => "invalid",
        },
        group: text(|kind| &kind.group),
        version: text(|kind| &kind.version),
        resource: text(|kind| &kind.names.plural),
        subresource: subresource.map(Subresource::name).unwrap_or_default(),
        scope: scope(info),
        component: "apiserver",
    }
}

/// `kubernetes/apiserver pkg/endpoints/metrics/metrics.go: CleanScope`.
fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.name.is_empty() && info.verb != "create", info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    }
}

/// `kubernetes/apiserver pkg/endpoints/metrics/metrics.go: cleanVerb`.
fn verb(info: &RequestInfo, subresource: Option<&Subresource>) -> &'static str {
    if subresource.is_some_and(crate::subresources::streams) {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn what_anybody_may_write_in_a_path_becomes_no_label() {
        let metrics = Metrics::new(None);
        let ask = |method: &str, path: &str| {
            let (method, query) = (Method::from_bytes(method.as_bytes()).unwrap(), Query::parse("dryRun=x"));
            let info = RequestInfo::parse(&method, path, &query);
            let kind = kinds::by_resource(&info.group, &info.version, &info.resource);
            metrics.request(&info, &query, kind, 404, Duration::from_millis(1));
        };
        for n in 0..50 {
            ask("GET", &format!("/apis/g{n}/v{n}/r{n}/name{n}/s{n}"));
            ask("GET", &format!("/api/v1/namespaces/n{n}/pods/p{n}/s{n}"));
            ask(&format!("M{n}"), &format!("/x{n}"));
        }
        ask("GET", "/api/v1/namespaces/default/pods/p/log");
        let counted: Vec<String> = metrics
            .encode()
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
            .map(str::to_owned)
            .collect();
        assert_eq!(counted.len(), 4, "{counted:#?}");
        let log = counted.iter().find(|line| line.contains("subresource=\"log\"")).unwrap();
        assert!(log.contains("verb=\"CONNECT\"") && log.contains("resource=\"pods\""), "{log}");
        assert!(counted.iter().any(|line| line.contains("verb=\"other\"")), "{counted:#?}");
    }
}
