//! A container's environment, command and arguments.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret, Service};

use crate::downward::{self, Place};
use crate::expand::expand;

/// The objects a pod refers to, as far as they exist. All of one namespace.
///
/// An error of `config_map` or `secret` says that nobody knows whether the object exists: it could not be read.
pub trait Sources {
    /// Every ClusterTrustBundle.
    ///
    /// # Errors
    /// They have not been listed yet.
    fn trust_bundles(&self) -> Result<Vec<Arc<ClusterTrustBundle>>, String> {
        Ok(Vec::new())
    }

    fn config_map(&self, name: &str) -> Result<Option<Arc<ConfigMap>>, String>;
    fn secret(&self, name: &str) -> Result<Option<Arc<Secret>>, String>;
    /// The value of `key` in a file of a volume (`fileKeyRef`); `None` when the key is not there.
    ///
    /// # Errors
    /// The volume or the file cannot be read.
    fn file_key(&self, volume: &str, path: &str, key: &str) -> Result<Option<String>, String>;
}

/// Variables in the order they were declared, later ones replacing earlier ones of the same name.
#[derive(Default)]
struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }
}

/// The environment of `container`: envFrom, then env, then the variables of services.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables): precedence and messages.
///
/// # Errors
/// A reference that is not optional leads nowhere; the text is upstream's.
pub fn environment(
    pod: &Pod,
    container: &Container,
    services: &[Arc<Service>],
    sources: &dyn Sources,
    place: &Place,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = service_variables(services, namespace, links);
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_map(&reference.name)? {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        variables.set(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(not_found("configmap", &reference.name)),
            }
        } else if let Some(reference) = &from.secret_ref {
            match sources.secret(&reference.name)? {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        variables.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(not_found("secret", &reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref().filter(|v| !v.is_empty()), &variable.value_from) {
            (Some(text), _) => {
                let known = |name: &str| variables.values.get(name).or_else(|| services.get(name)).map(String::as_str);
                Some(expand(text, known))
            }
            (None, Some(from)) => referred(pod, container, variable, from, sources, place)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.set(variable.name.clone(), value);
        }
    }
    let Variables { order, mut values } = variables;
    let mut out: Vec<(String, String)> = order.into_iter().filter_map(|name| values.remove_entry(&name)).collect();
    let declared: std::collections::BTreeSet<&str> = out.iter().map(|(name, _)| name.as_str()).collect();
    let more: Vec<_> = services.into_iter().filter(|(name, _)| !declared.contains(name.as_str())).collect();
    out.extend(more);
    Ok(out)
}

fn not_found(kind: &str, name: &str) -> String {
    format!("{kind} {name:?} not found")
}

/// The value behind `valueFrom`; `None` when an optional reference leads nowhere.
fn referred(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    from: &EnvVarSource,
    sources: &dyn Sources,
    place: &Place,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &from.field_ref {
        return downward::field(pod, &field.field_path, place).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        let other = selector.container_name.as_deref().filter(|name| !name.is_empty() && *name != container.name);
        let container = match other {
            Some(name) => container_named(pod, name).ok_or_else(|| format!("container {name} not found"))?,
            None => container,
        };
        return downward::resource(container, selector, place).map(Some);
    }
    let (found, optional, missing) = if let Some(reference) = &from.config_map_key_ref {
        let map = sources.config_map(&reference.name)?;
        let missing = match map {
            Some(_) => format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name),
            None => not_found("configmap", &reference.name),
        };
        let value = map.and_then(|map| map.data.as_ref()?.get(&reference.key).cloned());
        (value, reference.optional, missing)
    } else if let Some(reference) = &from.secret_key_ref {
        let secret = sources.secret(&reference.name)?;
        let missing = match secret {
            Some(_) => format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name),
            None => not_found("secret", &reference.name),
        };
        let value = secret.and_then(|secret| secret.data.as_ref()?.get(&reference.key).cloned());
        (value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()), reference.optional, missing)
    } else if let Some(reference) = &from.file_key_ref {
        let value = sources.file_key(&reference.volume_name, &reference.path, &reference.key)?;
        let missing = format!("environment variable key {:?} not found in file {:?}", reference.key, reference.path);
        (value, reference.optional, missing)
    } else {
        return Err(format!("environment variable {} has no source", variable.name));
    };
    match (found, optional) {
        (Some(value), _) => Ok(Some(value)),
        (None, Some(true)) => Ok(None),
        (None, _) => Err(missing),
    }
}

/// A container of any role by name.
pub fn container_named<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

