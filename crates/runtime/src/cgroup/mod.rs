//! Control groups, both generations. Under v1 a group is one directory in each controller's hierarchy, and beside it one
//! in the unified hierarchy (for freeze, kill and events) and in systemd's; under v2 it is one directory.
//!
//! Paths given to this module start with `/` and are relative to each hierarchy's root.

mod device;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pods::ports::{ContainerStats, Resources};

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq)]
struct Hierarchy {
    mount: PathBuf,
    /// Its controllers; empty for the unified hierarchy beside v1; `name=systemd` for systemd's.
    controllers: Vec<String>,
}

/// The machine's hierarchies.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// Only the unified hierarchy is there.
    pub pure_v2: bool,
}

const V2_CONTROLLERS: &[&str] = &["cpu", "cpuset", "io", "memory", "hugetlb", "pids"];

impl Cgroups {
    pub fn detect() -> io::Result<Self> {
        let found = Self::from_mountinfo(&std::fs::read_to_string("/proc/self/mountinfo")?);
        if found.hierarchies.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no control group hierarchy is mounted"));
        }
        Ok(found)
    }

    fn from_mountinfo(text: &str) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        let mut v2 = false;
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
            // The same hierarchy may be mounted again elsewhere (in a container's files); the first is the system's.
            if !mount.starts_with("/sys/fs/cgroup") {
                continue;
            }
            let controllers = match kind {
                "cgroup2" => {
                    v2 |= mount == Path::new("/sys/fs/cgroup");
                    Vec::new()
                }
                "cgroup" => options.split(',').filter(|o| !matches!(*o, "rw" | "ro")).map(str::to_owned).collect(),
                _ => continue,
            };
            if !hierarchies.iter().any(|h| h.controllers == controllers) {
                hierarchies.push(Hierarchy { mount, controllers });
            }
        }
        Self { hierarchies, pure_v2: v2 }
    }

    fn directory(&self, hierarchy: &Hierarchy, path: &str) -> PathBuf {
        hierarchy.mount.join(path.trim_start_matches('/'))
    }

    /// The directory in which a controller's files of a group are.
    pub fn controller(&self, controller: &str, path: &str) -> Option<PathBuf> {
        self.hierarchies
            .iter()
            .find(
                |h| if self.pure_v2 { h.controllers.is_empty() } else { h.controllers.iter().any(|c| c == controller) },
            )
            .map(|h| self.directory(h, path))
    }

    fn unified(&self, path: &str) -> Option<PathBuf> {
        self.hierarchies.iter().find(|h| h.controllers.is_empty()).map(|h| self.directory(h, path))
    }

    /// Every directory of a group.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|h| self.directory(h, path)).collect()
    }

    /// `cgroup.procs` files of a group in the hierarchies that libcontainer leaves alone.
    pub fn procs_beside(&self, path: &str) -> Vec<PathBuf> {
        if self.pure_v2 {
            return Vec::new();
        }
        self.hierarchies
            .iter()
            .filter(|h| h.controllers.is_empty() || h.controllers.iter().any(|c| c.starts_with("name=")))
            .map(|h| self.directory(h, path).join("cgroup.procs"))
            .collect()
    }

    /// Every `cgroup.procs` file of a group.
    pub fn procs(&self, path: &str) -> Vec<PathBuf> {
        self.directories(path).into_iter().map(|d| d.join("cgroup.procs")).collect()
    }

    /// The file that counts the OOM killer's victims in a group.
    pub fn oom_file(&self, path: &str) -> PathBuf {
        let name = if self.pure_v2 { "memory.events" } else { "memory.oom_control" };
        self.controller("memory", path).unwrap_or_default().join(name)
    }

    /// Makes a group and its parents and limits it.
    pub fn create(&self, path: &str, resources: &Resources) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            let mut at = hierarchy.mount.clone();
            for part in path.split('/').filter(|p| !p.is_empty()) {
                if self.pure_v2 {
                    delegate(&at);
                }
                let parent = at.clone();
                at.push(part);
                match std::fs::create_dir(&at) {
                    Ok(()) if hierarchy.controllers.iter().any(|c| c == "cpuset") => inherit_cpuset(&parent, &at)?,
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(at_path(&at, e)),
                }
            }
        }
        self.limit(path, resources, false)
    }

    /// Under v2, has the OOM killer end a container as a whole: half a container helps nobody.
    /// kubernetes/kubernetes pkg/kubelet/kuberuntime: so unless the kubelet is told `singleProcessOOMKill`.
    pub fn end_as_a_whole(&self, path: &str) -> io::Result<()> {
        match self.unified(path) {
            Some(group) if self.pure_v2 => {
                let file = group.join("memory.oom.group");
                std::fs::write(&file, "1").map_err(|e| at_path(&file, e))
            }
            _ => Ok(()),
        }
    }

    /// Under v2, denies a container's group all devices but the usual ones. Under v1 libcontainer does it.
    pub fn restrict_devices(&self, path: &str) -> io::Result<()> {
        match self.unified(path) {
            Some(group) if self.pure_v2 => {
                device::restrict(&group).map_err(|e| io::Error::new(e.kind(), format!("restrict devices: {e}")))
            }
            _ => Ok(()),
        }
    }

    /// Hierarchies (of those that services are kept in) where this process is inside a group that is not the root.
    pub fn own_procs_beside(&self, path: &str) -> Vec<PathBuf> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        self.hierarchies
            .iter()
            .filter(|h| {
                let name = h.controllers.join(",");
                let at = own.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(&name)?.strip_prefix(':'));
                at.is_some_and(|at| at != "/")
                    && (h.controllers.is_empty() || h.controllers.iter().any(|c| c.starts_with("name=")))
            })
            .map(|h| self.directory(h, path).join("cgroup.procs"))
            .collect()
    }

    /// Writes the limits of an existing group; what is `None` becomes unlimited again.
    pub fn update(&self, path: &str, resources: &Resources) -> io::Result<()> {
        self.limit(path, resources, true)
    }

    fn limit(&self, path: &str, resources: &Resources, reset: bool) -> io::Result<()> {
        let files = if self.pure_v2 { v2_files(resources, reset) } else { v1_files(resources, reset) };
        for (controller, file, value, needed) in files {
            let Some(directory) = self.controller(controller, path) else {
                if needed {
                    return Err(io::Error::other(format!("this machine has no {controller} cgroup controller")));
                }
                continue;
            };
            let file = directory.join(file);
            if let (Err(e), true) = (std::fs::write(&file, &value), needed) {
                return Err(io::Error::new(e.kind(), format!("write {value} to {}: {e}", file.display())));
            }
        }
        Ok(())
    }

    /// The processes of a group and of the groups below it.
    pub fn processes(&self, path: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        for directory in self.directories(path) {
            collect_processes(&directory, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills every process of a group and of the groups below it, and waits until they are gone.
    pub fn kill(&self, path: &str, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        loop {
            if let Some(unified) = self.unified(path) {
                // At once and without a race against forks, where the kernel has it.
                let _killed = std::fs::write(unified.join("cgroup.kill"), "1");
            }
            let pids = self.processes(path);
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                let _killed =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("processes {pids:?} of {path} do not end")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes an empty group with the groups below it.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut first_error = None;
        for directory in self.directories(path) {
            if let Err(e) = remove_tree(&directory) {
                first_error.get_or_insert(at_path(&directory, e));
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// What a group uses.
    pub fn stats(&self, path: &str) -> ContainerStats {
        let read = |controller: &str, file: &str| -> Option<String> {
            std::fs::read_to_string(self.controller(controller, path)?.join(file)).ok()
        };
        let number = |controller: &str, file: &str| read(controller, file).and_then(|t| t.trim().parse::<u64>().ok());
        let memory_stat = read("memory", "memory.stat").unwrap_or_default();
        let (cpu, usage, inactive, rss) = if self.pure_v2 {
            let cpu = keyed(&read("cpu", "cpu.stat").unwrap_or_default(), "usage_usec") * 1000;
            (cpu, number("memory", "memory.current"), "inactive_file", "anon")
        } else {
            let cpu = number("cpuacct", "cpuacct.usage").unwrap_or(0);
            (cpu, number("memory", "memory.usage_in_bytes"), "total_inactive_file", "total_rss")
        };
        let usage = usage.unwrap_or(0);
        ContainerStats {
            cpu_usage_core_ns: cpu,
            memory_usage_bytes: usage,
            memory_working_set_bytes: usage.saturating_sub(keyed(&memory_stat, inactive)),
            memory_rss_bytes: keyed(&memory_stat, rss),
            pids: number("pids", "pids.current").unwrap_or(0),
            ..ContainerStats::default()
        }
    }
}

fn at_path(path: &Path, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

fn keyed(text: &str, key: &str) -> u64 {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

/// A v2 group hands its controllers on to the groups below it, each for itself so that one refusal costs one.
fn delegate(group: &Path) {
    let wanted = std::fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let handed = std::fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in wanted.split_ascii_whitespace().filter(|c| V2_CONTROLLERS.contains(c)) {
        if !handed.split_ascii_whitespace().any(|h| h == controller) {
            let _handed = std::fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// A v1 cpuset takes no process before it has processors and memory nodes.
fn inherit_cpuset(parent: &Path, group: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = std::fs::read(parent.join(file)).map_err(|e| at_path(&parent.join(file), e))?;
        std::fs::write(group.join(file), value).map_err(|e| at_path(&group.join(file), e))?;
    }
    Ok(())
}

fn collect_processes(directory: &Path, pids: &mut Vec<i32>) {
    let procs = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    // Zero stands for a process of another process namespace; there is nothing to do about it by number.
    pids.extend(procs.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 0));
    for below in subgroups(directory) {
        collect_processes(&below, pids);
    }
}

fn subgroups(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for below in subgroups(directory) {
        remove_tree(&below)?;
    }
    // A group stays busy for a moment after its last process has ended.
    for _ in 0..100 {
        match std::fs::remove_dir(directory) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    std::fs::remove_dir(directory)
}

/// Controller, file, value, and whether the group is not as ordered when the write fails.
type File = (&'static str, String, String, bool);

fn v1_files(resources: &Resources, reset: bool) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let mut add = |controller, file: &str, value: Option<String>, unlimited: &str, needed| match value {
        Some(value) => files.push((controller, file.to_owned(), value, needed)),
        None if reset && !unlimited.is_empty() => {
            files.push((controller, file.to_owned(), unlimited.to_owned(), false))
        }
        None => {}
    };
    let memory = resources.memory_limit_bytes.map(|b| b.to_string());
    add("cpu", "cpu.shares", resources.cpu_shares.map(|s| s.max(2).to_string()), "", true);
    add("cpu", "cpu.cfs_period_us", resources.cpu_period_us.map(|p| p.to_string()), "", true);
    add("cpu", "cpu.cfs_quota_us", resources.cpu_quota_us.map(|q| q.to_string()), "-1", true);
    // The swap limit may not be below the memory limit at any moment: lift it, set both, lower it.
    if reset {
        add("memory", "memory.memsw.limit_in_bytes", Some("-1".into()), "", false);
    }
    add("memory", "memory.limit_in_bytes", memory.clone(), "-1", true);
    add("memory", "memory.memsw.limit_in_bytes", memory, "", false);
    add("pids", "pids.max", resources.pids_limit.map(pids_max), "max", true);
    for (size, bytes) in &resources.huge_pages_bytes {
        let file = format!("hugetlb.{}B.limit_in_bytes", size.trim_end_matches('i'));
        add("hugetlb", &file, Some(bytes.to_string()), "", *bytes > 0);
    }
    files
}

fn v2_files(resources: &Resources, reset: bool) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let mut add = |controller, file: &str, value: Option<String>, unlimited: &str, needed| match value {
        Some(value) => files.push((controller, file.to_owned(), value, needed)),
        None if reset && !unlimited.is_empty() => {
            files.push((controller, file.to_owned(), unlimited.to_owned(), false))
        }
        None => {}
    };
    let period = resources.cpu_period_us.unwrap_or(100_000);
    let quota = resources.cpu_quota_us.map(|q| if q > 0 { q.to_string() } else { "max".into() });
    add("cpu", "cpu.weight", resources.cpu_shares.map(|s| cpu_weight(s).to_string()), "", true);
    add("cpu", "cpu.max", quota.map(|q| format!("{q} {period}")), "max", true);
    add("memory", "memory.max", resources.memory_limit_bytes.map(|b| b.to_string()), "max", true);
    add("memory", "memory.swap.max", resources.memory_limit_bytes.map(|_| "0".into()), "", false);
    add("pids", "pids.max", resources.pids_limit.map(pids_max), "max", true);
    for (size, bytes) in &resources.huge_pages_bytes {
        let file = format!("hugetlb.{}B.max", size.trim_end_matches('i'));
        add("hugetlb", &file, Some(bytes.to_string()), "", *bytes > 0);
    }
    files
}

fn pids_max(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".into() }
}

/// opencontainers/cgroups utils.go: how v1 shares (2 to 262144) become a v2 weight (1 to 10000), such that 1024 is 100.
fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0 => 100,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss, reason = "shares are below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            {
                10f64.powf(exponent).ceil() as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            99 31 0:38 / /var/elsewhere rw - cgroup2 cgroup2 rw\n";
        let found = Cgroups::from_mountinfo(hybrid);
        assert!(!found.pure_v2);
        assert_eq!(found.controller("cpuacct", "/a/b"), Some("/sys/fs/cgroup/cpu,cpuacct/a/b".into()));
        assert_eq!(
            found.procs_beside("/a"),
            ["/sys/fs/cgroup/systemd/a/cgroup.procs", "/sys/fs/cgroup/unified/a/cgroup.procs"].map(PathBuf::from)
        );
        let pure = Cgroups::from_mountinfo("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
        assert!(pure.pure_v2);
        assert_eq!(pure.oom_file("/a"), PathBuf::from("/sys/fs/cgroup/a/memory.events"));
    }

    #[test]
    fn shares_become_weights_as_upstream_counts() {
        assert_eq!([0, 2, 1024, 262_144].map(cpu_weight), [100, 1, 100, 10_000]);
    }

    #[test]
    fn limits_become_files() {
        let resources = Resources {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(1 << 20),
            pids_limit: Some(0),
            ..Resources::default()
        };
        let text = |files: Vec<File>| files.iter().map(|(_, f, v, _)| format!("{f}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            text(v1_files(&resources, false)),
            "cpu.shares=512 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 memory.limit_in_bytes=1048576 \
             memory.memsw.limit_in_bytes=1048576 pids.max=max"
        );
        assert_eq!(
            text(v2_files(&resources, false)),
            "cpu.weight=59 cpu.max=50000 100000 memory.max=1048576 memory.swap.max=0 pids.max=max"
        );
        assert_eq!(text(v2_files(&Resources::default(), true)), "cpu.max=max memory.max=max pids.max=max");
    }
}
