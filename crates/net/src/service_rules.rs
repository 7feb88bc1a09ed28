//! The nftables table of the services: the fixed rules, and what a `netplan::Change` does to the maps and chains.
//!
//! The common service is elements of a few maps and nothing else: one rule picks a random slot and looks the endpoint
//! up under `address . protocol . port . slot`, so what a change costs does not depend on how many services there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netplan::{Change, Cidr, Destination, Place, Protocol, SLOTS, Step, Target, Value as Planned};

use crate::netlink::{Refused, Socket};
use crate::nft::{Address, Batch, Compare, Field, Hook, Meta, REG, SetKind, Value, Verdict};

/// The packet mark of connections to masquerade: the bit that kube-proxy uses too.
const MASQUERADE_MARK: u32 = 0x4000;
const STATUS_DNAT: u32 = 0x20;
const STATE_NEW: u32 = 8;

const DESTINATION: &[Field] = &[Field::Ipv4, Field::Protocol, Field::Port];
const NODE_DESTINATION: &[Field] = &[Field::Protocol, Field::Port];
const SLOT: &[Field] = &[Field::Ipv4, Field::Protocol, Field::Port, Field::Number];
const NODE_SLOT: &[Field] = &[Field::Protocol, Field::Port, Field::Number];
const TARGET: &[Field] = &[Field::Ipv4, Field::Port];
const HAIRPIN: &[Field] = &[Field::Ipv4, Field::Ipv4, Field::Protocol, Field::Port];

const SETS: &[(&str, &[Field], SetKind)] = &[
    ("cluster-ips", &[Field::Ipv4], SetKind::Set),
    ("firewall", DESTINATION, SetKind::VerdictMap),
    ("masquerade", DESTINATION, SetKind::Set),
    ("node-masquerade", NODE_DESTINATION, SetKind::Set),
    ("chains", DESTINATION, SetKind::VerdictMap),
    ("node-chains", NODE_DESTINATION, SetKind::VerdictMap),
    ("slots", SLOT, SetKind::Map(TARGET)),
    ("node-slots", NODE_SLOT, SetKind::Map(TARGET)),
    ("no-endpoints", DESTINATION, SetKind::VerdictMap),
    ("node-no-endpoints", NODE_DESTINATION, SetKind::VerdictMap),
    ("hairpin", HAIRPIN, SetKind::Set),
];

/// Names and ranges that the fixed rules need.
#[derive(Clone, Debug)]
pub struct Layout {
    pub table: String,
    /// Addresses of pods: their traffic to services is not masqueraded.
    pub pod_range: Cidr,
    /// Traffic to an address of these that no service has is dropped.
    pub service_ranges: Vec<Cidr>,
}

impl Layout {
    /// Makes the table anew with everything in it, in one step.
    pub fn install(&self, socket: &mut Socket, everything: &Change) -> Result<(), Refused> {
        let mut batch = Batch::new(&self.table);
        batch.fresh_table();
        for (name, key, kind) in SETS {
            batch.set(name, key, *kind);
        }
        self.refusals(&mut batch);
        self.translation(&mut batch);
        self.write(&mut batch, everything);
        batch.commit(socket)
    }

    /// Carries out a change. Chains that go are emptied; the answer says which, for `delete_chains`.
    pub fn change(&self, socket: &mut Socket, change: &Change) -> Result<Vec<String>, Refused> {
        let mut batch = Batch::new(&self.table);
        let retired = self.write(&mut batch, change);
        if !batch.is_empty() {
            batch.commit(socket)?;
        }
        Ok(retired)
    }

    /// Deletes emptied chains. Kernels before 6.2 take a moment to see that a chain has no reference any more: those
    /// left over are the answer.
    pub fn delete_chains(&self, socket: &mut Socket, chains: Vec<String>) -> Vec<String> {
        let delete = |chain: &String, socket: &mut Socket| {
            let mut batch = Batch::new(&self.table);
            batch.delete_chain(chain);
            batch.commit(socket)
        };
        chains
            .into_iter()
            .filter(|chain| matches!(delete(chain, socket), Err(Refused { errno: nix::errno::Errno::EBUSY, .. })))
            .collect()
    }

    pub fn remove(&self, socket: &mut Socket) -> Result<(), Refused> {
        let mut batch = Batch::new(&self.table);
        batch.delete_table();
        batch.commit(socket)
    }

