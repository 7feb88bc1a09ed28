//! The real kubectl against the server: what a user types, and what comes back.

mod support;

use support::Cluster;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec:
  containers: [{name: c, image: x}]
";

async fn with_account() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.kubectl(&["create", "serviceaccount", "default"], "").await.good();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_get_patch_scale_and_delete() {
    let cluster = with_account().await;
    assert_eq!(cluster.kubectl(&["apply", "-f", "-"], POD).await.good(), "pod/a created\n");
    assert_eq!(cluster.kubectl(&["apply", "-f", "-"], POD).await.good(), "pod/a unchanged\n");
    let table = cluster.kubectl(&["get", "pods"], "").await.good();
    assert!(table.starts_with("NAME   READY   STATUS    RESTARTS   AGE\na      0/1     Pending   0  "), "{table}");
    cluster.kubectl(&["create", "deployment", "web", "--image=nginx", "--replicas=2"], "").await.good();
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=5"], "").await.good();
    cluster.kubectl(&["set", "image", "deployment/web", "nginx=nginx:2"], "").await.good();
    let path = "jsonpath={.spec.replicas} {.metadata.generation} {.spec.template.spec.containers[0].image}";
    assert_eq!(cluster.kubectl(&["get", "deployment", "web", "-o", path], "").await.good(), "5 3 nginx:2");
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"nginx","env":[{"name":"A","value":"b"}]}]}}}}"#;
    cluster.kubectl(&["patch", "deployment", "web", "-p", patch], "").await.good();
    let path = "jsonpath={.spec.template.spec.containers[0]['image','env']}";
    let merged = cluster.kubectl(&["get", "deployment", "web", "-o", path], "").await.good();
    assert_eq!(merged, r#"nginx:2 [{"name":"A","value":"b"}]"#);
    cluster.kubectl(&["delete", "deployment/web", "pod/a", "--wait=true"], "").await.good();
    let gone = cluster.kubectl(&["get", "pod", "a"], "").await.bad();
    assert_eq!(gone, "Error from server (NotFound): pods \"a\" not found\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_wrong_types_and_bad_names_are_told_in_upstreams_words() {
    let cluster = with_account().await;
    let unknown = POD.replace("image: x", "image: x, colour: red");
    let words = cluster.kubectl(&["apply", "-f", "-"], &unknown).await.bad();
    assert!(words.contains("strict decoding error: unknown field \"spec.containers[0].colour\""), "{words}");
    let warned = cluster.kubectl(&["apply", "--validate=warn", "-f", "-"], &unknown).await;
    assert!(warned.ok && warned.err.contains("Warning: unknown field \"spec.containers[0].colour\""), "{}", warned.err);
    let wrong = POD.replace("image: x", "image: 3");
    let words = cluster.kubectl(&["create", "-f", "-"], &wrong).await.bad();
    assert!(words.contains("Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"), "{words}");
    let name = POD.replace("name: a,", "name: A_,");
    let words = cluster.kubectl(&["create", "-f", "-"], &name).await.bad();
    assert!(words.contains("The Pod \"A_\" is invalid: metadata.name: Invalid value: \"A_\": a lowercase RFC 1123 subdomain must consist of"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_conflicts_name_the_owner() {
    let cluster = Cluster::start().await;
    let map = |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: {value}}}\n");
    let args = |manager: &'static str| ["apply", "--server-side", "--field-manager", manager, "-f", "-"];
    cluster.kubectl(&args("one"), &map("v")).await.good();
    let words = cluster.kubectl(&args("two"), &map("w")).await.bad();
    assert!(words.contains("Apply failed with 1 conflict: conflict with \"one\": .data.k"), "{words}");
    let mut forced = args("two").to_vec();
    forced.push("--force-conflicts");
    cluster.kubectl(&forced, &map("w")).await.good();
    let owner = "jsonpath={.metadata.managedFields[*].manager} {.data.k}";
    assert_eq!(cluster.kubectl(&["get", "cm", "m", "-o", owner], "").await.good(), "two w");
}

const CRONTABS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              cronSpec: {type: string, description: When it runs.}
              replicas: {type: integer, default: 1, minimum: 1}
          status: {type: object, properties: {replicas: {type: integer}}}
    additionalPrinterColumns: [{name: Spec, type: string, jsonPath: .spec.cronSpec}]
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_resource_is_served_like_a_built_in_one_and_cleaned_up() {
    let cluster = Cluster::start().await;
    cluster.kubectl(&["apply", "-f", "-"], CRONTABS).await.good();
    let wait = ["wait", "--for", "condition=established", "crd/crontabs.stable.example.com", "--timeout=20s"];
    cluster.kubectl(&wait, "").await.good();
    let one = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: one}\nspec: {cronSpec: '* * *'}\n";
    cluster.kubectl(&["apply", "-f", "-"], one).await.good();
    assert_eq!(cluster.kubectl(&["get", "ct"], "").await.good(), "NAME   SPEC\none    * * *\n");
    cluster.kubectl(&["scale", "ct", "one", "--replicas=3"], "").await.good();
    let path = "jsonpath={.spec.replicas} {.metadata.generation}";
    assert_eq!(cluster.kubectl(&["get", "ct", "one", "-o", path], "").await.good(), "3 2");
    let bad =
        cluster.kubectl(&["patch", "ct", "one", "--type=merge", "-p", r#"{"spec":{"replicas":0}}"#], "").await.bad();
    assert!(
        bad.contains("spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"),
        "{bad}"
    );
    let explained = cluster.kubectl(&["explain", "ct.spec.cronSpec"], "").await.good();
    assert!(explained.contains("When it runs."), "{explained}");
    let explained = cluster.kubectl(&["explain", "ct.metadata"], "").await.good();
    assert!(explained.contains("CreationTimestamp is a timestamp"), "{explained}");
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"], "").await.good();
    assert!(!cluster.kubectl(&["api-resources", "-o", "name"], "").await.good().contains("crontabs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_and_keep_them() {
    let cluster = Cluster::start().await;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, selector: {a: b}, ports: [{port: 80}]}\n";
    cluster.kubectl(&["apply", "-f", "-"], service).await.good();
    let path = "jsonpath={.spec.clusterIP} {.spec.ports[0].nodePort}";
    let given = cluster.kubectl(&["get", "svc", "s", "-o", path], "").await.good();
    assert!(given.starts_with("10."), "{given}");
    cluster.kubectl(&["apply", "-f", "-"], &service.replace("port: 80", "port: 80, name: http")).await.good();
    assert_eq!(cluster.kubectl(&["get", "svc", "s", "-o", path], "").await.good(), given);
    let taken = service.replace("name: s", "name: t").replace("type: NodePort", "clusterIP: 10.96.0.1");
    let words = cluster.kubectl(&["create", "-f", "-"], &taken).await.bad();
    assert!(words.contains("failed to allocate IP 10.96.0.1: provided IP is already allocated"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_may_do_what_their_roles_allow() {
    let cluster = with_account().await;
    let bob = cluster.kubeconfig_of("bob", &["developers"]);
    let words = cluster.kubectl_with(&bob, &["get", "pods"], "").await.bad();
    let expected = "Error from server (Forbidden): pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"\n";
    assert_eq!(words, expected);
    cluster.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"], "").await.good();
    let bind = ["create", "rolebinding", "devs", "--role=reader", "--group=developers"];
    cluster.kubectl(&bind, "").await.good();
    cluster.kubectl_with(&bob, &["get", "pods"], "").await.good();
    let words = cluster.kubectl_with(&bob, &["delete", "pod", "x"], "").await.bad();
    assert!(words.contains("User \"bob\" cannot delete resource \"pods\""), "{words}");
    let words = cluster.kubectl_with(&cluster.foreign_kubeconfig(), &["get", "pods"], "").await.bad();
    assert!(words.contains("You must be logged in to the server"), "{words}");
    let words = cluster.kubectl_with(&cluster.expired_kubeconfig(), &["get", "pods"], "").await.bad();
    assert!(words.contains("You must be logged in to the server"), "{words}");
    let token = cluster.kubectl(&["create", "token", "default"], "").await.good();
    let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", "--token", token.trim()];
    let anonymous = cluster.anonymous_kubeconfig();
    let name = cluster.kubectl_with(&anonymous, &whoami, "").await.good();
    assert_eq!(name, "system:serviceaccount:default:default");
    cluster.kubectl(&["delete", "serviceaccount", "default"], "").await.good();
    let words = cluster.kubectl_with(&anonymous, &whoami, "").await.bad();
    assert!(words.contains("You must be logged in to the server") || words.contains("Unauthorized"), "{words}");
    let can = cluster.kubectl(&["auth", "can-i", "list", "pods", "--as", "bob", "--as-group", "developers"], "").await;
    assert_eq!(can.good(), "yes\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_do_not_exist_or_are_going_are_told_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let unknown = "{apiVersion: v9, kind: Foo, metadata: {name: x}}";
    let words = cluster.kubectl(&["create", "-f", "-"], unknown).await.bad();
    assert!(
        words.contains("no matches for kind \"Foo\" in version \"v9\"\nensure CRDs are installed first"),
        "{words}"
    );
    let listed = cluster.kubectl(&["get", "endpoints"], "").await;
    let warning = "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n";
    assert!(listed.ok && listed.err.starts_with(warning), "{}", listed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_keeps_and_owns_what_upstream_lets_it() {
    let cluster = with_account().await;
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {capacity: {cpu: '4'}}}";
    cluster.kubectl(&["create", "-f", "-"], node).await.good();
    let path = "jsonpath={.status.capacity.cpu}";
    assert_eq!(cluster.kubectl(&["get", "node", "n1", "-o", path], "").await.good(), "4");
    cluster.kubectl(&["create", "deployment", "web", "--image=nginx"], "").await.good();
    let path = "jsonpath={.metadata.managedFields[0].fieldsV1.f:spec}";
    let owned = cluster.kubectl(&["get", "deployment", "web", "--show-managed-fields", "-o", path], "").await.good();
    assert!(owned.starts_with("{\"f:progressDeadlineSeconds\":{},\"f:replicas\":{}"), "{owned}");
    let scale = cluster.kubectl(&["get", "deployment", "web", "--subresource=scale"], "").await.good();
    assert!(scale.starts_with("NAME   DESIRED   AVAILABLE   AGE\nweb    1         0           "), "{scale}");
}
