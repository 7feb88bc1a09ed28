//! From an authorized request to the file that answers it.

use std::sync::Arc;

use admit::UserInfo;
use http::{Method, Request, StatusCode, header};
use kinds::{Kind, Subresource, Verbs};
use machinery::status::Status;

use crate::context::{Cx, Payload};
use crate::http::{self as wire, Body, HttpResponse};
use crate::negotiate::{Accept, Endpoint};
use crate::query::{ListOptions, Query};
use crate::request_info::RequestInfo;
use crate::server::Inner;
use crate::strategy::Part;
use crate::{aggregate, computed, discovery, health, openapi, respond, route, subresources, verbs};

/// Answers a request that authorization has let through.
pub async fn dispatch(
    server: &Arc<Inner>,
    user: UserInfo,
    info: &RequestInfo,
    query: &Query,
    request: Request<Body>,
) -> Result<HttpResponse, Status> {
    if let Some(registered) = aggregate::of(server, info) {
        return aggregate::forward(server, &user, &registered, request).await;
    }
    if !info.is_resource {
        return path(server, info, query, request).await;
    }
    let catalog = server.catalog.load_full();
    let Some(kind) = catalog.find(&info.group, &info.version, &info.resource) else {
        let group = catalog.all().iter().any(|kind| kind.group == info.group && kind.version == info.version);
        return if group { Err(Status::unknown_path()) } else { Ok(not_a_path()) };
    };
    let misplaced = !kind.namespaced() && !info.namespace.is_empty() && info.resource != "namespaces";
    // Whatever else stands under `/watch/` was authorized as a watch, and is nothing else.
    let no_watch = info.watch_by_path && (!info.subresource.is_empty() || !kind.verbs.has(Verbs::WATCH));
    if misplaced || no_watch {
        return Err(Status::unknown_path());
    }
    // A method without a verb, such as OPTIONS, means something to a server behind a proxy alone.
    let proxied = subresource(kind, info) == Some(&Subresource::Proxy);
    if (info.verb.is_empty() && !proxied) || (info.watch_by_path && request.method() != Method::GET) {
        return Err(Status::method_not_allowed());
    }
    let mut info = info.clone();
    if !kind.namespaced() {
        info.namespace = String::new();
    }
    if let Some(stream) = subresource(kind, &info)
        && subresources::streams(stream)
    {
        let cx = cx(server, kind, user, info, query, &request, Accept::JSON);
        return subresources::stream(&cx, stream, request).await;
    }
    route::check(kind, &info.verb, request.headers())?;
    let accept = Accept::negotiate(request.headers(), query, Endpoint::of(kind))?;
    let cx = cx(server, kind, user, info, query, &request, accept);
    let content_type =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.to_owned();
    let head = request.method() == Method::HEAD;
    let payload = Payload { bytes: wire::read(request.into_body()).await?, content_type };
    let answered = if cx.info.subresource.is_empty() { verb(&cx, &payload).await } else { sub(&cx, &payload).await };
    // A refusal carries the warnings too: they may say why.
    let mut response = answered.unwrap_or_else(|status| {
        let mut refusal = respond::failure(&cx.headers, query, &status);
        respond::add_warnings(&cx, &mut refusal);
        refusal
    });
    if head {
        *response.body_mut() = wire::empty();
    }
    Ok(response)
}

fn cx(
    server: &Arc<Inner>,
    kind: &Arc<Kind>,
    user: UserInfo,
    info: RequestInfo,
    query: &Query,
    request: &Request<Body>,
    accept: Accept,
) -> Cx {
    let cx =
        Cx::new(Arc::clone(server), Arc::clone(kind), user, info, query.clone(), request.headers().clone(), accept);
    if !cx.kind.deprecation.is_empty() && (cx.info.subresource.is_empty() || subresource(&cx.kind, &cx.info).is_some())
    {
        cx.warn(cx.kind.deprecation.as_ref());
    }
    cx
}

fn subresource<'a>(kind: &'a Kind, info: &RequestInfo) -> Option<&'a Subresource> {
    kind.subresources.iter().find(|known| known.name() == info.subresource)
}

