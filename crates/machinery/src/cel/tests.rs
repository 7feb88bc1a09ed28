use serde_json::json;

use super::*;
use crate::field::Path;
use crate::schema::crd;

fn eval_with(source: &str, value: serde_json::Value) -> Result<Val, CelError> {
    let variables = HashMap::from([("self".to_owned(), Val::from_json(&value))]);
    Program::compile(source)?.eval(&variables, &mut OBJECT_COST_MAX.clone())
}

fn holds(source: &str) -> bool {
    match eval_with(source, json!({"a": 1, "s": "abc", "l": [1, 2, 3], "m": {"x-y": "z", "namespace": "n"}})) {
        Ok(Val::Bool(value)) => value,
        other => panic!("{source}: {other:?}"),
    }
}

fn error(source: &str) -> String {
    eval_with(source, json!({"a": 1})).unwrap_err().to_string()
}

#[test]
fn expressions_hold() {
    for source in [
        "1 + 2 * 3 == 7 && -2 < 1u && 1.0 == 1",
        "self.a == 1 ? true : false",
        "'a' in ['a', 'b'] && !('c' in {'a': 1})",
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x == 3)",
        "self.l.map(x, x * 2) == [2, 4, 6] && self.l.filter(x, x > 1).size() == 2",
        "self.l.map(x, x > 1, x) == [2, 3]",
        "has(self.a) && !has(self.b)",
        "self.m.x__dash__y == 'z' && self.m['x-y'] == 'z' && self.m.__namespace__ == 'n'",
        "self.?b.orValue(3) == 3 && self[?'a'].hasValue() && !self.?b.hasValue()",
        "self.?a.optMap(v, v + 1).orValue(0) == 2 && optional.of(1) == self.?a",
        "self.s.startsWith('a') && self.s.matches('^[a-c]+$') && self.s.size() == 3",
        "self.s.upperAscii() == 'ABC' && 'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'",
        "self.s.substring(1) == 'bc' && self.s.indexOf('c') == 2 && 'aXa'.replace('a', 'b', 1) == 'bXa'",
        "'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1'.find('[0-9]') == '1'",
        "[1, 3, 2].max() == 3 && [1, 2].sum() == 3 && [1, 2].isSorted() && [1, 2].indexOf(2) == 1",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('1')).compareTo(quantity('1.5')) == 0",
        "url('https://a.b:80/p?q=1').getHost() == 'a.b:80' && url('https://a.b:80/p?q=1').getQuery()['q'] == ['1']",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && ip('::1').isLoopback() && ip('1.2.3.4').family() == 4",
        "timestamp('2026-01-02T03:04:05Z') + duration('1h') > timestamp('2026-01-02T03:30:00Z')",
        "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && duration('90m').getHours() == 1",
        "string(1) == '1' && int('7') == 7 && double(1) == 1.0 && type(1) == int && bytes('a') == b'a'",
        "false && (1 / 0 == 1) || true",
        "(1 / 0 == 1) || true",
        "r'\\d' == '\\\\d' && \"\\u0061\" == 'a' && '''a\nb'''.contains('\\n')",
        "[?optional.none(), 1] == [1] && {?'a': self.?b, 'c': 1} == {'c': 1}",
        "'%s has %d of %.2f%%, %x'.format([['a'], 3, 1.5, 255]) == '[a] has 3 of 1.50%, ff'",
        "sets.contains([1, 2], [1]) && 0x10 == 16 && 1e3 == 1000",
        "self.m.all(k, k.size() > 0) // a comment",
    ] {
        assert!(holds(source), "{source}");
    }
}

#[test]
fn expressions_fail_as_in_cel() {
    assert_eq!(error("self.b"), "no such key: b");
    assert_eq!(error("[1][3]"), "index out of bounds: 3");
    assert_eq!(error("1 / 0"), "division by zero");
    assert_eq!(error("9223372036854775807 + 1"), "integer overflow");
    assert_eq!(error("1 + 'a'"), "no such overload");
    assert_eq!(error("nope"), "undeclared reference to 'nope'");
    assert!(error("1 +").starts_with("ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>'"));
    assert!(Program::compile(&"(".repeat(1000)).is_err());
}

#[test]
fn no_expression_runs_for_long() {
    let list: Vec<i64> = (0..2000).collect();
    let variables = HashMap::from([("l".to_owned(), Val::from_json(&json!(list)))]);
    let program = Program::compile("l.all(a, l.all(b, a + b >= 0))").unwrap();
    let mut budget = OBJECT_COST_MAX;
    assert_eq!(program.eval(&variables, &mut budget).unwrap_err(), CelError::Budget);
    assert_eq!(budget, OBJECT_COST_MAX - CALL_COST_MAX);
}

