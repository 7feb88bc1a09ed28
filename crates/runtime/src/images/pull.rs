//! Images from registries: several endpoints for one name, layers in parallel, each blob continued where it broke off and
//! believed only when its digest is right.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth as Secret;
use oci_client::{Client, Reference as Remote};
use pods::ports::{Image, PullError, RegistryAuth};
use tokio::io::AsyncWriteExt;

use super::import::architecture;
use super::lock::{Lease, Locked, exclusive_while_named};
use super::reference::Reference;
use super::store::{ConfigFile, Images};
use super::unpack::{hex_digest, sha256};

/// How one registry is reached.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The registry in image names (`docker.io`, `registry.k8s.io:443`), or `*` for every one.
    pub host: String,
    /// Tried in order before the registry itself.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Do not ask the registry itself when no endpoint has the image.
    #[serde(default)]
    pub endpoints_only: bool,
    /// Speak plain HTTP to the registry itself. Loopback needs no saying.
    #[serde(default)]
    pub plain_http: bool,
}

/// A mirror of a registry.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Host and port.
    pub host: String,
    #[serde(default)]
    pub plain_http: bool,
    /// Put before the repository: with `mirror/hub`, `docker.io/library/nginx` is asked for as `mirror/hub/library/nginx`.
    #[serde(default)]
    pub prefix: String,
    /// How long a connection may give nothing before it counts as stalled.
    #[serde(default)]
    pub stall_timeout_seconds: Option<u64>,
}

/// A connection on which nothing comes for so long is taken up anew.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts without a single new byte before a blob is given up.
const FRUITLESS_ATTEMPTS_MAX: u32 = 4;
const PARALLEL_LAYERS: usize = 3;
const CONFIG_BYTES_MAX: u64 = 8 << 20;

const MANIFEST_TYPES: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
}

#[derive(Debug, serde::Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// A manifest or an index, whichever it is.
#[derive(Debug, Default, serde::Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Pulls images into a store.
pub struct Puller {
    images: Arc<Images>,
    registries: Vec<Registry>,
    /// One download of a blob at a time, whoever wants it.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to download one blob: within this process, and on its file among all.
struct Turn {
    _here: tokio::sync::OwnedMutexGuard<()>,
    _file: Locked,
}

/// One way to an image.
struct Source {
    client: Client,
    remote: Remote,
    secret: Secret,
}

impl Puller {
    pub fn new(images: Arc<Images>, registries: Vec<Registry>) -> Result<Self, String> {
        for registry in &registries {
            let hosts = registry.endpoints.iter().map(|e| &e.host);
            if let Some(host) = hosts.chain([&registry.host]).find(|h| h.is_empty() || h.contains('/')) {
                return Err(format!("{host:?} is no registry host"));
            }
        }
        Ok(Self { images, registries, busy: Mutex::default() })
    }

    pub async fn pull(&self, image: &str, auth: &[RegistryAuth]) -> Result<Image, PullError> {
        let reference = Reference::parse(image).ok_or_else(|| PullError::InvalidName(image.to_owned()))?;
        let mut first_error = None;
        for endpoint in self.endpoints(&reference.registry) {
            for secret in secrets(auth) {
                let source = Source { client: client(&endpoint), remote: remote(&reference, &endpoint), secret };
                match self.pull_from(&reference, &source).await {
                    Ok(image) => return Ok(image),
                    Err(e) => {
                        let refused = matches!(e, PullError::Unauthorized(_));
                        first_error.get_or_insert(e);
                        // Other credentials can only help where these were refused.
                        if !refused {
                            break;
                        }
                    }
                }
            }
        }
        Err(first_error.unwrap_or_else(|| PullError::Registry(format!("no endpoint is configured for {reference}"))))
    }

    fn endpoints(&self, host: &str) -> Vec<Endpoint> {
        let configured = self.registries.iter().find(|r| r.host == host);
        let configured = configured.or_else(|| self.registries.iter().find(|r| r.host == "*"));
        let own = Endpoint {
            host: host.to_owned(),
            plain_http: configured.is_some_and(|r| r.plain_http),
            ..Endpoint::default()
        };
        match configured {
            None => vec![own],
            Some(r) if r.endpoints_only => r.endpoints.clone(),
            Some(r) => r.endpoints.iter().cloned().chain([own]).collect(),
        }
    }

