//! Kubernetes' own libraries: quantities, URLs, IP addresses and CIDRs.

use std::net::IpAddr;

use super::CelError;
use super::eval::{fail, no_overload};
use super::value::Val;
use crate::quantity::Quantity;

type Outcome = Result<Val, CelError>;

fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|address| !matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()))
}

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (ip(address)?, bits.parse::<u8>().ok().filter(|own| own.to_string() == bits)?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn url(text: &str) -> Option<&str> {
    let rooted = text.starts_with('/');
    let scheme = text
        .split_once("://")
        .is_some_and(|(scheme, rest)| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.is_empty());
    ((rooted || scheme) && !text.contains([' ', '\u{7f}']) && !text.chars().any(char::is_control)).then_some(text)
}

/// A function without a receiver.
pub(super) fn call(name: &str, args: &[Val]) -> Outcome {
    match (name, args) {
        ("quantity", [Val::Text(text)]) => match Quantity::parse(text) {
            Ok(quantity) => Ok(Val::Quantity(quantity)),
            Err(error) => fail(error.to_string()),
        },
        ("isQuantity", [Val::Text(text)]) => Ok(Val::Bool(Quantity::parse(text).is_ok())),
        ("url", [Val::Text(text)]) => url(text).map_or_else(
            || fail(format!("URL parse error during conversion from string: {text}")),
            |text| Ok(Val::Url(text.into())),
        ),
        ("isURL", [Val::Text(text)]) => Ok(Val::Bool(url(text).is_some())),
        ("ip", [Val::Text(text)]) => ip(text).map_or_else(
            || fail(format!("IP Address {} parse error during conversion from string", crate::go::quote(text))),
            |address| Ok(Val::Ip(address)),
        ),
        ("isIP", [Val::Text(text)]) => Ok(Val::Bool(ip(text).is_some())),
        ("ip.isCanonical", [Val::Text(text)]) => Ok(Val::Bool(ip(text).is_some_and(|own| own.to_string() == **text))),
        ("cidr", [Val::Text(text)]) => cidr(text).map_or_else(
            || fail(format!("network address parse error during conversion from string: {text}")),
            |(address, bits)| Ok(Val::Cidr(address, bits)),
        ),
        // RFC 6901: what stands for itself in a step of a JSON pointer.
        ("jsonpatch.escapeKey", [Val::Text(key)]) => Ok(Val::text(key.replace('~', "~0").replace('/', "~1"))),
        ("isCIDR", [Val::Text(text)]) => Ok(Val::Bool(cidr(text).is_some())),
        _ => no_overload(),
    }
}

/// A function of a receiver.
pub(super) fn method(of: &Val, name: &str, args: &[Val]) -> Outcome {
    match of {
        Val::Quantity(quantity) => of_quantity(*quantity, name, args),
        Val::Url(text) => of_url(text, name),
        Val::Ip(address) => of_ip(*address, name),
        Val::Cidr(address, bits) => of_cidr(*address, *bits, name, args),
        _ => no_overload(),
    }
}

fn of_quantity(quantity: Quantity, name: &str, args: &[Val]) -> Outcome {
    let whole = Quantity::new(quantity.value(), quantity.format()) == quantity;
    let other = match args {
        [Val::Quantity(other)] => Some(*other),
        [Val::Int(other)] => Some(Quantity::new(*other, quantity.format())),
        _ => None,
    };
    match (name, other) {
        ("sign", None) => Ok(Val::Int(i64::from(quantity.sign()))),
        ("isInteger", None) => Ok(Val::Bool(whole)),
        ("asInteger", None) if whole => Ok(Val::Int(quantity.value())),
        ("asInteger", None) => fail("cannot convert value to integer"),
        ("asApproximateFloat", None) => Ok(Val::Double(quantity.as_f64())),
        ("add", Some(other)) => Ok(Val::Quantity(quantity + other)),
        ("sub", Some(other)) => Ok(Val::Quantity(quantity - other)),
        ("isGreaterThan", Some(other)) => Ok(Val::Bool(quantity > other)),
        ("isLessThan", Some(other)) => Ok(Val::Bool(quantity < other)),
        ("compareTo", Some(other)) => Ok(Val::Int(quantity.cmp(&other) as i64)),
        _ => no_overload(),
    }
}

fn of_url(text: &str, name: &str) -> Outcome {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let end = if scheme.is_empty() { 0 } else { rest.find(['/', '?', '#']).unwrap_or(rest.len()) };
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (name_part, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    Ok(match name {
        "getScheme" => Val::text(scheme),
        "getHost" => Val::text(host),
        "getHostname" => Val::text(name_part.trim_matches(['[', ']'])),
        "getPort" => Val::text(port),
        "getEscapedPath" => Val::text(path),
        "getQuery" => {
            let mut out: Vec<(Val, Vec<Val>)> = Vec::new();
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let (key, value) = (Val::text(key), Val::text(value));
                match out.iter_mut().find(|(own, _)| *own == key) {
                    Some((_, values)) => values.push(value),
                    None => out.push((key, vec![value])),
                }
            }
            Val::Map(out.into_iter().map(|(key, values)| (key, Val::list(values))).collect::<Vec<_>>().into())
        }
        _ => return no_overload(),
    })
}

fn of_ip(address: IpAddr, name: &str) -> Outcome {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    Ok(match name {
        "family" => Val::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Val::Bool(address.is_unspecified()),
        "isLoopback" => Val::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Val::Bool(match address {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }),
        "isLinkLocalUnicast" => Val::Bool(link_local),
        "isGlobalUnicast" => {
            Val::Bool(!link_local && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast())
        }
        _ => return no_overload(),
    })
}

/// The address with all bits beyond the prefix cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn of_cidr(address: IpAddr, bits: u8, name: &str, args: &[Val]) -> Outcome {
    let holds = |other: IpAddr| other.is_ipv4() == address.is_ipv4() && masked(other, bits) == masked(address, bits);
    match (name, args) {
        ("containsIP", [Val::Ip(other)]) => Ok(Val::Bool(holds(*other))),
        ("containsIP", [Val::Text(text)]) => ip(text)
            .map_or_else(|| fail(format!("IP Address parse error: {text}")), |other| Ok(Val::Bool(holds(other)))),
        ("containsCIDR", [Val::Cidr(other, other_bits)]) => Ok(Val::Bool(*other_bits >= bits && holds(*other))),
        ("containsCIDR", [Val::Text(text)]) => cidr(text).map_or_else(
            || fail(format!("network address parse error: {text}")),
            |(other, other_bits)| Ok(Val::Bool(other_bits >= bits && holds(other))),
        ),
        ("ip", []) => Ok(Val::Ip(address)),
        ("masked", []) => Ok(Val::Cidr(masked(address, bits), bits)),
        ("prefixLength", []) => Ok(Val::Int(i64::from(bits))),
        _ => no_overload(),
    }
}
