//! The garbage collector's shell: a metadata reflector for each resource feeds the graph of `reconcile::gc`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use reconcile::gc::{Attempt, Graph};
use reconcile::{Resource, meta};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

use crate::api::{Detail, Refusal};
use crate::discovery::discover;
use crate::execute::Shared;
use crate::queue::Queue;
use crate::reflector::{Sink, Source, reflect};
use crate::tasks::caught_in;

pub const SOURCE: &str = "garbage-collector-controller";
/// Discovery is asked again this long after a CustomResourceDefinition changed: its resource is served a moment later.
const SETTLE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(5);
/// How often discovery is asked anyway, and how long a resource that does not list is waited for.
const SYNC_PERIOD: Duration = Duration::from_secs(30);

struct Collector {
    shared: Arc<Shared>,
    /// Told of a namespace in which something came or went.
    counted: Box<dyn Fn(&str) + Send + Sync>,
    queue: Queue<String>,
    /// Where a reference's `apiVersion` and `kind` are served.
    kinds: Mutex<HashMap<(String, String), Resource>>,
    rediscover: Notify,
}

#[derive(Deserialize)]
struct Meta {
    metadata: ObjectMeta,
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.shared.cache.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(uid);
        }
    }
}

struct Feed {
    collector: Arc<Collector>,
    resource: Arc<Resource>,
}

impl Feed {
    fn defines_resources(&self) -> bool {
        self.resource.plural == "customresourcedefinitions" || self.resource.plural == "apiservices"
    }
}

impl Sink for Feed {
    fn replace(&self, objects: &[&RawValue], _revision: u64) -> Result<(), serde_json::Error> {
        let mut gone: std::collections::HashSet<String> =
            self.collector.graph().of_resource(&self.resource).into_iter().collect();
        for object in objects {
            let object: Meta = serde_json::from_str(object.get())?;
            gone.remove(object.metadata.uid.as_deref().unwrap_or(""));
            let look = self.collector.graph().observe(&self.resource, &object.metadata);
            self.collector.look_at(look);
        }
        for uid in gone {
            let look = self.collector.graph().forget(&uid);
            self.collector.look_at(look);
        }
        Ok(())
    }

    fn apply(&self, object: &str) -> Result<(), serde_json::Error> {
        let object: Meta = serde_json::from_str(object)?;
        let known = self.collector.graph().contains(meta::uid(&object.metadata));
        let look = self.collector.graph().observe(&self.resource, &object.metadata);
        self.collector.look_at(look);
        if !known {
            (self.collector.counted)(meta::namespace(&object.metadata));
        }
        if self.defines_resources() {
            self.collector.rediscover.notify_one();
        }
        Ok(())
    }

    fn remove(&self, object: &str) -> Result<(), serde_json::Error> {
        let object: Meta = serde_json::from_str(object)?;
        let look = self.collector.graph().forget(meta::uid(&object.metadata));
        self.collector.look_at(look);
        (self.collector.counted)(meta::namespace(&object.metadata));
        if self.defines_resources() {
            self.collector.rediscover.notify_one();
        }
        Ok(())
    }
}

pub async fn run(shared: Arc<Shared>, counted: impl Fn(&str) + Send + Sync + 'static) {
    let collector = Arc::new(Collector {
        shared,
        counted: Box::new(counted),
        queue: Queue::default(),
        kinds: Mutex::new(HashMap::new()),
        rediscover: Notify::new(),
    });
    let (ready, is_ready) = watch::channel(false);
    tokio::join!(feed(collector.clone(), ready), work(&collector, is_ready));
}

/// Whether discovery could not tell what a group's version serves.
fn undiscovered(resource: &Resource, failed: &[String]) -> bool {
    failed.iter().any(|group| *group == format!("{}/{}", resource.group, resource.version))
}