    /// What is dropped or refused, before and after translation.
    fn refusals(&self, batch: &mut Batch) {
        for (chain, hook) in [("firewall-prerouting", Hook::Prerouting), ("firewall-output", Hook::Output)] {
            batch.base_chain(chain, "filter", hook, -110);
            batch.rule(chain, |rule| {
                rule.connection_state(STATE_NEW).destination_key(REG).verdict_from("firewall", REG);
            });
        }
        batch.chain("reject");
        batch.rule("reject", |rule| {
            rule.reject();
        });
        let hooks = [("filter-input", Hook::Input), ("filter-forward", Hook::Forward), ("filter-output", Hook::Output)];
        for (chain, hook) in hooks {
            batch.base_chain(chain, "filter", hook, 0);
            batch.rule(chain, |rule| {
                rule.connection_state(STATE_NEW).destination_key(REG).verdict_from("no-endpoints", REG);
            });
            if hook == Hook::Input {
                batch.rule(chain, |rule| {
                    rule.connection_state(STATE_NEW).is_local(Address::Destination);
                    rule.port_key(REG).verdict_from("node-no-endpoints", REG);
                });
                continue;
            }
            // Ports that a service does not have, then addresses that no service has.
            batch.rule(chain, |rule| {
                rule.connection_state(STATE_NEW).address(Address::Destination, REG).in_set("cluster-ips", REG);
                rule.verdict(&Verdict::Goto("reject".to_owned()));
            });
            for range in self.service_ranges.iter().filter(|range| range.address().is_ipv4()) {
                batch.rule(chain, |rule| {
                    rule.connection_state(STATE_NEW).in_range(Address::Destination, *range, Compare::Equal);
                    rule.verdict(&Verdict::Drop);
                });
            }
        }
    }

    fn translation(&self, batch: &mut Batch) {
        batch.chain("services");
        batch.chain("node-ports");
        batch.rule("services", |rule| {
            rule.in_range(Address::Source, self.pod_range, Compare::NotEqual);
            rule.address(Address::Destination, REG).in_set("cluster-ips", REG);
            mark(rule);
        });
        batch.rule("services", |rule| {
            rule.destination_key(REG).in_set("masquerade", REG);
            mark(rule);
        });
        batch.rule("services", |rule| {
            rule.destination_key(REG).verdict_from("chains", REG);
        });
        batch.rule("services", |rule| {
            rule.destination_key(REG).random_below(u32::from(SLOTS), REG + 3);
            rule.map_lookup("slots", REG, REG + 4).destination_nat(REG + 4);
        });
        batch.rule("services", |rule| {
            rule.is_local(Address::Destination).verdict(&Verdict::Goto("node-ports".to_owned()));
        });
        batch.rule("node-ports", |rule| {
            rule.port_key(REG).in_set("node-masquerade", REG);
            mark(rule);
        });
        batch.rule("node-ports", |rule| {
            rule.port_key(REG).verdict_from("node-chains", REG);
        });
        batch.rule("node-ports", |rule| {
            rule.port_key(REG).random_below(u32::from(SLOTS), REG + 2);
            rule.map_lookup("node-slots", REG, REG + 4).destination_nat(REG + 4);
        });
        for (chain, hook) in [("nat-prerouting", Hook::Prerouting), ("nat-output", Hook::Output)] {
            batch.base_chain(chain, "nat", hook, -100);
            batch.rule(chain, |rule| {
                rule.verdict(&Verdict::Jump("services".to_owned()));
            });
        }
        batch.base_chain("nat-postrouting", "nat", Hook::Postrouting, 100);
        batch.rule("nat-postrouting", |rule| {
            rule.meta(Meta::Mark, REG).mask(REG, &MASQUERADE_MARK.to_ne_bytes(), &[0; 4]);
            rule.compare(REG, Compare::NotEqual, &[0; 4]);
            rule.meta(Meta::Mark, REG).mask(REG, &(!MASQUERADE_MARK).to_ne_bytes(), &[0; 4]);
            rule.set_meta(Meta::Mark, REG).masquerade();
        });
        batch.rule("nat-postrouting", |rule| {
            rule.connection_status(STATUS_DNAT);
            rule.address(Address::Source, REG).address(Address::Destination, REG + 1).port_key(REG + 2);
            rule.in_set("hairpin", REG).masquerade();
        });
    }

