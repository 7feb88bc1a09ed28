//! A VXLAN between nodes that have routers between them. Nothing is learnt: each node's pods are behind a hardware address
//! that follows from their range, and where that is, is written down.

use std::net::IpAddr;

use netplan::Cidr;
use nix::errno::Errno;

use crate::netlink::{CREATE, EXCLUSIVE, REPLACE, Refused, Socket};
use crate::route::{self, family, ifinfo, octets};

/// The port that IANA gives to VXLAN, and a number for the cluster's.
const PORT: u16 = 4789;
const NETWORK: u32 = 1;
/// What the packet around a packet takes, with IPv4 below.
pub const OVERHEAD_BYTES: u32 = 50;

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_SELF: u8 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// At most 15 characters, as long as the bridge's name is no longer than 12.
pub fn interface_of(bridge: &str) -> String {
    let kept: String = bridge.chars().take(12).collect();
    format!("{kept}-vx")
}

/// The hardware address of the node that has this range.
fn mac_of(range: Cidr) -> [u8; 6] {
    match range.address() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x0a, 0x59, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [_, _, _, _, a, b, c, d, ..] = address.octets();
            [0x0a, 0x59, a, b, c, d]
        }
    }
}

/// Makes the interface, unless it is there; its index.
pub fn ensure(socket: &mut Socket, name: &str, own: Cidr, local: IpAddr, mtu: u32) -> Result<u32, Refused> {
    let made = socket.request(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, |body| {
        body.raw(&ifinfo(libc::AF_UNSPEC, 0, libc::IFF_UP as u32));
        body.text(libc::IFLA_IFNAME, name);
        body.attr(libc::IFLA_ADDRESS, &mac_of(own));
        body.host_u32(libc::IFLA_MTU, mtu);
        body.nest(libc::IFLA_LINKINFO, |body| {
            body.text(libc::IFLA_INFO_KIND, "vxlan");
            body.nest(libc::IFLA_INFO_DATA, |body| {
                body.host_u32(IFLA_VXLAN_ID, NETWORK);
                body.attr(IFLA_VXLAN_LOCAL, &octets(local));
                body.attr(IFLA_VXLAN_LEARNING, &[0]);
                body.attr(IFLA_VXLAN_PORT, &PORT.to_be_bytes());
            });
        });
    });
    match made {
        Err(Refused { errno: Errno::EEXIST, .. }) | Ok(()) => {}
        Err(error) => return Err(error),
    }
    let link = route::link(socket, name)?;
    link.map(|link| link.index).ok_or(Refused { index: 0, errno: Errno::ENODEV, message: None })
}

/// Writes down where a node's pods are: its first pod address stands for it as a gateway.
pub fn put_node(socket: &mut Socket, index: u32, range: Cidr, node: IpAddr) -> Result<IpAddr, Refused> {
    let (gateway, mac) = (range.address(), mac_of(range));
    let mut neighbour = |kind: i32, flags: u8, destination: IpAddr| {
        socket.request(libc::RTM_NEWNEIGH, CREATE | REPLACE, |body| {
            let mut header = [0; 12];
            header[0] = kind as u8;
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
            header[10] = flags;
            body.raw(&header);
            body.attr(NDA_DST, &octets(destination));
            body.attr(NDA_LLADDR, &mac);
        })
    };
    neighbour(libc::AF_BRIDGE, NTF_SELF, node)?;
    neighbour(family(gateway), 0, gateway)?;
    Ok(gateway)
}
