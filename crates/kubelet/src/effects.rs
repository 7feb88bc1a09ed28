//! What the worker's actions do to the world. Each ends in the event that tells how it went.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use journal::{Cause, Obstacle, Outcome, RecordId, What};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use pods::ports::{ContainerId, Exit, Inventory, RuntimeError, Sandbox};
use pods::worker::{Event, Found, Hook, ProbeKind, Severity, StartFailure, declared};

use crate::container_spec::{self, Inputs};
use crate::host::{Host, subject, uid};
use crate::images;
use crate::logs::tail;
use crate::probes::{self, Asked};
use crate::task::{Context, Message};
use crate::volumes::{self, Fetched};

/// pkg/kubelet/container: how much of a termination message is kept, and of the log in its place.
const MESSAGE_MAX: u64 = 4096;
const MESSAGE_LOG_MAX: usize = 2048;
const MESSAGE_LOG_LINES: usize = 80;
/// How many of a container's last lines go on record with its exit.
const RECORD_LINES: usize = 5;

const MOUNT_RETRY_FIRST: Duration = Duration::from_millis(500);
const MOUNT_RETRY_MAX: Duration = Duration::from_secs(122);

pub(crate) async fn create_sandbox(context: &Arc<Context>, pod: &Arc<Pod>) {
    match try_sandbox(context, pod).await {
        Ok(addresses) => {
            context.host.metrics.started_pods.fetch_add(1, Ordering::Relaxed);
            context.send(Event::SandboxReady { addresses });
        }
        Err(message) => {
            context.host.record(subject(pod), What::SandboxFailed { error: message.clone() });
            context.send(Event::SandboxFailed { message });
        }
    }
}