    /// Writes a change; the answer is the chains that it emptied. What refers goes before what is referred to.
    fn write(&self, batch: &mut Batch, change: &Change) -> Vec<String> {
        for (set, elements) in grouped(&change.remove) {
            batch.delete_elements(set, elements.iter().map(|(key, value)| (&key[..], value)));
        }
        let mut retired = Vec::new();
        let (going, coming) = affinity_changes(change);
        let changed = change.change_chains.iter().map(|(name, (old, _))| (name, old));
        for (name, steps) in change.remove_chains.iter().chain(changed) {
            batch.flush_chain(name);
            steps.iter().for_each(|step| remove_parts(batch, name, step));
        }
        retired.extend(change.remove_chains.keys().cloned());
        for name in going.keys() {
            batch.flush_chain(&format!("to-{name}"));
            retired.push(format!("to-{name}"));
        }
        for name in going.keys() {
            batch.delete_set(name);
        }
        change.add_chains.keys().for_each(|name| batch.chain(name));
        for (name, (target, seconds)) in &coming {
            batch.set(name, &[Field::Ipv4], SetKind::Dynamic { timeout_ms: u64::from(*seconds) * 1000 });
            let chain = format!("to-{name}");
            batch.chain(&chain);
            batch.flush_chain(&chain);
            batch.rule(&chain, |rule| {
                rule.address(Address::Source, REG).refresh_in(name, REG);
                rule.load(REG, &octets(target.address)).load(REG + 1, &port_field(target.port));
                rule.destination_nat(REG);
            });
        }
        let changed = change.change_chains.iter().map(|(name, (_, new))| (name, new));
        for (name, steps) in change.add_chains.iter().chain(changed) {
            steps.iter().for_each(|step| self.add_step(batch, name, step));
        }
        for (set, elements) in grouped(&change.add) {
            batch.add_elements(set, elements.iter().map(|(key, value)| (&key[..], value)));
        }
        retired
    }

    fn add_step(&self, batch: &mut Batch, chain: &str, step: &Step) {
        match step {
            Step::FromPods(to) => batch.rule(chain, |rule| {
                rule.in_range(Address::Source, self.pod_range, Compare::Equal).verdict(&Verdict::Goto(to.clone()));
            }),
            Step::FromNode(to) => {
                batch.rule(chain, |rule| {
                    rule.is_local(Address::Source);
                    mark(rule);
                });
                batch.rule(chain, |rule| {
                    rule.is_local(Address::Source).verdict(&Verdict::Goto(to.clone()));
                });
            }
            Step::Goto(to) => batch.rule(chain, |rule| {
                rule.verdict(&Verdict::Goto(to.clone()));
            }),
            Step::Balance(targets) => {
                let map = targets_map(chain);
                batch.set(&map, &[Field::Number], SetKind::Map(TARGET));
                let elements: Vec<(Vec<u8>, Value)> = (0u32..)
                    .zip(targets)
                    .map(|(slot, target)| (slot.to_ne_bytes().to_vec(), target_value(target)))
                    .collect();
                batch.add_elements(&map, elements.iter().map(|(key, value)| (&key[..], value)));
                batch.rule(chain, |rule| {
                    rule.random_below(targets.len() as u32, REG);
                    rule.map_lookup(&map, REG, REG + 4).destination_nat(REG + 4);
                });
            }
            Step::Sticky(targets, _) => {
                for target in targets {
                    let set = affinity_set(chain, target);
                    batch.rule(chain, |rule| {
                        rule.address(Address::Source, REG).in_set(&set, REG);
                        rule.verdict(&Verdict::Goto(format!("to-{set}")));
                    });
                }
                let map = targets_map(chain);
                batch.set(&map, &[Field::Number], SetKind::VerdictMap);
                let goto = |target| Value::Verdict(Verdict::Goto(format!("to-{}", affinity_set(chain, target))));
                let elements: Vec<(Vec<u8>, Value)> =
                    (0u32..).zip(targets).map(|(slot, target)| (slot.to_ne_bytes().to_vec(), goto(target))).collect();
                batch.add_elements(&map, elements.iter().map(|(key, value)| (&key[..], value)));
                batch.rule(chain, |rule| {
                    rule.random_below(targets.len() as u32, REG).verdict_from(&map, REG);
                });
            }
            Step::DropUnlessFrom(ranges) => {
                for range in ranges {
                    batch.rule(chain, |rule| {
                        rule.in_range(Address::Source, *range, Compare::Equal).verdict(&Verdict::Return);
                    });
                }
                batch.rule(chain, |rule| {
                    rule.verdict(&Verdict::Drop);
                });
            }
        }
    }
}

fn mark(rule: &mut crate::nft::Rule<'_, '_>) {
    rule.meta(Meta::Mark, REG);
    rule.mask(REG, &(!MASQUERADE_MARK).to_ne_bytes(), &MASQUERADE_MARK.to_ne_bytes());
    rule.set_meta(Meta::Mark, REG);
}

