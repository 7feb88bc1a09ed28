//! Where the `proxy` of a node, pod or service leads.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use machinery::status::Status;
use serde_json::Value;

use crate::context::Cx;
use crate::dial::{Address, Security};
use crate::server::Inner;
use crate::subresources::proxy::{fetch, kubelet, text};

/// The label by which an EndpointSlice names its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The address behind the request's `[scheme:]name[:port]`. Only a kubelet is shown the server's client certificate;
/// the certificate of anything else is taken as it is.
pub async fn of(cx: &Cx) -> Result<(Address, Security), Status> {
    let plural = cx.kind.names.plural.as_ref();
    let Some((scheme, name, port)) = split(&cx.info.name) else {
        let kind = &cx.kind.names.singular;
        return Err(Status::bad_request(format!("invalid {kind} request {:?}", cx.info.name)));
    };
    let security = if scheme == "https" { Security::Unverified } else { Security::Plain };
    match plural {
        "nodes" => {
            let kubelet = kubelet(cx, name).await?;
            if port.is_empty() || port == kubelet.port.to_string() {
                return Ok((kubelet, Security::Kubelet));
            }
            Ok((Address { host: kubelet.host, port: number(port)? }, security))
        }
        "pods" => Ok((of_pod(&fetch(cx, "pods", &cx.info.namespace, name).await?, scheme, port)?, security)),
        _ => Ok((of_service(cx, name, port).await?, security)),
    }
}

/// `kubernetes/apimachinery pkg/util/net/port_split.go: SplitSchemeNamePort`.
fn split(id: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some((scheme, name, port))
}

fn number(port: &str) -> Result<u16, Status> {
    let words = || format!("error trying to reach service: dial tcp: lookup tcp/{port}: unknown port");
    port.parse().map_err(|_| Status::service_unavailable(words()))
}

/// An address beyond this machine and its link.
fn is_global(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| {
        let local = match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        !(local || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
    })
}

/// A pod's address, and the port asked for or else the first that it declares.
/// `kubernetes/kubernetes pkg/registry/core/pod/strategy.go: ResourceLocation`.
fn of_pod(pod: &Value, scheme: &str, port: &str) -> Result<Address, Status> {
    let host = text(pod, "/status/podIP").to_owned();
    if !is_global(&host) {
        return Err(Status::bad_request("address not allowed"));
    }
    if !port.is_empty() {
        return Ok(Address { host, port: number(port)? });
    }
    let ports = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let mut ports = ports.filter_map(|container| container.pointer("/ports/0/containerPort").and_then(Value::as_u64));
    let declared = ports.next().and_then(|port| u16::try_from(port).ok());
    Ok(Address { host, port: declared.unwrap_or(if scheme == "https" { 443 } else { 80 }) })
}

/// One ready endpoint of a service's port, which is asked for by name or number.
/// `kubernetes/kubernetes pkg/registry/core/service/storage/storage.go: ResourceLocation`.
async fn of_service(cx: &Cx, name: &str, port: &str) -> Result<Address, Status> {
    let port = match port.parse::<u16>() {
        Ok(number) => {
            let service = fetch(cx, "services", &cx.info.namespace, name).await?;
            let missing =
                || Status::service_unavailable(format!("no service port {number} found for service {name:?}"));
            port_name(&service, number).ok_or_else(missing)?
        }
        Err(_) => port.to_owned(),
    };
    let view = cx.server.view();
    let slices: Vec<Arc<EndpointSlice>> = view.list("discovery.k8s.io", "endpointslices", &cx.info.namespace);
    let pod = |name: &str| view.get::<Pod>("", "pods", &format!("{}/{name}", cx.info.namespace));
    let found = ready(&slices, name, &port, |endpoint| is_pod(endpoint, &cx.info.namespace, &pod));
    if found.is_empty() {
        return Err(Status::service_unavailable(format!("no endpoints available for service {name:?}")));
    }
    let chosen = rand::random_range(0..found.len());
    found.into_iter().nth(chosen).ok_or_else(|| Status::internal("an endpoint that was there is not"))
}

/// One ready endpoint behind a service's port, for the server's own calls: to webhooks, and to other API servers.
/// `kubernetes/apiserver pkg/util/proxy/proxy.go: ResolveEndpoint`, and `ResolveCluster` for a service outside.
pub fn endpoint(server: &Inner, namespace: &str, name: &str, port: u16) -> Result<Address, String> {
    let view = server.view();
    let service: Arc<Service> = view
        .get("", "services", &format!("{namespace}/{name}"))
        .ok_or_else(|| format!("service {} not found", machinery::go::quote(name)))?;
    let spec = service.spec.as_ref();
    if let Some(outside) = spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName")) {
        return Ok(Address { host: outside.external_name.clone().unwrap_or_default(), port });
    }
    let mut ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let declared = ports.find(|known| known.port == i32::from(port));
    let declared = declared.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let named = declared.name.clone().unwrap_or_default();
    let slices: Vec<Arc<EndpointSlice>> = view.list("discovery.k8s.io", "endpointslices", namespace);
    let mut found = ready(&slices, name, &named, |_| true);
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(found.swap_remove(rand::random_range(0..found.len())))
}

