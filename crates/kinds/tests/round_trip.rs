//! Every kind upstream publishes filled in decodes strictly with our schemas and comes out of its stored form as it
//! went in. What the API server makes of it for a client is tested there (`respond`).

#![allow(clippy::expect_used, reason = "tests")]

mod upstream;

use std::collections::BTreeSet;

use kinds::{facts, protobuf};
use machinery::decode;
use machinery::object::{self, Encoded};
use machinery::schema::Schema;
use serde_json::Value;

/// The definition of an object by its group, version and kind.
fn definition(object: &Value) -> Option<&'static facts::Definition> {
    let api_version = object["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = object["kind"].as_str()?;
    let found = kinds::by_kind(group, version, kind);
    let by_kind = found.and_then(|kind| match &kind.schema {
        kinds::kind::SchemaSource::Facts(name) => facts::definition(name),
        kinds::kind::SchemaSource::Custom(_) => None,
    });
    by_kind.or_else(|| {
        let all = facts::names().into_iter().filter_map(facts::definition);
        all.into_iter().find(|definition| definition.kinds.contains(&(group, version, kind)))
    })
}

/// Stored, and written out again as an answer and as an item of a list, an object is what it was, at the revision it was
/// stored at.
fn outlives_storage(name: &str, value: &Value, schema: &Schema) {
    let mut expected = value.clone();
    object::set_resource_version(&mut expected, "7");
    let stored = Encoded::from_value(value, 7);
    let mut whole = Vec::new();
    stored.write_to(&mut whole).expect(name);
    let again = decode::json(&whole, Some(schema)).expect(name);
    assert!(again.problems.is_empty(), "{name}: {:?}", again.problems);
    assert_eq!(again.value, expected, "{name}");
    let mut item = Vec::new();
    stored.write_item_to(&mut item).expect(name);
    let mut item: Value = serde_json::from_slice(&item).expect(name);
    for field in ["apiVersion", "kind"] {
        assert_eq!(item.get(field), None, "{name}");
        item[field] = value[field].clone();
    }
    assert_eq!(item, expected, "{name}");
}

#[test]
fn every_published_object_survives() {
    let directory = upstream::module("k8s.io/api@v0.37.2").join("testdata/HEAD");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(&directory).expect("testdata").map(|entry| entry.expect("entry")) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("readable");
        let (is_json, is_yaml) = (name.ends_with(".json"), name.ends_with(".yaml"));
        if !is_json && !is_yaml {
            continue;
        }
        let raw: Value = if is_json {
            serde_json::from_slice(&bytes).expect(&name)
        } else {
            decode::yaml(&bytes, None).expect(&name).value
        };
        let Some(definition) = definition(&raw) else { continue };
        let schema = facts::schema(definition.name);
        let decoded = if is_json { decode::json(&bytes, Some(&schema)) } else { decode::yaml(&bytes, Some(&schema)) };
        let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(decoded.problems.is_empty(), "{name}: {:?}", decoded.problems);
        assert_eq!(decoded.value, raw, "{name}");
        // What has no revision, such as the options of a request, is never stored.
        if !object::resource_version(&raw).is_empty() {
            outlives_storage(&name, &decoded.value, &schema);
        }
        seen.insert(definition.name);
    }
    let unpublished = ["apiextensions.k8s.io", "apiregistration.k8s.io", "metrics.k8s.io"];
    for kind in kinds::KINDS.iter().filter(|kind| !unpublished.contains(&&*kind.group)) {
        if let kinds::kind::SchemaSource::Facts(name) = kind.schema {
            assert!(seen.contains(name), "{name} has no published object");
        }
    }
}

