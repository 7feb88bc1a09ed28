//! A pod's volumes as directories on the node.
//!
//! kubernetes/kubernetes pkg/volume: where each kind of volume lies and how it is made.

mod atomic;
mod claim;
mod host_path;
mod ownership;
pub(crate) mod subpath;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{
    ConfigMap, EmptyDirVolumeSource, Pod, PodCertificateProjection, Secret, ServiceAccountTokenProjection,
    Volume as Spec, VolumeProjection,
};
use pods::downward::Place;
use pods::env::Sources;
use pods::projection::{Context, Credential, Files, files};

use crate::files::{mounts_below, remove_tree};
use crate::host::{Host, uid};
use crate::objects::{Reference, Subscriber, Which};

/// Where a volume's content is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Volume {
    Directory(PathBuf),
    /// A directory that no container may write to: its content comes from the API, or its claim says so.
    ReadOnly(PathBuf),
    /// A file, device or socket of the host.
    Node(PathBuf),
    /// An image, mounted by the runtime.
    Image(String),
}

/// A pod's volumes by name.
pub(crate) type Volumes = BTreeMap<String, Volume>;

/// A volume that could not be set up.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) volume: String,
    pub(crate) message: String,
}

/// The objects that a pod refers to, fetched; what `pods` looks at.
#[derive(Default)]
pub(crate) struct Fetched {
    config_maps: BTreeMap<String, Result<Arc<ConfigMap>, String>>,
    secrets: BTreeMap<String, Result<Arc<Secret>, String>>,
    trust_bundles: Option<Result<Vec<Arc<ClusterTrustBundle>>, String>>,
    volumes: Volumes,
}

impl Sources for Fetched {
    fn config_map(&self, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
        self.config_maps.get(name).cloned().transpose()
    }

    fn secret(&self, name: &str) -> Result<Option<Arc<Secret>>, String> {
        self.secrets.get(name).cloned().transpose()
    }

    fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, String> {
        self.trust_bundles.clone().unwrap_or_else(|| Ok(Vec::new()))
    }

    fn file_key(&self, volume: &str, path: &str, key: &str) -> Result<Option<String>, String> {
        let Some(Volume::Directory(root) | Volume::ReadOnly(root)) = self.volumes.get(volume) else {
            return Err(format!("cannot find the volume {volume:?} referenced by FileKeyRef"));
        };
        let told = |error: &dyn std::fmt::Display| format!("couldn't parse env file: {path}: {error}");
        let text = subpath::read(root, Path::new(path)).map_err(|error| told(&error))?;
        pods::env_file::value(&text, key).map_err(|error| told(&error))
    }
}

impl Fetched {
    pub(crate) fn with_volumes(mut self, volumes: Volumes) -> Fetched {
        self.volumes = volumes;
        self
    }

    /// Fetches what is referred to, all at once.
    pub(crate) async fn fetch(host: &Host, namespace: &str, wanted: Vec<Reference>, pod: &Subscriber) -> Fetched {
        let mut out = Fetched::default();
        let maps = wanted.iter().filter(|(which, _)| *which == Which::ConfigMap).map(|(_, (_, name))| async move {
            Some((name.clone(), host.objects.config_map(namespace, name, pod).await.transpose()?))
        });
        let secrets = wanted.iter().filter(|(which, _)| *which == Which::Secret).map(|(_, (_, name))| async move {
            Some((name.clone(), host.objects.secret(namespace, name, pod).await.transpose()?))
        });
        let (maps, secrets) = futures::join!(futures::future::join_all(maps), futures::future::join_all(secrets));
        out.config_maps = maps.into_iter().flatten().collect();
        out.secrets = secrets.into_iter().flatten().collect();
        out
    }
}

/// What a pod's volumes refer to.
fn references(pod: &Pod) -> Vec<Reference> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let map = |name: &str| (Which::ConfigMap, (namespace.clone(), name.to_string()));
    let secret = |name: &str| (Which::Secret, (namespace.clone(), name.to_string()));
    let mut out = Vec::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        out.extend(volume.config_map.as_ref().map(|source| map(&source.name)));
        out.extend(volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()).map(secret));
        for part in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            out.extend(part.config_map.as_ref().map(|source| map(&source.name)));
            out.extend(part.secret.as_ref().map(|source| secret(&source.name)));
        }
    }
    out
}

/// What came of setting up a pod's volumes or of bringing them up to date.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) volumes: Volumes,
    pub(crate) failures: Vec<Failure>,
    /// When the first token wants to be renewed.
    pub(crate) renew_at: Option<Timestamp>,
}

