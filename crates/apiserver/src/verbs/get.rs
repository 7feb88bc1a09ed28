//! GET of one object, always from the store: what was acknowledged before is seen.

use machinery::status::Status;

use crate::context::Cx;
use crate::http::HttpResponse;
use crate::respond;

pub async fn get(cx: &Cx) -> Result<HttpResponse, Status> {
    let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
    respond::object(cx, 200, found.ok_or_else(|| cx.not_found())?.value)
}
