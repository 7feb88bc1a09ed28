//! What a node is told: flags and the same names in a YAML file (`--config windlass.yaml`); a flag wins over the file,
//! the file over the default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use net::Cidr;
use runtime::Registry;
use serde::Deserialize;

use crate::remote;
use crate::running::Running;

/// Where `up`, `down`, `reset`, `why` and `image` find a node's files.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// YAML file with any of these options, by the same names
    #[arg(long, value_name = "FILE", global = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where everything that must survive is kept [default: /var/lib/windlass; without root ~/.local/share/windlass]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Sockets and mounts of running containers [default: /run/windlass]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<PathBuf>,
    /// Name of the node [default: the host's name]
    #[arg(long, value_name = "NAME", global = true)]
    pub node_name: Option<String>,
    /// Address under which the node is known in the cluster [default: that of the default route]
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub node_ip: Option<IpAddr>,
    /// Address the API server listens on [default: 0.0.0.0, and 127.0.0.1 with --control-plane-only]
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub bind_address: Option<IpAddr>,
    /// Port of the API server [default: 6443]
    #[arg(long, value_name = "PORT", global = true)]
    pub secure_port: Option<u16>,
    /// Further name or address in the API server's certificate; may be repeated
    #[arg(long = "tls-san", value_name = "NAME", global = true)]
    #[serde(default)]
    pub tls_san: Vec<String>,
    /// API server of another make in the place of ours and of the store, to which pki/ca.crt vouches for us: https://HOST:PORT
    #[arg(long, value_name = "URL", global = true)]
    pub api_server: Option<String>,
    /// Port of the kubelet's API [default: 10250]
    #[arg(long, value_name = "PORT", global = true)]
    pub kubelet_port: Option<u16>,
    /// Where the service proxy tells of its health [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    pub proxy_healthz_bind_address: Option<SocketAddr>,
    /// Where the service proxy's metrics are [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    pub proxy_metrics_bind_address: Option<SocketAddr>,
    /// Where the store is served by etcd's protocol, to clients with certificates of pki/etcd/ca.crt [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    pub etcd_bind_address: Option<SocketAddr>,
    /// Members of an etcd that keeps the cluster's objects in the place of our store: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL", global = true, value_delimiter = ',')]
    #[serde(default)]
    pub etcd_servers: Vec<String>,
    /// Authorities of that etcd's certificate [default: the system's]
    #[arg(long, value_name = "FILE", global = true)]
    pub etcd_cafile: Option<PathBuf>,
    /// Certificate that we show to that etcd
    #[arg(long, value_name = "FILE", global = true)]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", global = true)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Addresses of all pods [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR", global = true)]
    pub cluster_cidr: Option<String>,
    /// Addresses of this node's pods [default: a /24 of the cluster's that no other node has]
    #[arg(long, value_name = "CIDR", global = true)]
    pub pod_cidr: Option<String>,
    /// Addresses of services [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR", global = true)]
    pub service_cidr: Option<String>,
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(long, value_name = "DOMAIN", global = true)]
    pub cluster_domain: Option<String>,
    /// Name of the pods' bridge on this node [default: windlass0]
    #[arg(long, value_name = "NAME", global = true)]
    pub bridge: Option<String>,
    /// Control group below which all pods are [default: /windlass]
    #[arg(long, value_name = "PATH", global = true)]
    pub cgroup_root: Option<String>,
    /// Where containers' logs are written [default: /var/log/pods]
    #[arg(long, value_name = "DIR", global = true)]
    pub pod_logs_dir: Option<PathBuf>,
    /// Directory of static pods' manifests [default: DATA/manifests]
    #[arg(long, value_name = "DIR", global = true)]
    pub pod_manifest_path: Option<PathBuf>,
    /// Pods that this node takes [default: 110]
    #[arg(long, value_name = "COUNT", global = true)]
    pub max_pods: Option<u32>,
    /// Sysctl that pods may set beside the safe ones, or a prefix of such ending in '*'; may be repeated
    #[arg(long, value_name = "NAME", global = true, value_delimiter = ',')]
    #[serde(default)]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// What must be left of memory and disk; pods are evicted below that [default: upstream's, memory.available<100Mi,nodefs.available<10%,...]
    #[arg(long, value_name = "SIGNAL<VALUE,...>", global = true)]
    pub eviction_hard: Option<String>,
    /// How long a certificate of this cluster is good, in seconds; renewed when a third of it is left [default: one year]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub certificate_validity_period: Option<u64>,
    /// How often old revisions are compacted away, in seconds; 0 never [default: 300]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub compaction_interval: Option<u64>,
    /// Kubeconfig to write [default: /etc/windlass/admin.conf; without root DATA/admin.conf]
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Do not put the cluster into ~/.kube/config, or the file that $KUBECONFIG names
    #[arg(long, global = true)]
    #[serde(default)]
    pub no_merge_kubeconfig: bool,
    /// What is logged to standard error, as `info` or `apiserver=debug,warn` [default: warn]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// An option of `up` alone on the command line
    #[arg(skip)]
    #[serde(default)]
    pub control_plane_only: bool,
    /// An option of `up` alone on the command line
    #[arg(skip)]
    #[serde(default)]
    pub disable: Vec<Part>,
    /// Mirrors and plain-HTTP registries; in the file only
    #[arg(skip)]
    #[serde(default)]
    pub registries: Vec<Registry>,
}

