//! What every cluster starts with: its namespaces, roles, priority classes and the `kubernetes` service.

use std::sync::Arc;

use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::Cx;
use crate::fairness;
use crate::health::hook;
use crate::query::{FieldValidation, WriteOptions};
use crate::server::Inner;
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};

/// Creates what is missing and completes what an older version wrote. Safe to run at every start.
pub async fn write(server: &Arc<Inner>) -> Result<(), Status> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure(server, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await?;
    }
    server.health.done(hook::SYSTEM_NAMESPACES);
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        let class = json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name }, "value": value, "description": description });
        ensure(server, class).await?;
    }
    server.health.done(hook::PRIORITY_CLASSES);
    let cidrs = json!({ "cidrs": [server.config.service_cidr] });
    ensure(server, json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "kubernetes" }, "spec": cidrs,
    }))
    .await?;
    for flow in fairness::objects() {
        ensure_flow(server, flow).await?;
    }
    server.health.done(hook::SERVICE_CIDR);
    for role in admit::policy::bootstrap_objects() {
        ensure_role(server, role).await?;
    }
    server.health.done(hook::ROLES);
    kubernetes_service(server).await?;
    server.health.done(hook::KUBERNETES_SERVICE);
    authentication(server).await?;
    Ok(())
}

fn options() -> WriteOptions {
    WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: "kube-apiserver".to_owned(),
        force: false,
    }
}

fn context(server: &Arc<Inner>, value: &Value) -> Result<Cx, Status> {
    let missing = || Status::internal(format!("{} is not served", object::kind(value)));
    let gvk = object::gvk(value).ok_or_else(missing)?;
    let catalog = server.catalog.load();
    let kind = catalog.by_kind(&gvk.group, &gvk.version, &gvk.kind).ok_or_else(missing)?;
    Ok(Cx::internal(server, kind, object::namespace(value), object::name(value)))
}

/// Creates an object unless it is there. Answers whether it was there.
async fn ensure(server: &Arc<Inner>, mut value: Value) -> Result<Option<Value>, Status> {
    let cx = context(server, &value)?;
    if let Some(present) = server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await? {
        return Ok(Some(present.value));
    }
    crate::strategy::default(&cx.kind, &mut value);
    match write::create(&cx, value, &options(), Tracking::Update).await {
        Ok(_) => Ok(None),
        Err(status) if status.is_already_exists() => Ok(None),
        Err(status) => Err(status),
    }
}

/// A FlowSchema or priority level follows this server's, unless its annotation says to leave it.
/// `kubernetes/kubernetes pkg/registry/flowcontrol/ensurer: strategy of suggested configuration`.
async fn ensure_flow(server: &Arc<Inner>, mut wanted: Value) -> Result<(), Status> {
    let cx = context(server, &wanted)?;
    crate::strategy::default(&cx.kind, &mut wanted);
    let options = options();
    if let Some(present) = ensure(server, wanted.clone()).await? {
        let follows = object::annotation(&present, fairness::AUTO_UPDATE) != Some("false");
        if follows && present["spec"] != wanted["spec"] {
            let mut updated = present;
            updated["spec"] = wanted["spec"].clone();
            let how = Update { part: Part::Whole, options: &options, tracking: Tracking::Update, unconditional: true };
            write::update(&cx, &how, |_| Ok(updated.clone())).await?;
        }
        return Ok(());
    }
    let Some(condition) = wanted.pointer_mut("/status/conditions/0") else { return Ok(()) };
    condition["lastTransitionTime"] = json!(crate::strategy::seconds(cx.now));
    let status = wanted["status"].take();
    let part = Part::Sub(kinds::Subresource::Status);
    let how = Update { part, options: &options, tracking: Tracking::Update, unconditional: true };
    let with_status = |old: &crate::registry::Stored| {
        let mut new = old.value.clone();
        new["status"] = status.clone();
        Ok(new)
    };
    write::update(&cx, &how, with_status).await.map(|_| ())
}

