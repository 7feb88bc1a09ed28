//! A node for tests: its process, its files, and `kubectl` against it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up; nothing is expected to need a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    directory: tempfile::TempDir,
    number: u16,
    process: Mutex<Option<Child>>,
}

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
        let directory = tempfile::Builder::new().prefix("windlass-e2e").tempdir().unwrap();
        let node = Node { directory, number, process: Mutex::new(None) };
        node.up();
        node
    }

    /// Where the API server listens.
    pub fn port(&self) -> u16 {
        16_500 + self.number
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `windlass COMMAND` with this node's options.
    pub fn windlass(&self, arguments: &[&str]) -> Command {
        let n = self.number;
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(arguments).env("KUBECONFIG", self.path("user-kubeconfig"));
        let path = |name: &str| self.path(name).display().to_string();
        for (option, value) in [
            ("--data-dir", path("data")),
            ("--run-dir", path("run")),
            ("--pod-logs-dir", path("logs")),
            ("--kubeconfig", path("admin.conf")),
            ("--node-name", format!("node-{n}")),
            ("--secure-port", self.port().to_string()),
            ("--kubelet-port", (16_600 + n).to_string()),
            ("--proxy-healthz-bind-address", format!("127.0.0.1:{}", 16_700 + n)),
            ("--proxy-metrics-bind-address", format!("127.0.0.1:{}", 16_800 + n)),
            ("--bridge", format!("wle2e{n}")),
            // How full the machine is must not matter to a test.
            ("--eviction-hard", "memory.available<1Mi".to_owned()),
            ("--cgroup-root", format!("/windlass-e2e-{n}")),
            ("--cluster-cidr", format!("10.{}.0.0/16", 200 + n)),
            ("--service-cidr", format!("10.{}.0.0/16", 220 + n)),
        ] {
            command.arg(option).arg(value);
        }
        command
    }

    /// Starts the process; returns when the node is Ready.
    pub fn up(&self) {
        let output = std::fs::File::create(self.path("up.out")).unwrap();
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.path("up.err")).unwrap();
        let child = self.windlass(&["up"]).stdout(output).stderr(errors).spawn().unwrap();
        *self.process.lock().unwrap() = Some(child);
        eventually("the node is Ready", || {
            let ended = self.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "windlass up ended: {}", self.read("up.err"));
            self.read("up.out").contains("kubectl:").then_some(())
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

    /// Takes the node down; an error names what it left behind.
    pub fn down(&self) -> Result<(), String> {
        let output = self.windlass(&["down"]).output().unwrap();
        if let Some(mut child) = self.process.lock().unwrap().take() {
            child.wait().unwrap();
        }
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let left = self.left_behind();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    }

    /// The file that limits how many processes all the node's pods may have.
    pub fn process_limit(&self) -> PathBuf {
        let hierarchies = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(PathBuf::from);
        let limits = hierarchies.map(|path| path.join(format!("windlass-e2e-{}/pids.max", self.number)));
        limits.into_iter().find(|path| path.exists()).unwrap()
    }

    /// Mounts, interfaces, cgroups and processes of this node that are still there.
    pub fn left_behind(&self) -> Vec<String> {
        let place = self.directory.path().display().to_string();
        let mut left = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(&place)).map(|line| format!("mount {line}")));
        let bridge = format!("/sys/class/net/wle2e{}", self.number);
        left.extend(Path::new(&bridge).exists().then(|| bridge.clone()));
        for controller in ["memory", "pids", "unified", ""] {
            let path = format!("/sys/fs/cgroup/{controller}/windlass-e2e-{}", self.number);
            left.extend(Path::new(&path).exists().then_some(path));
        }
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

fn expect(output: Output) -> String {
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