async fn try_sandbox(context: &Arc<Context>, pod: &Arc<Pod>) -> Result<Vec<IpAddr>, String> {
    let spec = container_spec::sandbox(&context.host, pod)?;
    // The pod's own directory goes first and last: it says that the one of its logs is ours.
    for dir in [&context.host.pod_dir(uid(pod)), &spec.log_directory] {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let sandbox = context.host.runtime.create_sandbox(&spec).await.map_err(|error| error.to_string())?;
    attach(context, pod, &sandbox).await
}

/// Connects the sandbox and writes the files that depend on its addresses.
async fn attach(context: &Arc<Context>, pod: &Arc<Pod>, sandbox: &Sandbox) -> Result<Vec<IpAddr>, String> {
    let addresses = connect(&context.host, pod, sandbox).await?;
    context.set_addresses(&addresses);
    context.set_namespace(sandbox.network_namespace.clone());
    container_spec::write_shared_files(&context.host, pod, &addresses).map_err(|error| error.to_string())?;
    Ok(addresses)
}

/// The addresses of the sandbox, once it is on the network.
async fn connect(host: &Host, pod: &Pod, sandbox: &Sandbox) -> Result<Vec<IpAddr>, String> {
    match container_spec::network(pod, sandbox) {
        Some(network) => host.network.attach(&network).await.map_err(|error| error.to_string()),
        None => Ok(host.config.node_ips.clone()),
    }
}

/// What is already there of a pod, with its addresses. A process that was killed on the way may have left it without the
/// files of its containers; those that are there stay as they are, for containers have them mounted.
pub(crate) async fn adopt(context: &Arc<Context>, pod: &Arc<Pod>, found: Inventory) -> Found {
    let host = &context.host;
    let connected = connect(host, pod, &found.sandbox).await.and_then(|addresses| {
        if !container_spec::has_shared_files(host, pod) {
            container_spec::write_shared_files(host, pod, &addresses).map_err(|error| error.to_string())?;
        }
        Ok(addresses)
    });
    let addresses = match connected {
        Ok(addresses) => Some(addresses),
        Err(error) => {
            tracing::warn!(error, pod = pod.metadata.name, "adopted pod has no network");
            None
        }
    };
    context.set_addresses(addresses.as_deref().unwrap_or_default());
    context.set_namespace(found.sandbox.network_namespace.clone());
    let mut containers = Vec::new();
    for state in found.containers {
        let message = match &state.exit {
            Some(exit) => {
                let words = last_words(&context.host, pod, &state.id, exit).await;
                if !is_told(pod, &state.id) {
                    record_exit(&context.host, pod, &state.id, exit, words.last_lines);
                }
                words.message
            }
            None => None,
        };
        containers.push((state, message));
    }
    Found { sandbox: true, addresses, containers }
}

/// Whether the API server already knows of this container's end; what it does not know of happened while no kubelet ran.
fn is_told(pod: &Pod, id: &ContainerId) -> bool {
    let shown = pods::status::shown_id(id);
    let Some(status) = &pod.status else { return false };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let states =
        lists.into_iter().flat_map(|l| l.iter().flatten()).flat_map(|s| [s.state.as_ref(), s.last_state.as_ref()]);
    states
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
        .any(|ended| ended.container_id.as_ref() == Some(&shown))
}

/// An exit goes on record before anything is done about it.
pub(crate) fn record_exit(host: &Host, pod: &Pod, id: &ContainerId, exit: &Exit, last_lines: Vec<String>) -> RecordId {
    let what = What::Exited {
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        ran_ms: exit.finished.duration_since(exit.started).as_millis().max(0) as u64,
        last_lines,
    };
    host.record(subject(pod).container(id.name.clone(), id.attempt), what)
}

/// Whom a pod's volumes could not be set up or renewed for, told with upstream's words.
fn tell_unmounted(host: &Host, pod: &Pod, failures: &[volumes::Failure]) {
    for volumes::Failure { volume, message } in failures {
        let message = format!("MountVolume.SetUp failed for volume {volume:?} : {message}");
        host.events.pod(pod, None, Severity::Warning, "FailedMount", message);
    }
}

/// Sets the volumes up, trying again for as long as it takes.
pub(crate) async fn mount(context: &Arc<Context>, pod: &Arc<Pod>) {
    let mut wait = MOUNT_RETRY_FIRST;
    loop {
        let place = context.place(pod);
        let made = volumes::set_up(&context.host, pod, &place, &context.subscriber()).await;
        if made.failures.is_empty() {
            *context.volumes() = made.volumes;
            context.to.send(Message::Refreshed { again_at: made.renew_at, failed: false }).ok();
            return context.send(Event::VolumesReady);
        }
        tell_unmounted(&context.host, pod, &made.failures);
        for failure in made.failures {
            let what = What::MountFailed { volume: failure.volume, error: failure.message };
            context.host.record(subject(pod), what);
        }
        // No word of a change comes from paths of the host and claims, so time is waited for as well.
        tokio::time::timeout(wait, context.sources_changed.notified()).await.ok();
        wait = (wait * 2).min(MOUNT_RETRY_MAX);
    }
}

/// Brings API volumes up to date and says when that is wanted again: for a token's sake, or since one failed for the
/// `failures`-th time in a row.
pub(crate) async fn refresh(context: &Arc<Context>, pod: &Arc<Pod>, failures: u32) {
    let place = context.place(pod);
    let made = volumes::refresh(&context.host, pod, &place, &context.subscriber()).await;
    tell_unmounted(&context.host, pod, &made.failures);
    let retry_at = (!made.failures.is_empty()).then(|| {
        let wait = (MOUNT_RETRY_FIRST * 2u32.saturating_pow(failures)).min(MOUNT_RETRY_MAX);
        Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX)
    });
    let again_at = made.renew_at.into_iter().chain(retry_at).min();
    context.to.send(Message::Refreshed { again_at, failed: !made.failures.is_empty() }).ok();
}

pub(crate) async fn pull(context: &Arc<Context>, pod: &Arc<Pod>, name: String) {
    let Some(container) = any_container(pod, &name) else { return };
    let mut wanted = vec![container];
    // Image volumes are pulled with the first container that is.
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter_map(|v| v.image.as_ref()) {
        wanted.push(Container {
            name: name.clone(),
            image: volume.reference.clone(),
            image_pull_policy: volume.pull_policy.clone(),
            ..Container::default()
        });
    }
    for container in wanted {
        if let Err(missing) = images::ensure(&context.host, pod, &container, &context.subscriber()).await {
            let (reason, message, record) = (missing.reason.to_string(), missing.message, missing.record);
            return context.send(Event::ImageFailed { container: name, reason, message, record });
        }
    }
    context.send(Event::ImageReady { container: name });
}

/// A container of any role, as far as its image goes.
fn any_container(pod: &Pod, name: &str) -> Option<Container> {
    if let Some(container) = pods::env::container_named(pod, name) {
        return Some(container.clone());
    }
    let own = pod.spec.as_ref()?.ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
    Some(Container {
        name: own.name.clone(),
        image: own.image.clone(),
        image_pull_policy: own.image_pull_policy.clone(),
        ..Container::default()
    })
}

