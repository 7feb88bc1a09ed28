//! Cluster IPs and node ports of Services.
//!
//! What is taken is read from the services themselves, so there is no second record that could disagree. Claims are
//! made one at a time: a claim holds the lock until its service is written, and begins with the cache caught up. Another
//! API server on the same store knows nothing of the lock: the write itself asks that no service has changed since.
//! `kubernetes/kubernetes pkg/registry/core/service/storage/alloc.go: what is allocated when, and the errors`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use machinery::object;
use machinery::status::Status;
use mvcc::{Compare, CompareResult, CompareTarget, prefix_end};
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::context::Cx;
use crate::server::{Config, StartError};

/// Hands out addresses and ports, one writer at a time.
pub struct Allocator {
    lock: Arc<Mutex<()>>,
    network: u32,
    /// Addresses in the network.
    size: u32,
    cidr: String,
    ports: (u16, u16),
}

/// Keeps others from claiming until the service is written.
pub struct Claim {
    _alone: OwnedMutexGuard<()>,
    /// The service as it was before it was given anything.
    pub asked: Value,
    /// Nobody has written a service since it was looked what is taken.
    pub unchanged: Compare,
}

/// What is taken by the services there are.
#[derive(Default)]
struct Taken {
    addresses: BTreeSet<u32>,
    ports: BTreeSet<(String, u16)>,
}

fn text<'a>(service: &'a Value, name: &str) -> &'a str {
    service.pointer(&format!("/spec/{name}")).and_then(Value::as_str).unwrap_or_default()
}

fn unchanged_since(prefix: String, revision: i64) -> Compare {
    let range_end = prefix_end(prefix.as_bytes());
    Compare { key: prefix.into(), range_end, result: CompareResult::Less, target: CompareTarget::Mod(revision + 1) }
}

/// Only Services have anything to claim.
fn concerns(cx: &Cx) -> bool {
    cx.kind.group.is_empty() && cx.kind.names.plural == "services"
}

fn has_cluster_ip(service: &Value) -> bool {
    text(service, "type") != "ExternalName"
}

/// Fills in the address families and the policy about them. A headless service whose endpoints others write may have both
/// families, whatever the cluster has. `kubernetes/kubernetes pkg/registry/core/service/storage/alloc.go`.
fn set_families(service: &mut Value) {
    let selects = service.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|labels| !labels.is_empty());
    let free = text(service, "clusterIP") == "None" && !selects;
    if service.pointer("/spec/ipFamilyPolicy").is_none() {
        let policy = if free { "RequireDualStack" } else { "SingleStack" };
        object::put(service, &["spec", "ipFamilyPolicy"], json!(policy));
    }
    let mut families = service.pointer("/spec/ipFamilies").and_then(Value::as_array).cloned().unwrap_or_default();
    if families.is_empty() {
        families.push(json!("IPv4"));
    }
    if free && families.len() == 1 && text(service, "ipFamilyPolicy") != "SingleStack" {
        families.push(json!(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }));
    }
    object::put(service, &["spec", "ipFamilies"], Value::Array(families));
}

