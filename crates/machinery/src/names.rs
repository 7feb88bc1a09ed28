//! Rules for names, with upstream's messages. Each returns every complaint; none means valid.
//!
//! `k8s.io/apimachinery pkg/util/validation` and `pkg/api/validate/content`: the rules and their texts. The two
//! packages word the length rule differently ("characters" and "bytes"), which is kept.

use crate::field::{FieldError, FieldErrors, Path};

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const DNS1035_LABEL_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const WILDCARD_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_TEXT: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// The longest DNS label (RFC 1123, RFC 1035), in bytes.
pub const DNS_LABEL_MAX: usize = 63;
/// The longest DNS subdomain, in bytes.
pub const DNS_SUBDOMAIN_MAX: usize = 253;

/// What a name rule complains of.
pub type Complaints = Vec<String>;

/// Upstream's text for a failed regular expression.
pub fn regex_error(text: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{format}')");
    }
    let shown: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{format}')", shown.join(" or "))
}

/// Upstream's text for a number outside of a range.
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn characters_max(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn bytes_max(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// First, middle and last byte each of their own class; never empty.
fn shaped(text: &str, first: fn(u8) -> bool, middle: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [only] => first(*only) && (last(*only) || first(*only)),
        [start, inner @ .., end] => first(*start) && inner.iter().all(|b| middle(*b)) && last(*end),
    }
}

fn is_label_shaped(text: &str) -> bool {
    shaped(text, lower_alphanumeric, |b| lower_alphanumeric(b) || b == b'-', lower_alphanumeric)
}

fn is_subdomain_shaped(text: &str) -> bool {
    text.split('.').all(is_label_shaped)
}

fn is_label_key_shaped(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_alphanumeric();
    shaped(text, edge, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'), edge)
}

/// A DNS label: `my-name`.
pub fn dns1123_label(value: &str) -> Complaints {
    label(value, characters_max)
}

/// A DNS label by the rule that types declare (`k8s-short-name`), which tells lengths in bytes.
pub fn short_name(value: &str) -> Complaints {
    label(value, bytes_max)
}

fn label(value: &str, too_long: fn(usize) -> String) -> Complaints {
    let mut out = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        out.push(too_long(DNS_LABEL_MAX));
    }
    if !is_label_shaped(value) {
        if is_subdomain_shaped(value) {
            out.push("must not contain dots".to_owned());
        } else {
            out.push(regex_error(DNS1123_LABEL_TEXT, DNS1123_LABEL, &["my-name", "123-abc"]));
        }
    }
    out
}

/// A DNS subdomain: `example.com`.
pub fn dns1123_subdomain(value: &str) -> Complaints {
    subdomain(value, characters_max)
}

/// A DNS subdomain by the rule that types declare (`k8s-long-name`), which tells lengths in bytes.
pub fn long_name(value: &str) -> Complaints {
    subdomain(value, bytes_max)
}

fn subdomain(value: &str, too_long: fn(usize) -> String) -> Complaints {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(too_long(DNS_SUBDOMAIN_MAX));
    }
    if !is_subdomain_shaped(value) {
        out.push(regex_error(DNS1123_SUBDOMAIN_TEXT, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    out
}

/// A DNS label that starts with a letter: `abc-123`.
pub fn dns1035_label(value: &str) -> Complaints {
    let mut out = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        out.push(characters_max(DNS_LABEL_MAX));
    }
    let inner = |b: u8| lower_alphanumeric(b) || b == b'-';
    if !shaped(value, |b| b.is_ascii_lowercase(), inner, lower_alphanumeric) {
        out.push(regex_error(DNS1035_LABEL_TEXT, DNS1035_LABEL, &["my-name", "abc-123"]));
    }
    out
}

/// `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(value: &str) -> Complaints {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(characters_max(DNS_SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain_shaped) {
        out.push(regex_error(WILDCARD_TEXT, &format!("\\*\\.{DNS1123_SUBDOMAIN}"), &["*.example.com"]));
    }
    out
}

/// A label key or any other qualified name: `example.com/MyName` or `MyName`.
pub fn qualified_name(value: &str) -> Complaints {
    let mut out = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let name = match value.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(subdomain(prefix, bytes_max).into_iter().map(|message| format!("prefix part {message}")));
            }
            *name
        }
        _ => {
            out.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(LABEL_KEY_TEXT, LABEL_KEY, &examples)
            ));
            return out;
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > DNS_LABEL_MAX {
        out.push(format!("name part {}", bytes_max(DNS_LABEL_MAX)));
    }
    if !is_label_key_shaped(name) {
        out.push(format!("name part {}", regex_error(LABEL_KEY_TEXT, LABEL_KEY, &examples)));
    }
    out
}

