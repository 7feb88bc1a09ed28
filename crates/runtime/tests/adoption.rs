//! The node's process is killed; its containers, their logs and their exit statuses are not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{IMAGE, Node, config, import_busybox, log_contains};
use journal::RecordId;
use pods::ports::{ContainerId, ContainerPhase, Runtime};
use runtime::Containers;

const DIRECTORY: &str = "WINDLASS_TEST_DIRECTORY";

/// The process that is killed: this test program again, running this one test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test that kills it"]
async fn victim() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let runtime = Containers::open(config(&directory)).await.unwrap();
    import_busybox(&runtime);
    let node = std::mem::ManuallyDrop::new(Node { runtime, directory: tempfile::tempdir_in(&directory).unwrap() });
    let uid = "11111111-2222-3333-4444-555555555555";
    let mut sandbox = node.sandbox(uid);
    sandbox.log_directory = directory.join("log").join(uid);
    node.runtime.create_sandbox(&sandbox).await.unwrap();
    let running = "trap 'exit 6' TERM; echo begun; while :; do echo tick; sleep 0.02; done";
    node.start(uid, "running", &["sh", "-c", running]).await.unwrap();
    let ending = node.start(uid, "ending", &["sh", "-c", "read x < /fifo; echo late; exit 5"]).await.unwrap();
    let pid = node.runtime.container(&ending).await.unwrap().pid.unwrap();
    println!("\nREADY {pid}");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_process_and_are_adopted() {
    let directory = common::directory();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pid = lines.filter_map(|l| l.strip_prefix("READY ").map(str::to_owned)).next().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let id = |name: &str| ContainerId {
        pod_uid: "11111111-2222-3333-4444-555555555555".into(),
        name: name.into(),
        attempt: 0,
    };
    // One ends while nobody is there, and both go on writing.
    std::fs::write(format!("/proc/{pid}/root/fifo"), "now\n").unwrap();
    log_contains(directory.path(), &id("ending"), "late").await;
    let written = common::log(directory.path(), &id("running")).len();
    while common::log(directory.path(), &id("running")).len() == written {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let runtime = Containers::open(config(directory.path())).await.unwrap();
    println!("adopted in {:?}", began.elapsed());
    let node = Node { runtime, directory };
    let inventory = node.runtime.inventory().await.unwrap();
    let phases: Vec<(String, ContainerPhase)> =
        inventory[0].containers.iter().map(|c| (c.id.name.clone(), c.phase)).collect();
    assert_eq!(phases.len(), 2);
    let running = node.runtime.container(&id("running")).await.unwrap();
    assert_eq!((running.phase, running.image.as_str()), (ContainerPhase::Running, IMAGE));
    assert_eq!(node.wait(&id("ending")).await.code, 5);
    node.runtime.signal(&id("running"), 15, RecordId(0)).await.unwrap();
    assert_eq!(node.wait(&id("running")).await.code, 6);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_shim_was_killed_is_ended() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let id = node.start(&pod, "main", &["sleep", "1000"]).await.unwrap();
    let pid = node.runtime.container(&id).await.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim: i32 = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(node.wait(&id).await.code, 137);
    node.down().await;
}
