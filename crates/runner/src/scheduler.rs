//! The scheduler's loop: changes in, bindings, refusals and preemptions out.
//!
//! kubernetes/kubernetes pkg/scheduler/schedule_one.go: decides what is written for each outcome.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use reconcile::{Cache, Change, Key, Of, meta, plan, podstate};
use schedule::{ClusterEvent, Decision, PodRef, PodView, Refusal, Scheduler};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::api::Api;
use crate::controllers::start_reflector;
use crate::events::{Recorder, Told};
use crate::execute::Shared;

const NAME: &str = "default-scheduler";

/// What the scheduler looks at.
const KINDS: &[Of] = &[
    Of::Pod,
    Of::Node,
    Of::Namespace,
    Of::PersistentVolumeClaim,
    Of::PersistentVolume,
    Of::StorageClass,
    Of::CSINode,
    Of::PodDisruptionBudget,
    Of::Service,
    Of::ReplicationController,
    Of::ReplicaSet,
    Of::StatefulSet,
];

/// Where changes are handed to the scheduler.
pub struct Inbox(mpsc::UnboundedSender<ClusterEvent>);

/// What has been handed over.
pub struct Letters(mpsc::UnboundedReceiver<ClusterEvent>);

pub fn inbox() -> (Inbox, Letters) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Inbox(sender), Letters(receiver))
}

impl Inbox {
    pub fn put(&self, change: &Change) {
        if let Some(event) = event(change) {
            // When the scheduler has stopped, the process is stopping too.
            let _ = self.0.send(event);
        }
    }
}

fn typed<K: Send + Sync + 'static>(change: &Change) -> Option<schedule::Change<K>> {
    let as_typed = |object: &Arc<dyn reconcile::cache::Object>| object.clone().into_any().downcast::<K>().ok();
    match (&change.new, &change.old) {
        (Some(new), _) => as_typed(new).map(schedule::Change::Set),
        (None, Some(old)) => as_typed(old).map(schedule::Change::Gone),
        (None, None) => None,
    }
}

fn event(change: &Change) -> Option<ClusterEvent> {
    Some(match change.of {
        Of::Pod => ClusterEvent::Pod(typed(change)?),
        Of::Node => ClusterEvent::Node(typed(change)?),
        Of::Namespace => ClusterEvent::Namespace(typed(change)?),
        Of::PersistentVolumeClaim => ClusterEvent::Claim(typed(change)?),
        Of::PersistentVolume => ClusterEvent::Volume(typed(change)?),
        Of::StorageClass => ClusterEvent::StorageClass(typed(change)?),
        Of::CSINode => ClusterEvent::CsiNode(typed(change)?),
        Of::PodDisruptionBudget => ClusterEvent::Budget(typed(change)?),
        Of::Service => ClusterEvent::Service(typed(change)?),
        Of::ReplicationController => ClusterEvent::ReplicationController(typed(change)?),
        Of::ReplicaSet => ClusterEvent::ReplicaSet(typed(change)?),
        Of::StatefulSet => ClusterEvent::StatefulSet(typed(change)?),
        _ => return None,
    })
}

/// Runs the scheduler alone until `stop`.
pub async fn run(client: kube::Client, stop: CancellationToken) -> Result<(), Error> {
    let api = Api::new(client);
    let (inbox, letters) = inbox();
    let shared = Arc::new(Shared {
        api: api.clone(),
        cache: Cache::default(),
        recorder: Recorder::start(api.clone()),
        started: Timestamp::now(),
        changed: Box::new(move |change| inbox.put(change)),
    });
    let mut tasks = JoinSet::new();
    let listed = KINDS.iter().map(|of| start_reflector(&mut tasks, &shared, *of)).collect();
    tasks.spawn(work(api, letters, listed));
    stop.cancelled().await;
    tasks.shutdown().await;
    Ok(())
}

struct Clerk {
    api: Api,
    recorder: Recorder,
}

type Writing<'a> = FuturesUnordered<BoxFuture<'a, Option<PodRef>>>;

/// Decides on pods as changes come in.
pub async fn work(api: Api, mut letters: Letters, mut listed: Vec<watch::Receiver<bool>>) {
    for ready in &mut listed {
        if ready.wait_for(|listed| *listed).await.is_err() {
            return;
        }
    }
    info!("scheduler started");
    let clerk = Clerk { recorder: Recorder::start(api.clone()), api };
    let mut scheduler = Scheduler::new(NAME);
    // Writes on their way; one that ends with a pod has failed to bind it.
    let mut writing: Writing<'_> = FuturesUnordered::new();
    loop {
        while let Ok(event) = letters.0.try_recv() {
            scheduler.on_event(&event, Timestamp::now());
        }
        if let Some(pod) = scheduler.next(Timestamp::now()) {
            decide(&clerk, &mut scheduler, &pod, &mut writing);
            // Writes make progress between decisions, not only after the last of many.
            while let Some(Some(failed)) = futures::FutureExt::now_or_never(writing.next()) {
                settle(&mut scheduler, failed);
            }
            tokio::task::yield_now().await;
            continue;
        }
        let wake = async {
            match scheduler.next_wake() {
                None => std::future::pending().await,
                Some(at) => tokio::time::sleep(until(at)).await,
            }
        };
        tokio::select! {
            event = letters.0.recv() => match event {
                Some(event) => scheduler.on_event(&event, Timestamp::now()),
                None => return,
            },
            Some(failed) = writing.next(), if !writing.is_empty() => settle(&mut scheduler, failed),
            () = wake => {}
        }
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO).max(Duration::from_millis(1))
}

