//! NetworkPolicies to rules: which connections to and from the pods of this node may be made.
//!
//! k8s.io/api networking/v1: a pod is isolated in a direction as soon as one policy of its namespace selects it for that
//! direction; then only what some such policy allows may pass. Policies of two pods are asked separately: the sender's
//! for egress, the receiver's for ingress. The node itself may always reach its pods and be reached by them, for which
//! the rules only see what is forwarded.
//!
//! The answer is flat where pods are many: a map from a pod's address to the chain of its policies, which pods under the
//! same policies share, and a set of peers for each rule. So a pod that comes or goes changes elements only.

use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cidr::Cidr;
use crate::service::{Family, Protocol};

pub type Labels = BTreeMap<String, String>;

/// A pod as policies see it: not in the host's network, and not at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPod {
    pub namespace: String,
    pub labels: Labels,
    pub address: IpAddr,
    /// Named container ports.
    pub ports: Vec<(String, Protocol, u16)>,
    /// On this node.
    pub local: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Anybody,
    /// An address of this set.
    InSet(String),
    Block(Cidr, Vec<Cidr>),
}

/// Where the connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    Any,
    /// All ports of a protocol, or a range with both its ends.
    Of(Protocol, Option<(u16, u16)>),
    /// Destination, protocol and port are in this set.
    InSet(String),
}

/// One step of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyStep {
    Jump(String),
    Accept(Direction, Peer, Ports),
    Drop,
}

/// All rules, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRules {
    /// Isolated pods of this node, each with its chain.
    pub ingress: BTreeMap<IpAddr, String>,
    pub egress: BTreeMap<IpAddr, String>,
    pub chains: BTreeMap<String, Vec<PolicyStep>>,
    pub addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    pub destinations: BTreeMap<String, BTreeSet<(IpAddr, Protocol, u16)>>,
}

impl PolicyRules {
    pub fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }
}

/// Plans the rules of one node. Policies and pods may come in any order; `namespaces` has the labels of each.
pub fn plan_policies(
    policies: &[impl AsRef<NetworkPolicy>],
    pods: &[PolicyPod],
    namespaces: &BTreeMap<String, Labels>,
    family: Family,
) -> PolicyRules {
    let mut policies: Vec<&NetworkPolicy> = policies.iter().map(AsRef::as_ref).collect();
    policies.sort_by_key(|policy| (policy.metadata.namespace.clone(), policy.metadata.name.clone()));
    let mut rules = PolicyRules::default();
    for direction in [Direction::Ingress, Direction::Egress] {
        // The chains of the policies that select each pod.
        let mut of_pod: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
        for (number, policy) in policies.iter().enumerate() {
            let Some(spec) = policy.spec.as_ref().filter(|_| applies(policy, direction)) else { continue };
            let home = policy.metadata.namespace.as_deref().unwrap_or_default();
            let selected: Vec<&PolicyPod> = pods
                .iter()
                .filter(|pod| pod.local && pod.namespace == home)
                .filter(|pod| spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels)))
                .collect();
            if selected.is_empty() {
                continue;
            }
            let chain = format!("{}-{number}", direction.name());
            let part = Part { direction, home, chain: &chain, selected: &selected, pods, namespaces, family };
            let steps = part.steps(policy, &mut rules);
            rules.chains.insert(chain.clone(), steps);
            for pod in selected {
                of_pod.entry(pod.address).or_default().push(chain.clone());
            }
        }
        for (address, chains) in of_pod {
            let numbers: Vec<&str> = chains.iter().filter_map(|chain| chain.rsplit('-').next()).collect();
            let name = format!("{}-of-{}", direction.name(), numbers.join("-"));
            let mut steps: Vec<PolicyStep> = chains.into_iter().map(PolicyStep::Jump).collect();
            steps.push(PolicyStep::Drop);
            rules.chains.insert(name.clone(), steps);
            match direction {
                Direction::Ingress => rules.ingress.insert(address, name),
                Direction::Egress => rules.egress.insert(address, name),
            };
        }
    }
    rules
}

