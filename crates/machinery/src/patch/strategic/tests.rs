use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::ListKind;

fn schema() -> Schema {
    let merge_by = |key: &'static str| {
        move |node: &mut crate::schema::Node| {
            node.patch = Patch { merge: true, merge_key: Some(key.into()), ..Patch::default() };
        }
    };
    let env = Schema::object(Some("EnvVar"), [("name", Schema::string()), ("value", Schema::string())]);
    let container = Schema::object(
        Some("Container"),
        [
            ("name", Schema::string()),
            ("image", Schema::string()),
            ("env", Schema::list(env, ListKind::Map(vec!["name".into()])).with(merge_by("name"))),
            ("args", Schema::list(Schema::string(), ListKind::Atomic)),
        ],
    );
    let strategy = Schema::object(Some("Strategy"), [("type", Schema::string()), ("rollingUpdate", Schema::any())])
        .with(|node| node.patch.retain_keys = true);
    let finalizers = Schema::list(Schema::string(), ListKind::Set).with(|node| node.patch.merge = true);
    Schema::object(
        Some("Thing"),
        [
            ("containers", Schema::list(container, ListKind::Map(vec!["name".into()])).with(merge_by("name"))),
            ("strategy", strategy),
            ("finalizers", finalizers),
            ("labels", Schema::map(Schema::string())),
        ],
    )
}

fn patched(object: Value, patch: Value) -> Value {
    apply(&object, &patch, &schema()).unwrap()
}

fn names(object: &Value) -> Vec<&str> {
    object["containers"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn merges_lists_by_key() {
    let object = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["p"]}, {"name": "b"}]});
    let patch =
        json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y"}], "args": ["q"]}, {"name": "c"}]});
    let out = patched(object, patch);
    assert_eq!(names(&out), ["a", "c", "b"]);
    assert_eq!(
        out["containers"][0],
        json!({"name": "a", "image": "2", "env": [{"name": "Y"}, {"name": "X", "value": "1"}], "args": ["q"]})
    );
}

#[test]
fn directives_on_items() {
    let object = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(
        patched(object.clone(), json!({"containers": [{"$patch": "delete", "name": "a"}]})),
        json!({"containers": [{"name": "b"}]})
    );
    assert_eq!(
        patched(object.clone(), json!({"containers": [{"$patch": "replace"}, {"name": "z"}]})),
        json!({"containers": [{"name": "z"}]})
    );
    let error = apply(&object, &json!({"containers": [{"image": "x"}]}), &schema()).unwrap_err();
    assert_eq!(error.message, "map: map[image:x] does not contain declared merge key: name");
}

#[test]
fn directives_on_objects() {
    let object = json!({"labels": {"a": "1"}, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"x": 1}}});
    assert_eq!(
        patched(object.clone(), json!({"labels": {"$patch": "replace", "b": "2"}}))["labels"],
        json!({"b": "2"})
    );
    assert_eq!(patched(object.clone(), json!({"labels": {"$patch": "delete"}}))["labels"], json!({}));
    assert_eq!(
        patched(object.clone(), json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}))["strategy"],
        json!({"type": "Recreate"})
    );
    let error = apply(&object, &json!({"strategy": {"$retainKeys": [], "type": "Recreate"}}), &schema()).unwrap_err();
    assert_eq!((error.code(), error.message.as_str()), (400, "invalid patch format of retainKeys"));
    assert_eq!(apply(&object, &json!({"labels": {"$patch": "x"}}), &schema()).unwrap_err().code(), 500);
}

#[test]
fn primitive_lists() {
    let object = json!({"finalizers": ["a", "b", "c"]});
    assert_eq!(patched(object.clone(), json!({"finalizers": ["d", "b"]}))["finalizers"], json!(["d", "a", "b", "c"]));
    assert_eq!(
        patched(
            object,
            json!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "a"]})
        )["finalizers"],
        json!(["c", "a"])
    );
}

#[test]
fn element_order() {
    let object = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "server"}]});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
        "containers": [{"name": "new"}, {"name": "a", "image": "1"}],
    });
    assert_eq!(names(&patched(object.clone(), patch)), ["b", "new", "a", "server"]);
    let bad = json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]});
    assert!(apply(&object, &bad, &schema()).unwrap_err().message.starts_with("The order in patch list"));
}

#[test]
fn nulls_remove_and_new_values_lose_their_directives() {
    let object = json!({"labels": {"a": "1"}});
    assert_eq!(patched(object.clone(), json!({"labels": null})), json!({}));
    let patch = json!({"containers": [{"name": "x", "image": null}, {"$patch": "delete", "name": "y"}]});
    assert_eq!(patched(object, patch), json!({"labels": {"a": "1"}, "containers": [{"name": "x"}]}));
}

proptest! {
    #[test]
    fn order_holds_each_item_once(old in prop::collection::btree_set(0u8..8, 0..6),
                                  new in prop::collection::btree_set(0u8..8, 0..6)) {
        let list = |set: &std::collections::BTreeSet<u8>| -> Vec<Value> {
            set.iter().map(|n| json!({"name": n.to_string()})).collect()
        };
        let out = patched(json!({"containers": list(&old)}), json!({"containers": list(&new)}));
        let mut found: Vec<u8> = out["containers"].as_array().unwrap().iter()
            .map(|item| item["name"].as_str().unwrap().parse().unwrap()).collect();
        found.sort_unstable();
        let all: Vec<u8> = old.union(&new).copied().collect();
        prop_assert_eq!(found, all);
    }
}
