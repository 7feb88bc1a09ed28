use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{ListKind, Schema, Shape};

fn string_map() -> Schema {
    Schema::map(Schema::string())
}

fn schema() -> Schema {
    let protocol = Schema::string().with(|node| node.default = Some(json!("TCP")));
    let port = Schema::object(
        Some("ContainerPort"),
        [("containerPort", Schema::int32()), ("protocol", protocol), ("name", Schema::string())],
    );
    let ports = Schema::list(port, ListKind::Map(vec!["containerPort".into(), "protocol".into()]));
    let container = Schema::object(
        Some("Container"),
        [
            ("name", Schema::string()),
            ("image", Schema::string()),
            ("args", Schema::list(Schema::string(), ListKind::Atomic)),
            ("ports", ports),
        ],
    );
    let selector =
        Schema::object(Some("LabelSelector"), [("matchLabels", string_map())]).with(|n| n.atomic = Some(true));
    let spec = Schema::object(
        Some("DeploymentSpec"),
        [
            ("replicas", Schema::int32()),
            ("selector", selector),
            ("containers", Schema::list(container, ListKind::Map(vec!["name".into()]))),
            ("free", Schema::any()),
        ],
    );
    let meta = Schema::object(
        Some("ObjectMeta"),
        [
            ("name", Schema::string()),
            ("namespace", Schema::string()),
            ("uid", Schema::string()),
            ("labels", string_map()),
            ("annotations", string_map()),
            ("finalizers", Schema::list(Schema::string(), ListKind::Set)),
            ("managedFields", Schema::list(Schema::any(), ListKind::Atomic)),
        ],
    );
    let status = Schema::object(Some("DeploymentStatus"), [("replicas", Schema::int32())]);
    Schema::object(
        Some("Deployment"),
        [
            ("apiVersion", Schema::string()),
            ("kind", Schema::string()),
            ("metadata", meta),
            ("spec", spec),
            ("status", status),
        ],
    )
}

/// An object under test, and its clock.
struct Cluster {
    schema: Schema,
    gvk: GroupVersionKind,
    object: Value,
    second: i64,
}

impl Cluster {
    fn new() -> Self {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        Self { schema: schema(), gvk: GroupVersionKind::new("apps", "v1", "Deployment"), object, second: 0 }
    }

    fn full(body: Value) -> Value {
        let mut object =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}});
        for (name, value) in body.as_object().unwrap() {
            if name == "metadata" {
                object["metadata"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            } else {
                object[name] = value.clone();
            }
        }
        object
    }

    fn write<'a>(&'a self, manager: &'a str, subresource: &'a str, reset: &'a FieldSet) -> Write<'a> {
        let now = jiff::Timestamp::from_second(self.second).unwrap();
        Write { manager, subresource, gvk: &self.gvk, schema: &self.schema, reset, now }
    }

    fn try_apply(&mut self, manager: &str, body: Value, force: bool) -> Result<(), Status> {
        self.second += 1;
        let reset = FieldSet::of_fields(&[&["status"]]);
        let out = apply(&self.object, &Self::full(body), &self.write(manager, "", &reset), force)?;
        self.store(out);
        Ok(())
    }

    fn apply(&mut self, manager: &str, body: Value) -> &mut Self {
        self.try_apply(manager, body, false).unwrap();
        self
    }

    fn update(&mut self, manager: &str, subresource: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        self.second += 1;
        let mut new = self.object.clone();
        change(&mut new);
        let reset = if subresource.is_empty() { FieldSet::of_fields(&[&["status"]]) } else { FieldSet::new() };
        update(&self.object, &mut new, &self.write(manager, subresource, &reset));
        self.store(new);
        self
    }

    /// As the server: nulls go, and a stored object has a uid.
    fn store(&mut self, object: Value) {
        self.object = crate::decode::value(object, &self.schema).unwrap().value;
        crate::object::set_uid(&mut self.object, "u");
    }

    /// The managers, an entry a line.
    fn owners(&self) -> String {
        let entries = self.object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let line = |entry: &Value| {
            let text = |name: &str| entry[name].as_str().unwrap_or("").to_owned();
            let sub = text("subresource");
            let sub = if sub.is_empty() { sub } else { format!("/{sub}") };
            let time = text("time");
            format!(
                "{} {}{sub} {} {}",
                text("operation"),
                text("manager"),
                &time[17.min(time.len())..],
                entry["fieldsV1"]
            )
        };
        entries.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn first_apply_owns_what_it_names() {
    let mut cluster = Cluster::new();
    cluster.apply(
        "a",
        json!({
            "metadata": {"labels": {"x": "1"}, "finalizers": ["f/1"]},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"x": "1"}},
                "containers": [{"name": "c", "image": "i", "args": ["1"], "ports": [{"containerPort": 80}]}],
            },
        }),
    );
    insta::assert_snapshot!(cluster.owners(), @r#"Apply a 01Z {"f:metadata":{"f:finalizers":{"v:\"f/1\"":{}},"f:labels":{"f:x":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:replicas":{},"f:selector":{}}}"#);
}

