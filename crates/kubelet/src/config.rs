//! What a kubelet is told about its node and its cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use rustls::server::ResolvesServerCert;

#[derive(Clone, Debug)]
pub struct KubeletConfig {
    pub node_name: String,
    /// Addresses of the node; the first is `status.hostIP` of its pods.
    pub node_ips: Vec<IpAddr>,
    /// `/var/lib/windlass`; pods' files lie in `pods/` below it.
    pub data_dir: PathBuf,
    /// `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Where the HTTPS API listens; `None` for no API.
    pub listen: Option<SocketAddr>,
    /// The certificate that the API serves with, asked for at each handshake.
    pub serving: Option<Arc<dyn ResolvesServerCert>>,
    /// PEM file: the CA of clients.
    pub client_ca_file: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The host's resolver configuration, `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// A directory of pod manifests, looked at as its files change.
    pub static_pod_dir: Option<PathBuf>,
    /// The node's pod addresses, if they were given to it rather than by the cluster: it registers with them.
    pub pod_cidr: Option<String>,
    pub max_pods: u32,
    /// Sysctls beyond the safe ones that pods may set: names, or prefixes that end in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    pub node_labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// `v1.37.2`: what the node says its kubelet is.
    pub version: String,
    /// What the node says its container runtime is: `windlass://0.1.0`.
    pub runtime_version: String,
    /// Images are collected above the first share of the disk, down to the second.
    pub image_gc_high_percent: u8,
    pub image_gc_low_percent: u8,
    /// What must be left of memory and disk (`memory.available<100Mi`); pods are evicted below that.
    pub eviction_hard: String,
    pub log_max_bytes: u64,
    pub log_max_files: usize,
}

impl KubeletConfig {
    /// Upstream's defaults for a node of this name.
    pub fn new(node_name: impl Into<String>, node_ips: Vec<IpAddr>) -> KubeletConfig {
        KubeletConfig {
            node_name: node_name.into(),
            node_ips,
            data_dir: "/var/lib/windlass".into(),
            log_dir: "/var/log/pods".into(),
            listen: Some(SocketAddr::from(([0, 0, 0, 0], 10250))),
            serving: None,
            client_ca_file: "/var/lib/windlass/pki/ca.crt".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            static_pod_dir: None,
            pod_cidr: None,
            max_pods: 110,
            allowed_unsafe_sysctls: Vec::new(),
            node_labels: BTreeMap::new(),
            taints: Vec::new(),
            version: "v1.37.2".into(),
            runtime_version: "windlass://0.1.0".into(),
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
            eviction_hard: pods::eviction::DEFAULT.into(),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
        }
    }
}
