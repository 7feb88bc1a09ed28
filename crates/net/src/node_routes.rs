//! The way to the pods of other nodes: a route through the node where both are on one segment, else through a VXLAN.
//!
//! What was made is on record in a file before it is made, so that it can be taken away when no node runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use netplan::{Cidr, pods_elsewhere};
use tokio_util::sync::CancellationToken;

use crate::netlink::{Refused, Socket};
use crate::watch::Cache;
use crate::{route, vxlan};

/// Routes that somebody else has taken away are put back this often, and neighbours looked at anew.
const LOOK_EVERY: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct RoutesConfig {
    pub node_name: String,
    pub node_address: IpAddr,
    /// This node's pods.
    pub node_range: Cidr,
    /// The pods' bridge, whose name the VXLAN's is made of.
    pub bridge: String,
    /// The file that says which routes there are.
    pub record: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    #[error("{what}: {source}")]
    Netlink { what: String, source: Refused },
    #[error("{path}: {source}")]
    Record { path: PathBuf, source: std::io::Error },
}

fn netlink(what: impl Into<String>) -> impl FnOnce(Refused) -> RoutesError {
    let what = what.into();
    move |source| RoutesError::Netlink { what, source }
}

/// Routes in the network namespace where it was opened.
pub struct NodeRoutes {
    config: RoutesConfig,
    socket: Socket,
    /// On record: ranges to which there may be a route of ours.
    recorded: Vec<Cidr>,
}

impl NodeRoutes {
    pub fn open(config: RoutesConfig) -> Result<NodeRoutes, RoutesError> {
        let socket = Socket::route().map_err(netlink("open netlink"))?;
        let recorded = read(&config.record)?;
        Ok(NodeRoutes { config, socket, recorded })
    }

    /// Takes every route on record away, and the VXLAN. No node may run.
    pub fn cleanup(record: &Path, bridge: &str) -> Result<(), RoutesError> {
        let mut socket = Socket::route().map_err(netlink("open netlink"))?;
        for range in read(record)? {
            route::delete_pod_route(&mut socket, (range.address(), range.prefix()))
                .map_err(netlink(format!("delete route to {range}")))?;
        }
        route::delete_link(&mut socket, &vxlan::interface_of(bridge)).map_err(netlink("delete interface"))?;
        match std::fs::remove_file(record) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RoutesError::Record { path: record.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// Keeps the routes as the API server has the nodes, until cancelled. Those of an earlier process stay until all nodes
    /// have been listed; on return they stay.
    pub async fn run(mut self, client: Client, token: CancellationToken) {
        let all = watcher::Config::default();
        let mut events = watcher(Api::<Node>::all(client), all).default_backoff().boxed();
        let mut nodes: Cache<Node> = Cache::default();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let mut next = tokio::select! {
                () = token.cancelled() => return,
                event = events.next() => event,
                _ = look.tick() => None,
            };
            while let Some(event) = next {
                match event {
                    Ok(event) => nodes.apply(event, &mut |_, _, _| {}),
                    Err(error) => tracing::warn!(%error, "watch of nodes failed"),
                }
                next = events.next().now_or_never().flatten();
            }
            if !nodes.complete {
                continue;
            }
            let ways = pods_elsewhere(nodes.objects.values().map(AsRef::as_ref), &self.config.node_name);
            if let Err(error) = self.set(&ways) {
                tracing::error!(%error, "routes to other nodes' pods are not as they should be, trying again");
            }
        }
    }

    /// Brings the kernel to these ways and no others.
    pub fn set(&mut self, ways: &BTreeMap<Cidr, IpAddr>) -> Result<(), RoutesError> {
        let (stale, kept): (Vec<Cidr>, Vec<Cidr>) = self.recorded.iter().partition(|range| !ways.contains_key(range));
        for range in &stale {
            route::delete_pod_route(&mut self.socket, (range.address(), range.prefix()))
                .map_err(netlink(format!("delete route to {range}")))?;
        }
        let wanted: Vec<Cidr> = ways.keys().copied().collect();
        if self.recorded != wanted {
            write(&self.config.record, &wanted)?;
            self.recorded = wanted;
        }
        if kept.len() < self.recorded.len() || !stale.is_empty() {
            tracing::info!(nodes = ways.len(), "ways to other nodes' pods");
        }
        for (range, node) in ways {
            self.lead(*range, *node).map_err(netlink(format!("route to {range} through {node}")))?;
        }
        Ok(())
    }

    fn lead(&mut self, range: Cidr, node: IpAddr) -> Result<(), Refused> {
        let to = (range.address(), range.prefix());
        if let Some(index) = route::neighbour_link(&mut self.socket, node)? {
            return route::put_pod_route(&mut self.socket, to, index, node);
        }
        let name = vxlan::interface_of(&self.config.bridge);
        let mtu = self.mtu()?.saturating_sub(vxlan::OVERHEAD_BYTES);
        let (own, local) = (self.config.node_range, self.config.node_address);
        let index = vxlan::ensure(&mut self.socket, &name, own, local, mtu)?;
        let gateway = vxlan::put_node(&mut self.socket, index, range, node)?;
        route::put_pod_route(&mut self.socket, to, index, gateway)
    }

    /// Of the bridge, which is the network's between the nodes.
    fn mtu(&mut self) -> Result<u32, Refused> {
        Ok(route::link(&mut self.socket, &self.config.bridge)?.map_or(1500, |link| link.mtu))
    }
}

fn read(record: &Path) -> Result<Vec<Cidr>, RoutesError> {
    let failed = |source| RoutesError::Record { path: record.to_owned(), source };
    match std::fs::read_to_string(record) {
        Ok(text) => {
            text.lines().map(|line| line.parse().map_err(|error| failed(std::io::Error::other(error)))).collect()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn write(record: &Path, ranges: &[Cidr]) -> Result<(), RoutesError> {
    let text: String = ranges.iter().map(|range| format!("{range}\n")).collect();
    let temporary = record.with_extension("new");
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, record));
    written.map_err(|source| RoutesError::Record { path: record.to_owned(), source })
}
