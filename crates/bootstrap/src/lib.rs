//! What a cluster needs before its first request: certificates, keys and kubeconfigs, in kubeadm's layout.
//!
//! It knows no API server, no store and no node; it reads and writes files. Start reading at [`pki`], and for nodes that
//! join at [`joining`].

pub mod csr;
pub mod discovery;
pub mod etcd_pki;
pub mod files;
pub mod joining;
pub mod kubeconfig;
pub mod pki;
pub mod skew;
pub mod token;
