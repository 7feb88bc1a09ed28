//! What upstream's API server made of objects we sent it: the stored object and its row in a table.
//!
//! `answers.jsonl` holds one answer a line, recorded from a kube-apiserver v1.37.2: `sent`, `created` (what it
//! answered), `object` (after a status update, when there was one), `columns`, `cells`, `conditions` and `now`.

#![allow(clippy::expect_used, reason = "tests")]

use jiff::Timestamp;
use kinds::kind::Kind;
use kinds::prepare::Fresh;
use serde_json::{Value, json};

fn answers() -> Vec<Value> {
    let lines = include_str!("answers.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("an answer")).collect()
}

fn kind_of(answer: &Value) -> &'static Kind {
    let text = |field: &str| answer[field].as_str().expect(field).to_owned();
    let group_version = text("groupVersion");
    let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
    kinds::by_resource(group, version, &text("plural")).expect("a built-in kind")
}

/// What admission and allocation add, which is no business of a kind's.
fn without_admission(kind: &Kind, mut object: Value) -> Value {
    let mut drop = |pointer: &str, field: &str| {
        if let Some(fields) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
            fields.remove(field);
        }
    };
    match &*kind.names.kind {
        "Pod" => {
            for field in ["tolerations", "serviceAccount", "serviceAccountName", "priority", "preemptionPolicy"] {
                drop("/spec", field);
            }
        }
        "Service" => {
            for field in ["clusterIPs", "clusterIP", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
                drop("/spec", field);
            }
        }
        "CertificateSigningRequest" => {
            for field in ["username", "groups", "uid", "extra"] {
                drop("/spec", field);
            }
        }
        "CustomResourceDefinition" | "APIService" => {
            drop("", "status");
            drop("/metadata", "finalizers");
        }
        "Node" => drop("/spec", "taints"),
        "PersistentVolumeClaim" | "PersistentVolume" | "ServiceCIDR" | "VolumeAttributesClass" => {
            drop("/metadata", "finalizers")
        }
        _ => {}
    }
    object
}

fn differences(ours: &Value, theirs: &Value, path: &str, into: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(our), Value::Object(their)) => {
            let names: std::collections::BTreeSet<&String> = our.keys().chain(their.keys()).collect();
            for name in names {
                match (our.get(name), their.get(name)) {
                    (Some(our), Some(their)) => differences(our, their, &format!("{path}.{name}"), into),
                    (our, their) => into.push(format!("{path}.{name}: ours {our:?}, upstream's {their:?}")),
                }
            }
        }
        (Value::Array(our), Value::Array(their)) if our.len() == their.len() => {
            for (index, (our, their)) in our.iter().zip(their).enumerate() {
                differences(our, their, &format!("{path}[{index}]"), into);
            }
        }
        _ if ours == theirs => {}
        _ => into.push(format!("{path}: ours {ours}, upstream's {theirs}")),
    }
}

#[test]
fn created_objects_are_as_upstream_stores_them() {
    let mut complaints = Vec::new();
    for answer in answers() {
        let kind = kind_of(&answer);
        let theirs = &answer["created"];
        let bytes = serde_json::to_vec(&answer["sent"]).expect("encodes");
        let mut object = machinery::decode::json(&bytes, Some(&kind.schema())).expect("decodes").value;
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.names.kind);
        if kind.namespaced() {
            object["metadata"]["namespace"] = json!("kdiff");
        }
        kind.default(&mut object);
        let now: Timestamp = theirs["metadata"]["creationTimestamp"].as_str().expect("time").parse().expect("time");
        let uid = theirs["metadata"]["uid"].as_str().expect("uid");
        kind.prepare_for_create(&mut object, &Fresh { now, uid, suffix: "abcde" });
        let name = answer["name"].as_str().expect("name");
        let mut admitted = object.clone();
        if kind.names.kind == "Pod" {
            admitted["spec"]["serviceAccountName"] = theirs["spec"]["serviceAccountName"].clone();
        }
        let errors = kind.validate(&admitted, None);
        assert!(errors.is_empty(), "{name}: {errors}");
        let (ours, theirs) = (without_admission(kind, object), without_admission(kind, theirs.clone()));
        let mut found = Vec::new();
        differences(&ours, &theirs, "", &mut found);
        complaints.extend(found.into_iter().map(|difference| format!("{name}{difference}")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Ages of some seconds depend on when the row was made.
fn is_seconds(cell: &Value) -> bool {
    let digits = cell.as_str().and_then(|text| text.strip_suffix('s'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[test]
fn rows_are_as_upstream_shows_them() {
    let mut complaints = Vec::new();
    for answer in answers() {
        let kind = kind_of(&answer);
        let name = answer["name"].as_str().expect("name");
        let object = if answer["object"].is_null() { &answer["created"] } else { &answer["object"] };
        let columns: Vec<Value> = kind.columns().iter().map(|c| json!([c.name, c.of, c.format, c.priority])).collect();
        if json!(columns) != answer["columns"] {
            complaints.push(format!("{name}: columns {columns:?}, upstream's {}", answer["columns"]));
            continue;
        }
        let now: Timestamp = answer["now"].as_str().expect("now").parse().expect("now");
        for (at, (our, their)) in
            kind.cells(object, now).iter().zip(answer["cells"].as_array().expect("cells")).enumerate()
        {
            if our != their && !(is_seconds(our) && is_seconds(their)) {
                complaints.push(format!("{name}: {} is {our}, upstream's {their}", columns[at][0]));
            }
        }
        let conditions = json!(kind.row_conditions(object));
        if conditions != answer["conditions"] {
            complaints.push(format!("{name}: conditions {conditions}, upstream's {}", answer["conditions"]));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_stored_kind_has_an_answer() {
    let answers = answers();
    let asked: Vec<&Kind> = answers.iter().map(kind_of).collect();
    let silent: Vec<&str> = kinds::KINDS
        .iter()
        .filter(|kind| !kind.storage_prefix.is_empty() && !asked.iter().any(|asked| std::ptr::eq(*asked, **kind)))
        .map(|kind| &*kind.names.kind)
        .collect();
    // A pod's certificate request is a kubelet's to make.
    assert_eq!(silent, ["PodCertificateRequest"]);
}
