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
use k8s_openapi::api::core::v1::{
    ConfigMap, EmptyDirVolumeSource, Pod, Secret, ServiceAccountTokenProjection, Volume as Spec,
};
use pods::downward::Place;
use pods::env::Sources;
use pods::projection::{Context, Files, files};

use crate::host::{Host, uid};
use crate::objects::{Reference, Subscriber, Which};

/// Where a volume's content is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Volume {
    Directory(PathBuf),
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
    config_maps: BTreeMap<String, Arc<ConfigMap>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    volumes: Volumes,
}

impl Sources for Fetched {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.config_maps.get(name).cloned()
    }

    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(name).cloned()
    }

    fn file_key(&self, volume: &str, path: &str, key: &str) -> Result<Option<String>, String> {
        let Some(Volume::Directory(root)) = self.volumes.get(volume) else {
            return Err(format!("cannot find the volume {volume:?} referenced by FileKeyRef"));
        };
        let text = subpath::read(root, Path::new(path)).map_err(|error| error.to_string())?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let found = lines.find_map(|line| line.split_once('=').filter(|(name, _)| name.trim() == key));
        Ok(found.map(|(_, value)| value.trim().trim_matches('\'').to_string()))
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
            Some((name.clone(), host.objects.config_map(namespace, name, pod).await?))
        });
        let secrets = wanted.iter().filter(|(which, _)| *which == Which::Secret).map(|(_, (_, name))| async move {
            Some((name.clone(), host.objects.secret(namespace, name, pod).await?))
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

/// Sets up every volume of the pod, and says when a token wants to be renewed.
///
/// # Errors
/// The first volume that could not be set up; trying again is safe.
pub(crate) async fn set_up(
    host: &Arc<Host>,
    pod: &Arc<Pod>,
    place: &Place,
    to: &Subscriber,
) -> Result<(Volumes, Option<Timestamp>), Failure> {
    let (projections, renew_at) = project(host, pod, place, to).await?;
    let mut out = Volumes::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let failure = |message: String| Failure { volume: volume.name.clone(), message };
        let made = if let Some(image) = &volume.image {
            Volume::Image(image.reference.clone().unwrap_or_default())
        } else if let Some(source) = &volume.host_path {
            host_path::check(source).map_err(failure)?
        } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
            claim::resolve(host, pod, volume).await.map_err(failure)?
        } else {
            let (host, pod, spec) = (Arc::clone(host), Arc::clone(pod), volume.clone());
            let files = projections.get(&volume.name).cloned();
            let made = tokio::task::spawn_blocking(move || make(&host, &pod, &spec, files.as_ref())).await;
            made.map_err(|error| failure(error.to_string()))?.map_err(failure)?
        };
        out.insert(volume.name.clone(), made);
    }
    Ok((out, renew_at))
}

/// Brings the files of API volumes up to date, and says when a token needs that again.
///
/// # Errors
/// The volume whose source is missing now; its old content stays.
pub(crate) async fn refresh(
    host: &Host,
    pod: &Pod,
    place: &Place,
    to: &Subscriber,
) -> Result<Option<Timestamp>, Failure> {
    let (projections, renew_at) = project(host, pod, place, to).await?;
    for (name, files) in projections {
        let Some(spec) = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).find(|v| v.name == name) else {
            continue;
        };
        let dir = directory(host, pod, spec);
        write(pod, &dir, &files).map_err(|message| Failure { volume: name, message })?;
    }
    Ok(renew_at)
}

type Projections = BTreeMap<String, Files>;

async fn project(
    host: &Host,
    pod: &Pod,
    place: &Place,
    to: &Subscriber,
) -> Result<(Projections, Option<Timestamp>), Failure> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (fetched, tokens) = futures::join!(Fetched::fetch(host, namespace, references(pod), to), tokens(host, pod));
    let renew_at = tokens.iter().filter_map(|(_, token)| token.as_ref().ok().map(|(_, at)| *at)).min();
    let token = |wanted: &ServiceAccountTokenProjection| match tokens.iter().find(|(known, _)| known == wanted) {
        Some((_, Ok((token, _)))) => Ok(token.clone()),
        Some((_, Err(error))) => Err(error.clone()),
        None => Err("token was not asked for".to_string()),
    };
    let context = Context { pod, sources: &fetched, place, token: &token };
    let mut out = Projections::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        match files(volume, &context) {
            None => {}
            Some(Ok(files)) => {
                out.insert(volume.name.clone(), files);
            }
            Some(Err(message)) => return Err(Failure { volume: volume.name.clone(), message }),
        }
    }
    Ok((out, renew_at))
}

type Token = (ServiceAccountTokenProjection, Result<(String, Timestamp), String>);

async fn tokens(host: &Host, pod: &Pod) -> Vec<Token> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let parts = volumes.flat_map(|v| v.projected.iter()).flat_map(|p| p.sources.iter().flatten());
    let mut out = Vec::new();
    for wanted in parts.filter_map(|part| part.service_account_token.as_ref()) {
        out.push((wanted.clone(), host.tokens.get(&host.client, pod, wanted).await));
    }
    out
}

/// Upstream's directory of a volume below its pod's.
fn directory(host: &Host, pod: &Pod, volume: &Spec) -> PathBuf {
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
        if secret && !is_mounted(&dir) {
            mount_tmpfs(&dir, "mode=0755".into())?;
        }
        write(pod, &dir, files)?;
    } else if let Some(source) = &volume.empty_dir {
        empty_dir(pod, &dir, source)?;
    } else {
        return Err(format!("no volume plugin matched name: {}", volume.name));
    }
    Ok(Volume::Directory(dir))
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
    let medium = source.medium.as_deref().unwrap_or_default();
    if medium == "Memory" && !is_mounted(dir) {
        let size = source.size_limit.as_ref().map(pods::amounts::whole).filter(|bytes| *bytes > 0);
        let size = size.map(|bytes| format!("size={bytes}")).unwrap_or_default();
        mount_tmpfs(dir, size)?;
    } else if medium.starts_with("HugePages") {
        return Err(format!("emptyDir medium {medium} is not supported"));
    }
    let told = |error: std::io::Error| format!("{}: {error}", dir.display());
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

fn is_mounted(dir: &Path) -> bool {
    mounts_below(dir).iter().any(|mounted| mounted == dir)
}

/// Mount points at or below `dir`, the deepest and latest first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(unescape(point)));
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    below
}

/// mountinfo writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Unmounts and removes everything of a pod's directory. Idempotent.
///
/// # Errors
/// Something is still mounted, or could not be removed.
pub(crate) fn tear_down(pod_dir: &Path) -> std::io::Result<()> {
    use nix::mount::{MntFlags, umount2};
    for point in mounts_below(pod_dir) {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    match std::fs::remove_dir_all(pod_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
