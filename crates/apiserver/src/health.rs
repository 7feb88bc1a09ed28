//! `/healthz`, `/livez`, `/readyz` and `/version`.
//!
//! `kubernetes/apiserver pkg/server/healthz: the checks' lines under ?verbose, and the answer when one fails`.

use http::StatusCode;
use serde_json::{Value, json};

use crate::http::{self as wire, HttpResponse};
use crate::query::Query;
use crate::server::Inner;

/// The checks in the order they are shown.
const CHECKS: [&str; 4] = ["ping", "log", "etcd", "informer-sync"];

/// `/readyz`, `/readyz/etcd`, `?verbose`, `?exclude=etcd`.
pub async fn answer(server: &Inner, parts: &[&str], query: &Query) -> HttpResponse {
    let endpoint = parts.first().copied().unwrap_or("healthz");
    let store = server.registry.store.status().await;
    let failure = |check: &str| match (check, &store) {
        ("etcd", Err(error)) => Some(error.to_string()),
        ("etcd", Ok(status)) => status.write_error.clone(),
        _ => None,
    };
    if let Some(check) = parts.get(1) {
        return match (CHECKS.contains(check), failure(check)) {
            (false, _) => crate::dispatch::not_a_path(),
            (true, None) => wire::text(StatusCode::OK, "ok"),
            (true, Some(error)) => {
                wire::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {error}\n"))
            }
        };
    }
    let mut lines = String::new();
    let mut failed = false;
    for check in CHECKS {
        if query.all("exclude").any(|name| name == check) {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
        } else if failure(check).is_some() {
            failed = true;
            lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
        } else {
            lines.push_str(&format!("[+]{check} ok\n"));
        }
    }
    match (failed, query.get("verbose").is_some()) {
        (true, _) => wire::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n")),
        (false, true) => wire::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
        (false, false) => wire::text(StatusCode::OK, "ok"),
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
