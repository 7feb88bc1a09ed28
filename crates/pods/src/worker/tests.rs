//! Lives of pods as text: what happens on the left, what the worker wants done below it.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use journal::Outcome;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::*;
use crate::ports::{ContainerId, ContainerPhase, ContainerState};

/// A pod's life with everything that the shell would do answered at once, unless the test holds it back.
struct Story {
    worker: Worker,
    begin: Timestamp,
    now: Timestamp,
    text: String,
    wake: Option<Timestamp>,
}

fn pod(spec: serde_json::Value) -> Arc<Pod> {
    let pod = serde_json::json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1}, "spec": spec});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn with(pod: &Arc<Pod>, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    change(&mut pod);
    Arc::new(pod)
}

fn deleted(pod: &Arc<Pod>, grace: i64, at: Timestamp) -> Event {
    Event::Spec(with(pod, |pod| {
        pod.metadata.deletion_timestamp = Some(crate::status::time(at));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
    }))
}

impl Story {
    fn of(pod: &Arc<Pod>) -> Story {
        let begin = Timestamp::from_second(1_000_000).unwrap();
        let worker = Worker::new(Arc::clone(pod), vec!["192.168.0.1".parse().unwrap()], begin);
        Story { worker, begin, now: begin, text: String::new(), wake: None }
    }

    fn event(&mut self, what: &str, event: Event) -> &mut Self {
        let seconds = self.now.duration_since(self.begin).as_secs();
        writeln!(self.text, "{seconds}s {what}").unwrap();
        for action in self.worker.step(self.now, event) {
            if let Action::WakeAt(at) = action {
                self.wake = Some(at);
            }
            let line = self.line(&action);
            writeln!(self.text, "    {line}").unwrap();
        }
        self
    }

    /// Lets time pass, waking the worker whenever it asked for it.
    fn wait(&mut self, seconds: i64) -> &mut Self {
        let end = after(self.now, seconds);
        while let Some(at) = self.wake.take().filter(|at| *at <= end) {
            self.now = at;
            self.event("clock", Event::Clock);
        }
        self.now = end;
        self
    }

    fn prepared(&mut self) -> &mut Self {
        self.event("sandbox ready", Event::SandboxReady { addresses: vec!["10.244.0.5".parse().unwrap()] });
        self.event("volumes ready", Event::VolumesReady)
    }

    fn image(&mut self, container: &str) -> &mut Self {
        self.event(&format!("image of {container}"), Event::ImageReady { container: container.into() })
    }

    fn started(&mut self, container: &str, attempt: u32) -> &mut Self {
        let (image, image_id) = ("busybox:1".to_string(), "sha256:1".to_string());
        let (name, at) = (container.to_string(), self.now);
        let event = Event::Started { container: name, attempt, at, image, image_id, stop_signal: None };
        self.event(&format!("{container}/{attempt} started"), event)
    }

    fn up(&mut self, container: &str, attempt: u32) -> &mut Self {
        self.image(container).started(container, attempt)
    }

    fn exited(&mut self, container: &str, attempt: u32, code: i32) -> &mut Self {
        let exit = Exit { code, signal: None, oom_killed: false, started: self.now, finished: self.now };
        let name = container.to_string();
        let event = Event::Exited { container: name, attempt, exit, message: None, record: Some(RecordId(7)) };
        self.event(&format!("{container}/{attempt} exited {code}"), event)
    }

    fn probed(&mut self, container: &str, probe: ProbeKind, outcome: Outcome, output: &str) -> &mut Self {
        let what = format!("{probe:?} of {container}: {output}");
        let (container, output) = (container.to_string(), output.to_string());
        self.event(&what, Event::Probed { container, attempt: 0, probe, outcome, output, record: Some(RecordId(3)) })
    }

    fn line(&self, action: &Action) -> String {
        match action {
            Action::Report(status) => report(status),
            Action::Tell { severity, reason, message, container } => {
                let on = container.as_deref().unwrap_or("pod");
                format!("tell {on} {severity:?} {reason}: {message}")
            }
            Action::WakeAt(at) => format!("wake at {}s", at.duration_since(self.begin).as_secs()),
            Action::Signal { container, attempt, signal, because } => {
                format!("signal {signal} to {container}/{attempt} because {}", crate::causes::shown(because))
            }
            Action::RemoveSandbox { because } => format!("remove sandbox because {}", crate::causes::shown(because)),
            Action::Hook { container, hook, deadline, .. } => {
                let until = deadline.map(|at| format!(" until {}s", at.duration_since(self.begin).as_secs()));
                format!("hook {hook:?} of {container}{}", until.unwrap_or_default())
            }
            Action::BackedOff { container, wait, because } => {
                let because = crate::causes::shown(because);
                format!("journal: {container} backs off {}s because {because}", wait.as_secs())
            }
            other => format!("{other:?}"),
        }
    }
}