/// Bytes as numbers, so that a difference shows its place.
fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).position(|(one, other)| one != other).unwrap_or(ours.len().min(theirs.len()));
    let around = |bytes: &[u8]| {
        let part = &bytes[at.saturating_sub(40).min(bytes.len())..(at + 40).min(bytes.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!("at {at} of {} and {}: {:?} {:?}", ours.len(), theirs.len(), around(ours), around(theirs))
}

/// What upstream publishes an object of and is never read or written here in protobuf, by the reason for it.
const UNREAD: &[(&str, &[&str])] = &[
    (
        "the options of a URL: no body",
        &[
            "core.v1.CreateOptions",
            "core.v1.GetOptions",
            "core.v1.ListOptions",
            "core.v1.NodeProxyOptions",
            "core.v1.PatchOptions",
            "core.v1.PodAttachOptions",
            "core.v1.PodExecOptions",
            "core.v1.PodLogOptions",
            "core.v1.PodPortForwardOptions",
            "core.v1.PodProxyOptions",
            "core.v1.ServiceProxyOptions",
            "core.v1.UpdateOptions",
        ],
    ),
    ("the frame of a watch, which has no envelope: `protobuf::write_event`", &["core.v1.WatchEvent"]),
    (
        "an annotation's text and an allocator's own record: no request holds them",
        &["core.v1.RangeAllocation", "core.v1.SerializedReference"],
    ),
    (
        "asked of webhooks, in JSON",
        &[
            "admission.k8s.io.v1.AdmissionReview",
            "admission.k8s.io.v1beta1.AdmissionReview",
            "imagepolicy.k8s.io.v1alpha1.ImageReview",
        ],
    ),
    (
        "answered in JSON",
        &["apidiscovery.k8s.io.v2.APIGroupDiscovery", "apidiscovery.k8s.io.v2beta1.APIGroupDiscovery"],
    ),
    (
        "of no version that is on by default: nobody stores it, and a request with it is refused by its name",
        &[
            "coordination.k8s.io.v1alpha2.LeaseCandidate",
            "coordination.k8s.io.v1beta1.LeaseCandidate",
            "internal.apiserver.k8s.io.v1alpha1.StorageVersion",
            "lifecycle.k8s.io.v1alpha1.Eviction",
            "lifecycle.k8s.io.v1alpha1.EvictionRequest",
            "resource.k8s.io.v1alpha3.ResourcePoolStatusRequest",
            "scheduling.k8s.io.v1alpha3.CompositePodGroup",
            "scheduling.k8s.io.v1alpha3.PodGroup",
            "scheduling.k8s.io.v1alpha3.Workload",
            "scheduling.k8s.io.v1beta1.PodGroup",
            "scheduling.k8s.io.v1beta1.Workload",
        ],
    ),
    (
        "served no more, and of other messages than what is: a request with it is refused by its name",
        &[
            "apps.v1beta1.Deployment",
            "apps.v1beta1.DeploymentRollback",
            "apps.v1beta1.Scale",
            "apps.v1beta2.Scale",
            "authorization.k8s.io.v1beta1.LocalSubjectAccessReview",
            "authorization.k8s.io.v1beta1.SubjectAccessReview",
            "discovery.k8s.io.v1beta1.EndpointSlice",
            "extensions.v1beta1.DaemonSet",
            "extensions.v1beta1.Deployment",
            "extensions.v1beta1.DeploymentRollback",
            "extensions.v1beta1.Ingress",
            "extensions.v1beta1.NetworkPolicy",
            "extensions.v1beta1.ReplicaSet",
            "extensions.v1beta1.Scale",
            "flowcontrol.apiserver.k8s.io.v1beta1.PriorityLevelConfiguration",
            "flowcontrol.apiserver.k8s.io.v1beta2.PriorityLevelConfiguration",
            "networking.k8s.io.v1beta1.Ingress",
            "node.k8s.io.v1alpha1.RuntimeClass",
            "rbac.authorization.k8s.io.v1alpha1.ClusterRole",
            "rbac.authorization.k8s.io.v1alpha1.ClusterRoleBinding",
            "rbac.authorization.k8s.io.v1alpha1.Role",
            "rbac.authorization.k8s.io.v1alpha1.RoleBinding",
            "resource.k8s.io.v1beta1.ResourceClaim",
            "resource.k8s.io.v1beta1.ResourceClaimTemplate",
            "resource.k8s.io.v1beta1.ResourceSlice",
        ],
    ),
];

/// Upstream 1.37 stores it in this version, which has two fields that the served one has not: it is read without them.
const SHORTENED: (&str, [&str; 2]) =
    ("certificates.k8s.io.v1beta1.PodCertificateRequest", ["pkixPublicKey", "proofOfPossession"]);

/// Byte for byte, both ways.
#[test]
fn every_published_object_has_upstreams_protobuf() {
    let directory = upstream::module("k8s.io/api@v0.37.2").join("testdata/HEAD");
    let mut wrong = Vec::new();
    let mut unread = BTreeSet::new();
    for entry in std::fs::read_dir(&directory).expect("testdata").map(|entry| entry.expect("entry")) {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let mut raw: Value = serde_json::from_slice(&std::fs::read(&path).expect(&name)).expect(&name);
        let mut bytes = std::fs::read(path.with_extension("pb")).expect(&name);
        if name == SHORTENED.0 {
            let spec = raw["spec"].as_object_mut().expect(&name);
            assert!(SHORTENED.1.iter().all(|field| spec.remove(*field).is_some()));
            assert_eq!(protobuf::decode(&bytes).as_ref(), Ok(&raw));
            bytes = protobuf::encode(&raw).expect(&name);
        }
        let Some(written) = protobuf::encode(&raw) else {
            assert!(protobuf::decode(&bytes).is_err(), "{name} is read, not written");
            unread.insert(name);
            continue;
        };
        if written != bytes {
            wrong.push(format!("{name} {}", first_difference(&written, &bytes)));
        }
        match protobuf::decode(&bytes) {
            Ok(read) if read == raw => {}
            Ok(read) => wrong.push(format!("{name} is read as {read}\nnot {raw}")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    let known: BTreeSet<String> = UNREAD.iter().flat_map(|(_, names)| *names).map(|name| (*name).to_owned()).collect();
    let list = |names: std::collections::btree_set::Difference<'_, String>| names.cloned().collect::<Vec<_>>();
    assert_eq!((list(unread.difference(&known)), list(known.difference(&unread))), (vec![], vec![]));
}

/// Upstream's example objects are complete, so completing them may only add defaults, never drop what was there.
#[test]
fn completing_a_full_object_keeps_it() {
    let directory = upstream::module("k8s.io/api@v0.37.2").join("testdata/HEAD");
    for kind in kinds::KINDS {
        let group = if kind.group.is_empty() { "core" } else { &kind.group };
        let path = directory.join(format!("{group}.{}.{}.json", kind.version, kind.names.kind));
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let full: Value = serde_json::from_slice(&bytes).expect("JSON");
        let mut completed = full.clone();
        kind.default(&mut completed);
        let mut lost = Vec::new();
        compare(&full, &completed, &mut String::new(), &mut lost);
        // A Secret's `stringData` is written only; service affinity `None` has no configuration.
        lost.retain(|path| !path.starts_with(".stringData") && !path.starts_with(".spec.sessionAffinityConfig"));
        assert!(lost.is_empty(), "{}: {lost:?}", kind.names.kind);
    }
}

fn compare(full: &Value, completed: &Value, path: &mut String, lost: &mut Vec<String>) {
    match (full, completed) {
        (Value::Object(full), Value::Object(completed)) => {
            for (name, value) in full {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                match completed.get(name) {
                    Some(other) => compare(value, other, path, lost),
                    None => lost.push(path.clone()),
                }
                path.truncate(length);
            }
        }
        (Value::Array(full), Value::Array(completed)) if full.len() == completed.len() => {
            full.iter().zip(completed).for_each(|(value, other)| compare(value, other, path, lost));
        }
        (Value::Array(_), Value::Array(_)) => lost.push(path.clone()),
        _ => {}
    }
}
