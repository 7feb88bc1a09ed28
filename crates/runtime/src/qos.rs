//! The groups above the pods that are not guaranteed all they may use, and what these weigh against guaranteed pods.
//!
//! kubernetes/kubernetes pkg/kubelet/cm/qos_container_manager_linux.go: best-effort pods together weigh as little as a
//! group can, burstable pods as much as they request together.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use pods::ports::{Resources, SandboxSpec};

use crate::cgroup::Cgroups;

/// What a group weighs at least.
const SHARES_MIN: u64 = 2;

/// The group of a class of pods, below the root of all.
pub fn group(root: &str, qos_class: &str) -> String {
    match qos_class {
        "Burstable" => format!("{root}/burstable"),
        "BestEffort" => format!("{root}/besteffort"),
        _ => root.to_owned(),
    }
}

/// The burstable pods of this node, each with the processor time it requests, in thousandths of a core.
#[derive(Default)]
pub struct Burstable(Mutex<BTreeMap<String, u64>>);

impl Burstable {
    /// A pod is admitted, or what it requests has changed.
    pub fn admit(&self, cgroups: &Cgroups, root: &str, spec: &SandboxSpec) -> io::Result<()> {
        match spec.qos_class.as_str() {
            "Burstable" => {
                let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                requests.insert(spec.pod_uid.clone(), milli_cpu(spec.resources.cpu_shares.unwrap_or(0)));
                weigh(cgroups, root, &requests)
            }
            "BestEffort" => cgroups.create(&group(root, &spec.qos_class), &weight(SHARES_MIN)),
            _ => Ok(()),
        }
    }

    /// A pod is gone.
    pub fn forget(&self, cgroups: &Cgroups, root: &str, pod_uid: &str) -> io::Result<()> {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match requests.remove(pod_uid) {
            Some(_) => weigh(cgroups, root, &requests),
            None => Ok(()),
        }
    }
}

fn weigh(cgroups: &Cgroups, root: &str, requests: &BTreeMap<String, u64>) -> io::Result<()> {
    let together: u64 = requests.values().sum();
    cgroups.create(&group(root, "Burstable"), &weight((together * 1024 / 1000).max(SHARES_MIN)))
}

fn weight(cpu_shares: u64) -> Resources {
    Resources { cpu_shares: Some(cpu_shares), ..Resources::default() }
}

/// Shares are made from requests by rounding down, so this gives the request back. The least weight stands for none.
fn milli_cpu(shares: u64) -> u64 {
    if shares <= SHARES_MIN { 0 } else { (shares * 1000).div_ceil(1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lead_back_to_the_request() {
        for milli in 3..5000 {
            assert_eq!(milli_cpu(milli * 1024 / 1000), milli);
        }
        assert_eq!(milli_cpu(2), 0);
    }
}
