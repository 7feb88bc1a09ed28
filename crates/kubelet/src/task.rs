//! One task a pod: it feeds the worker with what happens and sets off what the worker wants done.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use journal::{Cause, Rule, What};
use k8s_openapi::api::core::v1::Pod;
use pods::admission::Refusal;
use pods::downward::Place;
use pods::ports::{ContainerId, Exit, Inventory};
use pods::worker::{Action, Event, Severity, Worker};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::effects;
use crate::host::{Host, Known, subject, uid};
use crate::objects::Subscriber;
use crate::status_writer::Writer;
use crate::volumes::Volumes;

/// What reaches a pod's task from outside or from its own effects.
#[derive(Debug)]
pub(crate) enum Message {
    Event(Event),
    /// A container ended, as the runtime says.
    Exited {
        container: String,
        attempt: u32,
        exit: Exit,
    },
    /// A ConfigMap or Secret that the pod refers to changed.
    SourcesChanged,
    /// The static pod's mirror has appeared: its status has somewhere to go now.
    Mirrored,
    /// The files of API volumes are up to date, but for those that `failed`, and want that again at this time.
    Refreshed {
        again_at: Option<Timestamp>,
        failed: bool,
    },
}

/// What a pod's effects share.
pub(crate) struct Context {
    pub(crate) host: Arc<Host>,
    pub(crate) to: UnboundedSender<Message>,
    pub(crate) uid: String,
    pub(crate) volumes: Mutex<Volumes>,
    pub(crate) addresses: Mutex<Vec<IpAddr>>,
    /// An object that the pod refers to has changed: a volume that waits for one need not wait any longer.
    pub(crate) sources_changed: Notify,
}

impl Context {
    pub(crate) fn send(&self, event: Event) {
        // The task has ended only when nothing of the pod is left to hear of.
        self.to.send(Message::Event(event)).ok();
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        Subscriber { uid: self.uid.clone(), to: self.to.clone() }
    }

    pub(crate) fn volumes(&self) -> MutexGuard<'_, Volumes> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_addresses(&self, addresses: &[IpAddr]) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }

    /// Where the pod's network is, for port forwarding.
    pub(crate) fn set_namespace(&self, path: Option<PathBuf>) {
        if let Some(known) = self.host.pods().get_mut(&self.uid) {
            known.network_namespace = path;
        }
    }

    /// What the downward API may tell.
    pub(crate) fn place(&self, pod: &Pod) -> Place {
        let own = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let host_ips = self.host.config.node_ips.clone();
        let host_network = pod.spec.as_ref().is_some_and(|s| s.host_network == Some(true));
        Place {
            pod_ips: if host_network { host_ips.clone() } else { own },
            host_ips,
            allocatable_milli_cpu: i64::from(self.host.machine.cpus) * 1000,
            allocatable_memory_bytes: self.host.machine.memory_bytes as i64,
            allocatable_storage_bytes: crate::machine::disk(&self.host.config.data_dir).capacity_bytes as i64,
        }
    }
}

/// The work on the files of API volumes: one piece at a time, so that what was fetched later is also written later.
#[derive(Default)]
struct Refreshing {
    running: bool,
    /// Something changed while it ran.
    again: bool,
    /// How often in a row a volume failed.
    failures: u32,
}

impl Refreshing {
    fn done(&mut self, failed: bool) {
        self.running = false;
        self.failures = if failed { self.failures + 1 } else { 0 };
    }
}

struct Task {
    context: Arc<Context>,
    worker: Worker,
    from: UnboundedReceiver<Message>,
    effects: JoinSet<()>,
    /// Cancelled when the pod comes down: setting up its volumes is no longer tried.
    mounting: CancellationToken,
    writer: Writer,
    wake_at: Option<Timestamp>,
    renew_at: Option<Timestamp>,
    refreshing: Refreshing,
    /// Exits that were heard of before the start that they belong to.
    early: BTreeMap<(String, u32), Exit>,
    done: bool,
}