fn report(status: &PodStatus) -> String {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let containers: Vec<String> = lists.into_iter().flat_map(|l| l.iter().flatten()).map(brief).collect();
    let conditions = status.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.as_str());
    let conditions = conditions.collect::<Vec<_>>().join(",");
    let phase = status.phase.as_deref().unwrap();
    let reason = status.reason.as_ref().map(|r| format!(" {r}")).unwrap_or_default();
    format!("report {phase}{reason} [{}] {conditions}", containers.join("; "))
}

fn brief(status: &ContainerStatus) -> String {
    let state = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        let state = state.as_ref()?;
        if state.running.is_some() {
            return Some("running".to_string());
        }
        if let Some(waiting) = &state.waiting {
            let message = waiting.message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default();
            return Some(format!("{}{message}", waiting.reason.as_deref().unwrap_or("-")));
        }
        let ended = state.terminated.as_ref()?;
        Some(format!("{} {}", ended.reason.as_deref().unwrap_or("-"), ended.exit_code))
    };
    let mut out = format!("{} {}", status.name, state(&status.state).unwrap_or_default());
    if let Some(last) = state(&status.last_state) {
        write!(out, ", last {last}").unwrap();
    }
    if status.restart_count > 0 {
        write!(out, ", x{}", status.restart_count).unwrap();
    }
    if status.ready {
        out += ", ready";
    }
    out
}

fn simple() -> Arc<Pod> {
    pod(serde_json::json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "busybox:1"}]}))
}

