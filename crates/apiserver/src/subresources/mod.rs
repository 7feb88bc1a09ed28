//! The subresources, a file each; which a kind has stands in its `Kind`.

mod approval;
mod binding;
mod ephemeral;
mod eviction;
mod finalize;
mod links;
pub mod location;
mod messages;
pub mod proxy;
pub mod scale;
mod token;

pub use binding::set_condition;
use http::Request;
use kinds::Subresource;
use machinery::status::Status;

use crate::context::{Cx, Payload};
use crate::http::{Body, HttpResponse};
use crate::strategy::Part;
use crate::verbs;

/// Answers a request for a subresource that is an object like others.
pub async fn serve(cx: &Cx, subresource: &Subresource, payload: &Payload) -> Result<HttpResponse, Status> {
    match subresource {
        Subresource::Status => part(cx, payload, Part::Sub(Subresource::Status)).await,
        Subresource::Scale(paths) => scale::serve(cx, paths, payload).await,
        Subresource::Binding => binding::create(cx, payload).await,
        Subresource::Eviction => eviction::create(cx, payload).await,
        Subresource::Token => token::create(cx, payload).await,
        Subresource::EphemeralContainers => ephemeral::serve(cx, payload, ephemeral::What::EphemeralContainers).await,
        Subresource::Resize => ephemeral::serve(cx, payload, ephemeral::What::Resize).await,
        Subresource::Finalize => finalize::update(cx, payload).await,
        Subresource::Approval => approval::serve(cx, payload).await,
        Subresource::Log | Subresource::Exec | Subresource::Attach | Subresource::PortForward | Subresource::Proxy => {
            Err(cx.unsupported())
        }
    }
}

/// Reads and writes the object itself, changing one part of it only.
async fn part(cx: &Cx, payload: &Payload, part: Part) -> Result<HttpResponse, Status> {
    match cx.info.verb.as_str() {
        "get" => verbs::get::get(cx).await,
        "update" => verbs::update::update(cx, payload, part).await,
        "patch" => verbs::patch::patch(cx, payload, part).await,
        _ => Err(cx.unsupported()),
    }
}

/// Whether the subresource's bytes go through to somewhere else.
pub fn streams(subresource: &Subresource) -> bool {
    matches!(
        subresource,
        Subresource::Log | Subresource::Exec | Subresource::Attach | Subresource::PortForward | Subresource::Proxy
    )
}

/// Hands the request on to the node, pod or service it is for.
pub async fn stream(cx: &Cx, subresource: &Subresource, request: Request<Body>) -> Result<HttpResponse, Status> {
    proxy::forward(cx, subresource, request).await
}
