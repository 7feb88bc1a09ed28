//! Ranges of addresses, as the API writes them: `10.244.0.0/16`, `fd00::/48`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// A range whose first address is its lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u128,
    /// How many leading bits all addresses share.
    prefix: u8,
    width: u8,
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

impl Range {
    /// Reads a range; none for what is none.
    pub fn parse(text: &str) -> Option<Range> {
        let (address, prefix) = text.split_once('/')?;
        let (first, width) = bits(address.parse().ok()?);
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= width)?;
        let free = width - prefix;
        let mask = u128::MAX.checked_shl(u32::from(free)).unwrap_or(0);
        Some(Range { first: first & mask, prefix, width })
    }

    fn last(&self) -> u128 {
        let free = u32::from(self.width - self.prefix);
        self.first | 1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1)
    }

    pub fn overlaps(&self, other: &Range) -> bool {
        self.width == other.width && self.first <= other.last() && other.first <= self.last()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let (address, width) = bits(address);
        width == self.width && (self.first..=self.last()).contains(&address)
    }

    pub fn encloses(&self, other: &Range) -> bool {
        self.width == other.width && self.first <= other.first && other.last() <= self.last()
    }

    /// The ranges of so many bits that make up this one, the lowest first; none if they would be larger than it.
    pub fn parts(self, prefix: u8) -> impl Iterator<Item = Range> {
        let fits = prefix >= self.prefix && prefix <= self.width;
        let step = fits.then(|| 1u128.checked_shl(u32::from(self.width - prefix))).flatten();
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let first = next.filter(|first| *first <= self.last())?;
            let step = step?;
            next = first.checked_add(step);
            Some(Range { first, prefix, width: self.width })
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self.width {
            32 => IpAddr::from(Ipv4Addr::from(u32::try_from(self.first).unwrap_or(u32::MAX))),
            _ => IpAddr::from(Ipv6Addr::from(self.first)),
        };
        write!(f, "{first}/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap()
    }

    #[test]
    fn parts_of_a_range() {
        let parts: Vec<String> = range("10.244.0.0/22").parts(24).map(|p| p.to_string()).collect();
        assert_eq!(parts, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        assert_eq!(range("fd00::/63").parts(64).last().unwrap().to_string(), "fd00:0:0:1::/64");
        assert_eq!(range("255.255.255.0/24").parts(25).count(), 2);
        assert_eq!(range("10.0.0.0/24").parts(16).count(), 0);
        assert_eq!(range("::/0").parts(1).count(), 2);
    }

    #[test]
    fn what_lies_in_what() {
        assert!(range("10.96.0.0/12").contains("10.111.255.255".parse().unwrap()));
        assert!(!range("10.96.0.0/12").contains("10.112.0.0".parse().unwrap()));
        assert!(!range("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(range("10.0.0.0/8").encloses(&range("10.0.0.0/8")));
        assert!(range("10.244.1.0/24").overlaps(&range("10.244.0.0/23")));
        assert!(!range("10.244.2.0/24").overlaps(&range("10.244.0.0/23")));
        assert_eq!(range("10.244.1.7/24").to_string(), "10.244.1.0/24");
        assert_eq!(Range::parse("10.0.0.0/33"), None);
    }
}
