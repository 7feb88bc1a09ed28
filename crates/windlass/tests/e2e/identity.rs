//! Who a caller is: tokens that Secrets hold, and a machine's way from a bootstrap token to a certificate of its own.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::Shared;
use crate::node::{Namespace, eventually};

pub const TESTS: &[(&str, Shared)] = &[
    ("a_token_secret_is_filled_and_good_while_it_exists", token_secret),
    ("a_bootstrap_token_leads_to_a_node_s_certificate", bootstrap),
];

/// Runs a command as whoever the kubeconfig `user` says.
fn acting(ns: &Namespace, user: &str, arguments: &[&str]) -> Result<String, String> {
    let path = |name: &str| ns.node.path(name).display().to_string();
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nclusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:{}\", certificate-authority: {}}}}}]\nusers: [{{name: u, user: {user}}}]\n",
        ns.node.port(),
        path("data/pki/ca.crt"),
    );
    let file = path(&format!("{}.conf", ns.name));
    std::fs::write(&file, config).unwrap();
    let mut all = vec!["--kubeconfig", file.as_str()];
    all.extend(arguments);
    ns.try_kubectl(&all)
}

const WHO: &[&str] = &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];

fn token_secret(ns: &Namespace) {
    ns.kubectl(&["create", "serviceaccount", "build"]);
    ns.apply(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {name: build-token, annotations: {kubernetes.io/service-account.name: build}}\n",
    );
    let token = eventually("the Secret has a token", || {
        let text = ns.kubectl(&["get", "secret", "build-token", "-o", "go-template={{.data.token | base64decode}}"]);
        text.contains('.').then_some(text)
    });
    assert!(!ns.value("secret/build-token", "{.data.namespace}").is_empty());
    assert!(!ns.value("secret/build-token", "{.data.ca\\.crt}").is_empty());
    let user = format!("{{token: {token}}}");
    assert_eq!(acting(ns, &user, WHO).unwrap(), format!("system:serviceaccount:{}:build", ns.name));
    ns.kubectl(&["delete", "secret", "build-token"]);
    let words = acting(ns, &user, WHO).unwrap_err();
    assert!(words.contains("You must be logged in to the server"), "{words}");
}

fn bootstrap(ns: &Namespace) {
    let expiration = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    ns.with_input(
        &["apply", "--namespace", "kube-system", "-f", "-"],
        &format!(
            "apiVersion: v1\nkind: Secret\ntype: bootstrap.kubernetes.io/token\nmetadata: {{name: bootstrap-token-abcdef}}\nstringData: {{token-id: abcdef, token-secret: 0123456789abcdef, expiration: \"{expiration}\", usage-bootstrap-authentication: \"true\", usage-bootstrap-signing: \"true\", auth-extra-groups: \"system:bootstrappers:joining\"}}\n"
        ),
    )
    .unwrap();
    ns.with_input(
        &["apply", "--namespace", "kube-public", "-f", "-"],
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cluster-info}\ndata: {kubeconfig: content}\n",
    )
    .unwrap();
    // The same text that kubeadm makes of this token and content.
    let signature = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4";
    eventually("cluster-info is signed", || {
        let get = ["get", "--namespace", "kube-public", "configmap", "cluster-info", "-o"];
        let text = ns.kubectl(&[&get[..], &["jsonpath={.data.jws-kubeconfig-abcdef}"]].concat());
        (text == signature).then_some(())
    });
    for (name, role) in [("join", "system:node-bootstrapper"), ("approve", NODE_CLIENT)] {
        let (name, role) = (format!("{}-{name}", ns.name), format!("--clusterrole={role}"));
        ns.kubectl(&["create", "clusterrolebinding", &name, &role, "--group=system:bootstrappers:joining"]);
    }
    let newcomer = "{token: abcdef.0123456789abcdef}";
    assert_eq!(acting(ns, newcomer, WHO).unwrap(), "system:bootstrap:abcdef");
    let key = KeyPair::generate().unwrap();
    let request = manifest(ns, &key);
    let file = ns.node.path("request.yaml");
    std::fs::write(&file, request).unwrap();
    acting(ns, newcomer, &["create", "-f", &file.display().to_string()]).unwrap();
    let certificate = eventually("the request has a certificate", || {
        let template = "go-template={{if .status.certificate}}{{.status.certificate | base64decode}}{{end}}";
        let text = ns.kubectl(&["get", "csr", &ns.name, "-o", template]);
        text.contains("CERTIFICATE").then_some(text)
    });
    let (certificate_file, key_file) = (ns.node.path("joined.crt"), ns.node.path("joined.key"));
    std::fs::write(&certificate_file, certificate).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let joined = format!("{{client-certificate: {}, client-key: {}}}", certificate_file.display(), key_file.display());
    assert_eq!(acting(ns, &joined, WHO).unwrap(), "system:node:newcomer");
    ns.kubectl(&["delete", "--namespace", "kube-system", "secret", "bootstrap-token-abcdef"]);
    ns.kubectl(&["delete", "--namespace", "kube-public", "configmap", "cluster-info"]);
    let words = acting(ns, newcomer, WHO).unwrap_err();
    assert!(words.contains("You must be logged in to the server"), "{words}");
}

const NODE_CLIENT: &str = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";

/// A kubelet's request for a client certificate.
fn manifest(ns: &Namespace, key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, "system:node:newcomer");
    let pem = params.serialize_request(key).unwrap().pem().unwrap();
    let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {}}}\nspec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client-kubelet, usages: [digital signature, client auth]}}\n",
        ns.name
    )
}
