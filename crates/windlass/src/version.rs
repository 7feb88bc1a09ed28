//! Which Windlass this is, and which Kubernetes it is.

/// The version of Kubernetes whose API and behaviour are implemented.
pub const KUBERNETES: &str = "v1.37.2";

/// `0.1.0 (Kubernetes v1.37.2)`
pub const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.37.2)");
