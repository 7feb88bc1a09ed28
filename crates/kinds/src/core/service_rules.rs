//! What a Service may ask for.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go validateService`: the rules. Addresses and node ports
//! are allocated after them here and before them there, so that a missing one is no failure.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

use crate::validate::selector::labels;
use crate::validate::{self, At, ip, routable_ip, shown};

const AFFINITY_SECONDS_MAX: i64 = 86400;

pub fn validate(service: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(service).field("spec");
    let before = old.map(|old| At::root(old).field("spec"));
    if before.as_ref().is_some_and(|before| before.value == spec.value) {
        return;
    }
    let of = spec.field("type");
    let headless = spec.field("clusterIP").is("None");
    if let Some(before) = &before {
        address_stays(&spec, before, errors);
    }
    let list = spec.field("ports");
    if list.is_empty() && !headless && !of.is("ExternalName") {
        list.required(errors, "");
    }
    match of.text() {
        "LoadBalancer" | "NodePort" if headless => {
            let path = spec.field("clusterIPs").path.index(0);
            let detail = format!("may not be set to 'None' for {} services", of.text());
            errors.push(FieldError::invalid(&path, "None", detail));
        }
        "ExternalName" => external_name(&spec, errors),
        _ => {}
    }
    ports(&list, &of, errors);
    labels(&spec.field("selector"), errors);
    affinity(&spec, errors);
    if !of.is("ExternalName") {
        addresses(&spec, before.as_ref(), errors);
    }
    let known = before.as_ref().map(|before| before.field("externalIPs").texts()).unwrap_or_default();
    for address in spec.field("externalIPs").items() {
        if ip(&address.path, address.text(), &known, errors) {
            routable_ip(&address.path, address.text(), errors);
        }
    }
    of.required_one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], errors);
    load_balancer(&spec, before.as_ref(), errors);
    traffic(&spec, errors);
}

fn external_name(spec: &At, errors: &mut FieldErrors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let also = field == "clusterIPs" && !spec.field("clusterIP").is_empty();
        if !spec.field(field).is_empty() || also {
            spec.field(field).forbidden(errors, "may not be set for ExternalName services");
        }
    }
    let name = spec.field("externalName");
    let cname = name.text().strip_suffix('.').unwrap_or(name.text());
    if cname.is_empty() {
        name.required(errors, "");
    } else {
        errors.invalid_each(&name.path, cname, names::dns1123_subdomain(cname));
    }
}

