//! Links, addresses and routes through rtnetlink.

use std::net::IpAddr;

use nix::errno::Errno;

use crate::netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Messages, REPLACE, Refused, Socket, attribute};

const IFLA_ADDRESS: u16 = libc::IFLA_ADDRESS;
const IFLA_IFNAME: u16 = libc::IFLA_IFNAME;
const IFLA_MTU: u16 = libc::IFLA_MTU;
const IFLA_MASTER: u16 = libc::IFLA_MASTER;
const IFLA_LINKINFO: u16 = libc::IFLA_LINKINFO;
const IFLA_NET_NS_FD: u16 = libc::IFLA_NET_NS_FD;
const IFLA_AF_SPEC: u16 = libc::IFLA_AF_SPEC;
const IFLA_INFO_KIND: u16 = libc::IFLA_INFO_KIND;
const IFLA_INFO_DATA: u16 = libc::IFLA_INFO_DATA;
const IFLA_INFO_SLAVE_KIND: u16 = libc::IFLA_INFO_SLAVE_KIND;
const IFLA_INFO_SLAVE_DATA: u16 = libc::IFLA_INFO_SLAVE_DATA;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const UP: u32 = libc::IFF_UP as u32;

/// An interface as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub master: Option<u32>,
    pub up: bool,
}

/// Both ends of a veth pair: the host's is a port of a bridge, the other is made directly in its namespace.
pub struct VethPair<'a> {
    pub host_name: &'a str,
    pub bridge_index: u32,
    pub mtu: u32,
    pub peer_name: &'a str,
    pub peer_mac: [u8; 6],
    pub peer_namespace: i32,
}