    async fn pull_from(&self, reference: &Reference, source: &Source) -> Result<Image, PullError> {
        let (manifest, digest) = source.manifest(reference).await?;
        let config = manifest.config.ok_or_else(|| failed(reference, "the manifest names no configuration"))?;
        let config = self.config(reference, source, &config).await?;
        let parsed: ConfigFile = serde_json::from_slice(&config).map_err(|e| failed(reference, e))?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(failed(reference, "mismatched image rootfs and manifest layers"));
        }
        // Until the image is in the index.
        let lease = self.images.lease(&diff_ids).map_err(|e| disk(reference, &e))?;
        let lease = Arc::new(lease);
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (diff_id, layer) in diff_ids.iter().zip(&manifest.layers) {
            layers.push(self.layer(reference, source, &lease, diff_id, layer));
        }
        futures::stream::iter(layers).buffer_unordered(PARALLEL_LAYERS).try_collect::<Vec<()>>().await?;
        let tags: Vec<String> = reference.tagged().into_iter().collect();
        let digests = [format!("{}@{digest}", reference.name())];
        let images = self.images.clone();
        let stored = tokio::task::spawn_blocking(move || images.add_image(&config, &tags, &digests, false))
            .await
            .map_err(|e| failed(reference, e))?;
        Ok(stored.map_err(|e| disk(reference, &e))?.image())
    }

    async fn config(&self, reference: &Reference, source: &Source, config: &Descriptor) -> Result<Vec<u8>, PullError> {
        if config.size > CONFIG_BYTES_MAX {
            return Err(failed(reference, "the image's configuration is too large"));
        }
        let _turn = self.turn(reference, config).await?;
        let path = self.download(reference, source, config).await?;
        let text = std::fs::read(&path).map_err(|e| disk(reference, &e))?;
        std::fs::remove_file(&path).map_err(|e| disk(reference, &e))?;
        Ok(text)
    }

    /// Waits until nobody else is downloading this blob, here or in another process, and keeps others waiting.
    async fn turn(&self, reference: &Reference, blob: &Descriptor) -> Result<Turn, PullError> {
        let path = self.ingest_file(reference, blob)?;
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(blob.digest.clone()).or_default().clone()
        };
        let here = lock.lock_owned().await;
        let file = tokio::task::spawn_blocking(move || exclusive_while_named(&path)).await;
        let file = file.map_err(|e| failed(reference, e))?.map_err(|e| disk(reference, &e))?;
        Ok(Turn { _here: here, _file: file })
    }

    /// Where a blob waits until it is whole.
    fn ingest_file(&self, reference: &Reference, blob: &Descriptor) -> Result<PathBuf, PullError> {
        self.images.blob(&blob.digest).map_err(|e| failed(reference, e))?;
        Ok(self.images.ingest().join(blob.digest.replace(':', "-")))
    }

    async fn layer(
        &self,
        reference: &Reference,
        source: &Source,
        lease: &Arc<Lease>,
        diff_id: &str,
        layer: &Descriptor,
    ) -> Result<(), PullError> {
        let _turn = self.turn(reference, layer).await?;
        if self.images.has_layer(diff_id).map_err(|e| failed(reference, e))? {
            return Ok(());
        }
        let path = self.download(reference, source, layer).await?;
        let (images, lease, diff_id) = (self.images.clone(), lease.clone(), diff_id.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || {
            let unpacked = images.add_layer(&lease, std::fs::File::open(&path)?, Some(&diff_id));
            std::fs::remove_file(&path)?;
            unpacked
        });
        match unpacked.await.map_err(|e| failed(reference, e))? {
            Ok(_) => Ok(()),
            Err(e) => Err(disk(reference, &e)),
        }
    }

    /// Downloads a blob into the ingest directory, continuing what is there, and verifies it.
    async fn download(&self, reference: &Reference, source: &Source, blob: &Descriptor) -> Result<PathBuf, PullError> {
        let path = self.ingest_file(reference, blob)?;
        let mut fruitless = 0;
        loop {
            let have = std::fs::metadata(&path).map_or(0, |m| m.len());
            if blob.size > 0 && have >= blob.size {
                break;
            }
            match source.fetch(blob, &path, have).await {
                Ok(()) => break,
                Err(Interrupted::Disk(e)) => return Err(disk(reference, &e)),
                Err(Interrupted::Refused(e)) => return Err(e.into_pull_error(reference)),
                Err(Interrupted::Broken(why)) => {
                    let grown = std::fs::metadata(&path).map_or(0, |m| m.len()) > have;
                    fruitless = if grown { 0 } else { fruitless + 1 };
                    if fruitless >= FRUITLESS_ATTEMPTS_MAX {
                        return Err(failed(reference, format!("failed to copy: {why}")));
                    }
                    tracing::debug!(digest = blob.digest, why, "a download broke off; continuing");
                }
            }
        }
        let (checked, of) = (path.clone(), blob.digest.clone());
        let actual = tokio::task::spawn_blocking(move || digest_file(&checked)).await;
        let actual = actual.map_err(|e| failed(reference, e))?.map_err(|e| disk(reference, &e))?;
        if actual == of {
            return Ok(path);
        }
        std::fs::remove_file(&path).map_err(|e| disk(reference, &e))?;
        Err(PullError::Digest { expected: of, actual })
    }
}

