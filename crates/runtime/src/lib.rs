//! Containers on this node: images, sandboxes, the containers themselves, their streams, logs and figures. `Containers`
//! implements `pods::ports::Runtime` and knows nothing of Kubernetes beyond that port.
//!
//! Start reading at `local` (the table of containers), then `container` (how one is made) and `shim` (what keeps it when
//! this process is gone). `sandbox` and `cgroup` are what pods are made of, `spec` writes the OCI specification, `exec`
//! has the sessions, `images` everything about images. The rule that shapes the crate: libcontainer is called in helper
//! processes only, and nothing that a running container needs lives in this process.

pub mod cgroup;
mod container;
mod exec;
pub mod images;
mod inventory;
mod layout;
mod local;
mod qos;
mod sandbox;
mod shim;
pub mod spec;
mod teardown;

pub use images::Images;
pub use images::node::NodeImages;
pub use images::pull::{Endpoint, Registry};
pub use layout::remove_run_dir;
pub use local::{Config, Containers, OpenError};
pub use shim::{HELPER, helper_main, is_helper, start_ticks};
pub use spec::ImageConfig;
