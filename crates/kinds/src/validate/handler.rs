//! Probes and lifecycle hooks.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use super::{At, nonnegative_fields, port};

/// Which probe it is, as the rules differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Liveness,
    Readiness,
    Startup,
}

impl Probe {
    pub const ALL: [(Probe, &'static str); 3] =
        [(Probe::Liveness, "livenessProbe"), (Probe::Readiness, "readinessProbe"), (Probe::Startup, "startupProbe")];
}

pub fn probe(at: &At, of: Probe, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    handler(at, &["exec", "httpGet", "tcpSocket", "grpc"], None, errors);
    let counts = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    nonnegative_fields(at, &counts, errors);
    let grace = at.field("terminationGracePeriodSeconds");
    if grace.is_set() && grace.int() <= 0 {
        grace.invalid(errors, "must be greater than 0");
    }
    if of == Probe::Readiness {
        if grace.is_set() {
            grace.invalid(errors, "must not be set for readinessProbes");
        }
    } else if at.field("successThreshold").int() != 1 {
        let successes = at.field("successThreshold");
        errors.push(FieldError::invalid(&successes.path, successes.int(), "must be 1"));
    }
}

/// A container's hooks.
pub fn lifecycle(at: &At, grace_seconds: Option<i64>, errors: &mut FieldErrors) {
    for name in ["postStart", "preStop"] {
        if let Some(hook) = at.set(name) {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace_seconds, errors);
        }
    }
}

fn handler(at: &At, kinds: &[&str], grace_seconds: Option<i64>, errors: &mut FieldErrors) {
    let mut handlers = kinds.iter().filter_map(|kind| Some((*kind, at.set(kind)?)));
    let Some((kind, action)) = handlers.next() else {
        return at.required(errors, "must specify a handler type");
    };
    match kind {
        "exec" => {
            action.field("command").must_be_set(errors);
        }
        "httpGet" => http_get(&action, errors),
        "tcpSocket" => port(&action.field("port"), errors),
        "grpc" => {
            port(&action.field("port"), errors);
            action.field("mode").optional_one_of(&["Plaintext", "TLS"], errors);
        }
        _ => {
            let seconds = action.field("seconds").int();
            if let Some(grace) = grace_seconds.filter(|grace| !(0..=*grace).contains(&seconds)) {
                let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.push(FieldError::invalid(&action.path, seconds, detail));
            }
        }
    }
    for (_, more) in handlers {
        more.forbidden(errors, "may not specify more than 1 handler type");
    }
}

fn http_get(at: &At, errors: &mut FieldErrors) {
    at.field("path").must_be_set(errors);
    port(&at.field("port"), errors);
    let scheme = at.field("scheme");
    scheme.one_of(&["HTTP", "HTTPS"], errors);
    for header in at.field("httpHeaders").items() {
        let name = header.field("name").text();
        errors.invalid_each(&at.path.child("httpHeaders"), name, names::http_header_name(name));
    }
    let (protocol, host) = (at.field("protocol"), at.field("host"));
    if protocol.is_set() && protocol.one_of(&["HTTP1", "HTTP2"], errors) && protocol.is("HTTP2") {
        if !scheme.is("HTTP") {
            protocol.invalid(errors, "is only supported with HTTP (H2C)");
        } else if !host.is_empty() {
            host.invalid(errors, "must be empty when `protocol` is \"HTTP2\"");
        }
    }
}
