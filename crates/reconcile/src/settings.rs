//! What an administrator may set about the controllers; the defaults are upstream's.

use std::sync::Arc;
use std::time::Duration;

use crate::ports::{CertificateAuthority, TokenSigner};
use crate::range::Range;

/// The cluster's pod addresses, and how they are cut into one range a node.
#[derive(Clone, Copy, Debug)]
pub struct PodRanges {
    pub cluster: Range,
    /// The length of a node's prefix: 24 gives each 256 addresses.
    pub node_prefix: u8,
}

/// Settings shared by all controllers of a process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PEM bundle published as `kube-root-ca.crt` in each namespace; none: the publisher rests.
    pub root_ca: Option<String>,
    /// Fills ServiceAccount token Secrets; none: they get no token.
    pub token_signer: Option<Arc<dyn TokenSigner>>,
    /// Signs certificates; none: nobody here does.
    pub certificate_authority: Option<Arc<dyn CertificateAuthority>>,
    /// How long a signed certificate is good, unless less is asked for.
    pub certificate_life: Duration,
    /// Whence nodes get their pods' addresses; none: they get none.
    pub pod_ranges: Option<PodRanges>,
    /// How long a node may be silent before it is `Unknown`.
    pub node_grace: Duration,
    /// How long a node may take to report for the first time.
    pub node_startup_grace: Duration,
    /// Finished pods kept before the oldest are removed; 0 keeps all.
    pub terminated_pods_max: usize,
    /// How long a pod may stay bound to a node that is gone.
    pub orphan_quarantine: Duration,
    /// How often the autoscaler looks at its metrics.
    pub autoscaler_period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            root_ca: None,
            token_signer: None,
            certificate_authority: None,
            certificate_life: Duration::from_secs(365 * 24 * 3600),
            pod_ranges: None,
            node_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_secs(60),
            terminated_pods_max: 12500,
            orphan_quarantine: Duration::from_secs(40),
            autoscaler_period: Duration::from_secs(15),
        }
    }
}