/// Without `policyTypes` a policy is about ingress, and about egress when it has rules for it.
fn applies(policy: &NetworkPolicy, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else { return false };
    match (&spec.policy_types, direction) {
        (Some(types), Direction::Ingress) if !types.is_empty() => types.iter().any(|name| name == "Ingress"),
        (Some(types), Direction::Egress) if !types.is_empty() => types.iter().any(|name| name == "Egress"),
        (_, Direction::Ingress) => true,
        (_, Direction::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

/// One policy in one direction.
struct Part<'a> {
    direction: Direction,
    home: &'a str,
    chain: &'a str,
    selected: &'a [&'a PolicyPod],
    pods: &'a [PolicyPod],
    namespaces: &'a BTreeMap<String, Labels>,
    family: Family,
}

impl Part<'_> {
    fn steps(&self, policy: &NetworkPolicy, rules: &mut PolicyRules) -> Vec<PolicyStep> {
        let Some(spec) = &policy.spec else { return Vec::new() };
        let mut steps = Vec::new();
        let mut add =
            |number: usize, peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| {
                self.rule(number, peers.as_deref().unwrap_or_default(), ports.as_deref(), rules, &mut steps);
            };
        match self.direction {
            Direction::Ingress => {
                let all = spec.ingress.iter().flatten().enumerate();
                all.for_each(|(number, rule)| add(number, &rule.from, &rule.ports));
            }
            Direction::Egress => {
                let all = spec.egress.iter().flatten().enumerate();
                all.for_each(|(number, rule)| add(number, &rule.to, &rule.ports));
            }
        }
        steps
    }

    /// Every peer of the rule with every port of it.
    fn rule(
        &self,
        number: usize,
        peers: &[NetworkPolicyPeer],
        ports: Option<&[NetworkPolicyPort]>,
        rules: &mut PolicyRules,
        steps: &mut Vec<PolicyStep>,
    ) {
        let set = format!("{}-{number}", self.chain);
        let chosen: Vec<&PolicyPod> =
            self.pods.iter().filter(|pod| peers.iter().any(|peer| self.is_peer(peer, pod))).collect();
        let mut matches = Vec::new();
        if peers.is_empty() {
            matches.push(Peer::Anybody);
        }
        if peers.iter().any(|peer| peer.ip_block.is_none()) {
            rules.addresses.insert(set.clone(), chosen.iter().map(|pod| pod.address).collect());
            matches.push(Peer::InSet(set.clone()));
        }
        matches.extend(peers.iter().filter_map(|peer| self.block(peer)));
        let ports = ports.filter(|ports| !ports.is_empty());
        let numbered = match ports {
            None => vec![Ports::Any],
            Some(ports) => ports.iter().filter_map(numbered).collect(),
        };
        for peer in &matches {
            let all = numbered.iter().map(|ports| PolicyStep::Accept(self.direction, peer.clone(), ports.clone()));
            steps.extend(all);
        }
        let named: Vec<(&str, Protocol)> = ports.into_iter().flatten().filter_map(named).collect();
        if named.is_empty() {
            return;
        }
        let set = format!("{set}-ports");
        // A name stands for what the receiving pod calls so.
        let receivers: Vec<&PolicyPod> = match self.direction {
            Direction::Ingress => self.selected.to_vec(),
            Direction::Egress if peers.is_empty() => self.pods.iter().collect(),
            Direction::Egress => chosen,
        };
        let found = receivers.iter().flat_map(|pod| {
            let of_pod = pod.ports.iter().filter(|(name, of, _)| named.contains(&(name.as_str(), *of)));
            of_pod.map(|(_, protocol, port)| (pod.address, *protocol, *port))
        });
        rules.destinations.insert(set.clone(), found.collect());
        match self.direction {
            Direction::Ingress => steps.extend(
                matches.into_iter().map(|peer| PolicyStep::Accept(self.direction, peer, Ports::InSet(set.clone()))),
            ),
            Direction::Egress => steps.push(PolicyStep::Accept(self.direction, Peer::Anybody, Ports::InSet(set))),
        }
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, pod: &PolicyPod) -> bool {
        if peer.ip_block.is_some() {
            return false;
        }
        let at_home = match &peer.namespace_selector {
            None => pod.namespace == self.home,
            Some(selector) => self.namespaces.get(&pod.namespace).is_some_and(|namespace| selects(selector, namespace)),
        };
        at_home && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
    }

    fn block(&self, peer: &NetworkPolicyPeer) -> Option<Peer> {
        let block = peer.ip_block.as_ref()?;
        let range: Cidr = block.cidr.parse().ok()?;
        let but = block.except.iter().flatten().filter_map(|text| text.parse().ok()).collect();
        self.family.has(range.address()).then_some(Peer::Block(range, but))
    }
}

fn numbered(port: &NetworkPolicyPort) -> Option<Ports> {
    let protocol = Protocol::parse(port.protocol.as_deref())?;
    match &port.port {
        None => Some(Ports::Of(protocol, None)),
        Some(IntOrString::String(_)) => None,
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            Some(Ports::Of(protocol, Some((u16::try_from(*first).ok()?, u16::try_from(last).ok()?))))
        }
    }
}

fn named(port: &NetworkPolicyPort) -> Option<(&str, Protocol)> {
    match &port.port {
        Some(IntOrString::String(name)) => Some((name, Protocol::parse(port.protocol.as_deref())?)),
        _ => None,
    }
}

/// An operator that is not known selects nothing, which is the safe side for whoever a policy lets in.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let value = labels.get(&wanted.key);
            let listed = || value.is_some_and(|value| wanted.values.iter().flatten().any(|one| one == value));
            match wanted.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

impl fmt::Display for PolicyRules {
    /// One line a fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (direction, pods) in [("to", &self.ingress), ("from", &self.egress)] {
            pods.iter().try_for_each(|(address, chain)| writeln!(f, "{direction} {address}: {chain}"))?;
        }
        for (name, steps) in &self.chains {
            writeln!(f, "{name}:")?;
            steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        }
        for (name, addresses) in &self.addresses {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            writeln!(f, "set {name}: {}", all.join(", "))?;
        }
        for (name, destinations) in &self.destinations {
            let all: Vec<String> = destinations.iter().map(|(to, of, port)| format!("{to} {of} {port}")).collect();
            writeln!(f, "set {name}: {}", all.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direction, peer, ports) = match self {
            PolicyStep::Jump(chain) => return write!(f, "jump {chain}"),
            PolicyStep::Drop => return write!(f, "drop"),
            PolicyStep::Accept(direction, peer, ports) => (direction, peer, ports),
        };
        let preposition = if *direction == Direction::Ingress { "from" } else { "to" };
        match peer {
            Peer::Anybody => write!(f, "accept {preposition} anybody")?,
            Peer::InSet(set) => write!(f, "accept {preposition} @{set}")?,
            Peer::Block(range, but) => {
                write!(f, "accept {preposition} {range}")?;
                but.iter().try_for_each(|range| write!(f, " but {range}"))?;
            }
        }
        match ports {
            Ports::Any => Ok(()),
            Ports::Of(protocol, None) => write!(f, ", {protocol}"),
            Ports::Of(protocol, Some((first, last))) => write!(f, ", {protocol} {first}-{last}"),
            Ports::InSet(set) => write!(f, ", @{set}"),
        }
    }
}

#[cfg(test)]
mod tests;