/// Sets up every volume of the pod. Trying again is safe.
pub(crate) async fn set_up(host: &Arc<Host>, pod: &Arc<Pod>, place: &Place, to: &Subscriber) -> Made {
    let Projections { mut files, renew_at } = project(host, pod, place, to).await;
    let mut made = Made { renew_at, ..Made::default() };
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let one = match files.remove(&volume.name) {
            Some(Err(message)) => Err(message),
            Some(Ok(files)) => set_up_one(host, pod, volume, Some(files)).await,
            None => set_up_one(host, pod, volume, None).await,
        };
        match one {
            Ok(one) => {
                made.volumes.insert(volume.name.clone(), one);
            }
            Err(message) => made.failures.push(Failure { volume: volume.name.clone(), message }),
        }
    }
    made
}

async fn set_up_one(host: &Arc<Host>, pod: &Arc<Pod>, volume: &Spec, files: Option<Files>) -> Result<Volume, String> {
    if let Some(image) = &volume.image {
        return Ok(Volume::Image(image.reference.clone().unwrap_or_default()));
    }
    if let Some(source) = &volume.host_path {
        return host_path::check(source);
    }
    if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        return claim::set_up(host, pod, volume).await;
    }
    let (host, pod, spec) = (Arc::clone(host), Arc::clone(pod), volume.clone());
    let made = tokio::task::spawn_blocking(move || make(&host, &pod, &spec, files.as_ref())).await;
    made.map_err(|error| error.to_string())?
}

/// Brings the files of API volumes up to date. A volume whose source cannot be had keeps its old content; the others do
/// not wait for it.
pub(crate) async fn refresh(host: &Arc<Host>, pod: &Arc<Pod>, place: &Place, to: &Subscriber) -> Made {
    let Projections { files, renew_at } = project(host, pod, place, to).await;
    let mut made = Made { renew_at, ..Made::default() };
    for (volume, files) in files {
        let Some(spec) = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).find(|v| v.name == volume) else {
            continue;
        };
        let written = match files {
            Err(message) => Err(message),
            Ok(files) => {
                let (dir, pod) = (directory(host, pod, spec), Arc::clone(pod));
                let written = tokio::task::spawn_blocking(move || write(&pod, &dir, &files)).await;
                written.map_err(|error| error.to_string()).flatten()
            }
        };
        if let Err(message) = written {
            made.failures.push(Failure { volume, message });
        }
    }
    made
}

/// The files of each API volume, or why they are not to be had.
struct Projections {
    files: BTreeMap<String, Result<Files, String>>,
    renew_at: Option<Timestamp>,
}

async fn project(host: &Host, pod: &Pod, place: &Place, to: &Subscriber) -> Projections {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut fetched, tokens, certificates) = futures::join!(
        Fetched::fetch(host, namespace, references(pod), to),
        tokens(host, pod),
        certificates(host, pod),
    );
    if projections(pod).any(|part| part.cluster_trust_bundle.is_some()) {
        fetched.trust_bundles = Some(host.objects.trust_bundles(to).await);
    }
    let renew_at = tokens.iter().filter_map(|(_, token)| token.as_ref().ok().map(|(_, at)| *at));
    let renew_at =
        renew_at.chain(certificates.iter().filter_map(|(_, had)| had.as_ref().ok().map(|(_, at)| *at))).min();
    let token = |wanted: &ServiceAccountTokenProjection| match tokens.iter().find(|(known, _)| known == wanted) {
        Some((_, Ok((token, _)))) => Ok(token.clone()),
        Some((_, Err(error))) => Err(error.clone()),
        None => Err("token was not asked for".to_string()),
    };
    let certificate = |wanted: &PodCertificateProjection| match certificates.iter().find(|(known, _)| known == wanted) {
        Some((_, Ok((credential, _)))) => Ok(credential.clone()),
        Some((_, Err(error))) => Err(error.clone()),
        None => Err("certificate was not asked for".to_string()),
    };
    let context = Context { pod, sources: &fetched, place, token: &token, certificate: &certificate };
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let files = volumes.filter_map(|volume| Some((volume.name.clone(), files(volume, &context)?))).collect();
    Projections { files, renew_at }
}

type Token = (ServiceAccountTokenProjection, Result<(String, Timestamp), String>);

async fn tokens(host: &Host, pod: &Pod) -> Vec<Token> {
    let mut out = Vec::new();
    for wanted in projections(pod).filter_map(|part| part.service_account_token.as_ref()) {
        out.push((wanted.clone(), host.tokens.get(&host.client, pod, wanted).await));
    }
    out
}

type Certificate = (PodCertificateProjection, Result<(Credential, Timestamp), String>);

async fn certificates(host: &Host, pod: &Pod) -> Vec<Certificate> {
    let wanted = projections(pod).filter_map(|part| part.pod_certificate.as_ref());
    let had = wanted.map(|wanted| async move { (wanted.clone(), host.certificates.get(host, pod, wanted).await) });
    futures::future::join_all(had).await
}