pub(crate) async fn start(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    container: Arc<Container>,
    attempt: u32,
    target: Option<ContainerId>,
) {
    let name = container.name.clone();
    match try_start(context, pod, &container, attempt, target).await {
        Ok(event) => {
            context.host.metrics.started_containers.fetch_add(1, Ordering::Relaxed);
            let image = container.image.clone().unwrap_or_default();
            context.host.record(subject(pod).container(name, attempt), What::Started { image });
            context.send(event);
        }
        Err(failure) => {
            context.host.metrics.start_errors.fetch_add(1, Ordering::Relaxed);
            let (reason, message) = match &failure {
                StartFailure::Config(message) => ("CreateContainerConfigError", message),
                StartFailure::Create(message) => ("CreateContainerError", message),
                StartFailure::Run { message, .. } => ("RunContainerError", message),
            };
            let what = What::StartFailed { reason: reason.into(), message: message.clone() };
            context.host.record(subject(pod).container(name.clone(), attempt), what);
            context.send(Event::StartFailed { container: name, attempt, failure });
        }
    }
}

async fn try_start(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    container: &Arc<Container>,
    attempt: u32,
    target: Option<ContainerId>,
) -> Result<Event, StartFailure> {
    let host = &context.host;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let references = container_spec::references(pod, container);
    let subscriber = context.subscriber();
    let (fetched, services) =
        futures::join!(Fetched::fetch(host, namespace, references, &subscriber), host.objects.services());
    let services = services.map_err(StartFailure::Config)?;
    let volumes = context.volumes().clone();
    let fetched = fetched.with_volumes(volumes.clone());
    let place = context.place(pod);
    let inputs = Inputs {
        host,
        pod,
        container,
        attempt,
        volumes: &volumes,
        fetched: &fetched,
        services: &services,
        place: &place,
        target,
    };
    let spec = container_spec::container(&inputs).map_err(StartFailure::Config)?;
    let created = host.runtime.create_container(&spec).await;
    created.map_err(|error| match error {
        RuntimeError::CreateConfig(message) => StartFailure::Config(message),
        other => StartFailure::Create(other.to_string()),
    })?;
    match host.runtime.start_container(&spec.id).await {
        Ok(state) => Ok(Event::Started {
            container: container.name.clone(),
            attempt,
            at: state.started.unwrap_or_else(Timestamp::now),
            image: state.image,
            image_id: state.image_id,
            stop_signal: state.stop_signal,
        }),
        Err(error) => {
            // There will be no exit of it to hear of; its log stays.
            if let Err(error) = host.runtime.remove_container(&spec.id).await {
                tracing::warn!(%error, id = ?spec.id, "container that could not be run not removed");
            }
            let (message, exit_code) = match error {
                RuntimeError::CannotRun { code, message } => (message, Some(if code == 0 { 128 } else { code })),
                error => (error.to_string(), None),
            };
            Err(StartFailure::Run { message, exit_code })
        }
    }
}

pub(crate) async fn resize(context: &Arc<Context>, pod: &Arc<Pod>, id: &ContainerId, container: Arc<Container>) {
    let host = &context.host;
    let resources = pods::cgroup::of_container(pod, &container, host.machine.memory_bytes);
    // The pod's own limits are widened first, so that no container's exceed them in between.
    let whole = host.runtime.update_sandbox(uid(pod), &pods::cgroup::of_pod(pod)).await;
    let one = host.runtime.update_container(id, &resources).await;
    if let Err(error) = whole.and(one) {
        let message = format!("Error resizing container {}: {error}", container.name);
        host.events.pod(pod, Some(&container.name), Severity::Warning, "ResizeError", message);
    }
}

pub(crate) async fn run_hook(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    id: &ContainerId,
    container: Arc<Container>,
    hook: Hook,
    deadline: Option<Timestamp>,
) {
    let lifecycle = container.lifecycle.clone().unwrap_or_default();
    let handler = match hook {
        Hook::PostStart => lifecycle.post_start,
        Hook::PreStop => lifecycle.pre_stop,
    };
    let limit = deadline.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
    let error = match handler {
        Some(handler) => run_handler(context, pod, id, &container, handler, limit).await.err(),
        None => None,
    };
    context.send(Event::Hooked { container: container.name.clone(), attempt: id.attempt, hook, error });
}

