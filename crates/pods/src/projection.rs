//! What lies in the files of configMap, secret, downwardAPI and projected volumes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume,
};

use crate::downward::{self, Place};
use crate::env::{Sources, container_named};

/// Default mode of files (`defaultMode`), as the API server defaults it.
const MODE: i32 = 0o644;
/// Mode of a credential when its reader is known by user or group.
const TOKEN_MODE: u32 = 0o600;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub mode: u32,
    pub data: Vec<u8>,
    /// Who owns it, when not root.
    pub owner: Option<u32>,
}

/// Files by path below the volume's root.
pub type Files = BTreeMap<String, File>;

/// A private key and the certificates of it, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub key: String,
    pub chain: String,
}

/// What a projected volume needs beside objects.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub sources: &'a dyn Sources,
    pub place: &'a Place,
    /// The token asked for by a projection, when it could be had.
    pub token: &'a dyn Fn(&ServiceAccountTokenProjection) -> Result<String, String>,
    /// The key and certificates asked for by a projection, when they could be had.
    pub certificate: &'a dyn Fn(&PodCertificateProjection) -> Result<Credential, String>,
}

/// The files of a volume whose content comes from the API, or `None` for every other kind of volume.
///
/// # Errors
/// A reference that is not optional leads nowhere.
pub fn files(volume: &Volume, context: &Context<'_>) -> Option<Result<Files, String>> {
    let Context { sources, .. } = context;
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        return Some(config_map(&source.name, &source.items, source.default_mode, optional, *sources));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        return Some(secret(name, &source.items, source.default_mode, source.optional == Some(true), *sources));
    }
    if let Some(source) = &volume.downward_api {
        return Some(downward_api(source.items.as_deref().unwrap_or_default(), source.default_mode, context));
    }
    volume.projected.as_ref().map(|source| projected(source, context))
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).unwrap_or(MODE) as u32 & 0o7777
}

