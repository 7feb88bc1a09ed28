//! The API server over HTTPS, as the parts of a process see it, each as a user of its own.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use admit::UserInfo;
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootstrap::pki::Pair;
use http::Uri;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::AuthInfo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tower::ServiceBuilder;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A connection whose other end says nothing for so long, though asked, is dead; within a node's lease.
const SILENT_MAX: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Who a client is to the API server.
pub enum Credential<'a> {
    /// Nobody, and whoever answers is taken for the server: what it says must be signed.
    None,
    Token(&'a str),
    Certificate(&'a Pair),
}

/// `https://HOST:PORT` as it may be given: without a scheme, or with a path.
pub fn origin(text: &str) -> anyhow::Result<String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: Uri =
        with_scheme.parse().with_context(|| format!("{text:?} is no address such as https://10.0.0.1:6443"))?;
    if uri.scheme_str() != Some("https") {
        bail!("{text:?}: an API server is reached by https");
    }
    let host = uri.host().with_context(|| format!("{text:?} names no host"))?;
    Ok(format!("https://{host}:{}", uri.port_u16().unwrap_or(6443)))
}

/// Whether an [`origin`] can be reached from this host alone.
pub fn is_loopback(origin: &str) -> bool {
    let uri = origin.parse::<Uri>().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client with one credential, for as long as that is good.
pub fn client(
    server: &str,
    authority: Option<&str>,
    credential: &Credential,
    acts_as: Option<&str>,
) -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::new(server.parse().with_context(|| format!("{server:?} is no address"))?);
    match authority {
        Some(pem) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let chain = chain.context("the cluster's authority cannot be read")?;
            config.root_cert = Some(chain.iter().map(|der| der.to_vec()).collect());
        }
        None => config.accept_invalid_certs = true,
    }
    let who = match credential {
        Credential::None => json!({}),
        Credential::Token(token) => json!({"token": token}),
        Credential::Certificate(pair) => json!({
            "client-certificate-data": STANDARD.encode(&pair.certificate), "client-key-data": STANDARD.encode(&pair.key),
            "as": acts_as,
        }),
    };
    config.auth_info = serde_json::from_value::<AuthInfo>(who)?;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_WITHIN));
    http.set_keepalive(Some(ASK_EVERY));
    http.set_keepalive_interval(Some(ASK_EVERY));
    http.set_tcp_user_timeout(Some(SILENT_MAX));
    let https = config.rustls_https_connector_with_connector(http).context("the node's certificate cannot be used")?;
    let connections: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(connections);
    Ok(kube::Client::new(service, "default"))
}

/// By what a client is a user: a certificate, and whom it acts as if that is another's.
pub struct Shown {
    pub pair: Pair,
    pub acts_as: Option<String>,
}

type Show = Box<dyn Fn(&UserInfo) -> anyhow::Result<Shown> + Send + Sync>;

/// A client in use, and the user that it is.
type Slot = (UserInfo, Arc<ArcSwap<kube::Client>>);

/// Clients that outlive their certificates: a new one is shown on new connections, which all requests go by from then.
pub struct Remote {
    server: String,
    authority: String,
    show: Mutex<Show>,
    slots: Mutex<Vec<Slot>>,
}

impl Remote {
    pub fn new(
        server: &str,
        authority: &str,
        show: impl Fn(&UserInfo) -> anyhow::Result<Shown> + Send + Sync + 'static,
    ) -> Arc<Remote> {
        let (server, authority) = (server.to_owned(), authority.to_owned());
        Arc::new(Remote { server, authority, show: Mutex::new(Box::new(show)), slots: Mutex::default() })
    }

    fn connect(&self, show: &Show, user: &UserInfo) -> anyhow::Result<kube::Client> {
        let Shown { pair, acts_as } = show(user).with_context(|| format!("no certificate for {}", user.name))?;
        client(&self.server, Some(&self.authority), &Credential::Certificate(&pair), acts_as.as_deref())
    }

    pub fn client(&self, user: UserInfo) -> anyhow::Result<kube::Client> {
        let show = self.show.lock().unwrap_or_else(PoisonError::into_inner);
        let current = Arc::new(ArcSwap::from_pointee(self.connect(&show, &user)?));
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push((user, current.clone()));
        let service = tower::service_fn(move |request| {
            let client = current.load_full();
            async move { client.send(request).await.map(apiserver::zero_times::filled) }
        });
        Ok(kube::Client::new(service, "default"))
    }

    /// All clients go on with other certificates.
    pub fn renew(
        &self,
        show: impl Fn(&UserInfo) -> anyhow::Result<Shown> + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        let mut held = self.show.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let show: Show = Box::new(show);
        let renewed: anyhow::Result<Vec<_>> = slots.iter().map(|(user, _)| self.connect(&show, user)).collect();
        for ((_, slot), client) in slots.iter().zip(renewed?) {
            slot.store(Arc::new(client));
        }
        *held = show;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_named_in_short() {
        for given in ["https://10.0.0.1:6443", "10.0.0.1:6443", "https://10.0.0.1", "https://10.0.0.1:6443/api"] {
            assert_eq!(origin(given).unwrap(), "https://10.0.0.1:6443", "{given}");
        }
        assert_eq!(origin("https://[fd00::1]:7443").unwrap(), "https://[fd00::1]:7443");
        for local in ["localhost:6443", "127.0.0.1:6443", "https://[::1]:6443"] {
            assert!(is_loopback(&origin(local).unwrap()), "{local}");
        }
        assert!(!is_loopback("https://10.0.0.1:6443"));
        assert!(origin("http://10.0.0.1:6443").is_err());
        assert!(origin("no address").is_err());
    }
}
