//! A pod's names: its host name, `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};

/// Longest host name the kernel takes.
const HOSTNAME_MAX: usize = 63;
/// pkg/apis/core/validation: limits of a resolver's configuration.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// The host's resolver configuration, or a pod's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolver {
    pub nameservers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// What the cluster's DNS looks like from a node.
#[derive(Clone, Debug, Default)]
pub struct ClusterDns {
    pub servers: Vec<IpAddr>,
    pub domain: String,
    /// Content of the node's own resolv.conf, parsed.
    pub host: Resolver,
}

/// Host name and, with a subdomain, the domain it stands in.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (GeneratePodHostNameAndDomain).
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if let Some(name) = &spec.hostname_override {
        return (shorten(name), String::new());
    }
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let host = shorten(name.unwrap_or(pod.metadata.name.as_deref().unwrap_or_default()));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{namespace}.svc.{cluster_domain}"),
        None => String::new(),
    };
    (host, domain)
}

/// The host name that the sandbox gets: the node's with the host's network, fully qualified when asked for.
///
/// # Errors
/// With the FQDN, when it does not fit into the kernel's 64 bytes.
pub fn sandbox_hostname(pod: &Pod, cluster_domain: &str, node: &str) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|s| s.host_network == Some(true) && s.hostname_override.is_none()) {
        return Ok(node.to_string());
    }
    let (host, domain) = hostname_and_domain(pod, cluster_domain);
    if domain.is_empty() || spec.and_then(|s| s.set_hostname_as_fqdn) != Some(true) {
        return Ok(host);
    }
    let full = format!("{host}.{domain}");
    if full.len() > HOSTNAME_MAX + 1 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

fn shorten(name: &str) -> String {
    match name.get(..HOSTNAME_MAX) {
        Some(head) if name.len() > HOSTNAME_MAX => head.trim_end_matches(['-', '.']).to_string(),
        _ => name.to_string(),
    }
}

/// `/etc/hosts` of a pod with its own network.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (managedHostsFileContent).
pub fn hosts_file(addresses: &[IpAddr], host: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut out = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for address in addresses {
        out += &match domain {
            "" => format!("{address}\t{host}\n"),
            _ => format!("{address}\t{host}.{domain}\t{host}\n"),
        };
    }
    out + &alias_lines(aliases)
}

/// `/etc/hosts` of a pod with the host's network: the host's own file and the aliases.
pub fn hosts_file_of_host(host_file: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        out += &format!("{}\t{names}\n", alias.ip);
    }
    out
}

/// Reads a resolv.conf; the last `search` line wins, `options` add up.
pub fn parse_resolver(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_string)),
            Some("search") => {
                let keep = words.filter(|w| *w != ".").map(|w| w.trim_end_matches('.').to_string());
                resolver.searches = keep.collect();
            }
            Some("options") => merge_options(&mut resolver.options, words.map(str::to_string)),
            _ => {}
        }
    }
    resolver
}

/// A pod's resolver by its `dnsPolicy` and `dnsConfig`.
///
/// kubernetes/kubernetes pkg/kubelet/network/dns/dns.go (GetPodDNS).
pub fn resolver(pod: &Pod, cluster: &ClusterDns) -> Resolver {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let host_network = spec.host_network == Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let in_cluster = match policy {
        "None" => None,
        "Default" => Some(false),
        "ClusterFirst" => Some(!host_network),
        _ => Some(true),
    };
    let mut resolver = match in_cluster {
        None => Resolver::default(),
        Some(true) if !cluster.servers.is_empty() => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let domain = &cluster.domain;
            let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            Resolver {
                nameservers: cluster.servers.iter().map(IpAddr::to_string).collect(),
                searches: unique(own.into_iter().chain(cluster.host.searches.iter().cloned())),
                options: vec!["ndots:5".into()],
            }
        }
        Some(_) => cluster.host.clone(),
    };
    if let Some(config) = &spec.dns_config {
        let nameservers = config.nameservers.iter().flatten().cloned();
        resolver.nameservers = unique(resolver.nameservers.into_iter().chain(nameservers));
        resolver.searches = unique(resolver.searches.into_iter().chain(config.searches.iter().flatten().cloned()));
        let options = config.options.iter().flatten().filter_map(|option| {
            let name = option.name.as_ref()?;
            Some(match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            })
        });
        merge_options(&mut resolver.options, options);
    }
    fit(resolver)
}

fn fit(mut resolver: Resolver) -> Resolver {
    resolver.nameservers.truncate(NAMESERVERS_MAX);
    resolver.searches.truncate(SEARCHES_MAX);
    resolver.searches.retain(|search| search.len() <= 253);
    while resolver.searches.join(" ").len() > SEARCH_CHARS_MAX {
        resolver.searches.pop();
    }
    resolver
}

fn merge_options(options: &mut Vec<String>, more: impl Iterator<Item = String>) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_string();
    for option in more {
        match options.iter_mut().find(|known| name(known) == name(&option)) {
            Some(known) => *known = option,
            None => options.push(option),
        }
    }
}

fn unique(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for item in items {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

impl Resolver {
    /// The text of a resolv.conf.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            out += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.nameservers {
            out += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            out += &format!("options {}\n", self.options.join(" "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .unwrap()
    }

    fn cluster() -> ClusterDns {
        ClusterDns {
            servers: vec!["10.96.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            host: parse_resolver("# host\nnameserver 9.9.9.9\nsearch lan.\noptions edns0\n"),
        }
    }

    #[test]
    fn cluster_first_puts_the_namespace_before_the_hosts_domains() {
        let text = resolver(&pod(serde_json::json!({"containers": []})), &cluster()).render();
        assert_eq!(
            text,
            "search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn a_dns_config_adds_and_overrides() {
        let spec = serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "searches": ["x.test"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        let text = resolver(&pod(spec), &cluster()).render();
        assert_eq!(text, "search x.test\nnameserver 1.1.1.1\noptions ndots:2 edns0\n");
        let host = serde_json::json!({"containers": [], "hostNetwork": true});
        assert_eq!(resolver(&pod(host), &cluster()).nameservers, ["9.9.9.9"]);
    }

    #[test]
    fn names_in_the_hosts_file() {
        let pod = pod(serde_json::json!({"containers": [], "subdomain": "nginx", "setHostnameAsFQDN": true}));
        let (host, domain) = hostname_and_domain(&pod, "cluster.local");
        assert_eq!((host.as_str(), domain.as_str()), ("web-0", "nginx.shop.svc.cluster.local"));
        assert_eq!(sandbox_hostname(&pod, "cluster.local", "n").unwrap(), "web-0.nginx.shop.svc.cluster.local");
        let alias = HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["a".into(), "b".into()]) };
        insta::assert_snapshot!(hosts_file(&["10.244.0.5".parse().unwrap()], &host, &domain, &[alias]), @r"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        10.244.0.5	web-0.nginx.shop.svc.cluster.local	web-0

        # Entries added by HostAliases.
        1.2.3.4	a	b
        ");
    }
}
