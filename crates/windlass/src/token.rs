//! `windlass token`: what lets hosts join this cluster.

use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use bootstrap::token::{NAMESPACE, SECRET_TYPE, Token, secret_name};
use bootstrap::{discovery, files};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::config::Settings;
use crate::process;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make a token, and print the command by which a host joins with it
    Create {
        /// How long it is good, as 30m or 24h; 0: for ever
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        ttl: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Print the token alone
        #[arg(long, short)]
        quiet: bool,
    },
    /// The tokens there are
    List,
    /// Take a token away: nobody joins with it any more
    Delete {
        /// The token, or what stands before its dot
        token: String,
    },
}

pub fn run(settings: &Settings, action: Action) -> anyhow::Result<()> {
    process::block_on(act(settings, action))
}

async fn act(settings: &Settings, action: Action) -> anyhow::Result<()> {
    let (client, authority) = administrator(&settings.kubeconfig).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    match action {
        Action::Create { ttl, description, quiet } => {
            let token = Token::generate();
            let expires = lifetime(&ttl)?.map(|lifetime| Timestamp::now() + lifetime);
            let secret: Secret = serde_json::from_value(token.secret(expires, description.as_deref()))?;
            secrets.create(&PostParams::default(), &secret).await.context("cannot make the token")?;
            if quiet {
                println!("{token}");
            } else {
                let hash = discovery::ca_hash(&authority)?;
                println!("windlass join {} --token {token} --ca-hash {hash}", advertised(&client).await?);
            }
        }
        Action::List => {
            let only = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
            println!("{:<24} {:<26} DESCRIPTION", "TOKEN", "EXPIRES");
            for secret in secrets.list(&only).await.context("cannot list the tokens")? {
                let data = |field: &str| match secret.data.as_ref().and_then(|data| data.get(field)) {
                    Some(bytes) => String::from_utf8_lossy(&bytes.0).into_owned(),
                    None => String::new(),
                };
                let expires = Some(data("expiration")).filter(|text| !text.is_empty()).unwrap_or("never".to_owned());
                let token = format!("{}.{}", data("token-id"), data("token-secret"));
                println!("{:<24} {:<26} {}", token, expires, data("description"));
            }
        }
        Action::Delete { token } => {
            let id = token.split('.').next().unwrap_or_default();
            match secrets.delete(&secret_name(id), &DeleteParams::default()).await {
                Ok(_) => println!("token {id} deleted"),
                Err(kube::Error::Api(status)) if status.code == 404 => bail!("there is no token {id:?}"),
                Err(error) => return Err(error).context("cannot delete the token"),
            }
        }
    }
    Ok(())
}

/// Where the cluster says that it is.
async fn advertised(client: &kube::Client) -> anyhow::Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), discovery::NAMESPACE);
    let info = maps.get(discovery::NAME).await.context("the cluster does not say where it is")?;
    Ok(discovery::server(&info.data.unwrap_or_default())?)
}

/// `None`: without end.
fn lifetime(text: &str) -> anyhow::Result<Option<SignedDuration>> {
    if text == "0" {
        return Ok(None);
    }
    let lifetime: SignedDuration =
        text.parse().ok().with_context(|| format!("--ttl: {text:?} is no duration such as 30m or 24h"))?;
    if !lifetime.is_positive() {
        bail!("--ttl: must be more than nothing, or 0 for ever");
    }
    Ok(Some(lifetime))
}

/// The cluster's administrator by the kubeconfig that `up` wrote, and the cluster's authority.
async fn administrator(path: &Path) -> anyhow::Result<(kube::Client, String)> {
    let text = files::read_if_present(path)?.with_context(|| {
        format!("{}: no cluster was started from here (windlass up), or --kubeconfig is another", path.display())
    })?;
    let unusable = || format!("{}: not a kubeconfig of this cluster", path.display());
    let kubeconfig: Kubeconfig = serde_yaml_ng::from_str(&text).with_context(unusable)?;
    let encoded =
        kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref()?.certificate_authority_data.clone());
    let authority =
        base64::engine::general_purpose::STANDARD.decode(encoded.with_context(unusable)?).with_context(unusable)?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.with_context(unusable)?;
    Ok((kube::Client::try_from(config).with_context(unusable)?, String::from_utf8(authority).with_context(unusable)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_token_is_good() {
        assert_eq!(lifetime("24h").unwrap(), Some(SignedDuration::from_hours(24)));
        assert_eq!(lifetime("1m30s").unwrap(), Some(SignedDuration::from_secs(90)));
        assert_eq!(lifetime("0").unwrap(), None);
        assert!(lifetime("soon").is_err() && lifetime("-1h").is_err() && lifetime("0s").is_err());
    }
}
