//! `windlass image` beside a running node, with a real registry (Debian's `docker-registry`).

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Shared;
use crate::node::{Namespace, eventually};

pub const TESTS: &[(&str, Shared)] = &[("images_come_and_go_beside_a_running_node", images)];

struct Registry {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Registry {
    fn start() -> Registry {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            directory.path().join("store").display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("/usr/bin/docker-registry");
        command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("package docker-registry");
        // It says when it listens; the rest of what it says is read away so that it never blocks.
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on")), "no registry");
        std::thread::spawn(move || lines.for_each(drop));
        Registry { process, port, directory }
    }

    /// `127.0.0.1:PORT/NAME`
    fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Puts an archive into the registry.
    fn push(&self, archive: &Path, name: &str) {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        command.arg(format!("docker-archive:{}", archive.display())).arg(format!("docker://{}", self.name(name)));
        succeed(&mut command);
    }

    /// An archive as `docker save` writes it, with busybox and a message for its only file and command.
    fn archive(&self, name: &str, message: &str) -> std::path::PathBuf {
        let place = tempfile::tempdir_in(self.directory.path()).unwrap();
        let at = |name: &str| place.path().join(name);
        let run = |command: &str| succeed(Command::new("sh").args(["-ec", command]).current_dir(place.path()));
        run("mkdir -p root/bin && cp /bin/busybox root/bin/ && tar -C root -cf layer.tar bin");
        let digest = run("sha256sum layer.tar");
        let digest = digest.split_whitespace().next().unwrap();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": ["/bin/busybox", "echo", message]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        std::fs::write(at("config.json"), config.to_string()).unwrap();
        let tags = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        std::fs::write(at("manifest.json"), tags.to_string()).unwrap();
        let archive = self.directory.path().join(format!("{}.tar", message.replace(' ', "-")));
        run(&format!("tar -cf {} manifest.json config.json layer.tar", archive.display()));
        archive
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A pod that must find its image here.
fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers: [{{name: main, image: '{image}', imagePullPolicy: Never}}]\n"
    )
}

fn images(ns: &Namespace) {
    let registry = Registry::start();
    let (pulled, imported) = (registry.name("some/app:v1"), "windlass.test/imported:v2");
    registry.push(&registry.archive("app:v1", "from a registry"), "some/app:v1");
    let image = |arguments: &[&str]| {
        let mut all = vec!["image"];
        all.extend(arguments);
        ns.node.windlass(&all)
    };
    // A pod runs on through all of it.
    ns.run_script("bystander", "exec sleep infinity", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/bystander", "--timeout=60s"]);

    let told = succeed(&mut image(&["pull", &pulled]));
    assert!(told.starts_with(&registry.name("some/app@sha256:")), "{told}");
    let archive = registry.archive(imported, "from an archive");
    assert_eq!(succeed(&mut image(&["import", archive.to_str().unwrap()])).trim(), imported);
    let listed = succeed(&mut image(&["ls"]));
    for name in [pulled.as_str(), imported, crate::node::IMAGE] {
        assert!(listed.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name} in {listed}");
    }
    // The node has seen what came, though it had its index read before.
    for (name, image, message) in [("p", pulled.as_str(), "from a registry"), ("i", imported, "from an archive")] {
        ns.apply(&pod(name, image));
        ns.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{name}"), "--timeout=60s"]);
        assert_eq!(ns.kubectl(&["logs", name]).trim(), message);
    }
    // And sees what went.
    assert_eq!(succeed(&mut image(&["rm", &pulled, imported])).lines().count(), 2);
    let refused = image(&["rm", imported]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no such image"), "{refused:?}");
    ns.apply(&pod("late", &pulled));
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    eventually("the image is missed", || (ns.value("pod/late", reason) == "ErrImageNeverPull").then_some(()));
    let restarts = "{.status.phase} {.status.containerStatuses[0].restartCount}";
    assert_eq!(ns.value("pod/bystander", restarts), "Running 0");
}
