//! The operations that are about no resource: what there is to ask for, and what the server says of itself.

use super::operations::{Item, Model, Operation};
use super::paths::{JSON, MEDIA, META, name_parts, upper_first};

/// The documents that are about nothing else, besides one for each group.
pub const ALONE: [&str; 5] = [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"];

/// The operation that a document's path itself is for; none where there is none.
pub fn of(path: &str) -> Option<Item> {
    let definition = |name: &str| Model::Definition(format!("{META}.{name}"));
    let parts: Vec<&str> = path.split('/').collect();
    let grouped = |group: &str| name_parts(group, "").0;
    let (id, tag, model) = match parts.as_slice() {
        ["version"] => {
            let info = Model::Definition("io.k8s.apimachinery.pkg.version.Info".to_owned());
            ("getCodeVersion".to_owned(), "version".to_owned(), info)
        }
        [".well-known", "openid-configuration"] => {
            ("getServiceAccountIssuerOpenIDConfiguration".to_owned(), "WellKnown".to_owned(), Model::Text)
        }
        ["openid", "v1", "jwks"] => {
            ("getServiceAccountIssuerOpenIDKeyset".to_owned(), "openid".to_owned(), Model::Text)
        }
        ["api"] => ("getCoreAPIVersions".to_owned(), "core".to_owned(), definition("APIVersions")),
        ["apis"] => ("getAPIVersions".to_owned(), "apis".to_owned(), definition("APIGroupList")),
        ["apis", group] => {
            let group = grouped(group);
            (format!("get{}APIGroup", upper_first(&group)), group, definition("APIGroup"))
        }
        ["api", version] | ["apis", _, version] => {
            let (group, version) = name_parts(if parts.len() == 3 { parts[1] } else { "" }, version);
            let id = format!("get{}{}APIResources", upper_first(&group), upper_first(&version));
            (id, format!("{group}_{version}"), definition("APIResourceList"))
        }
        _ => return None,
    };
    let (consumes, produces): (&[&str], &[&str]) = match parts[0] {
        "version" => (&[JSON], &[JSON]),
        "openid" => (&[], &["application/jwk-set+json"]),
        "api" | "apis" => (&MEDIA, &MEDIA),
        _ => (&[], &[JSON]),
    };
    let operation = Operation {
        method: "get",
        id,
        tag,
        words: String::new(),
        parameters: Vec::new(),
        body: None,
        consumes,
        produces: produces.to_vec(),
        codes: &[200],
        model,
        about: None,
    };
    Some(Item { path: format!("/{path}/"), operations: vec![operation] })
}
