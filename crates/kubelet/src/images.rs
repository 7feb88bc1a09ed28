//! Having a container's image: pull policies, secrets, and one pull at a time for one image.
//!
//! kubernetes/kubernetes pkg/kubelet/images/image_manager.go: policies, messages and events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use k8s_openapi::api::core::v1::{Container, LocalObjectReference, Pod, Secret};
use pods::ports::{Image, PullError, RegistryAuth};
use pods::worker::Severity;
use serde::Deserialize;

use crate::host::Host;
use crate::objects::Subscriber;

/// Pulls going on, by image.
#[derive(Default)]
pub(crate) struct Images {
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why there is no image: the reason that the status shows, and its message.
pub(crate) struct Missing {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The failed pull's entry in the journal.
    pub(crate) record: Option<journal::RecordId>,
}

impl Missing {
    fn new(reason: &'static str, message: String) -> Missing {
        Missing { reason, message, record: None }
    }
}

/// Makes sure of `container`'s image, by its pull policy.
///
/// # Errors
/// With the waiting reason that the container gets.
pub(crate) async fn ensure(
    host: &Host,
    pod: &Pod,
    container: &Container,
    subscriber: &Subscriber,
) -> Result<(), Missing> {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or_else(|| default_policy(image));
    let tell = |severity, reason: &str, message| host.events.pod(pod, Some(&container.name), severity, reason, message);
    if policy != "Always" {
        let found = host.runtime.image(image).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            tell(Severity::Warning, "InspectFailed", message.clone());
            Missing::new("ImageInspectError", message)
        })?;
        if found.is_some() {
            let message =
                format!("Container image {image:?} already present on machine and can be accessed by the pod");
            tell(Severity::Normal, "Pulled", message);
            return Ok(());
        }
        if policy == "Never" {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            tell(Severity::Warning, "ErrImageNeverPull", message.clone());
            return Err(Missing::new("ErrImageNeverPull", message));
        }
    }
    let begun = Instant::now();
    tell(Severity::Normal, "Pulling", format!("Pulling image {image:?}"));
    let auth = credentials(host, pod, image, subscriber).await;
    match pull(host, image, &auth, policy != "Always").await {
        Ok((pulled, took_ms)) => {
            let whole_ms = begun.elapsed().as_millis() as u64;
            let message = format!(
                "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                go_millis(took_ms),
                go_millis(whole_ms),
                pulled.size_bytes
            );
            tell(Severity::Normal, "Pulled", message);
            Ok(())
        }
        Err(error) => {
            tell(Severity::Warning, "Failed", format!("Failed to pull image {image:?}: {error}"));
            let subject = crate::host::subject(pod);
            let what = journal::What::PullFailed { image: image.into(), error: error.to_string() };
            let record = host.record(journal::Subject { container: Some(container.name.clone()), ..subject }, what);
            Err(Missing { record: Some(record), ..refusal(image, &error) })
        }
    }
}

fn refusal(image: &str, error: &PullError) -> Missing {
    match error {
        PullError::InvalidName(_) => {
            let message = format!("Failed to apply default image tag {image:?}: {error}");
            Missing::new("InvalidImageName", message)
        }
        _ => Missing::new("ErrImagePull", error.to_string()),
    }
}

/// The API server defaults the policy; a static pod's file may leave it out.
fn default_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let latest = !name.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    if latest { "Always" } else { "IfNotPresent" }
}

/// Pulls once, however many pods want it; those that waited find it there when any copy will do.
async fn pull(host: &Host, image: &str, auth: &[RegistryAuth], any_copy: bool) -> Result<(Image, u64), PullError> {
    let turn = {
        let mut pulls = host.images.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(pulls.entry(image.to_string()).or_default())
    };
    let waited = turn.try_lock().is_err();
    let _turn = turn.lock().await;
    if waited
        && any_copy
        && let Ok(Some(image)) = host.runtime.image(image).await
    {
        return Ok((image, 0));
    }
    let begun = Instant::now();
    let pulled = host.runtime.pull(image, auth).await?;
    Ok((pulled, begun.elapsed().as_millis() as u64))
}

