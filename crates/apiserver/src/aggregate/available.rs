//! Whether the servers behind APIServices can be reached, and what they serve.
//!
//! `kubernetes/kube-aggregator pkg/controllers/status/remote/remote_available_controller.go`: the checks and their words.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service as CoreService;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::Subresource;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{GROUP, Registered, Service, call, remotes};
use crate::cache::Cache;
use crate::context::Cx;
use crate::query::{FieldValidation, WriteOptions};
use crate::server::Inner;
use crate::strategy::{Part, seconds};
use crate::subresources::location;
use crate::verbs::write::{self, Tracking, Update};

/// How often everything is looked at, whatever has changed.
const EVERY: Duration = Duration::from_secs(30);
/// How soon a server that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// What changes together is looked at once.
const CALM: Duration = Duration::from_millis(100);

/// Keeps the condition `Available` and the documents current until the server ends.
pub async fn follow(server: Arc<Inner>) {
    let stop = server.stopping().clone();
    loop {
        let caches = watched(&server);
        let changes: Vec<_> = caches.iter().map(|cache| Box::pin(cache.changed())).collect();
        let settled = settle(&server).await;
        let pause = if settled { EVERY } else { AGAIN };
        tokio::select! {
            _ = futures::future::select_all(changes) => tokio::time::sleep(CALM).await,
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn watched(server: &Inner) -> Vec<Arc<Cache>> {
    let catalog = server.catalog.load();
    let kinds = [(GROUP, "apiservices"), ("", "services"), ("discovery.k8s.io", "endpointslices")];
    kinds.iter().filter_map(|(group, plural)| server.caches.of(catalog.find(group, "v1", plural)?)).collect()
}

/// Looks at every APIService that leads elsewhere. Answers whether all of them can be reached.
async fn settle(server: &Arc<Inner>) -> bool {
    let remotes = remotes(server);
    let names: Vec<String> = remotes.iter().map(|registered| registered.name.clone()).collect();
    server.aggregated.keep(&names);
    let mut settled = true;
    for registered in &remotes {
        let Some(service) = &registered.service else { continue };
        let verdict = verdict(server, registered, service).await;
        settled &= verdict.reason == "Passed";
        if let Err(status) = tell(server, registered, &verdict).await {
            tracing::warn!(api_service = %registered.name, error = %status.message, "a condition was not written");
            settled = false;
        }
    }
    settled
}

/// What the condition `Available` is to say.
struct Verdict {
    available: bool,
    reason: &'static str,
    message: String,
}

async fn verdict(server: &Inner, registered: &Registered, service: &Service) -> Verdict {
    let no = |reason: &'static str, message: String| Verdict { available: false, reason, message };
    if let Err((reason, message)) = endpoints(server, service) {
        return no(reason, message);
    }
    let path = if registered.group.is_empty() {
        format!("/api/{}", registered.version)
    } else {
        format!("/apis/{}/{}", registered.group, registered.version)
    };
    match call::get(server, registered, &path).await {
        Ok((_, list)) => {
            server.aggregated.put(&registered.name, list);
            Verdict { available: true, reason: "Passed", message: "all checks passed".to_owned() }
        }
        Err(error) => {
            let host = service.host();
            let message = format!("failing or missing response from https://{host}:{}{path}: {error}", service.port);
            no("FailedDiscoveryCheck", message)
        }
    }
}

/// Whether the service is there, listens on the port, and has somebody behind it.
fn endpoints(server: &Inner, service: &Service) -> Result<(), (&'static str, String)> {
    let Service { namespace, name, port } = service;
    let view = server.view();
    let Some(found) = view.get::<CoreService>("", "services", &format!("{namespace}/{name}")) else {
        return Err(("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    let spec = found.spec.clone().unwrap_or_default();
    if spec.type_.as_deref().is_some_and(|kind| kind != "ClusterIP") {
        return Ok(());
    }
    let Some(listening) = spec.ports.iter().flatten().find(|known| known.port == i32::from(*port)) else {
        return Err(("ServicePortError", format!("service/{name} in {namespace:?} is not listening on port {port}")));
    };
    let port_name = listening.name.clone().unwrap_or_default();
    let of_service = |slice: &Arc<EndpointSlice>| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(location::SERVICE_NAME)).is_some_and(|owner| owner == name)
    };
    let mut slices: Vec<Arc<EndpointSlice>> = view.list("discovery.k8s.io", "endpointslices", namespace);
    slices.retain(of_service);
    if slices.is_empty() {
        return Err(("EndpointsNotFound", format!("cannot find endpointslices for service/{name} in {namespace:?}")));
    }
    if location::ready(&slices, name, &port_name, |_| true).is_empty() {
        let words = "have no addresses with port name";
        return Err((
            "MissingEndpoints",
            format!("endpointslices for service/{name} in {namespace:?} {words} {port_name:?}"),
        ));
    }
    Ok(())
}

/// Writes the condition, if it says something new.
async fn tell(server: &Arc<Inner>, registered: &Registered, verdict: &Verdict) -> Result<(), Status> {
    let catalog = server.catalog.load_full();
    let Some(kind) = catalog.find(GROUP, "v1", "apiservices") else { return Ok(()) };
    let cx = Cx::internal(server, kind, "", &registered.name);
    let status = if verdict.available { "True" } else { "False" };
    let says = |condition: &Value| {
        condition["status"] == status
            && condition["reason"] == verdict.reason
            && condition["message"] == verdict.message
    };
    let options = WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: "kube-apiserver".to_owned(),
        force: false,
    };
    let part = Part::Sub(Subresource::Status);
    let how = Update { part, options: &options, tracking: Tracking::Update, unconditional: true };
    write::update(&cx, &how, |old| {
        let mut new = old.value.clone();
        let conditions = old.value.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let known = conditions.clone().find(|condition| condition["type"] == "Available");
        if known.is_some_and(says) {
            return Ok(new);
        }
        let since =
            known.filter(|known| known["status"] == status).and_then(|known| known["lastTransitionTime"].as_str());
        let condition = json!({
            "type": "Available", "status": status, "reason": verdict.reason, "message": verdict.message,
            "lastTransitionTime": since.map_or_else(|| seconds(cx.now), str::to_owned),
        });
        crate::subresources::set_condition(&mut new, condition);
        Ok(new)
    })
    .await
    .map(|_| ())
}