/// Keeps one reflector running for each resource that can be listed, watched and deleted.
///
/// A group that discovery cannot tell of keeps the reflectors it has, and a resource that cannot be listed is waited
/// for no longer than [`SYNC_PERIOD`]: neither may hold up the collection of everything else.
async fn feed(collector: Arc<Collector>, ready: watch::Sender<bool>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut running: HashMap<Resource, AbortHandle> = HashMap::new();
    loop {
        let (found, failed) = match discover(&collector.shared.api).await {
            Ok(all) => all,
            Err(refusal) => {
                warn!(%refusal, "discovery failed");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if !failed.is_empty() {
            warn!(groups = failed.join(" "), "discovery failed for some groups");
        }
        {
            let mut kinds = collector.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.retain(|_, resource| undiscovered(resource, &failed));
            for d in &found {
                let group = d.resource.group.to_string();
                kinds.insert((group, d.resource.kind.to_string()), d.resource.clone());
            }
        }
        let wanted: Vec<Resource> = found
            .into_iter()
            .filter(|d| d.can("list") && d.can("watch") && d.can("delete") && d.resource.plural != "events")
            .map(|d| d.resource)
            .collect();
        running.retain(|resource, handle| {
            let keep = wanted.contains(resource) || undiscovered(resource, &failed);
            if !keep {
                handle.abort();
                collector.graph().lose(resource);
            }
            keep
        });
        let mut waiting = Vec::new();
        for resource in wanted {
            if running.contains_key(&resource) {
                continue;
            }
            let (handle, is_listed) = reflect_one(&collector, &mut tasks, &resource);
            waiting.push(is_listed);
            running.insert(resource, handle);
        }
        let all_listed = async {
            for is_listed in &mut waiting {
                // An error means the reflector was stopped; then there is nothing to wait for.
                let _ = is_listed.wait_for(|listed| *listed).await;
            }
        };
        if tokio::time::timeout(SYNC_PERIOD, all_listed).await.is_err() {
            warn!("not all resources could be listed, proceeding anyway");
        }
        ready.send_replace(true);
        tokio::select! {
            () = collector.rediscover.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(SYNC_PERIOD) => {}
        }
    }
}

fn reflect_one(
    collector: &Arc<Collector>,
    tasks: &mut JoinSet<()>,
    resource: &Resource,
) -> (AbortHandle, watch::Receiver<bool>) {
    let (listed, is_listed) = watch::channel(false);
    let feed = Feed { collector: collector.clone(), resource: Arc::new(resource.clone()) };
    let source = Source { resource: resource.clone(), field_selector: String::new(), detail: Detail::Metadata };
    let handle = tasks.spawn(reflect(collector.shared.api.clone(), source, feed, move || {
        listed.send_replace(true);
    }));
    (handle, is_listed)
}

async fn work(collector: &Collector, mut ready: watch::Receiver<bool>) {
    // Before every resource has been listed once, an owner may seem absent that is only not yet known.
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    loop {
        let uid = collector.queue.next().await;
        match caught_in(attempt(collector, &uid)).await.unwrap_or_else(|panic| Err(format!("panic: {panic}"))) {
            Ok(()) => collector.queue.forget(&uid),
            Err(message) => {
                debug!(uid, message, "not collected yet");
                collector.queue.add_rate_limited(uid.clone());
            }
        }
        collector.queue.done(&uid);
    }
}

async fn attempt(collector: &Collector, uid: &str) -> Result<(), String> {
    let decided = collector.graph().attempt(uid);
    match decided {
        Attempt::Nothing => Ok(()),
        Attempt::LookUp { namespace, owners } => {
            for owner in &owners {
                if !look_up(collector, &namespace, owner).await? {
                    return Ok(());
                }
            }
            collector.queue.add(uid.to_string());
            Ok(())
        }
        Attempt::Act { actions, next } => {
            collector.look_at(next);
            let plan = reconcile::Plan { actions, ..Default::default() };
            collector.shared.carry_out(SOURCE, plan, false).await.map_err(|failed| failed.message)
        }
    }
}

/// Asks the API server whether an owner is where a reference says; false when that is not to be answered.
async fn look_up(collector: &Collector, namespace: &str, owner: &OwnerReference) -> Result<bool, String> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group).to_string();
    let resource = {
        let kinds = collector.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&(group, owner.kind.clone())).cloned()
    };
    let Some(resource) = resource else {
        return Err(format!("no resource serves {} {}", owner.api_version, owner.kind));
    };
    if resource.namespaced && namespace.is_empty() {
        // A cluster-scoped object cannot be owned by a namespaced one: upstream leaves it alone.
        debug!(owner = owner.name, kind = owner.kind, "namespaced owner of a cluster-scoped object");
        return Ok(false);
    }
    let path = resource.object_path(namespace, &owner.name);
    let answer = collector.shared.api_of(SOURCE).get(&path, Detail::Metadata).await;
    match found(answer)? {
        // It is there: its own watch will say so, and may by then already have said that it is gone again.
        Some(object) if object.uid.as_deref() == Some(owner.uid.as_str()) => {
            return Err(format!("owner {} is there but not yet seen", owner.name));
        }
        _ => {
            let look = collector.graph().owner_absent(namespace, owner);
            collector.look_at(look);
        }
    }
    Ok(true)
}

