use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::{ListKind, Shape};

fn deployment() -> Schema {
    let port = Schema::object(Some("ContainerPort"), [("containerPort", Schema::int32()), ("name", Schema::string())]);
    let container = Schema::object(
        Some("Container"),
        [
            ("name", Schema::string()),
            ("command", Schema::list(Schema::string(), ListKind::Atomic)),
            ("ports", Schema::list(port, ListKind::Map(vec!["containerPort".into()]))),
            ("limits", Schema::map(Schema::from(Shape::Quantity))),
        ],
    );
    let spec = Schema::object(
        Some("DeploymentSpec"),
        [
            ("replicas", Schema::int32()),
            ("maxSurge", Schema::from(Shape::IntOrString)),
            ("containers", Schema::list(container, ListKind::Map(vec!["name".into()]))),
            ("raw", Schema::any()),
            ("at", Schema::from(Shape::Time)),
        ],
    );
    let labels = Schema::map(Schema::string());
    let meta = Schema::object(Some("ObjectMeta"), [("name", Schema::string()), ("labels", labels)]);
    Schema::object(Some("Deployment"), [("kind", Schema::string()), ("metadata", meta), ("spec", spec)])
}

fn typed(text: &str) -> Result<Decoded, DecodeError> {
    json(text.as_bytes(), Some(&deployment()))
}

fn complaint(text: &str) -> String {
    strict_error(&typed(text).unwrap().problems).unwrap_or_default()
}

