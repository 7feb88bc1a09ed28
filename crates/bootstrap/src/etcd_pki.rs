//! The certificates of the store when it is served as etcd, by kubeadm's file names: `etcd/ca`, `etcd/server` and, for
//! an API server that is its client, `apiserver-etcd-client`. The authority is the store's own, since whoever it vouches for
//! may do everything.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::ExtendedKeyUsagePurpose as Usage;

use crate::files::make_private_dir;
use crate::pki::{Leaf, Names, Pair, PkiError, Subject, authority, ensure_leaf, node_names};

/// The store's authority and what it has signed.
#[derive(Clone, Debug)]
pub struct EtcdPki {
    pub ca: Pair,
    pub server: Pair,
    pub client: Pair,
}

impl EtcdPki {
    /// Loads them from the PKI directory, making or renewing what is needed at `now`, as [`crate::pki::Pki::ensure`] does.
    pub fn ensure(directory: &Path, names: &Names, validity: Duration, now: Timestamp) -> Result<Self, PkiError> {
        make_private_dir(&directory.join("etcd"))?;
        let mut made = Vec::new();
        let ca = authority(directory, "etcd/ca", "etcd-ca", now, &mut made)?;
        let mut sans = node_names(names)?;
        sans.push(rcgen::SanType::IpAddress(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        let server = Leaf {
            name: "etcd/server",
            subject: Subject { user: &names.node, group: None },
            usages: &[Usage::ServerAuth, Usage::ClientAuth],
            sans,
        };
        let client = Leaf {
            name: "apiserver-etcd-client",
            subject: Subject { user: "kube-apiserver-etcd-client", group: None },
            usages: &[Usage::ClientAuth],
            sans: vec![],
        };
        let mut leaf = |leaf: Leaf| ensure_leaf(directory, &ca, leaf, (validity, now), &mut made);
        let (server, client) = (leaf(server)?, leaf(client)?);
        Ok(Self { ca, server, client })
    }
}
