//! The nftables table of the pod network: host ports, masquerade of what leaves the cluster, and two guards.

use std::net::IpAddr;

use netplan::Cidr;

use crate::addresses::{Lease, LeasedPort};
use crate::netlink::{Refused, Socket};
use crate::nft::{Address, Batch, Compare, Field, Hook, Meta, REG, SetKind, Value, Verdict};

/// `ct status dnat`.
const STATUS_DNAT: u32 = 0x20;
const HOST_PORTS: &str = "host-ports";
const HOST_ADDRESS_PORTS: &str = "host-address-ports";
const HAIRPIN: &str = "hairpin-connections";

pub struct PodRules<'a> {
    pub table: &'a str,
    pub bridge: &'a str,
    /// Addresses of the pods on this node, and of all pods.
    pub node_range: Cidr,
    pub cluster_range: Cidr,
}

type Elements = Vec<(&'static str, Vec<u8>, Value)>;

impl PodRules<'_> {
    /// Makes the table anew, with the host ports of every lease, in one step.
    pub fn install<'l>(&self, socket: &mut Socket, leases: impl Iterator<Item = &'l Lease>) -> Result<(), Refused> {
        let mut batch = Batch::new(self.table);
        batch.fresh_table();
        batch.set(
            HOST_ADDRESS_PORTS,
            &[Field::Ipv4, Field::Protocol, Field::Port],
            SetKind::Map(&[Field::Ipv4, Field::Port]),
        );
        batch.set(HOST_PORTS, &[Field::Protocol, Field::Port], SetKind::Map(&[Field::Ipv4, Field::Port]));
        batch.set(HAIRPIN, &[Field::Ipv4, Field::Ipv4, Field::Protocol, Field::Port], SetKind::Set);
        self.guards(&mut batch);
        self.nat(&mut batch);
        for lease in leases {
            add(&mut batch, &elements(lease));
        }
        batch.commit(socket)
    }

    fn guards(&self, batch: &mut Batch) {
        // The bridge routes 127.0.0.0/8 (host ports on localhost need it), so pods must be kept from using that.
        batch.base_chain("prerouting", "filter", Hook::Prerouting, -300);
        batch.rule("prerouting", |rule| {
            rule.interface(Meta::InputName, self.bridge, Compare::Equal);
            if let Some(loopback) = Cidr::new(IpAddr::from([127, 0, 0, 0]), 8) {
                rule.in_range(Address::Destination, loopback, Compare::Equal);
            }
            rule.verdict(&Verdict::Drop);
        });
        // Traffic between two pods comes in and leaves by the bridge, of which the kernel would tell the sender to
        // take the short way, past the rules.
        batch.base_chain("output", "filter", Hook::Output, 0);
        batch.rule("output", |rule| {
            rule.interface(Meta::OutputName, self.bridge, Compare::Equal);
            rule.meta(Meta::L4Protocol, REG).compare(REG, Compare::Equal, &[libc::IPPROTO_ICMP as u8]);
            rule.payload(2, 0, 1, REG).compare(REG, Compare::Equal, &[5]);
            rule.verdict(&Verdict::Drop);
        });
    }

    fn nat(&self, batch: &mut Batch) {
        batch.chain("host-ports");
        batch.rule("host-ports", |rule| {
            rule.destination_key(REG).map_lookup(HOST_ADDRESS_PORTS, REG, REG + 4).destination_nat(REG + 4);
        });
        batch.rule("host-ports", |rule| {
            rule.port_key(REG).map_lookup(HOST_PORTS, REG, REG + 4).destination_nat(REG + 4);
        });
        for (chain, hook) in [("nat-prerouting", Hook::Prerouting), ("nat-output", Hook::Output)] {
            batch.base_chain(chain, "nat", hook, -100);
            batch.rule(chain, |rule| {
                rule.is_local(Address::Destination).verdict(&Verdict::Jump("host-ports".to_owned()));
            });
        }
        batch.base_chain("nat-postrouting", "nat", Hook::Postrouting, 100);
        batch.rule("nat-postrouting", |rule| {
            rule.connection_status(STATUS_DNAT);
            rule.address(Address::Source, REG).address(Address::Destination, REG + 1).port_key(REG + 2);
            rule.in_set(HAIRPIN, REG).masquerade();
        });
        if let Some(loopback) = Cidr::new(IpAddr::from([127, 0, 0, 0]), 8) {
            batch.rule("nat-postrouting", |rule| {
                rule.interface(Meta::OutputName, self.bridge, Compare::Equal);
                rule.in_range(Address::Source, loopback, Compare::Equal).masquerade();
            });
        }
        batch.rule("nat-postrouting", |rule| {
            rule.interface(Meta::OutputName, self.bridge, Compare::NotEqual);
            rule.in_range(Address::Source, self.node_range, Compare::Equal);
            rule.in_range(Address::Destination, self.cluster_range, Compare::NotEqual);
            if let Some(multicast) = Cidr::new(IpAddr::from([224, 0, 0, 0]), 4) {
                rule.in_range(Address::Destination, multicast, Compare::NotEqual);
            }
            rule.masquerade();
        });
    }

    /// Opens the ports of a lease, or closes them.
    pub fn change(&self, socket: &mut Socket, close: Option<&Lease>, open: Option<&Lease>) -> Result<(), Refused> {
        let (close, open) = (close.map(elements).unwrap_or_default(), open.map(elements).unwrap_or_default());
        if close == open {
            return Ok(());
        }
        let mut batch = Batch::new(self.table);
        for (set, key, value) in &close {
            batch.delete_elements(set, [(&key[..], value)]);
        }
        add(&mut batch, &open);
        batch.commit(socket)
    }

    pub fn remove(table: &str, socket: &mut Socket) -> Result<(), Refused> {
        let mut batch = Batch::new(table);
        batch.delete_table();
        batch.commit(socket)
    }
}

fn add(batch: &mut Batch, elements: &Elements) {
    for (set, key, value) in elements {
        batch.add_elements(set, [(&key[..], value)]);
    }
}

/// The elements that one lease puts into the table.
fn elements(lease: &Lease) -> Elements {
    let IpAddr::V4(pod) = lease.address else { return Vec::new() };
    let pod = pod.octets();
    let mut all = Elements::new();
    for port in &lease.host_ports {
        let Some(protocol) = protocol_number(port) else { continue };
        let target = [pod, port_field(port.container_port)].concat();
        let host = [[protocol, 0, 0, 0], port_field(port.host_port)].concat();
        match port.host_ip.filter(|ip| !ip.is_unspecified()) {
            None => all.push((HOST_PORTS, host, Value::Bytes(target))),
            Some(IpAddr::V4(ip)) => {
                all.push((HOST_ADDRESS_PORTS, [&ip.octets()[..], &host].concat(), Value::Bytes(target)));
            }
            Some(IpAddr::V6(_)) => {}
        }
        let hairpin = [pod, pod, [protocol, 0, 0, 0], port_field(port.container_port)].concat();
        all.push((HAIRPIN, hairpin, Value::None));
    }
    all.sort();
    all.dedup();
    all
}

fn port_field(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn protocol_number(port: &LeasedPort) -> Option<u8> {
    match port.protocol.as_str() {
        "TCP" | "" => Some(libc::IPPROTO_TCP as u8),
        "UDP" => Some(libc::IPPROTO_UDP as u8),
        "SCTP" => Some(libc::IPPROTO_SCTP as u8),
        _ => None,
    }
}
