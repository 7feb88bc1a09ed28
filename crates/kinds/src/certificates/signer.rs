//! Names of signers, which several kinds carry.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go: ValidateSignerName`.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use crate::validate::At;

const DOMAIN_BYTES_MAX: usize = 253;
/// A path takes a label and a subdomain, with a dot between them.
const PATH_BYTES_MAX: usize = 253 + 63 + 1;

/// `example.com/signer-name`: a domain of two labels at least, and a path of one part.
pub fn name(at: &At, errors: &mut FieldErrors) {
    if !at.must_be_set(errors) {
        return;
    }
    let Some((domain, path)) = at.text().split_once('/').filter(|(_, path)| !path.contains('/')) else {
        return at.invalid(errors, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
    };
    if domain.len() > DOMAIN_BYTES_MAX {
        errors.push(FieldError::too_long(&at.path, DOMAIN_BYTES_MAX));
    }
    labels(at, domain, names::dns1123_label, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(&at.path, domain, detail));
    }
    labels(at, path, names::dns1123_subdomain, errors);
    let most = DOMAIN_BYTES_MAX + PATH_BYTES_MAX + 1;
    if at.text().len() > most {
        errors.push(FieldError::too_long(&at.path, most));
    }
}

/// Reports the first label that is none.
fn labels(at: &At, segment: &str, rule: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let wrong = segment.split('.').map(|label| (label, rule(label))).find(|(_, complaints)| !complaints.is_empty());
    if let Some((label, complaints)) = wrong {
        let complaints = complaints.iter().map(|complaint| format!("validating label {label:?}: {complaint}"));
        errors.invalid_each(&at.path, segment, complaints);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(text: &str) -> Vec<String> {
        let mut errors = FieldErrors::new();
        name(&At::root(&json!(text)), &mut errors);
        errors.0.iter().map(|error| error.detail.clone()).collect()
    }

    #[test]
    fn a_signer_has_a_domain_and_a_path() {
        assert!(said("example.com/signer").is_empty());
        assert!(said("example.com/a/b")[0].starts_with("must be a fully qualified domain"));
        assert_eq!(said("example/signer"), ["should be a domain with at least two segments separated by dots"]);
        assert!(said("Example.com/signer")[0].starts_with("validating label \"Example\": "));
    }
}