#[test]
fn conflicts_are_refused_unless_forced() {
    let mut cluster = Cluster::new();
    cluster.apply("a", json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "1"}]}}));
    cluster.update("kubectl-client-side-apply", "", |object| object["spec"]["replicas"] = json!(3));
    let error = cluster.try_apply("a", json!({"spec": {"replicas": 1}}), false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let details = error.details.as_ref().unwrap();
    assert_eq!(details.causes[0].reason, "FieldManagerConflict");
    assert_eq!(details.causes[0].message, "conflict with \"kubectl-client-side-apply\" using apps/v1");
    assert_eq!(details.causes[0].field, ".spec.replicas");

    let body = json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "2"}]}});
    let error = cluster.try_apply("b", body.clone(), false).unwrap_err();
    insta::assert_snapshot!(error.message, @r#"
    Apply failed with 2 conflicts: conflicts with "a":
    - .spec.containers[name="c"].image
    conflicts with "kubectl-client-side-apply" using apps/v1:
    - .spec.replicas
    "#);
    cluster.try_apply("b", body, true).unwrap();
    assert_eq!(cluster.object["spec"]["replicas"], 1);
    insta::assert_snapshot!(cluster.owners(), @r#"
    Apply a 01Z {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{}}}}}
    Apply b 05Z {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}},"f:replicas":{}}}
    "#);
}

#[test]
fn fields_no_longer_applied_go_unless_shared() {
    let mut cluster = Cluster::new();
    cluster.apply("a", json!({"metadata": {"labels": {"x": "1", "y": "1"}}, "spec": {"replicas": 1}}));
    cluster.apply("b", json!({"metadata": {"labels": {"x": "1"}}}));
    cluster.apply("a", json!({"spec": {"replicas": 1}}));
    assert_eq!(cluster.object["metadata"]["labels"], json!({"x": "1"}));
    cluster.apply("b", json!({}));
    assert!(cluster.object["metadata"].get("labels").is_none());
    assert_eq!(cluster.object["spec"], json!({"replicas": 1}));
}

#[test]
fn an_item_goes_with_its_last_applier() {
    let both = json!({"spec": {"containers": [{"name": "c", "image": "1"}, {"name": "d", "image": "1"}]}});
    let one = json!({"spec": {"containers": [{"name": "d", "image": "1"}]}});
    // A field somebody wrote in it does not keep an item that nobody names any more.
    let mut cluster = Cluster::new();
    cluster.apply("a", both.clone());
    cluster.update("u", "", |object| object["spec"]["containers"][0]["args"] = json!(["x"]));
    cluster.apply("a", one.clone());
    assert_eq!(cluster.object["spec"]["containers"], json!([{"name": "d", "image": "1"}]));
    // Another applier's own item stays, with its own fields.
    let mut cluster = Cluster::new();
    cluster.apply("a", both);
    cluster.apply("b", json!({"spec": {"containers": [{"name": "c", "args": ["x"]}]}}));
    cluster.apply("a", one);
    assert_eq!(
        cluster.object["spec"]["containers"],
        json!([{"name": "c", "args": ["x"]}, {"name": "d", "image": "1"}])
    );
}

