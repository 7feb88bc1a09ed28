//! The mirrors of static pods at the API server: made, made again when somebody took one away, and removed with their
//! pods.
//!
//! kubernetes/kubernetes pkg/kubelet/pod/mirror_client.go; kubelet.go (SyncPod): a mirror that is being deleted, or is of
//! another version of the file, is deleted at once and made anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::host::{Host, uid};
use crate::static_pods::{CONFIG_HASH, CONFIG_MIRROR, FullName, annotation, full_name, is_mirror};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// One task for each name that ever had a mirror here.
pub(crate) struct Mirrors {
    host: Arc<Host>,
    keepers: HashMap<FullName, Keeper>,
}

struct Keeper {
    /// The pod that the mirror is to show; `None` when there is to be none.
    wish: watch::Sender<Option<Arc<Pod>>>,
    _task: AbortOnDropHandle<()>,
}

impl Mirrors {
    pub(crate) fn new(host: Arc<Host>) -> Mirrors {
        Mirrors { host, keepers: HashMap::new() }
    }

    pub(crate) fn want(&mut self, name: FullName, pod: Option<Arc<Pod>>) {
        match self.keepers.get(&name) {
            Some(keeper) => {
                keeper.wish.send_replace(pod);
            }
            None => {
                let (wish, from) = watch::channel(pod);
                let task = tokio::spawn(keep(Arc::clone(&self.host), name.clone(), from));
                self.keepers.insert(name, Keeper { wish, _task: AbortOnDropHandle::new(task) });
            }
        }
    }

    /// The names that have a mirror by our wish.
    pub(crate) fn names(&self) -> Vec<FullName> {
        let wanted = self.keepers.iter().filter(|(_, keeper)| keeper.wish.borrow().is_some());
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// A mirror is at the API server as `mirror` shows it.
    pub(crate) fn seen(&mut self, mirror: &Pod) {
        let name = full_name(mirror);
        match self.keepers.get(&name) {
            Some(keeper) if keeper.wish.borrow().as_ref().is_some_and(|pod| is_in_order(mirror, pod)) => {}
            Some(keeper) => keeper.wish.send_modify(|_| {}),
            // Its file was removed while no kubelet ran.
            None => self.want(name, None),
        }
    }

    /// A mirror is no longer there.
    pub(crate) fn missed(&self, mirror: &Pod) {
        if let Some(keeper) = self.keepers.get(&full_name(mirror)) {
            keeper.wish.send_modify(|_| {});
        }
    }
}

/// Whether a mirror may stay as it is.
fn is_in_order(mirror: &Pod, pod: &Pod) -> bool {
    let same = annotation(mirror, CONFIG_MIRROR).is_some_and(|hash| annotation(pod, CONFIG_HASH) == Some(hash));
    same && mirror.metadata.deletion_timestamp.is_none()
}

async fn keep(host: Arc<Host>, name: FullName, mut wish: watch::Receiver<Option<Arc<Pod>>>) {
    loop {
        let pod = wish.borrow_and_update().clone();
        let mut wait = RETRY_FIRST;
        while let Err(error) = bring_about(&host, &name, pod.as_deref()).await {
            tracing::debug!(error = crate::api_error(&error), ?name, "mirror is not as it should be");
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                changed = wish.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
        // What changed while it was worked at is seen at once.
        if !wish.has_changed().unwrap_or(false) && wish.changed().await.is_err() {
            return;
        }
    }
}

/// The pod of a name on this node. A kubelet may list its node's pods, but read by name only those that are there.
pub(crate) async fn read(api: &Api<Pod>, node: &str, name: &str) -> kube::Result<Option<Pod>> {
    let only = ListParams::default().fields(&format!("spec.nodeName={node},metadata.name={name}"));
    Ok(api.list(&only).await?.items.pop())
}

async fn bring_about(host: &Host, (namespace, name): &FullName, pod: Option<&Pod>) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(host.client.clone(), namespace);
    let found = read(&api, &host.config.node_name, name).await?;
    let (old, pod) = match (found, pod) {
        (None, None) => return Ok(()),
        (Some(old), Some(pod)) if is_in_order(&old, pod) => {
            tell(host, pod);
            return Ok(());
        }
        (old, pod) => (old, pod),
    };
    // Another pod of this name is nobody's mirror: creating ours will be refused as long as it is there.
    if let Some(old) = old.filter(is_mirror) {
        let preconditions = Preconditions { uid: old.metadata.uid, resource_version: None };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(name, &now).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => {
                other?;
            }
        }
    }
    if let Some(pod) = pod {
        let node = Api::<Node>::all(host.client.clone()).get(&host.config.node_name).await?;
        api.create(&PostParams::default(), &mirror_of(pod, &node)).await?;
        tell(host, pod);
    }
    Ok(())
}

/// The pod's task has a place for its status now.
fn tell(host: &Host, pod: &Pod) {
    if let Some(known) = host.pods().get(uid(pod)) {
        known.to.send(crate::task::Message::Mirrored).ok();
    }
}

fn mirror_of(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    let hash = annotation(pod, CONFIG_HASH).unwrap_or_default().to_string();
    mirror.metadata.annotations.get_or_insert_default().insert(CONFIG_MIRROR.into(), hash);
    mirror.metadata.uid = None;
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}
