//! Discovery documents, derived from a list of kinds: the aggregated form (`apidiscovery.k8s.io/v2`) and the plain one.
//!
//! `k8s.io/apiserver pkg/endpoints/discovery`: shapes and order. Groups keep the order of the list, versions within a
//! group too (so the preferred version comes first), resources are sorted by name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machinery::gvk::GroupVersionKind;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::kind::{Kind, Scope, Subresource, Verbs};

const READ_WRITE: &[&str] = &["get", "patch", "update"];
const CREATE_GET: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// How discovery names a subresource, what it speaks and which verbs it has.
struct Described {
    name: &'static str,
    /// Group, version and kind; an empty version stands for the parent's own.
    speaks: (&'static str, &'static str, String),
    verbs: &'static [&'static str],
}

impl Subresource {
    /// Its name in URLs.
    pub fn name(&self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale(_) => "scale",
            Subresource::Binding => "binding",
            Subresource::Eviction => "eviction",
            Subresource::EphemeralContainers => "ephemeralcontainers",
            Subresource::Resize => "resize",
            Subresource::Log => "log",
            Subresource::Exec => "exec",
            Subresource::Attach => "attach",
            Subresource::PortForward => "portforward",
            Subresource::Proxy => "proxy",
            Subresource::Token => "token",
            Subresource::Finalize => "finalize",
            Subresource::Approval => "approval",
        }
    }

    fn described(&self, kind: &Kind) -> Described {
        let own = || ("", "", kind.names.kind.to_string());
        let other = |name: &str| ("", "", name.to_owned());
        let (speaks, verbs) = match self {
            Subresource::Status | Subresource::EphemeralContainers | Subresource::Resize | Subresource::Approval => {
                (own(), READ_WRITE)
            }
            Subresource::Scale(_) => (("autoscaling", "v1", "Scale".to_owned()), READ_WRITE),
            Subresource::Binding => (other("Binding"), &["create"][..]),
            Subresource::Eviction => (("policy", "v1", "Eviction".to_owned()), &["create"][..]),
            Subresource::Token => (("authentication.k8s.io", "v1", "TokenRequest".to_owned()), &["create"][..]),
            Subresource::Log => (own(), &["get"][..]),
            Subresource::Finalize => (own(), &["update"][..]),
            Subresource::Exec => (other("PodExecOptions"), CREATE_GET),
            Subresource::Attach => (other("PodAttachOptions"), CREATE_GET),
            Subresource::PortForward => (other("PodPortForwardOptions"), CREATE_GET),
            Subresource::Proxy => (other(&format!("{}ProxyOptions", kind.names.kind)), PROXY),
        };
        Described { name: self.name(), speaks, verbs }
    }
}

impl Kind {
    /// The kind of the object that a request for one of its subresources takes; its own for the resource itself.
    pub fn speaks(&self, subresource: &str) -> GroupVersionKind {
        let own = || GroupVersionKind::new(self.group.as_ref(), self.version.as_ref(), self.names.kind.as_ref());
        let Some(known) = self.subresources.iter().find(|known| known.name() == subresource) else { return own() };
        match known.described(self).speaks {
            (_, "", kind) => GroupVersionKind { kind: kind.into(), ..own() },
            (group, version, kind) => GroupVersionKind::new(group, version, kind),
        }
    }

    /// The verbs that one of its subresources answers to.
    pub fn verbs_of(&self, subresource: &Subresource) -> &'static [&'static str] {
        subresource.described(self).verbs
    }
}

/// The aggregated document of `/apis`: every group but the core one.
pub fn aggregated(kinds: &[&Kind]) -> Value {
    aggregated_groups(&groups(kinds, false))
}

/// The aggregated document of `/api`: the core group alone.
pub fn aggregated_core(kinds: &[&Kind]) -> Value {
    aggregated_groups(&groups(kinds, true))
}

/// `APIVersions`, the plain document of `/api`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `APIGroupList`, the plain document of `/apis`.
pub fn group_list(kinds: &[&Kind]) -> Value {
    let groups: Vec<Value> = groups(kinds, false).iter().map(|group| group.plain()).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `APIGroup`, the plain document of `/apis/<group>`.
pub fn group(kinds: &[&Kind], name: &str) -> Option<Value> {
    let found = groups(kinds, false).into_iter().find(|group| group.name == name)?;
    let mut value = found.plain();
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

/// `APIResourceList`, the plain document of `/api/v1` and `/apis/<group>/<version>`.
pub fn resource_list(kinds: &[&Kind], group: &str, version: &str) -> Option<Value> {
    let mut members: Vec<&Kind> =
        kinds.iter().copied().filter(|kind| kind.group == group && kind.version == version).collect();
    let first = members.first()?;
    let group_version = first.api_version();
    members.sort_by(|a, b| a.names.plural.cmp(&b.names.plural));
    let resources: Vec<Value> = members.iter().flat_map(|kind| plain_resources(kind)).collect();
    let mut list = json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources });
    // The oldest document is without it.
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    Some(list)
}