fn digest_file(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = sha256();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex_digest(hash)),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// Why a download did not reach its end.
enum Interrupted {
    /// The connection: worth another attempt.
    Broken(String),
    /// The registry said no.
    Refused(OciDistributionError),
    Disk(io::Error),
}

impl Source {
    /// The manifest for this machine, and the digest under which the image was asked for.
    async fn manifest(&self, reference: &Reference) -> Result<(Manifest, String), PullError> {
        let (manifest, digest) = self.manifest_at(reference, &self.remote).await?;
        if manifest.manifests.is_empty() {
            return Ok((manifest, digest));
        }
        let fits =
            |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture());
        let chosen = manifest.manifests.iter().find(fits).ok_or_else(|| {
            PullError::NotFound(format!(
                "failed to pull and unpack image {:?}: no match for platform in manifest: not found",
                reference.to_string()
            ))
        })?;
        let remote = self.remote.clone_with_digest(chosen.digest.clone());
        let (manifest, _) = self.manifest_at(reference, &remote).await?;
        Ok((manifest, digest))
    }

    async fn manifest_at(&self, reference: &Reference, remote: &Remote) -> Result<(Manifest, String), PullError> {
        let asked = self.client.pull_manifest_raw(remote, &self.secret, MANIFEST_TYPES).await;
        let (text, _) = asked.map_err(|e| e.into_pull_error(reference))?;
        // Counted here, whatever the registry's headers say.
        let mut hash = sha256();
        hash.update(&text);
        let actual = hex_digest(hash);
        match remote.digest() {
            Some(expected) if expected != actual => Err(PullError::Digest { expected: expected.to_owned(), actual }),
            _ => {
                let manifest = serde_json::from_slice(&text).map_err(|e| failed(reference, e))?;
                Ok((manifest, actual))
            }
        }
    }

    /// The rest of a blob; or the whole of it from a registry that does not give the rest.
    async fn ask_for(&self, blob: &OciDescriptor, have: u64) -> Result<BlobResponse, OciDistributionError> {
        if have > 0 {
            // Some registries understand a range with an end only.
            let rest = u64::try_from(blob.size).ok().and_then(|size| size.checked_sub(have)).filter(|rest| *rest > 0);
            match self.client.pull_blob_stream_partial(&self.remote, blob, have, rest).await {
                Err(error) if !matches!(error, OciDistributionError::RequestError(_)) => {
                    tracing::debug!(digest = blob.digest, %error, "a download is not continued; starting anew");
                }
                answer => return answer,
            }
        }
        self.client.pull_blob_stream(&self.remote, blob).await.map(BlobResponse::Full)
    }

    /// Appends to what is there of a blob until its end.
    async fn fetch(&self, blob: &Descriptor, path: &Path, have: u64) -> Result<(), Interrupted> {
        let descriptor = OciDescriptor {
            digest: blob.digest.clone(),
            size: i64::try_from(blob.size).unwrap_or(0),
            ..OciDescriptor::default()
        };
        self.client.store_auth_if_needed(self.remote.resolve_registry(), &self.secret).await;
        let (mut stream, fresh) = match self.ask_for(&descriptor, have).await {
            Ok(BlobResponse::Full(full)) => (full.stream, true),
            Ok(BlobResponse::Partial(part)) => (part.stream, false),
            Err(e @ OciDistributionError::RequestError(_)) => return Err(Interrupted::Broken(e.to_string())),
            Err(e) => return Err(Interrupted::Refused(e)),
        };
        let file = OpenOptions::new().create(true).append(!fresh).write(true).truncate(fresh).open(path);
        let mut file = tokio::fs::File::from_std(file.map_err(Interrupted::Disk)?);
        let mut written = if fresh { 0 } else { have };
        let ended = loop {
            match stream.next().await {
                Some(Ok(data)) => {
                    written += data.len() as u64;
                    // A registry that sends more than it announced lies; the digest will say so.
                    if blob.size > 0 && written > blob.size {
                        break Ok(());
                    }
                    file.write_all(&data).await.map_err(Interrupted::Disk)?;
                }
                // The client checks whole blobs itself; ours is the check that counts, with a better error.
                Some(Err(e)) if e.to_string().contains("igest") => break Ok(()),
                Some(Err(e)) => break Err(Interrupted::Broken(e.to_string())),
                None if written < blob.size => break Err(Interrupted::Broken("unexpected EOF".into())),
                None => break Ok(()),
            }
        };
        file.flush().await.map_err(Interrupted::Disk)?;
        ended
    }
}

