//! The server as a whole: what it is made of, how it starts, and its two doors (a TLS socket, and a tower service in
//! this process).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use admit::UserInfo;
use arc_swap::ArcSwap;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kinds::{KINDS, Kind};
use rustls::client::ResolvesClientCert;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::authn::Peer;
use crate::authn::token::Signer;
use crate::authn::x509::AnyClientCert;
use crate::caches::Caches;
use crate::catalog::Catalog;
use crate::health::{Health, hook};
use crate::http::{Body, HttpResponse};
use crate::metrics::{Metrics, SyncTimes};
use crate::pipeline;
use crate::registry::Registry;
use crate::view::CacheView;

/// What a server needs to be told. Authorities and the signing key are PEM.
#[derive(Clone, Debug)]
pub struct Config {
    /// The certificate that is served, asked for at each handshake. Without one there is no [`ApiServer::serve`].
    pub serving: Option<Arc<dyn ResolvesServerCert>>,
    /// Client certificates of this authority are users. Empty: none are.
    pub client_ca: Vec<u8>,
    /// Signs and verifies ServiceAccount tokens: RSA or EC, PKCS#8.
    pub service_account_key: Vec<u8>,
    pub issuer: String,
    /// The audiences of tokens made for this server.
    pub audiences: Vec<String>,
    /// Where the `kubernetes` service's endpoint is.
    pub advertise_address: IpAddr,
    pub port: u16,
    /// `10.96.0.0/12`
    pub service_cidr: String,
    /// First and last, inclusive.
    pub node_ports: (u16, u16),
    /// How the server reaches kubelets; without it logs, exec and the like are refused.
    pub kubelet: Option<KubeletClient>,
    /// How the server shows itself to other API servers; without it they are told nobody's name.
    pub front_proxy: Option<FrontProxy>,
    /// Where it is put on record who deletes a pod.
    pub journal: Option<Arc<dyn journal::Journal>>,
    /// What a store with a disk of its own is told to fill, for `/metrics`.
    pub sync_times: Option<SyncTimes>,
    /// How often a store is compacted that does not do so itself.
    pub compact_every: Option<Duration>,
}

/// The certificate that the API server shows to kubelets, and the authority that signs theirs.
#[derive(Clone, Debug)]
pub struct KubeletClient {
    /// Asked for at each handshake.
    pub certificate: Arc<dyn ResolvesClientCert>,
    /// Empty: a kubelet's certificate is taken as it is, as upstream does without `--kubelet-certificate-authority`.
    pub ca: Vec<u8>,
}

/// The certificate by which other API servers believe this one who is asking, and the authority that signs it.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Asked for at each handshake.
    pub certificate: Arc<dyn ResolvesClientCert>,
    /// PEM.
    pub ca: Vec<u8>,
}

