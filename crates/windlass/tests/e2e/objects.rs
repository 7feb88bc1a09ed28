//! Objects and how `kubectl` shows them; and what it is told when they are wrong.

use crate::Shared;
use crate::node::{IMAGE, Namespace};

pub const TESTS: &[(&str, Shared)] = &[
    ("quota_charges_once_and_leaves_older_pods_alone", quota),
    ("get_prints_every_format", formats),
    ("explain_and_describe_tell", explain),
    ("custom_resources_are_served", custom),
    ("wrong_objects_are_refused_in_upstream_s_words", refusals),
    ("expired_and_withdrawn_credentials_are_unauthorized", credentials),
    ("server_side_apply_keeps_owners_apart", apply),
];

fn formats(ns: &Namespace) {
    ns.kubectl(&["create", "configmap", "c", "--from-literal=k=v"]);
    assert!(ns.kubectl(&["get", "configmap", "c"]).starts_with("NAME   DATA   AGE\nc      1"));
    assert!(ns.kubectl(&["get", "configmap", "c", "-o", "yaml"]).contains("\ndata:\n  k: v\nkind: ConfigMap\n"));
    assert!(ns.kubectl(&["get", "configmap", "c", "-o", "json"]).contains("\"k\": \"v\""));
    assert_eq!(ns.kubectl(&["get", "configmap", "c", "-o", "name"]), "configmap/c\n");
    assert_eq!(ns.kubectl(&["get", "configmap", "c", "-o", "jsonpath={.data.k}"]), "v");
    assert_eq!(ns.kubectl(&["get", "configmap", "c", "-o", "jsonpath-as-json={.data.k}"]), "[\n    \"v\"\n]\n");
    assert!(ns.kubectl(&["get", "configmap", "c", "-o", "kyaml"]).contains("k: \"v\""));
    assert_eq!(ns.kubectl(&["get", "configmap", "c", "-o", "go-template={{.data.k}}"]), "v");
    assert_eq!(ns.kubectl(&["get", "configmap", "c", "-o", "custom-columns=N:.metadata.name", "--no-headers"]), "c\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    let from_file = |format: &str, text: &str| {
        std::fs::write(file.path(), text).unwrap();
        ns.kubectl(&["get", "configmap", "c", "-o", &format!("{format}={}", file.path().display())])
    };
    assert_eq!(from_file("jsonpath-file", "{.data.k}"), "v");
    assert_eq!(from_file("go-template-file", "{{.data.k}}"), "v");
    assert_eq!(from_file("custom-columns-file", "N\n.metadata.name\n"), "N\nc\n");
    let wide = ns.kubectl(&["get", "nodes", "-o", "wide"]);
    assert!(wide.contains("CONTAINER-RUNTIME") && wide.contains("windlass://"), "{wide}");
    assert!(ns.kubectl(&["get", "all", "-A"]).contains("service/kubernetes"));
    assert!(ns.kubectl(&["api-resources", "-o", "name"]).lines().any(|l| l == "deployments.apps"));
}

fn explain(ns: &Namespace) {
    let text = ns.kubectl(&["explain", "deployment.spec.replicas"]);
    assert!(text.contains("FIELD: replicas <integer>"), "{text}");
    ns.run_script("shown", "exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/shown", "--timeout=60s"]);
    let text = ns.kubectl(&["describe", "pod", "shown"]);
    for part in ["Status:           Running", "Scheduled", "Started", "QoS Class:                   BestEffort"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

fn custom(ns: &Namespace) {
    let group = format!("{}.example.org", ns.name);
    ns.apply(&format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: boats.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: boats, singular: boat, kind: Boat}}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    additionalPrinterColumns: [{{name: Sails, type: integer, jsonPath: .spec.sails}}]\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n          spec: {{type: object, required: [sails], properties: {{sails: {{type: integer, minimum: 1}}, colour: {{type: string, default: white}}}}}}\n"
    ));
    ns.kubectl(&["wait", "--for=condition=Established", &format!("crd/boats.{group}"), "--timeout=60s"]);
    let boat =
        |sails: &str| format!("apiVersion: {group}/v1\nkind: Boat\nmetadata: {{name: b}}\nspec: {{sails: {sails}}}\n");
    ns.apply(&boat("2"));
    assert_eq!(ns.value(&format!("boats.{group}/b"), "{.spec.colour}"), "white");
    assert!(ns.kubectl(&["get", &format!("boats.{group}")]).starts_with("NAME   SAILS\nb      2"));
    let words = ns.with_input(&["apply", "-f", "-"], &boat("0")).unwrap_err();
    assert!(
        words.contains("spec.sails: Invalid value: 0: spec.sails in body should be greater than or equal to 1"),
        "{words}"
    );
    ns.kubectl(&["delete", &format!("crd/boats.{group}")]);
}

fn refusals(ns: &Namespace) {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, image: {IMAGE}, colour: red}}]}}\n"
    );
    let words = ns.with_input(&["create", "-f", "-"], &pod).unwrap_err();
    assert!(words.contains("strict decoding error: unknown field \"spec.containers[0].colour\""), "{words}");
    let words = ns.refused(&["create", "configmap", "Upper"]);
    assert!(
        words.contains("metadata.name: Invalid value: \"Upper\": a lowercase RFC 1123 subdomain must consist of"),
        "{words}"
    );
    let words = ns.refused(&["get", "pods", "none"]);
    assert_eq!(words, "Error from server (NotFound): pods \"none\" not found");
    ns.kubectl(&["create", "configmap", "twice"]);
    let words = ns.refused(&["create", "configmap", "twice"]);
    assert!(words.contains("configmaps \"twice\" already exists"), "{words}");
    let words = ns.refused(&["get", "pods", "--as=nobody"]);
    assert!(
        words.contains(&format!("pods is forbidden: User \"nobody\" cannot list resource \"pods\" in API group \"\" in the namespace \"{}\"", ns.name)),
        "{words}"
    );
}

