//! The controllers' loop: changes become keys, keys become plans, plans are carried out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use reconcile::{CONTROLLERS, Cache, Change, Controller, Cx, Failure, Key, Of};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::{Api, Detail};
use crate::events::Recorder;
use crate::execute::{Filler, Shared};
use crate::queue::Queue;
use crate::reflector::{Source, reflect};
use crate::{Error, Options, collector, namespaces, scheduler};

/// A controller with its queue.
struct Running {
    controller: &'static Controller,
    queue: Queue<Key>,
    failures: Mutex<HashMap<Key, Failure>>,
}

/// Sends changes to the queues of those who watch.
struct Routes {
    running: Vec<Arc<Running>>,
    by_kind: HashMap<Of, Vec<(usize, reconcile::controller::Keys)>>,
    namespaces: Arc<Queue<String>>,
    /// The scheduler, when it runs in the same process.
    scheduler: Option<scheduler::Inbox>,
    /// The cache the routes look keys up in; set once, right after the cache is made.
    shared: OnceLock<std::sync::Weak<Shared>>,
}

impl Routes {
    fn new(scheduler: Option<scheduler::Inbox>) -> Routes {
        let mut by_kind: HashMap<Of, Vec<_>> = HashMap::new();
        let mut running = Vec::new();
        for (at, controller) in CONTROLLERS.iter().enumerate() {
            for (of, keys) in controller.watches {
                by_kind.entry(*of).or_default().push((at, *keys));
            }
            let failures = Mutex::new(HashMap::new());
            running.push(Arc::new(Running { controller, queue: Queue::default(), failures }));
        }
        Routes { running, by_kind, namespaces: Arc::new(Queue::default()), scheduler, shared: OnceLock::new() }
    }

    fn queue_of(&self, name: &str) -> Option<Arc<Running>> {
        self.running.iter().find(|r| r.controller.name == name).cloned()
    }

    fn route(&self, change: &Change) {
        let Some(shared) = self.shared.get().and_then(std::sync::Weak::upgrade) else { return };
        let mut keys = Vec::new();
        for (at, find) in self.by_kind.get(&change.of).into_iter().flatten() {
            find(&shared.cache, change, &mut keys);
            for key in keys.drain(..) {
                self.running[*at].queue.add(key);
            }
        }
        if let Some(scheduler) = &self.scheduler {
            scheduler.put(&shared.cache, change);
        }
        if let Some(namespace) = namespaces::concerned(&shared.cache, change) {
            self.namespaces.add(namespace);
        }
    }
}

/// A client for each controller that has an account of its own.
fn apis(options: &Options) -> HashMap<&'static str, Api> {
    let Some(accounts) = &options.accounts else { return HashMap::new() };
    let own = CONTROLLERS.iter().map(|c| (c.name, c.account));
    let apart = [(namespaces::SOURCE, "namespace-controller"), (collector::SOURCE, "generic-garbage-collector")];
    let all = own.chain(apart).filter(|(_, account)| !account.is_empty());
    all.map(|(name, account)| (name, Api::new((accounts.0)(account)))).collect()
}

/// Runs every controller until `stop`, and with `scheduling` the scheduler over the same cache.
pub async fn run(
    client: kube::Client,
    scheduling: Option<kube::Client>,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    let api = Api::new(client);
    let mut tasks = JoinSet::new();
    let (inbox, letters) = scheduler::inbox();
    let routes = Arc::new(Routes::new(scheduling.is_some().then_some(inbox)));
    let router = routes.clone();
    let shared = Arc::new(Shared {
        api: api.clone(),
        apis: apis(&options),
        cache: Cache::default(),
        recorder: Recorder::start(api.clone()),
        started: Timestamp::now(),
        changed: Box::new(move |change| router.route(change)),
    });
    let _ = routes.shared.set(Arc::downgrade(&shared));
    let mut listed = Vec::new();
    for of in Of::ALL {
        listed.push(start_reflector(&mut tasks, &shared, *of));
    }
    for running in &routes.running {
        let work = work(shared.clone(), running.clone(), options.clone(), listed.clone());
        tasks.spawn(work);
    }
    if let Some(client) = scheduling {
        tasks.spawn(scheduler::work(Api::new(client), letters, listed, options.refused.clone()));
    }
    tasks.spawn(namespaces::run(shared.clone(), routes.namespaces.clone()));
    let quotas = routes.queue_of("resourcequota-controller");
    let counted = shared.clone();
    tasks.spawn(collector::run(shared.clone(), move |namespace| {
        for quota in counted.cache.quotas.within(namespace) {
            if let Some(running) = &quotas {
                running.queue.add(Key::of(&quota.metadata));
            }
        }
    }));
    stop.cancelled().await;
    tasks.shutdown().await;
    Ok(())
}

pub fn start_reflector(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, of: Of) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let source = Source {
        resource: of.resource().clone(),
        field_selector: of.field_selector().to_string(),
        detail: Detail::Whole,
    };
    let sink = Filler { shared: shared.clone(), of };
    tasks.spawn(reflect(shared.api.clone(), source, sink, move || {
        sender.send_replace(true);
    }));
    receiver
}

/// One controller: as many keys at once as it allows.
async fn work(shared: Arc<Shared>, running: Arc<Running>, options: Options, mut listed: Vec<watch::Receiver<bool>>) {
    for ready in &mut listed {
        // The sender lives as long as its reflector; if that ended, the process is stopping.
        if ready.wait_for(|listed| *listed).await.is_err() {
            return;
        }
    }
    info!(controller = running.controller.name, "started");
    let mut busy = FuturesUnordered::new();
    loop {
        tokio::select! {
            key = running.queue.next(), if busy.len() < running.controller.workers => {
                busy.push(sync(&shared, &running, &options, key));
            }
            Some(()) = busy.next(), if !busy.is_empty() => {}
        }
    }
}

async fn sync(shared: &Shared, running: &Running, options: &Options, key: Key) {
    let failure = running.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    let plan = {
        let cx = Cx {
            cache: &shared.cache,
            now: Timestamp::now(),
            started: shared.started,
            settings: &options.settings,
            failure: failure.as_ref(),
        };
        (running.controller.sync)(&cx, &key)
    };
    let again = plan.requeue_after;
    match shared.carry_out(running.controller.name, plan, failure.is_some()).await {
        Ok(()) => {
            running.queue.forget(&key);
            if failure.is_some() {
                running.queue.add(key.clone());
            }
            if let Some(delay) = again {
                running.queue.add_after(key.clone(), delay);
            }
        }
        Err(failed) => {
            if failed.reason == "Conflict" {
                debug!(controller = running.controller.name, %key, message = failed.message, "conflict");
            } else {
                warn!(controller = running.controller.name, %key, message = failed.message, "failed");
                let mut failures = running.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.insert(key.clone(), failed);
            }
            running.queue.add_rate_limited(key.clone());
        }
    }
    running.queue.done(&key);
}
