//! A node of another version than its cluster is told, where it is started and where the cluster is looked at: nobody should
//! have to find out by its faults.

use std::time::Duration;

use anyhow::bail;
use bootstrap::skew::{Skew, skew};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, PostParams};
use tokio_util::sync::CancellationToken;

use crate::version;

/// How often a node looks whether the cluster's version has changed.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How soon again while the API server does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Refuses what upstream's policy does not support; says what it does not recommend.
pub fn check(server: &str) -> anyhow::Result<()> {
    let (node, told) = (version::KUBERNETES, words(server));
    match skew(node, server) {
        Skew::None => Ok(()),
        Skew::Supported => {
            eprintln!("windlass: warning: {told}");
            Ok(())
        }
        Skew::Unsupported => bail!("{told}"),
    }
}

fn words(server: &str) -> String {
    let node = version::KUBERNETES;
    match skew(node, server) {
        Skew::Unsupported => format!(
            "this node is {node} and the cluster {server}: a node may be of the same minor version or up to three older, never \
             newer. Install the cluster's version here"
        ),
        _ => format!(
            "this node is {node} and the cluster {server}: it works, but the node should be brought to the same version"
        ),
    }
}

/// Tells of a difference in the log and by an event of the node, whenever the cluster's version changes.
pub async fn watch(client: kube::Client, node: String, stop: CancellationToken) -> (&'static str, anyhow::Result<()>) {
    let mut told = None;
    while !stop.is_cancelled() {
        let wait = match client.apiserver_version().await {
            Ok(info) => {
                let server = info.git_version;
                if told.as_ref() != Some(&server) && skew(version::KUBERNETES, &server) != Skew::None {
                    eprintln!("windlass: warning: {}", words(&server));
                    if let Err(error) = tell(&client, &node, &words(&server)).await {
                        tracing::warn!(%error, "event of the version not written");
                    }
                }
                told = Some(server);
                LOOK_EVERY
            }
            Err(_) => AGAIN_AFTER,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    ("version", Ok(()))
}

async fn tell(client: &kube::Client, node: &str, message: &str) -> kube::Result<()> {
    let now = Some(Time(jiff::Timestamp::now()));
    let event = Event {
        metadata: ObjectMeta { generate_name: Some(format!("{node}.")), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            uid: Some(node.into()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".into()),
        reason: Some("VersionSkew".into()),
        message: Some(message.into()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        first_timestamp: now.clone(),
        last_timestamp: now,
        count: Some(1),
        ..Event::default()
    };
    Api::namespaced(client.clone(), "default").create(&PostParams::default(), &event).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_the_wrong_version_is_told_so() {
        check(version::KUBERNETES).unwrap();
        check("v1.38.0").unwrap();
        let told = check("v1.36.4").unwrap_err().to_string();
        assert!(
            told.starts_with("this node is v1.37.2 and the cluster v1.36.4:") && told.contains("never newer"),
            "{told}"
        );
    }
}
