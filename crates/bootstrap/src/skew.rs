//! Whether a node of one version may belong to a cluster of another.
//!
//! kubernetes/website releases/version-skew-policy: a kubelet is never newer than the API server, and at most three minor
//! versions older.

/// How many minor versions a kubelet may be older.
const OLDER_MAX: u32 = 3;

/// How a node's version stands to its API server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// The same minor version.
    None,
    /// Another one, which works.
    Supported,
    Unsupported,
}

/// Compares versions such as `v1.37.2`; what cannot be read is not supported.
pub fn skew(node: &str, server: &str) -> Skew {
    match (minor(node), minor(server)) {
        (Some((major, node)), Some((other, server))) if major == other && node == server => Skew::None,
        (Some((major, node)), Some((other, server)))
            if major == other && node < server && server - node <= OLDER_MAX =>
        {
            Skew::Supported
        }
        _ => Skew::Unsupported,
    }
}

/// Major and minor version.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.trim_end_matches('+').parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_be_older_but_not_newer() {
        for (node, server, expected) in [
            ("v1.37.2", "v1.37.0", Skew::None),
            ("v1.37.0", "v1.37.9-rc.1+build", Skew::None),
            ("v1.36.1", "v1.37.2", Skew::Supported),
            ("v1.34.0", "v1.37.2", Skew::Supported),
            ("v1.33.9", "v1.37.2", Skew::Unsupported),
            ("v1.38.0", "v1.37.2", Skew::Unsupported),
            ("v2.37.0", "v1.37.2", Skew::Unsupported),
            ("v1.37.2", "unknown", Skew::Unsupported),
        ] {
            assert_eq!(skew(node, server), expected, "{node} at {server}");
        }
    }
}