#[test]
fn rules_of_a_schema() {
    let schema = crd::parse(
        &json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "name": {
                "type": "string",
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "name is immutable"}],
            }},
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.max"},
                {"rule": "self.max < 10", "messageExpression": "'max is ' + string(self.max)", "fieldPath": ".max", "reason": "FieldValueForbidden"},
            ],
        }}}),
        &Path::new("s"),
    )
    .unwrap();
    let errors = |value, old: Option<&serde_json::Value>| validate_rules(&schema, &value, old).to_string();
    assert_eq!(errors(json!({"spec": {"min": 1, "max": 2, "name": "a"}}), None), "");
    insta::assert_snapshot!(errors(json!({"spec": {"min": 30, "max": 20}}), None), @"[spec: Invalid value: failed rule: self.min <= self.max, spec.max: Forbidden: max is 20]");
    let old = json!({"spec": {"min": 1, "max": 2, "name": "a"}});
    insta::assert_snapshot!(errors(json!({"spec": {"min": 1, "max": 2, "name": "b"}}), Some(&old)), @r#"spec.name: Invalid value: "b": name is immutable"#);
    insta::assert_snapshot!(errors(json!({"spec": {"max": 2}}), None), @r#"spec: Invalid value: "object": no such key: min evaluating rule: self.min <= self.max"#);
    let bad = crd::parse(&json!({"type": "object", "x-kubernetes-validations": [{"rule": "self."}]}), &Path::new("s"));
    insta::assert_snapshot!(bad.unwrap_err(), @r#"s.x-kubernetes-validations[0].rule: Invalid value: "self.": compilation failed: ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting IDENTIFIER"#);
}

#[test]
fn messages_are_maps_of_their_fields() {
    assert!(holds("JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~d'), value: 1}.path == '/a/b~1c~0d'"));
    assert!(holds("Object{spec: Object.spec{replicas: 3}}.spec.replicas == 3"));
    assert!(holds("Object{?a: self.?b, c: 1} == {'c': 1}"));
}

#[test]
fn undeclared_names_are_found_where_they_stand() {
    let compile = |source: &str| Program::compile_with(source, &["object", "variables.a", "authorizer"]);
    for source in ["object.x.all(i, i > 0)", "variables.a == 1", "type(object) == map", "sets.contains([1], [1])"] {
        assert!(compile(source).is_ok(), "{source}");
    }
    let words = compile("object.foo == foo").unwrap_err().to_string();
    let wanted = "ERROR: <input>:1:15: undeclared reference to 'foo' (in container '')\n | object.foo == foo\n | ..............^";
    assert_eq!(words, wanted);
    assert!(compile("variables.b == 1").unwrap_err().to_string().contains("undeclared reference to 'variables'"));
}

#[derive(Debug)]
struct OnlyPods(String);

impl Authorizer for OnlyPods {
    fn decide(&self, check: &Check) -> Decision {
        let allowed = check.resource == "pods" && check.verb == "get" && check.path.is_empty();
        Decision { allowed, reason: self.0.clone(), error: None }
    }

    fn of_service_account(&self, namespace: &str, name: &str) -> std::sync::Arc<dyn Authorizer> {
        std::sync::Arc::new(OnlyPods(format!("{namespace}/{name}")))
    }
}

#[test]
fn expressions_ask_for_rights() {
    let authorizer: std::sync::Arc<dyn Authorizer> = std::sync::Arc::new(OnlyPods("me".to_owned()));
    let own = Val::resource_check(&authorizer, ["", "pods", "", "ns", "p"]);
    let variables = HashMap::from([
        ("authorizer".to_owned(), Val::Authorizer(authorizer)),
        ("authorizer.requestResource".to_owned(), own),
    ]);
    for source in [
        "authorizer.group('').resource('pods').namespace('x').check('get').allowed()",
        "!authorizer.path('/healthz').check('get').allowed()",
        "authorizer.requestResource.check('get').reason() == 'me'",
        "authorizer.serviceAccount('a', 'b').group('').resource('pods').check('get').reason() == 'a/b'",
    ] {
        let value = Program::compile(source).unwrap().eval(&variables, &mut OBJECT_COST_MAX.clone());
        assert!(matches!(value, Ok(Val::Bool(true))), "{source}: {value:?}");
    }
}
