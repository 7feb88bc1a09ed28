//! Containers of a pod: the ordinary ones, those that run before, and those added to look around.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

use super::handler::{Probe, lifecycle, probe};
use super::{At, env, resources, security, volume};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const NOT_FOR_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const NOT_FOR_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// What the rules of a container need to know of its pod.
pub struct Pod<'a> {
    pub spec: At<'a>,
    pub volumes: Vec<(&'a str, &'a Value)>,
    pub claims: Vec<&'a str>,
    pub grace_seconds: Option<i64>,
}

impl Pod<'_> {
    fn host_users(&self) -> bool {
        self.spec.field("hostUsers").value != false
    }
}

pub fn containers(pod: &Pod, errors: &mut FieldErrors) {
    let list = pod.spec.field("containers");
    if !list.must_be_set(errors) {
        return;
    }
    let mut seen = Vec::new();
    for container in list.items() {
        common(&container, pod, errors);
        unique_name(&container, &mut seen, errors);
        if let Some(hooks) = container.set("lifecycle") {
            lifecycle(&hooks, pod.grace_seconds, errors);
        }
        for (of, name) in Probe::ALL {
            probe(&container.field(name), of, errors);
        }
        restart_policy(&container, errors);
    }
    host_ports(&list.items().collect::<Vec<_>>(), errors);
}

pub fn init_containers(pod: &Pod, errors: &mut FieldErrors) {
    let mut seen: Vec<&str> = pod.spec.field("containers").items().map(|other| other.field("name").text()).collect();
    for container in pod.spec.field("initContainers").items() {
        common(&container, pod, errors);
        restart_policy(&container, errors);
        unique_name(&container, &mut seen, errors);
        host_ports(std::slice::from_ref(&container), errors);
        let sidecar = container.field("restartPolicy").is("Always");
        let hooks = container.field("lifecycle");
        if !sidecar {
            for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if let Some(wrong) = container.set(name) {
                    wrong.forbidden(errors, NOT_FOR_INIT);
                }
            }
            for policy in container.field("resizePolicy").items() {
                let restart = policy.field("restartPolicy");
                if restart.is("RestartContainer") {
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    restart.invalid(errors, detail);
                }
            }
            continue;
        }
        if hooks.is_set() {
            lifecycle(&hooks, pod.grace_seconds, errors);
        }
        for (of, name) in Probe::ALL {
            probe(&container.field(name), of, errors);
        }
    }
}

pub fn ephemeral_containers(pod: &Pod, errors: &mut FieldErrors) {
    let names_of =
        |list: &str| pod.spec.field(list).items().map(|other| other.field("name").text()).collect::<Vec<_>>();
    let others = [names_of("containers"), names_of("initContainers")].concat();
    let mut seen = others.clone();
    for container in pod.spec.field("ephemeralContainers").items() {
        common(&container, pod, errors);
        image_is_trimmed(&container, errors);
        unique_name(&container, &mut seen, errors);
        let target = container.field("targetContainerName");
        if !target.is_empty() && !others.contains(&target.text()) {
            target.not_found(errors);
        }
        const FORBIDDEN: [&str; 9] = [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ];
        for name in FORBIDDEN {
            let field = container.field(name);
            if !field.is_empty() {
                field.forbidden(errors, NOT_FOR_EPHEMERAL);
            }
        }
        for mount in container.field("volumeMounts").items() {
            for name in ["subPath", "subPathExpr"] {
                let field = mount.field(name);
                if !field.is_empty() {
                    field.forbidden(errors, NOT_FOR_EPHEMERAL);
                }
            }
        }
    }
}

fn unique_name<'a>(container: &At<'a>, seen: &mut Vec<&'a str>, errors: &mut FieldErrors) {
    let name = container.field("name");
    if seen.contains(&name.text()) {
        name.duplicate(errors);
    } else if !name.is_empty() {
        seen.push(name.text());
    }
}

