//! Admission policies, as they change and refuse.

use serde_json::{Value, json};

use super::support::Cluster;
use super::{MAPS, Server, get, map, merge, send, words};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

async fn make(server: &Server, kind: &str, name: &str, spec: Value) {
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    let answer = send(server, "POST", &format!("{GROUP}/{}", plural.to_lowercase()), &object).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
}

fn about_maps() -> Value {
    json!({"resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"],
    }]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_policy_asks_its_parameters() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let mut limit = map("limit");
    limit["data"] = json!({"most": "3"});
    assert_eq!(send(server, "POST", MAPS, &limit).await.0, 201);
    make(
        server,
        "ValidatingAdmissionPolicy",
        "short",
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": about_maps(),
            "matchConditions": [{"name": "others", "expression": "object.metadata.name != 'limit'"}],
            "variables": [{"name": "most", "expression": "int(params.data.most)"}],
            "validations": [{
                "expression": "object.data.all(k, size(object.data[k]) <= variables.most)", "reason": "Forbidden",
                "messageExpression": "'at most %d in %s'.format([variables.most, namespaceObject.metadata.name])",
            }],
        }),
    )
    .await;
    make(
        server,
        "ValidatingAdmissionPolicyBinding",
        "short",
        json!({
            "policyName": "short", "validationActions": ["Deny"],
            "paramRef": {"name": "limit", "namespace": "default", "parameterNotFoundAction": "Deny"},
        }),
    )
    .await;
    assert_eq!(send(server, "POST", MAPS, &map("a")).await.0, 201);
    let refused = merge(server, &format!("{MAPS}/a"), &json!({"data": {"k": "long"}})).await;
    let by = "ValidatingAdmissionPolicy 'short' with binding 'short' denied request";
    let wanted = format!("configmaps \"a\" is forbidden: {by}: at most 3 in default");
    assert_eq!((refused.0, words(&refused)), (403, wanted.as_str()));
    assert_eq!(super::delete(server, &format!("{MAPS}/limit")).await.0, 200);
    let refused = send(server, "POST", MAPS, &map("b")).await;
    let wanted = format!(
        "configmaps \"b\" is forbidden: {by}: failed to configure binding: no params found for policy binding with `Deny` \
         parameterNotFoundAction"
    );
    assert_eq!((refused.0, words(&refused)), (422, wanted.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_policy_merges_and_patches() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    make(
        server,
        "MutatingAdmissionPolicy",
        "mark",
        json!({
            "matchConstraints": about_maps(), "reinvocationPolicy": "Never",
            "mutations": [
                {"patchType": "ApplyConfiguration", "applyConfiguration": {
                    "expression": "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}}",
                }},
                {"patchType": "JSONPatch", "jsonPatch": {
                    "expression": "[JSONPatch{op: 'add', path: '/data/size', value: string(size(object.data))}]",
                }},
            ],
        }),
    )
    .await;
    make(server, "MutatingAdmissionPolicyBinding", "mark", json!({"policyName": "mark"})).await;
    assert_eq!(send(server, "POST", MAPS, &map("a")).await.0, 201);
    let (_, made) = get(server, &format!("{MAPS}/a")).await;
    assert_eq!(
        (&made["metadata"]["labels"], &made["data"]),
        (&json!({"by": "admin"}), &json!({"k": "v", "size": "1"}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_does_not_compile_is_refused() {
    let cluster = Cluster::start().await;
    let spec = json!({"matchConstraints": about_maps(), "validations": [{"expression": "object.a == nothing"}]});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "bad"},
        "spec": spec,
    });
    let refused = send(&cluster.server, "POST", &format!("{GROUP}/validatingadmissionpolicies"), &policy).await;
    assert_eq!(refused.0, 422);
    assert!(words(&refused).contains("undeclared reference to 'nothing'"), "{}", refused.1);
}
