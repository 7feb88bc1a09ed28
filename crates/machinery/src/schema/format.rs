//! The string formats a CustomResourceDefinition's schema may name.
//!
//! `k8s.io/apiextensions-apiserver pkg/apiserver/validation/formats.go`: which formats are checked; the others are
//! ignored.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

use crate::duration::Duration;
use crate::names;

/// Whether a text is of a format; formats that are not checked take any text.
pub(super) fn is_valid(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => text.contains(['T', 't']) && text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => Duration::parse(text).is_ok() || is_spaced_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "hostname" => is_hostname(text),
        "email" => is_email(text),
        "uri" => is_uri(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "ssn" => is_ssn(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// `22 ns` and the like, as Scala writes durations.
fn is_spaced_duration(text: &str) -> bool {
    let Some((number, unit)) = text.trim().split_once(' ') else { return false };
    let units = ["ns", "us", "ms", "s", "m", "h", "d", "w"];
    number.parse::<f64>().is_ok() && units.contains(&unit.trim())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let Some(bits) = bits.parse::<u8>().ok().filter(|_| plain) else { return false };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32) || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

/// As Go's `net.ParseMAC`: 6, 8 or 20 bytes with `:` or `-` between each, or `.` between each two.
fn is_mac(text: &str) -> bool {
    let grouped = |separator: char, width: usize, counts: &[usize]| {
        let groups: Vec<&str> = text.split(separator).collect();
        counts.contains(&groups.len())
            && groups.iter().all(|group| group.len() == width && group.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    grouped(':', 2, &[6, 8, 20]) || grouped('-', 2, &[6, 8, 20]) || grouped('.', 4, &[3, 4, 10])
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

fn is_email(text: &str) -> bool {
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or(""),
        None => text,
    };
    let local = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    match address.rsplit_once('@') {
        Some((name, domain)) => {
            !name.is_empty() && name.chars().all(local) && !domain.is_empty() && !domain.contains([' ', '@'])
        }
        None => false,
    }
}

/// As Go's `url.ParseRequestURI`: a rooted path, or a scheme and what follows it.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    match text.split_once(':') {
        Some((scheme, rest)) => {
            let start = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
            start && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) && !rest.is_empty()
        }
        None => false,
    }
}

/// A UUID in any case, its dashes optional; `version` wants that one.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut digits = String::with_capacity(32);
    for c in text.chars() {
        let dash_allowed = matches!(digits.len(), 8 | 12 | 16 | 20);
        match c {
            '-' if dash_allowed => {}
            c if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let at = |index: usize| digits.as_bytes().get(index).copied().map(char::from);
    let versioned = version.is_none() || at(12) == version;
    let variant = matches!(version, None | Some('3')) || matches!(at(16), Some('8' | '9' | 'a' | 'b'));
    digits.len() == 32 && !text.contains("--") && versioned && variant
}

fn is_ssn(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let others = text.chars().filter(|c| !c.is_ascii_digit()).all(|c| matches!(c, '-' | ' '));
    digits.len() == 9 && others && text.len() <= 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("date", "2026-01-02", "2026-1-2"),
            ("duration", "1h", "x"),
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uri", "https://a/b", "a b"),
            ("email", "a@b.c", "a"),
            ("byte", "YQ==", "?"),
            ("hostname", "a.b", "-a"),
            ("k8s-short-name", "a-b", "A"),
        ] {
            assert!(is_valid(format, good), "{format} {good}");
            assert!(!is_valid(format, bad), "{format} {bad}");
        }
        assert!(is_valid("int32", "anything"));
    }
}
