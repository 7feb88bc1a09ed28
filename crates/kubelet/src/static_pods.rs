//! Pods from files on the node, and their mirrors at the API server.
//!
//! kubernetes/kubernetes pkg/kubelet/config/common.go: names, uids and annotations of static pods.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;

use crate::host::Host;

const CONFIG_HASH: &str = "kubernetes.io/config.hash";
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// How often the directory's modification time and its files are looked at (upstream's fileCheckFrequency).
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// A pod and the file it came from.
pub(crate) struct Sourced {
    pub(crate) pod: Pod,
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// All static pods, each time that the directory has changed. Without a directory it never yields.
pub(crate) fn follow(dir: Option<PathBuf>, node: &str) -> futures::stream::BoxStream<'static, Vec<Sourced>> {
    let Some(dir) = dir else { return Box::pin(futures::stream::pending()) };
    Box::pin(changes(dir, node.to_string()))
}

fn changes(dir: PathBuf, node: String) -> impl Stream<Item = Vec<Sourced>> + Send {
    let before: Option<Vec<(PathBuf, std::time::SystemTime)>> = None;
    futures::stream::unfold((dir, node, before), |(dir, node, mut before)| async move {
        loop {
            let seen = listing(&dir);
            if before.as_ref() != Some(&seen) {
                let pods = seen.iter().filter_map(|(path, _)| read(path, &node)).collect();
                return Some((pods, (dir, node, Some(seen))));
            }
            before = Some(seen);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
}

fn listing(dir: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    let manifests = files.filter(|path| {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let kind = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        !hidden && kind
    });
    let mut out: Vec<_> =
        manifests.filter_map(|path| Some((path.clone(), std::fs::metadata(&path).ok()?.modified().ok()?))).collect();
    out.sort();
    out
}

/// A manifest as a pod of this node; one that cannot be read is told of and passed over.
fn read(path: &Path, node: &str) -> Option<Sourced> {
    let told = |error: &dyn std::fmt::Display| tracing::error!(path = %path.display(), %error, "static pod not read");
    let text = std::fs::read_to_string(path).map_err(|error| told(&error)).ok()?;
    let pod: Pod = serde_yaml_ng::from_str(&text).map_err(|error| told(&error)).ok()?;
    Some(Sourced { pod: apply_defaults(pod, &text, node) })
}

fn apply_defaults(mut pod: Pod, text: &str, node: &str) -> Pod {
    let hash = hash(&[text, node]);
    let meta = &mut pod.metadata;
    meta.uid = Some(meta.uid.clone().filter(|uid| !uid.is_empty()).unwrap_or_else(|| hash.clone()));
    let name = meta.name.clone().unwrap_or_default();
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace = meta.namespace.clone().or(Some("default".into()));
    let annotations = meta.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(CONFIG_HASH.into(), hash);
    annotations.insert(CONFIG_SOURCE.into(), "file".into());
    annotations.insert(CONFIG_SEEN.into(), jiff::Timestamp::now().to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.into());
    spec.enable_service_links = spec.enable_service_links.or(Some(true));
    spec.restart_policy = spec.restart_policy.clone().or(Some("Always".into()));
    spec.termination_grace_period_seconds = spec.termination_grace_period_seconds.or(Some(30));
    let everything =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Default::default() };
    spec.tolerations.get_or_insert_with(Vec::new).push(everything);
    pod
}

/// 128 bits of FNV-1a in hexadecimal: stable for the same file on the same node, which is all that is asked of it.
fn hash(parts: &[&str]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut state: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        state = (state ^ u128::from(byte)).wrapping_mul(PRIME);
    }
    format!("{state:032x}")
}

/// Shows a static pod at the API server, trying until it is there.
pub(crate) fn mirror(host: &Arc<Host>, pod: Arc<Pod>) {
    let host = Arc::clone(host);
    tokio::spawn(async move {
        let mut wait = Duration::from_millis(200);
        while let Err(error) = try_mirror(&host, &pod).await {
            tracing::debug!(%error, pod = pod.metadata.name, "no mirror yet");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(30));
            if !host.pods().contains_key(crate::host::uid(&pod)) {
                return;
            }
        }
        let known = host.pods().get(crate::host::uid(&pod)).cloned();
        if let Some(known) = known {
            known.to.send(crate::task::Message::Mirrored).ok();
        }
    });
}

/// A mirror was deleted although its file is still there.
pub(crate) fn mirror_again(host: &Arc<Host>, mirror_pod: &Pod) {
    let meta = &mirror_pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    if let Some(known) = host.pod_named(namespace, name).filter(|known| pods::is_static(&known.pod)) {
        mirror(host, known.pod);
    }
}

async fn try_mirror(host: &Host, pod: &Pod) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(host.client.clone());
    let node = nodes.get(&host.config.node_name).await?;
    let mut mirror = pod.clone();
    let hash = annotation(pod, CONFIG_HASH).unwrap_or_default().to_string();
    mirror.metadata.annotations.get_or_insert_default().insert(CONFIG_MIRROR.into(), hash.clone());
    mirror.metadata.uid = None;
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: host.config.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    let api: Api<Pod> = Api::namespaced(host.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api.get_opt(name).await? {
        Some(old) if annotation(&old, CONFIG_MIRROR) == Some(&hash) => return Ok(()),
        // Another file's mirror, or an older one's.
        Some(_) => {
            let now = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
            api.delete(name, &now).await?;
        }
        None => {}
    }
    api.create(&PostParams::default(), &mirror).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: c, image: i}]}\n";
        let pod = apply_defaults(serde_yaml_ng::from_str(text).unwrap(), text, "Node-1");
        assert_eq!(pod.metadata.name.as_deref(), Some("etcd-node-1"));
        assert!(pods::is_static(&pod) && !is_mirror(&pod));
        assert_eq!(pod.metadata.uid.as_deref().unwrap().len(), 32);
        let other = apply_defaults(serde_yaml_ng::from_str(text).unwrap(), text, "node-2");
        assert_ne!(pod.metadata.uid, other.metadata.uid);
    }
}
