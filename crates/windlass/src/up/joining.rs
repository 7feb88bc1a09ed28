//! Publishes what machines that want to join must find in the cluster. Nobody waits for it.

use bootstrap::joining::{self, ClusterFacts};

use super::publish;
use crate::config::Settings;
use crate::node::Clients;
use crate::version;

/// Tries until it is done.
pub async fn publish(client: kube::Client, settings: Settings, server: String, authority: String) {
    let mut objects = joining::objects(&server, &facts(&settings), &Clients::agents());
    objects.push(joining::cluster_info(&server, &authority));
    publish::objects(&client, &objects).await;
}

fn facts(settings: &Settings) -> ClusterFacts {
    ClusterFacts {
        version: version::KUBERNETES.to_owned(),
        pod_subnet: settings.cluster_range.to_string(),
        service_subnet: settings.service_range.to_string(),
        dns_domain: settings.cluster_domain.clone(),
        dns_address: settings.dns_address(),
    }
}
