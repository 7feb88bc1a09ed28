//! Priority and fairness: the FlowSchemas and priority levels every cluster starts with, and which of them a request is
//! of, which its answer names.
//!
//! `kubernetes/apiserver pkg/apis/flowcontrol/bootstrap/default.go`: the objects; `pkg/util/flowcontrol/rule.go`: what
//! matches.

use std::sync::Arc;

use admit::Attributes;
use http::{HeaderMap, HeaderValue};
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PolicyRulesWithSubjects, PriorityLevelConfiguration, Subject};
use serde_json::{Value, json};

use crate::server::Inner;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The annotation that lets the server bring an object's spec up to its own.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The uids of the FlowSchema and the priority level of a request.
#[derive(Debug)]
pub struct Flow {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Flow {
    /// The first FlowSchema that matches, by precedence and then by name; none only while there are none.
    pub fn of(server: &Inner, request: &Attributes<'_>) -> Option<Flow> {
        let view = server.view();
        let mut schemas: Vec<Arc<FlowSchema>> = view.list(GROUP, "flowschemas", "");
        // They come by name, and the sort is stable.
        schemas.sort_by_key(|schema| schema.spec.matching_precedence.unwrap_or(1000));
        let found =
            schemas.iter().find(|schema| schema.spec.rules.iter().flatten().any(|rule| matches(rule, request)))?;
        let level = &found.spec.priority_level_configuration.name;
        let level = view.get::<PriorityLevelConfiguration>(GROUP, "prioritylevelconfigurations", level)?;
        let uid = |uid: Option<&String>| HeaderValue::from_str(uid?).ok();
        Some(Flow { schema: uid(found.metadata.uid.as_ref())?, level: uid(level.metadata.uid.as_ref())? })
    }

    /// Names both in an answer.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.insert("x-kubernetes-pf-flowschema-uid", self.schema.clone());
        headers.insert("x-kubernetes-pf-prioritylevel-uid", self.level.clone());
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

fn matches(rule: &PolicyRulesWithSubjects, request: &Attributes<'_>) -> bool {
    if !rule.subjects.iter().any(|subject| is_subject(subject, request)) {
        return false;
    }
    if request.resource.is_empty() {
        return rule.non_resource_rules.iter().flatten().any(|rule| {
            let leads = |url: &String| url.strip_suffix('*').is_some_and(|start| request.path.starts_with(start));
            has(&rule.verbs, request.verb) && rule.non_resource_urls.iter().any(|url| url == request.path || leads(url))
        });
    }
    let resource = match request.subresource {
        "" => request.resource.to_owned(),
        subresource => format!("{}/{subresource}", request.resource),
    };
    rule.resource_rules.iter().flatten().any(|rule| {
        let place = if request.namespace.is_empty() {
            rule.cluster_scope.unwrap_or(false)
        } else {
            has(rule.namespaces.as_deref().unwrap_or_default(), request.namespace)
        };
        place
            && has(&rule.verbs, request.verb)
            && has(&rule.api_groups, request.group)
            && has(&rule.resources, &resource)
    })
}

fn is_subject(subject: &Subject, request: &Attributes<'_>) -> bool {
    let user = request.user;
    if let Some(wanted) = &subject.user {
        return wanted.name == "*" || wanted.name == user.name;
    }
    if let Some(wanted) = &subject.group {
        return wanted.name == "*" || user.groups.contains(&wanted.name);
    }
    let Some(wanted) = &subject.service_account else { return false };
    let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    account.is_some_and(|(namespace, name)| {
        namespace == wanted.namespace && matches!(&*wanted.name, w if w == "*" || w == name)
    })
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "annotations": { AUTO_UPDATE: "true" } }, "spec": spec,
    })
}

/// Shares of the server's concurrency, percent of them lent, and (unless what is too much is refused) queues and hand size.
fn level(name: &str, shares: u32, lent: u32, queues: Option<(u32, u32)>) -> Value {
    let response = match queues {
        Some((queues, hand)) => {
            json!({ "type": "Queue", "queuing": { "queues": queues, "handSize": hand, "queueLengthLimit": 50 } })
        }
        None => json!({ "type": "Reject" }),
    };
    let limited = json!({ "nominalConcurrencyShares": shares, "lendablePercent": lent, "limitResponse": response });
    object("PriorityLevelConfiguration", name, json!({ "type": "Limited", "limited": limited }))
}

fn schema(name: &str, level: &str, precedence: u32, by: &str, rules: Value) -> Value {
    let mut spec = json!({
        "matchingPrecedence": precedence, "priorityLevelConfiguration": { "name": level }, "rules": [rules],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": by });
    }
    let mut schema = object("FlowSchema", name, spec);
    let words =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists");
    schema["status"] =
        json!({ "conditions": [{ "type": "Dangling", "status": "False", "reason": "Found", "message": words }] });
    schema
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "User", "user": { "name": name } })).collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "Group", "group": { "name": name } })).collect()
}