fn ports(list: &At, of: &At, errors: &mut FieldErrors) {
    let (mut seen, mut node_ports, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for port in list.items() {
        let [name, number, protocol, node] = ["name", "port", "protocol", "nodePort"].map(|name| port.field(name));
        if !name.is_empty() {
            name.invalid_each(errors, names::dns1123_label(name.text()));
            if seen.contains(&name.text()) {
                name.duplicate(errors);
            }
            seen.push(name.text());
        } else if list.count() > 1 {
            name.required(errors, "");
        }
        validate::port(&number, errors);
        protocol.required_one_of(&["SCTP", "TCP", "UDP"], errors);
        validate::port(&port.field("targetPort"), errors);
        if let Some(application) = port.set("appProtocol") {
            application.invalid_each(errors, names::qualified_name(application.text()));
        }
        if !node.is_empty() {
            if of.is("ClusterIP") {
                node.forbidden(errors, "may not be used when `type` is 'ClusterIP'");
            }
            if node_ports.contains(&(protocol.text(), node.int())) {
                node.duplicate(errors);
            }
            node_ports.push((protocol.text(), node.int()));
        }
        if numbers.contains(&(protocol.text(), number.int())) {
            let text = format!(
                "{{\"Name\":\"\",\"Protocol\":{:?},\"AppProtocol\":null,\"Port\":{},\"TargetPort\":0,\"NodePort\":0}}",
                protocol.text(),
                number.int()
            );
            errors.push(FieldError::duplicate(&port.path, shown(text)));
        }
        numbers.push((protocol.text(), number.int()));
    }
}

fn affinity(spec: &At, errors: &mut FieldErrors) {
    let (of, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    of.required_one_of(&["ClientIP", "None"], errors);
    if of.is("None") && config.is_set() {
        config.forbidden(errors, "must not be set when session affinity is None");
    } else if of.is("ClientIP") {
        let seconds = config.fields(&["clientIP", "timeoutSeconds"]);
        if !seconds.is_set() {
            seconds.required(errors, "when session affinity type is ClientIP");
        } else if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds.int()) {
            seconds.invalid(errors, format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
        }
    }
}

fn addresses(spec: &At, before: Option<&At>, errors: &mut FieldErrors) {
    let (one, all) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    let renamed = before.is_some_and(|before| before.field("clusterIPs").value == all.value);
    if !one.is_empty() && !all.is_empty() && !all.texts()[..1].contains(&one.text()) && !renamed {
        all.invalid(errors, "first value must match `clusterIP`");
    }
    let mut seen = Vec::new();
    for family in spec.field("ipFamilies").items() {
        family.one_of(&["IPv4", "IPv6"], errors);
        if seen.contains(&family.text()) {
            family.duplicate(errors);
        }
        seen.push(family.text());
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    spec.field("ipFamilyPolicy").optional_one_of(&policies, errors);
    let known = before.map(|before| before.field("clusterIPs").texts()).unwrap_or_default();
    if all.is_empty() && !one.is_empty() && !one.is("None") {
        ip(&all.path.index(0), one.text(), &known, errors);
    }
    for address in all.items().filter(|address| !address.is("None")) {
        ip(&address.path, address.text(), &known, errors);
    }
    if all.count() > 1 && all.texts().contains(&"None") {
        all.invalid(errors, "'None' must be the first and only value");
    }
    if all.count() > 2 {
        all.invalid(errors, "may only hold up to 2 values");
    }
}

/// Once given, a service's address stays while it has one.
fn address_stays(spec: &At, before: &At, errors: &mut FieldErrors) {
    let external = |spec: &At| spec.field("type").is("ExternalName");
    let (now, was) = (spec.field("clusterIP"), before.field("clusterIP"));
    if external(spec) || external(before) || was.is_empty() || now.value == was.value {
        return;
    }
    let path = spec.field("clusterIPs").path.index(0);
    let all = spec.field("clusterIPs");
    if now.is_empty() {
        errors.push(FieldError::invalid(&path, all.value, "primary clusterIP can not be unset"));
    } else {
        errors.push(FieldError::invalid(&path, Value::from(vec![now.text()]), "may not change once set"));
    }
}

fn load_balancer(spec: &At, before: Option<&At>, errors: &mut FieldErrors) {
    let is_balancer = |spec: &At| spec.field("type").is("LoadBalancer");
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.field("loadBalancerSourceRanges").reported_at(spec.path.child("LoadBalancerSourceRanges"));
    if !ranges.is_empty() && !is_balancer(spec) {
        ranges.forbidden(errors, ONLY);
    }
    let known = before.map(|before| before.field("loadBalancerSourceRanges").texts()).unwrap_or_default();
    for range in ranges.items() {
        validate::cidr(&range.path, range.text().trim(), &known, errors);
    }
    let (allocate, class) = (spec.field("allocateLoadBalancerNodePorts"), spec.field("loadBalancerClass"));
    if allocate.is_set() && !is_balancer(spec) {
        allocate.forbidden(errors, ONLY);
    }
    if let Some(before) = before.filter(|before| is_balancer(before) && is_balancer(spec))
        && before.field("loadBalancerClass").value != class.value
    {
        class.invalid(errors, "may not change once set");
    }
    if class.is_set() && is_balancer(spec) {
        class.invalid_each(errors, names::qualified_name(class.text()));
    } else if class.is_set() {
        class.forbidden(errors, ONLY);
    }
}

fn traffic(spec: &At, errors: &mut FieldErrors) {
    let of = spec.field("type");
    let (external, check) = (spec.field("externalTrafficPolicy"), spec.field("healthCheckNodePort"));
    let by_address = of.is("ClusterIP") && !spec.field("externalIPs").is_empty();
    if of.is("NodePort") || of.is("LoadBalancer") || by_address {
        external.required_one_of(&["Cluster", "Local"], errors);
    } else if !external.is_empty() {
        external.invalid(errors, "may only be set for externally-accessible services");
    }
    let checked = of.is("LoadBalancer") && external.is("Local");
    if !checked && !check.is_empty() {
        check.invalid(errors, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    } else if !check.is_empty() {
        validate::port(&check, errors);
    }
    let internal = spec.field("internalTrafficPolicy");
    internal.optional_one_of(&["Cluster", "Local"], errors);
    if !internal.is_set() && ["ClusterIP", "NodePort", "LoadBalancer"].contains(&of.text()) {
        internal.required(errors, "");
    }
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.field("trafficDistribution").optional_one_of(&distributions, errors);
}
