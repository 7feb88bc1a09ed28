//! The controllers' loop: changes become keys, keys become plans, plans are carried out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reconcile::{CONTROLLERS, Cache, Change, Controller, Cx, Failure, Key, Of};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::api::{Api, Detail};
use crate::events::Recorder;
use crate::execute::{Filler, Shared};
use crate::queue::Queue;
use crate::reflector::{Source, reflect};
use crate::tasks::{Tasks, caught, caught_in};
use crate::{Error, Options, approver, collector, namespaces, scheduler};

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
    signing_requests: Arc<Queue<String>>,
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
        Routes {
            running,
            by_kind,
            namespaces: Arc::default(),
            signing_requests: Arc::default(),
            scheduler,
            shared: OnceLock::new(),
        }
    }

    fn queue_of(&self, name: &str) -> Option<Arc<Running>> {
        self.running.iter().find(|r| r.controller.name == name).cloned()
    }

    fn route(&self, change: &Change) {
        let Some(shared) = self.shared.get().and_then(std::sync::Weak::upgrade) else { return };
        let mut keys = Vec::new();
        for (at, find) in self.by_kind.get(&change.of).into_iter().flatten() {
            if let Err(panic) = caught(|| find(&shared.cache, change, &mut keys)) {
                let object = change.meta().map(Key::of);
                error!(controller = self.running[*at].controller.name, kind = ?change.of, ?object, panic, "panicked");
            }
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
        if let Some(request) = approver::concerned(change) {
            self.signing_requests.add(request);
        }
    }
}

/// A client for each controller that has an account of its own.
fn apis(options: &Options) -> Result<HashMap<&'static str, Api>, Error> {
    let Some(accounts) = &options.accounts else { return Ok(HashMap::new()) };
    let own = CONTROLLERS.iter().map(|c| (c.name, c.account));
    let apart = [
        (namespaces::SOURCE, "namespace-controller"),
        (collector::SOURCE, "generic-garbage-collector"),
        (approver::SOURCE, approver::ACCOUNT),
    ];
    let all = own.chain(apart).filter(|(_, account)| !account.is_empty());
    let client = |account| (accounts.0)(account).map_err(|source| Error::Account { account, source });
    all.map(|(name, account)| Ok((name, Api::new(client(account)?)))).collect()
}

/// Runs every controller until `stop`, and with `scheduling` the scheduler over the same cache.
pub async fn run(
    client: kube::Client,
    scheduling: Option<kube::Client>,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    let api = Api::new(client);
    let mut tasks = Tasks::default();
    let (inbox, letters) = scheduler::inbox();
    let routes = Arc::new(Routes::new(scheduling.is_some().then_some(inbox)));
    let router = routes.clone();
    let shared = Arc::new(Shared {
        api: api.clone(),
        apis: apis(&options)?,
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
        tasks.spawn(running.controller.name, work);
    }
    if let Some(client) = scheduling {
        tasks.spawn("scheduler", scheduler::work(Api::new(client), letters, listed, options.refused.clone()));
    }
    tasks.spawn(namespaces::SOURCE, namespaces::run(shared.clone(), routes.namespaces.clone()));
    let authority = options.settings.certificate_authority.clone();
    tasks.spawn(approver::SOURCE, approver::run(shared.clone(), routes.signing_requests.clone(), authority));
    let quotas = routes.queue_of("resourcequota-controller");
    let counted = shared.clone();
    let collect = collector::run(shared.clone(), move |namespace| {
        for quota in counted.cache.quotas.within(namespace) {
            if let Some(running) = &quotas {
                running.queue.add(Key::of(&quota.metadata));
            }
        }
    });
    tasks.spawn(collector::SOURCE, collect);
    tasks.until(&stop).await
}

pub fn start_reflector(tasks: &mut Tasks, shared: &Arc<Shared>, of: Of) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let source = Source {
        resource: of.resource().clone(),
        field_selector: of.field_selector().to_string(),
        detail: Detail::Whole,
    };
    let sink = Filler { shared: shared.clone(), of };
    let name = format!("reflector of {}", source.resource);
    let listed = move || {
        sender.send_replace(true);
    };
    tasks.spawn(name, reflect(shared.api.clone(), source, sink, listed));
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
    running.queue.serve(running.controller.workers, |key| sync(&shared, &running, &options, key)).await;
}

/// Works on one key. A panic is taken for a failure of that key alone.
async fn sync(shared: &Shared, running: &Running, options: &Options, key: Key) {
    let name = running.controller.name;
    match caught_in(attempt(shared, running, options, &key)).await {
        Ok(Ok(again)) => {
            running.queue.forget(&key);
            if let Some(delay) = again {
                running.queue.add_after(key.clone(), delay);
            }
        }
        Ok(Err(failed)) => {
            if failed.reason == "Conflict" {
                debug!(controller = name, %key, message = failed.message, "conflict");
            } else {
                warn!(controller = name, %key, message = failed.message, "failed");
                let mut failures = running.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.insert(key.clone(), failed);
            }
            running.queue.add_rate_limited(key.clone());
        }
        Err(panic) => {
            error!(controller = name, %key, panic, "panicked");
            running.queue.add_rate_limited(key.clone());
        }
    }
}

/// Plans and carries out; when to look again.
async fn attempt(
    shared: &Shared,
    running: &Running,
    options: &Options,
    key: &Key,
) -> Result<Option<Duration>, Failure> {
    let failure = running.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    let plan = {
        let cx = Cx {
            cache: &shared.cache,
            now: Timestamp::now(),
            started: shared.started,
            settings: &options.settings,
            failure: failure.as_ref(),
        };
        (running.controller.sync)(&cx, key)
    };
    let again = plan.requeue_after;
    shared.carry_out(running.controller.name, plan, failure.is_some()).await?;
    // A plan that minded a failure left out what it would otherwise have done.
    Ok(if failure.is_some() { Some(Duration::ZERO) } else { again })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static BAD: AtomicUsize = AtomicUsize::new(0);
    static GOOD: AtomicUsize = AtomicUsize::new(0);

    static FRAIL: Controller = Controller {
        name: "frail-controller",
        account: "",
        watches: &[],
        workers: 1,
        sync: |_, key| {
            if key.name == "bad" {
                BAD.fetch_add(1, Ordering::SeqCst);
                panic!("a bad object");
            }
            GOOD.fetch_add(1, Ordering::SeqCst);
            reconcile::Plan::default()
        },
    };

    #[tokio::test(start_paused = true)]
    async fn an_object_that_makes_a_controller_panic_is_tried_again_and_holds_up_nobody() {
        let api = crate::testing::refusing_api();
        let shared = Arc::new(Shared {
            recorder: Recorder::start(api.clone()),
            api,
            apis: HashMap::new(),
            cache: Cache::default(),
            started: Timestamp::now(),
            changed: Box::new(|_| {}),
        });
        let running =
            Arc::new(Running { controller: &FRAIL, queue: Queue::default(), failures: Mutex::new(HashMap::new()) });
        running.queue.add(Key::new("n", "bad"));
        running.queue.add(Key::new("n", "good"));
        let work = tokio::spawn(work(shared, running, Options::default(), Vec::new()));
        let both = async {
            while BAD.load(Ordering::SeqCst) < 3 || GOOD.load(Ordering::SeqCst) < 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        assert!(!work.is_finished());
        work.abort();
    }
}