/// What holds for every container.
fn common(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    let name = container.field("name");
    if name.must_be_set(errors) {
        name.invalid_each(errors, names::dns1123_label(name.text()));
    }
    container.field("image").must_be_set(errors);
    let policies = ["File", "FallbackToLogsOnError"];
    container.field("terminationMessagePolicy").required_one_of(&policies, errors);
    ports(&container.field("ports"), errors);
    env::variables(&container.field("env"), errors);
    env::sources(&container.field("envFrom"), errors);
    volume::mounts(container, &pod.volumes, errors);
    volume::devices(container, &pod.volumes, errors);
    container.field("imagePullPolicy").required_one_of(PULL_POLICIES, errors);
    resources::requirements(&container.field("resources"), false, &pod.claims, errors);
    resize_policy(&container.field("resizePolicy"), &pod.spec.field("restartPolicy"), errors);
    security::container(&container.field("securityContext"), pod.host_users(), errors);
}

fn ports(at: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for port in at.items() {
        let [name, container, host] = ["name", "containerPort", "hostPort"].map(|name| port.field(name));
        if !name.is_empty() {
            let complaints = names::port_name(name.text());
            if !complaints.is_empty() {
                name.invalid_each(errors, complaints);
            } else if seen.contains(&name.text()) {
                name.duplicate(errors);
            } else {
                seen.push(name.text());
            }
        }
        if container.must_be_set(errors) {
            super::port(&container, errors);
        }
        if !host.is_empty() {
            super::port(&host, errors);
        }
        port.field("protocol").required_one_of(&["SCTP", "TCP", "UDP"], errors);
    }
}

/// Ports of the host are taken once.
fn host_ports(containers: &[At], errors: &mut FieldErrors) {
    let mut taken = Vec::new();
    for port in containers.iter().flat_map(|container| container.field("ports").items()) {
        let host = port.field("hostPort");
        if host.is_empty() {
            continue;
        }
        let identity = format!("{}/{}/{}", port.field("protocol").text(), port.field("hostIP").text(), host.int());
        if taken.contains(&identity) {
            errors.push(FieldError::duplicate(&host.path, identity));
        } else {
            taken.push(identity);
        }
    }
}

fn resize_policy(at: &At, restart_policy: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for policy in at.items() {
        let resource = policy.field("resourceName");
        if seen.contains(&resource.text()) {
            errors.push(FieldError::duplicate(&policy.path, resource.text()));
        }
        seen.push(resource.text());
        resource.reported_at(at.path.clone()).required_one_of(&["cpu", "memory"], errors);
        let restart = policy.field("restartPolicy").reported_at(at.path.clone());
        restart.required_one_of(&["NotRequired", "RestartContainer"], errors);
        if restart_policy.is("Never") && !restart.is("NotRequired") {
            restart.invalid(errors, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// A container's own restart policy and its rules.
fn restart_policy(container: &At, errors: &mut FieldErrors) {
    let (policy, rules) = (container.field("restartPolicy"), container.field("restartPolicyRules"));
    if !policy.is_set() {
        if !rules.is_empty() {
            policy.required(errors, "must specify restartPolicy when restart rules are used");
        }
    } else {
        policy.one_of(&["Always", "Never", "OnFailure"], errors);
    }
    if rules.count() > RULES_MAX {
        errors.push(FieldError::too_many(&rules.path, rules.count(), RULES_MAX));
    }
    for rule in rules.items() {
        rule.field("action").one_of(&["Restart", "RestartAllContainers"], errors);
        let Some(codes) = rule.set("exitCodes") else {
            rule.field("exitCodes").required(errors, "must be specified");
            continue;
        };
        codes.field("operator").one_of(&["In", "NotIn"], errors);
        let values = codes.field("values");
        if values.count() > EXIT_CODES_MAX {
            errors.push(FieldError::too_many(&values.path, values.count(), EXIT_CODES_MAX));
        }
    }
}

/// In pods, not in templates, which were looser when the rule came.
pub fn image_is_trimmed(container: &At, errors: &mut FieldErrors) {
    let image = container.field("image");
    if image.text().trim() != image.text() {
        image.invalid(errors, "must not have leading or trailing whitespace");
    }
}