fn found(answer: Result<bytes::Bytes, Refusal>) -> Result<Option<ObjectMeta>, String> {
    match answer {
        Ok(body) => {
            let object: Meta = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
            Ok(Some(object.metadata))
        }
        Err(refusal) if refusal.code == 404 => Ok(None),
        Err(refusal) => Err(refusal.message),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::{Value, json};

    use super::*;

    /// A cluster of one namespace that serves `things` of `a/v1`, one an orphan, and `wares` of `b/v1`.
    fn answer(path: &str, wares_down: bool, deleted: &AtomicBool, method: &http::Method) -> (u16, Value) {
        let group = |name: &str, plural: &str, kind: &str| {
            let resource = json!({
                "resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced", "verbs": ["list", "watch", "delete"],
            });
            json!({"metadata": {"name": name}, "versions": [{"version": "v1", "freshness": "Current", "resources": [resource]}]})
        };
        let wares = match wares_down {
            true => json!({"metadata": {"name": "b"}, "versions": [{"version": "v1", "freshness": "Stale"}]}),
            false => group("b", "wares", "Ware"),
        };
        let owner = json!([{"apiVersion": "a/v1", "kind": "Thing", "name": "gone", "uid": "gone"}]);
        let orphan = json!({"metadata": {
            "name": "orphan", "namespace": "n", "uid": "orphan", "resourceVersion": "1", "ownerReferences": owner,
        }});
        let list = |items: Value| json!({"metadata": {"resourceVersion": "1"}, "items": items});
        if *method == http::Method::DELETE {
            deleted.store(true, Ordering::SeqCst);
            return (200, json!({"kind": "Status", "details": {"uid": "orphan"}}));
        }
        match path.split('?').next().unwrap_or(path) {
            "/api" => (200, json!({"items": []})),
            "/apis" => (200, json!({"items": [group("a", "things", "Thing"), wares]})),
            "/apis/a/v1/things" => (200, list(json!([orphan]))),
            "/apis/b/v1/wares" => (500, json!({"message": "broken"})),
            _ => (404, json!({"reason": "NotFound"})),
        }
    }

    fn collector(api: crate::api::Api) -> Arc<Collector> {
        let shared = Arc::new(Shared {
            recorder: crate::events::Recorder::start(api.clone()),
            api,
            apis: HashMap::new(),
            cache: reconcile::Cache::default(),
            started: jiff::Timestamp::now(),
            changed: Box::new(|_| {}),
        });
        let counted = Box::new(|_: &str| {});
        let (kinds, rediscover) = (Mutex::new(HashMap::new()), Notify::new());
        Arc::new(Collector { shared, counted, queue: Queue::default(), kinds, rediscover })
    }

    async fn until(done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(300), wait).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_resource_that_does_not_list_holds_up_nobody() {
        let deleted = Arc::new(AtomicBool::new(false));
        let seen = deleted.clone();
        let collector = collector(crate::testing::api(move |method, path| answer(path, false, &seen, method)));
        let (ready, is_ready) = watch::channel(false);
        let running = tokio::spawn(async move {
            tokio::join!(feed(collector.clone(), ready), work(&collector, is_ready));
        });
        until(|| deleted.load(Ordering::SeqCst)).await;
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_discovery_cannot_tell_of_keeps_what_is_known_of_it() {
        let (down, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_down, was_asked) = (down.clone(), asked.clone());
        let collector = collector(crate::testing::api(move |method, path| {
            let down = is_down.load(Ordering::SeqCst);
            was_asked.fetch_or(down && path == "/apis", Ordering::SeqCst);
            answer(path, down, &AtomicBool::new(false), method)
        }));
        let (ready, mut is_ready) = watch::channel(false);
        let running = tokio::spawn(feed(collector.clone(), ready));
        is_ready.wait_for(|ready| *ready).await.unwrap();
        let known = || collector.kinds.lock().unwrap().contains_key(&("b".to_string(), "Ware".to_string()));
        assert!(known());
        down.store(true, Ordering::SeqCst);
        until(|| asked.load(Ordering::SeqCst)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(known());
        running.abort();
    }
}
