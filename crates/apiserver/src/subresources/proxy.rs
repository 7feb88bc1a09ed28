//! `log`, `exec`, `attach`, `portforward` and `proxy`: the request goes on to the node, pod or service it is for.
//!
//! An upgrade (WebSocket or SPDY) is tunnelled: once both sides have switched protocols, bytes pass through unread.
//! `kubernetes/kubernetes pkg/registry/core/pod/strategy.go: LogLocation, ExecLocation; pkg/registry/core/node/strategy.go`.

use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kinds::Subresource;
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admission::{self, Operation};
use crate::authz;
use crate::context::Cx;
use crate::dial::{self, Address, Security};
use crate::http::{Body, BoxError, HttpResponse};
use crate::subresources::links::Links;
use crate::subresources::{location, messages};

/// Where a request goes.
struct Upstream {
    address: Address,
    security: Security,
    path: String,
    query: String,
    /// How the links of what it answers are made to lead through here.
    links: Option<Links>,
}

pub async fn forward(cx: &Cx, subresource: &Subresource, mut request: Request<Body>) -> Result<HttpResponse, Status> {
    check_verb(cx, subresource, request.method())?;
    let asked = request.uri().query().unwrap_or_default().to_owned();
    if matches!(subresource, Subresource::Proxy)
        && let Some(redirect) = to_root(&request)
    {
        return Ok(redirect);
    }
    connection_admitted(cx, subresource).await?;
    let upstream = match subresource {
        Subresource::Proxy => {
            let (address, security) = location::of(cx).await?;
            let path = rest(cx, request.uri().path());
            let links = Some(links(&request, &path, &address));
            Upstream { address, security, path, query: asked, links }
        }
        Subresource::Log => to_container(cx, "containerLogs", &asked).await?,
        Subresource::Exec => to_container(cx, "exec", &asked).await?,
        Subresource::Attach => to_container(cx, "attach", &asked).await?,
        _ => to_container(cx, "portForward", &asked).await?,
    };
    let wish = if *subresource == Subresource::Log { messages::wished(&mut request)? } else { None };
    let answer = send(cx, &upstream, request).await?;
    Ok(match wish {
        Some(wish) => wish.grant(answer),
        None => answer,
    })
}

/// Asks the policies and webhooks about a connection; logs are read, not connected to.
/// `kubernetes/apiserver pkg/endpoints/handlers/rest.go: ConnectResource`.
async fn connection_admitted(cx: &Cx, subresource: &Subresource) -> Result<(), Status> {
    if matches!(subresource, Subresource::Log) {
        return Ok(());
    }
    let kind = cx.kind.speaks(subresource.name());
    let mut options = json!({ "kind": &*kind.kind, "apiVersion": cx.kind.api_version() });
    match subresource {
        Subresource::Proxy if !cx.info.rest.is_empty() => options["path"] = json!(cx.info.rest.join("/")),
        Subresource::PortForward => {
            let ports: Vec<i32> = cx.query.all("ports").filter_map(|port| port.parse().ok()).collect();
            options["ports"] = json!(ports);
        }
        Subresource::Exec | Subresource::Attach => {
            for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| cx.query.flag(flag)) {
                options[flag] = json!(true);
            }
            if let Some(container) = cx.query.text("container") {
                options["container"] = json!(container);
            }
            let command: Vec<&str> = cx.query.all("command").collect();
            if matches!(subresource, Subresource::Exec) {
                options["command"] = json!(command);
            }
        }
        _ => {}
    }
    admission::ask(cx, Operation::Connect, &mut options).await
}

/// A GET that upgrades to exec, attach or port-forward needs the right to `create` too, as a POST would.
/// `kubernetes/kubernetes pkg/registry/core/pod/rest/subresources.go: AuthorizePodWebsocketUpgradeCreatePermission`.
fn check_verb(cx: &Cx, subresource: &Subresource, method: &Method) -> Result<(), Status> {
    match (subresource, method) {
        (Subresource::Log, &Method::GET | &Method::HEAD) | (Subresource::Proxy, _) | (_, &Method::POST) => Ok(()),
        (Subresource::Log, _) => Err(Status::method_not_supported(&cx.resource(), &cx.info.verb)),
        (_, &Method::GET) => {
            let mut attributes = authz::attributes(&cx.user, &cx.info);
            attributes.verb = "create";
            authz::require(&cx.server, &attributes, &cx.resource())
        }
        _ => Err(Status::method_not_supported(&cx.resource(), &cx.info.verb)),
    }
}

