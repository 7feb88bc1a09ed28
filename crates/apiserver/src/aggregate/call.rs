//! Connections to other API servers, with the certificate of the front proxy.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use admit::UserInfo;

use self::headers::{EXTRA, GROUPS, UID, USER};
use super::{Registered, Service};
use crate::dial;
use crate::server::Inner;
use crate::subresources::location;
use crate::trust;

/// A check or a document must come quickly.
const TIMEOUT: Duration = Duration::from_secs(5);
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// The headers by which a front proxy says who is asking.
pub mod headers {
    pub const USER: &str = "x-remote-user";
    pub const UID: &str = "x-remote-uid";
    pub const GROUPS: &str = "x-remote-group";
    pub const EXTRA: &str = "x-remote-extra-";
}

/// Opens a connection to one of the servers behind an APIService; answers its address too.
pub async fn connect(
    server: &Inner,
    registered: &Registered,
    service: &Service,
) -> Result<(TlsStream<TcpStream>, String), String> {
    let address = location::endpoint(server, &service.namespace, &service.name, service.port)?;
    let stream = match tokio::time::timeout(TIMEOUT, dial::tcp(&address)).await {
        Ok(dialed) => dialed.map_err(|error| trust::undialed(&address, &error))?,
        Err(_) => return Err(format!("dial tcp {address}: i/o timeout")),
    };
    let name = ServerName::try_from(service.host()).map_err(|error| error.to_string())?;
    let stream =
        dial::handshake(tls(server, registered)?, name, stream).await.map_err(|error| trust::in_gos_words(&error))?;
    Ok((stream, address.to_string()))
}

fn tls(server: &Inner, registered: &Registered) -> Result<Arc<ClientConfig>, String> {
    let verifier =
        if registered.insecure { crate::kubelet::any_server() } else { trust::bundle(&registered.ca_bundle)? };
    let config = trust::by(verifier).map_err(|error| error.to_string())?;
    Ok(Arc::new(match &server.config.front_proxy {
        Some(proxy) => config.with_client_cert_resolver(Arc::clone(&proxy.certificate)),
        None => config.with_no_client_auth(),
    }))
}

/// Says who is asking, and nobody else's word for it.
/// `kubernetes/client-go transport/round_trippers.go: SetAuthProxyHeaders`.
pub fn set_user(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), String> {
    let theirs: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    theirs.iter().for_each(|name| drop(headers.remove(name)));
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|error| error.to_string());
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUPS, value(group)?);
    }
    for (key, values) in &user.extra {
        let name = HeaderName::try_from(format!("{EXTRA}{}", escaped(key))).map_err(|error| error.to_string())?;
        for text in values {
            headers.append(&name, value(text)?);
        }
    }
    Ok(())
}

/// A key of the user's extra fields as part of a header's name.
fn escaped(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    key.bytes().map(one).collect::<String>().to_ascii_lowercase()
}

/// A GET by the aggregator itself: the code, and the document if it is one.
pub async fn get(server: &Inner, registered: &Registered, path: &str) -> Result<(StatusCode, Value), String> {
    let Some(service) = &registered.service else { return Err("no service".to_owned()) };
    let exchange = async {
        let (stream, address) = connect(server, registered, service).await?;
        let url = format!("https://{address}{path}");
        let failed = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::get(path).body(crate::http::empty()).map_err(|error| failed(&error))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_str(&service.host()).map_err(|error| failed(&error))?);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        set_user(headers, &UserInfo::new("system:kube-aggregator", &["system:masters"]))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await;
        driver.abort();
        if !code.is_success() {
            return Err(format!("bad status from {url}: {}", code.as_u16()));
        }
        let bytes = body.map_err(|error| failed(&error))?.to_bytes();
        Ok((code, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    };
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("Get {:?}: context deadline exceeded", format!("https://{}{path}", service.host()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_in_headers_that_nobody_else_can_set() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-a", HeaderValue::from_static("b"));
        let mut user = UserInfo::new("jane", &["dev"]);
        user.extra.insert("example.com/Key".to_owned(), vec!["v".to_owned()]);
        set_user(&mut headers, &user).unwrap();
        let mut shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        shown.sort();
        let wanted = [
            "x-remote-extra-example.com%2fkey: v",
            "x-remote-group: dev",
            "x-remote-group: system:authenticated",
            "x-remote-user: jane",
        ];
        assert_eq!(shown, wanted);
    }
}