fn system_accounts() -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kube-system", "name": "*" } })
}

/// Everything that the subjects may do.
fn everything(subjects: Vec<Value>) -> Value {
    let resources =
        json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] });
    let paths = json!({ "verbs": ["*"], "nonResourceURLs": ["*"] });
    json!({ "subjects": subjects, "resourceRules": [resources], "nonResourceRules": [paths] })
}

fn leases(verbs: &[&str]) -> Value {
    json!({ "verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"] })
}

/// Upstream's mandatory and suggested objects, priority levels first.
pub fn objects() -> Vec<Value> {
    let exempt = json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } });
    let anybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let probes = json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] });
    let nodes = json!({ "verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": true, "namespaces": ["*"] });
    let mut electors = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    electors.push(system_accounts());
    let one = |user: &str| everything(users(&[user]));
    vec![
        object("PriorityLevelConfiguration", "exempt", exempt),
        level("catch-all", 5, 0, None),
        level("system", 30, 33, Some((64, 6))),
        level("node-high", 40, 25, Some((64, 6))),
        level("leader-election", 10, 0, Some((16, 4))),
        level("workload-high", 40, 50, Some((128, 6))),
        level("workload-low", 100, 90, Some((128, 6))),
        level("global-default", 20, 50, Some((128, 6))),
        schema("exempt", "exempt", 1, "", everything(groups(&["system:masters"]))),
        schema("probes", "exempt", 2, "", json!({ "subjects": anybody(), "nonResourceRules": [probes] })),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            json!({
                "subjects": electors, "resourceRules": [leases(&["get", "create", "update"])],
            }),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            json!({
                "subjects": groups(&["system:nodes"]), "resourceRules": [nodes, leases(&["*"])],
            }),
        ),
        schema("system-nodes", "system", 500, "ByUser", everything(groups(&["system:nodes"]))),
        schema("kube-controller-manager", "workload-high", 800, "ByNamespace", one("system:kube-controller-manager")),
        schema("kube-scheduler", "workload-high", 800, "ByNamespace", one("system:kube-scheduler")),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            everything(vec![system_accounts()]),
        ),
        schema("service-accounts", "workload-low", 9000, "ByUser", everything(groups(&["system:serviceaccounts"]))),
        schema("global-default", "global-default", 9900, "ByUser", everything(anybody())),
        schema("catch-all", "catch-all", 10000, "ByUser", everything(anybody())),
    ]
}

#[cfg(test)]
mod tests {
    use admit::UserInfo;

    use super::*;

    /// The first start-up schema that matches.
    fn schema_of(user: &UserInfo, verb: &str, resource: &str, subresource: &str, path: &str) -> String {
        let group = if resource == "leases" { "coordination.k8s.io" } else { "" };
        let namespace = if matches!(resource, "nodes" | "") { "" } else { "kube-system" };
        let request = Attributes {
            user,
            verb,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name: "",
            path,
            fields: None,
        };
        let schemas: Vec<FlowSchema> = objects()
            .into_iter()
            .filter(|object| object["kind"] == "FlowSchema")
            .map(|object| serde_json::from_value(object).unwrap())
            .collect();
        let of = |schema: &&FlowSchema| schema.spec.rules.iter().flatten().any(|rule| matches(rule, &request));
        schemas.iter().find(of).and_then(|schema| schema.metadata.name.clone()).unwrap_or_default()
    }

    #[test]
    fn requests_are_of_upstreams_flows() {
        let user = |name: &str, groups: &[&str]| {
            let groups: Vec<&str> = groups.iter().copied().chain(["system:authenticated"]).collect();
            UserInfo::new(name, &groups)
        };
        let node = user("system:node:n", &["system:nodes"]);
        let scheduler = user("system:kube-scheduler", &[]);
        let account = user("system:serviceaccount:kube-system:x", &["system:serviceaccounts"]);
        let other = user("system:serviceaccount:default:x", &["system:serviceaccounts"]);
        let cases = [
            (&user("admin", &["system:masters"]), "get", "pods", "", "", "exempt"),
            (&user("ann", &[]), "get", "", "", "/livez", "probes"),
            (&user("ann", &[]), "get", "", "", "/version", "global-default"),
            (&user("ann", &[]), "list", "pods", "", "", "global-default"),
            (&node, "patch", "nodes", "status", "", "system-node-high"),
            (&node, "update", "leases", "", "", "system-node-high"),
            (&node, "get", "pods", "", "", "system-nodes"),
            (&scheduler, "update", "leases", "", "", "system-leader-election"),
            (&scheduler, "watch", "leases", "", "", "kube-scheduler"),
            (&account, "list", "pods", "", "", "kube-system-service-accounts"),
            (&other, "list", "pods", "", "", "service-accounts"),
        ];
        for (user, verb, resource, subresource, path, wanted) in cases {
            assert_eq!(
                schema_of(user, verb, resource, subresource, path),
                wanted,
                "{} {verb} {resource}{path}",
                user.name
            );
        }
    }
}
