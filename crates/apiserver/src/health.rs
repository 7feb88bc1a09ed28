//! `/healthz`, `/livez`, `/readyz` and `/version`.
//!
//! `kubernetes/apiserver pkg/server/healthz`: the checks' lines under ?verbose, and the answer when one fails. A start
//! hook is named as upstream's that does the same.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use crate::http::{self as wire, HttpResponse};
use crate::query::Query;
use crate::server::Inner;

/// What is done once at the start, in order, and counts as unhealthy until it is.
pub mod hook {
    pub const CUSTOM_RESOURCES: &str = "poststarthook/crd-informer-synced";
    pub const SYSTEM_NAMESPACES: &str = "poststarthook/start-system-namespaces-controller";
    pub const PRIORITY_CLASSES: &str = "poststarthook/scheduling/bootstrap-system-priority-classes";
    pub const SERVICE_CIDR: &str = "poststarthook/start-kubernetes-service-cidr-controller";
    pub const ROLES: &str = "poststarthook/rbac/bootstrap-roles";
    pub const KUBERNETES_SERVICE: &str = "poststarthook/bootstrap-controller";
}

const HOOKS: [&str; 6] = [
    hook::CUSTOM_RESOURCES,
    hook::SYSTEM_NAMESPACES,
    hook::PRIORITY_CLASSES,
    hook::SERVICE_CIDR,
    hook::ROLES,
    hook::KUBERNETES_SERVICE,
];

/// `kubernetes/apiserver pkg/server/healthz/healthz.go: how long the log may stand still`.
const LOG_STALLED: Duration = Duration::from_secs(120);
const LOG_EVERY: Duration = Duration::from_secs(60);

/// `kubernetes/apiserver pkg/storage/storagebackend/config.go: DefaultHealthcheckTimeout`.
const STORE_MAX: Duration = Duration::from_secs(2);

/// What the checks look at.
pub struct Health {
    done: Mutex<BTreeSet<&'static str>>,
    /// When the log was last seen to take output.
    logged: Arc<Mutex<Instant>>,
}

impl Health {
    pub fn new() -> Health {
        Health { done: Mutex::default(), logged: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Notes that a start hook is through.
    pub fn done(&self, hook: &'static str) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(hook);
    }

    /// Watches the log (standard error), which a reader that has stopped reading blocks, until the server is gone.
    pub fn watch_log(&self) -> std::io::Result<()> {
        let logged = Arc::downgrade(&self.logged);
        let watch = move || {
            while let Some(logged) = logged.upgrade() {
                // Whoever is stuck writing holds the lock.
                if std::io::stderr().lock().flush().is_ok() {
                    *logged.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
                drop(logged);
                std::thread::sleep(LOG_EVERY);
            }
        };
        std::thread::Builder::new().name("log-health".to_owned()).spawn(watch).map(drop)
    }
}

/// The checks of an endpoint, in the order they are shown.
fn checks(endpoint: &str) -> Vec<&'static str> {
    let ready = endpoint == "readyz";
    let storage: &[&str] = if ready { &["etcd-readiness", "informer-sync"] } else { &[] };
    let end: &[&str] = if ready { &["shutdown"] } else { &[] };
    ["ping", "log", "etcd"].iter().chain(storage).chain(&HOOKS).chain(end).copied().collect()
}

/// The paths there are, for the index at `/`.
pub fn paths() -> impl Iterator<Item = String> {
    ["healthz", "livez", "readyz"].into_iter().flat_map(|endpoint| {
        let checks = checks(endpoint).into_iter().map(move |check| format!("/{endpoint}/{check}"));
        std::iter::once(format!("/{endpoint}")).chain(checks)
    })
}

/// What the store answers, unless it takes too long.
async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| format!("the store gave no answer within {} s", STORE_MAX.as_secs());
    tokio::time::timeout(STORE_MAX, answer).await.map_err(late)
}

/// Why a check fails; `None` when it does not.
async fn failure(server: &Inner, check: &str) -> Option<String> {
    match check {
        "log" => {
            let logged = *server.health.logged.lock().unwrap_or_else(PoisonError::into_inner);
            (logged.elapsed() >= LOG_STALLED).then(|| "logging blocked".to_owned())
        }
        "etcd" | "etcd-readiness" => match in_time(server.registry.store.status()).await {
            Ok(Ok(status)) => status.write_error,
            Ok(Err(error)) => Some(error.to_string()),
            Err(late) => Some(late),
        },
        "informer-sync" => match in_time(server.registry.revision()).await {
            Ok(Ok(revision)) => server.caches.wait_for(revision).await.err().map(|status| status.message),
            Ok(Err(status)) => Some(status.message),
            Err(late) => Some(late),
        },
        "shutdown" => server.stopping().is_cancelled().then(|| "process is shutting down".to_owned()),
        hook if HOOKS.contains(&hook) => {
            let done = server.health.done.lock().unwrap_or_else(PoisonError::into_inner).contains(hook);
            (!done).then(|| "not finished".to_owned())
        }
        _ => None,
    }
}

/// `/readyz`, `/readyz/etcd`, `?verbose`, `?exclude=etcd`.
pub async fn answer(server: &Inner, parts: &[&str], query: &Query) -> HttpResponse {
    let endpoint = parts.first().copied().unwrap_or("healthz");
    let checks = checks(endpoint);
    if parts.len() > 1 {
        let check = parts[1..].join("/");
        if !checks.contains(&check.as_str()) {
            return crate::dispatch::not_a_path();
        }
        return match failure(server, &check).await {
            None => wire::text(StatusCode::OK, "ok"),
            Some(error) => wire::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {error}\n")),
        };
    }
    let mut lines = String::new();
    let mut failed = Vec::new();
    for check in &checks {
        if query.all("exclude").any(|name| name == *check) {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
        } else if let Some(error) = failure(server, check).await {
            failed.push(format!("{check}: {error}"));
            lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
        } else {
            lines.push_str(&format!("[+]{check} ok\n"));
        }
    }
    let unknown: Vec<String> =
        query.all("exclude").filter(|name| !checks.contains(name)).map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    match (failed.is_empty(), query.get("verbose").is_some()) {
        (false, _) => {
            // Whoever asks may be anybody; why it failed is for the log.
            tracing::warn!(endpoint, failed = failed.join("; "), "health check failed");
            wire::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
        }
        (true, true) => wire::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
        (true, false) => wire::text(StatusCode::OK, "ok"),
    }
}

/// `/version`. Clients parse `gitVersion` as a semantic version.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": "v1.37.2+windlass",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

/// The architecture in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
