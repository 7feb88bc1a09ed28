//! Store and API server, or the API server in their place; controllers and scheduler.

use std::path::Path;
use std::sync::Arc;

use admit::UserInfo;
use anyhow::Context;
use apiserver::{ApiServer, FrontProxy, KubeletClient, SyncTimes};
use bootstrap::pki::Pki;
use jiff::Timestamp;
use journal::{Journal, Record, Subject, What};
use runner::{PodRanges, Range};
use store::{Embedded, Store};
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::keys::{ClusterAuthority, SecretTokens};
use crate::config::{Part, Settings};
use crate::process::Components;
use crate::progress::Progress;
use crate::remote::Remote;

/// The API server, in this process or not: where every part of it gets its clients.
#[derive(Clone)]
pub enum Api {
    Own(ApiServer),
    Other(Arc<Remote>),
}

impl Api {
    pub fn client(&self, user: UserInfo) -> anyhow::Result<kube::Client> {
        match self {
            Api::Own(server) => Ok(server.client(user)),
            Api::Other(remote) => remote.client(user),
        }
    }
}

/// Starts store and API server.
pub async fn start(
    settings: &Settings,
    certificates: &Certificates,
    journal: &Arc<dyn Journal>,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<ApiServer> {
    let config = config(settings, certificates, journal);
    let (store, config): (Arc<dyn Store>, _) = match &settings.etcd_servers {
        Some(servers) => {
            let client = super::etcd::connect(servers, progress).await?;
            (Arc::new(client), apiserver::Config { compact_every: settings.compact_every, ..config })
        }
        None => {
            let sync_times = SyncTimes::default();
            let store = Arc::new(open(settings, journal, sync_times.clone(), progress).await?);
            if let (Some(address), Some(credentials)) = (settings.etcd, &certificates.etcd) {
                super::etcd::start(credentials, address, store.clone(), stop.clone()).await?;
                progress.done("etcd", format_args!("https://{address}"));
            }
            (store, apiserver::Config { sync_times: Some(sync_times), ..config })
        }
    };
    let server = ApiServer::new(config, store).await.context("cannot start the API server")?;
    let stopping = (server.clone(), stop.clone());
    tokio::spawn(async move {
        stopping.1.cancelled().await;
        stopping.0.stop();
    });
    Ok(server)
}

/// The store of this process.
async fn open(
    settings: &Settings,
    journal: &Arc<dyn Journal>,
    sync_times: SyncTimes,
    progress: &Progress,
) -> anyhow::Result<Embedded> {
    let directory = settings.data.join("store");
    let options = store::Options {
        compact_every: settings.compact_every,
        on_sync: Some(on_sync(journal.clone(), &directory, sync_times)),
        ..store::Options::default()
    };
    let store = Embedded::open(&directory, options)
        .await
        .with_context(|| format!("cannot open the store in {}", directory.display()))?;
    progress.done("store", format_args!("revision {}", store.status().await?.revision));
    Ok(store)
}

/// Measures the store's syncs, and puts the slow ones on the node's record: much that fails later has its cause there.
fn on_sync(journal: Arc<dyn Journal>, directory: &Path, times: SyncTimes) -> store::OnSync {
    let path = directory.display().to_string();
    Arc::new(move |took| {
        times.observe(took);
        if took < store::SLOW_SYNC {
            return;
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let what = What::FsyncStall { path: path.clone(), took_ms };
        journal.write(Timestamp::now(), Record::new(Subject::node(), what));
    })
}

fn config(settings: &Settings, certificates: &Certificates, journal: &Arc<dyn Journal>) -> apiserver::Config {
    let pki = &certificates.pki;
    apiserver::Config {
        serving: Some(certificates.apiserver.clone()),
        client_ca: pki.ca.certificate.clone().into_bytes(),
        service_account_key: pki.service_account.key.clone().into_bytes(),
        advertise_address: settings.node_ip,
        port: settings.api.port(),
        service_cidr: settings.service_range.to_string(),
        kubelet: Some(KubeletClient {
            certificate: certificates.apiserver_kubelet_client.clone(),
            ca: pki.ca.certificate.clone().into_bytes(),
        }),
        front_proxy: Some(FrontProxy {
            certificate: certificates.front_proxy_client.clone(),
            ca: pki.front_proxy_ca.certificate.clone().into_bytes(),
        }),
        journal: Some(journal.clone()),
        ..apiserver::Config::default()
    }
}

/// Controllers and scheduler over one cache. Each controller acts under its own ServiceAccount's name, as upstream's do.
pub fn run_components(
    settings: &Settings,
    pki: &Pki,
    api: &Api,
    journal: &Arc<dyn Journal>,
    stop: &CancellationToken,
) -> anyhow::Result<Components> {
    let (accounts, journal) = (api.clone(), journal.clone());
    let options = runner::Options {
        settings: Arc::new(controller_settings(settings, pki)?),
        accounts: Some(runner::Accounts::new(move |name| {
            let user = format!("system:serviceaccount:kube-system:{name}");
            let user = UserInfo::new(user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"]);
            accounts.client(user).map_err(Into::into)
        })),
        refused: Some(runner::Refused::new(move |pod, message| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let meta = &pod.metadata;
            let subject = Subject::pod(text(&meta.namespace), text(&meta.name), text(&meta.uid));
            let what = What::SchedulingRefused { message: message.to_owned() };
            journal.write(Timestamp::now(), Record::new(subject, what));
        })),
        ..Default::default()
    };
    let controllers = api.client(UserInfo::new("system:kube-controller-manager", &[]))?;
    let scheduler = api.client(UserInfo::new("system:kube-scheduler", &[]))?;
    let (both, token) = ((settings.runs(Part::Controllers), settings.runs(Part::Scheduler)), stop.clone());
    let mut components = Components::new();
    components.spawn(async move {
        let (name, ended) = match both {
            (true, true) => {
                let ended = runner::run_control_plane(controllers, scheduler, options, token).await;
                ("controllers and scheduler", ended)
            }
            (true, false) => ("controllers", runner::run_controllers(controllers, options, token).await),
            (false, true) => ("scheduler", runner::run_scheduler(scheduler, options, token).await),
            (false, false) => {
                token.cancelled().await;
                ("no controllers or scheduler", Ok(()))
            }
        };
        (name, ended.map_err(Into::into))
    });
    Ok(components)
}

fn controller_settings(settings: &Settings, pki: &Pki) -> anyhow::Result<runner::Settings> {
    let cluster = Range::parse(&settings.cluster_range.to_string());
    let pod_ranges = cluster.map(|cluster| PodRanges { cluster, node_prefix: settings.node_prefix() });
    Ok(runner::Settings {
        pod_ranges,
        root_ca: Some(pki.ca.certificate.clone()),
        token_signer: Some(Arc::new(SecretTokens::new(pki)?)),
        certificate_authority: Some(Arc::new(ClusterAuthority::new(pki))),
        certificate_life: settings.certificate_validity,
        ..Default::default()
    })
}