#[test]
fn strict_problems_in_order_of_the_text() {
    assert_eq!(
        complaint(
            r#"{"zed":1,"spec":{"replicas":1,"foo":2,"replicas":2,"containers":[{"name":"a"},{"bar":1}]},"metadata":{"labels":{"a":"b","a":"c"}}}"#
        ),
        r#"strict decoding error: unknown field "zed", unknown field "spec.foo", duplicate field "spec.replicas", unknown field "spec.containers[1].bar", duplicate field "metadata.labels.a""#
    );
    assert_eq!(complaint(r#"{"spec":{"raw":{"a":1,"a":2}}}"#), "");
    let decoded = typed(r#"{"spec":{"foo":1,"replicas":1,"replicas":2}}"#).unwrap();
    assert_eq!(decoded.value, json!({"spec": {"replicas": 2}}));
}

#[test]
fn wrong_types_as_go_words_them() {
    let error = |text: &str| typed(text).unwrap_err().to_string();
    assert_eq!(
        error(r#"{"spec":{"replicas":"3"}}"#),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        error(r#"{"spec":{"replicas":1.5}}"#),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        error(r#"{"spec":{"containers":[{"name":1}]}}"#),
        "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string"
    );
    assert_eq!(
        error(r#"{"spec":{"containers":{}}}"#),
        "json: cannot unmarshal object into Go struct field DeploymentSpec.spec.containers of type []v1.Container"
    );
    assert_eq!(
        error(r#"{"metadata":{"labels":{"a":true}}}"#),
        "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string"
    );
    assert_eq!(
        error(r#"{"spec":{"maxSurge":[]}}"#),
        "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.maxSurge of type int32"
    );
    assert_eq!(error("[]"), "json: cannot unmarshal array into Go value of type v1.Deployment");
    assert!(error(r#"{"spec":{"containers":[{"limits":{"cpu":"x"}}]}}"#).starts_with("quantities must match"));
}

#[test]
fn values_take_their_canonical_form() {
    let decoded = typed(
        r#"{"spec":{"replicas":null,"maxSurge":"25%","at":"2026-01-02T03:04:05.678+01:00",
            "containers":[{"name":"a","limits":{"cpu":0.5,"memory":"1024Mi"}}]}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.value["spec"],
        json!({"maxSurge": "25%", "at": "2026-01-02T02:04:05Z",
               "containers": [{"name": "a", "limits": {"cpu": "500m", "memory": "1Gi"}}]})
    );
}

#[test]
fn syntax_errors_as_go_words_them() {
    let error = |text: &str| json(text.as_bytes(), None).unwrap_err().to_string();
    assert_eq!(error(""), "unexpected end of JSON input");
    assert_eq!(error("{"), "unexpected end of JSON input");
    assert_eq!(error("{a"), "invalid character 'a' looking for beginning of object key string");
    assert_eq!(error("{\"a\" 1"), "invalid character '1' after object key");
    assert_eq!(error("{\"a\":1 2"), "invalid character '2' after object key:value pair");
    assert_eq!(error("[1 2"), "invalid character '2' after array element");
    assert_eq!(error("1 2"), "invalid character '2' after top-level value");
    assert_eq!(error("trux"), "invalid character 'x' in literal true (expecting 'e')");
    assert_eq!(error("\"\n\""), "invalid character '\\n' in string literal");
    assert_eq!(error("-a"), "invalid character 'a' in numeric literal");
    assert_eq!(error(&"[".repeat(600)), "exceeded max depth");
}

#[test]
fn yaml_decodes_to_the_same() {
    let decoded = yaml(b"spec:\n  replicas: 2\n  foo: 1\n---\nkind: Other\n", Some(&deployment())).unwrap();
    assert_eq!(decoded.value, json!({"spec": {"replicas": 2}}));
    assert_eq!(decoded.problems, [Problem::Unknown("spec.foo".into())]);
    assert!(yaml(b"a: [", None).is_err());
    assert_eq!(yaml(b"1: true", None).unwrap().value, json!({"1": true}));
}

#[test]
fn a_merge_brings_fields_and_what_is_written_after_it_prevails() {
    let text = "base: &a {x: 1, y: 1}\nmore: &b {y: 2, z: 2}\none: {<<: *a, y: 3}\nboth: {<<: [*a, *b]}\n";
    let decoded = yaml(text.as_bytes(), None).unwrap();
    assert_eq!(decoded.value["one"], json!({"x": 1, "y": 3}));
    assert_eq!(decoded.value["both"], json!({"x": 1, "y": 1, "z": 2}));
    let wrong = yaml(b"a: 1\nb: {<<: text}\n", None).unwrap_err().to_string();
    assert!(wrong.ends_with("yaml: map merge requires map or sequence of maps as the value"), "{wrong}");
}

#[test]
fn repeats_in_yaml_are_told_by_line() {
    let text = "kind: a\nspec:\n  foo: 1\n  bar: {x: 1, x: 2}\n  foo: 2\nkind: b\nlist:\n- 1: a\n  1: b\n- 1: c\nspec:\n  new: 1\n  new: 2\n---\na: 1\na: 2\n";
    let decoded = yaml(text.as_bytes(), None).unwrap();
    assert_eq!(decoded.value, json!({"kind": "b", "list": [{"1": "b"}, {"1": "c"}], "spec": {"new": 2}}));
    let words = "yaml: unmarshal errors:\n  line 4: key \"x\" already set in map\n  line 5: key \"foo\" already set in map\n  \
                 line 6: key \"kind\" already set in map\n  line 9: key 1 already set in map\n  \
                 line 13: key \"new\" already set in map\n  line 12: key \"spec\" already set in map";
    assert_eq!(repeats_error(&decoded.problems).unwrap(), words);
    assert_eq!(strict_error(&decoded.problems).unwrap(), format!("strict decoding error: {words}"));
}

#[test]
fn unknown_fields_of_yaml_follow_its_repeats() {
    let decoded = yaml(b"spec:\n  zoo: 1\n  replicas: 2\n  bar: 1\n  replicas: 3\n", Some(&deployment())).unwrap();
    assert_eq!(decoded.value, json!({"spec": {"replicas": 3}}));
    let words = "strict decoding error: yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map, \
                 unknown field \"spec.bar\", unknown field \"spec.zoo\"";
    assert_eq!(strict_error(&decoded.problems).unwrap(), words);
}

#[test]
fn untyped_keeps_the_last_of_a_repeat() {
    let decoded = json(br#"{"a":{"b":1,"b":2},"c":1.0,"d":12345678901234567890}"#, None).unwrap();
    assert_eq!(decoded.value, json!({"a": {"b": 2}, "c": 1.0, "d": 1.234_567_890_123_456_8e19}));
    assert_eq!(decoded.problems, [Problem::Duplicate("a.b".into())]);
}

proptest! {
    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}\",:0-9a-z \\\\.eu-]{0,24}") {
        if let (Ok(ours), Ok(theirs)) = (json(text.as_bytes(), None), serde_json::from_str::<Value>(&text)) {
            prop_assert_eq!(ours.value, theirs);
        }
        // Go takes lone surrogates, serde_json does not: only what serde_json takes must be taken.
        if serde_json::from_str::<Value>(&text).is_ok() {
            prop_assert!(json(text.as_bytes(), None).is_ok());
        }
    }
}
