//! The machine that the node runs on, as far as the Node object tells of it.

use std::path::Path;

/// Facts read once at start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
}

impl Machine {
    pub(crate) fn read() -> Machine {
        let memory_kib = meminfo("MemTotal:").unwrap_or(0);
        let machine_id = first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let uuid = first_of(&["/sys/class/dmi/id/product_uuid"]);
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory_bytes: memory_kib * 1024,
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: first_of(&["/proc/sys/kernel/random/boot_id"]),
            kernel: first_of(&["/proc/sys/kernel/osrelease"]),
            os_image: os_image().unwrap_or_else(|| "Linux".into()),
        }
    }
}

/// A value of /proc/meminfo in KiB.
pub(crate) fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn first_of(paths: &[&str]) -> String {
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(Path::new(path)).ok());
    texts.map(|text| text.trim().to_string()).find(|text| !text.is_empty()).unwrap_or_default()
}

fn os_image() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
    let text = text.ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_string())
}

/// Upstream's name of the architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Size and free space of the file system that holds a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) capacity_bytes: u64,
    pub(crate) available_bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

pub(crate) fn disk(path: &Path) -> Disk {
    let Ok(stat) = rustix::fs::statvfs(path) else { return Disk::default() };
    Disk {
        capacity_bytes: stat.f_blocks * stat.f_frsize,
        available_bytes: stat.f_bavail * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    }
}
