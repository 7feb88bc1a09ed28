//! A node for tests: its process, its files, and `kubectl` against it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up; nothing is expected to need a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    directory: tempfile::TempDir,
    number: u16,
    /// The network namespace that is this node's host, by name; none: the machine's own.
    host: Option<String>,
    process: Mutex<Option<Child>>,
}

/// Keeps several runs of these tests on one machine apart: each has its own share of ports, addresses and names, which is
/// its own for as long as it holds the lock.
static SHARE: LazyLock<(u16, std::fs::File)> = LazyLock::new(|| {
    let take = |share: u16| {
        let path = Path::new("/tmp").join(format!("windlass-e2e-{share}.lock"));
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        file.try_lock().is_ok().then_some((share, file))
    };
    (0..20).find_map(take).expect("twenty other runs of these tests go on")
});

/// A namespace on a node.
pub struct Namespace<'a> {
    pub node: &'a Node,
    pub name: String,
}

pub fn kubectl_program() -> PathBuf {
    match std::env::var_os("KUBECTL") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/bin/kubectl"),
    }
}

/// Waits until `probe` gives something.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Node {
    /// Starts a node and waits until it says that it is Ready. Nodes of different numbers share nothing.
    pub fn start(number: u16) -> Node {
        let node = Node::new(number);
        node.up();
        node
    }

    /// A node that has not been started.
    pub fn new(number: u16) -> Node {
        let directory = tempfile::Builder::new().prefix("windlass-e2e").tempdir().unwrap();
        Node { directory, number, host: None, process: Mutex::new(None) }
    }

    /// A node on another host, which has not been started.
    pub fn on(host: &str, number: u16) -> Node {
        let mut node = Node::new(number);
        node.host = Some(host.to_owned());
        node
    }

    /// A program as it sees this node's host.
    fn program(&self, program: &str) -> Command {
        let Some(host) = &self.host else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{host}")).arg(program);
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What makes the node's names on the host differ from others'.
    pub fn tag(&self) -> String {
        format!("{}x{}", SHARE.0, self.number)
    }

    /// As the cluster knows it.
    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    pub fn bridge(&self) -> String {
        format!("wle{}", self.tag())
    }

    pub fn port(&self) -> u16 {
        17_000 + 100 * SHARE.0 + self.number
    }

    pub fn kubelet_port(&self) -> u16 {
        self.port() + 25
    }

    /// 1024 addresses that no other node has.
    fn range(&self, second: u16) -> String {
        format!("10.{}.{}.0/22", second + SHARE.0, 4 * self.number)
    }

    pub fn service_range(&self) -> String {
        self.range(220)
    }

    /// `windlass COMMAND` with this node's options.
    pub fn windlass(&self, arguments: &[&str]) -> Command {
        self.windlass_with(arguments, &[])
    }

    /// The same, with some options different.
    pub fn windlass_with(&self, arguments: &[&str], different: &[(&str, &str)]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_windlass"));
        command.args(arguments).env("KUBECONFIG", self.path("user-kubeconfig"));
        let path = |name: &str| self.path(name).display().to_string();
        for (option, value) in [
            ("--data-dir", path("data")),
            ("--run-dir", path("run")),
            ("--pod-logs-dir", path("logs")),
            ("--kubeconfig", path("admin.conf")),
            ("--node-name", self.name()),
            ("--secure-port", self.port().to_string()),
            ("--kubelet-port", self.kubelet_port().to_string()),
            ("--proxy-healthz-bind-address", format!("127.0.0.1:{}", self.port() + 50)),
            ("--proxy-metrics-bind-address", format!("127.0.0.1:{}", self.port() + 75)),
            // How full the machine is must not matter to a test.
            ("--eviction-hard", "memory.available<1Mi".to_owned()),
            ("--bridge", self.bridge()),
            ("--cgroup-root", format!("/windlass-e2e-{}", self.tag())),
            ("--cluster-cidr", self.range(200)),
            ("--service-cidr", self.service_range()),
        ] {
            let other = different.iter().find(|(name, _)| *name == option);
            command.arg(option).arg(other.map_or(value.as_str(), |(_, value)| value));
        }
        command
    }

    /// Starts the process; returns when the node is Ready.
    pub fn up(&self) {
        self.up_as(self.windlass(&["up"]));
    }

    /// The same with a command of `up` other than usual.
    pub fn up_as(&self, command: Command) {
        self.starts(command, "kubectl:");
    }

    /// The same with a command that says otherwise when it is done.
    pub fn starts(&self, mut command: Command, done: &str) {
        let output = std::fs::File::create(self.path("up.out")).unwrap();
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.path("up.err")).unwrap();
        let child = command.stdout(output).stderr(errors).spawn().unwrap();
        *self.process.lock().unwrap() = Some(child);
        eventually("the node is Ready", || {
            let ended = self.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "windlass up ended: {}", self.read("up.err"));
            self.read("up.out").contains(done).then_some(())
        });
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Kills the process as a crash would; containers stay.
    pub fn kill(&self) {
        let mut child = self.process.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the process by a signal that it heeds; containers stay.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let mut child = self.process.lock().unwrap().take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.read("up.err"));
    }

    /// Takes the node down; an error names what it left behind.
    pub fn down(&self) -> Result<(), String> {
        self.ends_by(&["down"])
    }

    /// The same by another command that does it.
    pub fn ends_by(&self, command: &[&str]) -> Result<(), String> {
        let ports = std::fs::read_dir(format!("/sys/class/net/{}/brif", self.bridge()));
        let ports: Vec<_> = ports.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
        let output = self.windlass(command).output().unwrap();
        if let Some(mut child) = self.process.lock().unwrap().take() {
            child.wait().unwrap();
        }
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let mut left = self.left_behind();
        let ports = ports.into_iter().map(|name| Path::new("/sys/class/net").join(name)).filter(|path| path.exists());
        left.extend(ports.map(|path| path.display().to_string()));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    }

    /// The file that limits how many processes all the node's pods may have.
    pub fn process_limit(&self) -> PathBuf {
        let hierarchies = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(PathBuf::from);
        let limits = hierarchies.map(|path| path.join(format!("windlass-e2e-{}/pids.max", self.tag())));
        limits.into_iter().find(|path| path.exists()).unwrap()
    }

    /// How many processes each container of a pod has that has any, whether or not somebody still knows of it.
    pub fn container_processes(&self, pod_uid: &str) -> Vec<usize> {
        let root = self.process_limit().parent().unwrap().to_owned();
        let classes = [root.join("besteffort"), root.join("burstable"), root];
        let mut pods = classes.into_iter().map(|class| class.join(format!("pod{pod_uid}")));
        let pod = pods.find(|path| path.exists()).unwrap_or_else(|| panic!("no cgroup of pod {pod_uid}"));
        let groups = std::fs::read_dir(pod).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let processes =
            groups.map(|group| std::fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().count());
        processes.filter(|count| *count > 0).collect()
    }

    /// Mounts, interfaces, rules, cgroups and processes of this node that are still there.
    pub fn left_behind(&self) -> Vec<String> {
        let place = self.directory.path().display().to_string();
        let mut left = Vec::new();
        // Network namespaces are pinned by mounts.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(&place)).map(|line| format!("mount {line}")));
        let bridge = self.bridge();
        let interface = format!("/sys/class/net/{bridge}");
        left.extend(Path::new(&interface).exists().then_some(interface));
        // Tables bear the bridge's name, and so do rules about it anywhere else, those of iptables included.
        let rules =
            expect(self.program("nft").args(["list", "ruleset"]).output().expect("package nftables is missing"));
        let words =
            |line: &&str| line.split([' ', '"']).any(|word| word == bridge || word.starts_with(&format!("{bridge}-")));
        left.extend(rules.lines().filter(words).map(|line| format!("rule {line}")));
        let routes = expect(
            self.program("ip").args(["route", "show", "table", "all"]).output().expect("package iproute2 is missing"),
        );
        // Routes to other nodes' pods bear our number and not the bridge's name.
        let own = |line: &&str| words(line) || self.host.is_some() && line.contains("proto 87");
        left.extend(routes.lines().filter(own).map(|line| format!("route {line}")));
        let group = format!("windlass-e2e-{}", self.tag());
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let groups = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|path| path.join(&group));
        left.extend(groups.filter(|path| path.exists()).map(|path| path.display().to_string()));
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&place) {
                left.push(format!("process {line}"));
            }
        }
        left
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(kubectl_program());
        command.arg("--kubeconfig").arg(self.path("admin.conf")).args(arguments).stdin(Stdio::null());
        // Its discovery cache must not outlive the node.
        command.env("KUBECACHEDIR", self.path("kubectl-cache"));
        command
    }

    pub fn namespace(&self, test: &str) -> Namespace<'_> {
        let name = test.replace('_', "-");
        let namespace = Namespace { node: self, name };
        expect(self.kubectl(&["create", "namespace", &namespace.name]).output().unwrap());
        eventually("the namespace has its service account", || {
            namespace.try_kubectl(&["get", "serviceaccount", "default"]).ok()
        });
        namespace
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process.lock().is_ok_and(|process| process.is_some())
            && let Err(left) = self.down()
        {
            eprintln!("the node was not taken down cleanly: {left}");
        }
    }
}

