//! Address ranges, and handing addresses of one out in turn.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A range of addresses in its canonical form: the bits after the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct CidrError(pub String);

impl Cidr {
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let width = width(address);
        if prefix > width {
            return None;
        }
        let mask = mask(width, prefix);
        Some(Cidr { address: from_bits(address, to_bits(address) & mask), prefix })
    }

    /// The range that holds only this address.
    pub fn single(address: IpAddr) -> Cidr {
        Cidr { address, prefix: width(address) }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && to_bits(address) & mask(width(address), self.prefix) == to_bits(self.address)
    }

    /// The address so many places after the first; `None` beyond the range.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let host_bits = width(self.address) - self.prefix;
        if host_bits < 128 && offset >> host_bits != 0 {
            return None;
        }
        Some(from_bits(self.address, to_bits(self.address).checked_add(offset)?))
    }

    /// How many places after the first an address stands.
    pub fn offset(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| to_bits(address) - to_bits(self.address))
    }

    /// How many addresses can be given out: all but the network's own and, with IPv4, the broadcast address.
    pub fn usable(&self) -> u128 {
        let host_bits = u32::from(width(self.address) - self.prefix);
        let all = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        all.saturating_sub(if self.address.is_ipv4() { 2 } else { 1 })
    }

    /// The first free address after `last`, going round once; `taken` says which are not free. Going on from the last
    /// one, rather than taking the lowest, keeps an address out of use for as long as possible after its release.
    pub fn next_free(&self, last: Option<IpAddr>, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let usable = self.usable();
        let start = last.and_then(|last| self.offset(last)).unwrap_or(0);
        (0..usable)
            .map(|step| (start + step) % usable + 1)
            .filter_map(|offset| self.nth(offset))
            .find(|address| !taken(*address))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Cidr::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(width: u8, prefix: u8) -> u128 {
    let ones = |bits: u8| if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
    ones(width) & !ones(width - prefix)
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn from_bits(like: IpAddr, bits: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        assert!(cidr("10.244.0.0/24").contains(ip("10.244.0.255")));
        assert!(!cidr("10.244.0.0/24").contains(ip("10.244.1.0")));
        assert!(!cidr("10.244.0.0/24").contains(ip("::1")));
        assert!(cidr("0.0.0.0/0").contains(ip("1.2.3.4")));
        assert!(cidr("fd00::/8").contains(ip("fd12::1")));
        assert_eq!(cidr("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert_eq!(cidr("10.0.0.0/30").nth(4), None);
        assert_eq!(cidr("10.0.0.0/30").nth(3), Some(ip("10.0.0.3")));
    }

    #[test]
    fn addresses_are_handed_out_in_turn_and_reused_last() {
        let range = cidr("10.0.0.0/29");
        let taken = |address: IpAddr| address == ip("10.0.0.1");
        assert_eq!(range.next_free(None, taken), Some(ip("10.0.0.2")));
        assert_eq!(range.next_free(Some(ip("10.0.0.2")), taken), Some(ip("10.0.0.3")));
        assert_eq!(range.next_free(Some(ip("10.0.0.6")), taken), Some(ip("10.0.0.2")));
        assert_eq!(range.next_free(Some(ip("10.0.0.6")), |_| true), None);
    }
}
