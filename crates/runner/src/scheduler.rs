//! The scheduler's loop: changes in, bindings, refusals and preemptions out.
//!
//! kubernetes/kubernetes pkg/scheduler/schedule_one.go: decides what is written for each outcome.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use reconcile::cache::Object;
use reconcile::{Cache, Change, Key, Of, meta, plan, podstate};
use schedule::{ClusterEvent, Decision, PodRef, PodView, Refusal, Scheduler};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::api::Api;
use crate::controllers::start_reflector;
use crate::events::{Recorder, Told};
use crate::execute::Shared;
use crate::tasks::{Tasks, caught};
use crate::{Error, Refused};

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
///
/// Changes come from several tasks at once, and their order is not that of the cache. So what is handed over is the
/// cache's state at that moment, one change at a time: the scheduler never sees an object grow older.
pub struct Inbox(Mutex<mpsc::UnboundedSender<ClusterEvent>>);

/// What has been handed over.
pub struct Letters(mpsc::UnboundedReceiver<ClusterEvent>);

pub fn inbox() -> (Inbox, Letters) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Inbox(Mutex::new(sender)), Letters(receiver))
}

impl Inbox {
    pub fn put(&self, cache: &Cache, change: &Change) {
        let Some(meta) = change.meta().filter(|_| KINDS.contains(&change.of)) else { return };
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = cache.store(change.of).object(&Key::of(meta));
        let uid = |object: &Arc<dyn Object>| object.meta().uid.clone();
        let gone = change.old.as_ref().filter(|old| now.as_ref().map(uid) != Some(uid(old)));
        let events =
            [gone.and_then(|old| event(change.of, old, false)), now.and_then(|now| event(change.of, &now, true))];
        for event in events.into_iter().flatten() {
            if sender.send(event).is_err() {
                debug!(kind = ?change.of, "the scheduler has stopped: change not handed over");
            }
        }
    }
}

fn typed<K: Send + Sync + 'static>(object: &Arc<dyn Object>, there: bool) -> Option<schedule::Change<K>> {
    let object = object.clone().into_any().downcast::<K>().ok()?;
    Some(if there { schedule::Change::Set(object) } else { schedule::Change::Gone(object) })
}

fn event(of: Of, object: &Arc<dyn Object>, there: bool) -> Option<ClusterEvent> {
    Some(match of {
        Of::Pod => ClusterEvent::Pod(typed(object, there)?),
        Of::Node => ClusterEvent::Node(typed(object, there)?),
        Of::Namespace => ClusterEvent::Namespace(typed(object, there)?),
        Of::PersistentVolumeClaim => ClusterEvent::Claim(typed(object, there)?),
        Of::PersistentVolume => ClusterEvent::Volume(typed(object, there)?),
        Of::StorageClass => ClusterEvent::StorageClass(typed(object, there)?),
        Of::CSINode => ClusterEvent::CsiNode(typed(object, there)?),
        Of::PodDisruptionBudget => ClusterEvent::Budget(typed(object, there)?),
        Of::Service => ClusterEvent::Service(typed(object, there)?),
        Of::ReplicationController => ClusterEvent::ReplicationController(typed(object, there)?),
        Of::ReplicaSet => ClusterEvent::ReplicaSet(typed(object, there)?),
        Of::StatefulSet => ClusterEvent::StatefulSet(typed(object, there)?),
        _ => return None,
    })
}

/// Runs the scheduler alone until `stop`.
pub async fn run(client: kube::Client, refused: Option<Refused>, stop: CancellationToken) -> Result<(), Error> {
    let api = Api::new(client);
    let (inbox, letters) = inbox();
    let own: Arc<OnceLock<Weak<Shared>>> = Arc::default();
    let back = own.clone();
    let shared = Arc::new(Shared {
        api: api.clone(),
        apis: HashMap::new(),
        cache: Cache::default(),
        recorder: Recorder::start(api.clone()),
        started: Timestamp::now(),
        changed: Box::new(move |change| {
            if let Some(shared) = back.get().and_then(Weak::upgrade) {
                inbox.put(&shared.cache, change);
            }
        }),
    });
    let _ = own.set(Arc::downgrade(&shared));
    let mut tasks = Tasks::default();
    let listed = KINDS.iter().map(|of| start_reflector(&mut tasks, &shared, *of)).collect();
    tasks.spawn("scheduler", work(api, letters, listed, refused));
    tasks.until(&stop).await
}