/// The versions of a group, each with its kinds.
struct Group<'a> {
    name: &'a str,
    versions: Vec<(&'a str, Vec<&'a Kind>)>,
}

fn groups<'a>(kinds: &[&'a Kind], core: bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| kind.group.is_empty() == core) {
        let group = match groups.iter_mut().position(|group| group.name == kind.group) {
            Some(at) => &mut groups[at],
            None => {
                groups.push(Group { name: &kind.group, versions: Vec::new() });
                let last = groups.len() - 1;
                &mut groups[last]
            }
        };
        match group.versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, members)) => members.push(kind),
            None => group.versions.push((&kind.version, vec![kind])),
        }
    }
    for (_, members) in groups.iter_mut().flat_map(|group| &mut group.versions) {
        members.sort_by(|a, b| a.names.plural.cmp(&b.names.plural));
    }
    groups
}

impl Group<'_> {
    fn plain(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|(version, _)| json!({"groupVersion": format!("{}/{version}", self.name), "version": version}))
            .collect();
        json!({"name": self.name, "preferredVersion": versions.first(), "versions": versions})
    }
}

fn aggregated_groups(groups: &[Group]) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|(version, kinds)| {
                    let resources: Vec<Value> = kinds.iter().map(|kind| aggregated_resource(kind)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let scope = match kind.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let custom = is_custom(kind);
    // Upstream leaves the group and version of built-in kinds empty and spells out those of custom resources.
    let (group, version) = if custom { (&*kind.group, &*kind.version) } else { ("", "") };
    let mut resource = json!({
        "resource": kind.names.plural,
        "responseKind": {"group": group, "version": version, "kind": kind.names.kind},
        "scope": scope,
        "singularResource": kind.names.singular,
        "verbs": verbs(kind),
    });
    if !kind.names.short.is_empty() {
        resource["shortNames"] = json!(kind.names.short);
    }
    if !kind.names.categories.is_empty() {
        resource["categories"] = json!(kind.names.categories);
    }
    let mut described: Vec<Described> = kind.subresources.iter().map(|sub| sub.described(kind)).collect();
    described.sort_by_key(|sub| sub.name);
    let subresources: Vec<Value> = described
        .into_iter()
        .map(|sub| {
            let (sub_group, sub_version, sub_kind) = sub.speaks;
            let (sub_group, sub_version) =
                if sub_version.is_empty() { (group, version) } else { (sub_group, sub_version) };
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub_group, "version": sub_version, "kind": sub_kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = Value::Array(subresources);
    }
    resource
}

fn is_custom(kind: &Kind) -> bool {
    matches!(kind.schema, crate::kind::SchemaSource::Custom(_))
}

/// The verbs of a kind in upstream's order, which for custom resources is one of its own.
/// `kubernetes/apiextensions-apiserver pkg/apiserver/customresource_discovery_controller.go`.
fn verbs(kind: &Kind) -> Vec<&'static str> {
    let mut names = kind.verbs.names();
    if is_custom(kind) {
        names.sort_by_key(|name| matches!(*name, "create" | "update" | "watch"));
    }
    names
}

/// A resource, its subresources after it; `nodes/proxy` and its like once.
/// A mark of the version that a kind is stored in, by which a client sees that it has changed.
/// `kubernetes/apiserver pkg/endpoints/discovery/storageversionhash.go`.
fn storage_version_hash(kind: &Kind) -> String {
    const SHOWN_BYTES: usize = 8;
    let (group, version) = &kind.storage_version;
    let digest = Sha256::digest(format!("{group}/{version}/{}", kind.names.kind));
    STANDARD.encode(&digest[..SHOWN_BYTES])
}

fn plain_resources(kind: &Kind) -> Vec<Value> {
    let namespaced = kind.namespaced();
    let mut main = json!({
        "name": kind.names.plural,
        "singularName": kind.names.singular,
        "namespaced": namespaced,
        "kind": kind.names.kind,
        "verbs": verbs(kind),
    });
    if kind.verbs.has(Verbs::WATCH) {
        main["storageVersionHash"] = json!(storage_version_hash(kind));
    }
    if !kind.names.short.is_empty() {
        main["shortNames"] = json!(kind.names.short);
    }
    if !kind.names.categories.is_empty() {
        main["categories"] = json!(kind.names.categories);
    }
    let mut described: Vec<Described> = kind.subresources.iter().map(|sub| sub.described(kind)).collect();
    described.sort_by_key(|sub| sub.name);
    if is_custom(kind) {
        // Their status comes before their scale.
        described.reverse();
    }
    let subresources = described.into_iter().map(|sub| {
        let (group, version, speaks) = sub.speaks;
        let mut value = json!({
            "name": format!("{}/{}", kind.names.plural, sub.name),
            "singularName": "",
            "namespaced": namespaced,
            "kind": speaks,
            "verbs": sub.verbs,
        });
        if !version.is_empty() {
            value["group"] = json!(group);
            value["version"] = json!(version);
        }
        value
    });
    std::iter::once(main).chain(subresources).collect()
}