/// How a pod's life here begins.
pub(crate) enum First {
    New,
    /// The runtime has something of it already.
    Found(Inventory),
    /// The node does not take it.
    Refused(Refusal),
}

/// Takes a pod in.
pub(crate) fn spawn(host: &Arc<Host>, pod: Arc<Pod>, first: First, stop: CancellationToken) {
    let (to, from) = unbounded_channel();
    let uid = uid(&pod).to_string();
    let known = Known {
        pod: Arc::clone(&pod),
        status: pod.status.clone().map(Arc::new),
        to: to.clone(),
        network_namespace: None,
        gone: false,
    };
    {
        let mut pods = host.pods();
        for (id, exit) in host.take_unclaimed(&uid) {
            to.send(Message::Exited { container: id.name, attempt: id.attempt, exit }).ok();
        }
        pods.insert(uid.clone(), known);
    }
    let context = Arc::new(Context {
        host: Arc::clone(host),
        to,
        uid,
        volumes: Mutex::default(),
        addresses: Mutex::default(),
        sources_changed: Notify::new(),
    });
    let worker = Worker::new(Arc::clone(&pod), host.config.node_ips.clone(), Timestamp::now());
    let task = Task {
        writer: Writer::spawn(host.client.clone(), Arc::clone(&pod)),
        context,
        worker,
        from,
        effects: JoinSet::new(),
        mounting: CancellationToken::new(),
        wake_at: None,
        renew_at: None,
        refreshing: Refreshing::default(),
        early: BTreeMap::new(),
        done: false,
    };
    tokio::spawn(task.run(first, stop));
}

impl Task {
    async fn run(mut self, first: First, stop: CancellationToken) {
        let pod = Arc::clone(self.worker.pod());
        let first = match first {
            First::Found(found) => {
                let running = found.containers.iter().any(|c| c.phase == pods::ports::ContainerPhase::Running);
                self.context.host.record(subject(&pod), What::Adopted { running });
                Event::Adopted(effects::adopt(&self.context, &pod, found).await)
            }
            First::Refused(refusal) => self.refuse(refusal),
            First::New if pod.status.as_ref().is_some_and(|s| s.start_time.is_some()) => {
                Event::Adopted(Default::default())
            }
            First::New => {
                self.context.host.record(subject(&pod), What::PodAdmitted);
                Event::Clock
            }
        };
        self.feed(first);
        self.record_losses();
        while !self.done {
            let alarm = [self.wake_at, self.renew_at].into_iter().flatten().min();
            tokio::select! {
                // A stopping kubelet leaves its pods as they are.
                () = stop.cancelled() => return,
                message = self.from.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                () = until(alarm), if alarm.is_some() => self.ring(),
                Some(_) = self.effects.join_next(), if !self.effects.is_empty() => {}
            }
        }
        self.forget();
    }

    fn refuse(&self, refusal: Refusal) -> Event {
        let (host, pod) = (&self.context.host, self.worker.pod());
        let Refusal { reason, message } = &refusal;
        host.record(subject(pod), What::PodRefused { reason: reason.clone(), message: message.clone() });
        host.events.pod(pod, None, Severity::Warning, reason, message.clone());
        Event::Refused(refusal)
    }