/// kubernetes/kubernetes pkg/kubelet/lifecycle/handlers.go.
async fn run_handler(
    context: &Arc<Context>,
    pod: &Pod,
    id: &ContainerId,
    container: &Container,
    handler: LifecycleHandler,
    limit: Option<Duration>,
) -> Result<(), String> {
    if let Some(exec) = handler.exec {
        let argv = exec.command.unwrap_or_default();
        return match probes::run_command(context.host.runtime.as_ref(), id, argv.clone(), limit).await {
            Ok(probes::Ran::Exited { code: 0, .. }) => Ok(()),
            Ok(probes::Ran::Exited { code, output }) => {
                Err(format!("command '{}' exited with {code}: {output}", argv.join(" ")))
            }
            Ok(probes::Ran::Late { .. }) => Err(format!("command '{}' did not end in time", argv.join(" "))),
            Err(obstacle) => Err(obstacle.to_string()),
        };
    }
    if let Some(action) = handler.http_get {
        let address = context.place(pod).pod_ips.first().copied().ok_or("the pod has no address")?;
        let target = probes::target(&action, container, address)?;
        let limit = limit.unwrap_or(Duration::from_secs(60));
        return match probes::get(&target, limit).await {
            Ok((status, _)) if status < 400 => Ok(()),
            Ok((status, body)) => Err(format!("http hook answered with status {status}: {body}")),
            Err((_, text)) => Err(text),
        };
    }
    if let Some(sleep) = handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
    }
    Ok(())
}

pub(crate) async fn probe(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    id: &ContainerId,
    container: Arc<Container>,
    kind: ProbeKind,
    (failures, threshold): (u32, u32),
) {
    let Some(spec) = declared(kind, &container) else { return };
    let address = context.place(pod).pod_ips.first().copied();
    let asked = Asked { runtime: context.host.runtime.as_ref(), id, container: &container, address };
    let mut answer = probes::ask(&asked, spec).await;
    if matches!(answer.outcome, Outcome::NotAsked(Obstacle::NamespaceGone { .. })) {
        // A container that ended in the meantime was not refused an answer: its exit says more.
        if !matches!(context.host.runtime.container(id).await, Ok(state) if state.exit.is_none()) {
            return;
        }
    }
    if answer.outcome == Outcome::Healthy && spec.http_get.is_some() && !answer.output.is_empty() {
        let message = format!("{} probe warning: {}", pods::worker::title(kind), answer.output);
        context.host.events.pod(pod, Some(&container.name), Severity::Warning, "ProbeWarning", message);
    }
    let about = subject(pod).container(container.name.clone(), id.attempt);
    context.host.metrics.probed(kind, &answer.outcome, &container.name, &about);
    let failures = match &answer.outcome {
        Outcome::Healthy => 0,
        Outcome::Unhealthy(_) => failures + 1,
        Outcome::NotAsked(_) => failures,
    };
    let what = What::ProbeAttempt {
        probe: kind,
        outcome: answer.outcome.clone(),
        took_ms: answer.took_ms,
        failures,
        threshold,
    };
    let record = Some(context.host.record(about, what));
    context.send(Event::Probed {
        container: container.name.clone(),
        attempt: id.attempt,
        probe: kind,
        outcome: answer.outcome,
        output: std::mem::take(&mut answer.output),
        record,
    });
}

pub(crate) async fn signal(context: &Arc<Context>, pod: &Arc<Pod>, id: &ContainerId, signal: i32, because: Cause) {
    let about = subject(pod).container(id.name.clone(), id.attempt);
    let record: RecordId = context.host.record(about, What::Signal { signal, because });
    match context.host.runtime.signal(id, signal, record).await {
        Ok(()) => {}
        Err(RuntimeError::NotRunning) => {
            // The news of its end is on the way, or was lost: the worker takes it once.
            if let Ok(Some(exit)) = context.host.runtime.container(id).await.map(|state| state.exit) {
                let ended = Message::Exited { container: id.name.clone(), attempt: id.attempt, exit };
                context.to.send(ended).ok();
            }
        }
        Err(RuntimeError::NoSuchContainer(_)) => {
            // It ended and was taken away without anybody hearing of it; the pod must not wait for its exit for ever.
            let now = Timestamp::now();
            let exit = Exit { code: 137, signal: None, oom_killed: false, started: now, finished: now };
            let lost = Message::Exited { container: id.name.clone(), attempt: id.attempt, exit };
            context.to.send(lost).ok();
        }
        Err(error) => {
            let message = format!("error killing container {}: {error}", id.name);
            context.host.events.pod(pod, Some(&id.name), Severity::Warning, "FailedKillPod", message);
        }
    }
}

