//! A question to its answer.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::zone::{EndpointEntry, PortEntry, ServiceEntry, ServiceKind, Zone};

/// How long a client may keep any record, and that there is none.
pub const TTL_SECONDS: u32 = 5;
/// Version of the DNS specification of Kubernetes that this follows.
const SPECIFICATION: &str = "1.1.0";

/// Record types that are asked for here. `Other` has no records anywhere in the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
    Ptr,
    Cname,
    Txt,
    Soa,
    Ns,
    Any,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Srv { priority: u16, weight: u16, port: u16, target: String },
    Ptr(String),
    Cname(String),
    Txt(String),
    Ns(String),
    Soa { primary: String, contact: String, serial: u32, refresh: i32, retry: i32, expire: i32, minimum: u32 },
}

/// Names are in lower case without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `additional` has the addresses of the names in SRV records.
    Records { records: Vec<Record>, additional: Vec<Record> },
    /// The name exists and has no such record (NOERROR with the zone's SOA).
    NoData(Record),
    /// NXDOMAIN with the zone's SOA.
    NoName(Record),
    /// Not a name of this zone: ask another server.
    Elsewhere,
}

/// `name` in lower case, with or without a dot at the end.
pub fn answer(zone: &Zone, name: &str, kind: Kind) -> Answer {
    let name = name.trim_end_matches('.');
    if let Some(address) = reverse(name) {
        return zone.pointers(name, address, kind);
    }
    let labels: Vec<&str> = match name.strip_suffix(&zone.domain) {
        Some("") => Vec::new(),
        Some(inner) => match inner.strip_suffix('.') {
            Some(inner) => inner.split('.').collect(),
            None => return Answer::Elsewhere,
        },
        None => return Answer::Elsewhere,
    };
    let found = zone.look_up(name, &labels);
    match found {
        None => Answer::NoName(zone.soa()),
        Some(found) => select(zone, found, kind),
    }
}

/// What stands at a name. Addresses and services are apart since a question picks one.
#[derive(Default)]
struct Found {
    records: Vec<Record>,
    additional: Vec<Record>,
}

fn select(zone: &Zone, found: Found, kind: Kind) -> Answer {
    let wanted = |data: &Data| match kind {
        Kind::Any => true,
        Kind::A => matches!(data, Data::A(_) | Data::Cname(_)),
        Kind::Aaaa => matches!(data, Data::Aaaa(_) | Data::Cname(_)),
        Kind::Srv => matches!(data, Data::Srv { .. }),
        Kind::Ptr => matches!(data, Data::Ptr(_)),
        Kind::Cname => matches!(data, Data::Cname(_)),
        Kind::Txt => matches!(data, Data::Txt(_)),
        Kind::Soa => matches!(data, Data::Soa { .. }),
        Kind::Ns => matches!(data, Data::Ns(_)),
        Kind::Other => false,
    };
    let records: Vec<Record> = found.records.into_iter().filter(|record| wanted(&record.data)).collect();
    if records.is_empty() {
        return Answer::NoData(zone.soa());
    }
    let with_additional = matches!(kind, Kind::Srv | Kind::Any | Kind::Ns);
    Answer::Records { records, additional: if with_additional { found.additional } else { Vec::new() } }
}

impl Zone {
    pub(super) fn soa(&self) -> Record {
        let domain = &self.domain;
        Record {
            name: domain.clone(),
            data: Data::Soa {
                primary: format!("ns.dns.{domain}"),
                contact: format!("hostmaster.{domain}"),
                serial: self.serial,
                refresh: 7200,
                retry: 1800,
                expire: 86400,
                minimum: TTL_SECONDS,
            },
        }
    }

    /// What stands at the name made of these labels in front of the domain; `None` when nothing does.
    fn look_up(&self, name: &str, labels: &[&str]) -> Option<Found> {
        let only = |data| Some(Found { records: vec![Record { name: name.to_owned(), data }], ..Found::default() });
        match labels {
            [] => {
                let ns = Record { name: name.to_owned(), data: Data::Ns(format!("ns.dns.{name}")) };
                Some(Found { records: vec![self.soa(), ns], additional: self.name_server() })
            }
            ["dns-version"] => only(Data::Txt(SPECIFICATION.to_owned())),
            ["ns", "dns"] => Some(Found { records: self.name_server(), ..Found::default() }),
            ["svc" | "pod" | "dns"] => Some(Found::default()),
            [namespace, "svc" | "pod"] => self.has_namespace(namespace).then(Found::default),
            [address, namespace, "pod"] => {
                let address = undashed(address).filter(|_| self.has_namespace(namespace))?;
                only(address_data(address))
            }
            [service, namespace, "svc"] => self.service(name, service, namespace),
            [endpoint, service, namespace, "svc"] => match endpoint.strip_prefix('_') {
                Some(protocol) => self.has_port(service, namespace, protocol, None).then(Found::default),
                None => self.endpoint(name, endpoint, service, namespace),
            },
            [port, protocol, service, namespace, "svc"] => {
                let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
                if !self.has_port(service, namespace, protocol, Some(port)) {
                    return None;
                }
                let mut found = self.services_of(name, service, namespace, Some((port, protocol)));
                (!found.records.is_empty()).then(|| {
                    found.additional.dedup();
                    found
                })
            }
            _ => None,
        }
    }

    fn entry(&self, service: &str, namespace: &str) -> Option<(&ServiceEntry, &[EndpointEntry])> {
        let key = format!("{namespace}/{service}");
        Some((self.services.get(&key)?, self.endpoints.get(&key).map_or(&[], Vec::as_slice)))
    }

