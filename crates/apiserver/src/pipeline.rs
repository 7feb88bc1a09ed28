//! Every request's way through the server: read, authenticate, impersonate, authorize, dispatch, count.
//!
//! `kubernetes/apiserver pkg/server/config.go: DefaultBuildHandlerChain` gives the order.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request};
use machinery::gvk::GroupResource;
use machinery::status::Status;

use crate::authn::{self, Peer};
use crate::fairness::Flow;
use crate::http::{Body, HttpResponse};
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::server::Inner;
use crate::{authz, dispatch, respond};

/// `kubernetes/apiserver pkg/server/config.go: RequestTimeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers a request, whatever comes of it: an error is a Status, a panic a 500.
pub fn serve(server: Arc<Inner>, peer: Peer, request: Request<Body>) -> BoxFuture<'static, HttpResponse> {
    // Boxed, so that the compiler proves once, here, that the whole of it may move between threads.
    Box::pin(run(server, peer, request))
}

async fn run(server: Arc<Inner>, peer: Peer, request: Request<Body>) -> HttpResponse {
    let started = Instant::now();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    let headers = request.headers().clone();
    let long = long_running(&info, &query);
    let kind = server.catalog.load().find(&info.group, &info.version, &info.resource).cloned();
    let present = server.gauges.request(request.method(), &info, kind.as_deref(), long);
    let flow = OnceLock::new();
    let work = AssertUnwindSafe(answer(&server, peer, &info, &query, request, &flow)).catch_unwind();
    let outcome = if long {
        work.await
    } else {
        match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Err(Status::timeout("request did not complete within the allotted timeout", 0))),
        }
    };
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => respond::failure(&headers, &query, &status),
        Err(panic) => {
            let text = panic_text(panic.as_ref());
            tracing::error!(path = %info.path, verb = %info.verb, panic = %text, "a request panicked");
            let words = "This request caused apiserver to panic. Look in the logs for details.";
            respond::failure(&headers, &query, &Status::internal(words))
        }
    };
    if let Some(flow) = flow.into_inner() {
        flow.mark(response.headers_mut());
    }
    let audit = uuid::Uuid::new_v4().to_string();
    if let Ok(value) = HeaderValue::from_str(&audit) {
        response.headers_mut().insert("audit-id", value);
    }
    let catalog = server.catalog.load();
    let kind = catalog.find(&info.group, &info.version, &info.resource).map(AsRef::as_ref);
    server.metrics.request(&info, &query, kind, response.status().as_u16(), started.elapsed());
    tracing::debug!(verb = %info.verb, path = %info.path, code = response.status().as_u16(), took = ?started.elapsed(), "request");
    if long { present.until_sent(response) } else { response }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
}

/// Watches and streams have no deadline.
/// `kubernetes/apiserver pkg/server/filters/longrunning.go`.
fn long_running(info: &RequestInfo, query: &Query) -> bool {
    info.verb == "watch"
        || matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy")
        || (info.subresource == "log" && query.flag("follow"))
}

async fn answer(
    server: &Arc<Inner>,
    peer: Peer,
    info: &RequestInfo,
    query: &Query,
    mut request: Request<Body>,
    flow: &OnceLock<Flow>,
) -> Result<HttpResponse, Status> {
    let user = authn::authenticate(server, &peer, request.headers_mut()).await?;
    let user = authn::impersonation::impersonate(server, user, request.headers_mut())?;
    let resource = if info.is_resource {
        GroupResource::new(info.group.as_str(), info.resource.as_str())
    } else {
        GroupResource::new("", "")
    };
    let mut attributes = authz::attributes(&user, info);
    if !info.is_resource {
        attributes.resource = "";
    }
    if (info.verb == "watch" || !long_running(info, query))
        && let Some(found) = Flow::of(server, &attributes)
    {
        flow.get_or_init(|| found);
    }
    authz::require(server, &attributes, &resource)?;
    dispatch::dispatch(server, user, info, query, request).await
}
