//! What the DNS knows: services with their endpoints, by name and by address.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::service::{Protocol, service_key};

/// All records of a cluster, kept current one object at a time; each change costs what that object holds.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `cluster.local`, in lower case, without a dot at the end.
    pub(super) domain: String,
    pub(super) namespaces: BTreeSet<String>,
    /// By `namespace/name`.
    pub(super) services: HashMap<String, ServiceEntry>,
    /// How many services each namespace has.
    pub(super) populated: BTreeMap<String, usize>,
    pub(super) endpoints: HashMap<String, Vec<EndpointEntry>>,
    /// The service of a cluster address.
    pub(super) service_by_ip: HashMap<IpAddr, BTreeSet<String>>,
    /// The services whose endpoints have an address.
    pub(super) endpoint_by_ip: HashMap<IpAddr, BTreeSet<String>>,
    /// Counts changes: the SOA record's serial number.
    pub(super) serial: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceEntry {
    pub kind: ServiceKind,
    pub ports: Vec<PortEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServiceKind {
    ClusterIp(Vec<IpAddr>),
    Headless,
    External(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortEntry {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointEntry {
    /// Its host name, or its address with dashes.
    pub host: String,
    pub address: IpAddr,
    pub ports: Vec<PortEntry>,
}

impl Zone {
    pub fn new(domain: &str) -> Zone {
        Zone {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            namespaces: BTreeSet::new(),
            services: HashMap::new(),
            populated: BTreeMap::new(),
            endpoints: HashMap::new(),
            service_by_ip: HashMap::new(),
            endpoint_by_ip: HashMap::new(),
            serial: 1,
        }
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    pub fn set_namespace(&mut self, name: &str, there: bool) {
        self.serial = self.serial.wrapping_add(1);
        if there {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
    }

    pub fn set_service(&mut self, service: &Service) {
        let key = service_key(service);
        self.remove_service(&key);
        let Some(entry) = service_entry(service) else { return };
        if let ServiceKind::ClusterIp(addresses) = &entry.kind {
            for address in addresses {
                self.service_by_ip.entry(*address).or_default().insert(key.clone());
            }
        }
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        *self.populated.entry(namespace).or_default() += 1;
        self.services.insert(key, entry);
    }

    /// `key` is `namespace/name`.
    pub fn remove_service(&mut self, key: &str) {
        self.serial = self.serial.wrapping_add(1);
        let Some(entry) = self.services.remove(key) else { return };
        if let ServiceKind::ClusterIp(addresses) = &entry.kind {
            addresses.iter().for_each(|address| unlink(&mut self.service_by_ip, *address, key));
        }
        let namespace = key.split('/').next().unwrap_or_default();
        if let Some(count) = self.populated.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.populated.remove(namespace);
            }
        }
    }

    /// All slices of a service; none when they are gone.
    pub fn set_endpoints(&mut self, service: &str, slices: &[impl AsRef<EndpointSlice>]) {
        self.serial = self.serial.wrapping_add(1);
        for old in self.endpoints.remove(service).unwrap_or_default() {
            unlink(&mut self.endpoint_by_ip, old.address, service);
        }
        let mut entries: Vec<EndpointEntry> =
            slices.iter().flat_map(|slice| endpoint_entries(slice.as_ref())).collect();
        entries.sort_by(|a, b| (&a.host, a.address).cmp(&(&b.host, b.address)));
        for entry in &entries {
            self.endpoint_by_ip.entry(entry.address).or_default().insert(service.to_owned());
        }
        if !entries.is_empty() {
            self.endpoints.insert(service.to_owned(), entries);
        }
    }

    pub(super) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name) || self.populated.contains_key(name)
    }
}

fn unlink(index: &mut HashMap<IpAddr, BTreeSet<String>>, address: IpAddr, key: &str) {
    if let Some(keys) = index.get_mut(&address) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(&address);
        }
    }
}

fn service_entry(service: &Service) -> Option<ServiceEntry> {
    let spec = service.spec.as_ref()?;
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        ServiceKind::External(spec.external_name.clone()?.trim_end_matches('.').to_ascii_lowercase())
    } else if spec.cluster_ip.as_deref() == Some("None") {
        ServiceKind::Headless
    } else {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|text| text.parse().ok()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return None;
        }
        ServiceKind::ClusterIp(addresses)
    };
    let ports = spec.ports.iter().flatten();
    let ports =
        ports.filter_map(|port| port_entry(port.name.as_deref(), port.protocol.as_deref(), port.port)).collect();
    Some(ServiceEntry { kind, ports })
}

fn port_entry(name: Option<&str>, protocol: Option<&str>, port: i32) -> Option<PortEntry> {
    Some(PortEntry {
        name: name.unwrap_or_default().to_ascii_lowercase(),
        protocol: Protocol::parse(protocol)?,
        port: u16::try_from(port).ok()?,
    })
}

fn endpoint_entries(slice: &EndpointSlice) -> Vec<EndpointEntry> {
    let ports: Vec<PortEntry> = (slice.ports.iter().flatten())
        .filter_map(|port| port_entry(port.name.as_deref(), port.protocol.as_deref(), port.port?))
        .collect();
    let mut entries = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        // Who publishes endpoints that are not ready says so by marking them ready.
        if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
            continue;
        }
        for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
            let dashed = || address.to_string().replace(['.', ':'], "-");
            let host = endpoint.hostname.as_ref().filter(|name| !name.is_empty()).map(|name| name.to_ascii_lowercase());
            entries.push(EndpointEntry { host: host.unwrap_or_else(dashed), address, ports: ports.clone() });
        }
    }
    entries
}
