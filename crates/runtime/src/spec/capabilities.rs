//! Which capabilities a container gets.

use pods::ports::Security;

/// containerd pkg/oci/spec.go: what a container has unless it is told otherwise.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Capabilities by their numbers in the kernel.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What this process may hand on: its own bounding set.
pub fn bounding() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapBnd:")?.trim(), 16).ok()).unwrap_or(0);
    NAMES.iter().enumerate().filter(|(n, _)| set & (1 << n) != 0).map(|(_, name)| (*name).to_owned()).collect()
}

fn named(of: &str) -> String {
    let upper = of.to_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// The container's set. containerd internal/cri/server/container_create_linux.go: `ALL` first, then each by name, drops
/// last. What this machine does not have cannot be given and is left out.
pub fn capabilities(security: &Security, available: &[String]) -> Result<Vec<String>, String> {
    if security.privileged {
        return Ok(available.to_vec());
    }
    let add: Vec<String> = security.add_capabilities.iter().map(|c| named(c)).collect();
    let drop: Vec<String> = security.drop_capabilities.iter().map(|c| named(c)).collect();
    if let Some(unknown) = add.iter().chain(&drop).find(|c| *c != "ALL" && !NAMES.contains(&c.as_str())) {
        return Err(format!("unknown capability {unknown:?}"));
    }
    let mut set: Vec<String> = if drop.iter().any(|c| c == "ALL") {
        Vec::new()
    } else if add.iter().any(|c| c == "ALL") {
        available.to_vec()
    } else {
        DEFAULT.iter().map(|c| (*c).to_owned()).collect()
    };
    set.extend(add.into_iter().filter(|c| c != "ALL"));
    set.retain(|c| !drop.contains(c) && available.contains(c));
    set.sort_unstable();
    set.dedup();
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> String {
        let security = Security {
            add_capabilities: add.iter().map(|c| (*c).to_owned()).collect(),
            drop_capabilities: drop.iter().map(|c| (*c).to_owned()).collect(),
            ..Security::default()
        };
        let all: Vec<String> = NAMES.iter().map(|c| (*c).to_owned()).collect();
        capabilities(&security, &all).map_or_else(|e| e, |c| format!("{} {}", c.len(), c.join(",")))
    }

    #[test]
    fn adds_and_drops() {
        assert!(set(&[], &[]).starts_with("14 "));
        assert_eq!(set(&["NET_ADMIN", "cap_chown"], &["ALL"]), "2 CAP_CHOWN,CAP_NET_ADMIN");
        assert!(set(&["ALL"], &["SYS_ADMIN"]).starts_with("40 "));
        assert!(!set(&[], &["KILL"]).contains("CAP_KILL"));
        assert_eq!(set(&["FLY"], &[]), r#"unknown capability "CAP_FLY""#);
    }
}
