//! `log`, `exec`, `attach`, `portforward` and `proxy`: the request goes on to the node, pod or service it is for.
//!
//! An upgrade (WebSocket or SPDY) is tunnelled: once both sides have switched protocols, bytes pass through unread.
//! `kubernetes/kubernetes pkg/registry/core/pod/strategy.go: LogLocation, ExecLocation; pkg/registry/core/node/strategy.go`.

use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kinds::Subresource;
use machinery::object;
use machinery::status::Status;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authz;
use crate::context::Cx;
use crate::http::{Body, BoxError, HttpResponse};

/// The kubelet's port, where the node does not name another.
const KUBELET_PORT: u16 = 10250;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request goes.
struct Upstream {
    host: String,
    port: u16,
    tls: bool,
    path: String,
    query: String,
}

pub async fn forward(cx: &Cx, subresource: &Subresource, request: Request<Body>) -> Result<HttpResponse, Status> {
    check_verb(cx, subresource, request.method())?;
    let asked = request.uri().query().unwrap_or_default().to_owned();
    let upstream = match subresource {
        Subresource::Proxy => proxied(cx, &asked).await?,
        Subresource::Log => to_container(cx, "containerLogs", &asked).await?,
        Subresource::Exec => to_container(cx, "exec", &asked).await?,
        Subresource::Attach => to_container(cx, "attach", &asked).await?,
        _ => to_container(cx, "portForward", &asked).await?,
    };
    send(cx, &upstream, request).await
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

async fn fetch(cx: &Cx, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let missing = || Status::not_found(&machinery::gvk::GroupResource::new("", plural), name);
    let kind = kinds::by_resource("", "v1", plural).ok_or_else(missing)?;
    Ok(cx.server.registry.get(kind, namespace, name).await?.ok_or_else(missing)?.value)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The kubelet of a node: its internal address, and the port it says.
async fn kubelet(cx: &Cx, node: &str) -> Result<(String, u16), Status> {
    let node = fetch(cx, "nodes", "", node).await?;
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |wanted: &str| {
        addresses.iter().find(|address| address["type"] == wanted).map(|address| text(address, "/address").to_owned())
    };
    let host = of("InternalIP").or_else(|| of("ExternalIP")).or_else(|| of("Hostname")).filter(|host| !host.is_empty());
    let host =
        host.ok_or_else(|| Status::internal(format!("no preferred addresses found; known addresses: {addresses:?}")))?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
    Ok((host, port))
}

/// A pod's container on its node's kubelet.
async fn to_container(cx: &Cx, what: &str, asked: &str) -> Result<Upstream, Status> {
    let pod = fetch(cx, "pods", &cx.info.namespace, &cx.info.name).await?;
    let (namespace, name) = (&cx.info.namespace, &cx.info.name);
    let node = text(&pod, "/spec/nodeName");
    if node.is_empty() {
        return match what {
            // A log of a pod that runs nowhere yet is empty upstream; kubectl is told to wait by the same words.
            "containerLogs" => Err(Status::bad_request(format!("pod {name} does not have a host assigned"))),
            _ => Err(Status::bad_request(format!("pod {name} does not have a host assigned"))),
        };
    }
    let (host, port) = kubelet(cx, node).await?;
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
    Ok(Upstream { host, port, tls: true, path, query })
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

/// `proxy` of a node, pod or service: the rest of the path goes on.
async fn proxied(cx: &Cx, asked: &str) -> Result<Upstream, Status> {
    let path = format!("/{}", cx.info.rest.join("/"));
    let query = asked.to_owned();
    let (scheme, name, port) = split(&cx.info.name);
    match cx.kind.names.plural.as_ref() {
        "nodes" => {
            let (host, kubelet_port) = kubelet(cx, &name).await?;
            let port = port.parse().unwrap_or(kubelet_port);
            Ok(Upstream { host, port, tls: port == kubelet_port || scheme == "https", path, query })
        }
        "pods" => {
            let pod = fetch(cx, "pods", &cx.info.namespace, &name).await?;
            let host = text(&pod, "/status/podIP").to_owned();
            if host.is_empty() {
                return Err(Status::bad_request("address not allowed"));
            }
            let port = if port.is_empty() { first_port(&pod) } else { port.parse().unwrap_or(80) };
            Ok(Upstream { host, port, tls: scheme == "https", path, query })
        }
        _ => {
            let (host, port) = service_endpoint(cx, &name, &port).await?;
            Ok(Upstream { host, port, tls: scheme == "https", path, query })
        }
    }
}

/// `[scheme:]name[:port]`
fn split(id: &str) -> (String, String, String) {
    let parts: Vec<&str> = id.split(':').collect();
    let own = |text: &str| text.to_owned();
    match parts.as_slice() {
        [name, port] => (String::new(), own(name), own(port)),
        [scheme, name, port] => (own(scheme), own(name), own(port)),
        _ => (String::new(), own(id), String::new()),
    }
}

fn first_port(pod: &Value) -> u16 {
    let ports = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let mut ports = ports.filter_map(|container| container.pointer("/ports/0/containerPort").and_then(Value::as_u64));
    ports.next().and_then(|port| u16::try_from(port).ok()).unwrap_or(80)
}

/// One ready endpoint of a service's port, by port name, number, or the only one.
async fn service_endpoint(cx: &Cx, name: &str, port: &str) -> Result<(String, u16), Status> {
    let service = fetch(cx, "services", &cx.info.namespace, name).await?;
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let chosen = ports
        .iter()
        .find(|known| (port.is_empty() && ports.len() == 1) || known["name"] == port || known["port"] == port);
    let unavailable = || Status::service_unavailable(format!("no endpoints available for service {:?}", cx.info.name));
    let Some(chosen) = chosen else {
        return Err(Status::service_unavailable(format!("no service port {port:?} found for service {name:?}")));
    };
    let endpoints = fetch(cx, "endpoints", &cx.info.namespace, name).await.map_err(|_| unavailable())?;
    let wanted = chosen["name"].as_str().unwrap_or_default();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let target = subset["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|known| known["name"].as_str().unwrap_or_default() == wanted);
        let address = subset["addresses"].as_array().and_then(|list| {
            (!list.is_empty())
                .then(|| list[rand::random_range(0..list.len())]["ip"].as_str().unwrap_or_default().to_owned())
        });
        if let (Some(target), Some(host)) = (target, address)
            && let Some(port) = target["port"].as_u64().and_then(|port| u16::try_from(port).ok())
        {
            return Ok((host, port));
        }
    }
    Err(unavailable())
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

async fn connect(cx: &Cx, upstream: &Upstream) -> Result<Box<dyn Duplex>, Status> {
    let failed = |error: &dyn std::fmt::Display| {
        Status::service_unavailable(format!(
            "error trying to reach service: dial tcp {}:{}: {error}",
            upstream.host, upstream.port
        ))
    };
    let dial = TcpStream::connect((upstream.host.as_str(), upstream.port));
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&"i/o timeout")),
    };
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    if !upstream.tls {
        return Ok(Box::new(stream));
    }
    let tls =
        cx.server.kubelet_tls.clone().ok_or_else(|| Status::internal("no kubelet client certificate is configured"))?;
    let name = ServerName::try_from(upstream.host.clone()).map_err(|error| failed(&error))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| failed(&error))?;
    Ok(Box::new(stream))
}

async fn send(cx: &Cx, upstream: &Upstream, mut request: Request<Body>) -> Result<HttpResponse, Status> {
    let stream = connect(cx, upstream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Status::internal)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    let upgrade = wants_upgrade(request.headers());
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let outgoing = outgoing(upstream, request, upgrade)?;
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
    let host = HeaderValue::from_str(&format!("{}:{}", upstream.host, upstream.port)).map_err(Status::internal)?;
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