pub(super) async fn fetch(cx: &Cx, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let missing = || Status::not_found(&machinery::gvk::GroupResource::new("", plural), name);
    let kind = kinds::by_resource("", "v1", plural).ok_or_else(missing)?;
    Ok(cx.server.registry.get(kind, namespace, name).await?.ok_or_else(missing)?.value)
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The kubelet of a named node.
pub(super) async fn kubelet(cx: &Cx, node: &str) -> Result<Address, Status> {
    dial::kubelet_address(&fetch(cx, "nodes", "", node).await?)
}

/// A pod's container on its node's kubelet.
async fn to_container(cx: &Cx, what: &str, asked: &str) -> Result<Upstream, Status> {
    let pod = fetch(cx, "pods", &cx.info.namespace, &cx.info.name).await?;
    let (namespace, name) = (&cx.info.namespace, &cx.info.name);
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let address = kubelet(cx, node).await?;
    let (path, query) = match what {
        "portForward" => (format!("/portForward/{namespace}/{name}"), asked.to_owned()),
        "containerLogs" => {
            let container = container(cx, &pod)?;
            (format!("/containerLogs/{namespace}/{name}/{container}"), without(asked, &["container"]))
        }
        _ => {
            let container = container(cx, &pod)?;
            (format!("/{what}/{namespace}/{name}/{container}"), kubelet_streams(asked))
        }
    };
    Ok(Upstream { address, security: Security::Kubelet, path, query, links: None })
}

/// The links of a server whose root is reached by what stands before `path` in the request's path.
fn links(request: &Request<Body>, path: &str, address: &Address) -> Links {
    let whole = request.uri().path();
    let called = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    Links {
        prefix: whole.strip_suffix(path).unwrap_or(whole).to_owned(),
        hosts: called.into_iter().chain([address.to_string()]).collect(),
    }
}

/// What follows `proxy` in the path, with the slash it may end in.
fn rest(cx: &Cx, path: &str) -> String {
    let mut rest = format!("/{}", cx.info.rest.join("/"));
    if path.ends_with('/') && !rest.ends_with('/') {
        rest.push('/');
    }
    rest
}

/// The query as the kubelet spells it: `stdin` is `input`, `stdout` `output`, `stderr` `error`.
fn kubelet_streams(asked: &str) -> String {
    let rename = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let on = !matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "");
        match name {
            "container" => None,
            "stdin" => on.then(|| "input=1".to_owned()),
            "stdout" => on.then(|| "output=1".to_owned()),
            "stderr" => on.then(|| "error=1".to_owned()),
            "tty" => on.then(|| "tty=1".to_owned()),
            _ => Some(part.to_owned()),
        }
    };
    asked.split('&').filter(|part| !part.is_empty()).filter_map(rename).collect::<Vec<_>>().join("&")
}

fn without(asked: &str, names: &[&str]) -> String {
    let keep = |part: &&str| !names.contains(&part.split('=').next().unwrap_or_default());
    asked.split('&').filter(|part| !part.is_empty()).filter(keep).collect::<Vec<_>>().join("&")
}

/// The container asked for, or the only one.
fn container(cx: &Cx, pod: &Value) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let list = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let (main, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod_name = object::name(pod);
    let asked = cx.query.get("container").unwrap_or_default();
    if asked.is_empty() {
        return match main.as_slice() {
            [only] => Ok(only.clone()),
            many => {
                let mut words =
                    format!("a container name must be specified for pod {pod_name}, choose one of: {}", bracket(many));
                if !init.is_empty() {
                    words.push_str(&format!(" or one of the init containers: {}", bracket(&init)));
                }
                Err(Status::bad_request(words))
            }
        };
    }
    if [&main, &init, &ephemeral].iter().any(|list| list.iter().any(|name| name == asked)) {
        return Ok(asked.to_owned());
    }
    Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")))
}

fn bracket(names: &[String]) -> String {
    format!("[{}]", names.join(" "))
}

