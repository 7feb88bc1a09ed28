//! The kubelet itself: what runs for the node as a whole, and the way of pods into their tasks.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use journal::{Cause, Journal, Rule, Subject, What};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use pods::admission::Refusal;
use pods::eviction;
use pods::ports::{ContainerId, Exit, Inventory, Network, Runtime, RuntimeError};
use pods::sysctls::Allowed;
use pods::worker::Event;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::KubeletConfig;
use crate::host::{Host, Known, uid};
use crate::mirrors::Mirrors;
use crate::static_pods::{self, FullName, Statics, full_name};
use crate::task::{self, First, Message};
use crate::{garbage, logs, node, pressure, server};

/// What keeps a kubelet from starting.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("container runtime: {0}")]
    Runtime(#[from] RuntimeError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("kubelet API: {0}")]
    Serve(String),
    #[error("allowed unsafe sysctls: {0}")]
    Sysctls(String),
    #[error("eviction thresholds: {0}")]
    Eviction(String),
}

pub struct Kubelet {
    host: Arc<Host>,
}

impl Kubelet {
    /// A kubelet that acts as the user of `client`, which is to be `system:node:<name>`. Must be made within a tokio
    /// runtime: its caches begin to fill at once.
    pub fn new(
        config: KubeletConfig,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        journal: Arc<dyn Journal>,
        client: kube::Client,
    ) -> Kubelet {
        Kubelet { host: Arc::new(Host::new(config, runtime, network, journal, client)) }
    }

    /// Returns when this kubelet has written the node's status: what the object said before is an earlier one's word.
    pub fn reported(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut reported = self.host.reported.subscribe();
        async move {
            // The sender lives as long as the host: a kubelet that is gone never reports.
            if reported.wait_for(|reported| *reported).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Unmounts and removes the volumes of every pod below the data directory. No kubelet may run on it.
    ///
    /// # Errors
    /// Something is still mounted, or could not be removed.
    pub fn cleanup(data_dir: &Path) -> std::io::Result<()> {
        let pods = data_dir.join("pods");
        garbage::names(&pods)?.iter().try_for_each(|uid| crate::volumes::tear_down(&pods.join(uid)))
    }

    /// Removes what is left of every pod below the data directory: its volumes, and its logs, wherever another kubelet
    /// keeps its own as well. No kubelet may run on it.
    ///
    /// # Errors
    /// Something is still mounted, or could not be removed.
    pub fn forget_pods(data_dir: &Path, log_dir: &Path) -> std::io::Result<()> {
        garbage::remove_files(data_dir, log_dir, |_| true)
    }

    /// Runs until it is told to stop, which leaves every container running.
    ///
    /// # Errors
    /// The runtime does not answer, a directory cannot be made, or the API's port or certificate is not to be had. What
    /// goes wrong later is told and tried again.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), KubeletError> {
        let host = &self.host;
        let sysctls = Allowed::new(&host.machine.kernel, &host.config.allowed_unsafe_sysctls);
        let sysctls = sysctls.map_err(KubeletError::Sysctls)?;
        let thresholds = eviction::thresholds(&host.config.eviction_hard).map_err(KubeletError::Eviction)?;
        for dir in [host.config.data_dir.join("pods"), host.config.log_dir.clone()] {
            std::fs::create_dir_all(&dir).map_err(|source| KubeletError::File { path: dir, source })?;
        }
        host.record(Subject::node(), What::NodeStarted { version: host.config.version.clone() });
        // Exits are listened to before anything is looked at, so that none falls in between.
        let exits = host.runtime.exits();
        let found = host.runtime.inventory().await?;
        // A port that is taken is told before the node says that it is ready.
        let serving = match host.config.listen {
            Some(listen) => Some(server::bind(Arc::clone(host), listen).await.map_err(KubeletError::Serve)?),
            None => None,
        };
        let mut services = vec![
            AbortOnDropHandle::new(tokio::spawn(route_exits(Arc::clone(host), exits))),
            AbortOnDropHandle::new(tokio::spawn(node::keep(Arc::clone(host)))),
            AbortOnDropHandle::new(tokio::spawn(garbage::collect(Arc::clone(host)))),
            AbortOnDropHandle::new(tokio::spawn(pressure::watch(Arc::clone(host), thresholds))),
            AbortOnDropHandle::new(tokio::spawn(logs::rotate::keep(Arc::clone(host)))),
        ];
        services.extend(serving.map(|serving| AbortOnDropHandle::new(tokio::spawn(serving))));
        let pods = Dispatcher::new(Arc::clone(host), found, sysctls, stop.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = pods.run() => {}
        }
        let containers = |known: &Known| known.pod.spec.as_ref().map_or(0, |s| s.containers.len());
        let containers_left = host.pods().values().map(containers).sum::<usize>() as u32;
        let because = Cause::kubelet(Rule::NodeStopped, Vec::new());
        host.record(Subject::node(), What::NodeStopped { containers_left, because });
        Ok(())
    }
}

/// Each exit goes to the task of its pod.
async fn route_exits(host: Arc<Host>, mut exits: impl Stream<Item = (ContainerId, Exit)> + Unpin) {
    while let Some((id, exit)) = exits.next().await {
        host.route_exit(id, exit);
    }
}

/// Brings pods from their sources to their tasks.
struct Dispatcher {
    host: Arc<Host>,
    /// What was found at start and no pod has claimed yet.
    found: HashMap<String, Inventory>,
    /// Pods of the listing that is going on.
    listed: HashMap<String, Pod>,
    statics: Statics,
    mirrors: Mirrors,
    sysctls: Allowed,
    swept: bool,
    stop: CancellationToken,
}

impl Dispatcher {
    fn new(host: Arc<Host>, found: Vec<Inventory>, sysctls: Allowed, stop: CancellationToken) -> Dispatcher {
        let found = found.into_iter().map(|one| (one.sandbox.pod_uid.clone(), one)).collect();
        let (listed, statics, mirrors) = (HashMap::new(), Statics::default(), Mirrors::new(Arc::clone(&host)));
        Dispatcher { host, found, listed, statics, mirrors, sysctls, swept: false, stop }
    }

