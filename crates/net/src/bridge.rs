//! The pod network of one node: a bridge that is the pods' gateway, a veth pair and an address for each pod.
//!
//! A pod has its address alone (`/32`) and reaches nothing but the gateway directly, so that all its traffic, also to
//! the pod next door, is routed by the node: services, host ports and policies see every packet with `br_netfilter` or
//! without. All netlink work is done by one thread with open sockets: the kernel takes these requests one at a time
//! anyway, and only a thread of its own may step into a pod's namespace.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc;

use async_trait::async_trait;
use netplan::Cidr;
use nix::errno::Errno;
use pods::ports::{HostPort, Network, NetworkError, PodNetwork};
use tokio::sync::oneshot;

use crate::addresses::{Lease, LeasedPort, Leases};
use crate::namespace::{Away, Home, set_sysctl};
use crate::netlink::{Refused, Socket};
use crate::pod_rules::PodRules;
use crate::route;

/// The name of a pod's interface inside its namespace.
const POD_INTERFACE: &str = "eth0";

#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// At most 15 characters.
    pub bridge: String,
    /// nftables table (family `ip`).
    pub table: String,
    /// This node's share of the pods' addresses; its first address is the gateway.
    pub node_range: Cidr,
    /// Every pod's addresses: traffic to them is never masqueraded.
    pub cluster_range: Cidr,
    /// Routed to the bridge, so that a host without a default route reaches services too, from the gateway's address.
    pub service_range: Option<Cidr>,
    /// `None`: that of the default route's interface.
    pub mtu: Option<u32>,
    /// One small file for each address in use.
    pub state_directory: PathBuf,
}

impl Default for BridgeConfig {
    fn default() -> BridgeConfig {
        let range = |octets: [u8; 4], prefix| Cidr::new(IpAddr::from(octets), prefix);
        let whole = Cidr::single(IpAddr::from([0; 4]));
        BridgeConfig {
            bridge: "windlass0".to_owned(),
            table: "windlass-pods".to_owned(),
            node_range: range([10, 244, 0, 0], 24).unwrap_or(whole),
            cluster_range: range([10, 244, 0, 0], 16).unwrap_or(whole),
            service_range: range([10, 96, 0, 0], 12),
            mtu: None,
            state_directory: PathBuf::from("/var/lib/windlass/network"),
        }
    }
}