/// A label's value; it may be empty.
pub fn label_value(value: &str) -> Complaints {
    let mut out = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        out.push(bytes_max(DNS_LABEL_MAX));
    }
    if !value.is_empty() && !is_label_key_shaped(value) {
        out.push(regex_error(LABEL_VALUE_TEXT, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    out
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Complaints {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if shaped(value, first, rest, rest) {
        return Vec::new();
    }
    let text = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    vec![regex_error(text, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// A port number, 1 to 65535.
pub fn port_number(port: i64) -> Complaints {
    in_range(port, 1, 65535)
}

/// A number between `low` and `high`, both allowed.
pub fn in_range(value: i64, low: i64, high: i64) -> Complaints {
    if (low..=high).contains(&value) { Vec::new() } else { vec![inclusive_range_error(low, high)] }
}

/// An IANA service name: `http`, at most 15 bytes.
pub fn port_name(port: &str) -> Complaints {
    let mut out = Vec::new();
    if port.len() > 15 {
        out.push(characters_max(15));
    }
    if port.is_empty() || !port.bytes().all(|b| lower_alphanumeric(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !port.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if port.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if port.starts_with('-') || port.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// `50%`.
pub fn percent(value: &str) -> Complaints {
    match value.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Vec::new(),
        _ => {
            let text = "a valid percent string must be a numeric string followed by an ending '%'";
            vec![regex_error(text, "[0-9]+%", &["1%", "93%"])]
        }
    }
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Complaints {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    let text = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(text, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of an environment variable, as relaxed since 1.34: printable ASCII other than `=`.
pub fn env_var_name(value: &str) -> Complaints {
    let mut out = Vec::new();
    if value.is_empty() {
        out.push("environment variable name must be non-empty".to_owned());
    }
    if !value.chars().all(|c| matches!(c, ' '..='~') && c != '=') {
        let text = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        out.push(text.to_owned());
    }
    out
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Complaints {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(characters_max(DNS_SUBDOMAIN_MAX));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(allowed) {
        let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        out.push(regex_error(text, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// A name that is one segment of a URL path (RBAC names and the like); `prefix` when something will follow it.
pub fn path_segment(name: &str, prefix: bool) -> Complaints {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// At least three segments, as `foo.example.com`.
pub fn fully_qualified_name(path: &Path, name: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return errors;
    }
    let complaints = dns1123_subdomain(name);
    if !complaints.is_empty() {
        errors.push(FieldError::invalid(path, name, complaints.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
    errors
}

/// `example.com/some/path`.
pub fn domain_prefixed_path(path: &Path, value: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return errors;
    }
    match value.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            errors.invalid_each(path, host, dns1123_subdomain(host));
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !rest.bytes().all(allowed) {
                let message = regex_error("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
                errors.push(FieldError::invalid(path, rest, message));
            }
        }
        _ => errors.push(FieldError::invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
    errors
}

/// A `generateName` judged as the name it will become: upstream replaces a trailing dash and the byte before it.
pub fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => {
            let cut = stem.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &stem[..cut])
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        assert!(dns1123_label("a").is_empty());
        assert!(dns1123_label("a-b0").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        insta::assert_snapshot!(dns1123_label("A").join("|"), @"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')");
        assert!(dns1123_subdomain("a.b-c.d").is_empty());
        assert!(!dns1123_subdomain("a..b").is_empty());
        assert_eq!(dns1123_subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
        assert_eq!(long_name(&"a".repeat(254)), ["must be no more than 253 bytes"]);
        assert_eq!(short_name(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(dns1035_label("0a").len() == 1 && dns1035_label("a-").len() == 1 && dns1035_label("a").is_empty());
        assert!(wildcard_dns1123_subdomain("*.a.b").is_empty() && !wildcard_dns1123_subdomain("*a").is_empty());
    }

    #[test]
    fn qualified_names() {
        assert!(qualified_name("example.com/My_Name.x").is_empty());
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
        assert!(qualified_name("")[0] == "name part must be non-empty");
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(label_value("").is_empty() && !label_value("-a").is_empty());
    }

    #[test]
    fn others() {
        assert!(port_name("http-1").is_empty());
        assert_eq!(port_name("1-"), ["must contain at least one letter (a-z)", "must not begin or end with a hyphen"]);
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert!(config_map_key("..a")[0] == "must not start with '..'");
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(path_segment("a/b%", false), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(mask_trailing_dash("abc-"), "aba");
        assert_eq!(mask_trailing_dash("-"), "-");
        assert!(env_var_name("1 a").is_empty() && !env_var_name("a=b").is_empty());
    }
}
