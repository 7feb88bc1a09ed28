//! Who is asking: client certificates, ServiceAccount and bootstrap tokens, impersonation, or nobody in particular.

pub mod bootstrap;
mod front_proxy;
pub mod impersonation;
pub mod token;
pub mod x509;

use admit::UserInfo;
use http::{HeaderMap, header};
use machinery::status::Status;
use rustls_pki_types::CertificateDer;

use crate::server::Inner;

/// What the transport knows of the caller.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A component in this process, whose identity the process itself gave.
    InProcess(UserInfo),
    /// A TLS connection, with the certificates the client showed.
    Tls(Vec<CertificateDer<'static>>),
}

/// The user of a request. No credential at all is `system:anonymous`; a bad one is 401.
pub async fn authenticate(server: &Inner, peer: &Peer, headers: &mut HeaderMap) -> Result<UserInfo, Status> {
    let chain = match peer {
        Peer::InProcess(user) => return Ok(user.clone()),
        Peer::Tls(chain) => chain,
    };
    if let Some(user) = front_proxy::user(server, chain, headers) {
        return Ok(user);
    }
    if !chain.is_empty() {
        match x509::user(server, chain) {
            Ok(user) => return Ok(user),
            Err(reason) => tracing::debug!(%reason, "client certificate refused"),
        }
    }
    if let Some(bearer) = bearer(headers) {
        headers.remove(header::AUTHORIZATION);
        if let Some(token) = bootstrap::parse(&bearer) {
            return bootstrap::authenticate(server, &token).await.map_err(|reason| {
                tracing::debug!(%reason, "bootstrap token refused");
                unauthorized()
            });
        }
        match token::authenticate(server, &bearer, &[]).await {
            Ok(verified) => return Ok(verified.user),
            Err(reason) => {
                tracing::debug!(%reason, "bearer token refused");
                return Err(unauthorized());
            }
        }
    }
    if !chain.is_empty() {
        return Err(unauthorized());
    }
    Ok(UserInfo::new("system:anonymous", &[]))
}

/// `kubernetes/apiserver pkg/endpoints/filters/authentication.go: Unauthorized`.
fn unauthorized() -> Status {
    Status::unauthorized("Unauthorized")
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}