pub fn expect(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

impl Namespace<'_> {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut all = vec!["--namespace", self.name.as_str()];
        all.extend(arguments);
        self.node.kubectl(&all)
    }

    /// Standard output of a command that must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "kubectl {}: {}{text}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Standard output, or standard error of a command that failed.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The words of a command that must fail.
    pub fn refused(&self, arguments: &[&str]) -> String {
        match self.try_kubectl(arguments) {
            Ok(text) => panic!("kubectl {} succeeded: {text}", arguments.join(" ")),
            Err(words) => words.trim().to_owned(),
        }
    }

    /// `kubectl COMMAND -f -` with a manifest.
    pub fn with_input(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
    }

    pub fn apply(&self, manifest: &str) -> String {
        self.with_input(&["apply", "-f", "-"], manifest).unwrap_or_else(|words| panic!("{words}\n{manifest}"))
    }

    /// One value of an object, by JSONPath.
    pub fn value(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Waits until a value of an object is as wanted.
    pub fn becomes(&self, object: &str, path: &str, wanted: &str) {
        let query = format!("jsonpath={path}");
        let mut last = String::new();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            last = self.try_kubectl(&["get", object, "-o", &query]).unwrap_or_else(|words| words);
            if last == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let story = self.try_kubectl(&["describe", object]).unwrap_or_default();
        panic!("{object} {path} is {last:?} and not {wanted:?}\n{story}");
    }

    /// A pod that runs a shell script in the built-in image.
    pub fn run_script(&self, name: &str, script: &str, more: &str) {
        let quoted = serde_json::to_string(script).unwrap();
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  containers:\n  - name: main\n    image: {IMAGE}\n    command: [sh, -c, {quoted}]\n{more}"
        ));
    }
}

/// The image that the binary carries.
pub const IMAGE: &str = "windlass.local/toolbox:v1";