fn settle(scheduler: &mut Scheduler, failed: Option<PodRef>) {
    if let Some(pod) = failed {
        scheduler.bind_failed(&pod, Timestamp::now());
    }
}

fn decide<'a>(clerk: &'a Clerk, scheduler: &mut Scheduler, pod: &Arc<PodView>, writing: &mut Writing<'a>) {
    let now = Timestamp::now();
    let seed = now.as_nanosecond() as u64;
    match scheduler.decide(pod, seed) {
        Decision::Bind { node } => {
            scheduler.assume(pod, &node);
            writing.push(Box::pin(clerk.bind(pod.clone(), node)));
        }
        Decision::Refused(refusal) => {
            scheduler.refused(pod, &refusal, now);
            writing.push(Box::pin(clerk.report(pod.clone(), refusal)));
        }
    }
}

impl Clerk {
    fn tell(&self, pod: &Pod, kind: &'static str, reason: &str, message: String) {
        let about = plan::reference(pod);
        self.recorder.tell(Told { source: NAME, about, kind, reason: reason.into(), message });
    }

    /// Posts the binding; the pod comes back if that failed.
    async fn bind(&self, view: Arc<PodView>, node: String) -> Option<PodRef> {
        let pod = &view.pod;
        let key = Key::of(&pod.metadata);
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", key.namespace, key.name);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.metadata.uid},
            "target": {"kind": "Node", "name": node},
        });
        let json = "application/json";
        match self.api.call(Method::POST, &path, json, json, Some(&binding)).await {
            Ok(_) => {
                self.tell(pod, "Normal", "Scheduled", format!("Successfully assigned {key} to {node}"));
                None
            }
            Err(refusal) => {
                debug!(%key, %refusal, "binding failed");
                if !refusal.is("NotFound") {
                    let text = format!("binding rejected: {refusal}");
                    self.tell(pod, "Warning", "FailedScheduling", text);
                }
                Some(view.key.clone())
            }
        }
    }

    /// Writes down why a pod has no node, and makes room if that was decided.
    async fn report(&self, view: Arc<PodView>, refusal: Refusal) -> Option<PodRef> {
        let pod = view.pod.as_ref();
        if let Some(node) = &refusal.nominated {
            for victim in &refusal.victims {
                self.evict(victim, pod, node).await;
            }
        }
        self.tell(pod, "Warning", "FailedScheduling", refusal.message.clone());
        let mut status = json!({});
        let fresh = condition(pod, "PodScheduled", "False", "Unschedulable", &refusal.message);
        let had = podstate::condition(pod, "PodScheduled");
        if had.is_none_or(|had| differs(had, &fresh)) {
            status["conditions"] = json!([fresh]);
        }
        let nominated = pod.status.as_ref().and_then(|s| s.nominated_node_name.clone()).unwrap_or_default();
        match &refusal.nominated {
            Some(node) if *node != nominated => status["nominatedNodeName"] = json!(node),
            None if refusal.clears_nomination && !nominated.is_empty() => status["nominatedNodeName"] = Value::Null,
            _ => {}
        }
        if status != json!({}) {
            self.patch_status(pod, status).await;
        }
        None
    }

    async fn patch_status(&self, pod: &Pod, status: Value) {
        let key = Key::of(&pod.metadata);
        let path = format!("/api/v1/namespaces/{}/pods/{}/status", key.namespace, key.name);
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        let how = "application/strategic-merge-patch+json";
        if let Err(refusal) = self.api.call(Method::PATCH, &path, how, "application/json", Some(&patch)).await
            && !refusal.is("NotFound")
            && !refusal.is("Conflict")
        {
            warn!(%key, %refusal, "pod status not written");
        }
    }

    async fn evict(&self, victim: &Pod, preemptor: &Pod, node: &str) {
        if !meta::deleting(&victim.metadata) {
            let text = format!("{NAME}: preempting to accommodate a higher priority pod");
            let fresh = condition(victim, "DisruptionTarget", "True", "PreemptionByScheduler", &text);
            self.patch_status(victim, json!({"conditions": [fresh]})).await;
        }
        let key = Key::of(&victim.metadata);
        let path = format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name);
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": victim.metadata.uid}});
        let json = "application/json";
        match self.api.call(Method::DELETE, &path, json, json, Some(&options)).await {
            Ok(_) => {
                let by = meta::uid(&preemptor.metadata);
                self.tell(victim, "Normal", "Preempted", format!("Preempted by pod {by} on node {node}"));
            }
            Err(refusal) if refusal.is("NotFound") => {}
            Err(refusal) => warn!(%key, %refusal, "victim not deleted"),
        }
    }
}

fn condition(pod: &Pod, kind: &str, state: &str, reason: &str, message: &str) -> PodCondition {
    let had = podstate::condition(pod, kind).filter(|c| c.status == state);
    let since = had.and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: kind.into(),
        status: state.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: since.or_else(|| Some(meta::time(Timestamp::now()))),
        observed_generation: pod.metadata.generation,
        ..Default::default()
    }
}

fn differs(a: &PodCondition, b: &PodCondition) -> bool {
    (&a.status, &a.reason, &a.message) != (&b.status, &b.reason, &b.message)
}
