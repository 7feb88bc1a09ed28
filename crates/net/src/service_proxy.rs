//! The service proxy of a node (kube-proxy's part): Services and EndpointSlices become nftables rules as they change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use netplan::{Change, Cidr, Family, NodeView, Rules};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::conntrack;
use crate::health_ports::HealthPorts;
use crate::http;
use crate::netlink::{Refused, Socket};
use crate::proxy_status::Status;
use crate::service_rules::Layout;
use crate::watch::{Changed, OwnNode, ServiceWatch};

#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// nftables table (family `ip`).
    pub table: String,
    /// Every pod's addresses: traffic from others to cluster addresses is masqueraded.
    pub pod_range: Cidr,
    pub service_ranges: Vec<Cidr>,
    pub node: NodeView,
    /// Where load balancers and probes ask for the proxy's health: `/healthz`, `/livez`.
    pub healthz: Option<SocketAddr>,
    /// Where its figures are: `/metrics`.
    pub metrics: Option<SocketAddr>,
}

impl Default for ProxyConfig {
    fn default() -> ProxyConfig {
        let network = crate::BridgeConfig::default();
        ProxyConfig {
            table: "windlass-services".to_owned(),
            pod_range: network.cluster_range,
            service_ranges: network.service_range.into_iter().collect(),
            node: NodeView::default(),
            healthz: None,
            metrics: None,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct ProxyError {
    what: &'static str,
    source: Refused,
}

/// The rules as the kernel has them, in the network namespace where it was opened.
pub struct ServiceProxy {
    layout: Layout,
    node: NodeView,
    socket: Socket,
    rules: Rules,
    /// Emptied chains that are still to be deleted.
    retired: Vec<String>,
    installed: bool,
    status: Arc<Status>,
    healthz: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

impl ServiceProxy {
    pub fn open(config: ProxyConfig) -> Result<ServiceProxy, ProxyError> {
        let socket = Socket::netfilter().map_err(|source| ProxyError { what: "open netlink", source })?;
        let ProxyConfig { table, pod_range, service_ranges, node, healthz, metrics } = config;
        Ok(ServiceProxy {
            layout: Layout { table, pod_range, service_ranges },
            node,
            socket,
            rules: Rules::default(),
            retired: Vec::new(),
            installed: false,
            status: Arc::new(Status::new()),
            healthz,
            metrics,
        })
    }

    /// Removes the table. The proxy must not run.
    pub fn cleanup(config: &ProxyConfig) -> Result<(), ProxyError> {
        let mut proxy = ServiceProxy::open(config.clone())?;
        proxy.layout.remove(&mut proxy.socket).map_err(|source| ProxyError { what: "delete service rules", source })
    }

    /// Keeps the rules as the API server has the services, and tells of them over HTTP, until cancelled. The rules of an
    /// earlier process stay until everything has been listed, and are then replaced in one step; on return the rules stay.
    pub async fn run(mut self, client: Client, token: CancellationToken) {
        let status = self.status.clone();
        let mut servers = JoinSet::new();
        if let Some(address) = self.healthz {
            let pages = status.clone();
            let pages = Arc::new(move |path: &str| pages.health_page(path, Timestamp::now()));
            servers.spawn(http::serve_at("the proxy's health", address, pages));
        }
        if let Some(address) = self.metrics {
            let pages = status.clone();
            servers.spawn(http::serve_at(
                "the proxy's metrics",
                address,
                Arc::new(move |path| pages.metrics_page(path)),
            ));
        }
        tokio::select! {
            () = token.cancelled() => {}
            () = self.keep(client) => {}
        }
    }

    async fn keep(&mut self, client: Client) {
        let mut node = OwnNode::new(client.clone(), &self.node.name);
        let mut watch = ServiceWatch::new(client, false);
        let mut ports = HealthPorts::new(self.status.clone());
        let mut changed = Changed::default();
        let mut failed = false;
        loop {
            let retry = async {
                match failed {
                    true => tokio::time::sleep(Duration::from_secs(1)).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = watch.changed(&mut changed) => {}
                seen = node.changed() => {
                    self.status.set_eligible(seen.eligible);
                    if self.node.zone != seen.zone {
                        self.node.zone = seen.zone;
                        changed.services.extend(watch.all_services());
                    }
                }
                () = retry => {}
            }
            let began = Timestamp::now();
            if !changed.services.is_empty() || !changed.endpoints.is_empty() {
                self.status.queued(changed.services.len(), changed.endpoints.len(), began);
            }
            if !watch.complete() {
                continue;
            }
            let mut keys = std::mem::take(&mut changed.services);
            keys.append(&mut changed.endpoints);
            let work = keys.iter().map(|key| (key.as_str(), watch.service(key), watch.slices(key)));
            failed = match self.update(work) {
                Ok(()) => {
                    let now = Timestamp::now();
                    self.status.updated(now.duration_since(began).unsigned_abs(), now);
                    false
                }
                Err(error) => {
                    self.status.failed();
                    tracing::error!(%error, "service rules could not be written, trying again");
                    true
                }
            };
            failed |= !ports.sync(&self.health_checks()).await;
        }
    }

    /// Brings services up to date: each by key, `None` when gone, with all its slices. After an error the next call
    /// writes everything anew.
    pub fn update<'s>(
        &mut self,
        services: impl IntoIterator<Item = (&'s str, Option<&'s Service>, Vec<Arc<EndpointSlice>>)>,
    ) -> Result<(), ProxyError> {
        let mut total = Change::default();
        for (key, service, slices) in services {
            let fragment = service.map(|service| netplan::plan(service, &slices, Family::Ipv4, &self.node));
            let change = self.rules.replace(key, fragment);
            let stale = (!change.stale_udp.is_empty() || !change.woken_udp.is_empty()).then(|| change.clone());
            if self.installed && !change.is_empty() {
                self.carry_out(&change)?;
            }
            if let Some(stale) = stale {
                total.stale_udp.extend(stale.stale_udp);
                total.woken_udp.extend(stale.woken_udp);
            }
        }
        if !self.installed {
            let everything = self.rules.everything();
            self.layout
                .install(&mut self.socket, &everything)
                .map_err(|source| ProxyError { what: "install service rules", source })?;
            self.installed = true;
            self.retired.clear();
        }
        conntrack::forget_udp(&mut self.socket, &total.stale_udp, &total.woken_udp)
            .map(drop)
            .map_err(|source| ProxyError { what: "forget stale UDP connections", source })
    }

    fn carry_out(&mut self, change: &Change) -> Result<(), ProxyError> {
        match self.layout.change(&mut self.socket, change) {
            Ok(retired) => {
                self.retired.extend(retired);
                self.retired.retain(|chain| !change.add_chains.contains_key(chain));
                let retired = std::mem::take(&mut self.retired);
                self.retired = self.layout.delete_chains(&mut self.socket, retired);
                Ok(())
            }
            Err(source) => {
                // Somebody has changed the table behind us, perhaps flushed it.
                tracing::warn!(%source, "service rules are not as expected, writing all of them");
                self.installed = false;
                Ok(())
            }
        }
    }

    /// Node ports that tell a load balancer how many endpoints there are here: port, service, number.
    fn health_checks(&self) -> Vec<(u16, String, usize)> {
        self.rules.health_checks().map(|(port, service, endpoints)| (port, service.to_owned(), endpoints)).collect()
    }
}
