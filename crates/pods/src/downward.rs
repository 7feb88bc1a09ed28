//! The downward API: a pod's own fields and a container's resources as text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::amounts::{limit, milli, request, whole};

/// What a pod may learn about where it runs.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub pod_ips: Vec<IpAddr>,
    pub host_ips: Vec<IpAddr>,
    /// The node's allocatable amounts, which stand in for missing limits: CPU in thousandths, the rest in bytes.
    pub allocatable_milli_cpu: i64,
    pub allocatable_memory_bytes: i64,
    pub allocatable_storage_bytes: i64,
}

/// The value of a `fieldRef`.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (podFieldSelectorRuntimeValue), pkg/fieldpath.
///
/// # Errors
/// The path is not one of the downward API's.
pub fn field(pod: &Pod, path: &str, place: &Place) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let of_spec = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some((head, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        return match head {
            "metadata.annotations" => Ok(entry(&meta.annotations, key)),
            "metadata.labels" => Ok(entry(&meta.labels, key)),
            _ => Err(format!("fieldPath {path:?} does not support subscript")),
        };
    }
    let join = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(&meta.labels),
        "metadata.annotations" => format_map(&meta.annotations),
        "spec.nodeName" => of_spec(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => of_spec(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => join(&place.host_ips[..place.host_ips.len().min(1)]),
        "status.hostIPs" => join(&place.host_ips),
        "status.podIP" => join(&place.pod_ips[..place.pod_ips.len().min(1)]),
        "status.podIPs" => join(&place.pod_ips),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn entry(map: &Option<BTreeMap<String, String>>, key: &str) -> String {
    map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
}

/// `key="value"` lines in key order, values quoted as Go's strconv.Quote does.
fn format_map(map: &Option<BTreeMap<String, String>>) -> String {
    let lines = map.iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_control() && (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef` of `container`.
///
/// kubernetes/kubernetes pkg/api/v1/resource/helpers.go: rounded up in units of the divisor.
///
/// # Errors
/// The resource is not one of the downward API's.
pub fn resource(container: &Container, selector: &ResourceFieldSelector, place: &Place) -> Result<String, String> {
    let unknown = || format!("unsupported container resource : {}", selector.resource);
    let (which, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let amount = match which {
        "limits" => limit(&container.resources, name),
        "requests" => request(&container.resources, name),
        _ => return Err(unknown()),
    };
    let divisor = selector.divisor.as_ref().filter(|divisor| milli(divisor) != 0);
    let (value, divisor) = match name {
        "cpu" => {
            let missing = if which == "limits" { place.allocatable_milli_cpu } else { 0 };
            (amount.map(milli).unwrap_or(missing), divisor.map_or(1000, milli))
        }
        "memory" | "ephemeral-storage" => {
            let node = if name == "memory" { place.allocatable_memory_bytes } else { place.allocatable_storage_bytes };
            let missing = if which == "limits" { node } else { 0 };
            (amount.map(whole).unwrap_or(missing), divisor.map_or(1, whole))
        }
        _ if name.starts_with("hugepages-") => (amount.map(whole).unwrap_or(0), divisor.map_or(1, whole)),
        _ => return Err(unknown()),
    };
    let divisor = divisor.max(1);
    Ok(((value + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "labels": {"b": "2", "a": "x\"y\n"}}, "spec": {"containers": [], "nodeName": "n"}
        }))
        .unwrap();
        let place = Place { pod_ips: vec!["10.0.0.1".parse().unwrap()], ..Place::default() };
        let get = |path| field(&pod, path, &place);
        assert_eq!(get("metadata.labels").unwrap(), "a=\"x\\\"y\\n\"\nb=\"2\"");
        assert_eq!(get("metadata.labels['b']").unwrap(), "2");
        assert_eq!(get("status.podIPs").unwrap(), "10.0.0.1");
        assert_eq!(get("status.hostIP").unwrap(), "");
        assert_eq!(get("spec.x").unwrap_err(), "unsupported fieldPath: spec.x");
    }

    #[test]
    fn a_missing_limit_is_the_nodes_allocatable() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "resources": {"limits": {"memory": "64Mi"}}}))
        .unwrap();
        let place = Place { allocatable_milli_cpu: 1500, ..Place::default() };
        let get = |resource: &str, divisor: &str| {
            let selector =
                serde_json::from_value(serde_json::json!({"resource": resource, "divisor": divisor})).unwrap();
            super::resource(&container, &selector, &place).unwrap()
        };
        assert_eq!(get("limits.cpu", "0"), "2");
        assert_eq!(get("limits.cpu", "1m"), "1500");
        assert_eq!(get("limits.memory", "1Mi"), "64");
        assert_eq!(get("requests.memory", "0"), "0");
    }
}