#[test]
fn updates_take_ownership_of_what_they_change() {
    let mut cluster = Cluster::new();
    cluster.object = Value::Null;
    cluster.update("creator", "", |object| {
        *object = Cluster::full(json!({"spec": {"replicas": 1, "free": {"a": {"b": [1]}}}, "status": {"replicas": 1}}));
    });
    cluster.update("scaler", "scale", |object| object["spec"]["replicas"] = json!(2));
    cluster.update("controller", "status", |object| object["status"]["replicas"] = json!(2));
    cluster.update("creator", "", |_| {});
    insta::assert_snapshot!(cluster.owners(), @r#"
    Update creator 01Z {"f:spec":{".":{},"f:free":{".":{},"f:a":{".":{},"f:b":{}}}}}
    Update scaler/scale 02Z {"f:spec":{"f:replicas":{}}}
    Update controller/status 03Z {"f:status":{"f:replicas":{}}}
    "#);
    // Removing a field removes it from everybody.
    cluster.update("cleaner", "", |object| {
        object["spec"].as_object_mut().unwrap().remove("free");
    });
    insta::assert_snapshot!(cluster.owners(), @r#"
    Update creator 01Z {"f:spec":{}}
    Update scaler/scale 02Z {"f:spec":{"f:replicas":{}}}
    Update controller/status 03Z {"f:status":{"f:replicas":{}}}
    "#);
}

#[test]
fn a_writer_may_forget_ownership() {
    let mut cluster = Cluster::new();
    cluster.apply("a", json!({"spec": {"replicas": 1}}));
    cluster.update("u", "", |object| object["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(cluster.owners(), "");
    // Nothing is recorded until somebody applies; then what was there is `before-first-apply`'s.
    cluster.update("u", "", |object| object["spec"]["replicas"] = json!(5));
    assert_eq!(cluster.owners(), "");
    let error = cluster.try_apply("a", json!({"spec": {"replicas": 1}}), false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn old_update_managers_are_put_together() {
    let mut cluster = Cluster::new();
    cluster.apply("a", json!({"spec": {"replicas": 1}}));
    for n in 0..13 {
        cluster.update(&format!("m{n:02}"), "", |object| {
            crate::object::labels_mut(object).insert(format!("l{n:02}"), json!("x"));
        });
    }
    let owners = cluster.owners();
    assert_eq!(owners.lines().filter(|line| line.starts_with("Update")).count(), UPDATE_MANAGERS_MAX);
    insta::assert_snapshot!(owners.lines().nth(1).unwrap(), @r#"Update ancient-changes 05Z {"f:metadata":{"f:labels":{".":{},"f:l00":{},"f:l01":{},"f:l02":{},"f:l03":{}}}}"#);
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.apply("a", json!({"spec": {"replicas": 1}}));
    let before = cluster.object.clone();
    cluster.apply("a", json!({"spec": {"replicas": 1}}));
    assert_eq!(cluster.object, before);
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut cluster = Cluster::new();
    cluster.object = Value::Null;
    let last = Cluster::full(json!({"spec": {"replicas": 1}}));
    cluster.update("kubectl-client-side-apply", "", |object| {
        *object = last.clone();
        crate::object::annotations_mut(object).insert(LAST_APPLIED.into(), json!(last.to_string()));
    });
    cluster.try_apply("kubectl", json!({"spec": {"replicas": 2}}), false).unwrap();
    assert_eq!(cluster.object["spec"]["replicas"], 2);
    let annotation = crate::object::annotation(&cluster.object, LAST_APPLIED).unwrap();
    assert!(annotation.contains("\"replicas\":2") && annotation.ends_with('\n'));
    assert_eq!(cluster.try_apply("other", json!({"spec": {"replicas": 3}}), false).unwrap_err().code(), 409);
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let mut cluster = Cluster::new();
    let mut refusal = |body: Value| cluster.try_apply("a", body, false).unwrap_err().message;
    let head = "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): ";
    assert_eq!(refusal(json!({"spec": {"foo": 1}})), format!("{head}.spec.foo: field not declared in schema"));
    assert_eq!(
        refusal(json!({"spec": {"replicas": "x"}})),
        format!("{head}.spec.replicas: expected numeric (int or float), got string")
    );
    assert_eq!(
        refusal(json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}})),
        format!("{head}.spec.containers: duplicate entries for key [name=\"a\"]")
    );
    assert!(refusal(json!({"spec": {"containers": [{}]}})).contains("omits all key fields [\"name\"]"));
    assert_eq!(refusal(json!({"metadata": {"managedFields": []}})), "metadata.managedFields must be nil");
    assert_eq!(refusal(json!({"kind": "Pod"})), "invalid object type: apps/v1, Kind=Pod");
}

#[test]
fn order_of_lists_follows_the_configuration() {
    let names = |object: &Value| -> String {
        let list = object["spec"]["containers"].as_array().unwrap();
        list.iter().map(|item| item["name"].as_str().unwrap()).collect()
    };
    let list = |names: &str| -> Value { names.chars().map(|name| json!({"name": name.to_string()})).collect() };
    for (live, config, expected) in [("abc", "cd", "abcd"), ("abc", "ca", "bca"), ("ab", "cb", "acb"), ("", "ba", "ba")]
    {
        let live = json!({"spec": {"containers": list(live)}});
        let config = json!({"spec": {"containers": list(config)}});
        assert_eq!(names(&merge::merge(&live, &config, &schema()).unwrap()), expected);
    }
}

#[test]
fn fields_v1_skips_what_it_does_not_know() {
    let fields = json!({"f:a": {".": {}, "v:1": {}, "i:2": {}, "x:y": {}}, "k:{\"b\":1,\"a\":\"x\"}": {}});
    let set = FieldSet::from_fields_v1(&fields).unwrap();
    insta::assert_snapshot!(set, @r#"
    .a
    [a="x",b=1]
    .a[=1]
    .a[2]
    "#);
    assert!(FieldSet::from_fields_v1(&json!({"f": {}})).is_err());
    assert!(FieldSet::from_fields_v1(&json!({"fx": {}})).is_err());
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    let element = prop_oneof![
        "[a-c]".prop_map(PathElement::Field),
        (0i64..3).prop_map(|n| PathElement::Key(vec![("name".into(), Value::from(n))])),
        "[a-b]".prop_map(|text| PathElement::Value(Value::from(text))),
    ];
    prop::collection::vec(prop::collection::vec(element, 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::new();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

fn any_spec() -> impl Strategy<Value = Value> {
    let containers = prop::collection::btree_map("[a-d]", 0u8..3, 0..4).prop_map(|items| -> Value {
        items.into_iter().map(|(name, image)| json!({"name": name, "image": image.to_string()})).collect()
    });
    (prop::option::of(0i32..3), containers, prop::collection::btree_map("[a-c]", "[x-y]", 0..3)).prop_map(
        |(replicas, containers, labels)| {
            let mut spec = json!({"containers": containers});
            if let Some(replicas) = replicas {
                spec["replicas"] = json!(replicas);
            }
            json!({"metadata": {"labels": labels}, "spec": spec})
        },
    )
}

proptest! {
    #[test]
    fn sets_survive_fields_v1(set in any_set()) {
        prop_assert_eq!(FieldSet::from_fields_v1(&set.to_fields_v1()).unwrap().paths(), set.paths());
    }

    #[test]
    fn set_algebra(a in any_set(), b in any_set()) {
        let both = a.intersection(&b);
        prop_assert_eq!(a.difference(&b).union(&both).paths(), a.paths());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&b).paths(), b.union(&a).paths());
    }

    #[test]
    fn comparing_equal_values_finds_nothing(spec in any_spec()) {
        prop_assert!(compare(&spec, &spec, &schema()).is_empty());
    }

    #[test]
    fn a_lone_applier_has_exactly_its_configuration(first in any_spec(), second in any_spec()) {
        let mut cluster = Cluster::new();
        cluster.apply("a", first);
        cluster.apply("a", second.clone());
        let mut fresh = Cluster::new();
        fresh.apply("a", second);
        let bare = |cluster: &Cluster| {
            let mut object = cluster.object.clone();
            strip_managed_fields(&mut object);
            // Empty maps and lists say nothing: what is left of a removed one may be either.
            drop_empty(&mut object);
            if let Some(list) = object.pointer_mut("/spec/containers").and_then(Value::as_array_mut) {
                list.sort_by_key(|item| item["name"].as_str().map(str::to_owned));
            }
            object
        };
        prop_assert_eq!(bare(&cluster), bare(&fresh));
    }

    #[test]
    fn merging_keeps_every_item_once(live in any_spec(), config in any_spec()) {
        let merged = merge::merge(&live, &config, &schema()).unwrap();
        let names = |value: &Value| -> Vec<String> {
            let mut names: Vec<String> = value["spec"]["containers"].as_array().into_iter().flatten()
                .map(|item| item["name"].as_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        let mut expected = names(&live);
        expected.extend(names(&config));
        expected.sort();
        expected.dedup();
        prop_assert_eq!(names(&merged), expected);
    }
}

fn drop_empty(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(drop_empty);
        fields.retain(|_, field| {
            !field.is_null()
                && field.as_object().is_none_or(|o| !o.is_empty())
                && field.as_array().is_none_or(|a| !a.is_empty())
        });
    }
}

#[test]
fn free_form_and_raw_values() {
    let raw = Schema::from(crate::schema::Node { shape: Shape::Any, atomic: Some(true), ..Default::default() });
    let schema = Schema::object(Some("T"), [("raw", raw), ("free", Schema::any())]);
    let set = field_set(&json!({"raw": {"a": 1}, "free": {"a": {"b": 1}, "c": [1]}}), &schema);
    insta::assert_snapshot!(set, @"
    .raw
    .free.a
    .free.c
    .free.a.b
    ");
}