/// kubernetes/kubernetes pkg/kubelet/envvars: the variables that tell where services are. `default/kubernetes` is told
/// to every pod, the rest only within their namespace and with `enableServiceLinks`.
fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for service in services {
        let (name, of) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
        let master = of == Some("default") && name == Some("kubernetes");
        if !(master || (links && of == Some(namespace))) {
            continue;
        }
        let Some((spec, name)) = service.spec.as_ref().zip(name) else { continue };
        let address = match spec.cluster_ip.as_deref() {
            None | Some("") | Some("None") => continue,
            Some(address) => address,
        };
        let prefix = variable_name(name);
        let shown = if address.contains(':') { format!("[{address}]") } else { address.to_string() };
        out.insert(format!("{prefix}_SERVICE_HOST"), address.to_string());
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            let number = port.port;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{shown}:{number}");
            if index == 0 {
                out.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)), number.to_string());
            }
            let port_prefix = format!("{prefix}_PORT_{number}_{protocol}");
            out.insert(format!("{port_prefix}_PROTO"), lower);
            out.insert(format!("{port_prefix}_PORT"), number.to_string());
            out.insert(format!("{port_prefix}_ADDR"), address.to_string());
            out.insert(port_prefix, url);
        }
    }
    out
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// Command and arguments with `$(VAR)` replaced from the container's environment.
pub fn command_and_args(container: &Container, env: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let known: BTreeMap<&str, &str> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let all = |words: &Option<Vec<String>>| {
        words.iter().flatten().map(|word| expand(word, |name| known.get(name).copied())).collect()
    };
    (all(&container.command), all(&container.args))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Option<ConfigMap>);
    impl Sources for Fixed {
        fn config_map(&self, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
            Ok(self.0.clone().filter(|_| name == "settings").map(Arc::new))
        }
        fn secret(&self, name: &str) -> Result<Option<Arc<Secret>>, String> {
            if name == "locked" { Err("failed to sync secret cache: forbidden".into()) } else { Ok(None) }
        }
        fn file_key(&self, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
            Ok(None)
        }
    }

    fn pod(container: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": [container]}}))
        .unwrap()
    }

    fn build(pod: &Pod, sources: &Fixed) -> Result<String, String> {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "data-base", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.1.2", "ports": [{"name": "sql", "port": 5432}]}}))
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let env = environment(pod, container, &[Arc::new(service)], sources, &Place::default())?;
        Ok(env.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect())
    }

    #[test]
    fn sources_expansion_and_services() {
        let map = serde_json::from_value(serde_json::json!({"data": {"COLOR": "red"}})).unwrap();
        let pod = pod(serde_json::json!({"name": "c",
        "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "no", "optional": true}}],
        "env": [
            {"name": "URL", "value": "$(S_COLOR)@$(DATA_BASE_SERVICE_HOST)"},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": true}}}
        ]}));
        insta::assert_snapshot!(build(&pod, &Fixed(Some(map))).unwrap(), @r"
        S_COLOR=red
        URL=red@10.96.1.2
        ME=p
        DATA_BASE_PORT=tcp://10.96.1.2:5432
        DATA_BASE_PORT_5432_TCP=tcp://10.96.1.2:5432
        DATA_BASE_PORT_5432_TCP_ADDR=10.96.1.2
        DATA_BASE_PORT_5432_TCP_PORT=5432
        DATA_BASE_PORT_5432_TCP_PROTO=tcp
        DATA_BASE_SERVICE_HOST=10.96.1.2
        DATA_BASE_SERVICE_PORT=5432
        DATA_BASE_SERVICE_PORT_SQL=5432
        ");
    }

    #[test]
    fn what_cannot_be_read_is_no_optional_source_that_is_absent() {
        let pod = pod(serde_json::json!({"name": "c", "env": [
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "locked", "key": "k", "optional": true}}}]}));
        assert_eq!(build(&pod, &Fixed(None)).unwrap_err(), "failed to sync secret cache: forbidden");
    }

    #[test]
    fn a_missing_reference_is_told_as_upstream_does() {
        let key = |name: &str| {
            pod(serde_json::json!({"name": "c", "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": name, "key": "k"}}}]}))
        };
        assert_eq!(build(&key("none"), &Fixed(None)).unwrap_err(), "configmap \"none\" not found");
        let empty = Fixed(Some(ConfigMap::default()));
        assert_eq!(build(&key("settings"), &empty).unwrap_err(), "couldn't find key k in ConfigMap shop/settings");
    }
}
