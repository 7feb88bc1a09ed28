//! A disk that is full, and one that can only be read.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::Alone;
use crate::node::{Node, eventually, expect};

pub const TESTS: &[(&str, Alone)] =
    &[("a_full_disk_refuses_writes_and_loses_nothing", full), ("a_read_only_disk_is_told", read_only)];

/// A control plane on a mounted file system of its own.
struct Mounted {
    node: Node,
    place: PathBuf,
    process: Option<Child>,
}

impl Mounted {
    fn new(number: u16, make: impl FnOnce(&Path)) -> Mounted {
        let node = Node::new(number);
        let place = node.path("disk");
        std::fs::create_dir(&place).unwrap();
        make(&place);
        Mounted { node, place, process: None }
    }

    fn up(&self) -> Command {
        let data = self.place.join("data").display().to_string();
        let mut command =
            self.node.windlass_with(&["up", "--control-plane-only", "--no-merge-kubeconfig"], &[("--data-dir", &data)]);
        command.stdin(Stdio::null());
        command
    }

    fn start(&mut self) {
        let output = std::fs::File::create(self.node.path("up.out")).unwrap();
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.node.path("up.err")).unwrap();
        self.process = Some(self.up().stdout(output).stderr(errors).spawn().unwrap());
        eventually("the control plane is up", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "windlass up ended: {}", self.node.read("up.err"));
            self.node.read("up.out").contains("kubectl:").then_some(())
        });
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A config map of nearly the size that is allowed; the error of one that could not be made.
    fn create(&self, name: &str) -> Result<(), String> {
        let file = self.node.path("large");
        std::fs::write(&file, "0123456789abcdef".repeat(50_000)).unwrap();
        let from = format!("--from-file={}", file.display());
        let output = self.node.kubectl(&["create", "configmap", name, &from]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn names(&self) -> Vec<String> {
        let listed = expect(self.node.kubectl(&["get", "configmaps", "-o", "name"]).output().unwrap());
        listed.lines().filter_map(|line| line.strip_prefix("configmap/m")).map(|name| format!("m{name}")).collect()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.kill();
        unmount(&self.place, UnmountFlags::DETACH).unwrap();
    }
}

fn full() {
    let mut disk = Mounted::new(10, |place| {
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), Some(c"size=128m")).unwrap();
    });
    disk.start();
    let mut acknowledged = Vec::new();
    // All the space that the store has not taken yet is somebody else's.
    let filler = std::fs::File::create(disk.place.join("filler")).unwrap();
    let block = vec![1; 1 << 16];
    let mut length = 0;
    while let Ok(written) = filler.write_at(&block, length) {
        length += written as u64;
    }
    let words = (0..)
        .find_map(|n| {
            let name = format!("m{n}");
            disk.create(&name).map(|()| acknowledged.push(name)).err()
        })
        .unwrap();
    assert!(words.contains("the store cannot write") && words.contains("No space left on device"), "{words}");
    assert_eq!(disk.names().len(), acknowledged.len(), "reads do not go on");
    assert!(disk.create("refused").is_err());
    filler.set_len(0).unwrap();
    eventually("writes work again", || disk.create("mafter").ok());
    acknowledged.push("mafter".to_owned());
    disk.kill();
    disk.start();
    let mut found = disk.names();
    found.sort();
    acknowledged.sort();
    assert_eq!(found, acknowledged);
}

fn read_only() {
    let mut disk = Mounted::new(11, |place| mount_bind(place, place).unwrap());
    let again = |flags| mount_remount(disk.node.path("disk"), MountFlags::BIND | flags, "").unwrap();
    let refused = |disk: &Mounted| {
        let output = disk.up().output().unwrap();
        assert!(!output.status.success());
        let words = String::from_utf8(output.stderr).unwrap();
        let place = disk.place.join("data").display().to_string();
        assert!(words.contains(&place) && words.contains("Read-only file system"), "{words}");
    };
    again(MountFlags::RDONLY);
    refused(&disk);
    again(MountFlags::empty());
    disk.start();
    disk.create("mbefore").unwrap();
    disk.kill();
    mount_remount(disk.node.path("disk"), MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
    refused(&disk);
    mount_remount(disk.node.path("disk"), MountFlags::BIND, "").unwrap();
    disk.start();
    assert_eq!(disk.names(), ["mbefore"]);
}