impl BridgeConfig {
    /// The bridge's own address, which is the pods' gateway.
    pub fn gateway(&self) -> IpAddr {
        self.node_range.nth(1).unwrap_or(self.node_range.address())
    }
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// `pods::ports::Network` by a bridge and veth pairs.
pub struct BridgeNetwork {
    jobs: mpsc::Sender<Job>,
}

impl BridgeNetwork {
    /// Makes bridge, routes and rules, or takes over those of an earlier process, in the calling thread's network
    /// namespace. Blocks for a few milliseconds.
    pub fn open(config: BridgeConfig) -> Result<BridgeNetwork, NetworkError> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (opened, result) = mpsc::channel();
        let run = move || match Worker::open(config) {
            Ok(mut worker) => {
                if opened.send(Ok(())).is_ok() {
                    while let Ok(job) = work.recv() {
                        job(&mut worker);
                        if worker.lost {
                            return;
                        }
                    }
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        std::thread::Builder::new()
            .name("pod-network".to_owned())
            .spawn(run)
            .map_err(|error| failed("start thread", error))?;
        result.recv().map_err(|_| gone())??;
        Ok(BridgeNetwork { jobs })
    }

    /// Removes every interface, route, rule and file that a network of this configuration has made. It must not run.
    pub fn cleanup(config: &BridgeConfig) -> Result<(), NetworkError> {
        let mut route = Socket::route().map_err(|error| failed("open netlink", error))?;
        let deleted = |error| failed("delete interface", error);
        if let Some(bridge) = route::link(&mut route, &config.bridge).map_err(deleted)? {
            for port in route::links(&mut route).map_err(deleted)? {
                if port.master == Some(bridge.index) {
                    route::delete_link(&mut route, &port.name).map_err(deleted)?;
                }
            }
            route::delete_link(&mut route, &config.bridge).map_err(deleted)?;
        }
        let mut netfilter = Socket::netfilter().map_err(|error| failed("open netlink", error))?;
        PodRules::remove(&config.table, &mut netfilter).map_err(|error| failed("delete rules", error))?;
        match std::fs::remove_dir_all(&config.state_directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("delete addresses", error)),
            _ => Ok(()),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let (answer, result) = oneshot::channel();
        // A receiver that has gone away does not want to know.
        self.jobs.send(Box::new(move |worker| drop(answer.send(job(worker))))).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Network for BridgeNetwork {
    async fn attach(&self, pod: &PodNetwork) -> Result<Vec<IpAddr>, NetworkError> {
        let pod = pod.clone();
        self.run(move |worker| worker.attach(&pod)).await.map(|address| vec![address])
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        let pod_uid = pod_uid.to_owned();
        self.run(move |worker| worker.detach(&pod_uid)).await
    }

    async fn retain(&self, pod_uids: &[String]) -> Result<(), NetworkError> {
        let known: std::collections::HashSet<String> = pod_uids.iter().cloned().collect();
        self.run(move |worker| {
            let unknown: Vec<String> =
                worker.leases.iter().map(|lease| lease.pod_uid.clone()).filter(|uid| !known.contains(uid)).collect();
            unknown.iter().try_for_each(|uid| worker.detach(uid))
        })
        .await
    }

    async fn ready(&self) -> Option<String> {
        self.run(Worker::check).await.err().map(|error| error.to_string())
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> NetworkError {
    NetworkError::Failed(format!("{what}: {error}"))
}

fn gone() -> NetworkError {
    NetworkError::Failed("the pod network has stopped".to_owned())
}

struct Worker {
    config: BridgeConfig,
    home: Home,
    route: Socket,
    netfilter: Socket,
    leases: Leases,
    bridge_index: u32,
    mtu: u32,
    /// The thread could not come back from a pod's namespace.
    lost: bool,
}

impl Worker {
    fn open(config: BridgeConfig) -> Result<Worker, NetworkError> {
        let netlink = |error| failed("open netlink", error);
        let mut route = Socket::route().map_err(netlink)?;
        let netfilter = Socket::netfilter().map_err(netlink)?;
        let home = Home::of_this_thread().map_err(|error| failed("open own network namespace", error))?;
        let leases = Leases::open(&config.state_directory, config.node_range, config.gateway())
            .map_err(|error| failed("read addresses in use", error))?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => default_mtu(&mut route).map_err(|error| failed("read interfaces", error))?,
        };
        let mut worker = Worker { config, home, route, netfilter, leases, bridge_index: 0, mtu, lost: false };
        worker.set_up_bridge()?;
        worker
            .rules(|rules, netfilter, leases| rules.install(netfilter, leases.iter()))
            .map_err(|error| failed("install pod network rules", error))?;
        Ok(worker)
    }

    fn rules<T>(&mut self, act: impl FnOnce(PodRules<'_>, &mut Socket, &Leases) -> T) -> T {
        let rules = PodRules {
            table: &self.config.table,
            bridge: &self.config.bridge,
            node_range: self.config.node_range,
            cluster_range: self.config.cluster_range,
        };
        act(rules, &mut self.netfilter, &self.leases)
    }

    fn set_up_bridge(&mut self) -> Result<(), NetworkError> {
        let name = &self.config.bridge;
        let step = |error| failed(&format!("set up bridge {name}"), error);
        let gateway = self.config.gateway();
        let found = match route::link(&mut self.route, name).map_err(step)? {
            Some(link) => Some(link),
            None => {
                route::create_bridge(&mut self.route, name, mac_of(gateway), self.mtu).map_err(step)?;
                route::link(&mut self.route, name).map_err(step)?
            }
        };
        let bridge = found.ok_or_else(|| step(Refused { index: 0, errno: Errno::ENODEV, message: None }))?;
        self.bridge_index = bridge.index;
        if !bridge.up {
            route::set_up(&mut self.route, bridge.index).map_err(step)?;
        }
        let prefix = self.config.node_range.prefix();
        route::add_address(&mut self.route, bridge.index, gateway, prefix).map_err(step)?;
        if let Some(range) = self.config.service_range {
            let to = (range.address(), range.prefix());
            route::add_link_route(&mut self.route, bridge.index, to, gateway).map_err(step)?;
        }
        let interface = format!("net/ipv4/conf/{name}");
        for (sysctl, value) in [
            ("net/ipv4/ip_forward".to_owned(), "1"),
            (format!("{interface}/route_localnet"), "1"),
            (format!("{interface}/send_redirects"), "0"),
            // Either of the two turns redirects on, and a redirect not only shows pods a way past the rules: it also uses
            // up the allowance for the ICMP errors that refuse a connection. Other interfaces keep their own setting.
            ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
        ] {
            set_sysctl(&sysctl, value).map_err(|error| failed(&format!("set {sysctl} to {value}"), error))?;
        }
        Ok(())
    }

    /// The bridge is there and up; if somebody has deleted it, it is made again.
    fn check(&mut self) -> Result<(), NetworkError> {
        let name = self.config.bridge.clone();
        let found = route::link(&mut self.route, &name).map_err(|error| failed("read interfaces", error))?;
        match found {
            Some(link) if link.up && link.index == self.bridge_index => Ok(()),
            _ => self.set_up_bridge(),
        }
    }

    fn attach(&mut self, pod: &PodNetwork) -> Result<IpAddr, NetworkError> {
        let before = self.leases.get(&pod.pod_uid).cloned();
        let address = match &before {
            Some(lease) => lease.address,
            None => {
                self.leases.free_address().ok_or_else(|| NetworkError::Exhausted(self.config.node_range.to_string()))?
            }
        };
        let lease = Lease {
            address,
            pod_uid: pod.pod_uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            host_ports: pod.host_ports.iter().map(leased_port).collect(),
        };
        // On record before anything is made, so that whatever happens after can be found and undone.
        if before.as_ref() != Some(&lease) {
            self.leases.record(lease.clone()).map_err(|error| failed("record address", error))?;
        }
        let made = self.plug(pod, address).and_then(|()| {
            self.rules(|rules, netfilter, _| rules.change(netfilter, before.as_ref(), Some(&lease)))
                .map_err(|error| failed("open host ports", error))
        });
        if made.is_err() && before.is_none() {
            self.detach(&pod.pod_uid)?;
        }
        made.map(|()| address)
    }

    /// Connects the pod's namespace to the bridge, unless it is so already.
    fn plug(&mut self, pod: &PodNetwork, address: IpAddr) -> Result<(), NetworkError> {
        let path = &pod.network_namespace;
        let namespace =
            File::open(path).map_err(|error| failed(&format!("open network namespace {}", path.display()), error))?;
        let mut inside = self.home.socket_in(&namespace).map_err(|error| {
            self.lost = matches!(error, Away::Lost(_));
            NetworkError::Failed(error.to_string())
        })?;
        let host_name = host_interface(&pod.pod_uid);
        let pair = route::VethPair {
            host_name: &host_name,
            bridge_index: self.bridge_index,
            mtu: self.mtu,
            peer_name: POD_INTERFACE,
            peer_mac: mac_of(address),
            peer_namespace: namespace.as_raw_fd(),
        };
        let step = |what: &'static str| move |error| failed(what, error);
        match route::create_veth(&mut self.route, &pair) {
            Ok(()) => {}
            Err(Refused { errno: Errno::EEXIST, .. }) => {
                let there = route::link(&mut inside, POD_INTERFACE).map_err(step("read pod's interfaces"))?;
                if let Some(there) = there {
                    let held = route::addresses(&mut inside, there.index).map_err(step("read pod's addresses"))?;
                    if held.contains(&address) {
                        return Ok(());
                    }
                }
                route::delete_link(&mut self.route, &host_name).map_err(step("delete stale interface"))?;
                route::create_veth(&mut self.route, &pair).map_err(step("create veth pair"))?;
            }
            Err(error) => return Err(failed("create veth pair", error)),
        }
        let interface = route::link(&mut inside, POD_INTERFACE)
            .map_err(step("read pod's interfaces"))?
            .ok_or_else(|| NetworkError::Failed("the pod's interface has vanished".to_owned()))?;
        route::configure_pod(&mut inside, interface.index, address, self.config.gateway())
            .map_err(step("configure pod's interface"))?;
        route::start_bridge_port(&mut self.route, &host_name).map_err(step("start bridge port"))
    }

    fn detach(&mut self, pod_uid: &str) -> Result<(), NetworkError> {
        route::delete_link(&mut self.route, &host_interface(pod_uid))
            .map_err(|error| failed("delete pod's interface", error))?;
        if let Some(lease) = self.leases.get(pod_uid).cloned() {
            match self.rules(|rules, netfilter, _| rules.change(netfilter, Some(&lease), None)) {
                // The ports were never opened: the lease is written first.
                Ok(()) | Err(Refused { errno: Errno::ENOENT, .. }) => {}
                Err(error) => return Err(failed("close host ports", error)),
            }
        }
        self.leases.release(pod_uid).map(drop).map_err(|error| failed("release address", error))
    }
}

fn leased_port(port: &HostPort) -> LeasedPort {
    LeasedPort {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: port.protocol.clone(),
    }
}

fn default_mtu(route: &mut Socket) -> Result<u32, Refused> {
    let Some(index) = route::default_route_link(route)? else { return Ok(1500) };
    Ok(route::links(route)?.iter().find(|link| link.index == index).map_or(1500, |link| link.mtu))
}

/// A stable name of at most 15 characters.
fn host_interface(pod_uid: &str) -> String {
    // FNV-1a: the same in every release, as interfaces outlive the process that named them.
    let hash = pod_uid
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("wl{:012x}", hash >> 16)
}

/// A hardware address that follows from the address, so that neighbour entries stay right when one is reused.
fn mac_of(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
    }
}