struct Clerk {
    api: Api,
    recorder: Recorder,
    refused: Option<Refused>,
}

/// What came of a write.
enum Outcome {
    Done,
    NotBound(PodRef),
    /// There is no such pod any more.
    Gone(Arc<Pod>),
}

type Writing<'a> = FuturesUnordered<BoxFuture<'a, Outcome>>;

/// Decides on pods as changes come in.
pub async fn work(api: Api, mut letters: Letters, mut listed: Vec<watch::Receiver<bool>>, refused: Option<Refused>) {
    for ready in &mut listed {
        if ready.wait_for(|listed| *listed).await.is_err() {
            return;
        }
    }
    info!("scheduler started");
    let clerk = Clerk { recorder: Recorder::start(api.clone()), api, refused };
    let mut scheduler = Scheduler::new(NAME);
    let mut writing: Writing<'_> = FuturesUnordered::new();
    loop {
        while let Ok(event) = letters.0.try_recv() {
            take(&mut scheduler, &event);
        }
        if let Some(pod) = scheduler.next(Timestamp::now()) {
            decide(&clerk, &mut scheduler, &pod, &mut writing);
            // Writes make progress between decisions, not only after the last of many.
            while let Some(Some(outcome)) = futures::FutureExt::now_or_never(writing.next()) {
                settle(&mut scheduler, outcome);
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
                Some(event) => take(&mut scheduler, &event),
                None => return,
            },
            Some(outcome) = writing.next(), if !writing.is_empty() => settle(&mut scheduler, outcome),
            () = wake => {}
        }
    }
}

/// Takes a change in. A panic concerns that change alone, and is reported.
fn take(scheduler: &mut Scheduler, event: &ClusterEvent) {
    if let Err(panic) = caught(|| scheduler.on_event(event, Timestamp::now())) {
        error!(panic, "panicked over a change");
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO).max(Duration::from_millis(1))
}

fn settle(scheduler: &mut Scheduler, outcome: Outcome) {
    match outcome {
        Outcome::Done => {}
        Outcome::NotBound(pod) => scheduler.bind_failed(&pod, Timestamp::now()),
        Outcome::Gone(pod) => {
            scheduler.on_event(&ClusterEvent::Pod(schedule::Change::Gone(pod)), Timestamp::now());
        }
    }
}

fn decide<'a>(clerk: &'a Clerk, scheduler: &mut Scheduler, pod: &Arc<PodView>, writing: &mut Writing<'a>) {
    let now = Timestamp::now();
    let seed = now.as_nanosecond() as u64;
    match caught(|| scheduler.decide(pod, seed)) {
        Err(panic) => {
            error!(pod = %Key::of(&pod.pod.metadata), panic, "panicked");
            scheduler.bind_failed(&pod.key, now);
        }
        Ok(Decision::Bind { node }) => {
            scheduler.assume(pod, &node);
            writing.push(Box::pin(clerk.bind(pod.clone(), node)));
        }
        Ok(Decision::Refused(refusal)) => {
            scheduler.refused(pod, &refusal, now);
            if let Some(Refused(tell)) = &clerk.refused {
                tell(&pod.pod, &refusal.message);
            }
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
    async fn bind(&self, view: Arc<PodView>, node: String) -> Outcome {
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
                Outcome::Done
            }
            Err(refusal) if refusal.is("NotFound") => Outcome::Gone(pod.clone()),
            Err(refusal) => {
                debug!(%key, %refusal, "binding failed");
                self.tell(pod, "Warning", "FailedScheduling", format!("binding rejected: {refusal}"));
                Outcome::NotBound(view.key.clone())
            }
        }
    }

    /// Writes down why a pod has no node, and makes room if that was decided.
    async fn report(&self, view: Arc<PodView>, refusal: Refusal) -> Outcome {
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
        Outcome::Done
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
