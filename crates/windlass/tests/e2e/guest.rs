//! A host whose control groups are of version 2 alone: a small virtual machine, emulated, with Debian's cloud kernel and
//! nothing else in it than busybox, kubectl and this program. What it checks is in `guest/main.sh`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Alone;
use crate::node::kubectl_program;

pub const TESTS: &[(&str, Alone)] = &[("pods_run_on_control_groups_v2", guest)];

/// An emulated processor is slow, and slower where others build.
const PATIENCE: Duration = Duration::from_secs(600);
/// Kernel modules that pods and their network need, besides what these need.
const MODULES: &[&str] = &["kernel/net", "kernel/lib", "kernel/fs/overlayfs", "kernel/drivers/net/veth.ko"];
const APPLETS: &str =
    "sh mount umount cp ls cat echo mkdir switch_root modprobe poweroff sleep ip grep hostname seq test";

fn guest() {
    let kernel = kernel();
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("initramfs");
    pack(directory.path(), &image, &kernel);
    let mut machine = Command::new("qemu-system-x86_64")
        .args("-machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 4G -nic none".split(' '))
        .args("-display none -serial stdio -monitor none -no-reboot".split(' '))
        .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"])
        .arg("-kernel")
        .arg(unpacked().join(format!("boot/vmlinuz-{kernel}")))
        .arg("-initrd")
        .arg(&image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("package qemu-system-x86 is missing (scripts/packages.sh test)");
    let console = BufReader::new(machine.stdout.take().unwrap());
    let (told, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines: Vec<String> = console.lines().map_while(Result::ok).collect();
        // Nobody listens any more when patience has ended.
        drop(told.send(lines.join("\n")));
    });
    let console = end.recv_timeout(PATIENCE);
    machine.kill().unwrap();
    machine.wait().unwrap();
    let console = console.expect("the guest does not power off");
    assert!(console.lines().any(|line| line.trim() == "VERDICT passed"), "{console}");
}

/// Where `scripts/kernel.sh` puts Debian's cloud kernel and its modules.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/bin/kernel")
}

/// The kernel's release, as its modules' directory is named.
fn kernel() -> String {
    let found = std::fs::read_dir(unpacked().join("lib/modules")).expect("no kernel: run scripts/kernel.sh");
    let release = found.flatten().next().expect("the kernel has no modules");
    release.file_name().into_string().unwrap()
}

/// Writes the guest's files as the kernel wants them.
fn pack(directory: &Path, image: &Path, kernel: &str) {
    let root = directory.join("root");
    let at = |path: &str| -> PathBuf { root.join(path) };
    for path in ["bin", "sbin", "etc", "dev", "proc"] {
        std::fs::create_dir_all(at(path)).unwrap();
    }
    for (path, text) in [
        ("init", include_str!("guest/init.sh")),
        ("main.sh", include_str!("guest/main.sh")),
        ("pods.yaml", include_str!("guest/pods.yaml")),
    ] {
        std::fs::write(at(path), text).unwrap();
    }
    std::fs::copy("/bin/busybox", at("bin/busybox")).expect("package busybox-static is missing");
    std::fs::copy(kubectl_program(), at("bin/kubectl")).unwrap();
    for applet in APPLETS.split(' ').map(|name| format!("bin/{name}")).chain(["sbin/modprobe".to_owned()]) {
        std::os::unix::fs::symlink("/bin/busybox", at(&applet)).unwrap();
    }
    let modules = Path::new("/lib/modules").join(kernel);
    let source = unpacked().canonicalize().unwrap().join("lib/modules").join(kernel);
    let kept = MODULES.join(" ");
    let script = format!(
        "chmod 755 {root}/init
         strip -o {root}/bin/windlass {windlass}
         mkdir -p {root}{modules}
         cd {source}
         cp --parents -r {kept} modules.dep modules.alias modules.softdep modules.symbols modules.builtin {root}{modules}
         cd {root}
         find . | cpio --quiet -o -H newc > {image}",
        root = root.display(),
        windlass = env!("CARGO_BIN_EXE_windlass"),
        modules = modules.display(),
        source = source.display(),
        image = image.display(),
    );
    let packed = Command::new("sh").args(["-ec", &script]).output().unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
}
