//! Kinds that are read only and never stored: what they say is found out when somebody asks.
//!
//! They are served like stored kinds, with selectors, tables and discovery; only the objects come from elsewhere. An
//! APIService for their group is to take their place: `dispatch` asks whoever else serves a group before it comes here.

use kinds::Computed;
use machinery::gvk::GroupResource;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::Cx;
use crate::http::HttpResponse;
use crate::query::ListOptions;
use crate::select::Filter;
use crate::{respond, usage};

pub async fn get(cx: &Cx, source: Computed) -> Result<HttpResponse, Status> {
    let value = match source {
        Computed::ComponentStatuses => component(cx).await?,
        Computed::NodeMetrics => usage::of_node(cx).await?,
        Computed::PodMetrics => usage::of_pod(cx).await?,
    };
    respond::object(cx, 200, value)
}

pub async fn list(cx: &Cx, source: Computed) -> Result<HttpResponse, Status> {
    let options = ListOptions::parse(&cx.query, false)?;
    let filter = Filter::new(&cx.kind, &options)?;
    let values = match source {
        Computed::ComponentStatuses => components(cx, &filter).await,
        Computed::NodeMetrics => usage::of_nodes(cx, &filter).await?,
        Computed::PodMetrics => usage::of_pods(cx, &filter).await?,
    };
    respond::list(cx, &json!({}), &values)
}

/// The store, by the name that upstream has for it.
const STORE: &str = "etcd-0";

/// The server knows of no other part that it could ask. `kubernetes/kubernetes pkg/registry/core/componentstatus/rest.go`.
async fn components(cx: &Cx, filter: &Filter) -> Vec<Value> {
    if filter.matches_name(STORE) { vec![store(cx).await] } else { Vec::new() }
}

async fn store(cx: &Cx) -> Value {
    let (healthy, message) = match cx.server.registry.revision().await {
        Ok(_) => ("True", "ok".to_owned()),
        Err(status) => ("False", status.message),
    };
    json!({
        "metadata": { "name": STORE },
        "conditions": [{ "type": "Healthy", "status": healthy, "message": message }],
    })
}

async fn component(cx: &Cx) -> Result<Value, Status> {
    if cx.info.name != STORE {
        let singular = GroupResource::new(cx.kind.group.as_ref(), cx.kind.names.singular.as_ref());
        return Err(Status::not_found(&singular, &cx.info.name));
    }
    let mut store = store(cx).await;
    store["apiVersion"] = json!(cx.kind.api_version());
    store["kind"] = json!(cx.kind.names.kind);
    Ok(store)
}
