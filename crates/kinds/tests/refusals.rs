//! What upstream's API server refuses, and why.
//!
//! `refusals.jsonl` holds one request a line, recorded from a kube-apiserver v1.37.2: `sent`, for an update also `old`
//! (and `subresource` when it was one), and `refused`: the causes as `field: message`, sorted. An object without causes
//! was accepted.

#![allow(clippy::expect_used, reason = "tests")]

use jiff::Timestamp;
use kinds::kind::{Kind, Subresource};
use kinds::prepare::Fresh;
use serde_json::{Value, json};

const NAMESPACE: &str = "refusals";

fn kind_of(line: &Value) -> &'static Kind {
    let text = |field: &str| line[field].as_str().expect(field).to_owned();
    let group_version = text("groupVersion");
    let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
    kinds::by_resource(group, version, &text("plural")).expect("a built-in kind")
}

fn decoded(kind: &Kind, sent: &Value) -> Value {
    let bytes = serde_json::to_vec(sent).expect("encodes");
    let mut object = machinery::decode::json(&bytes, Some(&kind.schema())).expect("decodes").value;
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.names.kind);
    if kind.namespaced() {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    kind.default(&mut object);
    object
}

/// What admission and allocation have done by the time an object is validated.
fn admit(kind: &Kind, object: &mut Value) {
    let spec = &mut object["spec"];
    match &*kind.names.kind {
        "Pod" if spec["serviceAccountName"].is_null() => spec["serviceAccountName"] = json!("default"),
        "Service" if spec["type"] != "ExternalName" && spec["clusterIP"].is_null() && spec["clusterIPs"].is_null() => {
            spec["clusterIP"] = json!("10.96.0.77");
            spec["clusterIPs"] = json!(["10.96.0.77"]);
        }
        "Service" if spec["clusterIP"].is_string() && spec["clusterIPs"].is_null() => {
            spec["clusterIPs"] = json!([spec["clusterIP"].clone()]);
        }
        _ => {}
    }
}

fn refused(kind: &Kind, line: &Value) -> Vec<String> {
    let mut new = decoded(kind, &line["sent"]);
    let errors = if line["old"].is_null() {
        let now = Timestamp::UNIX_EPOCH;
        kind.prepare_for_create(&mut new, &Fresh { now, uid: "debb8140-0d2e-4c2d-8060-97adf4ba6b85", suffix: "abcde" });
        admit(kind, &mut new);
        kind.validate(&new, None)
    } else {
        let old = decoded(kind, &line["old"]);
        match line["subresource"].as_str() {
            Some(_) => kind.prepare_for_subresource(&Subresource::Status, &mut new, &old),
            None => kind.prepare_for_update(&mut new, &old),
        }
        kind.validate(&new, Some(&old))
    };
    let mut causes: Vec<String> =
        errors.iter().map(|error| first_line(&format!("{}: {}", error.field, error.body()))).collect();
    causes.sort();
    causes.dedup();
    causes
}

/// Differences are shown in the server's own form of the objects, which is not the one users write.
fn first_line(cause: &str) -> String {
    cause.split('\n').next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_refused_is_refused_in_the_same_words() {
    let mut complaints = Vec::new();
    for (number, line) in include_str!("refusals.jsonl").lines().enumerate() {
        let line: Value = serde_json::from_str(line).expect("a line");
        let kind = kind_of(&line);
        let causes = line["refused"].as_array().expect("causes").iter();
        let mut theirs: Vec<String> = causes.map(|cause| first_line(cause.as_str().expect("a cause"))).collect();
        theirs.sort();
        theirs.dedup();
        let ours = refused(kind, &line);
        let show = |sign: &str, of: &[String], other: &[String]| {
            let only = of.iter().filter(|cause| !other.contains(cause));
            only.map(|cause| format!("  {sign} {cause}")).collect::<Vec<_>>()
        };
        let differences = [show("upstream:", &theirs, &ours), show("ours:", &ours, &theirs)].concat();
        if !differences.is_empty() {
            complaints.push(format!("line {}: {}\n{}", number + 1, kind.names.kind, differences.join("\n")));
        }
    }
    assert!(complaints.is_empty(), "{}\n{}", complaints.len(), complaints.join("\n"));
}