/// What can be left out of this process, as another program takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The scheduler
    Scheduler,
    /// Every controller
    Controllers,
    /// The kubelet, and with it the container runtime, the pods' network and network policies
    Kubelet,
    /// The service proxy
    Proxy,
    /// The cluster's DNS server and its Service
    Dns,
}

/// An etcd elsewhere, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct EtcdServers {
    pub endpoints: Vec<store::etcd::Endpoint>,
    pub tls: store::etcd::TlsFiles,
}

/// Every option decided.
#[derive(Clone, Debug)]
pub struct Settings {
    pub control_plane_only: bool,
    pub disabled: Vec<Part>,
    pub data: PathBuf,
    pub run: PathBuf,
    pub node_name: String,
    pub node_ip: IpAddr,
    pub api: SocketAddr,
    pub tls_san: Vec<String>,
    /// The origin of the API server that takes the place of ours.
    pub api_server: Option<String>,
    pub kubelet_port: u16,
    pub proxy_healthz: SocketAddr,
    pub proxy_metrics: SocketAddr,
    /// Where our store is served as etcd.
    pub etcd: Option<SocketAddr>,
    /// The etcd that takes the place of our store.
    pub etcd_servers: Option<EtcdServers>,
    pub cluster_range: Cidr,
    /// This node's pods; `None`: as the cluster gives them out.
    pub pod_range: Option<Cidr>,
    pub service_range: Cidr,
    pub cluster_domain: String,
    pub bridge: String,
    pub cgroup_root: String,
    pub pod_logs: PathBuf,
    pub manifests: PathBuf,
    pub pods_max: u32,
    pub unsafe_sysctls: Vec<String>,
    /// `None` means the kubelet's own default.
    pub eviction_hard: Option<String>,
    pub certificate_validity: Duration,
    pub compact_every: Option<Duration>,
    pub kubeconfig: PathBuf,
    /// The user's own kubeconfig, which our context is put into.
    pub merge_into: Option<PathBuf>,
    pub log: String,
    pub registries: Vec<Registry>,
}

