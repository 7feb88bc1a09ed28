//! Kernel parameters that a pod may set: which namespace each belongs to, and which of them a node allows.
//!
//! kubernetes/kubernetes pkg/kubelet/sysctl (safe list, reason and messages), component-helpers node/util/sysctl
//! (namespaces, spelling of names).

use std::fmt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::admission::Refusal;

/// The kernel namespace that a parameter is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    Ipc,
    Net,
    Uts,
    User,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
            Self::Uts => "UTS",
            Self::User => "User",
        })
    }
}

const NAMED: [(&str, Namespace); 11] = [
    ("kernel.domainname", Namespace::Uts),
    ("kernel.sem", Namespace::Ipc),
    ("kernel.shmall", Namespace::Ipc),
    ("kernel.shmmax", Namespace::Ipc),
    ("kernel.shmmni", Namespace::Ipc),
    ("kernel.shm_rmid_forced", Namespace::Ipc),
    // `kernel.shm*` and `kernel.msg*` as patterns.
    ("kernel.shm", Namespace::Ipc),
    ("kernel.msgmax", Namespace::Ipc),
    ("kernel.msgmnb", Namespace::Ipc),
    ("kernel.msgmni", Namespace::Ipc),
    ("kernel.msg", Namespace::Ipc),
];
const PREFIXES: [(&str, Namespace); 3] =
    [("net.", Namespace::Net), ("fs.mqueue.", Namespace::Ipc), ("user.", Namespace::User)];

/// Parameters that cannot harm other pods or the node, with the first kernel (major, minor) that keeps them per namespace.
const SAFE: [(&str, (u32, u32)); 14] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
    ("net.ipv4.tcp_slow_start_after_idle", (4, 15)),
    ("net.ipv4.tcp_notsent_lowat", (4, 6)),
];

/// The form with dots: a name whose first separator is a slash has both swapped (`net/ipv4/conf/eth0.1/rp_filter` is
/// `net.ipv4.conf.eth0/1.rp_filter`).
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => swapped(name),
        _ => name.to_string(),
    }
}

fn swapped(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// The namespace of a parameter in the form with dots; `None` for one of the whole node.
fn namespace_of(name: &str) -> Option<Namespace> {
    let named = NAMED.iter().find(|(known, _)| *known == name).map(|(_, namespace)| *namespace);
    named.or_else(|| PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, namespace)| *namespace))
}

/// The parameters that pods may set on a node: the safe ones and those that its operator allows.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Exact names and, with `true`, prefixes.
    patterns: Vec<(String, bool, Namespace)>,
}

impl Allowed {
    /// The safe parameters of a kernel (`6.1.0-18-amd64`) and the `unsafe_patterns` (`net.core.*`) beside them.
    ///
    /// # Errors
    /// A pattern that is none, or of which no namespace is known.
    pub fn new(kernel: &str, unsafe_patterns: &[String]) -> Result<Allowed, String> {
        let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let safe = SAFE.iter().filter(|(_, since)| version >= *since).map(|(name, _)| (*name).to_string());
        let mut patterns = Vec::new();
        for pattern in safe.chain(unsafe_patterns.iter().cloned()) {
            if !is_pattern(&pattern) {
                return Err(format!(
                    "sysctl {pattern:?} must have at most 253 characters and be segments of lower case letters, digits, '-' and '_' between dots, with a '*' only at the end"
                ));
            }
            let name = dotted(&pattern);
            let (name, prefix) = match name.strip_suffix('*') {
                Some(prefix) => (prefix.to_string(), true),
                None => (name, false),
            };
            let namespace = namespace_of(&name);
            let namespace = namespace.ok_or_else(|| format!("the sysctls {name:?} are not known to be namespaced"))?;
            patterns.push((name, prefix, namespace));
        }
        Ok(Allowed { patterns })
    }

    /// Whether the pod sets only what it may.
    ///
    /// # Errors
    /// The first parameter that it may not set.
    pub fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let shared = |namespace| match namespace {
            Namespace::Net => spec.host_network == Some(true),
            Namespace::Ipc => spec.host_ipc == Some(true),
            Namespace::User => spec.host_users != Some(false),
            Namespace::Uts => false,
        };
        let wanted = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
        for sysctl in wanted.into_iter().flatten() {
            let name = dotted(&sysctl.name);
            let fits = |(pattern, prefix, _): &&(String, bool, Namespace)| {
                if *prefix { name.starts_with(pattern) } else { name == *pattern }
            };
            let why = match self.patterns.iter().find(fits) {
                None => format!("{name:?} not allowlisted"),
                Some((_, _, namespace)) if shared(*namespace) => {
                    format!("{name:?} not allowed with host {namespace} enabled")
                }
                Some(_) => continue,
            };
            return Err(Refusal::new("SysctlForbidden", format!("forbidden sysctl: {why}")));
        }
        Ok(())
    }
}

