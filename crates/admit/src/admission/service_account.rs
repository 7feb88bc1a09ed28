//! ServiceAccount: every pod has one, and its token is mounted where programs look for it.
//!
//! kubernetes/kubernetes plugin/pkg/admission/serviceaccount/admission.go

use machinery::status::Status;
use serde_json::{Map, Value, json};

use super::{Operation, Request, View, containers_mut};

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
const PREFIX: &str = "kube-api-access-";
/// Seconds that a projected token is asked for; one more than an hour, by which upstream tells these from others.
const EXPIRATION: i64 = 3607;

fn applies(request: &Request) -> bool {
    request.is("", "pods") && request.operation == Operation::Create
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

pub fn mutate(request: &Request, view: &dyn View, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !applies(request) || is_mirror(pod) {
        return Ok(());
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let given = spec.get("serviceAccountName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let deprecated = spec.get("serviceAccount").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = given.or(deprecated).unwrap_or("default").to_owned();
    spec.insert("serviceAccountName".to_owned(), json!(name));
    spec.insert("serviceAccount".to_owned(), json!(name));
    let account = view.service_account(request.namespace, &name).ok_or_else(|| {
        request.forbidden(format_args!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            request.namespace
        ))
    })?;
    let wanted = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    let mount = wanted.or(account.automount_service_account_token).unwrap_or(true);
    let no_pull_secrets = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if let Some(secrets) = account.image_pull_secrets.as_ref().filter(|s| no_pull_secrets && !s.is_empty()) {
        spec.insert("imagePullSecrets".to_owned(), json!(secrets));
    }
    if mount {
        mount_token(pod);
    }
    Ok(())
}

/// Mounts the token into every container that mounts nothing there itself.
fn mount_token(pod: &mut Value) {
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let existing = volumes.iter().filter_map(|v| v["name"].as_str()).find(|name| name.starts_with(PREFIX));
    let name = existing.map_or_else(|| format!("{PREFIX}{}", suffix(pod)), str::to_owned);
    let mut needed = false;
    for container in containers_mut(pod) {
        let mounted = container["volumeMounts"].as_array().into_iter().flatten().any(|m| m["mountPath"] == MOUNT);
        let Some(container) = container.as_object_mut().filter(|_| !mounted) else { continue };
        needed = true;
        let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
        if let Some(mounts) = mounts.as_array_mut() {
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
        }
    }
    if !needed || existing.is_some() {
        return;
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(volumes) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut()
    {
        volumes.push(token_volume(&name));
    }
}

/// Five letters that make the volume's name the pod's own: of the pod's uid or name, so that the decision stays pure.
fn suffix(pod: &Value) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = pod.to_string();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let count = LETTERS.len() as u64;
    (0..5u32).map(|n| char::from(LETTERS[(hash / count.pow(n) % count) as usize])).collect()
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        ]}},
    ]}})
}

/// A mirror pod shows a static pod and may refer to nothing in the API.
pub fn validate(request: &Request, _: &dyn View, new: Option<&Value>, _: Option<&Value>) -> Result<(), Status> {
    let Some(pod) = new.filter(|pod| applies(request) && is_mirror(pod)) else { return Ok(()) };
    let empty = Map::new();
    let spec = pod["spec"].as_object().unwrap_or(&empty);
    if spec.get("serviceAccountName").and_then(Value::as_str).is_some_and(|name| !name.is_empty()) {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    for volume in spec.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        let words = match () {
            () if !volume["secret"].is_null() => "a mirror pod may not reference secrets",
            () if !volume["configMap"].is_null() => "a mirror pod may not reference configmaps",
            () if !volume["persistentVolumeClaim"].is_null() => "a mirror pod may not reference persistentvolumeclaims",
            () => continue,
        };
        return Err(request.forbidden(words));
    }
    Ok(())
}