#[test]
fn from_the_spec_to_running_and_away() {
    let pod = simple();
    let mut story = Story::of(&pod);
    story.event("new", Event::Clock).prepared().up("c", 0).wait(5);
    let delete = deleted(&pod, 30, story.now);
    story.event("deleted", delete).wait(30);
    story.exited("c", 0, 137).event("removed", Event::Removed).event("gone", Event::Gone);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_crashing_container_backs_off() {
    let mut story = Story::of(&simple());
    story.event("new", Event::Clock).prepared().up("c", 0).exited("c", 0, 1).up("c", 1).wait(1);
    story.exited("c", 1, 1).wait(10).up("c", 2).wait(700).exited("c", 2, 1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn init_containers_then_sidecars_then_the_rest_and_back_in_reverse() {
    let pod = pod(serde_json::json!({
        "initContainers": [
            {"name": "setup", "image": "i"},
            {"name": "log", "image": "i", "restartPolicy": "Always"},
            {"name": "mesh", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}}
        ],
        "containers": [{"name": "app", "image": "i"}], "restartPolicy": "Never"}));
    let mut story = Story::of(&pod);
    story.event("new", Event::Clock).prepared().up("setup", 0).exited("setup", 0, 0);
    story.up("log", 0).up("mesh", 0).probed("mesh", ProbeKind::Startup, Outcome::Healthy, "ok");
    story.up("app", 0).exited("app", 0, 0);
    story.exited("mesh", 0, 0).exited("log", 0, 143).event("removed", Event::Removed);
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let pod = pod(serde_json::json!({"restartPolicy": "Never",
        "initContainers": [{"name": "setup", "image": "i"}], "containers": [{"name": "app", "image": "i"}]}));
    let mut story = Story::of(&pod);
    story.event("new", Event::Clock).prepared().up("setup", 0).exited("setup", 0, 3).event("removed", Event::Removed);
    insta::assert_snapshot!(story.text);
}

fn probed_pod() -> Arc<Pod> {
    pod(serde_json::json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i",
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 5, "failureThreshold": 2, "terminationGracePeriodSeconds": 4},
        "readinessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 2}}]}))
}

#[test]
fn a_failing_liveness_probe_restarts_its_container_only() {
    let sick = || Outcome::Unhealthy(journal::Symptom::ExitCode { code: 1, output: "boom".into() });
    let mut story = Story::of(&probed_pod());
    story.event("new", Event::Clock).prepared().up("c", 0);
    story.probed("c", ProbeKind::Liveness, Outcome::Healthy, "").wait(2);
    story.probed("c", ProbeKind::Readiness, Outcome::Healthy, "").wait(3);
    story.probed("c", ProbeKind::Liveness, sick(), "boom").wait(5);
    story.probed("c", ProbeKind::Liveness, sick(), "boom").wait(4).exited("c", 0, 137).up("c", 1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_container_with_a_new_image_is_replaced_without_a_word_of_the_gap() {
    let pod = pod(serde_json::json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "i"}]}));
    let changed = with(&pod, |pod| pod.spec.as_mut().unwrap().containers[0].image = Some("i:2".into()));
    let mut story = Story::of(&pod);
    story.event("new", Event::Clock).prepared().up("c", 0).event("new image", Event::Spec(changed.clone()));
    story.exited("c", 0, 2).up("c", 1);
    let failed = Event::ImageFailed {
        container: "c".into(),
        reason: "ErrImagePull".into(),
        message: "manifest unknown".into(),
        record: None,
    };
    let other = with(&changed, |pod| pod.spec.as_mut().unwrap().containers[0].image = Some("i:3".into()));
    story
        .wait(700)
        .event("an image that is not there", Event::Spec(other))
        .exited("c", 1, 2)
        .event("pull failed", failed);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_probe_that_could_not_be_asked_never_kills() {
    let mut story = Story::of(&probed_pod());
    story.event("new", Event::Clock).prepared().up("c", 0);
    for _ in 0..5 {
        let outcome = Outcome::NotAsked(journal::Obstacle::ForkRefused { error: "EAGAIN".into() });
        story.probed("c", ProbeKind::Liveness, outcome, "fork refused").wait(5);
    }
    story.probed("c", ProbeKind::Liveness, Outcome::Healthy, "");
    assert!(!story.text.contains("signal"), "{}", story.text);
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_image_that_is_not_to_be_had() {
    let mut story = Story::of(&simple());
    let failed = || Event::ImageFailed {
        container: "c".into(),
        reason: "ErrImagePull".into(),
        message: "manifest unknown".into(),
        record: Some(RecordId(9)),
    };
    story.event("new", Event::Clock).prepared().event("pull failed", failed()).wait(10);
    story.event("pull failed", failed()).wait(20).up("c", 0);
    insta::assert_snapshot!(story.text);
}

#[test]
fn hooks_hold_back_and_count_against_the_grace_period() {
    let pod = pod(serde_json::json!({"terminationGracePeriodSeconds": 10, "containers": [
        {"name": "a", "image": "i", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": {"exec": {"command": ["y"]}}}},
        {"name": "b", "image": "i"}]}));
    let mut story = Story::of(&pod);
    let hooked = |hook| Event::Hooked { container: "a".into(), attempt: 0, hook, error: None };
    story.event("new", Event::Clock).prepared().image("b").up("a", 0);
    story.event("postStart done", hooked(Hook::PostStart)).started("b", 0);
    let delete = deleted(&pod, 10, story.now);
    story.event("deleted", delete).wait(4).event("preStop done", hooked(Hook::PreStop)).exited("b", 0, 0);
    story.wait(6).exited("a", 0, 137);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_job_past_its_deadline_fails() {
    let pod = pod(
        serde_json::json!({"activeDeadlineSeconds": 60, "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "c", "image": "i"}]}),
    );
    let mut story = Story::of(&pod);
    story
        .event("new", Event::Clock)
        .prepared()
        .up("c", 0)
        .wait(60)
        .exited("c", 0, 143)
        .event("removed", Event::Removed);
    insta::assert_snapshot!(story.text);
}

fn state(attempt: u32, phase: ContainerPhase, at: Timestamp) -> ContainerState {
    let exit = Exit { code: 2, signal: None, oom_killed: true, started: at, finished: at };
    ContainerState {
        id: ContainerId { pod_uid: "u1".into(), name: "c".into(), attempt },
        image: "busybox:1".into(),
        image_id: "sha256:1".into(),
        phase,
        pid: None,
        created: at,
        started: Some(at),
        exit: (phase == ContainerPhase::Exited).then_some(exit),
        log_path: Default::default(),
        stop_signal: None,
    }
}

#[test]
fn what_runs_is_adopted_and_what_ended_meanwhile_is_restarted() {
    let mut first = Story::of(&simple());
    first.event("new", Event::Clock).prepared().up("c", 0);
    let status = first.worker.reported.clone();
    let known = with(&simple(), |pod| pod.status = status);
    for phase in [ContainerPhase::Running, ContainerPhase::Exited] {
        let mut story = Story::of(&known);
        let containers = vec![(state(0, phase, story.now), None)];
        let addresses = Some(vec!["10.244.0.5".parse().unwrap()]);
        story
            .event("adopted", Event::Adopted(Found { sandbox: true, addresses, containers }))
            .event("volumes ready", Event::VolumesReady);
        insta::assert_snapshot!(format!("adopt_{phase:?}"), story.text);
    }
}

#[test]
fn a_container_lost_with_its_machine_is_started_anew() {
    let mut first = Story::of(&simple());
    first.event("new", Event::Clock).prepared().up("c", 0);
    let status = first.worker.reported.clone();
    let mut story = Story::of(&with(&simple(), |pod| pod.status = status));
    story.event("nothing found", Event::Adopted(Found::default())).prepared().up("c", 1);
    insta::assert_snapshot!(story.text);
}

#[test]
fn time_is_whole_seconds_in_the_status() {
    let mut story = Story::of(&simple());
    story.now = story.begin + SignedDuration::from_millis(1500);
    story.event("new", Event::Clock);
    let status = story.worker.reported.as_ref().unwrap();
    let conditions = status.conditions.as_ref().unwrap();
    assert!(conditions.iter().all(|c| c.last_transition_time.as_ref().unwrap().0.subsec_nanosecond() == 0));
}

#[test]
fn a_container_that_cannot_be_run_leaves_none_behind() {
    let mut story = Story::of(&simple());
    story.event("new", Event::Clock).prepared().up("c", 0).exited("c", 0, 1).image("c");
    let removed = |actions: &[Action]| -> Vec<u32> {
        let of = |action: &Action| match action {
            Action::Remove { attempt, .. } => Some(*attempt),
            _ => None,
        };
        actions.iter().filter_map(of).collect()
    };
    let failed = |attempt| Event::StartFailed {
        container: "c".into(),
        attempt,
        failure: StartFailure::Run { message: "exec: \"x\": not found".into(), exit_code: Some(127) },
    };
    let first = story.worker.step(story.now, failed(1));
    assert_eq!(removed(&first), [0], "the run before it goes, as with a start");
}

/// Containers that are pulled first by a pod whose node was restarted, after a life on it.
fn begun_again(restart_policy: &str, life: impl FnOnce(&mut Story)) -> Vec<String> {
    let pod = pod(serde_json::json!({"restartPolicy": restart_policy,
        "initContainers": [{"name": "setup", "image": "i"}, {"name": "more", "image": "i"}],
        "containers": [{"name": "app", "image": "i"}]}));
    let mut first = Story::of(&pod);
    first.event("new", Event::Clock).prepared();
    life(&mut first);
    let status = first.worker.reported.clone();
    let mut story = Story::of(&with(&pod, |pod| pod.status = status));
    let actions = story.worker.step(story.now, Event::Adopted(Found::default()));
    let pulled = |action: &Action| match action {
        Action::Pull { container } => Some(container.clone()),
        _ => None,
    };
    actions.iter().filter_map(pulled).collect()
}

#[test]
fn a_new_sandbox_begins_with_the_first_init_container() {
    let up = |story: &mut Story| {
        story.up("setup", 0).exited("setup", 0, 0).up("more", 0).exited("more", 0, 0).up("app", 0);
    };
    assert_eq!(begun_again("Always", up), ["setup"]);
    assert_eq!(begun_again("OnFailure", up), ["setup"]);
    assert_eq!(begun_again("Never", up), Vec::<String>::new(), "a pod that never restarts has failed");
    let halfway = |story: &mut Story| {
        story.up("setup", 0).exited("setup", 0, 0).up("more", 0);
    };
    assert_eq!(begun_again("Always", halfway), ["setup"]);
    let done = |story: &mut Story| {
        up(story);
        story.exited("app", 0, 0);
    };
    assert_eq!(begun_again("OnFailure", done), Vec::<String>::new(), "its work is done");
}
