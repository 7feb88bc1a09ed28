//! The pod network of a node that may not know its pods' addresses yet: those of a node that joins are given to it when it
//! is registered.

use std::net::IpAddr;
use std::sync::OnceLock;

use anyhow::Context;
use async_trait::async_trait;
use net::{BridgeConfig, BridgeNetwork};
use pods::ports::{Network, NetworkError, PodNetwork};

/// What a node says of itself until then.
const WAITING: &str = "the node has not been given addresses for its pods yet (spec.podCIDR)";

#[derive(Default)]
pub struct NodeNetwork {
    opened: OnceLock<BridgeNetwork>,
}

impl NodeNetwork {
    /// Makes bridge, routes and rules; pods can be attached from now on.
    pub async fn open(&self, config: BridgeConfig) -> anyhow::Result<()> {
        let opened = tokio::task::spawn_blocking(move || BridgeNetwork::open(config)).await?;
        let opened = opened.context("cannot set up the pod network")?;
        self.opened.set(opened).map_err(|_| anyhow::anyhow!("the pod network was opened twice"))
    }
}

#[async_trait]
impl Network for NodeNetwork {
    async fn attach(&self, pod: &PodNetwork) -> Result<Vec<IpAddr>, NetworkError> {
        match self.opened.get() {
            Some(network) => network.attach(pod).await,
            None => Err(NetworkError::Failed(WAITING.to_owned())),
        }
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        match self.opened.get() {
            Some(network) => network.detach(pod_uid).await,
            None => Ok(()),
        }
    }

    async fn retain(&self, pod_uids: &[String]) -> Result<(), NetworkError> {
        match self.opened.get() {
            Some(network) => network.retain(pod_uids).await,
            None => Ok(()),
        }
    }

    async fn ready(&self) -> Option<String> {
        match self.opened.get() {
            Some(network) => network.ready().await,
            None => Some(WAITING.to_owned()),
        }
    }
}