impl Options {
    /// These options over those of the `--config` file over the defaults.
    pub fn resolve(self) -> anyhow::Result<Settings> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Self::default(),
        };
        let etcd_servers = EtcdServers::resolve(&self, &file)?;
        let control_plane_only = self.control_plane_only || file.control_plane_only;
        let merge = !(self.no_merge_kubeconfig || file.no_merge_kubeconfig);
        let root = rustix::process::geteuid().is_root();
        let data = self.data_dir.or(file.data_dir).map_or_else(|| default_data(root), Ok)?;
        // What an earlier `up` on this data made keeps its names, unless told otherwise.
        let before = Running::read(&data)?;
        let cluster_range = cidr("cluster-cidr", self.cluster_cidr.or(file.cluster_cidr), "10.244.0.0/16")?;
        let pod_range = self.pod_cidr.or(file.pod_cidr).map(|text| cidr("pod-cidr", Some(text), "10.244.0.0/24"));
        let anywhere = if control_plane_only { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let bind = self.bind_address.or(file.bind_address).unwrap_or(anywhere.into());
        let compaction = Duration::from_secs(self.compaction_interval.or(file.compaction_interval).unwrap_or(300));
        let kubeconfig = (self.kubeconfig.or(file.kubeconfig))
            .or_else(|| before.as_ref().map(|note| note.kubeconfig.clone()))
            .unwrap_or_else(|| if root { PathBuf::from("/etc/windlass/admin.conf") } else { data.join("admin.conf") });
        let validity = self.certificate_validity_period.or(file.certificate_validity_period);
        let tls_san = if self.tls_san.is_empty() { file.tls_san } else { self.tls_san };
        Ok(Settings {
            control_plane_only,
            disabled: if self.disable.is_empty() { file.disable } else { self.disable },
            run: (self.run_dir.or(file.run_dir))
                .or_else(|| before.as_ref().map(|note| note.run.clone()))
                .unwrap_or_else(|| PathBuf::from("/run/windlass")),
            node_name: self.node_name.or(file.node_name).map_or_else(host_name, node_name)?,
            node_ip: self.node_ip.or(file.node_ip).unwrap_or_else(default_address),
            api: SocketAddr::new(bind, self.secure_port.or(file.secure_port).unwrap_or(6443)),
            tls_san,
            api_server: api_server(self.api_server.or(file.api_server))?,
            kubelet_port: self.kubelet_port.or(file.kubelet_port).unwrap_or(10250),
            proxy_healthz: (self.proxy_healthz_bind_address.or(file.proxy_healthz_bind_address))
                .unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10256))),
            proxy_metrics: (self.proxy_metrics_bind_address.or(file.proxy_metrics_bind_address))
                .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 10249))),
            etcd: self.etcd_bind_address.or(file.etcd_bind_address),
            etcd_servers,
            cluster_range,
            pod_range: pod_range.transpose()?,
            service_range: cidr("service-cidr", self.service_cidr.or(file.service_cidr), "10.96.0.0/12")?,
            cluster_domain: self.cluster_domain.or(file.cluster_domain).unwrap_or_else(|| "cluster.local".to_owned()),
            bridge: (self.bridge.or(file.bridge))
                .or_else(|| before.as_ref().map(|note| note.bridge.clone()))
                .unwrap_or_else(|| "windlass0".to_owned()),
            cgroup_root: (self.cgroup_root.or(file.cgroup_root))
                .or_else(|| before.as_ref().map(|note| note.cgroup_root.clone()))
                .unwrap_or_else(|| "/windlass".to_owned()),
            pod_logs: (self.pod_logs_dir.or(file.pod_logs_dir))
                .or_else(|| before.as_ref().map(|note| note.pod_logs.clone()))
                .unwrap_or_else(|| PathBuf::from("/var/log/pods")),
            manifests: self.pod_manifest_path.or(file.pod_manifest_path).unwrap_or_else(|| data.join("manifests")),
            unsafe_sysctls: match self.allowed_unsafe_sysctls.is_empty() {
                true => file.allowed_unsafe_sysctls,
                false => self.allowed_unsafe_sysctls,
            },
            eviction_hard: self.eviction_hard.or(file.eviction_hard),
            pods_max: self.max_pods.or(file.max_pods).unwrap_or(110),
            certificate_validity: certificate_validity(validity)?,
            compact_every: Some(compaction).filter(|every| !every.is_zero()),
            merge_into: user_kubeconfig().filter(|path| merge && *path != kubeconfig),
            kubeconfig,
            log: self.log.or(file.log).unwrap_or_else(|| "warn".to_owned()),
            registries: file.registries,
            data,
        })
    }
}

impl Settings {
    /// Whether a part is to run in this process.
    pub fn runs(&self, part: Part) -> bool {
        let left_out = match part {
            Part::Scheduler | Part::Controllers => false,
            Part::Kubelet | Part::Proxy | Part::Dns => self.control_plane_only,
        };
        !left_out && !self.disabled.contains(&part)
    }

    /// Whether this process makes anything of the host but files.
    pub fn runs_node(&self) -> bool {
        self.runs(Part::Kubelet) || self.runs(Part::Proxy)
    }

    /// The address of the `kubernetes` service: the first of the range.
    pub fn kubernetes_address(&self) -> IpAddr {
        self.service_range.nth(1).unwrap_or(self.service_range.address())
    }

    /// The address of the `kube-dns` service: the tenth of the range.
    pub fn dns_address(&self) -> IpAddr {
        self.service_range.nth(10).unwrap_or(self.service_range.address())
    }

    /// Where a client on this host finds the API server.
    pub fn server_url(&self) -> String {
        if let Some(other) = &self.api_server {
            return other.clone();
        }
        let host = if self.api.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { self.api.ip() };
        format!("https://{}", SocketAddr::new(host, self.api.port()))
    }

    /// Where other hosts find the API server; `None` if it listens for this host alone.
    pub fn advertised_url(&self) -> Option<String> {
        if let Some(other) = &self.api_server {
            return Some(other.clone()).filter(|url| !remote::is_loopback(url));
        }
        let host = if self.api.ip().is_unspecified() { self.node_ip } else { self.api.ip() };
        (!host.is_loopback()).then(|| format!("https://{}", SocketAddr::new(host, self.api.port())))
    }

    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// The record of the routes to other nodes' pods.
    pub fn node_routes(&self) -> PathBuf {
        self.data.join("node-routes")
    }