impl Default for Config {
    fn default() -> Config {
        let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
        Config {
            serving: None,
            client_ca: Vec::new(),
            service_account_key: Vec::new(),
            audiences: vec![issuer.clone()],
            issuer,
            advertise_address: IpAddr::from([127, 0, 0, 1]),
            port: 6443,
            service_cidr: "10.96.0.0/12".to_owned(),
            node_ports: (30000, 32767),
            kubelet: None,
            front_proxy: None,
            journal: None,
            sync_times: None,
            compact_every: None,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store: {0}")]
    Store(#[from] store::Error),
    #[error("the ServiceAccount signing key: {0}")]
    SigningKey(#[from] jsonwebtoken::errors::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("a thread: {0}")]
    Thread(String),
    #[error("start-up objects: {0}")]
    Objects(String),
    #[error("{0} is no network in CIDR notation")]
    ServiceCidr(String),
}

/// What every request shares.
pub struct Inner {
    pub config: Config,
    pub registry: Registry,
    pub caches: Arc<Caches>,
    pub catalog: ArcSwap<Catalog>,
    pub signer: Signer,
    pub client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub allocator: crate::allocate::Allocator,
    /// Held by whoever charges quotas, until that is stored.
    pub quotas: tokio::sync::Mutex<()>,
    pub openapi: crate::openapi::Documents,
    pub aggregated: crate::aggregate::Documents,
    /// Verifies whoever says in headers who is asking.
    pub front_proxy_verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub metrics: Metrics,
    pub health: Health,
    pub gauges: crate::gauges::Gauges,
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    pub unverified_tls: Arc<rustls::ClientConfig>,
    tls: Option<Arc<ServerConfig>>,
    stop: CancellationToken,
}

impl Inner {
    /// The caches as authorization sees them.
    pub fn view(&self) -> CacheView<'_> {
        CacheView::new(self)
    }

    /// Ends when the server does.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }
}

/// The API server. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

impl ApiServer {
    /// Loads the caches, writes what every cluster starts with, and is then ready for requests.
    pub async fn new(config: Config, store: Arc<dyn Store>) -> Result<ApiServer, StartError> {
        let built_in: Vec<Arc<Kind>> = KINDS.iter().map(|kind| Arc::new((*kind).clone())).collect();
        let (caches, revision) = Caches::load(Arc::clone(&store), &built_in).await?;
        let roots = roots(&config.client_ca)?;
        let front_proxy_ca = config.front_proxy.as_ref().map(|proxy| proxy.ca.as_slice()).unwrap_or_default();
        let front_proxy_verifier = client_verifier(&self::roots(front_proxy_ca)?)?;
        let inner = Arc::new(Inner {
            signer: Signer::new(&config.service_account_key, &config.issuer)?,
            client_verifier: client_verifier(&roots)?,
            tls: server_tls(&config, &roots)?,
            kubelet_tls: config.kubelet.as_ref().map(crate::kubelet::tls).transpose()?,
            unverified_tls: crate::kubelet::unverified_tls()?,
            allocator: crate::allocate::Allocator::new(&config)?,
            quotas: tokio::sync::Mutex::default(),
            registry: Registry::new(store),
            caches: Arc::clone(&caches),
            catalog: ArcSwap::from_pointee(Catalog::new(built_in)),
            openapi: crate::openapi::Documents::default(),
            aggregated: crate::aggregate::Documents::default(),
            front_proxy_verifier,
            metrics: Metrics::new(config.sync_times.as_ref()),
            health: Health::new(),
            gauges: crate::gauges::Gauges::default(),
            stop: CancellationToken::new(),
            config,
        });
        inner.registry.server.get_or_init(|| Arc::downgrade(&inner));
        tokio::spawn(inner.stop.clone().run_until_cancelled_owned(caches.follow(revision)));
        if let Some(every) = inner.config.compact_every {
            let compacting = crate::compact::follow(Arc::clone(&inner.registry.store), every);
            tokio::spawn(inner.stop.clone().run_until_cancelled_owned(compacting));
        }
        inner.health.watch_log().map_err(|error| StartError::Thread(error.to_string()))?;
        crate::crd::start(&inner).await.map_err(|status| StartError::Objects(status.message))?;
        inner.health.done(hook::CUSTOM_RESOURCES);
        crate::startup::write(&inner).await.map_err(|status| StartError::Objects(status.message))?;
        tokio::spawn(crate::aggregate::follow(Arc::clone(&inner)));
        tokio::spawn(crate::dangling::follow(Arc::clone(&inner)));
        Ok(ApiServer { inner })
    }

    /// Ends the server's tasks, watches and connections.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// A client of this server in this process, with that user's permissions.
    pub fn client(&self, user: UserInfo) -> kube::Client {
        let inner = Arc::clone(&self.inner);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let inner = Arc::clone(&inner);
            let peer = Peer::InProcess(user.clone());
            async move {
                let request = request.map(|body| {
                    use http_body_util::BodyExt;
                    body.map_err(|error| -> crate::http::BoxError { Box::new(error) }).boxed_unsync()
                });
                let answer = pipeline::serve(inner, peer, request).await;
                Ok::<_, std::convert::Infallible>(crate::zero_times::filled(answer))
            }
        });
        kube::Client::new(service, "default")
    }

    /// Answers one request, as [`ApiServer::client`] does, for callers that speak plain HTTP types.
    pub async fn call(&self, user: UserInfo, request: Request<Body>) -> HttpResponse {
        pipeline::serve(Arc::clone(&self.inner), Peer::InProcess(user), request).await
    }

    /// Serves HTTPS on the listener until [`ApiServer::stop`].
    pub async fn serve(&self, listener: TcpListener) -> Result<(), StartError> {
        let Some(tls) = self.inner.tls.clone() else {
            return Err(StartError::Tls("no serving certificate is configured".to_owned()));
        };
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let accepted = tokio::select! {
                () = self.inner.stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(connection(Arc::clone(&self.inner), acceptor.clone(), stream));
                }
                Err(error) => {
                    // Out of file descriptors, mostly: existing connections go on, and may free some.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(inner: Arc<Inner>, acceptor: TlsAcceptor, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let handshake = tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return tracing::debug!("TLS handshake timed out"),
    };
    let chain: Vec<CertificateDer<'static>> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let peer = Peer::Tls(chain.into_iter().map(CertificateDer::into_owned).collect());
    let stop = inner.stop.clone();
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (inner, peer) = (Arc::clone(&inner), peer.clone());
        async move {
            use http_body_util::BodyExt;
            let request =
                request.map(|body| body.map_err(|error| -> crate::http::BoxError { Box::new(error) }).boxed_unsync());
            Ok::<_, std::convert::Infallible>(pipeline::serve(inner, peer, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1000)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(std::time::Duration::from_secs(30))
        .keep_alive_timeout(std::time::Duration::from_secs(15));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

fn tls_error(error: impl std::fmt::Display) -> StartError {
    StartError::Tls(error.to_string())
}

/// The certificates of a PEM bundle, as trusted roots.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(tls_error)?).map_err(tls_error)?;
    }
    Ok(roots)
}

fn client_verifier(roots: &RootCertStore) -> Result<Option<Arc<dyn ClientCertVerifier>>, StartError> {
    if roots.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider).build();
    Ok(Some(verifier.map_err(tls_error)?))
}

fn server_tls(config: &Config, roots: &RootCertStore) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let Some(serving) = config.serving.clone() else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = rustls::DEFAULT_VERSIONS;
    let mut tls = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(tls_error)?
        .with_client_cert_verifier(Arc::new(AnyClientCert::new(provider, roots)))
        .with_cert_resolver(serving);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(tls)))
}
