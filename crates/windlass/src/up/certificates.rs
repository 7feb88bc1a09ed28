//! The cluster's certificates while it runs: what serves with them, what is shown with them, and their renewal.

use std::sync::Arc;
use std::time::Duration;

use admit::UserInfo;
use bootstrap::kubeconfig::{self, Access};
use bootstrap::pki::{Names, Pki, Renewable, Subject};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::etcd;
use crate::config::Settings;
use crate::progress::Progress;
use crate::remote::{Remote, Shown};

/// The administrator of a new cluster; the group is allowed everything.
pub const ADMIN: Subject = Subject { user: "kubernetes-admin", group: Some("system:masters") };

/// How often certificates are looked at; more often if they are short-lived.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);

pub struct Certificates {
    pub pki: Pki,
    pub apiserver: Arc<Renewable>,
    pub kubelet: Arc<Renewable>,
    pub apiserver_kubelet_client: Arc<Renewable>,
    pub front_proxy_client: Arc<Renewable>,
    /// For the store, where it is served.
    pub etcd: Option<etcd::Credentials>,
    /// The API server that takes the place of ours, if there is one.
    pub remote: Option<Arc<Remote>>,
    settings: Settings,
}

impl Certificates {
    /// Loads the certificates from the data directory, and makes or renews what is needed.
    pub fn ensure(settings: &Settings, progress: &Progress) -> anyhow::Result<Self> {
        let pki = ensure(settings, Timestamp::now())?;
        let made = if pki.made.is_empty() { String::new() } else { format!("  (made: {})", pki.made.join(", ")) };
        progress.done("certificates", format_args!("{}{made}", pki.directory.display()));
        let remote = |server| Remote::new(server, &pki.ca.certificate, shown_by(&pki));
        Ok(Self {
            remote: settings.api_server.as_deref().map(remote),
            etcd: settings.etcd.map(|_| etcd::Credentials::ensure(settings, Timestamp::now())).transpose()?,
            apiserver: Renewable::new(&pki.apiserver)?,
            kubelet: Renewable::new(&pki.kubelet)?,
            apiserver_kubelet_client: Renewable::new(&pki.apiserver_kubelet_client)?,
            front_proxy_client: Renewable::new(&pki.front_proxy_client)?,
            settings: settings.clone(),
            pki,
        })
    }

    /// Writes our kubeconfig and, unless told not to, the user's. Answers whether the latter was done.
    pub fn write_kubeconfigs(&self) -> anyhow::Result<bool> {
        let access = Access {
            server: &self.settings.server_url(),
            ca_certificate: &self.pki.ca.certificate,
            user: ADMIN.user,
            client: &self.pki.issue_client(ADMIN, Timestamp::now())?,
        };
        kubeconfig::write(&self.settings.kubeconfig, &access)?;
        let Some(user) = &self.settings.merge_into else { return Ok(false) };
        match kubeconfig::merge_into(user, &access) {
            Ok(()) => Ok(true),
            // The cluster is usable without it: say so and go on.
            Err(error) => {
                eprintln!("windlass: {error} (left as it is)");
                Ok(false)
            }
        }
    }

    /// Renews what is old, in use as on disk, until cancelled. The clients' certificates, in kubeconfigs and in this process,
    /// are made anew with the others: they were made when those were, or later.
    pub async fn keep(self, stop: CancellationToken) {
        let every = LOOK_EVERY.min(self.settings.certificate_validity / 6);
        let mut clients_owed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            match self.renew(Timestamp::now(), &mut clients_owed) {
                Ok(renewed) if renewed.is_empty() => {}
                Ok(renewed) => tracing::info!(renewed = renewed.join(", "), "certificates renewed"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "certificates not renewed, trying again"),
            }
        }
    }

    /// The clients' certificates are owed from a failure on, whichever it was, until all are made: what was made before it is
    /// not made again, and so would not tell.
    fn renew(&self, now: Timestamp, clients_owed: &mut bool) -> anyhow::Result<Vec<&'static str>> {
        let owed_before = std::mem::replace(clients_owed, true);
        let pki = ensure(&self.settings, now)?;
        self.apiserver.renew(&pki.apiserver)?;
        self.kubelet.renew(&pki.kubelet)?;
        self.apiserver_kubelet_client.renew(&pki.apiserver_kubelet_client)?;
        self.front_proxy_client.renew(&pki.front_proxy_client)?;
        if let Some(etcd) = &self.etcd {
            etcd.renew(&self.settings, now)?;
        }
        *clients_owed = if owed_before || !pki.made.is_empty() {
            if let Some(remote) = &self.remote {
                remote.renew(shown_by(&pki))?;
            }
            let merged = self.write_kubeconfigs()?;
            self.settings.merge_into.is_some() && !merged
        } else {
            false
        };
        Ok(pki.made)
    }
}

