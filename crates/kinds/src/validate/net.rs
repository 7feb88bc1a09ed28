//! IP addresses and CIDRs.
//!
//! `k8s.io/apimachinery pkg/util/validation/ip.go`: what is an address, and how what is not is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use machinery::field::{FieldError, FieldErrors, Path};

const NO_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Octets as old parsers took them: with leading zeros.
fn without_leading_zeros(text: &str) -> String {
    let parts = text.split('.').map(|part| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0",
        rest => rest,
    });
    parts.collect::<Vec<_>>().join(".")
}

fn mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// An address in a field that is older than the strict rules; values that were there before stay valid.
pub fn ip(path: &Path, text: &str, known: &[&str], errors: &mut FieldErrors) -> bool {
    if known.contains(&text) {
        return true;
    }
    let complaint = match text.parse::<IpAddr>() {
        Ok(address) if mapped(address) => "must not be an IPv4-mapped IPv6 address",
        Ok(_) => return true,
        Err(_) if without_leading_zeros(text).parse::<Ipv4Addr>().is_ok() => "must not have leading 0s",
        Err(_) => NO_IP,
    };
    errors.push(FieldError::invalid(path, text, complaint));
    false
}

fn split(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits = bits.parse().ok().filter(|bits| digits && *bits <= most)?;
    Some((address, bits))
}

fn network(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(address) & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

/// A CIDR in a field that is older than the strict rules; values that were there before stay valid.
pub fn cidr(path: &Path, text: &str, known: &[&str], errors: &mut FieldErrors) -> bool {
    if known.contains(&text) {
        return true;
    }
    let complaint = match split(text) {
        Some((address, _)) if mapped(address) => "must not have an IPv4-mapped IPv6 address",
        Some((address, bits)) if network(address, bits) != address => "must not have bits set beyond the prefix length",
        Some(_) => return true,
        None => {
            let (address, bits) = text.split_once('/').unwrap_or((text, ""));
            let bits = if bits.is_empty() { bits.to_owned() } else { without_leading_zeros(bits) };
            match split(&format!("{}/{bits}", without_leading_zeros(address))) {
                Some(_) => "must not have leading 0s in IP or prefix length",
                None => NO_CIDR,
            }
        }
    };
    errors.push(FieldError::invalid(path, text, complaint));
    false
}

/// Whether a network is a part of another, and not all of it.
pub fn is_within(inner: &str, outer: &str) -> bool {
    let (Some((inner, inner_bits)), Some((outer, bits))) = (split(inner), split(outer)) else { return false };
    inner.is_ipv4() == outer.is_ipv4() && bits < inner_bits && network(inner, bits) == outer
}

/// An address that traffic can be sent to.
pub fn routable_ip(path: &Path, text: &str, errors: &mut FieldErrors) {
    let Ok(address) = text.parse::<IpAddr>() else { return };
    let mut refuse = |detail: &str| errors.push(FieldError::invalid(path, text, detail));
    if address.is_unspecified() {
        refuse(&format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        let told = |check: &dyn Fn(&Path, &mut FieldErrors)| {
            let mut errors = FieldErrors::new();
            check(&Path::new("a"), &mut errors);
            errors.to_string()
        };
        assert_eq!(
            told(&|path, errors| {
                ip(path, "10.0.0.1", &[], errors);
            }),
            ""
        );
        assert!(
            told(&|path, errors| {
                ip(path, "010.0.0.1", &[], errors);
            })
            .ends_with("leading 0s")
        );
        assert!(
            told(&|path, errors| {
                ip(path, "x", &[], errors);
            })
            .ends_with(NO_IP)
        );
        assert_eq!(
            told(&|path, errors| {
                ip(path, "x", &["x"], errors);
            }),
            ""
        );
        assert_eq!(
            told(&|path, errors| {
                cidr(path, "10.0.0.0/8", &[], errors);
            }),
            ""
        );
        assert!(
            told(&|path, errors| {
                cidr(path, "10.0.0.1/8", &[], errors);
            })
            .ends_with("prefix length")
        );
        assert!(
            told(&|path, errors| {
                cidr(path, "10.0.0.0/33", &[], errors);
            })
            .ends_with(NO_CIDR)
        );
        assert!(
            told(&|path, errors| {
                cidr(path, "010.0.0.0/8", &[], errors);
            })
            .contains("leading 0s")
        );
        assert!(told(&|path, errors| routable_ip(path, "127.0.0.1", errors)).contains("loopback"));
    }
}