fn config_map(
    name: &str,
    items: &Option<Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
    sources: &dyn Sources,
) -> Result<Files, String> {
    let Some(map) = sources.config_map(name)? else {
        return if optional { Ok(Files::new()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    let all: BTreeMap<&str, &[u8]> = text.chain(binary).collect();
    pick(&all, items, default_mode, optional, "configmap references non-existent config key")
}

fn secret(
    name: &str,
    items: &Option<Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
    sources: &dyn Sources,
) -> Result<Files, String> {
    let Some(secret) = sources.secret(name)? else {
        return if optional { Ok(Files::new()) } else { Err(format!("secret {name:?} not found")) };
    };
    let bytes = |(key, value): (&'_ String, &'_ ByteString)| (key.clone(), value.0.clone());
    let owned: BTreeMap<String, Vec<u8>> = secret.data.iter().flatten().map(bytes).collect();
    let all = owned.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    pick(&all, items, default_mode, optional, "references non-existent secret key")
}

fn pick(
    all: &BTreeMap<&str, &[u8]>,
    items: &Option<Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
    missing: &str,
) -> Result<Files, String> {
    let file = |data: &[u8], own| File { mode: mode(own, default_mode), data: data.to_vec(), owner: None };
    let Some(items) = items.as_ref().filter(|items| !items.is_empty()) else {
        return Ok(all.iter().map(|(key, data)| (key.to_string(), file(data, None))).collect());
    };
    let mut out = Files::new();
    for item in items {
        match all.get(item.key.as_str()) {
            Some(data) => {
                out.insert(item.path.clone(), file(data, item.mode));
            }
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(out)
}

fn downward_api(
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
    context: &Context<'_>,
) -> Result<Files, String> {
    let mut out = Files::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            downward::field(context.pod, &field.field_path, context.place)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let container = container_named(context.pod, name).ok_or_else(|| format!("container {name} not found"))?;
            downward::resource(container, selector, context.place)?
        } else {
            continue;
        };
        let file = File { mode: mode(item.mode, default_mode), data: text.into_bytes(), owner: None };
        out.insert(item.path.clone(), file);
    }
    Ok(out)
}

fn projected(source: &ProjectedVolumeSource, context: &Context<'_>) -> Result<Files, String> {
    let mut out = Files::new();
    let default = source.default_mode;
    for part in source.sources.iter().flatten() {
        let files = if let Some(map) = &part.config_map {
            config_map(&map.name, &map.items, default, map.optional == Some(true), context.sources)?
        } else if let Some(one) = &part.secret {
            secret(&one.name, &one.items, default, one.optional == Some(true), context.sources)?
        } else if let Some(api) = &part.downward_api {
            downward_api(api.items.as_deref().unwrap_or_default(), default, context)?
        } else if let Some(token) = &part.service_account_token {
            let data = (context.token)(token)?.into_bytes();
            Files::from([(token.path.clone(), private_file(context.pod, data, default))])
        } else if let Some(bundle) = &part.cluster_trust_bundle {
            let data = crate::trust::anchors(bundle, &context.sources.trust_bundles()?)?.into_bytes();
            Files::from([(bundle.path.clone(), private_file(context.pod, data, default))])
        } else if let Some(wanted) = &part.pod_certificate {
            certificate_files(wanted, (context.certificate)(wanted)?, context.pod, default)
        } else {
            continue;
        };
        out.extend(files);
    }
    Ok(out)
}

/// The key and the certificates, together and each by itself, wherever the projection wants them.
fn certificate_files(
    wanted: &PodCertificateProjection,
    Credential { key, chain }: Credential,
    pod: &Pod,
    default: Option<i32>,
) -> Files {
    let together = format!("{key}{chain}");
    let places =
        [(&wanted.credential_bundle_path, together), (&wanted.key_path, key), (&wanted.certificate_chain_path, chain)];
    let named =
        places.into_iter().filter_map(|(path, text)| Some((path.clone().filter(|path| !path.is_empty())?, text)));
    named.map(|(path, text)| (path, private_file(pod, text.into_bytes(), default))).collect()
}

/// kubernetes/kubernetes pkg/volume/projected: a credential is private to the pod's user, when all containers share one.
fn private_file(pod: &Pod, data: Vec<u8>, default: Option<i32>) -> File {
    let owner = only_user(pod);
    let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()?.fs_group);
    let private = owner.is_some() || group.is_some();
    File { mode: if private { TOKEN_MODE } else { mode(None, default) }, data, owner }
}

/// The user that every container of the pod runs as, when the spec says so and they agree.
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let default = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(default));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first as u32)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{ConfigMap, Secret};

    use super::*;

    struct One;
    impl Sources for One {
        fn config_map(&self, name: &str) -> Result<Option<Arc<ConfigMap>>, String> {
            let map = serde_json::json!({"data": {"a": "1", "b": "2"}});
            Ok((name == "m").then(|| Arc::new(serde_json::from_value(map).unwrap())))
        }
        fn secret(&self, _: &str) -> Result<Option<Arc<Secret>>, String> {
            Ok(None)
        }
        fn file_key(&self, _: &str, _: &str, _: &str) -> Result<Option<String>, String> {
            Ok(None)
        }
    }

    fn list(volume: serde_json::Value) -> Result<String, String> {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "securityContext": {"runAsUser": 7}}]}}))
        .unwrap();
        let place = Place::default();
        let token = |t: &ServiceAccountTokenProjection| Ok(format!("token for {:?}", t.audience));
        let certificate = |wanted: &PodCertificateProjection| {
            Ok(Credential { key: format!("{} key\n", wanted.key_type), chain: format!("by {}\n", wanted.signer_name) })
        };
        let context = Context { pod: &pod, sources: &One, place: &place, token: &token, certificate: &certificate };
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let line = |(path, f): (String, File)| {
            format!("{path} {:o} {:?} {}\n", f.mode, f.owner, String::from_utf8(f.data).unwrap())
        };
        files(&volume, &context).unwrap().map(|files| files.into_iter().map(line).collect())
    }

    #[test]
    fn a_projected_volume_gathers_everything_in_one_tree() {
        let out = list(serde_json::json!({"name": "v", "projected": {"defaultMode": 0o440, "sources": [
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "x/a", "mode": 0o400}]}},
            {"secret": {"name": "none", "optional": true}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"path": "token", "audience": "vault"}}]}}));
        insta::assert_snapshot!(out.unwrap(), @r#"
        name 440 None p
        token 600 Some(7) token for Some("vault")
        x/a 400 None 1
        "#);
    }

    #[test]
    fn a_certificate_lies_where_it_is_wanted() {
        let out = list(serde_json::json!({"name": "v", "projected": {"sources": [{"podCertificate": {
            "keyType": "ED25519", "signerName": "example.com/s", "credentialBundlePath": "all", "keyPath": "key"}}]}}));
        insta::assert_snapshot!(out.unwrap(), @r#"
        all 600 Some(7) ED25519 key
        by example.com/s

        key 600 Some(7) ED25519 key
        "#);
    }

    #[test]
    fn what_is_missing_is_named() {
        let key =
            list(serde_json::json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}));
        assert_eq!(key.unwrap_err(), "configmap references non-existent config key: z");
        let gone = list(serde_json::json!({"name": "v", "secret": {"secretName": "s"}}));
        assert_eq!(gone.unwrap_err(), "secret \"s\" not found");
    }
}