/// The sources of a pod's projected volumes.
fn projections(pod: &Pod) -> impl Iterator<Item = &VolumeProjection> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.flat_map(|v| v.projected.iter()).flat_map(|p| p.sources.iter().flatten())
}

/// Upstream's directory of a volume below its pod's.
pub(crate) fn directory(host: &Host, pod: &Pod, volume: &Spec) -> PathBuf {
    let plugin = if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else {
        "kubernetes.io~empty-dir"
    };
    host.pod_dir(uid(pod)).join("volumes").join(plugin).join(&volume.name)
}

fn make(host: &Host, pod: &Pod, volume: &Spec, files: Option<&Files>) -> Result<Volume, String> {
    let dir = directory(host, pod, volume);
    let told = |error: std::io::Error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(&dir).map_err(told)?;
    if let Some(files) = files {
        let secret = volume.secret.is_some() || volume.projected.is_some();
        if secret && !is_mounted(&dir).map_err(told)? {
            mount_tmpfs(&dir, "mode=0755".into())?;
        }
        write(pod, &dir, files)?;
        return Ok(Volume::ReadOnly(dir));
    }
    let Some(source) = &volume.empty_dir else {
        return Err(format!("no volume plugin matched name: {}", volume.name));
    };
    // kubernetes/kubernetes pkg/volume/util/util.go (SetReady): containers may use it since the mark was set, so it is
    // left as it is then.
    let mark = ready_mark(host, pod, "kubernetes.io~empty-dir", &volume.name);
    let medium = source.medium.as_deref().unwrap_or_default();
    if mark.exists() && (medium != "Memory" || is_mounted(&dir).map_err(told)?) {
        return Ok(Volume::Directory(dir));
    }
    empty_dir(pod, &dir, source)?;
    set_ready(&mark)?;
    Ok(Volume::Directory(dir))
}

/// The file that says that a volume has been set up: beside the volume, out of its containers' reach.
fn ready_mark(host: &Host, pod: &Pod, plugin: &str, volume: &str) -> PathBuf {
    host.pod_dir(uid(pod)).join("plugins").join(plugin).join(volume).join("ready")
}

fn set_ready(mark: &Path) -> Result<(), String> {
    let made = mark.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(mark, b""));
    made.map_err(|error| format!("{}: {error}", mark.display()))
}

fn write(pod: &Pod, dir: &Path, files: &Files) -> Result<(), String> {
    atomic::write(dir, files, fs_group(pod)).map_err(|error| format!("{}: {error}", dir.display()))
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// kubernetes/kubernetes pkg/volume/emptydir: world-writable, in memory when asked for.
fn empty_dir(pod: &Pod, dir: &Path, source: &EmptyDirVolumeSource) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let told = |error: std::io::Error| format!("{}: {error}", dir.display());
    let medium = source.medium.as_deref().unwrap_or_default();
    if medium == "Memory" && !is_mounted(dir).map_err(told)? {
        let size = source.size_limit.as_ref().map(pods::amounts::whole).filter(|bytes| *bytes > 0);
        let size = size.map(|bytes| format!("size={bytes}")).unwrap_or_default();
        mount_tmpfs(dir, size)?;
    } else if medium.starts_with("HugePages") {
        return Err(format!("emptyDir medium {medium} is not supported"));
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).map_err(told)?;
    match fs_group(pod) {
        Some(group) => ownership::give(dir, group, ownership::Access::ReadWrite).map_err(told),
        None => Ok(()),
    }
}

fn mount_tmpfs(dir: &Path, options: String) -> Result<(), String> {
    use nix::mount::{MsFlags, mount};
    let options = (!options.is_empty()).then_some(options.as_str());
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options)
        .map_err(|error| format!("mount of tmpfs on {}: {error}", dir.display()))
}

fn is_mounted(dir: &Path) -> std::io::Result<bool> {
    Ok(mounts_below(dir)?.iter().any(|mounted| mounted == dir))
}

/// Unmounts and removes everything in a pod's directory. The directory itself stays while there are logs of the pod, which
/// it claims. Idempotent.
///
/// # Errors
/// Something is still mounted, or could not be removed.
pub(crate) fn tear_down(pod_dir: &Path) -> std::io::Result<()> {
    use nix::mount::{MntFlags, umount2};
    for point in mounts_below(pod_dir)? {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|error| {
            std::io::Error::new(std::io::Error::from(error).kind(), format!("unmount of {}: {error}", point.display()))
        })?;
    }
    let entries = match std::fs::read_dir(pod_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => remove_tree(&entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
