//! What the API server serves, asked in one document of `/api` and one of `/apis` (aggregated discovery,
//! `apidiscovery.k8s.io/v2`), so that a server behind it that does not answer holds nobody up.

use http::Method;
use reconcile::Resource;
use serde::Deserialize;

use crate::api::{Api, Refusal};

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource of API discovery.
#[derive(Clone, Debug)]
pub struct Discovered {
    pub resource: Resource,
    pub verbs: Vec<String>,
}

impl Discovered {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

#[derive(Deserialize)]
struct GroupList {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: String,
    freshness: String,
    #[serde(default)]
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    resource: String,
    response_kind: Option<ResponseKind>,
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

/// The preferred version of every resource, subresources aside; and the groups and versions of which the server knows
/// nothing current, as `group/version`.
pub async fn discover(api: &Api) -> Result<(Vec<Discovered>, Vec<String>), Refusal> {
    let mut found = Vec::new();
    let mut stale = Vec::new();
    for path in ["/api", "/apis"] {
        let body = api.call(Method::GET, path, "application/json", ACCEPT, None).await?;
        let list: GroupList = serde_json::from_slice(&body).map_err(Refusal::unreadable)?;
        for group in list.items {
            read(group, &mut found, &mut stale);
        }
    }
    Ok((found, stale))
}

/// A group's versions come with the preferred one first.
fn read(group: Group, found: &mut Vec<Discovered>, stale: &mut Vec<String>) {
    let name = group.metadata.name;
    let first = found.len();
    for version in group.versions {
        if version.freshness != "Current" {
            stale.push(format!("{name}/{}", version.version));
            continue;
        }
        for entry in version.resources {
            let known = found[first..].iter().any(|d| d.resource.plural == entry.resource);
            let Some(answer) = entry.response_kind.filter(|_| !known) else { continue };
            let resource = Resource {
                group: name.clone().into(),
                version: version.version.clone().into(),
                plural: entry.resource.into(),
                kind: answer.kind.into(),
                namespaced: entry.scope == "Namespaced",
            };
            found.push(Discovered { resource, verbs: entry.verbs });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_preferred_version_of_a_resource_stands_for_it_and_stale_ones_are_told() {
        let resource = |plural: &str| {
            json!({"resource": plural, "responseKind": {"group": "g", "version": "", "kind": "Thing"},
                   "scope": "Namespaced", "verbs": ["list"]})
        };
        let group = serde_json::from_value(json!({
            "metadata": {"name": "g"},
            "versions": [
                {"version": "v2", "freshness": "Current", "resources": [resource("things")]},
                {"version": "v1", "freshness": "Current", "resources": [resource("things"), resource("others")]},
                {"version": "v1beta1", "freshness": "Stale"},
            ],
        }))
        .unwrap();
        let (mut found, mut stale) = (Vec::new(), Vec::new());
        read(group, &mut found, &mut stale);
        let seen: Vec<String> = found.iter().map(|d| format!("{}/{}", d.resource.version, d.resource.plural)).collect();
        assert_eq!(seen, ["v2/things", "v1/others"]);
        assert_eq!(stale, ["g/v1beta1"]);
        assert!(found[0].resource.namespaced && found[0].can("list") && !found[0].can("delete"));
    }
}