/// Each is the user that it is by a certificate of its own; but a ServiceAccount, which has more groups than a certificate
/// can name, by the administrator's leave to be it.
fn shown_by(pki: &Pki) -> impl Fn(&UserInfo) -> anyhow::Result<Shown> + use<> {
    let pki = pki.clone();
    move |user| {
        let acts_as = user.name.starts_with("system:serviceaccount:").then(|| user.name.clone());
        let group = user.groups.iter().map(String::as_str).find(|group| *group != "system:authenticated");
        let subject = if acts_as.is_some() { ADMIN } else { Subject { user: &user.name, group } };
        Ok(Shown { pair: pki.issue_client(subject, Timestamp::now())?, acts_as })
    }
}

fn ensure(settings: &Settings, now: Timestamp) -> anyhow::Result<Pki> {
    Ok(Pki::ensure(&settings.data.join("pki"), &names(settings), settings.certificate_validity, now)?)
}

/// What the serving certificates name.
pub fn names(settings: &Settings) -> Names {
    Names {
        node: settings.node_name.clone(),
        node_addresses: vec![settings.node_ip],
        extra: settings.tls_san.clone(),
        service_address: settings.kubernetes_address(),
        cluster_domain: settings.cluster_domain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    #[test]
    fn a_kubeconfig_that_could_not_be_written_is_owed() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("blocked");
        let options = Options {
            data_dir: Some(dir.path().join("data")),
            kubeconfig: Some(blocked.join("admin.conf")),
            node_name: Some("n".to_owned()),
            no_merge_kubeconfig: true,
            ..Options::default()
        };
        let settings = options.resolve().unwrap();
        let certificates = Certificates::ensure(&settings, &Progress::new()).unwrap();
        let late = Timestamp::now() + settings.certificate_validity;
        let mut owed = false;
        // A file where its directory should be.
        std::fs::write(&blocked, "").unwrap();
        assert!(certificates.renew(late, &mut owed).is_err() && owed);
        std::fs::remove_file(&blocked).unwrap();
        assert!(certificates.renew(late, &mut owed).unwrap().is_empty(), "the leaves were saved the first time");
        assert!(!owed && settings.kubeconfig.exists());
        std::fs::remove_file(&settings.kubeconfig).unwrap();
        assert!(certificates.renew(late, &mut owed).unwrap().is_empty());
        assert!(!owed && !settings.kubeconfig.exists(), "what was not owed was written");
    }

    #[test]
    fn the_stores_certificate_is_renewed_with_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            data_dir: Some(dir.path().join("data")),
            kubeconfig: Some(dir.path().join("admin.conf")),
            node_name: Some("n".to_owned()),
            no_merge_kubeconfig: true,
            etcd_bind_address: Some("127.0.0.1:0".parse().unwrap()),
            ..Options::default()
        };
        let settings = options.resolve().unwrap();
        let certificates = Certificates::ensure(&settings, &Progress::new()).unwrap();
        let on_disk = || std::fs::read_to_string(settings.data.join("pki/etcd/server.crt")).unwrap();
        let first = on_disk();
        let expiry = bootstrap::csr::expires(first.as_bytes()).unwrap();
        certificates.renew(expiry, &mut false).unwrap();
        assert!(bootstrap::csr::expires(on_disk().as_bytes()).unwrap() > expiry);
    }
}
