//! Real containers, as root, made from the machine's static busybox. Without root there is nothing to test here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use std::time::{Duration, Instant};

use common::{Node, collect};
use journal::RecordId;
use pods::ports::{
    ContainerPhase, ExecSpec, ImageMount, Mount, Resources, Runtime, RuntimeError, SandboxSpec, Seccomp, Security,
};
use runtime::Containers;

#[tokio::test(flavor = "multi_thread")]
async fn runs_logs_and_tells_the_exit_code() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let id = node.start(&pod, "main", &["sh", "-c", "echo out; echo err >&2; printf last; exit 3"]).await.unwrap();
    let exit = node.wait(&id).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, None, false));
    let log = node.log(&id);
    assert!(
        log.contains(" stdout F out\n") && log.contains(" stderr F err\n") && log.contains(" stdout P last\n"),
        "{log}"
    );
    let state = node.runtime.container(&id).await.unwrap();
    assert_eq!(state.phase, ContainerPhase::Exited);
    node.runtime.remove_container(&id).await.unwrap();
    node.runtime.remove_container(&id).await.unwrap();
    assert!(matches!(node.runtime.container(&id).await, Err(RuntimeError::NoSuchContainer(_))));
    assert!(!node.log(&id).is_empty(), "the log stays");
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_and_the_namespaces_are_its_own() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let script = "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -o link | grep -c lo; echo pid $$; \
                  yes | head -n 1; trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let id = node.start(&pod, "main", &["sh", "-c", script]).await.unwrap();
    node.log_contains(&id, "ready").await;
    let log = node.log(&id);
    assert!(log.contains("F the-host\n") && log.contains("F pid 1\n") && log.contains("F y\n"), "{log}");
    node.runtime.signal(&id, 15, RecordId(0)).await.unwrap();
    assert_eq!(node.wait(&id).await.code, 9);
    let id = node.start(&pod, "second", &["sleep", "1000"]).await.unwrap();
    node.runtime.signal(&id, 9, RecordId(0)).await.unwrap();
    let exit = node.wait(&id).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(matches!(node.runtime.signal(&id, 9, RecordId(0)).await, Err(RuntimeError::NotRunning)));
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_told_in_upstreams_words() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let told = |e: RuntimeError| match e {
        RuntimeError::CannotRun { code, message } => format!("{code} {message}"),
        other => format!("{other:?}"),
    };
    let missing = told(node.start(&pod, "a", &["nonsense"]).await.unwrap_err());
    insta::assert_snapshot!(missing, @r#"128 failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "nonsense": executable file not found in $PATH: unknown"#);
    let absent = told(node.start(&pod, "b", &["/no/such"]).await.unwrap_err());
    assert!(absent.ends_with(r#"exec: "/no/such": stat /no/such: no such file or directory: unknown"#), "{absent}");
    let denied = told(node.start(&pod, "c", &["/etc/passwd"]).await.unwrap_err());
    assert!(denied.ends_with(r#"exec: "/etc/passwd": permission denied: unknown"#), "{denied}");
    let id = node.start(&pod, "d", &["sleep", "1000"]).await.unwrap();
    let spec = |argv: &[&str]| ExecSpec {
        argv: argv.iter().map(|s| (*s).into()).collect(),
        stdout: true,
        ..ExecSpec::default()
    };
    let refused = told(node.runtime.exec(&id, &spec(&["nonsense"])).await.err().unwrap());
    insta::assert_snapshot!(refused, @r#"127 failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: exec: "nonsense": executable file not found in $PATH: unknown"#);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_streams_code_terminal_and_kill() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let mut spec = node.spec(&pod, "main", &["sleep", "1000"]);
    spec.security = Security {
        user: Some(1000),
        group: Some(2000),
        drop_capabilities: vec!["ALL".into()],
        seccomp: Seccomp::RuntimeDefault,
        no_new_privileges: true,
        ..Security::default()
    };
    spec.env = vec![("GREETING".into(), "hello".into())];
    node.create_and_start(&spec).await.unwrap();
    let id = spec.id.clone();
    let script =
        "cat; id -u; id -g; echo $GREETING; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; echo e >&2; exit 7";
    let session = node
        .runtime
        .exec(
            &id,
            &ExecSpec {
                argv: ["sh", "-c", script].map(String::from).to_vec(),
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false,
            },
        )
        .await
        .unwrap();
    let (out, err, code) = collect(session, Some("typed\n")).await;
    assert_eq!(out, "typed\n1000\n2000\nhello\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    assert_eq!((err.as_str(), code), ("e\n", 7));
    let argv = ["sh", "-c", "tty; stty size; exit 4"].map(String::from).to_vec();
    let terminal = ExecSpec { argv, tty: true, stdin: true, stdout: true, ..ExecSpec::default() };
    let (out, _, code) = collect(node.runtime.exec(&id, &terminal).await.unwrap(), None).await;
    assert!(out.starts_with("/dev/pts/") && code == 4, "{out} {code}");
    let argv = ["sleep", "1000"].map(String::from).to_vec();
    let session = node.runtime.exec(&id, &ExecSpec { argv, stdout: true, ..ExecSpec::default() }).await.unwrap();
    (session.kill)();
    assert_eq!(session.exit.await.unwrap(), 137);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reads_and_types() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let mut spec = node.spec(&pod, "main", &["sh", "-c", "read line; echo got $line"]);
    (spec.stdin, spec.stdin_once) = (true, true);
    node.create_and_start(&spec).await.unwrap();
    let session = node.runtime.attach(&spec.id, true).await.unwrap();
    let (out, _, code) = collect(session, Some("this\n")).await;
    assert_eq!((out.as_str(), code), ("got this\n", 0));
    let mut spec = node.spec(&pod, "tty", &["sh", "-c", "read line; tty; echo got $line"]);
    (spec.stdin, spec.tty) = (true, true);
    node.create_and_start(&spec).await.unwrap();
    let session = node.runtime.attach(&spec.id, true).await.unwrap();
    let (out, _, _) = collect(session, Some("that\n")).await;
    assert!(out.contains("/dev/console") || out.contains("/dev/pts/0"), "{out}");
    assert!(out.contains("got that\r\n"), "{out}");
    assert!(node.log(&spec.id).contains("stdout F got that\r\n"));
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oom_killer_is_seen() {
    let node = Node::new().await;
    let pod = node.pod().await;
    // tail keeps its whole input, which has no line end.
    let mut spec = node.spec(&pod, "main", &["sh", "-c", "tail -n 1 /dev/zero"]);
    spec.resources = Resources { memory_limit_bytes: Some(16 << 20), cpu_shares: Some(100), ..Resources::default() };
    node.create_and_start(&spec).await.unwrap();
    let exit = node.wait(&spec.id).await;
    assert!(exit.oom_killed && exit.code == 137, "{exit:?}");
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_mounts_devices_and_masks_are_as_ordered() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("f"), "from host").unwrap();
    let script = "touch /x && echo root-writable; touch /v/x && echo mount-writable; cat /v/f; echo; pwd; \
                  ls /dev; cat /proc/timer_list | wc -c; df -P /dev/shm | tail -n 1; ls -d /img/etc; \
                  echo x > /proc/sys/kernel/hostname || true; mknod /tmp/n b 8 0 && cat /tmp/n";
    let mut spec = node.spec(&pod, "main", &["sh", "-c", script]);
    spec.security.read_only_root = true;
    spec.working_dir = Some("/made/for/it".into());
    spec.mounts = vec![Mount { source: host.path().into(), target: "/v".into(), read_only: true, ..Mount::default() }];
    spec.image_mounts = vec![ImageMount { image: common::IMAGE.into(), target: "/img".into(), sub_path: None }];
    node.create_and_start(&spec).await.unwrap();
    node.wait(&spec.id).await;
    let log = node.log(&spec.id);
    for wanted in ["F from host\n", "F /made/for/it\n", "F null\n", "F /img/etc\n", "stdout F 0\n"] {
        assert!(log.contains(wanted), "{wanted:?} in {log}");
    }
    assert!(!log.contains("writable"), "{log}");
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_namespace_can_be_shared() {
    let node = Node::new().await;
    let pod = node.pod_with(|spec| spec.share_process_namespace = true).await;
    let first = node.start(&pod, "first", &["sleep", "1000"]).await.unwrap();
    let second =
        node.start(&pod, "second", &["sh", "-c", "ps | grep -c '[s]leep 1000'; sleep 2000 & exit 0"]).await.unwrap();
    node.wait(&second).await;
    assert!(node.log(&second).contains(" F 1\n"), "{}", node.log(&second));
    assert_eq!(node.runtime.container(&first).await.unwrap().phase, ContainerPhase::Running);
    let mut third = node.spec(&pod, "debug", &["sh", "-c", "ps | grep -q '[s]leep 1000'"]);
    third.join_process_namespace_of = Some(first);
    node.create_and_start(&third).await.unwrap();
    assert_eq!(node.wait(&third.id).await.code, 0);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn image_users_and_run_as_non_root() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let mut spec = node.spec(&pod, "main", &["id"]);
    spec.security.must_not_be_root = true;
    let refused = node.runtime.create_container(&spec).await.err().unwrap();
    let refused = refused.to_string().replace(&pod, "UID");
    insta::assert_snapshot!(refused, @r#"container has runAsNonRoot and image will run as root (pod: "pod_ns(UID)", container: main)"#);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_made_once_and_removed_wholly() {
    let node = Node::new().await;
    let pod = node
        .pod_with(|spec| {
            spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        })
        .await;
    let again = node.runtime.create_sandbox(&node.sandbox(&pod)).await.unwrap();
    assert!(again.network_namespace.as_ref().unwrap().exists());
    let id = node
        .start(&pod, "main", &["sh", "-c", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; sleep 1000"])
        .await
        .unwrap();
    node.log_contains(&id, "F 80\n").await;
    let stats = node.runtime.stats().await.unwrap();
    assert!(stats[0].memory_usage_bytes > 0 && stats[0].pids > 0, "{stats:?}");
    node.runtime.remove_sandbox(&pod, RecordId(0)).await.unwrap();
    node.runtime.remove_sandbox(&pod, RecordId(0)).await.unwrap();
    assert!(node.runtime.inventory().await.unwrap().is_empty());
    assert!(!again.network_namespace.unwrap().exists());
    let refused = node.runtime.create_sandbox(&SandboxSpec { user_namespace: true, ..node.sandbox(&pod) }).await;
    assert!(matches!(refused, Err(RuntimeError::Broken(_))));
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_can_be_rotated() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let id = node.start(&pod, "main", &["sh", "-c", "echo one; read x < /fifo; echo two; sleep 1000"]).await.unwrap();
    node.log_contains(&id, "F one\n").await;
    let path = node.runtime.container(&id).await.unwrap().log_path;
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    node.runtime.reopen_log(&id).await.unwrap();
    let argv = ["sh", "-c", "echo > /fifo"].map(String::from).to_vec();
    let session = node.runtime.exec(&id, &ExecSpec { argv, ..ExecSpec::default() }).await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 0);
    node.log_contains(&id, "F two\n").await;
    assert!(!node.log(&id).contains("one"));
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let began = Instant::now();
    let starts = (0..50).map(|n| {
        let spec = node.spec(&pod, &format!("c{n}"), &["sleep", "1000"]);
        let node = &node;
        async move { node.create_and_start(&spec).await }
    });
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
    let all = began.elapsed();
    let (private, pss) = node.shim_memory();
    println!("50 containers started in {all:?}; a shim: {private} kB private, {pss} kB proportional");
    assert!(private < 1024, "{private} kB private memory in a shim");
    assert!(all < Duration::from_secs(30));
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_devices_cannot_be_opened_unless_privileged() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let script = "mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg | wc -c; ls /dev | wc -l";
    let plain = node.start(&pod, "plain", &["sh", "-c", script]).await.unwrap();
    node.wait(&plain).await;
    let log = node.log(&plain);
    assert!(log.contains("Operation not permitted") && log.contains("stdout F 0\n"), "{log}");
    let mut spec = node.spec(&pod, "privileged", &["sh", "-c", "head -c 1 /dev/kmsg | wc -c; touch /sys/x 2>&1"]);
    spec.security.privileged = true;
    node.create_and_start(&spec).await.unwrap();
    node.wait(&spec.id).await;
    let log = node.log(&spec.id);
    assert!(!log.contains("Operation not permitted") && !log.contains("Read-only"), "{log}");
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_may_not_take_the_containers() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let id = node.start(&pod, "main", &["sleep", "1000"]).await.unwrap();
    let told = Containers::open(common::config(node.directory.path())).await.err().unwrap().to_string();
    assert!(told.ends_with("belong to another process that runs"), "{told}");
    assert_eq!(node.runtime.container(&id).await.unwrap().phase, ContainerPhase::Running);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_keeps_its_layers_when_its_name_goes() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let volume = "windlass.test/text:1";
    common::import_text(&node.runtime, volume, "still here");
    let mut spec = node.spec(&pod, "main", &["sleep", "1000"]);
    spec.image_mounts = vec![ImageMount { image: volume.into(), target: "/img".into(), sub_path: None }];
    node.create_and_start(&spec).await.unwrap();
    for image in [volume, common::IMAGE] {
        node.runtime.remove_image(image).await.unwrap();
        assert!(node.runtime.image(image).await.unwrap().is_none());
    }
    let read = async |path: &str| {
        let argv = ["/bin/cat", path].map(String::from).to_vec();
        let session = node.runtime.exec(&spec.id, &ExecSpec { argv, stdout: true, ..ExecSpec::default() }).await;
        collect(session.unwrap(), None).await.0
    };
    assert_eq!(read("/img/text").await, "still here");
    assert!(read("/etc/passwd").await.starts_with("root:"));
    let layers = node.directory.path().join("data/images/layers");
    let left = || std::fs::read_dir(&layers).unwrap().count();
    assert_eq!(left(), 4, "two layers, each with its size");
    node.runtime.remove_sandbox(&pod, RecordId(0)).await.unwrap();
    common::import_text(&node.runtime, "windlass.test/other:1", "another");
    node.runtime.remove_image("windlass.test/other:1").await.unwrap();
    assert_eq!(left(), 0);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_the_hosts_network_sees_its_interfaces_and_name() {
    let node = Node::new().await;
    let pod = node.pod_with(|spec| spec.host_network = true).await;
    assert!(node.runtime.inventory().await.unwrap()[0].sandbox.network_namespace.is_none());
    let links = "ls /sys/class/net | sort; cat /proc/sys/kernel/hostname";
    let id = node.start(&pod, "main", &["sh", "-c", &links.replace("| sort", "")]).await.unwrap();
    node.wait(&id).await;
    let here = std::process::Command::new("sh").args(["-c", links]).output().unwrap();
    let log = node.log(&id);
    for line in String::from_utf8(here.stdout).unwrap().lines() {
        assert!(log.contains(&format!(" F {line}\n")), "{line:?} in {log}");
    }
    node.down().await;
}

/// The directory of a container in the unified hierarchy.
fn unified_group(pid: u32) -> std::path::PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let hybrid = std::path::Path::new("/sys/fs/cgroup/unified");
    if hybrid.exists() { hybrid.join(path) } else { std::path::Path::new("/sys/fs/cgroup").join(path) }
}

/// Waits until the container has its first process alone, and this process no exec helper.
async fn only_the_first_process(pid: u32) {
    let procs = unified_group(pid).join("cgroup.procs");
    let own = std::process::id();
    let helpers = || {
        let threads = std::fs::read_dir(format!("/proc/{own}/task")).unwrap().flatten();
        let children: String =
            threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
        let is_exec = |pid: &&str| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("\0exec\0"))
        };
        children.split_whitespace().filter(is_exec).count()
    };
    let alone = async {
        while std::fs::read_to_string(&procs).unwrap().trim() != pid.to_string() || helpers() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(common::PATIENCE, alone).await;
    assert!(waited.is_ok(), "left: {:?} and {} helpers", std::fs::read_to_string(&procs), helpers());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_nobody_waits_for_is_killed() {
    let node = Node::new().await;
    let pod = node.pod().await;
    let id = node.start(&pod, "main", &["sleep", "1000"]).await.unwrap();
    let pid = node.runtime.container(&id).await.unwrap().pid.unwrap();
    let argv = ["sleep", "2000"].map(String::from).to_vec();
    let spec = ExecSpec { argv, ..ExecSpec::default() };
    // Given up at every moment of the way in.
    for tenths in 0..120 {
        let asked = node.runtime.exec(&id, &spec);
        if let Ok(session) = tokio::time::timeout(Duration::from_micros(100 * tenths), asked).await {
            (session.unwrap().kill)();
        }
    }
    only_the_first_process(pid).await;
    // Stuck on the way in: what enters a frozen group stands still there.
    let freeze = unified_group(pid).join("cgroup.freeze");
    std::fs::write(&freeze, "1").unwrap();
    let stuck = tokio::time::timeout(Duration::from_millis(200), node.runtime.exec(&id, &spec)).await;
    assert!(stuck.is_err(), "nothing starts in a frozen group");
    only_the_first_process(pid).await;
    std::fs::write(&freeze, "0").unwrap();
    node.down().await;
}

/// What a class of pods weighs against others.
fn class_weight(node: &Node, class: &str) -> u64 {
    let root = common::config(node.directory.path()).cgroup_root;
    let read = |path: String| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    read(format!("/sys/fs/cgroup/cpu{root}/{class}/cpu.shares"))
        .or_else(|| read(format!("/sys/fs/cgroup{root}/{class}/cpu.weight")))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn burstable_pods_weigh_what_they_request_together() {
    let node = Node::new().await;
    let shares = |cpu_shares| Resources { cpu_shares: Some(cpu_shares), ..Resources::default() };
    let burstable = async |cpu_shares| {
        let change = |spec: &mut SandboxSpec| {
            spec.qos_class = "Burstable".into();
            spec.resources = shares(cpu_shares);
        };
        node.pod_with(change).await
    };
    // 250 and 100 thousandths of a core, and a pod that requests memory alone.
    let (first, second, third) = (burstable(256).await, burstable(102).await, burstable(2).await);
    assert_eq!(class_weight(&node, "burstable"), 358);
    node.pod().await;
    assert_eq!(class_weight(&node, "besteffort"), 2);
    node.runtime.update_sandbox(&second, &shares(512)).await.unwrap();
    assert_eq!(class_weight(&node, "burstable"), 768);
    let config = common::config(node.directory.path());
    let node = node.reopen(config).await;
    node.runtime.remove_sandbox(&first, RecordId(0)).await.unwrap();
    assert_eq!(class_weight(&node, "burstable"), 512, "requests are known after a restart");
    node.runtime.remove_sandbox(&second, RecordId(0)).await.unwrap();
    node.runtime.remove_sandbox(&third, RecordId(0)).await.unwrap();
    assert_eq!(class_weight(&node, "burstable"), 2);
    node.down().await;
}
