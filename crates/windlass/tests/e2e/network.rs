//! The network beyond services and names: policies, and what load balancers ask.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Shared;
use crate::node::{IMAGE, Namespace, eventually};

pub const TESTS: &[(&str, Shared)] =
    &[("network_policies_are_enforced", policies), ("health_check_node_port_tells_of_local_endpoints", health_check)];

fn server(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: web\n    image: {IMAGE}\n    command: [web, -m, hello]\n    ports: [{{name: http, containerPort: 8080}}]\n    readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn policies(ns: &Namespace) {
    ns.apply(&server("web"));
    ns.run_script("client", "exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s"]);
    ns.kubectl(&["expose", "pod/web", "--port=80", "--target-port=http"]);
    let reaches =
        || ns.try_kubectl(&["exec", "client", "--", "wget", "-T", "1", "-q", "-O", "-", "http://web"]).is_ok();
    let becomes = |what: &str, wanted: bool| eventually(what, || (reaches() == wanted).then_some(()));
    becomes("without a policy everybody is let in", true);
    ns.apply(&policy("deny", "{podSelector: {}, policyTypes: [Ingress]}"));
    becomes("nobody is let in", false);
    let from = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{port: http}]}]}";
    ns.apply(&policy("friends", from));
    ns.kubectl(&["label", "pod/client", "role=friend"]);
    becomes("a friend is let in", true);
    ns.apply(&policy("silence", "{podSelector: {matchLabels: {role: friend}}, policyTypes: [Egress]}"));
    becomes("nobody gets out", false);
    ns.kubectl(&["delete", "networkpolicy", "--all"]);
    becomes("everybody is let in again", true);
    // Probes of the node went through all the time.
    assert_eq!(ns.value("pod/web", "{.status.containerStatuses[0].ready}"), "true");
}

fn health_check(ns: &Namespace) {
    ns.apply(&format!(
        "{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  selector: {{app: web}}\n  ports: [{{port: 80, targetPort: http}}]\n",
        server("web")
    ));
    let port: u16 = ns.value("service/web", "{.spec.healthCheckNodePort}").parse().unwrap();
    let told = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: balancer\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    let says = |what: &str, code: &str, endpoints: usize| {
        let count = format!("\"localEndpoints\": {endpoints},");
        eventually(what, || {
            told().filter(|text| text.starts_with(&format!("HTTP/1.1 {code} ")) && text.contains(&count))
        })
    };
    says("an endpoint is ready", "200", 1);
    ns.kubectl(&["delete", "pod/web"]);
    says("the endpoint is gone", "503", 0);
    ns.kubectl(&["delete", "service/web"]);
    eventually("the port is closed", || told().is_none().then_some(()));
}