    pub fn runtime(&self) -> runtime::Config {
        let mut config = runtime::Config::new(&self.data, &self.run);
        config.cgroup_root.clone_from(&self.cgroup_root);
        config.registries.clone_from(&self.registries);
        config
    }

    pub fn proxy(&self) -> net::ProxyConfig {
        net::ProxyConfig {
            table: format!("{}-services", self.bridge),
            pod_range: self.cluster_range,
            service_ranges: vec![self.service_range],
            node: net::NodeView { name: self.node_name.clone(), zone: None, address: Some(self.node_ip) },
            healthz: Some(self.proxy_healthz),
            metrics: Some(self.proxy_metrics),
        }
    }

    pub fn policies(&self) -> net::PolicyConfig {
        net::PolicyConfig { table: format!("{}-policies", self.bridge), node_name: self.node_name.clone() }
    }

    /// The length of the prefix of each node's pod addresses.
    pub fn node_prefix(&self) -> u8 {
        self.pod_range.map_or(self.cluster_range.prefix().max(24), |range| range.prefix())
    }

    /// The pod network of a node that has these addresses.
    pub fn bridge(&self, node_range: Cidr) -> net::BridgeConfig {
        net::BridgeConfig {
            bridge: self.bridge.clone(),
            table: format!("{}-pods", self.bridge),
            node_range,
            cluster_range: self.cluster_range,
            service_range: Some(self.service_range),
            mtu: None,
            state_directory: self.data.join("network"),
        }
    }
}

impl EtcdServers {
    /// The cluster's objects are kept by our store, by an etcd, or by whoever is behind another API server.
    fn resolve(flags: &Options, file: &Options) -> anyhow::Result<Option<EtcdServers>> {
        let servers = if flags.etcd_servers.is_empty() { &file.etcd_servers } else { &flags.etcd_servers };
        let given = |of: fn(&Options) -> &Option<PathBuf>| of(flags).as_ref().or(of(file).as_ref()).cloned();
        let ca = given(|options| &options.etcd_cafile);
        let client = match (given(|options| &options.etcd_certfile), given(|options| &options.etcd_keyfile)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("--etcd-certfile and --etcd-keyfile go together"),
        };
        if servers.is_empty() {
            if ca.is_some() || client.is_some() {
                bail!("--etcd-cafile, --etcd-certfile and --etcd-keyfile are about an etcd that --etcd-servers names");
            }
            return Ok(None);
        }
        if flags.etcd_bind_address.or(file.etcd_bind_address).is_some() {
            bail!(
                "--etcd-bind-address serves our own store, and with --etcd-servers there is none: leave one of them out"
            );
        }
        if flags.api_server.is_some() || file.api_server.is_some() {
            bail!(
                "--etcd-servers is for our own API server, and with --api-server there is none: leave one of them out"
            );
        }
        let endpoints = servers.iter().map(|text| text.parse().context("--etcd-servers")).collect::<Result<_, _>>()?;
        Ok(Some(EtcdServers { endpoints, tls: store::etcd::TlsFiles { ca, client } }))
    }
}

fn read(path: &Path) -> anyhow::Result<Options> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let options: Option<Options> =
        serde_yaml_ng::from_str(&text).with_context(|| format!("{}: not a valid configuration", path.display()))?;
    Ok(options.unwrap_or_default())
}

fn cidr(option: &str, given: Option<String>, default: &str) -> anyhow::Result<Cidr> {
    let text = given.unwrap_or_else(|| default.to_owned());
    text.parse().ok().with_context(|| format!("--{option}: {text:?} is no network such as {default:?}"))
}

/// The user's own kubeconfig: the first file of `$KUBECONFIG`, else `~/.kube/config`.
fn user_kubeconfig() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next());
    named.filter(|path| !path.as_os_str().is_empty()).or_else(|| Some(std::env::home_dir()?.join(".kube/config")))
}

fn api_server(given: Option<String>) -> anyhow::Result<Option<String>> {
    given.map(|text| remote::origin(&text).context("--api-server")).transpose()
}

