//! What a cluster needs before its first request: certificates, keys and kubeconfigs, in kubeadm's layout.
//!
//! It knows no API server, no store and no node; it reads and writes files. Start reading at [`pki`].

pub mod csr;
pub mod etcd_pki;
pub mod files;
pub mod kubeconfig;
pub mod pki;
