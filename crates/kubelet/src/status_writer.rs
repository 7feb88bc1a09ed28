//! Writing a pod's status to the API server: the newest one, the parts that changed, and at the end the deletion.
//!
//! kubernetes/kubernetes pkg/kubelet/status/status_manager.go: patches of the status subresource, then a deletion without
//! grace that must hit this very object.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::mirrors;

/// The latest wish for an object.
#[derive(Clone, Default)]
struct Wish {
    status: Option<Arc<PodStatus>>,
    delete: bool,
}

pub(crate) struct Writer {
    to: watch::Sender<Wish>,
    _task: AbortOnDropHandle<()>,
}

impl Writer {
    pub(crate) fn spawn(client: kube::Client, pod: Arc<Pod>) -> Writer {
        let (to, from) = watch::channel(Wish::default());
        let task = tokio::spawn(write(client, pod, from));
        Writer { to, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn write(&self, status: PodStatus) {
        self.to.send_modify(|wish| wish.status = Some(Arc::new(status)));
    }

    /// Writes the newest status once more, for an object that was not there before.
    pub(crate) fn again(&self) {
        self.to.send_modify(|_| {});
    }

    pub(crate) fn delete(&self) {
        self.to.send_modify(|wish| wish.delete = true);
    }
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

async fn write(client: kube::Client, pod: Arc<Pod>, mut from: watch::Receiver<Wish>) {
    let meta = &pod.metadata;
    let api: Api<Pod> = Api::namespaced(client, meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.clone().unwrap_or_default();
    let mut uid = meta.uid.clone().unwrap_or_default();
    let mut written = to_map(pod.status.as_ref());
    let mut retry = RETRY_FIRST;
    // A static pod's status belongs on its mirror, whose uid only the API server knows.
    let is_static = pods::is_static(&pod);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    while from.changed().await.is_ok() {
        loop {
            let wish = from.borrow_and_update().clone();
            if is_static {
                match mirrors::read(&api, node, &name).await {
                    Ok(Some(mirror)) => {
                        uid = mirror.metadata.uid.clone().unwrap_or_default();
                        written = to_map(mirror.status.as_ref());
                    }
                    // There is nothing to write to; its appearance will be told.
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(error = crate::api_error(&error), name, "mirror not read");
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(RETRY_MAX);
                        continue;
                    }
                }
            }
            match fulfil(&api, &name, &uid, &wish, &mut written).await {
                Ok(()) => {
                    retry = RETRY_FIRST;
                    break;
                }
                Err(error) if is_over(&error) => {
                    tracing::debug!(%error, name, "status not written: the object is gone or another");
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, name, "status not written");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }
}

/// Not found, or a conflict of uids: there is nothing to write to any more.
fn is_over(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

async fn fulfil(
    api: &Api<Pod>,
    name: &str,
    uid: &str,
    wish: &Wish,
    written: &mut Map<String, Value>,
) -> Result<(), kube::Error> {
    if let Some(status) = &wish.status {
        let wanted = to_map(Some(status));
        let changes = changes(written, &wanted);
        if !changes.is_empty() {
            let patch = json!({"metadata": {"uid": uid}, "status": changes});
            api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
            *written = wanted;
        }
    }
    if wish.delete {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
            ..DeleteParams::default()
        };
        api.delete(name, &now).await?;
    }
    Ok(())
}

fn to_map(status: Option<&PodStatus>) -> Map<String, Value> {
    match status.map(serde_json::to_value) {
        Some(Ok(Value::Object(map))) => map,
        _ => Map::new(),
    }
}

/// The fields that differ, `null` for those that are gone. Conditions merge by type, so all of ours go when one differs.
fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let set = after.iter().filter(|(field, value)| before.get(*field) != Some(value));
    let set = set.map(|(field, value)| match field.as_str() {
        "conditions" => (field.clone(), conditions(before.get(field), value)),
        _ => (field.clone(), value.clone()),
    });
    // Fields that other writers own never come from the worker, so only ours are taken back.
    let ours = ["reason", "message", "podIP", "podIPs", "ephemeralContainerStatuses"];
    let gone = ours.iter().filter(|field| before.contains_key(**field) && !after.contains_key(**field));
    set.chain(gone.map(|field| (field.to_string(), Value::Null))).collect()
}

/// A condition is merged field by field: what it no longer says has to be taken back.
fn conditions(before: Option<&Value>, after: &Value) -> Value {
    let mut all = after.clone();
    for condition in all.as_array_mut().into_iter().flatten() {
        let same = |had: &&Value| had["type"] == condition["type"];
        let Some(had) = before.and_then(Value::as_array).and_then(|all| all.iter().find(same)) else { continue };
        for field in ["reason", "message"] {
            if had.get(field).is_some() && condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_sent() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let before = map(json!({"phase": "Pending", "reason": "X", "hostIP": "1", "nominatedNodeName": "n"}));
        let after = map(json!({"phase": "Running", "hostIP": "1"}));
        assert_eq!(Value::Object(changes(&before, &after)), json!({"phase": "Running", "reason": null}));
        assert!(changes(&after, &after).is_empty());
        let unready = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "c"});
        let before = map(json!({"conditions": [unready]}));
        let after = map(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let wanted = json!({"conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]});
        assert_eq!(Value::Object(changes(&before, &after)), wanted);
    }
}
