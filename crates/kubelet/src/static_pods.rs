//! Pods from files on the node.
//!
//! kubernetes/kubernetes pkg/kubelet/config/common.go: names, uids and annotations of static pods.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use k8s_openapi::api::core::v1::{Pod, Toleration};

use crate::host::uid;
use crate::watch::{Watch, WatchFlags};

pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// How often the directory's modification time and its files are looked at (upstream's fileCheckFrequency).
const LOOK_EVERY: Duration = Duration::from_secs(20);

pub(crate) fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// All static pods, each time that the directory has changed. Without a directory it never yields.
pub(crate) fn follow(dir: Option<PathBuf>, node: &str) -> futures::stream::BoxStream<'static, Vec<Pod>> {
    let Some(dir) = dir else { return Box::pin(futures::stream::pending()) };
    Box::pin(changes(dir, node.to_string()))
}

fn changes(dir: PathBuf, node: String) -> impl Stream<Item = Vec<Pod>> + Send {
    let before: Option<Vec<(PathBuf, std::time::SystemTime)>> = None;
    futures::stream::unfold((dir, node, before), |(dir, node, mut before)| async move {
        loop {
            // Watched before it is looked at, so that no change falls in between.
            let files = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
            let hint = Watch::new(&dir, files);
            let seen = listing(&dir);
            if before.as_ref() != Some(&seen) {
                let pods = seen.iter().filter_map(|(path, _)| read(path, &node)).collect();
                return Some((pods, (dir, node, Some(seen))));
            }
            before = Some(seen);
            let changed = async {
                match &hint {
                    Ok(hint) => hint.changed().await.is_ok(),
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::time::timeout(LOOK_EVERY, changed).await.ok();
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
fn read(path: &Path, node: &str) -> Option<Pod> {
    let told = |error: &dyn std::fmt::Display| tracing::error!(path = %path.display(), %error, "static pod not read");
    let text = std::fs::read_to_string(path).map_err(|error| told(&error)).ok()?;
    let pod: Pod = serde_yaml_ng::from_str(&text).map_err(|error| told(&error)).ok()?;
    Some(apply_defaults(pod, &text, node))
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

/// Namespace and name.
pub(crate) type FullName = (String, String);

pub(crate) fn full_name(pod: &Pod) -> FullName {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

/// Which static pods run and which wait. Of one name there is one at most: an edited file's pod waits until the pod of
/// the file before has ended, for they may share data.
///
/// kubernetes/kubernetes pkg/kubelet/pod_workers.go (allowStaticPodStart).
#[derive(Default)]
pub(crate) struct Statics {
    running: BTreeMap<FullName, String>,
    waiting: BTreeMap<FullName, Arc<Pod>>,
}

impl Statics {
    /// Takes in all files there are. The pods of these uids are to end.
    pub(crate) fn take(&mut self, all: Vec<Pod>) -> Vec<String> {
        let mut wanted: BTreeMap<FullName, Arc<Pod>> = BTreeMap::new();
        for pod in all {
            let name = full_name(&pod);
            match wanted.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(Arc::new(pod));
                }
                Entry::Occupied(entry) => {
                    let name = entry.key();
                    tracing::error!(?name, "two files have a static pod of this name: the second is passed over");
                }
            }
        }
        let mut ended = Vec::new();
        self.running.retain(|name, running| {
            let stays = wanted.get(name).is_some_and(|pod| uid(pod) == running);
            if !stays {
                ended.push(running.clone());
            }
            stays
        });
        wanted.retain(|name, _| !self.running.contains_key(name));
        self.waiting = wanted;
        ended
    }

    /// The pods that may start: no pod of their name `is_here` any more. They count as running from now on.
    pub(crate) fn start(&mut self, is_here: impl Fn(&FullName) -> bool) -> Vec<Arc<Pod>> {
        let (held, ready) = std::mem::take(&mut self.waiting).into_iter().partition(|(name, _)| is_here(name));
        self.waiting = held;
        let ready: BTreeMap<FullName, Arc<Pod>> = ready;
        self.running.extend(ready.iter().map(|(name, pod)| (name.clone(), uid(pod).to_string())));
        ready.into_values().collect()
    }

    /// Whether a file has a pod of this name.
    pub(crate) fn has(&self, name: &FullName) -> bool {
        self.running.contains_key(name) || self.waiting.contains_key(name)
    }
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

    #[test]
    fn an_edited_pod_waits_for_the_one_before() {
        let pod = |name: &str, uid: &str| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": {"namespace": "n", "name": name, "uid": uid}}))
                .unwrap()
        };
        let uids = |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| uid(pod).to_string()).collect::<Vec<_>>();
        let mut statics = Statics::default();
        assert_eq!(statics.take(vec![pod("a", "1"), pod("b", "2"), pod("a", "3")]), Vec::<String>::new());
        assert_eq!(uids(statics.start(|_| false)), ["1", "2"]);
        // `a` is edited, twice, while its first pod is still here.
        assert_eq!(statics.take(vec![pod("a", "4"), pod("b", "2")]), ["1"]);
        assert_eq!(statics.take(vec![pod("a", "5"), pod("b", "2")]), Vec::<String>::new());
        let of_a = |name: &FullName| name.1 == "a";
        assert_eq!(uids(statics.start(of_a)), Vec::<String>::new());
        assert!(statics.has(&("n".into(), "a".into())));
        assert_eq!(uids(statics.start(|_| false)), ["5"]);
        assert_eq!(statics.take(vec![]), ["5", "2"]);
        assert!(!statics.has(&("n".into(), "a".into())));
    }
}