/// The proxied root without its slash is not served: relative links of the page behind it would lead elsewhere.
/// `kubernetes/apimachinery pkg/util/proxy/upgradeaware.go: proxyRedirectsforRootPath`.
fn to_root(request: &Request<Body>) -> Option<HttpResponse> {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || !path.ends_with("/proxy") || wants_upgrade(request.headers()) {
        return None;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = http::Response::new(crate::http::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(http::header::LOCATION, HeaderValue::from_str(&format!("{path}/{query}")).ok()?);
    Some(response)
}

async fn send(cx: &Cx, upstream: &Upstream, request: Request<Body>) -> Result<HttpResponse, Status> {
    let stream = dial::connect(&cx.server, &upstream.address, upstream.security).await?;
    let upgrade = wants_upgrade(request.headers());
    let mut answer = exchange(stream, request, |request| outgoing(upstream, request, upgrade)).await?;
    if let Some(links) = upstream.links.as_ref().filter(|_| answer.status() != StatusCode::SWITCHING_PROTOCOLS) {
        let body = std::mem::replace(answer.body_mut(), crate::http::empty());
        *answer.body_mut() = links.rewrite(answer.headers_mut(), body);
    }
    Ok(answer)
}

/// The same request on another connection, as `outgoing` makes it, and its answer; an upgrade is tunnelled.
pub async fn exchange<S>(
    stream: S,
    mut request: Request<Body>,
    outgoing: impl FnOnce(Request<Body>) -> Result<Request<Body>, Status>,
) -> Result<HttpResponse, Status>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Status::internal)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    let upgrade = wants_upgrade(request.headers());
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let outgoing = outgoing(request)?;
    let mut answer = sender
        .send_request(outgoing)
        .await
        .map_err(|error| Status::service_unavailable(format!("error trying to reach service: {error}")))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let server = hyper::upgrade::on(&mut answer);
        tokio::spawn(tunnel(client, server));
        let (parts, _) = answer.into_parts();
        return Ok(http::Response::from_parts(parts, crate::http::empty()));
    }
    let (mut parts, body) = answer.into_parts();
    strip_hop_headers(&mut parts.headers);
    let body = body.map_err(|error| -> BoxError { Box::new(error) }).boxed_unsync();
    Ok(http::Response::from_parts(parts, body))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// The same request for another server: at `host`, without the caller's credentials.
pub fn handed_on(request: Request<Body>, host: &str) -> Result<Request<Body>, Status> {
    let upgrade = wants_upgrade(request.headers());
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    parts.uri = target.parse::<Uri>().map_err(Status::internal)?;
    parts.version = http::Version::HTTP_11;
    if !upgrade {
        strip_hop_headers(&mut parts.headers);
    }
    parts.headers.remove(http::header::AUTHORIZATION);
    parts.headers.insert(HOST, HeaderValue::from_str(host).map_err(Status::internal)?);
    parts.extensions = http::Extensions::new();
    Ok(Request::from_parts(parts, body))
}

/// The same request for the next server: its path and host, and none of the caller's credentials.
fn outgoing(upstream: &Upstream, request: Request<Body>, upgrade: bool) -> Result<Request<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let target =
        if upstream.query.is_empty() { upstream.path.clone() } else { format!("{}?{}", upstream.path, upstream.query) };
    parts.uri = target.parse::<Uri>().map_err(Status::internal)?;
    parts.version = http::Version::HTTP_11;
    if !upgrade {
        strip_hop_headers(&mut parts.headers);
    }
    parts.headers.remove(http::header::AUTHORIZATION);
    if let Some(links) = &upstream.links {
        // What is compressed could not be read, and its links not be rewritten.
        parts.headers.remove(http::header::ACCEPT_ENCODING);
        let called = HeaderValue::from_str(&format!("{}{}", links.prefix, upstream.path)).map_err(Status::internal)?;
        parts.headers.insert(HeaderName::from_static("x-forwarded-uri"), called);
    }
    let host = HeaderValue::from_str(&upstream.address.to_string()).map_err(Status::internal)?;
    parts.headers.insert(HOST, host);
    parts.extensions = http::Extensions::new();
    Ok(Request::from_parts(parts, body))
}

fn strip_hop_headers(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"] {
        headers.remove(HeaderName::from_static(name));
    }
}

async fn tunnel(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade) {
    let (client, server) = match futures::future::try_join(client, server).await {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "upgrade"),
    };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(%error, "tunnel ended");
    }
}
