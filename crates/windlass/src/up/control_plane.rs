//! Store, API server, controllers and scheduler.

use std::sync::Arc;

use admit::UserInfo;
use anyhow::Context;
use apiserver::{ApiServer, KubeletClient};
use bootstrap::pki::Pki;
use store::{Embedded, Store};
use tokio_util::sync::CancellationToken;

use super::Components;
use crate::config::Settings;
use crate::progress::Progress;

pub async fn start(
    settings: &Settings,
    pki: &Pki,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<ApiServer> {
    let options = store::Options { compact_every: settings.compact_every, ..store::Options::default() };
    let directory = settings.data.join("store");
    let store = Embedded::open(&directory, options)
        .await
        .with_context(|| format!("cannot open the store in {}", directory.display()))?;
    progress.done("store", format_args!("revision {}", store.status().await?.revision));
    let server = ApiServer::new(config(settings, pki), Arc::new(store)).await.context("cannot start the API server")?;
    let stopping = (server.clone(), stop.clone());
    tokio::spawn(async move {
        stopping.1.cancelled().await;
        stopping.0.stop();
    });
    Ok(server)
}

fn config(settings: &Settings, pki: &Pki) -> apiserver::Config {
    apiserver::Config {
        tls_certificate: pki.apiserver.certificate.clone().into_bytes(),
        tls_key: pki.apiserver.key.clone().into_bytes(),
        client_ca: pki.ca.certificate.clone().into_bytes(),
        service_account_key: pki.service_account.key.clone().into_bytes(),
        advertise_address: settings.node_ip,
        port: settings.api.port(),
        service_cidr: settings.service_range.to_string(),
        kubelet: Some(KubeletClient {
            certificate: pki.apiserver_kubelet_client.certificate.clone().into_bytes(),
            key: pki.apiserver_kubelet_client.key.clone().into_bytes(),
            ca: pki.ca.certificate.clone().into_bytes(),
        }),
        ..apiserver::Config::default()
    }
}

/// Controllers and scheduler over one cache. Each controller acts under its own ServiceAccount's name, as upstream's do.
pub fn run_components(pki: &Pki, server: &ApiServer, stop: &CancellationToken) -> Components {
    let accounts = server.clone();
    let options = runner::Options {
        settings: Arc::new(runner::Settings { root_ca: Some(pki.ca.certificate.clone()), ..Default::default() }),
        accounts: Some(runner::Accounts::new(move |name| {
            let user = format!("system:serviceaccount:kube-system:{name}");
            accounts.client(UserInfo::new(user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"]))
        })),
        ..Default::default()
    };
    let controllers = server.client(UserInfo::new("system:kube-controller-manager", &[]));
    let scheduler = server.client(UserInfo::new("system:kube-scheduler", &[]));
    let token = stop.clone();
    let mut components = Components::new();
    components.spawn(async move {
        let ended = runner::run_control_plane(controllers, scheduler, options, token).await;
        ("controllers and scheduler", ended.map_err(Into::into))
    });
    components
}
