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
use crate::execute::Shared;
use crate::queue::Queue;
use crate::reflector::{Sink, Source, reflect};

pub const SOURCE: &str = "garbage-collector-controller";
/// Discovery is asked again this long after a CustomResourceDefinition changed: its resource is served a moment later.
const SETTLE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(5);

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

/// Keeps one reflector running for each resource that can be listed, watched and deleted.
async fn feed(collector: Arc<Collector>, ready: watch::Sender<bool>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut running: HashMap<Resource, AbortHandle> = HashMap::new();
    loop {
        let found = match collector.shared.api.discover().await {
            Ok((found, _)) => found,
            Err(refusal) => {
                warn!(%refusal, "discovery failed");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        {
            let mut kinds = collector.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.clear();
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
            let keep = wanted.contains(resource);
            if !keep {
                handle.abort();
                for uid in collector.graph().of_resource(resource) {
                    collector.graph().forget(&uid);
                }
            }
            keep
        });
        let mut waiting = Vec::new();
        for resource in wanted {
            if running.contains_key(&resource) {
                continue;
            }
            let (listed, is_listed) = watch::channel(false);
            waiting.push(is_listed);
            let feed = Feed { collector: collector.clone(), resource: Arc::new(resource.clone()) };
            let source = Source { resource: resource.clone(), field_selector: String::new(), detail: Detail::Metadata };
            let api = collector.shared.api.clone();
            let handle = tasks.spawn(reflect(api, source, feed, move || {
                listed.send_replace(true);
            }));
            running.insert(resource, handle);
        }
        for mut is_listed in waiting {
            // An error means the reflector was stopped; then there is nothing to wait for.
            let _ = is_listed.wait_for(|listed| *listed).await;
        }
        ready.send_replace(true);
        collector.rediscover.notified().await;
        tokio::time::sleep(SETTLE).await;
    }
}

async fn work(collector: &Collector, mut ready: watch::Receiver<bool>) {
    // Before every resource has been listed once, an owner may seem absent that is only not yet known.
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    loop {
        let uid = collector.queue.next().await;
        match attempt(collector, &uid).await {
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
                look_up(collector, &namespace, owner).await?;
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

/// Asks the API server whether an owner is where a reference says.
async fn look_up(collector: &Collector, namespace: &str, owner: &OwnerReference) -> Result<(), String> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group).to_string();
    let resource = {
        let kinds = collector.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&(group, owner.kind.clone())).cloned()
    };
    let Some(resource) = resource else {
        return Err(format!("no resource serves {} {}", owner.api_version, owner.kind));
    };
    if resource.namespaced && namespace.is_empty() {
        // A cluster-scoped object cannot be owned by a namespaced one; upstream leaves it alone with an event.
        return Err(format!("cluster-scoped object with namespaced owner {}", owner.name));
    }
    let path = resource.object_path(namespace, &owner.name);
    let answer = collector.shared.api_of(SOURCE).get(&path, Detail::Metadata).await;
    match found(answer)? {
        // It is there: its own watch will say so, and may by then already have said that it is gone again.
        Some(object) if object.uid.as_deref() == Some(owner.uid.as_str()) => {
            return Err(format!("owner {} is there but not yet seen", owner.name));
        }
        _ => {
            let look = collector.graph().owner_absent(&owner.uid);
            collector.look_at(look);
        }
    }
    Ok(())
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
