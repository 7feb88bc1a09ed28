//! The trust anchors that a clusterTrustBundle projection selects.
//! `kubernetes/kubernetes pkg/kubelet/clustertrustbundle/clustertrustbundle_manager.go`.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use machinery::labels::Selector;

/// Blocks of PEM text, one after the other, each once, without what stands between them.
///
/// # Errors
/// The text is not PEM.
pub fn normalized<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    let mut seen = BTreeSet::new();
    let mut out = String::new();
    for text in texts {
        for block in pem::parse_many(text).map_err(|error| error.to_string())? {
            if seen.insert(block.contents().to_vec()) {
                let plain = pem::Pem::new("CERTIFICATE", block.contents());
                out += &pem::encode_config(&plain, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF));
            }
        }
    }
    Ok(out)
}

/// The anchors of the bundle named, or of all that the signer and labels select.
///
/// # Errors
/// Nothing is selected, and the projection is not optional.
pub(crate) fn anchors(
    wanted: &ClusterTrustBundleProjection,
    all: &[Arc<ClusterTrustBundle>],
) -> Result<String, String> {
    let selected: Vec<&ClusterTrustBundle> = match (&wanted.name, &wanted.signer_name) {
        (Some(name), _) => all.iter().filter(|b| b.metadata.name.as_ref() == Some(name)).map(AsRef::as_ref).collect(),
        (None, Some(signer)) => {
            let selector = serde_json::to_value(&wanted.label_selector).map_err(|error| error.to_string())?;
            let selector = Selector::from_label_selector(Some(&selector).filter(|selector| !selector.is_null()))
                .map_err(|error| format!("while parsing label selector: {error}"))?;
            let of_signer = all.iter().filter(|bundle| bundle.spec.signer_name.as_ref() == Some(signer));
            of_signer
                .filter(|b| selector.matches(&b.metadata.labels.clone().unwrap_or_default()))
                .map(AsRef::as_ref)
                .collect()
        }
        (None, None) => return Err("ClusterTrustBundle projection requires either name or signerName to be set".into()),
    };
    if selected.is_empty() && wanted.optional != Some(true) {
        return Err(match &wanted.name {
            Some(name) => {
                format!("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found")
            }
            None => "combination of signerName and labelSelector matched zero ClusterTrustBundles".into(),
        });
    }
    normalized(selected.iter().map(|bundle| bundle.spec.trust_bundle.as_str()))
        .map_err(|error| format!("while normalizing trust anchors: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle(name: &str, signer: &str, tier: &str, anchors: &[&str]) -> Arc<ClusterTrustBundle> {
        let blocks = anchors.iter().map(|text| pem::encode(&pem::Pem::new("CERTIFICATE", text.as_bytes())));
        let value = json!({"metadata": {"name": name, "labels": {"tier": tier}},
            "spec": {"signerName": signer, "trustBundle": blocks.map(|block| format!("about\n{block}")).collect::<String>()}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn chosen(wanted: serde_json::Value) -> Result<Vec<String>, String> {
        let all = [
            bundle("one", "example.com/a", "x", &["A", "B"]),
            bundle("two", "example.com/a", "y", &["B", "C"]),
            bundle("three", "example.com/b", "x", &["D"]),
        ];
        let wanted: ClusterTrustBundleProjection = serde_json::from_value(wanted).unwrap();
        let text = anchors(&wanted, &all)?;
        let blocks = pem::parse_many(text).unwrap();
        Ok(blocks.iter().map(|block| String::from_utf8(block.contents().to_vec()).unwrap()).collect())
    }

    #[test]
    fn bundles_are_chosen_by_name_or_by_signer_and_labels() {
        assert_eq!(chosen(json!({"path": "p", "name": "one"})).unwrap(), ["A", "B"]);
        let of_a = json!({"path": "p", "signerName": "example.com/a", "labelSelector": {}});
        assert_eq!(chosen(of_a).unwrap(), ["A", "B", "C"]);
        let labelled =
            json!({"path": "p", "signerName": "example.com/a", "labelSelector": {"matchLabels": {"tier": "y"}}});
        assert_eq!(chosen(labelled).unwrap(), ["B", "C"]);
    }

    #[test]
    fn nothing_chosen_is_an_error_unless_optional() {
        assert_eq!(
            chosen(json!({"path": "p", "name": "none"})).unwrap_err(),
            "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"none\" not found"
        );
        // Without a selector nothing matches.
        assert_eq!(
            chosen(json!({"path": "p", "signerName": "example.com/a"})).unwrap_err(),
            "combination of signerName and labelSelector matched zero ClusterTrustBundles"
        );
        assert_eq!(chosen(json!({"path": "p", "signerName": "example.com/a", "optional": true})).unwrap(), [""; 0]);
    }
}
