//! What a pod is made of, in a pod and in a template.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules and their order.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

use super::container::{Pod, containers, ephemeral_containers, init_containers};
use super::resources::{amount, requirements};
use super::selector::labels;
use super::{At, affinity, ip, security, volume};

const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;
const HOSTNAME_BYTES_MAX: usize = 64;

/// A `v1.PodSpec`; `pod` is the pod it belongs to, none in a template.
pub fn pod_spec(spec: &At, pod: Option<&Value>, errors: &mut FieldErrors) {
    let grace = spec.field("terminationGracePeriodSeconds");
    if !grace.is_set() {
        grace.required(errors, "");
    }
    let volumes = volume::volumes(&spec.field("volumes"), pod, errors);
    let claims = resource_claims(&spec.field("resourceClaims"), errors);
    let around = Pod { spec: spec.clone(), volumes, claims, grace_seconds: grace.value.as_i64() };
    containers(&around, errors);
    init_containers(&around, errors);
    ephemeral_containers(&around, errors);
    pod_resources(spec, &around.claims, errors);
    host_network(spec, pod.is_some(), errors);
    let policies = ["Always", "OnFailure", "Never"];
    spec.field("restartPolicy").required_one_of(&policies, errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    spec.field("dnsPolicy").required_one_of(&policies, errors);
    labels(&spec.field("nodeSelector"), errors);
    security::pod(&spec.field("securityContext"), spec, errors);
    if spec.field("shareProcessNamespace").flag() && spec.field("hostPID").flag() {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        spec.field("shareProcessNamespace").invalid(errors, detail);
    }
    affinity::affinity(&spec.field("affinity"), errors);
    dns_config(&spec.field("dnsConfig"), &spec.field("dnsPolicy"), errors);
    gates(spec, errors);
    affinity::spread_constraints(&spec.field("topologySpreadConstraints"), errors);
    host_users(spec, errors);
    host_name(spec, errors);
    names_of_others(spec, errors);
    affinity::tolerations(&spec.field("tolerations"), errors);
    host_aliases(&spec.field("hostAliases"), errors);
    spec.field("preemptionPolicy").optional_one_of(&["PreemptLowerPriority", "Never"], errors);
    overhead(&spec.field("overhead"), errors);
    operating_system(spec, errors);
    file_keys(spec, errors);
}

/// The pod's claims on devices, by name.
fn resource_claims<'a>(at: &At<'a>, errors: &mut FieldErrors) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for claim in at.items() {
        let name = claim.field("name");
        if name.must_be_set(errors) {
            if seen.contains(&name.text()) {
                name.duplicate(errors);
            } else {
                name.invalid_each(errors, names::dns1123_label(name.text()));
                seen.push(name.text());
            }
        }
        let references = ["resourceClaimName", "resourceClaimTemplateName"].map(|name| claim.field(name));
        let detail = match references.iter().filter(|reference| reference.is_set()).count() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        };
        if !detail.is_empty() {
            let [of, template] = &references;
            let shown = format!(
                "{{\"Name\":{},\"ResourceClaimName\":{},\"ResourceClaimTemplateName\":{}}}",
                name.value, of.value, template.value
            );
            errors.push(FieldError::invalid(&claim.path, super::shown(shown), detail));
        }
        for reference in references.iter().filter(|reference| reference.is_set()) {
            reference.invalid_each(errors, names::dns1123_subdomain(reference.text()));
        }
    }
    seen
}

/// The resources of the pod as a whole, against those of its containers.
fn pod_resources(spec: &At, claims: &[&str], errors: &mut FieldErrors) {
    let Some(resources) = spec.set("resources") else { return };
    if resources.field("claims").is_set() {
        resources.field("claims").forbidden(errors, "claims may not be set for Resources at pod-level");
    }
    requirements(&resources, true, claims, errors);
    for (name, request) in resources.field("requests").entries() {
        let asked = spec.field("containers").items();
        let asked = asked.map(|container| amount(container.fields(&["resources", "requests", name]).value));
        let sum = asked.fold(amount(&Value::Null), |sum, quantity| sum + quantity);
        if sum > amount(request.value) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(FieldError::invalid(&request.path, amount(request.value).to_string(), detail));
        }
    }
    for (index, container) in spec.field("containers").items().enumerate() {
        for (name, limit) in container.fields(&["resources", "limits"]).entries() {
            let Some(most) = resources.field("limits").set(name) else { continue };
            let (limit, most) = (amount(limit.value), amount(most.value));
            if limit > most {
                let path = resources.path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}

/// On the host's network a container's port is the host's.
fn host_network(spec: &At, is_pod: bool, errors: &mut FieldErrors) {
    if !spec.field("hostNetwork").flag() {
        return;
    }
    for port in spec.field("containers").items().flat_map(|container| container.field("ports").items()) {
        let host = port.field("hostPort");
        if (is_pod || host.int() != 0) && host.int() != port.field("containerPort").int() {
            let detail = "must match `containerPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(&host.path, host.int(), detail));
        }
    }
}

fn dns_config(at: &At, policy: &At, errors: &mut FieldErrors) {
    let [servers, searches, options] = ["nameservers", "searches", "options"].map(|name| at.field(name));
    if policy.is("None") {
        if !at.is_set() {
            return at.required(errors, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return servers.required(errors, detail);
        }
    }
    if servers.count() > NAMESERVERS_MAX {
        servers.invalid(errors, format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in servers.items() {
        ip(&server.path, server.text(), &[], errors);
    }
    if searches.count() > SEARCH_PATHS_MAX {
        searches.invalid(errors, format!("must not have more than {SEARCH_PATHS_MAX} search paths"));
    }
    if searches.texts().join(" ").len() > SEARCH_BYTES_MAX {
        let detail =
            format!("must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list");
        searches.invalid(errors, detail);
    }
    for search in searches.items().filter(|search| !search.is(".")) {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        errors.invalid_each(&search.path, name, subdomain_with_underscores(name));
    }
    for option in options.items().filter(|option| option.field("name").is_empty()) {
        option.required(errors, "must not be empty");
    }
}

/// A subdomain that may have underscores, as those of service records have.
fn subdomain_with_underscores(name: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if name.len() > names::DNS_SUBDOMAIN_MAX {
        complaints.push(format!("must be no more than {} characters", names::DNS_SUBDOMAIN_MAX));
    }
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |part: &str| {
        let bytes = part.strip_prefix('_').unwrap_or(part).as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'_'))
    };
    if !name.split('.').all(label) {
        let text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let format = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        complaints.push(names::regex_error(text, format, &["example.com"]));
    }
    complaints
}

fn gates(spec: &At, errors: &mut FieldErrors) {
    for gate in spec.field("readinessGates").items() {
        let condition = gate.field("conditionType");
        condition.invalid_each(errors, names::qualified_name(condition.text()));
    }
    let mut seen = Vec::new();
    for gate in spec.field("schedulingGates").items() {
        let name = gate.field("name").text();
        errors.invalid_each(&gate.path, name, names::qualified_name(name));
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&gate.path, name));
        }
        seen.push(name);
    }
}

