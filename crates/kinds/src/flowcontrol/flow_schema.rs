//! `FlowSchema` (flowcontrol.apiserver.k8s.io/v1): which requests belong to which priority level.

use crate::columns::{age, column, column_of, condition, name, named, number, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Subresource};
use crate::validate::{At, shown};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::{names, object};
use serde_json::Value;
use serde_json::json;

pub static FLOW_SCHEMA: Kind = Declaration {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.flowcontrol.v1.FlowSchema",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/flowcontrol: FlowSchemaMaxMatchingPrecedence`.
const PRECEDENCE_MAX: i64 = 10_000;

/// `kubernetes/kubernetes pkg/apis/flowcontrol/validation: ValidateFlowSchema`.
fn validate(schema: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(schema);
    let spec = at.field("spec");
    let precedence = spec.field("matchingPrecedence");
    if precedence.int() <= 0 {
        errors.push(FieldError::invalid(&precedence.path, precedence.int(), "must be a positive value"));
    }
    if precedence.int() > PRECEDENCE_MAX {
        precedence.invalid(errors, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence.int() == 1 && object::name(schema) != "exempt" {
        precedence.invalid(errors, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if let Some(method) = spec.set("distinguisherMethod") {
        let of = method.field("type");
        if !matches!(of.text(), "ByNamespace" | "ByUser") {
            let value = shown(format!("{{\"Type\":{}}}", machinery::go::quote(of.text())));
            errors.push(FieldError::not_supported(&of.path, value, &["ByNamespace", "ByUser"]));
        }
    }
    let level = spec.fields(&["priorityLevelConfiguration", "name"]);
    if level.is_empty() {
        level.required(errors, "must reference a priority level");
    }
    level.invalid_each(errors, if level.is_empty() { Vec::new() } else { names::dns1123_subdomain(level.text()) });
    for rule in spec.field("rules").items() {
        policy_rule(&rule, errors);
    }
    super::conditions(&at.fields(&["status", "conditions"]), errors);
}

fn policy_rule(rule: &At, errors: &mut FieldErrors) {
    let (subjects, resources, urls) =
        (rule.field("subjects"), rule.field("resourceRules"), rule.field("nonResourceRules"));
    if subjects.count() == 0 {
        subjects.required(errors, "subjects must contain at least one value");
    }
    subjects.items().for_each(|subject| validate_subject(&subject, errors));
    if resources.count() == 0 && urls.count() == 0 {
        rule.required(errors, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    resources.items().for_each(|rule| resource_rule(&rule, errors));
    urls.items().for_each(|rule| non_resource_rule(&rule, errors));
}

/// The kinds of subjects, and the member each is described in.
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn validate_subject(subject: &At, errors: &mut FieldErrors) {
    let kind = subject.field("kind");
    let Some((_, member)) = SUBJECTS.iter().find(|(known, _)| kind.is(known)) else {
        errors.push(FieldError::not_supported(&kind.path, kind.text(), &["Group", "ServiceAccount", "User"]));
        return;
    };
    match subject.set(member) {
        None => {
            let detail = format!("{member} is required when subject kind is '{}'", kind.text());
            errors.push(FieldError::required(&subject.path.child(member), detail));
        }
        Some(described) => {
            let name = described.field("name");
            if name.must_be_set(errors) && *member == "serviceAccount" && !name.is("*") {
                name.invalid_each(errors, names::dns1123_subdomain(name.text()));
            }
            let namespace = described.field("namespace");
            if *member == "serviceAccount" && namespace.is_empty() {
                namespace.required(errors, "must specify namespace for service account");
            } else if *member == "serviceAccount" {
                namespace.invalid_each(errors, names::dns1123_label(namespace.text()));
            }
        }
    }
    for (of, other) in SUBJECTS.iter().filter(|(_, other)| other != member) {
        if let Some(extra) = subject.set(other) {
            extra.forbidden(errors, format!("{other} is forbidden when subject kind is not '{of}'"));
        }
    }
}

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

fn verbs(verbs: &At, errors: &mut FieldErrors) {
    if verbs.count() == 0 {
        verbs.required(errors, "verbs must contain at least one value");
    } else if has_wildcard(verbs) {
        alone(verbs, "verbs", errors);
    } else if verbs.texts().iter().any(|verb| !VERBS.contains(verb)) {
        errors.push(FieldError::not_supported(&verbs.path, verbs.value, &VERBS));
    }
}

fn has_wildcard(list: &At) -> bool {
    list.texts().contains(&"*")
}

/// `*` stands for all: it needs no company.
fn alone(list: &At, what: &str, errors: &mut FieldErrors) {
    if list.count() > 1 && has_wildcard(list) {
        list.invalid(errors, format!("if '*' is present, must not specify other {what}"));
    }
}

fn non_resource_rule(rule: &At, errors: &mut FieldErrors) {
    verbs(&rule.field("verbs"), errors);
    let urls = rule.field("nonResourceURLs");
    if urls.count() == 0 {
        urls.required(errors, "nonResourceURLs must contain at least one value");
    } else if has_wildcard(&urls) {
        alone(&urls, "non-resource URLs", errors);
    } else {
        urls.items().for_each(|url| non_resource_url(&url, errors));
    }
}

fn non_resource_url(url: &At, errors: &mut FieldErrors) {
    let path = url.text();
    let stars = path.matches('*').count();
    let complaint = match path {
        "" => "must not be empty",
        "/" => return,
        _ if !path.starts_with('/') => "must start with slash",
        _ if path.contains(' ') => "must not contain white-space",
        _ if path.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return,
    };
    url.invalid(errors, complaint);
}

fn resource_rule(rule: &At, errors: &mut FieldErrors) {
    verbs(&rule.field("verbs"), errors);
    for (field, one, others) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        let list = rule.field(field);
        if list.count() == 0 {
            list.required(errors, &format!("resource rules must supply at least one {one}"));
        }
        alone(&list, others, errors);
    }
    let namespaces = rule.field("namespaces");
    if namespaces.count() == 0 && !rule.field("clusterScope").flag() {
        namespaces.required(errors, "resource rules that are not cluster scoped must supply at least one namespace");
    } else if has_wildcard(&namespaces) {
        alone(&namespaces, "namespaces", errors);
    } else {
        for namespace in namespaces.items() {
            let complaints = names::dns1123_label(namespace.text()).into_iter();
            let intro = |complaint| format!("each member of this list must be '*' or a DNS-1123 label; {complaint}");
            namespace.invalid_each(errors, complaints.map(intro).collect());
        }
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("PriorityLevel", "string", "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationReference", "name"),
        column_of("MatchingPrecedence", "string", "io.k8s.api.flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence"),
        column_of("DistinguisherMethod", "string", "io.k8s.api.flowcontrol.v1.FlowSchemaSpec", "distinguisherMethod"),
        column("Age", "string"),
        column("MissingPL", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let dangling = condition(o, "Dangling").map_or("?", |condition| text(condition, "/status"));
    vec![
        name(o),
        json!(text(o, "/spec/priorityLevelConfiguration/name")),
        json!(number(o, "/spec/matchingPrecedence")),
        text_or(o, "/spec/distinguisherMethod/type", "<none>"),
        age(o, now),
        json!(dangling),
    ]
}