    async fn run(mut self) {
        let only_here = format!("spec.nodeName={}", self.host.config.node_name);
        let api: Api<Pod> = Api::all(self.host.client.clone());
        let mut events = watcher(api, watcher::Config::default().fields(&only_here)).default_backoff().boxed();
        let mut files = static_pods::follow(self.host.config.static_pod_dir.clone(), &self.host.config.node_name);
        // Static pods come first: they may be the API server itself.
        if let Some(Ok(all)) = futures::FutureExt::now_or_never(files.next()).map(|next| next.ok_or(())) {
            self.take_static(all).await;
        }
        loop {
            tokio::select! {
                Some(all) = files.next() => self.take_static(all).await,
                () = self.host.ended.notified() => self.start_static().await,
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event).await,
                    Some(Err(error)) => tracing::warn!(%error, "watch of this node's pods"),
                    None => return,
                },
            }
        }
    }

    async fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(uid(&pod).to_string(), pod);
            }
            watcher::Event::Apply(pod) => self.apply(pod).await,
            watcher::Event::Delete(pod) => self.delete(&pod),
            watcher::Event::InitDone => self.settle().await,
        }
    }

    async fn apply(&mut self, pod: Pod) {
        if static_pods::is_mirror(&pod) {
            self.mirrors.seen(&pod);
            return;
        }
        let pod = Arc::new(pod);
        let to = self.host.pods().get(uid(&pod)).map(|known| known.to.clone());
        match to {
            Some(to) => {
                to.send(Message::Event(Event::Spec(pod))).ok();
            }
            None => self.admit(pod).await,
        }
    }

    async fn decide(&self, pod: &Pod) -> Result<(), Refusal> {
        node::admit(&self.host, pod).await?;
        self.sysctls.admit(pod)
    }

    async fn admit(&mut self, pod: Arc<Pod>) {
        let first = match self.found.remove(uid(&pod)) {
            // What runs already has been admitted before.
            Some(found) => First::Found(found),
            None if is_over(&pod) => First::New,
            None => match self.decide(&pod).await {
                Err(refusal) => First::Refused(refusal),
                Ok(()) => First::New,
            },
        };
        task::spawn(&self.host, pod, first, self.stop.clone());
    }

    fn delete(&mut self, pod: &Pod) {
        if static_pods::is_mirror(pod) {
            // If its file is still there, the mirror comes back.
            self.mirrors.missed(pod);
            return;
        }
        self.gone(uid(pod));
    }

    fn gone(&self, uid: &str) {
        if let Some(known) = self.host.pods().get_mut(uid) {
            known.gone = true;
            known.to.send(Message::Event(Event::Gone)).ok();
        }
    }

    /// A listing is complete: what is not in it is gone, and what nobody claimed is taken away.
    async fn settle(&mut self) {
        // Pods that are here already keep their room, then the older go first.
        let uids: HashSet<String> = self.listed.keys().cloned().collect();
        let mut listed: Vec<Pod> = std::mem::take(&mut self.listed).into_values().collect();
        listed.sort_by_key(|pod| {
            (!self.found.contains_key(uid(pod)), pod.metadata.creation_timestamp.clone().map(|at| at.0))
        });
        for pod in listed {
            self.apply(pod).await;
        }
        let known = self.host.pods().clone();
        for (uid, known) in &known {
            if !uids.contains(uid) && !pods::is_static(&known.pod) {
                self.gone(uid);
            }
        }
        let known: Vec<String> = known.into_keys().collect();
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        let orphans = std::mem::take(&mut self.found);
        for orphan in orphans.into_values() {
            remove_orphan(&self.host, orphan).await;
        }
        if let Err(error) = self.host.network.retain(&known).await {
            tracing::warn!(%error, "addresses of former pods not released");
        }
        garbage::sweep_pod_files(&self.host);
    }

    async fn take_static(&mut self, all: Vec<Pod>) {
        for old in self.statics.take(all) {
            self.gone(&old);
        }
        self.start_static().await;
    }

    /// Starts the static pods whose predecessors have ended, and takes the mirrors of those away that have none.
    async fn start_static(&mut self) {
        let known = self.host.pods().clone();
        let statics = known.values().filter(|known| pods::is_static(&known.pod));
        let here: HashSet<FullName> = statics.map(|known| full_name(&known.pod)).collect();
        for pod in self.statics.start(|name| here.contains(name)) {
            self.admit(Arc::clone(&pod)).await;
            self.mirrors.want(full_name(&pod), Some(pod));
        }
        for name in self.mirrors.names() {
            if !here.contains(&name) && !self.statics.has(&name) {
                self.mirrors.want(name, None);
            }
        }
    }
}

/// Whether the API server knows that the pod has ended.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
}

/// A sandbox whose pod was deleted while no kubelet ran.
async fn remove_orphan(host: &Arc<Host>, orphan: Inventory) {
    let sandbox = orphan.sandbox;
    let about = Subject::pod(sandbox.namespace, sandbox.name, sandbox.pod_uid.clone());
    let record = host.record(about, What::Removal { because: Cause::kubelet(Rule::Orphaned, Vec::new()) });
    if let Err(error) = host.network.detach(&sandbox.pod_uid).await {
        tracing::warn!(%error, uid = sandbox.pod_uid, "network of an orphan");
    }
    if let Err(error) = host.runtime.remove_sandbox(&sandbox.pod_uid, record).await {
        tracing::warn!(%error, uid = sandbox.pod_uid, at = %Timestamp::now(), "orphan not removed");
    }
}
