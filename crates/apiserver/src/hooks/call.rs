//! Calls to webhooks: where one is, whether its certificate is the right one, and one JSON document for another.
//!
//! `kubernetes/apiserver pkg/util/webhook/client.go`: how a client is made of a configuration.

use std::sync::Arc;
use std::time::Duration;

use admit::hooks::{Client, ServicePath};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use machinery::go;
use machinery::status::Status;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::dial::{self, Address};
use crate::server::Inner;
use crate::subresources::location;
use crate::trust;

/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A webhook's place, worked out of its configuration.
struct Place {
    /// As errors show it, without the query.
    url: String,
    host: String,
    /// Host and port as they stand in the request.
    authority: String,
    path: String,
    address: Address,
}

/// Posts a document and reads the one that answers. The error reads as a Go client's.
pub async fn post(server: &Inner, client: &Client, body: &Value, timeout: Duration) -> Result<Value, String> {
    let seconds = timeout.as_secs();
    let place = match &client.service {
        Some(service) => of_service(server, service).map_err(|error| {
            format!("Post {}: {error}", go::quote(&format!("{}?timeout={seconds}s", url_of_service(service))))
        })?,
        None => of_url(client.url.as_deref().unwrap_or_default())?,
    };
    let target = format!("{}?timeout={seconds}s", if place.path.is_empty() { "/" } else { &place.path });
    let shown = format!("Post {}", go::quote(&format!("{}?timeout={seconds}s", place.url)));
    let (code, bytes) = match tokio::time::timeout(timeout, exchange(client, &place, &target, body)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{shown}: {error}")),
        Err(_) => return Err(format!("{shown}: context deadline exceeded")),
    };
    if !code.is_success() {
        return Err(told_by(code, &bytes));
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))
}

async fn exchange(client: &Client, place: &Place, target: &str, body: &Value) -> Result<(StatusCode, Bytes), String> {
    let address = &place.address;
    let stream = dial::tcp(address).await.map_err(|error| trust::undialed(address, &error))?;
    // Without a bundle the system's authorities are trusted.
    let tls = trust::by(trust::bundle(&client.ca_bundle)?).map_err(|error| error.to_string())?.with_no_client_auth();
    let name = ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
    let stream =
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(|error| trust::in_gos_words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let bytes = serde_json::to_vec(body).map_err(|error| error.to_string())?;
    let mut request = Request::post(target).body(crate::http::full(bytes)).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    headers.insert(header::HOST, HeaderValue::from_str(&place.authority).map_err(|error| error.to_string())?);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    driver.abort();
    Ok((code, body.to_bytes()))
}

/// What a client makes of an answer that is no success.
/// `kubernetes/apimachinery pkg/api/errors/errors.go: NewGenericServerResponse`.
fn told_by(code: StatusCode, bytes: &[u8]) -> String {
    let status = serde_json::from_slice::<Value>(bytes).ok().and_then(|value| Status::from_json(&value));
    if let Some(status) = status {
        return status.message;
    }
    let text = String::from_utf8_lossy(bytes).trim().to_owned();
    match code.as_u16() {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        500..=599 => format!("an error on the server ({}) has prevented the request from succeeding", go::quote(&text)),
        other => format!("the server responded with the status code {other} but did not return more information"),
    }
}

fn url_of_service(service: &ServicePath) -> String {
    let ServicePath { namespace, name, path, port } = service;
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    format!("https://{name}.{namespace}.svc:{port}{slash}{path}")
}

/// One ready endpoint behind a service's port. The certificate must be for the service's name.
fn of_service(server: &Inner, service: &ServicePath) -> Result<Place, String> {
    let ServicePath { namespace, name, path, port } = service;
    let address = location::endpoint(server, namespace, name, *port)?;
    let host = format!("{name}.{namespace}.svc");
    let path = if path.is_empty() || path.starts_with('/') { path.clone() } else { format!("/{path}") };
    Ok(Place { url: url_of_service(service), authority: format!("{host}:{port}"), host, path, address })
}

fn of_url(url: &str) -> Result<Place, String> {
    let missing = "webhook configuration must have either service or URL";
    let rest = url.strip_prefix("https://").ok_or(missing)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| "invalid port".to_owned())?),
        _ => (authority, 443),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    Ok(Place {
        url: format!("https://{authority}{path}"),
        authority: authority.to_owned(),
        path: path.to_owned(),
        address: Address { host: host.clone(), port },
        host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_where_they_say() {
        let place =
            |url: &str| of_url(url).map(|place| format!("{} {} {}", place.address, place.path, place.authority));
        assert_eq!(place("https://x.io/a/b?c"), Ok("x.io:443 /a/b x.io".to_owned()));
        assert_eq!(place("https://127.0.0.1:8443"), Ok("127.0.0.1:8443  127.0.0.1:8443".to_owned()));
        assert_eq!(place("https://[::1]:8443/p"), Ok("[::1]:8443 /p [::1]:8443".to_owned()));
        assert!(of_url("http://x.io").is_err());
    }

    #[test]
    fn refusals_are_told_as_a_client_tells_them() {
        assert_eq!(told_by(StatusCode::NOT_FOUND, b"x"), "the server could not find the requested resource");
        let failed = told_by(StatusCode::BAD_GATEWAY, b"oh\n");
        assert_eq!(failed, "an error on the server (\"oh\") has prevented the request from succeeding");
        let status = br#"{"kind":"Status","message":"no","code":403}"#;
        assert_eq!(told_by(StatusCode::FORBIDDEN, status), "no");
    }
}
