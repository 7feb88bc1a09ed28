//! What admission webhooks share.
//!
//! `kubernetes/kubernetes pkg/apis/admissionregistration/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use crate::validate::At;
use crate::validate::expressions::{VARIABLES, match_conditions};
use crate::validate::selector::label_selector;

const TIMEOUT_SECONDS_MAX: i64 = 30;

/// One webhook of a configuration.
pub fn webhook_rules(webhook: &At, errors: &mut FieldErrors) {
    let name = webhook.field("name");
    errors.extend(names::fully_qualified_name(&name.path, name.text()));
    let versions = webhook.field("admissionReviewVersions");
    if versions.is_empty() {
        versions.required(errors, "must specify one of v1, v1beta1");
    } else if !versions.texts().iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        versions.invalid(errors, "must include at least one of v1, v1beta1");
    }
    let mut seen = Vec::new();
    for version in versions.items() {
        if seen.contains(&version.text()) {
            version.invalid(errors, "duplicate version");
        }
        version.invalid_each(errors, names::dns1035_label(version.text()));
        seen.push(version.text());
    }
    webhook.field("rules").items().for_each(|at| rule(&at, errors));
    webhook.field("failurePolicy").optional_one_of(&["Fail", "Ignore"], errors);
    webhook.field("matchPolicy").optional_one_of(&["Equivalent", "Exact"], errors);
    let effects = webhook.field("sideEffects");
    if effects.is_set() {
        effects.one_of(&["None", "NoneOnDryRun"], errors);
    } else {
        effects.required(errors, "must specify one of None, NoneOnDryRun");
    }
    webhook.field("reinvocationPolicy").optional_one_of(&["IfNeeded", "Never"], errors);
    let seconds = webhook.field("timeoutSeconds");
    if seconds.is_set() && !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds.int()) {
        seconds.invalid(errors, "the timeout value must be between 1 and 30 seconds");
    }
    label_selector(&webhook.field("namespaceSelector"), errors);
    label_selector(&webhook.field("objectSelector"), errors);
    client(&webhook.field("clientConfig"), errors);
    match_conditions(&webhook.field("matchConditions"), &VARIABLES, errors);
}

/// How a webhook is reached.
pub fn client(at: &At, errors: &mut FieldErrors) {
    match (at.set("url"), at.set("service")) {
        (Some(url), None) => webhook_url(&url, errors),
        (None, Some(service)) => {
            service.field("name").must_be_set(errors);
            service.field("namespace").must_be_set(errors);
            let port = service.field("port");
            for complaint in names::port_number(port.int()).iter().filter(|_| port.is_set()) {
                port.invalid(errors, format!("port is not valid: {complaint}"));
            }
        }
        _ => at.required(errors, "exactly one of url or service is required"),
    }
}

/// A host by HTTPS, and nothing behind the path.
/// `kubernetes/apiserver pkg/util/webhook/validation.go: ValidateWebhookURL`.
fn webhook_url(url: &At, errors: &mut FieldErrors) {
    let (rest, fragment) = url.text().split_once('#').unwrap_or((url.text(), ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let mut complain = |wrong: &str, detail: &str| errors.push(FieldError::invalid(&url.path, wrong, detail));
    if scheme != "https" {
        complain(scheme, "'https' is the only allowed URL scheme; desired format: https://host[/path]");
    }
    if host.is_empty() {
        complain(host, "host must be specified; desired format: https://host[/path]");
    }
    if let Some(user) = user {
        complain(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        complain(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        complain(query, "query parameters are not permitted in the URL");
    }
}

pub fn rule(at: &At, errors: &mut FieldErrors) {
    let operations = at.field("operations");
    operations.must_be_set(errors);
    if operations.count() > 1 && operations.texts().contains(&"*") {
        operations.invalid(errors, "if '*' is present, must not specify other operations");
    }
    for operation in operations.items() {
        operation.one_of(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"], errors);
    }
    for (name, shown) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = at.field(name);
        list.must_be_set(errors);
        if list.count() > 1 && list.texts().contains(&"*") {
            list.invalid(errors, format!("if '*' is present, must not specify other {shown}"));
        }
        if name == "apiVersions" {
            list.items().for_each(|version| {
                version.must_be_set(errors);
            });
        }
    }
    let resources = at.field("resources");
    resources.must_be_set(errors);
    resources.items().for_each(|resource| {
        resource.must_be_set(errors);
    });
    let all = resources.texts();
    if all.len() > 1 && all.contains(&"*/*") {
        resources.invalid(errors, "if '*/*' is present, must not specify other resources");
    }
    at.field("scope").optional_one_of(&["*", "Cluster", "Namespaced"], errors);
}