fn targets_map(chain: &str) -> String {
    format!("{chain}-targets")
}

/// Who was last sent to this endpoint; the chain `to-<set>` sends there.
fn affinity_set(chain: &str, target: &Target) -> String {
    format!("{chain}-{}-{}", target.address, target.port)
}

/// Takes away the map of a step whose rules have been flushed.
fn remove_parts(batch: &mut Batch, chain: &str, step: &Step) {
    if matches!(step, Step::Balance(_) | Step::Sticky(..)) {
        batch.delete_set(&targets_map(chain));
    }
}

type Affinity = BTreeMap<String, (Target, u32)>;

fn affinity<'s>(chains: impl Iterator<Item = (&'s String, &'s Vec<Step>)>) -> Affinity {
    let mut all = Affinity::new();
    for (chain, steps) in chains {
        for step in steps {
            if let Step::Sticky(targets, seconds) = step {
                all.extend(targets.iter().map(|target| (affinity_set(chain, target), (*target, *seconds))));
            }
        }
    }
    all
}

/// The affinity sets that go and that come. Those of endpoints that stay are kept: their clients must not move.
fn affinity_changes(change: &Change) -> (Affinity, Affinity) {
    let old = change.change_chains.iter().map(|(name, (old, _))| (name, old));
    let new = change.change_chains.iter().map(|(name, (_, new))| (name, new));
    let mut going = affinity(change.remove_chains.iter().chain(old));
    let mut coming = affinity(change.add_chains.iter().chain(new));
    let kept: Vec<String> =
        going.iter().filter(|(name, use_)| coming.get(*name) == Some(use_)).map(|(name, _)| name.clone()).collect();
    for name in kept {
        going.remove(&name);
        coming.remove(&name);
    }
    (going, coming)
}

type Elements = Vec<(Vec<u8>, Value)>;

fn grouped(places: &[(Place, Planned)]) -> BTreeMap<&'static str, Elements> {
    let mut all: BTreeMap<&'static str, Elements> = BTreeMap::new();
    for (place, value) in places {
        if let Some((set, key)) = key(place) {
            all.entry(set).or_default().push((key, element_value(value)));
        }
    }
    all
}

/// Which set or map a place is in, and under which key; `None` for what an IPv4 table cannot hold.
fn key(place: &Place) -> Option<(&'static str, Vec<u8>)> {
    let pick = |to: &Destination, with_address: &'static str, of_node: &'static str| {
        let ports = [protocol_field(to.protocol), port_field(to.port)].concat();
        match to.address {
            None => Some((of_node, ports)),
            Some(IpAddr::V4(address)) => Some((with_address, [&address.octets()[..], &ports].concat())),
            Some(IpAddr::V6(_)) => None,
        }
    };
    match place {
        Place::ClusterIp(IpAddr::V4(address)) => Some(("cluster-ips", address.octets().to_vec())),
        Place::ClusterIp(IpAddr::V6(_)) => None,
        Place::Firewall(to) => pick(to, "firewall", "firewall"),
        Place::Masquerade(to) => pick(to, "masquerade", "node-masquerade"),
        Place::Chain(to) => pick(to, "chains", "node-chains"),
        Place::NoEndpoints(to) => pick(to, "no-endpoints", "node-no-endpoints"),
        Place::Slot(to, slot) => {
            let (set, mut key) = pick(to, "slots", "node-slots")?;
            key.extend(u32::from(*slot).to_ne_bytes());
            Some((set, key))
        }
        Place::Hairpin(target, protocol) => {
            let IpAddr::V4(address) = target.address else { return None };
            let address = address.octets();
            Some(("hairpin", [address, address, protocol_field(*protocol), port_field(target.port)].concat()))
        }
    }
}

fn element_value(value: &Planned) -> Value {
    match value {
        Planned::Present => Value::None,
        Planned::Goto(chain) => Value::Verdict(Verdict::Goto(chain.clone())),
        Planned::Target(target) => target_value(target),
        Planned::Reject => Value::Verdict(Verdict::Goto("reject".to_owned())),
        Planned::Drop => Value::Verdict(Verdict::Drop),
    }
}

fn target_value(target: &Target) -> Value {
    Value::Bytes([octets(target.address), port_field(target.port)].concat())
}

/// Plans are made for IPv4 only, so the other family does not come here.
fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    }
}

fn protocol_field(protocol: Protocol) -> [u8; 4] {
    [protocol.number(), 0, 0, 0]
}

fn port_field(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