fn client(endpoint: &Endpoint) -> Client {
    let plain = endpoint.plain_http || Reference::is_loopback(&endpoint.host);
    let stall = endpoint.stall_timeout_seconds.map_or(STALL_TIMEOUT, Duration::from_secs);
    Client::new(ClientConfig {
        protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
        read_timeout: Some(stall),
        connect_timeout: Some(CONNECT_TIMEOUT.min(stall)),
        user_agent: concat!("windlass/", env!("CARGO_PKG_VERSION")),
        https_proxy: std::env::var("HTTPS_PROXY").ok(),
        http_proxy: std::env::var("HTTP_PROXY").ok(),
        no_proxy: std::env::var("NO_PROXY").ok(),
        ..ClientConfig::default()
    })
}

fn remote(reference: &Reference, endpoint: &Endpoint) -> Remote {
    let repository = match endpoint.prefix.trim_matches('/') {
        "" => reference.repository.clone(),
        prefix => format!("{prefix}/{}", reference.repository),
    };
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => Remote::with_digest(endpoint.host.clone(), repository, digest.clone()),
        (None, tag) => {
            Remote::with_tag(endpoint.host.clone(), repository, tag.clone().unwrap_or_else(|| "latest".into()))
        }
    }
}

fn secrets(auth: &[RegistryAuth]) -> Vec<Secret> {
    let mut secrets: Vec<Secret> = auth
        .iter()
        .map(|a| match &a.identity_token {
            Some(token) => Secret::Bearer(token.clone()),
            None => Secret::Basic(a.username.clone(), a.password.clone()),
        })
        .collect();
    if secrets.is_empty() {
        secrets.push(Secret::Anonymous);
    }
    secrets
}

fn failed(reference: &Reference, why: impl std::fmt::Display) -> PullError {
    PullError::Registry(format!("failed to pull and unpack image {:?}: {why}", reference.to_string()))
}

fn disk(reference: &Reference, e: &io::Error) -> PullError {
    PullError::Disk(format!("failed to pull and unpack image {:?}: {e}", reference.to_string()))
}

trait IntoPullError {
    fn into_pull_error(self, reference: &Reference) -> PullError;
}

impl IntoPullError for OciDistributionError {
    /// containerd core/remotes/docker: what a user reads of a registry's refusal.
    fn into_pull_error(self, reference: &Reference) -> PullError {
        let text = |why: &dyn std::fmt::Display| {
            format!(
                "failed to pull and unpack image {0:?}: failed to resolve reference {0:?}: {why}",
                reference.to_string()
            )
        };
        let denied = "pull access denied, repository does not exist or may require authorization";
        match &self {
            Self::ImageManifestNotFoundError(_) | Self::ServerError { code: 404, .. } => {
                PullError::NotFound(text(&format!("{reference}: not found")))
            }
            Self::RegistryError { envelope, .. } => {
                use oci_client::errors::OciErrorCode;
                let any = |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                if any(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    PullError::Unauthorized(text(&denied))
                } else if any(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]) {
                    PullError::NotFound(text(&format!("{reference}: not found")))
                } else {
                    PullError::Registry(text(&self))
                }
            }
            Self::UnauthorizedError { .. }
            | Self::AuthenticationFailure(_)
            | Self::ServerError { code: 401 | 403, .. } => PullError::Unauthorized(text(&denied)),
            Self::RequestError(e) => PullError::Registry(text(&causes(e))),
            Self::DigestError(oci_client::errors::DigestError::VerificationError { expected, actual }) => {
                PullError::Digest { expected: expected.clone(), actual: actual.clone() }
            }
            _ => PullError::Registry(text(&self)),
        }
    }
}

/// A transport error's own text leaves out what really happened (refused, timed out); its causes say it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_may_be_the_only_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mirror = |host: &str| Endpoint { host: host.into(), ..Endpoint::default() };
        let registries = vec![
            Registry { host: "docker.io".into(), endpoints: vec![mirror("m:5000")], ..Registry::default() },
            Registry { host: "*".into(), endpoints: vec![mirror("all")], endpoints_only: true, ..Registry::default() },
        ];
        let puller = Puller::new(Arc::new(Images::open(directory.path()).unwrap()), registries).unwrap();
        let hosts = |of: &str| puller.endpoints(of).into_iter().map(|e| e.host).collect::<Vec<_>>().join(" ");
        assert_eq!([hosts("docker.io"), hosts("quay.io")], ["m:5000 docker.io", "all"]);
        let rewritten = Endpoint { prefix: "/hub/".into(), ..mirror("m") };
        let reference = Reference::parse("nginx").unwrap();
        assert_eq!(remote(&reference, &rewritten).whole(), "m/hub/library/nginx:latest");
    }
}