fn has_node_ports(service: &Value) -> bool {
    match text(service, "type") {
        "NodePort" => true,
        "LoadBalancer" => service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

fn has_health_port(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

impl Allocator {
    pub fn new(config: &Config) -> Result<Allocator, StartError> {
        let wrong = || StartError::ServiceCidr(config.service_cidr.clone());
        let (address, bits) = config.service_cidr.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let bits: u32 = bits.parse().ok().filter(|bits| (1..=30).contains(bits)).ok_or_else(wrong)?;
        let size = 1u32 << (32 - bits);
        Ok(Allocator {
            lock: Arc::default(),
            network: u32::from(address) & !(size - 1),
            size,
            cidr: config.service_cidr.clone(),
            ports: config.node_ports,
        })
    }

    /// The first address: the `kubernetes` service's.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    /// Gives a service what it needs. Hold the claim until the service is stored.
    pub async fn claim(
        &self,
        cx: &Cx,
        new: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Option<Claim>, Status> {
        if !concerns(cx) {
            return Ok(None);
        }
        let alone = Arc::clone(&self.lock).lock_owned().await;
        let revision = cx.server.registry.revision().await?;
        cx.server.caches.wait_for(revision).await?;
        let claim = (!dry_run).then(|| Claim {
            _alone: alone,
            asked: new.clone(),
            unchanged: unchanged_since(cx.kind.key_prefix(None), revision),
        });
        let taken = self.taken(cx, object::uid(new))?;
        let mut errors = FieldErrors::new();
        self.address(new, old, &taken, &mut errors);
        self.node_ports(new, old, &taken, &mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid(&cx.group_kind(), object::name(new), &errors));
        }
        Ok(claim)
    }

    /// Everything that other services than `except` hold.
    fn taken(&self, cx: &Cx, except: &str) -> Result<Taken, Status> {
        let mut taken = Taken::default();
        for held in cx.cache()?.list("").0 {
            let service = held.value();
            if object::uid(&service) == except {
                continue;
            }
            if let Ok(address) = text(&service, "clusterIP").parse::<Ipv4Addr>() {
                taken.addresses.insert(u32::from(address));
            }
            let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
            for port in ports {
                taken.ports.extend(node_port(port).map(|number| (protocol(port).to_owned(), number)));
            }
            if let Some(port) = service.pointer("/spec/healthCheckNodePort").and_then(as_port) {
                taken.ports.insert(("TCP".to_owned(), port));
            }
        }
        Ok(taken)
    }

    fn address(&self, new: &mut Value, old: Option<&Value>, taken: &Taken, errors: &mut FieldErrors) {
        if !has_cluster_ip(new) {
            for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                object::take(new, &["spec", name]);
            }
            return;
        }
        set_families(new);
        let mut wanted = text(new, "clusterIP").to_owned();
        if wanted.is_empty() {
            wanted = new.pointer("/spec/clusterIPs/0").and_then(Value::as_str).unwrap_or_default().to_owned();
        }
        if wanted.is_empty() {
            match self.free_address(taken) {
                Some(address) => wanted = address.to_string(),
                None => {
                    let path = Path::new("spec").child("clusterIPs");
                    errors.push(FieldError::internal(&path, "failed to allocate a serviceIP: range is full"));
                    return;
                }
            }
        } else if wanted != "None" && old.is_none_or(|old| text(old, "clusterIP") != wanted) {
            self.check_address(&wanted, taken, errors);
        }
        object::put(new, &["spec", "clusterIPs"], json!([wanted]));
        object::put(new, &["spec", "clusterIP"], json!(wanted));
    }

    fn check_address(&self, wanted: &str, taken: &Taken, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("clusterIPs");
        let mut refuse = |why: String| {
            let value = BadValue::json(&[wanted]);
            errors.push(FieldError::invalid(&path, value, format!("failed to allocate IP {wanted}: {why}")));
        };
        let Ok(address) = wanted.parse::<Ipv4Addr>() else { return };
        let at = u32::from(address);
        // The network's own address and its last one are nobody's.
        let inside = at > self.network && at - self.network < self.size - 1;
        if !inside {
            refuse(format!(
                "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}",
                self.cidr
            ));
        } else if taken.addresses.contains(&at) {
            refuse("provided IP is already allocated".to_owned());
        }
    }

    /// A free address, from the upper part of the range first: the lower one is for those chosen by hand.
    /// `kubernetes/kubernetes pkg/registry/core/service/ipallocator: calculateRangeOffset`.
    fn free_address(&self, taken: &Taken) -> Option<Ipv4Addr> {
        let usable = self.size - 2;
        let reserved = (self.size / 16).clamp(16, 256).min(usable);
        let pick = |from: u32, to: u32| -> Option<u32> {
            let width = to.checked_sub(from).filter(|width| *width > 0)?;
            let start = rand::rng().random_range(0..width);
            (0..width)
                .map(|step| from + (start + step) % width)
                .find(|offset| !taken.addresses.contains(&(self.network + offset)))
        };
        let offset = pick(1 + reserved, 1 + usable).or_else(|| pick(1, 1 + reserved))?;
        Some(Ipv4Addr::from(self.network + offset))
    }

    fn node_ports(&self, new: &mut Value, old: Option<&Value>, taken: &Taken, errors: &mut FieldErrors) {
        let mut mine: BTreeSet<(String, u16)> = BTreeSet::new();
        let wants = has_node_ports(new);
        let held: BTreeSet<u16> = old.map(held_ports).unwrap_or_default();
        let asked_for = held_ports(new);
        let mut ports = new.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
        for (at, port) in ports.iter_mut().enumerate() {
            if !wants {
                // A port asked for by hand is validation's to refuse; one left over from another type goes.
                if (old.is_some_and(has_node_ports) || node_port(port).is_none())
                    && let Some(map) = port.as_object_mut()
                {
                    map.remove("nodePort");
                }
                continue;
            }
            let path = Path::new("spec").child("ports").index(at).child("nodePort");
            let protocol = protocol(port).to_owned();
            let asked = node_port(port);
            // One number may serve several protocols of one port.
            let number = match asked {
                Some(number) if held.contains(&number) => Some(number),
                Some(number) => self.check_port(number, &protocol, &path, taken, &mine, errors),
                None => self.free_port(taken, &mine, &asked_for),
            };
            match number {
                Some(number) => {
                    mine.insert((protocol, number));
                    port["nodePort"] = json!(number);
                }
                None if asked.is_none() => {
                    errors.push(FieldError::internal(&path, "failed to allocate a nodePort: range is full"));
                }
                None => {}
            }
        }
        if !ports.is_empty() {
            object::put(new, &["spec", "ports"], Value::Array(ports));
        }
        self.health_port(new, taken, &mine, &held, errors);
    }

    fn health_port(
        &self,
        new: &mut Value,
        taken: &Taken,
        mine: &BTreeSet<(String, u16)>,
        held: &BTreeSet<u16>,
        errors: &mut FieldErrors,
    ) {
        if !has_health_port(new) {
            object::take(new, &["spec", "healthCheckNodePort"]);
            return;
        }
        let path = Path::new("spec").child("healthCheckNodePort");
        let number = match new.pointer("/spec/healthCheckNodePort").and_then(as_port) {
            Some(number) if held.contains(&number) => Some(number),
            Some(number) => self.check_port(number, "TCP", &path, taken, mine, errors),
            None => self.free_port(taken, mine, &BTreeSet::new()),
        };
        if let Some(number) = number {
            object::put(new, &["spec", "healthCheckNodePort"], json!(number));
        }
    }

    fn check_port(
        &self,
        number: u16,
        protocol: &str,
        path: &Path,
        taken: &Taken,
        mine: &BTreeSet<(String, u16)>,
        errors: &mut FieldErrors,
    ) -> Option<u16> {
        let (from, to) = self.ports;
        let key = (protocol.to_owned(), number);
        let why = if !(from..=to).contains(&number) {
            format!("provided port is not in the valid range. The range of valid ports is {from}-{to}")
        } else if taken.ports.contains(&key) || mine.contains(&key) {
            "provided port is already allocated".to_owned()
        } else {
            return Some(number);
        };
        errors.push(FieldError::invalid(path, BadValue::json(&number), why));
        None
    }

    /// A port that nobody has, nor asks for in the same request.
    fn free_port(&self, taken: &Taken, mine: &BTreeSet<(String, u16)>, asked_for: &BTreeSet<u16>) -> Option<u16> {
        let (from, to) = self.ports;
        let used = |number: u16| {
            asked_for.contains(&number)
                || taken.ports.iter().any(|(_, port)| *port == number)
                || mine.iter().any(|(_, port)| *port == number)
        };
        let width = u32::from(to - from) + 1;
        let start = rand::rng().random_range(0..width);
        let mut all = (0..width).filter_map(|step| u16::try_from(u32::from(from) + (start + step) % width).ok());
        all.find(|number| !used(*number))
    }
}

fn as_port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn node_port(port: &Value) -> Option<u16> {
    port.get("nodePort").and_then(as_port)
}

fn protocol(port: &Value) -> &str {
    port.get("protocol").and_then(Value::as_str).unwrap_or("TCP")
}

fn held_ports(service: &Value) -> BTreeSet<u16> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    ports.filter_map(node_port).chain(service.pointer("/spec/healthCheckNodePort").and_then(as_port)).collect()
}

/// An update that leaves allocated fields out keeps them.
/// `kubernetes/kubernetes pkg/registry/core/service/strategy.go: patchAllocatedValues`.
pub fn keep(cx: &Cx, new: &mut Value, old: &Value) {
    if !concerns(cx) {
        return;
    }
    if has_cluster_ip(new) && has_cluster_ip(old) && text(new, "clusterIP").is_empty() {
        for name in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old.pointer(&format!("/spec/{name}")) {
                object::put(new, &["spec", name], value.clone());
            }
        }
    }
    if has_health_port(new)
        && has_health_port(old)
        && new.pointer("/spec/healthCheckNodePort").is_none()
        && let Some(value) = old.pointer("/spec/healthCheckNodePort")
    {
        object::put(new, &["spec", "healthCheckNodePort"], value.clone());
    }
    if !has_node_ports(new) || !has_node_ports(old) {
        return;
    }
    let before = old.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Array(ports)) = new.pointer_mut("/spec/ports") else { return };
    let asked: BTreeSet<u16> = ports.iter().filter_map(node_port).collect();
    for port in ports.iter_mut().filter(|port| node_port(port).is_none()) {
        let same = |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        if let Some(number) = before.iter().find(same).and_then(node_port).filter(|number| !asked.contains(number)) {
            port["nodePort"] = json!(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator() -> Allocator {
        Allocator::new(&Config { service_cidr: "10.96.0.0/12".to_owned(), ..Config::default() }).unwrap()
    }

    #[test]
    fn addresses_come_from_the_upper_part_and_errors_have_upstreams_words() {
        let allocator = allocator();
        assert_eq!(allocator.first().to_string(), "10.96.0.1");
        let address = u32::from(allocator.free_address(&Taken::default()).unwrap());
        assert!(
            address > u32::from(Ipv4Addr::new(10, 96, 1, 0)) && address < u32::from(Ipv4Addr::new(10, 111, 255, 255))
        );
        let mut taken = Taken::default();
        taken.addresses.insert(u32::from(allocator.first()));
        let mut errors = FieldErrors::new();
        allocator.check_address("10.96.0.1", &taken, &mut errors);
        allocator.check_address("10.112.0.1", &taken, &mut errors);
        let words: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
        assert_eq!(
            words,
            [
                "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated",
                "spec.clusterIPs: Invalid value: [\"10.112.0.1\"]: failed to allocate IP 10.112.0.1: the provided IP (10.112.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
            ]
        );
    }

    #[test]
    fn node_ports_are_given_kept_and_refused() {
        let allocator = allocator();
        let mut service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "nodePort": 31000}]}});
        let mut errors = FieldErrors::new();
        allocator.node_ports(&mut service, None, &Taken::default(), &mut errors);
        assert!(errors.is_empty());
        assert!((30000..=32767).contains(&service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()));
        // What is given leaves alone what is asked for later in the same service.
        let narrow = Allocator::new(&Config { node_ports: (30000, 30001), ..Config::default() }).unwrap();
        let mut two = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "nodePort": 30000}]}});
        for _ in 0..20 {
            two["spec"]["ports"][0]["nodePort"] = Value::Null;
            narrow.node_ports(&mut two, None, &Taken::default(), &mut errors);
            assert_eq!((errors.len(), &two["spec"]["ports"][0]["nodePort"]), (0, &json!(30001)));
        }
        let mut wrong = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}});
        allocator.node_ports(&mut wrong, None, &Taken::default(), &mut errors);
        assert_eq!(
            errors.iter().map(|error| error.to_string()).collect::<Vec<_>>(),
            [
                "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
            ]
        );
    }
}
