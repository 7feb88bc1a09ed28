//! Who a node that has joined is: its client certificate and its server's, asked of the cluster by signing requests and
//! exchanged for new ones in time.
//!
//! kubernetes/kubernetes pkg/kubelet/certificate: what is asked for, and under which names it is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use admit::UserInfo;
use anyhow::{Context, bail};
use bootstrap::csr;
use bootstrap::files::{make_private_dir, read_if_present, write_file};
use bootstrap::pki::{Pair, Renewable, Subject};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::node;
use crate::remote::{Remote, Shown};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// A first request that nobody has signed by then is given up: somebody waits for the answer.
const FIRST_SIGNED_WITHIN: Duration = Duration::from_secs(60);
/// A later request that nobody has signed by then is given up, and another made.
const SIGNED_WITHIN: Duration = Duration::from_secs(15 * 60);
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How soon a request that failed is made again; twice as late after every further failure.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGAIN_MOST: Duration = Duration::from_secs(5 * 60);
/// How often the certificates are looked at, at least.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

pub struct Identity {
    settings: Settings,
    /// The cluster's authority, PEM.
    pub authority: String,
    /// What the kubelet's API serves with; nothing until the cluster has signed it.
    pub serving: Arc<Renewable>,
    served: watch::Sender<bool>,
    client: Held,
    server: Held,
}

/// A certificate with its key, and since when it is used here.
#[derive(Clone)]
struct Held {
    pem: Option<String>,
    since: Timestamp,
}

impl Held {
    fn read(path: &Path) -> anyhow::Result<Held> {
        Ok(Held { pem: read_if_present(path)?, since: Timestamp::MIN })
    }

    /// When it is to be exchanged; at once if there is none.
    fn due(&self) -> Timestamp {
        self.pem.as_ref().and_then(|pem| csr::renewal_due(pem.as_bytes(), self.since)).unwrap_or(Timestamp::MIN)
    }

    fn is_good(&self, now: Timestamp) -> bool {
        self.pem.as_ref().and_then(|pem| csr::expires(pem.as_bytes())).is_some_and(|until| until > now)
    }
}

/// Certificate and key from one file, as PEM readers take what they look for.
fn pair(pem: &str) -> Pair {
    Pair { certificate: pem.to_owned(), key: pem.to_owned() }
}

/// The kubelet is the node itself; the others are the users they are, by the node's leave to be them.
fn shown_by(node: &str, pair: Pair) -> impl Fn(&UserInfo) -> anyhow::Result<Shown> + use<> {
    let own = node::user(node).name;
    move |user| Ok(Shown { pair: pair.clone(), acts_as: Some(user.name.clone()).filter(|name| *name != own) })
}

/// Asks for the first client certificate with a token's rights, and keeps it with the cluster's authority.
pub async fn obtain(settings: &Settings, client: &Client, authority: &str) -> anyhow::Result<()> {
    make_private_dir(&settings.data.join("pki"))?;
    let pem = Wanted::client(settings)
        .ask(client, FIRST_SIGNED_WITHIN)
        .await
        .context("the cluster does not give this node a certificate")?;
    write_file(&Identity::authority_path(settings), authority.as_bytes(), 0o644)?;
    write_file(&Identity::client_path(settings), pem.as_bytes(), 0o600)?;
    Ok(())
}

impl Identity {
    pub fn authority_path(settings: &Settings) -> PathBuf {
        settings.data.join("pki/ca.crt")
    }

    pub fn client_path(settings: &Settings) -> PathBuf {
        settings.data.join("pki/kubelet-client-current.pem")
    }

    fn server_path(settings: &Settings) -> PathBuf {
        settings.data.join("pki/kubelet-server-current.pem")
    }

    /// Whether this host has a certificate with which it can come back.
    pub fn is_good(settings: &Settings) -> anyhow::Result<bool> {
        Ok(Held::read(&Identity::client_path(settings))?.is_good(Timestamp::now()))
    }

    pub fn load(settings: &Settings) -> anyhow::Result<Identity> {
        let authority = Identity::authority_path(settings);
        let mut server = Held::read(&Identity::server_path(settings))?;
        // One for an address that the node had before is none.
        server.pem = server.pem.filter(|pem| csr::serves(pem.as_bytes(), settings.node_ip));
        let serving = Arc::new(Renewable::default());
        let good = server.is_good(Timestamp::now());
        if let Some(pem) = server.pem.as_ref().filter(|_| good) {
            serving.renew(&pair(pem))?;
        }
        Ok(Identity {
            authority: read_if_present(&authority)?.with_context(|| format!("{} is gone", authority.display()))?,
            client: Held::read(&Identity::client_path(settings))?,
            server,
            serving,
            served: watch::Sender::new(good),
            settings: settings.clone(),
        })
    }