fn certificate_validity(seconds: Option<u64>) -> anyhow::Result<Duration> {
    match seconds {
        None => Ok(Duration::from_secs(365 * 24 * 3600)),
        Some(0) => bail!("--certificate-validity-period: must be more than 0 seconds"),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// A name that the API server takes for a Node, told here, where the option is known.
fn node_name(name: String) -> anyhow::Result<String> {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label =
        |part: &str| part.starts_with(is_end) && part.ends_with(is_end) && part.chars().all(|c| is_end(c) || c == '-');
    if name.len() > 253 || !name.split('.').all(label) {
        bail!(
            "--node-name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
             characters, '-' or '.', and must start and end with an alphanumeric character"
        );
    }
    Ok(name)
}

fn default_data(root: bool) -> anyhow::Result<PathBuf> {
    if root {
        return Ok(PathBuf::from("/var/lib/windlass"));
    }
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(Path::new(&dir).join("windlass"));
    }
    match std::env::home_dir() {
        Some(home) => Ok(home.join(".local/share/windlass")),
        None => bail!("no home directory to keep data in: give --data-dir"),
    }
}

fn host_name() -> anyhow::Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() || name == "(none)" {
        bail!("this host has no name: give --node-name");
    }
    node_name(name)
}

/// The address from which this host would speak to others; nothing is sent to find it out.
fn default_address() -> IpAddr {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    probe().map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("windlass.yaml");
        std::fs::write(&path, "secure-port: 7443\nnode-name: from-file\ncluster-cidr: 10.9.0.0/16\n").unwrap();
        let options = Options {
            config: Some(path),
            node_name: Some("from-flag".to_owned()),
            data_dir: Some(dir.path().to_owned()),
            ..Options::default()
        };
        let settings =
            Options { control_plane_only: true, disable: vec![Part::Scheduler], ..options }.resolve().unwrap();
        assert!(settings.runs(Part::Controllers) && !settings.runs(Part::Scheduler) && !settings.runs_node());
        assert_eq!(settings.api.to_string(), "127.0.0.1:7443");
        assert_eq!(settings.node_name, "from-flag");
        assert_eq!((settings.cluster_range.to_string().as_str(), settings.node_prefix()), ("10.9.0.0/16", 24));
        assert_eq!(settings.dns_address().to_string(), "10.96.0.10");
        assert_eq!(settings.compact_every, Some(Duration::from_secs(300)));
        assert_eq!(settings.server_url(), "https://127.0.0.1:7443");
    }

    #[test]
    fn the_objects_are_kept_in_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options { data_dir: Some(dir.path().to_owned()), ..Options::default() };
        let servers = vec!["https://192.0.2.1:2379".to_owned(), "https://192.0.2.2:2379".to_owned()];
        let with = || Options { etcd_servers: servers.clone(), ..options() };
        let etcd = with().resolve().unwrap().etcd_servers.unwrap();
        assert_eq!((etcd.endpoints.len(), etcd.endpoints[1].to_string()), (2, servers[1].clone()));
        let refused = |options: Options| format!("{:#}", options.resolve().unwrap_err());
        let serving = Some("127.0.0.1:2379".parse().unwrap());
        let words = refused(Options { etcd_bind_address: serving, ..with() });
        assert!(words.contains("--etcd-bind-address") && words.contains("--etcd-servers"), "{words}");
        let words = refused(Options { api_server: Some("https://192.0.2.1:6443".to_owned()), ..with() });
        assert!(words.contains("--api-server"), "{words}");
        let words = refused(Options { etcd_certfile: Some("a.crt".into()), ..with() });
        assert!(words.contains("--etcd-keyfile"), "{words}");
        let words = refused(Options { etcd_cafile: Some("ca.crt".into()), ..options() });
        assert!(words.contains("--etcd-servers"), "{words}");
        let words = refused(Options { etcd_servers: vec!["192.0.2.1:2379".to_owned()], ..options() });
        assert!(words.contains("--etcd-servers: ") && words.contains("http://HOST:PORT"), "{words}");
    }

    #[test]
    fn a_wrong_name_or_value_in_the_file_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("windlass.yaml");
        std::fs::write(&path, "secure-prot: 7443\n").unwrap();
        let options = || Options { config: Some(path.clone()), ..Options::default() };
        let error = format!("{:#}", options().resolve().unwrap_err());
        assert!(error.contains("windlass.yaml") && error.contains("secure-prot"), "{error}");
        std::fs::write(&path, "registries:\n- host: docker.io\n  mirrors: []\n").unwrap();
        let error = format!("{:#}", options().resolve().unwrap_err());
        assert!(error.contains("windlass.yaml") && error.contains("mirrors"), "{error}");
        std::fs::write(&path, "disable: [kubelet, dsn]\n").unwrap();
        let error = format!("{:#}", options().resolve().unwrap_err());
        assert!(error.contains("dsn") && error.contains("`kubelet`"), "{error}");
        std::fs::write(&path, "service-cidr: nonsense\n").unwrap();
        let error = format!("{:#}", options().resolve().unwrap_err());
        assert!(error.contains("--service-cidr") && error.contains("nonsense"), "{error}");
    }
}