/// A role that somebody has narrowed is completed again, unless its annotation says to leave it.
/// `kubernetes/kubernetes pkg/registry/rbac/rest/storage_rbac.go: reconciliation at start`.
async fn ensure_role(server: &Arc<Inner>, wanted: &Value) -> Result<(), Status> {
    let Some(present) = ensure(server, wanted.clone()).await? else { return Ok(()) };
    if object::annotation(&present, "rbac.authorization.kubernetes.io/autoupdate") == Some("false") {
        return Ok(());
    }
    let mut completed = present.clone();
    for list in ["rules", "subjects"] {
        let mut items = completed.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let before = items.len();
        for item in wanted.get(list).and_then(Value::as_array).into_iter().flatten() {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        if items.len() > before && wanted.get("aggregationRule").is_none() {
            completed[list] = Value::Array(items);
        }
    }
    if completed == present {
        return Ok(());
    }
    let cx = context(server, wanted)?;
    let options = options();
    let how = Update { part: Part::Whole, options: &options, tracking: Tracking::Update, unconditional: true };
    write::update(&cx, &how, |_| Ok(completed.clone())).await.map(|_| ())
}

/// The service by which pods find the API server, and its endpoint.
/// `kubernetes/kubernetes pkg/controlplane/controller/kubernetesservice`.
async fn kubernetes_service(server: &Arc<Inner>) -> Result<(), Status> {
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    ensure(
        server,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
            "spec": {
                "type": "ClusterIP", "clusterIP": server.allocator.first().to_string(), "sessionAffinity": "None",
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": server.config.port }],
            },
        }),
    )
    .await?;
    let (address, port) = (server.config.advertise_address.to_string(), server.config.port);
    if server.config.advertise_address.is_loopback() {
        // Endpoints may not name a loopback address; a server without a node has none to offer.
        return Ok(());
    }
    let subsets =
        json!([{ "addresses": [{ "ip": address }], "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }]);
    put(server, json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": subsets,
    }))
    .await?;
    put(server, json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": if server.config.advertise_address.is_ipv6() { "IPv6" } else { "IPv4" },
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    }))
    .await
}

/// By what other API servers know this one's clients, and this one itself when it speaks for a user.
/// `kubernetes/kubernetes pkg/controlplane/controller/clusterauthenticationtrust`.
async fn authentication(server: &Arc<Inner>) -> Result<(), Status> {
    let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
    let mut data = serde_json::Map::new();
    if !server.config.client_ca.is_empty() {
        data.insert("client-ca-file".to_owned(), json!(text(&server.config.client_ca)));
    }
    if let Some(proxy) = &server.config.front_proxy {
        let known = [
            ("allowed-names", r#"["front-proxy-client"]"#),
            ("extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
            ("group-headers", r#"["X-Remote-Group"]"#),
            ("uid-headers", r#"["X-Remote-Uid"]"#),
            ("username-headers", r#"["X-Remote-User"]"#),
        ];
        let known = known.iter().map(|(name, value)| (format!("requestheader-{name}"), json!(value)));
        data.extend(known.chain([("requestheader-client-ca-file".to_owned(), json!(text(&proxy.ca)))]));
    }
    put(
        server,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        }),
    )
    .await
}

/// Creates an object, or makes all but the metadata of the present one equal to it.
async fn put(server: &Arc<Inner>, mut value: Value) -> Result<(), Status> {
    let Some(present) = ensure(server, value.clone()).await? else { return Ok(()) };
    let cx = context(server, &value)?;
    value["metadata"] = present["metadata"].clone();
    crate::strategy::default(&cx.kind, &mut value);
    let options = options();
    let how = Update { part: Part::Whole, options: &options, tracking: Tracking::Update, unconditional: true };
    write::update(&cx, &how, |_| Ok(value.clone())).await.map(|_| ())
}
