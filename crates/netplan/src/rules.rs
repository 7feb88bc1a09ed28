//! The rule set that services become: elements of a few flat maps, and chains for the few services that need them.
//!
//! The element maps are looked up by fixed rules, so that adding a service changes elements only, whose cost does not grow
//! with the number of services. Each service contributes a [`Fragment`]; [`Rules`] holds all fragments and says what a
//! new fragment changes. Two services may want the same place (an external address in common, or a shared endpoint in
//! the hairpin set): the first keeps it until it goes.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::cidr::Cidr;
use crate::endpoints::Target;
use crate::service::Protocol;

/// How many slots the traffic of a service port is spread over. A port with more endpoints gets a chain.
pub const SLOTS: u8 = 16;

/// A destination as a client names it; `None` stands for every address of the node (node ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    pub port: u16,
}

/// A key in one of the maps or sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// An address of a service: clients from outside are masqueraded, ports that no service has are refused.
    ClusterIp(IpAddr),
    /// What sources may pass is decided before anything else.
    Firewall(Destination),
    /// The client's address is hidden from the endpoint.
    Masquerade(Destination),
    /// A chain decides.
    Chain(Destination),
    /// One of the slots that a random number picks.
    Slot(Destination, u8),
    /// No endpoint: refused or dropped.
    NoEndpoints(Destination),
    /// A local endpoint that reaches itself through its service.
    Hairpin(Target, Protocol),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    Present,
    Goto(String),
    Target(Target),
    Reject,
    Drop,
}

/// One rule, or a few that belong together, of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// From this node's pods: that chain instead.
    FromPods(String),
    /// From the node itself: masqueraded, and that chain instead.
    FromNode(String),
    Goto(String),
    /// Any of these, each with the same chance.
    Balance(Vec<Target>),
    /// As `Balance`, but a client address keeps its endpoint until it was silent for so long.
    Sticky(Vec<Target>, u32),
    DropUnlessFrom(Vec<Cidr>),
}

/// What one service contributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    pub elements: BTreeMap<Place, Value>,
    pub chains: BTreeMap<String, Vec<Step>>,
    /// `healthCheckNodePort`, and the addresses of the ready endpoints on this node, whose number it tells.
    pub health_check: Option<(u16, BTreeSet<IpAddr>)>,
    /// Where UDP may be sent by this service, as (destination, endpoint): connections the kernel remembers that are not
    /// among these any more are stale.
    pub udp: BTreeSet<(Destination, Target)>,
}

/// What to do to the kernel's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub remove: Vec<(Place, Value)>,
    pub add: Vec<(Place, Value)>,
    pub remove_chains: BTreeMap<String, Vec<Step>>,
    pub add_chains: BTreeMap<String, Vec<Step>>,
    /// Old and new steps of chains that stay.
    pub change_chains: BTreeMap<String, (Vec<Step>, Vec<Step>)>,
    /// Remembered UDP connections to end.
    pub stale_udp: Vec<(Destination, Target)>,
    /// Destinations that had no UDP endpoint and now have one: connections remembered as untranslated are stale.
    pub woken_udp: Vec<Destination>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }
}

/// Every service's fragment, by the service's key (`namespace/name`).
#[derive(Clone, Debug, Default)]
pub struct Rules {
    fragments: HashMap<String, Fragment>,
    /// Who wants each place; the first has it.
    claims: HashMap<Place, Vec<(String, Value)>>,
}

impl Rules {
    /// Replaces a service's fragment (`None`: the service is gone). The cost depends on the two fragments alone.
    pub fn replace(&mut self, service: &str, fragment: Option<Fragment>) -> Change {
        let new = fragment.unwrap_or_default();
        let old = self.fragments.remove(service).unwrap_or_default();
        let mut change = Change::default();
        if old != new {
            let touched: BTreeSet<Place> =
                (old.elements.iter().filter(|(place, value)| new.elements.get(place) != Some(value)))
                    .chain(new.elements.iter().filter(|(place, value)| old.elements.get(place) != Some(value)))
                    .map(|(place, _)| *place)
                    .collect();
            for place in touched {
                self.claim(place, service, new.elements.get(&place), &mut change);
            }
            chains(&old.chains, &new.chains, &mut change);
            udp(&old.udp, &new.udp, &mut change);
        }
        if new != Fragment::default() {
            self.fragments.insert(service.to_owned(), new);
        }
        change
    }

    fn claim(&mut self, place: Place, service: &str, value: Option<&Value>, change: &mut Change) {
        let claims = self.claims.entry(place).or_default();
        let before = claims.first().map(|(_, value)| value.clone());
        match (claims.iter().position(|(owner, _)| owner == service), value) {
            (Some(at), Some(value)) => claims[at].1 = value.clone(),
            (Some(at), None) => drop(claims.remove(at)),
            (None, Some(value)) => claims.push((service.to_owned(), value.clone())),
            (None, None) => {}
        }
        let after = claims.first().map(|(_, value)| value.clone());
        if claims.is_empty() {
            self.claims.remove(&place);
        }
        if before != after {
            change.remove.extend(before.map(|value| (place, value)));
            change.add.extend(after.map(|value| (place, value)));
        }
    }

