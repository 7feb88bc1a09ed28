//! Connection tracking: forgets UDP "connections" whose translation is no longer right. UDP has no end that the kernel
//! could see, so a client that keeps its port would talk to a pod that is gone.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use netplan::{Destination, Target};

use crate::netlink::{DUMP, Refused, Socket, attribute};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;

/// One direction of a tracked connection.
struct Tuple {
    protocol: u8,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
}

fn parse(bytes: &[u8]) -> Option<Tuple> {
    let (ip, protocol) = (attribute(bytes, 1)?, attribute(bytes, 2)?);
    let address = |kind| attribute(ip, kind).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    let port =
        |kind| attribute(protocol, kind).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()).map(u16::from_be_bytes);
    Some(Tuple {
        protocol: *attribute(protocol, 1)?.first()?,
        source: (address(1)?, port(2)?),
        destination: (address(2)?, port(3)?),
    })
}

fn header() -> [u8; 4] {
    [libc::AF_INET as u8, 0, 0, 0]
}

/// Forgets UDP connections to `stale` pairs of destination and endpoint, and connections to `woken` destinations that
/// were not translated at all. Returns how many there were. Costs a walk over what the kernel remembers.
pub fn forget_udp(
    socket: &mut Socket,
    stale: &[(Destination, Target)],
    woken: &[Destination],
) -> Result<usize, Refused> {
    if stale.is_empty() && woken.is_empty() {
        return Ok(0);
    }
    let stale: HashSet<&(Destination, Target)> = stale.iter().collect();
    let woken: HashSet<&Destination> = woken.iter().collect();
    let is_stale = |original: &Tuple, reply: &Tuple| {
        let (address, port) = original.destination;
        let endpoint = Target { address: reply.source.0.into(), port: reply.source.1 };
        [Some(address.into()), None].iter().any(|address| {
            let destination = Destination { address: *address, protocol: netplan::Protocol::Udp, port };
            stale.contains(&(destination, endpoint))
                || (reply.source == original.destination && woken.contains(&destination))
        })
    };
    let answers = socket.ask(SUBSYSTEM << 8 | GET, DUMP, |body| body.raw(&header()))?;
    let mut forgotten = 0;
    for answer in answers {
        let attributes = answer.payload.get(4..).unwrap_or_default();
        let Some((raw, original, reply)) = attribute(attributes, TUPLE_ORIGINAL)
            .and_then(|raw| Some((raw, parse(raw)?, parse(attribute(attributes, TUPLE_REPLY)?)?)))
        else {
            continue;
        };
        if original.protocol != libc::IPPROTO_UDP as u8 || !is_stale(&original, &reply) {
            continue;
        }
        let deleted = socket.request(SUBSYSTEM << 8 | DELETE, 0, |body| {
            body.raw(&header());
            body.nest(TUPLE_ORIGINAL, |body| body.raw(raw));
            if let Some(zone) = attribute(attributes, ZONE) {
                body.attr(ZONE, zone);
            }
        });
        match deleted {
            Ok(()) => forgotten += 1,
            // It has ended by itself meanwhile.
            Err(Refused { errno: nix::errno::Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}