    fn ring(&mut self) {
        let now = Timestamp::now();
        if self.renew_at.is_some_and(|at| at <= now) {
            self.renew_at = None;
            self.refresh();
        }
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.feed(Event::Clock);
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Event(Event::Spec(pod)) => {
                let changed = self.worker.pod().metadata.labels != pod.metadata.labels
                    || self.worker.pod().metadata.annotations != pod.metadata.annotations;
                self.feed(Event::Spec(pod));
                if changed {
                    self.refresh();
                }
            }
            Message::Event(event) => {
                let started = match &event {
                    Event::Started { container, attempt, .. } => Some((container.clone(), *attempt)),
                    _ => None,
                };
                self.feed(event);
                if let Some((container, attempt)) = started
                    && let Some(exit) = self.early.remove(&(container.clone(), attempt))
                {
                    self.exited(container, attempt, exit).await;
                }
            }
            Message::Exited { container, attempt, exit } => {
                let slot = self.worker.slots().iter().find(|s| s.name() == container && s.attempt == Some(attempt));
                match slot.map(|slot| slot.dead.as_ref().is_some_and(|dead| dead.attempt == attempt)) {
                    Some(false) => self.exited(container, attempt, exit).await,
                    // Heard of before, in the inventory or by asking.
                    Some(true) => {}
                    None => {
                        self.early.insert((container, attempt), exit);
                    }
                }
            }
            Message::SourcesChanged => {
                self.context.sources_changed.notify_one();
                self.refresh();
                self.feed(Event::SourcesChanged);
            }
            Message::Mirrored => self.writer.again(),
            Message::Refreshed { again_at, failed } => {
                self.refreshing.done(failed);
                self.renew_at = again_at;
                if std::mem::take(&mut self.refreshing.again) {
                    self.refresh();
                }
            }
        }
    }

    async fn exited(&mut self, container: String, attempt: u32, exit: Exit) {
        let pod = Arc::clone(self.worker.pod());
        let id = ContainerId { pod_uid: self.context.uid.clone(), name: container.clone(), attempt };
        let words = effects::last_words(&self.context.host, &pod, &id, &exit).await;
        let record = effects::record_exit(&self.context.host, &pod, &id, &exit, words.last_lines);
        let (message, record) = (words.message, Some(record));
        self.feed(Event::Exited { container, attempt, exit, message, record });
    }

    fn feed(&mut self, event: Event) {
        for action in self.worker.step(Timestamp::now(), event) {
            self.perform(action);
        }
        if let Some(known) = self.context.host.pods().get_mut(&self.context.uid) {
            known.pod = Arc::clone(self.worker.pod());
        }
    }

    fn refresh(&mut self) {
        if self.context.volumes().is_empty() || self.worker.is_ending() {
            return;
        }
        if std::mem::replace(&mut self.refreshing.running, true) {
            self.refreshing.again = true;
            return;
        }
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(self.worker.pod()));
        let failures = self.refreshing.failures;
        self.effects.spawn(async move { effects::refresh(&context, &pod, failures).await });
    }

    /// Does at once what only tells or remembers something; the rest is set off.
    fn perform(&mut self, action: Action) {
        let host = &self.context.host;
        match action {
            Action::Tell { severity, reason, message, container } => {
                host.events.pod(self.worker.pod(), container.as_deref(), severity, reason, message);
            }
            Action::BackedOff { container, wait, because } => {
                let what = What::BackOff { wait_ms: wait.as_millis().max(0) as u64, because };
                let about = journal::Subject { container: Some(container), ..subject(self.worker.pod()) };
                host.record(about, what);
            }
            Action::Report(status) => {
                if let Some(known) = host.pods().get_mut(&self.context.uid) {
                    known.status = Some(Arc::new((*status).clone()));
                }
                self.writer.write(*status);
            }
            Action::Delete => self.writer.delete(),
            Action::Done => self.done = true,
            Action::WakeAt(at) => self.wake_at = Some(at),
            effect => self.set_off(effect),
        }
    }

    /// Starts an effect, which answers with an event.
    fn set_off(&mut self, action: Action) {
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(self.worker.pod()));
        let id = |name: &str, attempt| ContainerId { pod_uid: self.context.uid.clone(), name: name.into(), attempt };
        let effect: BoxFuture<'static, ()> = match action {
            Action::CreateSandbox => async move { effects::create_sandbox(&context, &pod).await }.boxed(),
            Action::Mount => {
                let stop = self.mounting.clone();
                async move { stop.run_until_cancelled(effects::mount(&context, &pod)).await.unwrap_or_default() }
                    .boxed()
            }
            Action::Pull { container } => async move { effects::pull(&context, &pod, container).await }.boxed(),
            Action::Start { container, attempt } => {
                self.record_restart(&container, attempt);
                let (spec, target) = (self.container(&container), self.target(&container));
                async move { effects::start(&context, &pod, spec, attempt, target).await }.boxed()
            }
            Action::Resize { container, attempt } => {
                let (id, spec) = (id(&container, attempt), self.container(&container));
                async move { effects::resize(&context, &pod, &id, spec).await }.boxed()
            }
            Action::Hook { container, attempt, hook, deadline } => {
                let (id, spec) = (id(&container, attempt), self.container(&container));
                async move { effects::run_hook(&context, &pod, &id, spec, hook, deadline).await }.boxed()
            }
            Action::Probe { container, attempt, probe } => {
                let counts = self.worker.probe_failures(&container, probe).unwrap_or((0, 1));
                let (id, spec) = (id(&container, attempt), self.container(&container));
                async move { effects::probe(&context, &pod, &id, spec, probe, counts).await }.boxed()
            }
            Action::Signal { container, attempt, signal, because } => {
                let id = id(&container, attempt);
                async move { effects::signal(&context, &pod, &id, signal, because).await }.boxed()
            }
            Action::Remove { container, attempt } => {
                let id = id(&container, attempt);
                async move { effects::remove_container(&context, &pod, &id).await }.boxed()
            }
            Action::RemoveSandbox { because } => {
                self.mounting.cancel();
                async move { effects::remove_sandbox(&context, &pod, because).await }.boxed()
            }
            other => unreachable!("{other:?} is no effect: `perform` does it"),
        };
        self.effects.spawn(effect);
    }

    /// Containers that ran when the last kubelet looked, and that the runtime knows nothing of.
    fn record_losses(&self) {
        for (slot, dead) in self.worker.slots().iter().filter_map(|slot| Some((slot, slot.dead.as_ref()?))) {
            if dead.is_lost() && slot.attempt == Some(dead.attempt) {
                let about = subject(self.worker.pod()).container(slot.name(), dead.attempt);
                let message = dead.message.clone().unwrap_or_default();
                self.context.host.record(about, What::Lost { message });
            }
        }
    }

    fn record_restart(&self, container: &str, attempt: u32) {
        let slot = self.worker.slots().iter().find(|slot| slot.name() == container);
        if let Some(dead) = slot.and_then(|slot| slot.dead.as_ref()) {
            let here = slot.is_some_and(|slot| slot.here);
            let rule = if here { Rule::RestartPolicy } else { Rule::SandboxChanged };
            let because = Cause::kubelet(rule, dead.record.into_iter().collect());
            let about = subject(self.worker.pod()).container(container, attempt);
            self.context.host.record(about, What::Restart { because });
        }
    }

    fn container(&self, name: &str) -> Arc<k8s_openapi::api::core::v1::Container> {
        let slot = self.worker.slots().iter().find(|slot| slot.name() == name);
        slot.map(|slot| Arc::clone(&slot.container)).unwrap_or_default()
    }

    /// The container whose processes an ephemeral one is to see (`targetContainerName`).
    fn target(&self, name: &str) -> Option<ContainerId> {
        let spec = self.worker.pod().spec.as_ref()?;
        let own = spec.ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
        let target = own.target_container_name.clone().filter(|target| !target.is_empty())?;
        let slot = self.worker.slots().iter().find(|slot| slot.name() == target)?;
        Some(ContainerId { pod_uid: self.context.uid.clone(), name: target, attempt: slot.attempt? })
    }

    /// Nothing of the pod is left: neither is anything that was kept for it.
    fn forget(&mut self) {
        let host = &self.context.host;
        host.pods().remove(&self.context.uid);
        host.objects.release(&self.context.uid);
        host.tokens.forget(&self.context.uid);
        host.certificates.forget(&self.context.uid);
        host.metrics.forget(&self.context.uid);
        effects::remove_files(host, self.worker.pod());
        host.ended.notify_one();
    }
}

async fn until(at: Option<Timestamp>) {
    let Some(at) = at else { return };
    let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    // Timers may fire a little early by the wall clock; a millisecond more keeps the worker from being asked twice.
    tokio::time::sleep(wait + Duration::from_millis(1)).await;
}
