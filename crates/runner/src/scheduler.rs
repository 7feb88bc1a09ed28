//! The scheduler's loop: pods and nodes in, bindings out.

use std::sync::Arc;

use http::Method;
use reconcile::{Cache, Of, podstate};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Error;
use crate::api::{Api, Detail};
use crate::events::Recorder;
use crate::execute::{Filler, Shared};
use crate::queue::Queue;
use crate::reflector::{Source, reflect};
use reconcile::Key;

const NAME: &str = "default-scheduler";

/// Runs until `stop`.
pub async fn run(client: kube::Client, stop: CancellationToken) -> Result<(), Error> {
    let api = Api::new(client);
    let queue: Arc<Queue<Key>> = Arc::new(Queue::default());
    let wake = queue.clone();
    let shared = Arc::new(Shared {
        api: api.clone(),
        cache: Cache::default(),
        recorder: Recorder::start(api.clone()),
        changed: Box::new(move |change| {
            if let Some(pod) = change.new::<k8s_openapi::api::core::v1::Pod>()
                && waits(pod)
            {
                wake.add(Key::of(&pod.metadata));
            }
        }),
    });
    let mut tasks = JoinSet::new();
    for of in [Of::Node, Of::Pod] {
        let source = Source { resource: of.resource().clone(), field_selector: String::new(), detail: Detail::Whole };
        let sink = Filler { shared: shared.clone(), of };
        tasks.spawn(reflect(api.clone(), source, sink, || ()));
    }
    tasks.spawn(work(shared, queue));
    stop.cancelled().await;
    tasks.shutdown().await;
    Ok(())
}

fn waits(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let ours = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).is_none_or(|n| n == NAME);
    ours && podstate::node_name(pod).is_empty() && podstate::active(pod)
}

async fn work(shared: Arc<Shared>, queue: Arc<Queue<Key>>) {
    loop {
        let key = queue.next().await;
        if let Some(pod) = shared.cache.pods.at(&key).filter(|pod| waits(pod)) {
            let ready = |node: &k8s_openapi::api::core::v1::Node| {
                let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
                conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
            };
            let node = shared.cache.nodes.all().into_iter().find(|n| ready(n));
            match node {
                Some(node) => bind(&shared, &queue, &key, &pod, node.metadata.name.as_deref().unwrap_or("")).await,
                None => queue.add_rate_limited(key.clone()),
            }
        }
        queue.done(&key);
    }
}

async fn bind(shared: &Shared, queue: &Queue<Key>, key: &Key, pod: &k8s_openapi::api::core::v1::Pod, node: &str) {
    let path = format!("/api/v1/namespaces/{}/pods/{}/binding", key.namespace, key.name);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.metadata.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let json = "application/json";
    match shared.api.call(Method::POST, &path, json, json, Some(&binding)).await {
        Ok(_) => {
            queue.forget(key);
            let message = format!("Successfully assigned {key} to {node}");
            shared.tell(NAME, reconcile::plan::reference(pod), "Normal", "Scheduled".into(), message);
        }
        Err(refusal) if refusal.is("NotFound") || refusal.is("Conflict") => queue.forget(key),
        Err(refusal) => {
            warn!(%key, %refusal, "binding failed");
            queue.add_rate_limited(key.clone());
        }
    }
}