pub(crate) fn ifinfo(family: i32, index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(crate) fn family(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

fn word(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let attributes = payload.get(16..)?;
    let name = attribute(attributes, IFLA_IFNAME)?;
    Some(Link {
        index: word(payload.get(4..8))?,
        name: String::from_utf8_lossy(name).trim_end_matches('\0').to_owned(),
        mtu: word(attribute(attributes, IFLA_MTU)).unwrap_or(1500),
        master: word(attribute(attributes, IFLA_MASTER)),
        up: word(payload.get(8..12))? & UP != 0,
    })
}

/// The interface of that name, if there is one.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Refused> {
    let answers = socket.ask(libc::RTM_GETLINK, 0, |body| {
        body.raw(&ifinfo(libc::AF_UNSPEC, 0, 0));
        body.text(IFLA_IFNAME, name);
    });
    match answers {
        Ok(answers) => Ok(answers.first().and_then(|answer| parse_link(&answer.payload))),
        Err(Refused { errno: Errno::ENODEV, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Refused> {
    let answers = socket.ask(libc::RTM_GETLINK, DUMP, |body| body.raw(&ifinfo(libc::AF_UNSPEC, 0, 0)))?;
    Ok(answers.iter().filter_map(|answer| parse_link(&answer.payload)).collect())
}

/// Makes a bridge with a fixed hardware address: else it would take its lowest port's, and pods would have to learn the
/// gateway's anew whenever a pod comes or goes.
pub fn create_bridge(socket: &mut Socket, name: &str, mac: [u8; 6], mtu: u32) -> Result<(), Refused> {
    socket.request(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, |body| {
        body.raw(&ifinfo(libc::AF_UNSPEC, 0, UP));
        body.text(IFLA_IFNAME, name);
        body.attr(IFLA_ADDRESS, &mac);
        body.host_u32(IFLA_MTU, mtu);
        body.nest(IFLA_LINKINFO, |body| body.text(IFLA_INFO_KIND, "bridge"));
    })
}

/// Makes a veth pair whose peer stands in the other namespace and whose host's end is a port of the bridge. Both are
/// still down (neither end can be set up before it knows the other): see `configure_pod` and `start_bridge_port`.
pub fn create_veth(socket: &mut Socket, pair: &VethPair<'_>) -> Result<(), Refused> {
    socket.request(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, |body| {
        body.raw(&ifinfo(libc::AF_UNSPEC, 0, 0));
        body.text(IFLA_IFNAME, pair.host_name);
        body.host_u32(IFLA_MTU, pair.mtu);
        body.host_u32(IFLA_MASTER, pair.bridge_index);
        body.nest(IFLA_LINKINFO, |body| {
            body.text(IFLA_INFO_KIND, "veth");
            body.nest(IFLA_INFO_DATA, |body| {
                body.nest(VETH_INFO_PEER, |body| {
                    body.raw(&ifinfo(libc::AF_UNSPEC, 0, 0));
                    body.text(IFLA_IFNAME, pair.peer_name);
                    body.host_u32(IFLA_MTU, pair.mtu);
                    body.attr(IFLA_ADDRESS, &pair.peer_mac);
                    body.attr(IFLA_NET_NS_FD, &pair.peer_namespace.to_ne_bytes());
                });
            });
        });
    })
}

/// Sets a bridge port up in hairpin mode (with `br_netfilter` on, a pod that reaches itself through a service is bridged
/// back through the port it came from) and without an IPv6 address of its own, which nothing would use.
pub fn start_bridge_port(socket: &mut Socket, name: &str) -> Result<(), Refused> {
    socket.request(libc::RTM_NEWLINK, 0, |body| {
        body.raw(&ifinfo(libc::AF_UNSPEC, 0, UP));
        body.text(IFLA_IFNAME, name);
        body.nest(IFLA_LINKINFO, |body| {
            body.text(IFLA_INFO_SLAVE_KIND, "bridge");
            body.nest(IFLA_INFO_SLAVE_DATA, |body| body.attr(IFLA_BRPORT_MODE, &[1]));
        });
        body.nest(IFLA_AF_SPEC, |body| {
            body.nest(libc::AF_INET6 as u16, |body| {
                body.attr(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        });
    })
}

pub fn set_up(socket: &mut Socket, index: u32) -> Result<(), Refused> {
    socket.request(libc::RTM_NEWLINK, 0, |body| body.raw(&ifinfo(libc::AF_UNSPEC, index, UP)))
}

/// Deletes an interface; one that is not there is no error.
pub fn delete_link(socket: &mut Socket, name: &str) -> Result<(), Refused> {
    let result = socket.request(libc::RTM_DELLINK, 0, |body| {
        body.raw(&ifinfo(libc::AF_UNSPEC, 0, 0));
        body.text(IFLA_IFNAME, name);
    });
    match result {
        Err(Refused { errno: Errno::ENODEV, .. }) => Ok(()),
        other => other,
    }
}

fn push_address(messages: &mut Messages, index: u32, address: IpAddr, prefix: u8) {
    messages.push(libc::RTM_NEWADDR, CREATE | REPLACE | ACK, |body| {
        let mut header = [0; 8];
        header[0] = family(address) as u8;
        header[1] = prefix;
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        body.raw(&header);
        body.attr(libc::IFA_LOCAL, &octets(address));
        body.attr(libc::IFA_ADDRESS, &octets(address));
    });
}

/// A route: to `to`, on interface `index`, through `gateway` or directly, by preference with source `source`.
#[derive(Clone, Copy)]
struct Route {
    to: (IpAddr, u8),
    index: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

/// `rtmsg` of a unicast route in the main table.
fn route_header((to, prefix): (IpAddr, u8), protocol: u8, scope: u8, flags: u32) -> [u8; 12] {
    let mut header =
        [family(to) as u8, prefix, 0, 0, libc::RT_TABLE_MAIN, protocol, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn push_route(messages: &mut Messages, route: Route) {
    messages.push(libc::RTM_NEWROUTE, CREATE | REPLACE | ACK, |body| {
        let scope = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let (to, prefix) = route.to;
        body.raw(&route_header(route.to, libc::RTPROT_STATIC, scope, 0));
        if prefix > 0 {
            body.attr(libc::RTA_DST, &octets(to));
        }
        body.host_u32(libc::RTA_OIF, route.index);
        if let Some(gateway) = route.gateway {
            body.attr(libc::RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = route.source {
            body.attr(libc::RTA_PREFSRC, &octets(source));
        }
    });
}

fn all(socket: &mut Socket, messages: Messages) -> Result<(), Refused> {
    socket.acknowledged(messages)?.into_iter().collect()
}

pub fn add_address(socket: &mut Socket, index: u32, address: IpAddr, prefix: u8) -> Result<(), Refused> {
    let mut messages = Messages::new();
    push_address(&mut messages, index, address, prefix);
    all(socket, messages)
}

/// A directly reached range; `source` is the address that connections to it start from.
pub fn add_link_route(socket: &mut Socket, index: u32, to: (IpAddr, u8), source: IpAddr) -> Result<(), Refused> {
    let mut messages = Messages::new();
    push_route(&mut messages, Route { to, index, gateway: None, source: Some(source) });
    all(socket, messages)
}

/// Who made a route to another node's pods: with this in it nobody else's is taken for one. `ip route` shows the number.
const PROTOCOL: u8 = 87;
/// The gateway is reached by the interface, whatever addresses that has.
const ONLINK: u32 = 4;

/// Leads a range through another node, in place of where it led before.
pub fn put_pod_route(socket: &mut Socket, to: (IpAddr, u8), index: u32, gateway: IpAddr) -> Result<(), Refused> {
    socket.request(libc::RTM_NEWROUTE, CREATE | REPLACE, |body| {
        body.raw(&route_header(to, PROTOCOL, libc::RT_SCOPE_UNIVERSE, ONLINK));
        body.attr(libc::RTA_DST, &octets(to.0));
        body.host_u32(libc::RTA_OIF, index);
        body.attr(libc::RTA_GATEWAY, &octets(gateway));
    })
}

/// Takes such a route away; one that is not there is no error.
pub fn delete_pod_route(socket: &mut Socket, to: (IpAddr, u8)) -> Result<(), Refused> {
    let result = socket.request(libc::RTM_DELROUTE, 0, |body| {
        body.raw(&route_header(to, PROTOCOL, libc::RT_SCOPE_NOWHERE, 0));
        body.attr(libc::RTA_DST, &octets(to.0));
    });
    match result {
        Err(Refused { errno: Errno::ESRCH, .. }) => Ok(()),
        other => other,
    }
}

/// The interface by which an address is reached without a router between; `None` if there is one, or no way at all, or the
/// address is this host's own.
pub fn neighbour_link(socket: &mut Socket, address: IpAddr) -> Result<Option<u32>, Refused> {
    let width = if address.is_ipv4() { 32 } else { 128 };
    let answers = socket.ask(libc::RTM_GETROUTE, 0, |body| {
        body.raw(&[family(address) as u8, width, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        body.attr(libc::RTA_DST, &octets(address));
    });
    let answers = match answers {
        Err(Refused { errno: Errno::ENETUNREACH | Errno::EHOSTUNREACH, .. }) => return Ok(None),
        other => other?,
    };
    let parse = |payload: &[u8]| {
        let attributes = payload.get(12..)?;
        let direct = *payload.get(7)? == libc::RTN_UNICAST && attribute(attributes, libc::RTA_GATEWAY).is_none();
        direct.then(|| word(attribute(attributes, libc::RTA_OIF)))?
    };
    Ok(answers.iter().find_map(|answer| parse(&answer.payload)))
}

/// Sets a pod's interface up and gives it its address, and the gateway as the only thing it reaches directly. Everything, also
/// the pod next door, goes through the node's routing, so that services, policies and connection tracking see it.
pub fn configure_pod(socket: &mut Socket, index: u32, address: IpAddr, gateway: IpAddr) -> Result<(), Refused> {
    let (whole, any): (u8, IpAddr) = match gateway {
        IpAddr::V4(_) => (32, IpAddr::from([0; 4])),
        IpAddr::V6(_) => (128, IpAddr::from([0; 16])),
    };
    let mut messages = Messages::one(libc::RTM_NEWLINK, ACK, |body| body.raw(&ifinfo(libc::AF_UNSPEC, index, UP)));
    push_address(&mut messages, index, address, whole);
    push_route(&mut messages, Route { to: (gateway, whole), index, gateway: None, source: None });
    push_route(&mut messages, Route { to: (any, 0), index, gateway: Some(gateway), source: None });
    all(socket, messages)
}

/// The IPv4 addresses of an interface.
pub fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<IpAddr>, Refused> {
    let answers = socket.ask(libc::RTM_GETADDR, DUMP, |body| body.raw(&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0]))?;
    let parse = |payload: &[u8]| {
        let local: [u8; 4] = attribute(payload.get(8..)?, libc::IFA_LOCAL)?.try_into().ok()?;
        (word(payload.get(4..8))? == index).then(|| IpAddr::from(local))
    };
    Ok(answers.iter().filter_map(|answer| parse(&answer.payload)).collect())
}

/// The interface of the IPv4 default route.
pub fn default_route_link(socket: &mut Socket) -> Result<Option<u32>, Refused> {
    let answers = socket.ask(libc::RTM_GETROUTE, DUMP, |body| {
        let mut header = [0; 12];
        header[0] = libc::AF_INET as u8;
        body.raw(&header);
    })?;
    let parse = |payload: &[u8]| {
        let (prefix, table, kind) = (*payload.get(1)?, *payload.get(4)?, *payload.get(7)?);
        let is_default = prefix == 0 && table == libc::RT_TABLE_MAIN && kind == libc::RTN_UNICAST;
        is_default.then(|| word(attribute(payload.get(12..)?, libc::RTA_OIF)))?
    };
    Ok(answers.iter().find_map(|answer| parse(&answer.payload)))
}