/// The name of the service's port of that number.
fn port_name(service: &Value, number: u16) -> Option<String> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array)?;
    let declared = ports.iter().find(|declared| declared["port"] == number)?;
    Some(declared["name"].as_str().unwrap_or_default().to_owned())
}

/// The ready addresses of a service's named port that `valid` lets pass.
/// `kubernetes/apiserver pkg/util/proxy/proxy.go: RandomEndpoint`.
pub fn ready(
    slices: &[Arc<EndpointSlice>],
    service: &str,
    port: &str,
    valid: impl Fn(&Endpoint) -> bool,
) -> Vec<Address> {
    let mut found = Vec::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        if labels.and_then(|labels| labels.get(SERVICE_NAME)).is_none_or(|name| name != service) {
            continue;
        }
        let mut named = slice.ports.iter().flatten().filter(|known| known.name.as_deref() == Some(port));
        let Some(port) = named.find_map(|known| u16::try_from(known.port?).ok()) else { continue };
        let is_ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false);
        let endpoints = slice.endpoints.iter().flatten();
        let endpoints = endpoints.filter(is_ready).filter(|endpoint| valid(endpoint));
        found.extend(endpoints.filter_map(|e| Some(Address { host: e.addresses.first()?.clone(), port })));
    }
    found
}

/// Only pods of the service's own namespace are proxied to, at an address that they have: endpoints are a user's to
/// write, and must not lead to where that user cannot go.
fn is_pod(endpoint: &Endpoint, namespace: &str, pod: &dyn Fn(&str) -> Option<Arc<Pod>>) -> bool {
    let Some(target) = endpoint.target_ref.as_ref().filter(|target| target.namespace.as_deref() == Some(namespace))
    else {
        return false;
    };
    let found = target.name.as_deref().and_then(pod);
    let status = found.as_ref().and_then(|pod| pod.status.as_ref());
    let mut own = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|own| own.ip.as_str());
    endpoint.addresses.first().is_some_and(|address| own.any(|own| own == address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_names_scheme_name_and_port() {
        assert_eq!(split("web"), Some(("", "web", "")));
        assert_eq!(split("web:80"), Some(("", "web", "80")));
        assert_eq!(split("https:web:"), Some(("https", "web", "")));
        assert_eq!(split("ftp:web:21"), None);
        assert_eq!(split(":80"), None);
        assert_eq!(split("a:b:c:d"), None);
    }

    #[test]
    fn a_pod_is_reached_at_its_first_declared_port() {
        let pod = |ip: &str| json!({"status": {"podIP": ip}, "spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}});
        assert_eq!(of_pod(&pod("10.0.0.7"), "", "").unwrap().to_string(), "10.0.0.7:8080");
        assert_eq!(of_pod(&pod("10.0.0.7"), "", "99").unwrap().to_string(), "10.0.0.7:99");
        assert_eq!(of_pod(&pod("fd00::7"), "", "").unwrap().to_string(), "[fd00::7]:8080");
        let bare = json!({"status": {"podIP": "10.0.0.7"}, "spec": {"containers": [{}]}});
        assert_eq!(of_pod(&bare, "https", "").unwrap().port, 443);
        for ip in ["", "127.0.0.1", "169.254.169.254", "::1"] {
            assert_eq!(of_pod(&pod(ip), "", "").unwrap_err().message, "address not allowed");
        }
    }

    #[test]
    fn a_service_leads_to_ready_pods_of_its_namespace() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"port": 81}]}});
        assert_eq!(port_name(&service, 80).as_deref(), Some("web"));
        assert_eq!(port_name(&service, 81).as_deref(), Some(""));
        assert_eq!(port_name(&service, 82), None);
        let endpoint = |ip: &str, ready: bool, namespace: &str| json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "namespace": namespace, "name": "p"}});
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"labels": {SERVICE_NAME: "s"}}, "addressType": "IPv4", "ports": [{"name": "web", "port": 8080}],
            "endpoints": [
                endpoint("10.0.0.1", true, "ns"), endpoint("10.0.0.2", false, "ns"),
                endpoint("10.0.0.1", true, "other"), endpoint("10.9.9.9", true, "ns"),
            ],
        }))
        .unwrap();
        let pod: Arc<Pod> =
            Arc::new(serde_json::from_value(json!({"status": {"podIPs": [{"ip": "10.0.0.1"}]}})).unwrap());
        let pods = |name: &str| (name == "p").then(|| Arc::clone(&pod));
        let slices = [Arc::new(slice)];
        let found = |service: &str, port: &str| ready(&slices, service, port, |endpoint| is_pod(endpoint, "ns", &pods));
        let shown: Vec<String> = found("s", "web").iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:8080"]);
        assert!(found("s", "").is_empty() && found("t", "web").is_empty());
    }
}