    /// The address of `ns.dns`: the service that pods ask.
    fn name_server(&self) -> Vec<Record> {
        match self.entry("kube-dns", "kube-system") {
            Some((ServiceEntry { kind: ServiceKind::ClusterIp(addresses), .. }, _)) => {
                addresses.iter().map(|address| address_record(&format!("ns.dns.{}", self.domain), *address)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn service(&self, name: &str, service: &str, namespace: &str) -> Option<Found> {
        let (entry, endpoints) = self.entry(service, namespace)?;
        let mut addresses: Vec<IpAddr> = match &entry.kind {
            ServiceKind::External(target) => {
                let record = Record { name: name.to_owned(), data: Data::Cname(target.clone()) };
                return Some(Found { records: vec![record], ..Found::default() });
            }
            ServiceKind::ClusterIp(addresses) => addresses.clone(),
            ServiceKind::Headless => endpoints.iter().map(|endpoint| endpoint.address).collect(),
        };
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() {
            return None;
        }
        let mut found = self.services_of(name, service, namespace, None);
        found.records.extend(addresses.iter().map(|address| address_record(name, *address)));
        Some(found)
    }

    fn endpoint(&self, name: &str, host: &str, service: &str, namespace: &str) -> Option<Found> {
        let (_, endpoints) = self.entry(service, namespace)?;
        let of_host = endpoints.iter().filter(|endpoint| endpoint.host == host);
        let records: Vec<Record> = of_host.map(|endpoint| address_record(name, endpoint.address)).collect();
        (!records.is_empty()).then(|| Found { records, ..Found::default() })
    }

    fn has_port(&self, service: &str, namespace: &str, protocol: &str, port: Option<&str>) -> bool {
        let fits = |entry: &PortEntry| {
            entry.protocol.to_string() == protocol && port.is_none_or(|port| !port.is_empty() && entry.name == port)
        };
        self.entry(service, namespace).is_some_and(|(entry, endpoints)| {
            entry.ports.iter().any(fits) || endpoints.iter().any(|endpoint| endpoint.ports.iter().any(fits))
        })
    }

    /// SRV records: of one named port, or of all; each endpoint's own with a headless service.
    fn services_of(&self, name: &str, service: &str, namespace: &str, which: Option<(&str, &str)>) -> Found {
        let Some((entry, endpoints)) = self.entry(service, namespace) else { return Found::default() };
        let own = format!("{service}.{namespace}.svc.{}", self.domain);
        let fits = |port: &&PortEntry| {
            which.is_none_or(|(name, protocol)| port.name == name && port.protocol.to_string() == protocol)
        };
        let mut targets: Vec<(u16, String)> = Vec::new();
        let mut additional = Vec::new();
        match &entry.kind {
            ServiceKind::External(_) => {}
            ServiceKind::ClusterIp(addresses) => {
                targets.extend(entry.ports.iter().filter(fits).map(|port| (port.port, own.clone())));
                additional.extend(addresses.iter().map(|address| address_record(&own, *address)));
            }
            ServiceKind::Headless => {
                for endpoint in endpoints {
                    let host = format!("{}.{own}", endpoint.host);
                    targets.extend(endpoint.ports.iter().filter(fits).map(|port| (port.port, host.clone())));
                    additional.push(address_record(&host, endpoint.address));
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        // Equal shares of 100, as a weight of 0 would stand behind every other.
        let weight = (100 / targets.len().max(1)).max(1) as u16;
        let record =
            |(port, target)| Record { name: name.to_owned(), data: Data::Srv { priority: 0, weight, port, target } };
        Found { records: targets.into_iter().map(record).collect(), additional }
    }

    fn pointers(&self, name: &str, address: IpAddr, kind: Kind) -> Answer {
        let mut names: Vec<String> = Vec::new();
        let split = |key: &str| {
            key.split_once('/').map(|(namespace, service)| format!("{service}.{namespace}.svc.{}", self.domain))
        };
        if let Some(services) = self.service_by_ip.get(&address) {
            names.extend(services.iter().filter_map(|key| split(key)));
        } else if let Some(services) = self.endpoint_by_ip.get(&address) {
            for key in services.iter().filter(|key| self.services.contains_key(*key)) {
                let hosts =
                    self.endpoints.get(key).into_iter().flatten().filter(|endpoint| endpoint.address == address);
                names.extend(hosts.filter_map(|endpoint| Some(format!("{}.{}", endpoint.host, split(key)?))));
            }
        }
        if names.is_empty() {
            return Answer::Elsewhere;
        }
        let records =
            names.into_iter().map(|target| Record { name: name.to_owned(), data: Data::Ptr(target) }).collect();
        select(self, Found { records, additional: Vec::new() }, kind)
    }
}

fn address_data(address: IpAddr) -> Data {
    match address {
        IpAddr::V4(address) => Data::A(address),
        IpAddr::V6(address) => Data::Aaaa(address),
    }
}

fn address_record(name: &str, address: IpAddr) -> Record {
    Record { name: name.to_owned(), data: address_data(address) }
}

/// `10-0-0-1` and `fd00--1`.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>();
    v4.map(IpAddr::V4).or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets: Vec<&str> = labels.split('.').collect();
        octets.reverse();
        return octets.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    if digits.len() != 32 {
        return None;
    }
    let mut bits: u128 = 0;
    for digit in digits.iter().rev() {
        let value = u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
        bits = bits << 4 | value;
    }
    Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests;
