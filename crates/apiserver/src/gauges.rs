//! What is going on in the server now: requests in flight, events sent, objects stored, and the process itself; under
//! upstream's names. Every label has few values: a kind that is not served has none.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::Method;
use kinds::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::http::HttpResponse;
use crate::request_info::RequestInfo;
use crate::server::Inner;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlight {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LongRunning {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    group: String,
    version: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stored {
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoredOf {
    group: String,
    resource: String,
}

#[derive(Default)]
struct Process {
    cpu: Counter<f64, AtomicU64>,
    started: Gauge<f64, AtomicU64>,
    resident: Gauge,
    virtual_size: Gauge,
    open: Gauge,
    open_max: Gauge,
}

/// The figures, and the registry that shows them.
pub struct Gauges {
    in_flight: Family<InFlight, Gauge>,
    long_running: Family<LongRunning, Gauge>,
    watch_events: Family<Watched, Counter>,
    stored: Family<Stored, Gauge>,
    stored_of: Family<StoredOf, Gauge>,
    process: Process,
    registry: Mutex<Registry>,
}

/// Counts a request as long as it lives.
pub struct Present(Gauge);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Present {
    fn new(gauge: Gauge) -> Present {
        gauge.inc();
        Present(gauge)
    }

    /// Goes on counting until the answer's body has been sent.
    pub fn until_sent(self, response: HttpResponse) -> HttpResponse {
        use http_body_util::BodyExt;
        response.map(|body| {
            body.map_frame(move |frame| {
                let _present = &self;
                frame
            })
            .boxed_unsync()
        })
    }
}

impl Default for Gauges {
    fn default() -> Gauges {
        let gauges = Gauges {
            in_flight: Family::default(),
            long_running: Family::default(),
            watch_events: Family::default(),
            stored: Family::default(),
            stored_of: Family::default(),
            process: Process::default(),
            registry: Mutex::default(),
        };
        // Both are there from the start, as zeros.
        for request_kind in ["mutating", "readOnly"] {
            gauges.in_flight.get_or_create(&InFlight { request_kind }).set(0);
        }
        gauges.register();
        gauges
    }
}

impl Gauges {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(
            "apiserver_current_inflight_requests",
            "Number of requests that are being answered, by kind",
            self.in_flight.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Number of active long-running requests by verb, group, version, resource, scope and component",
            self.long_running.clone(),
        );
        registry.register("apiserver_watch_events", "Number of events sent in watches", self.watch_events.clone());
        let objects = "Number of stored objects by kind";
        registry.register("apiserver_storage_objects", objects, self.stored.clone());
        registry.register("apiserver_resource_objects", objects, self.stored_of.clone());
        let process = &self.process;
        registry.register("process_cpu_seconds", "Total user and system CPU time spent", process.cpu.clone());
        registry.register("process_start_time_seconds", "Start time since the epoch", process.started.clone());
        registry.register("process_resident_memory_bytes", "Resident memory size", process.resident.clone());
        registry.register("process_virtual_memory_bytes", "Virtual memory size", process.virtual_size.clone());
        registry.register("process_open_fds", "Number of open file descriptors", process.open.clone());
        registry.register("process_max_fds", "Maximum number of open file descriptors", process.open_max.clone());
        let version = crate::health::version();
        let labels: Vec<(String, String)> = [
            ("major", "major"),
            ("minor", "minor"),
            ("git_version", "gitVersion"),
            ("git_commit", "gitCommit"),
            ("platform", "platform"),
        ]
        .iter()
        .map(|(label, field)| ((*label).to_owned(), version[*field].as_str().unwrap_or_default().to_owned()))
        .collect();
        let build: Family<Vec<(String, String)>, Gauge> = Family::default();
        build.get_or_create(&labels).set(1);
        registry.register("kubernetes_build_info", "A constant 1 labeled by the version", build);
    }

    /// Counts a request until what is returned is dropped.
    pub fn request(&self, method: &Method, info: &RequestInfo, kind: Option<&Kind>, long: bool) -> Present {
        if !long {
            let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
            let request_kind = if reads { "readOnly" } else { "mutating" };
            return Present::new(self.in_flight.get_or_create(&InFlight { request_kind }).clone());
        }
        let text = |of: fn(&Kind) -> &str| kind.map(of).unwrap_or_default().to_owned();
        let subresources = kind.into_iter().flat_map(|kind| kind.subresources.iter());
        let subresource = subresources.map(kinds::Subresource::name).find(|name| *name == info.subresource);
        let labels = LongRunning {
            verb: if info.verb == "watch" { "WATCH" } else { "CONNECT" },
            group: text(|kind| &kind.group),
            version: text(|kind| &kind.version),
            resource: text(|kind| &kind.names.plural),
            subresource: subresource.unwrap_or_default(),
            scope: match (info.name.is_empty(), info.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
            component: "apiserver",
        };
        Present::new(self.long_running.get_or_create(&labels).clone())
    }

    /// The counter of a kind's watch events.
    pub fn watch_events(&self, kind: &Kind) -> Counter {
        let labels = Watched {
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            resource: kind.names.plural.to_string(),
        };
        self.watch_events.get_or_create(&labels).clone()
    }

    /// The text that a scraper reads, with the end mark.
    pub fn encode(&self, server: &Inner) -> String {
        self.stored.clear();
        self.stored_of.clear();
        for kind in server.catalog.load().all() {
            let Some(cache) = server.caches.of(kind).filter(|_| kind.computed.is_none()) else { continue };
            let count = i64::try_from(cache.len()).unwrap_or(i64::MAX);
            let (group, resource) = (kind.group.to_string(), kind.names.plural.to_string());
            let joined = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
            self.stored.get_or_create(&Stored { resource: joined }).set(count);
            self.stored_of.get_or_create(&StoredOf { group, resource }).set(count);
        }
        self.process.read();
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

/// A clock tick is a hundredth of a second on every Linux that is in use.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Reads the process's own files; what cannot be read keeps its value.
    fn read(&self) {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, which may hold anything, is in parentheses; utime, stime and starttime are the 14th, 15th and 22nd.
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
            .unwrap_or_default();
        if let (Some(user), Some(system), Some(start)) = (fields.get(11), fields.get(12), fields.get(19)) {
            self.cpu.inner().store(((user + system) / TICKS_PER_SECOND).to_bits(), Ordering::Relaxed);
            let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| number(&text, "btime "));
            if let Some(boot) = boot {
                self.started.set(boot as f64 + start / TICKS_PER_SECOND);
            }
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (gauge, name) in [(&self.resident, "VmRSS:"), (&self.virtual_size, "VmSize:")] {
            if let Some(kib) = number(&status, name) {
                gauge.set(kib.saturating_mul(1024));
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(limit) = number(&limits, "Max open files") {
            self.open_max.set(limit);
        }
    }
}

/// The first number after a name at the start of a line.
fn number(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let process = Process::default();
        process.read();
        assert!(process.resident.get() > 1 << 20 && process.virtual_size.get() >= process.resident.get());
        assert!(process.open.get() >= 3 && process.open_max.get() >= process.open.get());
        let age = jiff::Timestamp::now().as_second() as f64 - process.started.get();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }

    #[test]
    fn a_request_counts_while_it_lives() {
        let gauges = Gauges::default();
        let info = RequestInfo { verb: "watch".to_owned(), resource: "made-up".to_owned(), ..RequestInfo::default() };
        let of = |request_kind| gauges.in_flight.get_or_create(&InFlight { request_kind }).get();
        let present = gauges.request(&Method::POST, &info, None, false);
        assert_eq!((of("mutating"), of("readOnly")), (1, 0));
        drop(present);
        let _watch = gauges.request(&Method::GET, &info, None, true);
        assert_eq!((of("mutating"), of("readOnly")), (0, 0));
        let mut text = String::new();
        encode(&mut text, &gauges.registry.lock().unwrap()).unwrap();
        assert!(text.contains("apiserver_longrunning_requests{verb=\"WATCH\""), "{text}");
        assert!(!text.contains("made-up"), "what is asked for is no label");
    }
}
