use serde_json::json;

use super::*;

fn schema(spec: Value) -> Schema {
    let whole = json!({"type": "object", "properties": {"spec": spec}});
    parse(&whole, &Path::new("schema")).unwrap()
}

fn errors(spec: Value, value: Value) -> String {
    schema(spec).validate(&json!({"spec": value}), None).to_string()
}

#[test]
fn messages_of_checks() {
    let spec = json!({
        "type": "object", "required": ["must"],
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 10},
            "s": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
            "e": {"type": "string", "enum": ["a", "b"]},
            "l": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
            "t": {"type": "string", "format": "date-time"},
            "must": {"type": "boolean"},
        },
    });
    let error = |value: Value| errors(spec.clone(), value);
    insta::assert_snapshot!(error(json!({})), @"spec.must: Required value");
    insta::assert_snapshot!(error(json!({"must": "x"})), @r#"spec.must: Invalid value: "string": spec.must in body must be of type boolean: "string""#);
    insta::assert_snapshot!(error(json!({"must": true, "n": 11})), @"spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10");
    insta::assert_snapshot!(error(json!({"must": true, "n": 0})), @"spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1");
    insta::assert_snapshot!(error(json!({"must": true, "s": "a"})), @r#"spec.s: Invalid value: "a": spec.s in body should be at least 2 chars long"#);
    insta::assert_snapshot!(error(json!({"must": true, "s": "aaaaa"})), @"spec.s: Too long: may not be more than 4 bytes");
    insta::assert_snapshot!(error(json!({"must": true, "s": "AA"})), @r#"spec.s: Invalid value: "AA": spec.s in body should match '^[a-z]+$'"#);
    insta::assert_snapshot!(error(json!({"must": true, "e": "c"})), @r#"spec.e: Unsupported value: "c": supported values: "a", "b""#);
    insta::assert_snapshot!(error(json!({"must": true, "l": ["a", "b"]})), @"spec.l: Too many: 2: must have at most 1 item");
    insta::assert_snapshot!(error(json!({"must": true, "l": [1]})), @r#"spec.l[0]: Invalid value: "integer": spec.l[0] in body must be of type string: "integer""#);
    insta::assert_snapshot!(error(json!({"must": true, "t": "x"})), @r#"spec.t: Invalid value: "x": spec.t in body must be of type date-time: "x""#);
    assert_eq!(error(json!({"must": true, "n": 1.0})), "");
    insta::assert_snapshot!(error(json!({"must": null})), @r#"spec.must: Invalid value: "null": spec.must in body must be of type boolean: "null""#);
}

#[test]
fn junctors() {
    let spec = json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "integer"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "not": {"properties": {"c": {"minimum": 5}}, "required": ["c"]},
    });
    insta::assert_snapshot!(errors(spec.clone(), json!({})), @r#"[<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid, spec.a: Required value]"#);
    insta::assert_snapshot!(errors(spec.clone(), json!({"a": "", "b": ""})), @r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#);
    insta::assert_snapshot!(errors(spec.clone(), json!({"a": "", "c": 7})), @r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#);
    assert_eq!(errors(spec, json!({"a": "", "c": 1})), "");
}

#[test]
fn sets_and_maps() {
    let spec = json!({
        "type": "object",
        "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            },
        },
    });
    insta::assert_snapshot!(errors(spec.clone(), json!({"set": ["a", "b", "a", "a"]})), @r#"spec.set[2]: Duplicate value: "a""#);
    insta::assert_snapshot!(errors(spec, json!({"map": [{"name": "a"}, {"name": "a"}]})), @r#"spec.map[1]: Duplicate value: {"name":"a"}"#);
}

#[test]
fn updates_check_only_what_changes() {
    let schema = schema(
        json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "integer"}}}),
    );
    let old = json!({"spec": {"a": "long", "b": 1}});
    assert!(schema.validate(&json!({"spec": {"a": "long", "b": 2}}), Some(&old)).is_empty());
    assert_eq!(schema.validate(&json!({"spec": {"a": "longer"}}), Some(&old)).len(), 1);
}

#[test]
fn int_or_string_and_nullable() {
    let spec = json!({
        "type": "object",
        "properties": {
            "i": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "n": {"type": "string", "nullable": true},
        },
    });
    assert_eq!(errors(spec.clone(), json!({"i": 1, "n": null})), "");
    assert_eq!(errors(spec.clone(), json!({"i": "1"})), "");
    insta::assert_snapshot!(errors(spec, json!({"i": true})), @r#"[spec.i: Invalid value: "boolean": spec.i in body must be of type integer,string: "boolean", <nil>: Invalid value: "": "spec.i" must validate at least one schema (anyOf), spec.i: Invalid value: "boolean": spec.i in body must be of type integer: "boolean"]"#);
}

#[test]
fn schemas_must_be_structural() {
    let refused = |schema: Value| parse(&schema, &Path::new("s")).unwrap_err().to_string();
    insta::assert_snapshot!(refused(json!({})), @"s.type: Required value: must not be empty at the root");
    insta::assert_snapshot!(refused(json!({"type": "object", "properties": {"a": {}}})), @"s.properties[a].type: Required value: must not be empty for specified object fields");
    insta::assert_snapshot!(refused(json!({"type": "object", "properties": {"a": {"type": "array"}}})), @"s.properties[a].items: Required value: must be specified");
    insta::assert_snapshot!(refused(json!({"type": "object", "additionalProperties": true})), @"s.additionalProperties: Forbidden: must not be used at the root");
    insta::assert_snapshot!(refused(json!({"type": "object", "anyOf": [{"type": "object"}, {"properties": {"x": {"minimum": 1}}}]})), @"[s.anyOf[0].type: Forbidden: must be empty to be structural, s.properties[x]: Required value: because it is defined in s.anyOf[1].properties[x]]");
    insta::assert_snapshot!(refused(json!({"type": "object", "properties": {"m": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}})), @"s.properties[m].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map");
    insta::assert_snapshot!(refused(json!({"type": "object", "properties": {"a": {"type": "string", "default": 1}}})), @r#"s.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#);
    insta::assert_snapshot!(refused(json!({"type": "object", "properties": {"a": {"type": "text"}}})), @r#"s.properties[a].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#);
}

#[test]
fn object_metadata_is_added() {
    let meta = Schema::object(None, [("name", Schema::string())]);
    let schema = schema(json!({"type": "object"})).with_object_meta(&meta);
    assert!(schema.at(&["metadata", "name"]).is_some());
    let mut value = json!({"apiVersion": "v1", "metadata": {"name": "a", "other": 1}, "spec": {"x": 1}});
    assert_eq!(schema.prune(&mut value), ["spec.x"]);
}