/// kubernetes/kubernetes pkg/apis/policy/validation: segments between dots or slashes, of which the last may end in `*`.
fn is_pattern(pattern: &str) -> bool {
    let plain = |segment: &str| {
        let inner = segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        inner && edge(segment.bytes().next()) && edge(segment.bytes().last())
    };
    let (before, last) = pattern.rsplit_once(['.', '/']).map_or((None, pattern), |(before, last)| (Some(before), last));
    let starred =
        last.strip_suffix('*').is_some_and(|start| start.is_empty() || plain(start.trim_end_matches(['-', '_'])));
    pattern.len() <= 253 && before.is_none_or(|before| before.split(['.', '/']).all(plain)) && (starred || plain(last))
}

/// Where a parameter is written (`/proc/sys/...`) by a process that is in namespaces of its own, `own`.
///
/// # Errors
/// A parameter of the whole node, or of a namespace that the process shares with it.
pub fn file(name: &str, own: &[Namespace]) -> Result<PathBuf, String> {
    let name = dotted(name);
    let namespace = namespace_of(&name).ok_or_else(|| format!("sysctl {name:?} is not known to be namespaced"))?;
    if !own.contains(&namespace) {
        return Err(format!("sysctl {name:?} is not allowed in the host's {namespace} namespace"));
    }
    let path = swapped(&name);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("invalid sysctl name {name:?}"));
    }
    Ok(Path::new("/proc/sys").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(allowed: &Allowed, name: &str, change: serde_json::Value) -> String {
        let mut spec =
            serde_json::json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        spec.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
        match allowed.admit(&pod) {
            Ok(()) => "yes".into(),
            Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
        }
    }

    #[test]
    fn only_what_is_on_the_list_and_not_the_hosts_may_be_set() {
        let none = || serde_json::json!({});
        let safe = Allowed::new("6.1.0-18-amd64", &[]).unwrap();
        let wider =
            Allowed::new("6.1.0", &["net.core.*".into(), "kernel.msg*".into(), "user.max_uts_namespaces".into()]);
        let wider = wider.unwrap();
        assert_eq!(admit(&safe, "net.ipv4.tcp_syncookies", none()), "yes");
        assert_eq!(admit(&safe, "net/ipv4/tcp_syncookies", none()), "yes");
        assert_eq!(
            admit(&safe, "kernel.core_pattern", none()),
            "SysctlForbidden: forbidden sysctl: \"kernel.core_pattern\" not allowlisted"
        );
        assert_eq!(
            admit(&safe, "net.ipv4.tcp_syncookies", serde_json::json!({"hostNetwork": true})),
            "SysctlForbidden: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled"
        );
        assert!(
            admit(&safe, "kernel.shm_rmid_forced", serde_json::json!({"hostIPC": true})).ends_with("host IPC enabled")
        );
        assert!(admit(&safe, "net.core.somaxconn", none()).ends_with("not allowlisted"));
        assert_eq!(admit(&wider, "net.core.somaxconn", none()), "yes");
        assert_eq!(admit(&wider, "kernel.msgmax", none()), "yes");
        assert!(admit(&wider, "user.max_uts_namespaces", none()).ends_with("host User enabled"));
        let old = Allowed::new("4.4.302", &[]).unwrap();
        assert!(admit(&old, "net.ipv4.tcp_keepalive_time", none()).ends_with("not allowlisted"));
    }

    #[test]
    fn patterns_are_checked_when_the_node_starts() {
        let of = |pattern: &str| Allowed::new("6.1.0", &[pattern.into()]).map(|_| ());
        assert_eq!(
            of("kernel.core_pattern").unwrap_err(),
            "the sysctls \"kernel.core_pattern\" are not known to be namespaced"
        );
        assert_eq!(of("*").unwrap_err(), "the sysctls \"\" are not known to be namespaced");
        for bad in ["net.*.x", "net..core", "Net.core", "", "net.core.-*-"] {
            assert!(of(bad).unwrap_err().starts_with("sysctl "), "{bad}");
        }
        for good in ["net.*", "net.ipv4.conf.eth0/1.rp_filter", "kernel.shm*", "net/core/*"] {
            assert_eq!(of(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_file_is_given_only_for_parameters_of_own_namespaces() {
        let own = [Namespace::Net, Namespace::Ipc];
        assert_eq!(file("net.ipv4.tcp_syncookies", &own).unwrap(), Path::new("/proc/sys/net/ipv4/tcp_syncookies"));
        assert_eq!(
            file("net/ipv4/conf/eth0.1/rp_filter", &own).unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/rp_filter")
        );
        for bad in [
            "kernel.core_pattern",
            "vm.overcommit_memory",
            "kernel.domainname",
            "net/../kernel/core_pattern",
            "net.",
            "net",
        ] {
            assert!(file(bad, &own).is_err(), "{bad}");
        }
        assert!(file("net.core.somaxconn", &[Namespace::Ipc]).unwrap_err().contains("host's Net namespace"));
    }
}
