use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn prints_in_canonical_form() {
    let printed = |text: &str| Selector::parse(text).unwrap().to_string();
    assert_eq!(printed("x in (b,a),!y, z , w!=1,v==2"), "v==2,w!=1,x in (a,b),!y,z");
    assert_eq!(printed("x notin (),y in (,a)"), "x notin (),y in (,a)");
    assert_eq!(printed("in in (in),a>1,b<2"), "a>1,b<2,in in (in)");
    assert_eq!(printed("x="), "x=");
    assert_eq!(printed(""), "");
}

#[test]
fn matches_as_upstream() {
    let set = labels(&[("app", "web"), ("n", "5")]);
    for (text, expected) in [
        ("app=web", true),
        ("app!=web", false),
        ("tier!=web", true),
        ("tier notin (a)", true),
        ("app in (web,db),n>4", true),
        ("n<5", false),
        ("!app", false),
        ("app>4", false),
        ("", true),
    ] {
        assert_eq!(Selector::parse(text).unwrap().matches(&set), expected, "{text}");
    }
    assert!(!Selector::Nothing.matches(&set));
}

#[test]
fn complains_as_upstream() {
    let error = |text: &str| Selector::parse(text).unwrap_err();
    assert_eq!(error("a,"), "found '', expected: identifier after ','");
    assert_eq!(error("a b"), "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
    assert_eq!(error("a in b"), "unable to parse requirement: found 'b' expected: '('");
    assert_eq!(error("=a"), "found '=', expected: !, identifier, or 'end of string'");
    assert!(
        error("-a").starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist")
    );
    assert!(error("a=-").starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label"));
}

#[test]
fn label_selectors() {
    let value = json!({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]});
    assert_eq!(Selector::from_label_selector(Some(&value)).unwrap().to_string(), "a,b=1");
    assert_eq!(Selector::from_label_selector(None).unwrap(), Selector::Nothing);
    assert!(Selector::from_label_selector(Some(&json!({}))).unwrap().is_empty());
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    assert_eq!(
        Selector::from_label_selector(Some(&bad)).unwrap_err(),
        "\"Like\" is not a valid label selector operator"
    );
    let empty = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    assert_eq!(
        Selector::from_label_selector(Some(&empty)).unwrap_err(),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "[ a-c=!<>(),inot\\-]{0,24}") {
        if let Ok(selector) = Selector::parse(&text) {
            // What it prints reads back as itself.
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap().to_string(), selector.to_string());
        }
    }

    #[test]
    fn in_is_the_negation_of_notin(value in "[ab]?", wanted in "[ab]") {
        let set = labels(&[("k", value.as_str())]);
        let yes = Selector::parse(&format!("k in ({wanted})")).unwrap().matches(&set);
        let no = Selector::parse(&format!("k notin ({wanted})")).unwrap().matches(&set);
        prop_assert_ne!(yes, no);
    }
}