    /// All of it, as a change from nothing.
    pub fn everything(&self) -> Change {
        let mut all = Change::default();
        all.add.extend(self.claims.iter().filter_map(|(place, claims)| Some((*place, claims.first()?.1.clone()))));
        for fragment in self.fragments.values() {
            all.add_chains.extend(fragment.chains.iter().map(|(name, steps)| (name.clone(), steps.clone())));
        }
        all
    }

    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.fragments.keys().map(String::as_str)
    }

    /// Node ports that tell a load balancer how many local endpoints there are: port, service, number.
    pub fn health_checks(&self) -> impl Iterator<Item = (u16, &str, usize)> {
        self.fragments.iter().filter_map(|(service, fragment)| {
            fragment.health_check.as_ref().map(|(port, endpoints)| (*port, service.as_str(), endpoints.len()))
        })
    }
}

/// What leads from one whole rule set to another.
pub fn diff(old: &Rules, new: &Rules) -> Change {
    let (old, new) = (old.everything(), new.everything());
    let before: BTreeMap<_, _> = old.add.into_iter().collect();
    let after: BTreeMap<_, _> = new.add.into_iter().collect();
    let mut change = Change::default();
    change
        .remove
        .extend(before.iter().filter(|(place, value)| after.get(place) != Some(value)).map(|(p, v)| (*p, v.clone())));
    change
        .add
        .extend(after.iter().filter(|(place, value)| before.get(place) != Some(value)).map(|(p, v)| (*p, v.clone())));
    chains(&old.add_chains, &new.add_chains, &mut change);
    change
}

fn chains(old: &BTreeMap<String, Vec<Step>>, new: &BTreeMap<String, Vec<Step>>, change: &mut Change) {
    for (name, steps) in old {
        match new.get(name) {
            None => drop(change.remove_chains.insert(name.clone(), steps.clone())),
            Some(now) if now != steps => {
                change.change_chains.insert(name.clone(), (steps.clone(), now.clone()));
            }
            Some(_) => {}
        }
    }
    let fresh = new.iter().filter(|(name, _)| !old.contains_key(*name));
    change.add_chains.extend(fresh.map(|(name, steps)| (name.clone(), steps.clone())));
}

fn udp(old: &BTreeSet<(Destination, Target)>, new: &BTreeSet<(Destination, Target)>, change: &mut Change) {
    change.stale_udp.extend(old.difference(new).copied());
    let had: BTreeSet<Destination> = old.iter().map(|(destination, _)| *destination).collect();
    let has: BTreeSet<Destination> = new.iter().map(|(destination, _)| *destination).collect();
    change.woken_udp.extend(has.difference(&had).copied());
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", core::net::SocketAddr::new(self.address, self.port))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address} {} {}", self.protocol, self.port),
            None => write!(f, "node {} {}", self.protocol, self.port),
        }
    }
}

impl fmt::Display for Fragment {
    /// One line a fact; the slots of a destination on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slots: BTreeMap<Destination, Vec<String>> = BTreeMap::new();
        for (place, value) in &self.elements {
            let value = match value {
                Value::Present => String::new(),
                Value::Goto(chain) => format!(" -> {chain}"),
                Value::Target(target) => format!(" -> {target}"),
                Value::Reject => " -> reject".to_owned(),
                Value::Drop => " -> drop".to_owned(),
            };
            match place {
                Place::Slot(destination, _) => slots.entry(*destination).or_default().push(value),
                Place::ClusterIp(address) => writeln!(f, "cluster-ip {address}")?,
                Place::Firewall(to) => writeln!(f, "firewall {to}{value}")?,
                Place::Masquerade(to) => writeln!(f, "masquerade {to}")?,
                Place::Chain(to) => writeln!(f, "chain {to}{value}")?,
                Place::NoEndpoints(to) => writeln!(f, "no-endpoints {to}{value}")?,
                Place::Hairpin(target, protocol) => writeln!(f, "hairpin {protocol} {target}")?,
            }
        }
        for (destination, values) in slots {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            values.iter().for_each(|value| *counts.entry(value).or_default() += 1);
            let counts: Vec<String> = counts.iter().map(|(value, count)| format!("{count} x{}", &value[3..])).collect();
            writeln!(f, "slots {destination}: {}", counts.join(", "))?;
        }
        for (name, steps) in &self.chains {
            writeln!(f, "{name}:")?;
            steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        }
        if let Some((port, endpoints)) = &self.health_check {
            writeln!(f, "health check on {port}: {} local endpoints", endpoints.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |targets: &[Target]| targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Step::FromPods(chain) => write!(f, "from pods: goto {chain}"),
            Step::FromNode(chain) => write!(f, "from the node: masquerade, goto {chain}"),
            Step::Goto(chain) => write!(f, "goto {chain}"),
            Step::Balance(targets) => write!(f, "any of {}", list(targets)),
            Step::Sticky(targets, seconds) => write!(f, "any of {}, the same for {seconds} s", list(targets)),
            Step::DropUnlessFrom(ranges) => {
                let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                write!(f, "drop unless from {}", ranges.join(", "))
            }
        }
    }
}
