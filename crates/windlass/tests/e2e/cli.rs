//! The command line beside a running node: what needs no root, what does, versions, completion.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::Alone;
use crate::node::{Node, eventually, expect, kubectl_program};

pub const TESTS: &[(&str, Alone)] = &[
    ("version_and_completion_are_printed", printed),
    ("a_node_needs_root_and_says_so", no_root),
    ("a_control_plane_alone_needs_no_root", control_plane),
];

/// What the user `nobody` can run: a copy of the binary, for the build directory may be closed to others.
pub struct Nobody {
    home: tempfile::TempDir,
}

const NOBODY: u32 = 65534;

impl Nobody {
    pub fn new() -> Nobody {
        let home = tempfile::Builder::new().prefix("windlass-e2e-nobody").tempdir().unwrap();
        chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_windlass"), home.path().join("windlass")).unwrap();
        std::fs::set_permissions(home.path().join("windlass"), PermissionsExt::from_mode(0o755)).unwrap();
        Nobody { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn windlass(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("windlass"));
        command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null());
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command
    }
}

fn windlass(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windlass")).args(arguments).output().unwrap()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed() {
    let version = expect(windlass(&["version"]));
    assert_eq!(version, format!("windlass {} (Kubernetes v1.37.2)\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(expect(windlass(&["--version"])), version);
    for (shell, part) in
        [("bash", "complete -F _windlass"), ("zsh", "#compdef windlass"), ("fish", "complete -c windlass")]
    {
        let script = expect(windlass(&["completion", shell]));
        assert!(script.contains(part) && script.contains("control-plane-only"), "{shell}: {script}");
    }
    // The shell that every machine has takes the script and offers what fits.
    let script = "eval \"$($0 completion bash)\"; COMP_WORDS=(windlass re); COMP_CWORD=1; _windlass windlass re windlass; echo ${COMPREPLY[@]}";
    let offered = Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_windlass")]).output().unwrap();
    assert_eq!(expect(offered), "reset\n");
    let words = failed(&windlass(&["up", "--node-name", "No_Name", "--data-dir", "/nonexistent/data"]));
    assert!(
        words.contains("--node-name: Invalid value: \"No_Name\": a lowercase RFC 1123 subdomain must consist of"),
        "{words}"
    );
}

fn no_root() {
    let nobody = Nobody::new();
    let words = failed(&nobody.windlass(&["up"]).output().unwrap());
    assert_eq!(
        words,
        "windlass: a node needs root (containers, mounts, network): run `sudo windlass up`, or `windlass up --control-plane-only` \
         for an API server without a node\n"
    );
    let words = failed(&nobody.windlass(&["image", "ls"]).output().unwrap());
    assert!(words.contains("run this as root (sudo windlass image ...)"), "{words}");
    let made: Vec<_> = std::fs::read_dir(nobody.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["windlass"], "a refused command left something behind");
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn control_plane() {
    let (nobody, number) = (Nobody::new(), Node::new(12));
    let port = number.port().to_string();
    let config = nobody.path("windlass.yaml");
    std::fs::write(&config, format!("control-plane-only: true\nsecure-port: {port}\n")).unwrap();
    let output = std::fs::File::create(nobody.path("out")).unwrap();
    let up =
        nobody.windlass(&["up", "--config", config.to_str().unwrap()]).stdout(output).stderr(Stdio::inherit()).spawn();
    let mut up = Running(up.unwrap());
    let said = eventually("the control plane is up", || {
        assert!(up.0.try_wait().unwrap().is_none(), "it ended");
        Some(std::fs::read_to_string(nobody.path("out")).unwrap()).filter(|text| text.contains("kubectl:"))
    });
    let kubeconfig = nobody.path(".local/share/windlass/admin.conf");
    assert!(said.contains(&format!("export KUBECONFIG={}", kubeconfig.display())), "{said}");
    let kubectl = |arguments: &[&str]| {
        // As the user would: with the context that was merged into its own kubeconfig.
        let mut command = Command::new(kubectl_program());
        expect(command.args(arguments).env("HOME", nobody.home.path()).env_remove("KUBECONFIG").output().unwrap())
    };
    kubectl(&["create", "deployment", "d", "--image=none.invalid/x:v1", "--replicas=2"]);
    eventually("the controllers work", || {
        let pods = kubectl(&["get", "pods", "-o", "name"]);
        (pods.lines().count() == 2).then_some(())
    });
    eventually("the scheduler works", || {
        let words = kubectl(&[
            "get",
            "events",
            "--field-selector=reason=FailedScheduling",
            "-o",
            "jsonpath={.items[*].message}",
        ]);
        words.contains("no nodes available to schedule pods").then_some(())
    });
    let socket = Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output().unwrap();
    assert!(String::from_utf8_lossy(&socket.stdout).contains(&format!("127.0.0.1:{port}")), "not on loopback alone");
    let words = expect(nobody.windlass(&["down"]).output().unwrap());
    assert!(words.contains("stopped"), "{words}");
    assert!(up.0.wait().unwrap().success());
    expect(nobody.windlass(&["reset", "--yes"]).output().unwrap());
    assert!(!nobody.path(".local/share/windlass").exists());
}