/// What upstream's `kubectl` makes of a 401.
const UNAUTHORIZED: &str = "error: You must be logged in to the server (Unauthorized)";

fn credentials(ns: &Namespace) {
    use bootstrap::kubeconfig::{Access, write};
    use bootstrap::pki::{Names, Pki, Subject};
    let pki = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(ns.node.path("data/pki")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, pki.path().join(path.file_name().unwrap())).unwrap();
    }
    let names = Names {
        node: "any".to_owned(),
        node_addresses: vec![],
        extra: vec![],
        service_address: std::net::Ipv4Addr::LOCALHOST.into(),
        cluster_domain: "cluster.local".to_owned(),
    };
    let (now, day) = (jiff::Timestamp::now(), std::time::Duration::from_secs(24 * 3600));
    let pki = Pki::ensure(pki.path(), &names, day, now).unwrap();
    let admin = Subject { user: "kubernetes-admin", group: Some("system:masters") };
    let server = format!("https://127.0.0.1:{}", ns.node.port());
    let with_certificate_of = |at| {
        let client = pki.issue_client(admin, at).unwrap();
        let access = Access { server: &server, ca_certificate: &pki.ca.certificate, user: admin.user, client: &client };
        let path = ns.node.path("credentials.conf");
        write(&path, &access).unwrap();
        ns.try_kubectl(&["get", "pods", "--kubeconfig", path.to_str().unwrap()])
    };
    with_certificate_of(now).unwrap();
    assert_eq!(with_certificate_of(now - day * 2).unwrap_err().trim(), UNAUTHORIZED);

    ns.kubectl(&["create", "serviceaccount", "leaver"]);
    let token = ns.kubectl(&["create", "token", "leaver"]);
    let ca = ns.node.path("data/pki/ca.crt").display().to_string();
    let whoami = || {
        let arguments = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", "--kubeconfig", "/dev/null"];
        let how = ["--server", &server, "--certificate-authority", &ca, "--token", token.trim()];
        ns.try_kubectl(&[&arguments[..], &how[..]].concat())
    };
    assert_eq!(whoami().unwrap(), format!("system:serviceaccount:{}:leaver", ns.name));
    ns.kubectl(&["delete", "serviceaccount", "leaver"]);
    assert_eq!(whoami().unwrap_err().trim(), UNAUTHORIZED);
}

fn apply(ns: &Namespace) {
    let map =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared}}\ndata: {{k: {value}}}\n");
    let server_side = |manager: &str, value: &str| {
        ns.with_input(&["apply", "--server-side", &format!("--field-manager={manager}"), "-f", "-"], &map(value))
    };
    server_side("one", "a").unwrap();
    let words = server_side("two", "b").unwrap_err();
    assert!(words.contains("Apply failed with 1 conflict: conflict with \"one\": .data.k"), "{words}");
    ns.with_input(&["apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-"], &map("b"))
        .unwrap();
    assert_eq!(ns.value("configmap/shared", "{.data.k}"), "b");
}

fn quota(ns: &Namespace) {
    let pod = |name: &str, resources: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  initContainers:\n  - {{name: first, image: {IMAGE}, command: [\"true\"]{resources}}}\n  containers:\n  - {{name: main, image: {IMAGE}, command: [sleep, infinity]{resources}}}\n"
        )
    };
    let small = ", resources: {requests: {cpu: 10m, memory: 8Mi}}";
    ns.apply(&pod("older", ""));
    ns.kubectl(&["create", "quota", "small", "--hard=pods=3,requests.cpu=30m,count/configmaps=4"]);
    ns.becomes("quota/small", "{.status.used.pods}", "1");
    ns.kubectl(&["label", "pod/older", "since=before"]);
    let words = ns.with_input(&["create", "-f", "-"], &pod("silent", "")).unwrap_err();
    assert!(
        words.contains("pods \"silent\" is forbidden: failed quota: small: must specify requests.cpu for: first,main"),
        "{words}"
    );
    ns.with_input(&["create", "-f", "-"], &pod("one", small)).unwrap();
    assert_eq!(
        ns.value("quota/small", "{.status.used.pods} {.status.used.requests\\.cpu}"),
        "2 10m",
        "charged at once"
    );
    for _ in 0..3 {
        let words = ns.with_input(&["create", "-f", "-"], &pod("one", small)).unwrap_err();
        assert!(words.contains("already exists"), "{words}");
    }
    assert_eq!(ns.value("quota/small", "{.status.used.pods} {.status.used.requests\\.cpu}"), "2 10m", "given back");
    ns.with_input(&["create", "-f", "-"], &pod("two", small)).unwrap();
    let words = ns.with_input(&["create", "-f", "-"], &pod("three", small)).unwrap_err();
    assert!(words.contains("exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3"), "{words}");
    ns.kubectl(&["delete", "pod", "two"]);
    ns.becomes("quota/small", "{.status.used.pods} {.status.used.requests\\.cpu}", "2 10m");
}
