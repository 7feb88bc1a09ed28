//! The nftables table of the network policies: what a `netplan::PolicyRules` is in the kernel.
//!
//! Only what is forwarded passes here, after its destination was translated and before its source is: the addresses are
//! those of the pods. What the node itself sends and gets is not asked for, nor are answers of connections that exist.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netplan::{Direction, Peer, PolicyRules, PolicyStep, Ports, Protocol};

use crate::netlink::{Refused, Socket};
use crate::nft::{Address, Batch, Compare, Field, Hook, Meta, REG, Rule, SetKind, Value, Verdict};

const STATE_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// Isolated pods' addresses to the chains of their policies.
const PODS: [(&str, Direction); 2] = [("ingress-pods", Direction::Ingress), ("egress-pods", Direction::Egress)];
/// A pod that reaches itself through a service, as (address, address).
const ITSELF: &str = "itself";
const DESTINATION: &[Field] = &[Field::Ipv4, Field::Protocol, Field::Port];

/// The table in the network namespace where it was opened.
pub(crate) struct PolicyTable {
    name: String,
    socket: Socket,
    /// As the kernel has them; `None` when that is not known.
    rules: Option<PolicyRules>,
}

type Elements = BTreeSet<(String, Vec<u8>, Value)>;

impl PolicyTable {
    pub fn open(name: &str) -> Result<PolicyTable, Refused> {
        Ok(PolicyTable { name: name.to_owned(), socket: Socket::netfilter()?, rules: None })
    }

    /// Brings the kernel to these rules in one step: by elements alone if that is all that changes, else anew. Without an
    /// isolated pod there is no table.
    pub fn set(&mut self, rules: PolicyRules) -> Result<(), Refused> {
        let mut batch = Batch::new(&self.name);
        // Should the kernel refuse, nothing is known of what it has.
        match self.rules.take() {
            Some(before) if before == rules => {}
            Some(before) if !rules.is_empty() && !before.is_empty() && same_shape(&before, &rules) => {
                let (old, new) = (elements(&before), elements(&rules));
                for (set, key, value) in old.difference(&new) {
                    batch.delete_elements(set, [(&key[..], value)]);
                }
                for (set, key, value) in new.difference(&old) {
                    batch.add_elements(set, [(&key[..], value)]);
                }
            }
            _ if rules.is_empty() => batch.delete_table(),
            _ => install(&mut batch, &rules),
        }
        if !batch.is_empty() {
            batch.commit(&mut self.socket)?;
        }
        self.rules = Some(rules);
        Ok(())
    }

    pub fn remove(mut self) -> Result<(), Refused> {
        let mut batch = Batch::new(&self.name);
        batch.delete_table();
        batch.commit(&mut self.socket)
    }
}

fn same_shape(a: &PolicyRules, b: &PolicyRules) -> bool {
    a.chains == b.chains && a.addresses.keys().eq(b.addresses.keys()) && a.destinations.keys().eq(b.destinations.keys())
}

fn install(batch: &mut Batch, rules: &PolicyRules) {
    batch.fresh_table();
    for (name, _) in PODS {
        batch.set(name, &[Field::Ipv4], SetKind::VerdictMap);
    }
    batch.set(ITSELF, &[Field::Ipv4, Field::Ipv4], SetKind::Set);
    rules.addresses.keys().for_each(|name| batch.set(name, &[Field::Ipv4], SetKind::Set));
    rules.destinations.keys().for_each(|name| batch.set(name, DESTINATION, SetKind::Set));
    rules.chains.keys().for_each(|name| batch.chain(name));
    for (name, steps) in &rules.chains {
        for step in steps {
            batch.rule(name, |rule| write(rule, step));
        }
    }
    // The sender's policies, then the receiver's: what the first lets pass the second still sees.
    for (chain, priority, which, pods) in
        [("forward-egress", 10, Address::Source, PODS[1].0), ("forward-ingress", 11, Address::Destination, PODS[0].0)]
    {
        batch.base_chain(chain, "filter", Hook::Forward, priority);
        batch.rule(chain, |rule| {
            rule.connection_state(STATE_ESTABLISHED_OR_RELATED).verdict(&Verdict::Accept);
        });
        batch.rule(chain, |rule| {
            rule.address(Address::Source, REG).address(Address::Destination, REG + 1).in_set(ITSELF, REG);
            rule.verdict(&Verdict::Accept);
        });
        batch.rule(chain, |rule| {
            rule.address(which, REG).verdict_from(pods, REG);
        });
    }
    for (set, key, value) in &elements(rules) {
        batch.add_elements(set, [(&key[..], value)]);
    }
}

fn write(rule: &mut Rule<'_, '_>, step: &PolicyStep) {
    let (direction, peer, ports) = match step {
        PolicyStep::Jump(chain) => {
            rule.verdict(&Verdict::Jump(chain.clone()));
            return;
        }
        PolicyStep::Drop => {
            rule.verdict(&Verdict::Drop);
            return;
        }
        PolicyStep::Accept(direction, peer, ports) => (direction, peer, ports),
    };
    let other_end = match direction {
        Direction::Ingress => Address::Source,
        Direction::Egress => Address::Destination,
    };
    match peer {
        Peer::Anybody => {}
        Peer::InSet(set) => {
            rule.address(other_end, REG).in_set(set, REG);
        }
        Peer::Block(range, but) => {
            rule.in_range(other_end, *range, Compare::Equal);
            for range in but {
                rule.in_range(other_end, *range, Compare::NotEqual);
            }
        }
    }
    match ports {
        Ports::Any => {}
        Ports::Of(protocol, range) => {
            rule.meta(Meta::L4Protocol, REG).compare(REG, Compare::Equal, &[protocol.number()]);
            if let Some((first, last)) = range {
                rule.destination_port(REG);
                rule.compare(REG, Compare::AtLeast, &first.to_be_bytes());
                rule.compare(REG, Compare::AtMost, &last.to_be_bytes());
            }
        }
        Ports::InSet(set) => {
            rule.destination_key(REG).in_set(set, REG);
        }
    }
    rule.verdict(&Verdict::Accept);
}

fn elements(rules: &PolicyRules) -> Elements {
    let mut all = Elements::new();
    for (name, direction) in PODS {
        let pods = if direction == Direction::Ingress { &rules.ingress } else { &rules.egress };
        for (address, chain) in pods {
            let Some(key) = octets(*address) else { continue };
            all.insert((name.to_owned(), key.to_vec(), Value::Verdict(Verdict::Goto(chain.clone()))));
            all.insert((ITSELF.to_owned(), [key, key].concat(), Value::None));
        }
    }
    for (name, addresses) in &rules.addresses {
        let keys = addresses.iter().filter_map(|address| octets(*address));
        all.extend(keys.map(|key| (name.clone(), key.to_vec(), Value::None)));
    }
    for (name, destinations) in &rules.destinations {
        let keys = destinations.iter().filter_map(|to| destination(*to));
        all.extend(keys.map(|key| (name.clone(), key, Value::None)));
    }
    all
}

fn octets(address: IpAddr) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    }
}

fn destination((address, protocol, port): (IpAddr, Protocol, u16)) -> Option<Vec<u8>> {
    let [high, low] = port.to_be_bytes();
    Some([octets(address)?, [protocol.number(), 0, 0, 0], [high, low, 0, 0]].concat())
}
