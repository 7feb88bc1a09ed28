//! The kubelet as a whole, around a runtime, a network and an API server that exist only here.

pub(crate) mod fakes;
mod garbage;
mod logs;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Kubelet, KubeletConfig};
use fakes::{Api, Net, Run, Tape};

struct World {
    api: Api,
    runtime: Arc<Run>,
    tape: Arc<Tape>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), crate::KubeletError>>,
    dir: std::path::PathBuf,
}

impl World {
    async fn new(name: &str, runtime: Arc<Run>, api: Api) -> World {
        let dir = std::env::temp_dir().join(format!("windlass-kubelet-{name}-{}", std::process::id()));
        let mut config = KubeletConfig::new("node-1", vec!["192.168.0.1".parse().unwrap()]);
        config.data_dir = dir.join("data");
        config.log_dir = dir.join("logs");
        config.listen = None;
        // How full the machine's disk is must not matter to a test.
        config.eviction_hard = String::new();
        let tape = Arc::new(Tape::default());
        let kubelet = Kubelet::new(config, runtime.clone(), Arc::new(Net), tape.clone(), api.client());
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { kubelet.run(token).await });
        World { api, runtime, tape, stop, task, dir }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

/// Waits, without a sleep of a guessed length, until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(tokio::time::Instant::now() < limit, "never came true: {what}");
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn pod(restart_policy: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "5"},
        "spec": {"nodeName": "node-1", "restartPolicy": restart_policy, "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "c", "image": "busybox:1", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]},
        "status": {"phase": "Pending"}})
}

#[tokio::test]
async fn a_pod_runs_is_deleted_and_leaves_nothing() {
    let world = World::new("life", Arc::new(Run::default()), Api::with(pod("Always"))).await;
    until("running", || world.api.pod("/status/phase") == json!("Running")).await;
    assert_eq!(world.api.pod("/status/podIP"), json!("10.244.0.2"));
    assert_eq!(world.api.pod("/status/containerStatuses/0/containerID"), json!("windlass://u1/c/0"));
    assert_eq!(world.runtime.env("c"), [("IP".to_string(), "10.244.0.2".to_string())]);
    until("node", || world.api.seen("PATCH /api/v1/nodes/node-1/status")).await;
    world.api.delete(30);
    until("gone", || world.api.pod("") == Value::Null).await;
    until("taken away", || world.runtime.sandboxes().is_empty()).await;
    until("files", || std::fs::read_dir(world.dir.join("logs")).is_ok_and(|mut dir| dir.next().is_none())).await;
    let story = world.tape.story("u1");
    insta::assert_snapshot!(story, @"
    admitted
    started c/0
    signal 15 to c/0: the pod was deleted
    exited c/0 143
    removal: the pod was deleted
    ");
    until("events", || world.api.events().contains(&"Killing: Stopping container c".to_string())).await;
    insta::assert_snapshot!(world.api.events().join("\n"), @r#"
    Pulled: Container image "busybox:1" already present on machine and can be accessed by the pod
    Created: Container created
    Started: Container started
    Killing: Stopping container c
    "#);
    world.end().await;
}

#[tokio::test]
async fn a_container_that_ends_completes_its_pod() {
    let world = World::new("job", Arc::new(Run::default()), Api::with(pod("Never"))).await;
    until("running", || world.api.pod("/status/phase") == json!("Running")).await;
    world.runtime.exit("c", 0);
    until("succeeded", || world.api.pod("/status/phase") == json!("Succeeded")).await;
    assert_eq!(world.api.pod("/status/containerStatuses/0/state/terminated/reason"), json!("Completed"));
    until("taken away", || world.runtime.sandboxes().is_empty()).await;
    world.end().await;
}

#[tokio::test]
async fn a_second_kubelet_adopts_what_the_first_left_running() {
    let runtime = Arc::new(Run::default());
    let first = World::new("adopt", runtime.clone(), Api::with(pod("Always"))).await;
    until("running", || first.api.pod("/status/phase") == json!("Running")).await;
    let api = first.api.clone();
    first.stop.cancel();
    first.task.await.unwrap().unwrap();
    // As one that was killed on the way would leave it.
    let files = ["etc-hosts", "hostname", "resolv.conf"].map(|name| first.dir.join("data/pods/u1").join(name));
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let second = World::new("adopt", runtime.clone(), api).await;
    until("adopted", || second.tape.story("u1").contains("adopted")).await;
    assert_eq!(runtime.starts(), 1, "nothing was started again");
    until("what its containers need is there", || files.iter().all(|file| file.exists())).await;
    runtime.exit("c", 1);
    until("restarted", || second.api.pod("/status/containerStatuses/0/restartCount") == json!(1)).await;
    assert_eq!(runtime.starts(), 2);
    second.end().await;
}

#[tokio::test]
async fn a_pod_that_wants_a_forbidden_sysctl_is_refused() {
    let mut wanted = pod("Always");
    wanted["spec"]["securityContext"] = json!({"sysctls": [{"name": "kernel.core_pattern", "value": "|/evil"}]});
    let world = World::new("sysctl", Arc::new(Run::default()), Api::with(wanted)).await;
    until("failed", || world.api.pod("/status/phase") == json!("Failed")).await;
    assert_eq!(world.api.pod("/status/reason"), json!("SysctlForbidden"));
    let words = "forbidden sysctl: \"kernel.core_pattern\" not allowlisted";
    assert_eq!(world.api.pod("/status/message"), json!(format!("Pod was rejected: {words}")));
    assert_eq!(world.api.pod("/status/containerStatuses"), Value::Null);
    until("told", || world.api.events().contains(&format!("SysctlForbidden: {words}"))).await;
    assert!(world.runtime.sandboxes().is_empty() && world.runtime.starts() == 0);
    assert!(world.tape.story("u1").starts_with("PodRefused"), "{}", world.tape.story("u1"));
    world.api.delete(0);
    until("gone", || world.api.pod("") == Value::Null).await;
    world.end().await;
}