/// `1.234s` or `56ms`, as Go prints a duration of whole milliseconds.
fn go_millis(ms: u64) -> String {
    match ms {
        0 => "0s".into(),
        1..1000 => format!("{ms}ms"),
        _ => {
            let (minutes, rest) = (ms / 60_000, ms % 60_000);
            let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.').to_string();
            if minutes > 0 { format!("{minutes}m{seconds}s") } else { format!("{seconds}s") }
        }
    }
}

/// Credentials for an image from the pod's pull secrets; admission has copied the service account's into the pod.
async fn credentials(host: &Host, pod: &Pod, image: &str, subscriber: &Subscriber) -> Vec<RegistryAuth> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let own = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.clone()).unwrap_or_default();
    let (mut out, mut missing) = (Vec::new(), Vec::new());
    for LocalObjectReference { name } in own {
        match host.objects.secret(namespace, &name, subscriber).await {
            Ok(Some(secret)) => out.extend(logins(&secret, image)),
            Ok(None) | Err(_) => missing.push(name),
        }
    }
    if !missing.is_empty() {
        let names = missing.join(", ");
        let message = format!(
            "Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."
        );
        host.events.pod(pod, None, Severity::Warning, "FailedToRetrieveImagePullSecret", message);
    }
    out
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: HashMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    username: String,
    password: String,
    auth: String,
    identitytoken: Option<String>,
}

/// The logins of a pull secret that fit the image's registry, the longest match first.
fn logins(secret: &Secret, image: &str) -> Vec<RegistryAuth> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let auths: HashMap<String, DockerAuth> = match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some(json), _) => match serde_json::from_slice::<DockerConfig>(json) {
            Ok(config) => config.auths,
            Err(error) => {
                tracing::warn!(%error, "pull secret is not a docker configuration");
                return Vec::new();
            }
        },
        (None, Some(json)) => serde_json::from_slice(json).unwrap_or_default(),
        (None, None) => return Vec::new(),
    };
    let full = with_registry(image);
    let mut fitting: Vec<(String, RegistryAuth)> = auths
        .into_iter()
        .map(|(server, auth)| (server_key(&server), auth))
        .filter(|(server, _)| full == *server || full.starts_with(&format!("{server}/")))
        .map(|(server, auth)| (server, login(auth)))
        .collect();
    fitting.sort_by_key(|(server, _)| std::cmp::Reverse(server.len()));
    fitting.into_iter().map(|(_, auth)| auth).collect()
}

fn login(auth: DockerAuth) -> RegistryAuth {
    let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok();
    let both = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = match both.as_deref().and_then(|both| both.split_once(':')) {
        Some((user, password)) if auth.username.is_empty() => (user.to_string(), password.to_string()),
        _ => (auth.username, auth.password),
    };
    RegistryAuth { username, password, identity_token: auth.identitytoken.filter(|token| !token.is_empty()) }
}

/// `https://index.docker.io/v1/` and its like as a prefix of image names.
fn server_key(server: &str) -> String {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.trim_end_matches("/v1").trim_end_matches("/v2");
    if bare == "index.docker.io" { "docker.io".into() } else { bare.into() }
}

fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.into(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_secret_fits_by_registry_and_path() {
        let json = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"reg.test:5000/team":{"username":"t","password":"x"}}}"#;
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "data": {".dockerconfigjson": base64::engine::general_purpose::STANDARD.encode(json)}}))
        .unwrap();
        let users = |image: &str| logins(&secret, image).into_iter().map(|l| l.username).collect::<Vec<_>>();
        assert_eq!(users("busybox"), ["u"]);
        assert_eq!(users("reg.test:5000/team/app:1"), ["t"]);
        assert_eq!(users("reg.test:5000/other"), Vec::<String>::new());
    }

    #[test]
    fn durations_and_default_policies() {
        assert_eq!(
            (go_millis(56), go_millis(1200), go_millis(61_005)),
            ("56ms".into(), "1.2s".into(), "1m1.005s".into())
        );
        assert_eq!(default_policy("r:5000/a"), "Always");
        assert_eq!(default_policy("r:5000/a:1"), "IfNotPresent");
        assert_eq!(default_policy("a@sha256:00"), "IfNotPresent");
    }
}
