//! Kinds that are read only and never stored: what they say is found out when somebody asks.
//!
//! They are served like stored kinds, with selectors, tables and discovery; only the objects come from elsewhere. An
//! APIService for their group is to take their place: `dispatch` asks whoever else serves a group before it comes here.

use kinds::Computed;
use machinery::status::Status;
use serde_json::json;

use crate::context::Cx;
use crate::http::HttpResponse;
use crate::query::ListOptions;
use crate::select::Filter;
use crate::{respond, usage};

pub async fn get(cx: &Cx, source: Computed) -> Result<HttpResponse, Status> {
    let value = match source {
        Computed::NodeMetrics => usage::of_node(cx).await?,
        Computed::PodMetrics => usage::of_pod(cx).await?,
    };
    respond::object(cx, 200, value)
}

pub async fn list(cx: &Cx, source: Computed) -> Result<HttpResponse, Status> {
    let options = ListOptions::parse(&cx.query, false)?;
    let filter = Filter::new(&cx.kind, &options)?;
    let values = match source {
        Computed::NodeMetrics => usage::of_nodes(cx, &filter).await?,
        Computed::PodMetrics => usage::of_pods(cx, &filter).await?,
    };
    respond::list(cx, &json!({}), &values)
}