    pub fn authority_file(&self) -> PathBuf {
        Identity::authority_path(&self.settings)
    }

    /// The clients of this node's parts.
    pub fn remote(&self, server: &str) -> anyhow::Result<Arc<Remote>> {
        let pem = self.client.pem.as_ref().context("the node's certificate is gone")?;
        Ok(Remote::new(server, &self.authority, shown_by(&self.settings.node_name, pair(pem))))
    }

    /// Returns when the kubelet's API has a certificate to serve with.
    pub fn served(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut served = self.served.subscribe();
        async move {
            // The sender lives as long as the component, whose end is told by itself.
            if served.wait_for(|served| *served).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Exchanges certificates in time, until cancelled.
    pub async fn keep(
        mut self,
        client: Client,
        remote: Arc<Remote>,
        stop: CancellationToken,
    ) -> (&'static str, anyhow::Result<()>) {
        let mut again = AGAIN_AFTER;
        loop {
            let renewed = tokio::select! {
                () = stop.cancelled() => return ("certificates", Ok(())),
                renewed = self.renew(&client, &remote) => renewed,
            };
            let wait = match renewed {
                Ok(()) => {
                    again = AGAIN_AFTER;
                    let due = self.client.due().min(self.server.due()).duration_since(Timestamp::now());
                    Duration::try_from(due).unwrap_or_default().clamp(AGAIN_AFTER, LOOK_EVERY)
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "certificates not renewed, trying again");
                    let wait = again;
                    again = (again * 2).min(AGAIN_MOST);
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return ("certificates", Ok(())),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn renew(&mut self, client: &Client, remote: &Remote) -> anyhow::Result<()> {
        if self.client.due() <= Timestamp::now() {
            let pem = Wanted::client(&self.settings).ask(client, SIGNED_WITHIN).await.context("client certificate")?;
            write_file(&Identity::client_path(&self.settings), pem.as_bytes(), 0o600)?;
            remote.renew(shown_by(&self.settings.node_name, pair(&pem)))?;
            self.client = Held { pem: Some(pem), since: Timestamp::now() };
            tracing::info!("client certificate renewed");
        }
        if self.server.due() <= Timestamp::now() {
            let pem = Wanted::server(&self.settings).ask(client, SIGNED_WITHIN).await.context("serving certificate")?;
            write_file(&Identity::server_path(&self.settings), pem.as_bytes(), 0o600)?;
            self.serving.renew(&pair(&pem))?;
            self.served.send_replace(true);
            self.server = Held { pem: Some(pem), since: Timestamp::now() };
            tracing::info!("serving certificate renewed");
        }
        Ok(())
    }
}

/// A certificate that is asked for.
struct Wanted<'a> {
    settings: &'a Settings,
    signer: &'static str,
    usage: &'static str,
    serves: bool,
}

impl Wanted<'_> {
    fn client(settings: &Settings) -> Wanted<'_> {
        Wanted { settings, signer: CLIENT_SIGNER, usage: "client auth", serves: false }
    }

    fn server(settings: &Settings) -> Wanted<'_> {
        Wanted { settings, signer: SERVING_SIGNER, usage: "server auth", serves: true }
    }

    /// The certificate and its key, PEM in one.
    async fn ask(&self, client: &Client, within: Duration) -> anyhow::Result<String> {
        let name = &self.settings.node_name;
        let user = format!("system:node:{name}");
        let subject = Subject { user: &user, group: Some("system:nodes") };
        let made = match self.serves {
            true => csr::request(subject, &[name], &[self.settings.node_ip]),
            false => csr::request(subject, &[], &[]),
        };
        let made = made.context("cannot make a signing request")?;
        let request = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some("csr-".into()), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(made.certificate.into_bytes()),
                signer_name: self.signer.into(),
                usages: Some(vec!["digital signature".into(), self.usage.into()]),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        };
        let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
        let created =
            requests.create(&PostParams::default(), &request).await.context("cannot make a signing request")?;
        let name = created.metadata.name.context("a signing request without a name")?;
        let signed = tokio::time::timeout(within, signed(&requests, &name)).await;
        let certificate = signed.with_context(|| {
            format!("nobody has signed {name} within {within:?}: see `kubectl describe csr {name}`")
        })??;
        Ok(format!("{}\n{}", certificate.trim_end(), made.key))
    }
}

async fn signed(requests: &Api<CertificateSigningRequest>, name: &str) -> anyhow::Result<String> {
    loop {
        let status = requests.get(name).await.context("cannot read the signing request")?.status.unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                bail!(
                    "{name} was {}: {}",
                    condition.type_.to_lowercase(),
                    condition.message.as_deref().unwrap_or("no reason given")
                );
            }
        }
        if let Some(certificate) = status.certificate {
            return String::from_utf8(certificate.0).context("the certificate is no text");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
