//! `ClusterTrustBundle` (certificates.k8s.io/v1): trust anchors for everyone in the cluster.

use crate::columns::{column_of, name, named, text_or};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str};
use crate::validate::{At, immutable};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

pub static CLUSTER_TRUST_BUNDLE: Kind = Declaration {
    kind: "ClusterTrustBundle",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    group: "certificates.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.certificates.v1.ClusterTrustBundle",
    name_rule: NameRule::Any,
    fields: &[Str::Borrowed("spec.signerName")],
    columns: Some(COLUMNS),
    validate: Some(validate),
    // As upstream keeps it, so that the release before can read it.
    storage_version: Some(("certificates.k8s.io", "v1beta1")),
    ..Declaration::NEW
}
.build();

const BUNDLE_BYTES_MAX: usize = 1024 * 1024;

/// `kubernetes/kubernetes pkg/apis/certificates/validation/validation.go: ValidateClusterTrustBundle`.
fn validate(bundle: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(bundle);
    let spec = at.field("spec");
    let (signer, anchors) = (spec.field("signerName"), spec.field("trustBundle"));
    named_after(&at.fields(&["metadata", "name"]), signer.text(), errors);
    if !signer.is_empty() {
        super::signer::name(&signer, errors);
    }
    let before = old.map(|old| At::root(old).fields(&["spec", "signerName"]));
    if let Some(before) = before {
        immutable(&signer, &before, errors);
    }
    if old.is_none_or(|old| old.pointer("/spec/trustBundle") != Some(anchors.value)) {
        trust_anchors(&anchors, errors);
    }
}

/// A signer's bundles are named `example.com:signer:name`, those of none without a colon.
fn named_after(name: &At, signer: &str, errors: &mut FieldErrors) {
    let required = if signer.is_empty() { String::new() } else { format!("{}:", signer.replace('/', ":")) };
    let complaints = match name.text().strip_prefix(&required) {
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {required}")],
        Some(own) if signer.is_empty() && own.contains(':') => {
            vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()]
        }
        Some(own) => names::dns1123_subdomain(own),
    };
    if !name.is_empty() {
        name.invalid_each(errors, complaints);
    }
}

/// A bundle holds certificates of authorities alone, each once.
fn trust_anchors(bundle: &At, errors: &mut FieldErrors) {
    if bundle.text().len() > BUNDLE_BYTES_MAX {
        return errors.push(FieldError::too_long(&bundle.path, BUNDLE_BYTES_MAX));
    }
    let mut complain = |detail: String| errors.push(FieldError::invalid(&bundle.path, "<value omitted>", detail));
    let blocks = pem::parse_many(bundle.text()).unwrap_or_default();
    let mut wrong = false;
    for (entry, what) in blocks.iter().map(complaint).enumerate() {
        if let Some(what) = what {
            wrong = true;
            complain(format!("entry {entry} {what}"));
        }
    }
    if wrong {
        return;
    }
    if blocks.is_empty() {
        complain("at least one trust anchor must be provided".to_owned());
    }
    for (first, block) in blocks.iter().enumerate() {
        let same: Vec<String> = (0..blocks.len())
            .filter(|other| blocks[*other].contents() == block.contents())
            .map(|other| other.to_string())
            .collect();
        if same.len() > 1 && same[0] == first.to_string() {
            complain(format!("duplicate trust anchor (indices [{}])", same.join(" ")));
        }
    }
}

/// What keeps a block from being a trust anchor.
fn complaint(block: &pem::Pem) -> Option<String> {
    if block.tag() != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.tag()));
    }
    if block.headers().iter().next().is_some() {
        return Some("has PEM block headers".to_owned());
    }
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(block.contents()) else {
        return Some("does not parse as X.509".to_owned());
    };
    (!certificate.is_ca()).then(|| "does not have the CA bit set".to_owned())
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("SignerName", "string", "io.k8s.api.certificates.v1.ClusterTrustBundleSpec", "signerName"),
    ],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(o), text_or(o, "/spec/signerName", "<none>")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(name: &str, signer: &str, anchors: &str) -> Vec<String> {
        let mut errors = FieldErrors::new();
        let bundle = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": anchors}});
        validate(&bundle, None, &mut errors);
        errors.0.iter().map(|error| format!("{}: {}", error.field, error.detail)).collect()
    }

    #[test]
    fn a_bundle_is_named_after_its_signer_and_holds_authorities() {
        let none = "spec.trustBundle: at least one trust anchor must be provided";
        assert_eq!(said("plain", "", ""), [none]);
        assert_eq!(said("example.com:one:plain", "example.com/one", ""), [none]);
        assert_eq!(
            said("plain", "example.com/one", "")[0],
            "metadata.name: ClusterTrustBundle for signerName example.com/one must be named with prefix example.com:one:"
        );
        let block = |tag: &str| format!("-----BEGIN {tag}-----\nAAAA\n-----END {tag}-----\n");
        assert_eq!(said("plain", "", &block("KEY")), ["spec.trustBundle: entry 0 has bad block type: KEY"]);
        assert_eq!(said("plain", "", &block("CERTIFICATE")), ["spec.trustBundle: entry 0 does not parse as X.509"]);
    }
}