async fn verb(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    let named = !cx.info.name.is_empty();
    let needs_namespace = cx.kind.namespaced() && cx.info.namespace.is_empty();
    let unsupported = || cx.unsupported();
    if needs_namespace && !matches!(cx.info.verb.as_str(), "list" | "watch" | "create") {
        return Err(Status::unknown_path());
    }
    if named && !cx.kind.verbs.has_any(Verbs::OF_ONE) {
        return Err(Status::unknown_path());
    }
    let has = |verb: Verbs| if cx.kind.verbs.has(verb) { Ok(()) } else { Err(unsupported()) };
    match (cx.info.verb.as_str(), named) {
        ("create", false) => {
            has(Verbs::CREATE)?;
            if !cx.kind.storage_prefix.is_empty() {
                if needs_namespace {
                    return Err(unsupported());
                }
                return verbs::create::create(cx, payload).await;
            }
            crate::reviews::create(cx, payload).await
        }
        ("get", true) => {
            has(Verbs::GET)?;
            match cx.kind.computed {
                Some(source) => computed::get(cx, source).await,
                None => verbs::get::get(cx).await,
            }
        }
        ("list", _) => {
            has(Verbs::LIST)?;
            match cx.kind.computed {
                Some(source) => computed::list(cx, source).await,
                None => verbs::list::list(cx).await,
            }
        }
        ("watch", _) if cx.kind.verbs.has(Verbs::LIST) && !cx.kind.verbs.has(Verbs::WATCH) => {
            ListOptions::parse(&cx.query, true)?;
            Err(Status::method_not_supported(&cx.resource(), "watch"))
        }
        ("watch", _) => has(Verbs::WATCH).map(|()| verbs::watch::watch(cx))?.await,
        ("update", true) => has(Verbs::UPDATE).map(|()| verbs::update::update(cx, payload, Part::Whole))?.await,
        ("patch", true) => has(Verbs::PATCH).map(|()| verbs::patch::patch(cx, payload, Part::Whole))?.await,
        ("delete", true) => has(Verbs::DELETE).map(|()| verbs::delete::delete(cx, payload))?.await,
        ("deletecollection", false) => {
            has(Verbs::DELETE_COLLECTION).map(|()| verbs::delete::delete_collection(cx, payload))?.await
        }
        _ => Err(unsupported()),
    }
}

async fn sub(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    match subresource(&cx.kind, &cx.info) {
        Some(known) if cx.info.rest.is_empty() => subresources::serve(cx, known, payload).await,
        _ => Err(Status::unknown_path()),
    }
}

/// Both registries as one text: the first loses its end mark.
fn scraped(server: &Inner) -> String {
    let counted = server.metrics.encode();
    let counted = counted.strip_suffix("# EOF\n").unwrap_or(&counted);
    format!("{counted}{}", server.gauges.encode(server))
}

/// Upstream's mux answers a path it does not know in plain text.
pub fn not_a_path() -> HttpResponse {
    wire::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn path(
    server: &Arc<Inner>,
    info: &RequestInfo,
    query: &Query,
    request: Request<Body>,
) -> Result<HttpResponse, Status> {
    let path = info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let headers = request.headers();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && matches!(parts.as_slice(), ["api" | "apis" | "version", ..]) {
        return Err(Status::method_not_allowed());
    }
    match parts.as_slice() {
        ["api"] => discovery::legacy(server, headers, query),
        ["api", version] => discovery::core_resources(server, headers, query, version),
        ["apis"] => discovery::groups(server, headers, query),
        ["apis", group] => discovery::group(server, headers, query, group),
        ["apis", group, version] => discovery::resources(server, headers, query, group, version),
        ["healthz" | "livez" | "readyz", ..] => Ok(health::answer(server, &parts, query).await),
        ["version"] => wire::pretty(&health::version()),
        ["metrics"] => Ok(wire::answer(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            wire::full(scraped(server)),
        )),
        ["openapi", "v2"] => openapi::v2(server, headers),
        ["openapi", "v3"] => openapi::index(server),
        ["openapi", "v3", rest @ ..] => openapi::v3(server, &rest.join("/"), headers, query).await,
        [".well-known", "openid-configuration"] => {
            let uri = format!("https://{}:{}/openid/v1/jwks", server.config.advertise_address, server.config.port);
            Ok(wire::json(StatusCode::OK, &server.signer.discovery(&uri)))
        }
        ["openid", "v1", "jwks"] => {
            let body = wire::full(server.signer.jwks().to_string());
            Ok(wire::answer(StatusCode::OK, "application/jwk-set+json", body))
        }
        [] | [""] => wire::pretty(&discovery::paths(server)),
        _ => Ok(not_a_path()),
    }
}