/// Users of its own go with no other namespace of the host's.
fn host_users(spec: &At, errors: &mut FieldErrors) {
    if spec.field("hostUsers").value != false {
        return;
    }
    // Upstream's own spelling of the last two.
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.field(field).flag() {
            errors.push(FieldError::forbidden(&spec.path.child(shown), "when `hostUsers` is false"));
        }
    }
}

fn host_name(spec: &At, errors: &mut FieldErrors) {
    let name = spec.field("hostnameOverride");
    if !name.is_set() {
        return;
    }
    if spec.field("setHostnameAsFQDN").flag() {
        name.forbidden(errors, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.field("hostNetwork").flag() {
        name.forbidden(errors, "may not be specified when hostNetwork is true");
    }
    if name.text().len() > HOSTNAME_BYTES_MAX {
        errors.push(FieldError::too_long(&name.path, HOSTNAME_BYTES_MAX));
    }
    name.invalid_each(errors, names::dns1123_subdomain(name.text()));
}

fn names_of_others(spec: &At, errors: &mut FieldErrors) {
    let mut check = |field: &str, rule: fn(&str) -> Vec<String>| {
        let name = spec.field(field);
        if !name.is_empty() {
            name.invalid_each(errors, rule(name.text()));
        }
    };
    check("serviceAccountName", names::dns1123_subdomain);
    check("nodeName", names::dns1123_subdomain);
    check("hostname", names::dns1123_label);
    check("subdomain", names::dns1123_label);
    check("priorityClassName", names::dns1123_subdomain);
    check("runtimeClassName", names::dns1123_subdomain);
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.is_set() {
        for message in names::in_range(deadline.int(), 1, i64::from(i32::MAX)) {
            deadline.invalid(errors, message);
        }
    }
}

fn host_aliases(at: &At, errors: &mut FieldErrors) {
    for alias in at.items() {
        ip(&alias.path.child("ip"), alias.field("ip").text(), &[], errors);
        for name in alias.field("hostnames").items() {
            name.invalid_each(errors, names::dns1123_subdomain(name.text()));
        }
    }
}

fn overhead(at: &At, errors: &mut FieldErrors) {
    for (name, amount) in at.reported_at(at.path.child("limits")).entries() {
        super::resources::container_resource_name(name, &amount, errors);
        super::resources::resource_value(name, &amount, errors);
    }
}

fn operating_system(spec: &At, errors: &mut FieldErrors) {
    let Some(os) = spec.set("os") else { return };
    let name = os.field("name");
    if !name.must_be_set(errors) || !name.reported_at(os.path.clone()).one_of(&["linux", "windows"], errors) {
        return;
    }
    // The other way round, what Linux has and Windows has not, is no matter for a Linux node.
    if name.is("linux") && spec.fields(&["securityContext", "windowsOptions"]).is_set() {
        let options = spec.fields(&["securityContext", "windowsOptions"]);
        options.forbidden(errors, "windows options cannot be set for a linux pod");
    }
}

/// A variable read from a file needs a volume the pod fills itself.
fn file_keys(spec: &At, errors: &mut FieldErrors) {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists.iter().flat_map(|list| spec.field(list).items());
    for variable in containers.flat_map(|container| container.field("env").items()) {
        let Some(reference) = variable.field("valueFrom").set("fileKeyRef") else { continue };
        let name = reference.field("volumeName");
        match spec.field("volumes").items().find(|volume| volume.field("name").is(name.text())) {
            None => errors.push(FieldError::not_found(&name.path, name.text())),
            Some(volume) if !volume.field("emptyDir").is_set() => {
                name.invalid(errors, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
}