/// The state of a dead container goes, its log stays; the log before it goes.
pub(crate) async fn remove_container(context: &Arc<Context>, pod: &Arc<Pod>, id: &ContainerId) {
    if let Err(error) = context.host.runtime.remove_container(id).await {
        tracing::debug!(%error, ?id, "dead container not removed");
    }
    let last_words = last_words_file(&context.host, pod, id);
    if let Err(error) = std::fs::remove_file(&last_words) {
        tracing::debug!(%error, file = %last_words.display(), "termination message not removed");
    }
    let dir = context.host.pod_log_dir(pod).join(&id.name);
    if let Some(older) = id.attempt.checked_sub(1) {
        crate::logs::remove(&dir, older);
    }
}

/// Takes the sandbox away, trying again until nothing is left.
pub(crate) async fn remove_sandbox(context: &Arc<Context>, pod: &Arc<Pod>, because: Cause) {
    let record = context.host.record(subject(pod), What::Removal { because });
    let mut wait = MOUNT_RETRY_FIRST;
    while let Err(message) = try_remove(context, record).await {
        let message = format!("error killing pod: {message}");
        context.host.events.pod(pod, None, Severity::Warning, "FailedKillPod", message);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MOUNT_RETRY_MAX);
    }
    context.volumes().clear();
    context.send(Event::Removed);
}

async fn try_remove(context: &Arc<Context>, record: RecordId) -> Result<(), String> {
    let host = &context.host;
    host.network.detach(&context.uid).await.map_err(|error| error.to_string())?;
    host.runtime.remove_sandbox(&context.uid, record).await.map_err(|error| error.to_string())?;
    let dir = host.pod_dir(&context.uid);
    let done = tokio::task::spawn_blocking(move || volumes::tear_down(&dir)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The pod's directory and logs.
pub(crate) fn remove_files(host: &Host, pod: &Pod) {
    remove_dir(&host.pod_log_dir(pod));
    remove_dir(&host.pod_dir(uid(pod)));
}

pub(crate) fn remove_dir(dir: &std::path::Path) {
    if let Err(error) = crate::files::remove_tree(dir) {
        tracing::warn!(%error, "files of a pod are left");
    }
}

/// What a container said before it ended.
pub(crate) struct LastWords {
    /// The status's termination message.
    pub(crate) message: Option<String>,
    pub(crate) last_lines: Vec<String>,
}

fn last_words_file(host: &Host, pod: &Pod, id: &ContainerId) -> PathBuf {
    host.pod_dir(uid(pod)).join("containers").join(&id.name).join(id.attempt.to_string())
}

/// kubernetes/kubernetes pkg/kubelet/kuberuntime (getTerminationMessage): the file, else the log when asked for and the
/// container failed.
pub(crate) async fn last_words(host: &Host, pod: &Pod, id: &ContainerId, exit: &Exit) -> LastWords {
    let file = last_words_file(host, pod, id);
    let log: PathBuf = host.pod_log_dir(pod).join(&id.name).join(format!("{}.log", id.attempt));
    let fallback = pods::env::container_named(pod, &id.name)
        .and_then(|c| c.termination_message_policy.as_deref())
        .is_some_and(|policy| policy == "FallbackToLogsOnError");
    let failed = exit.code != 0;
    let read = move || {
        // What cannot be read says nothing; the container may have made anything of it.
        let text = crate::files::read_tail(&file, MESSAGE_MAX).unwrap_or_else(|error| {
            tracing::debug!(%error, file = %file.display(), "no termination message");
            Vec::new()
        });
        let mut message = String::from_utf8_lossy(&text).into_owned();
        if message.is_empty() && fallback && failed {
            message = tail::text(&log, MESSAGE_LOG_LINES, MESSAGE_LOG_MAX);
        }
        let last_lines = if failed { tail::text(&log, RECORD_LINES, MESSAGE_LOG_MAX) } else { String::new() };
        let last_lines = last_lines.lines().map(str::to_string).collect();
        LastWords { message: Some(message).filter(|text| !text.is_empty()), last_lines }
    };
    let none = LastWords { message: None, last_lines: Vec::new() };
    tokio::task::spawn_blocking(read).await.unwrap_or(none)
}
