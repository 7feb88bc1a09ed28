//! A request on its way to another API server, and its answer back.

use std::sync::Arc;

use admit::UserInfo;
use http::{Request, StatusCode};
use machinery::status::Status;

use super::{Registered, call};
use crate::http::{self as wire, Body, HttpResponse};
use crate::server::Inner;
use crate::subresources::proxy;

/// Hands a request over, with the word of the front proxy for who is asking.
/// `kubernetes/kube-aggregator pkg/apiserver/handler_proxy.go: ServeHTTP`.
pub async fn forward(
    server: &Arc<Inner>,
    user: &UserInfo,
    registered: &Registered,
    mut request: Request<Body>,
) -> Result<HttpResponse, Status> {
    let unavailable = || Ok(wire::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n"));
    let Some(service) = registered.service.as_ref().filter(|_| registered.available) else { return unavailable() };
    let stream = match call::connect(server, registered, service).await {
        Ok((stream, _)) => stream,
        Err(error) => {
            tracing::warn!(api_service = %registered.name, %error, "an API server cannot be reached");
            return unavailable();
        }
    };
    call::set_user(request.headers_mut(), user).map_err(Status::internal)?;
    proxy::exchange(stream, request, |request| proxy::handed_on(request, &service.host())).await
}
