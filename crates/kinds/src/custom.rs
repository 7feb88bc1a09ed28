//! Kinds made from CustomResourceDefinitions, and the cells of their tables.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use machinery::field::{FieldErrors, Path};
use machinery::schema::Schema;
use serde_json::{Value, json};

use crate::columns::{human_duration, instant, list, shown, text};
use crate::kind::{
    Column, Columns, Generation, Kind, NameRule, Names, ScalePaths, SchemaSource, Scope, Str, Subresource, Verbs,
};

impl Kind {
    /// The kind a version of a CustomResourceDefinition defines; none when it is not served or there is no such
    /// version, the failures when its schema cannot be read.
    pub fn from_crd(definition: &Value, version: &str) -> Result<Option<Kind>, FieldErrors> {
        let versions = list(definition, "/spec/versions");
        let served = versions.iter().find(|one| one["name"] == version && one["served"] == true);
        let (Some(served), Some(storage)) = (served, versions.iter().find(|one| one["storage"] == true)) else {
            return Ok(None);
        };
        let schema = schema_of(served)?;
        Ok(Some(Self::custom(&definition["spec"], served, storage, schema)))
    }

    fn custom(spec: &Value, served: &Value, storage: &Value, schema: Schema) -> Kind {
        let version = text(served, "/name");
        let group = text(spec, "/group").to_owned();
        let plural = text(spec, "/names/plural").to_owned();
        let kind = text(spec, "/names/kind").to_owned();
        let singular = match text(spec, "/names/singular") {
            "" => kind.to_lowercase(),
            singular => singular.to_owned(),
        };
        let list_kind = match text(spec, "/names/listKind") {
            "" => format!("{kind}List"),
            list_kind => list_kind.to_owned(),
        };
        let deprecation = deprecation(spec, served);
        Kind {
            names: Names {
                kind: Cow::Owned(kind),
                plural: Cow::Owned(plural.clone()),
                singular: Cow::Owned(singular),
                list_kind: Some(Cow::Owned(list_kind)),
                short: texts(list(spec, "/names/shortNames")),
                categories: texts(list(spec, "/names/categories")),
            },
            group: Cow::Owned(group.clone()),
            version: Cow::Owned(version.to_owned()),
            scope: if text(spec, "/scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
            name_rule: NameRule::Subdomain,
            schema: SchemaSource::Custom(schema),
            verbs: Verbs::ALL,
            subresources: Cow::Owned(subresources(served)),
            generation: if has_status(served) { Generation::OfAll } else { Generation::OfEverything },
            fields: selectable(served),
            fields_elsewhere: &[],
            columns: Columns::Paths(columns(served)),
            storage_prefix: Cow::Owned(format!("{group}/{plural}")),
            computed: None,
            storage_version: (Cow::Owned(group), Cow::Owned(text(storage, "/name").to_owned())),
            conversion: None,
            webhook_conversion: (text(spec, "/conversion/strategy") == "Webhook")
                .then(|| Arc::new(spec.pointer("/conversion/webhook").cloned().unwrap_or(Value::Null))),
            ttl_seconds: None,
            conditional_defaults: None,
            on_create: None,
            on_update: None,
            on_status_update: None,
            on_delete: None,
            validate: None,
            validate_subresource: None,
            warnings: None,
            status_keeps_metadata: true,
            created_with_status: false,
            deprecation: Cow::Owned(deprecation),
            unconditional_update: false,
            create_on_update: false,
        }
    }
}

/// What a client of a deprecated version is told.
/// `kubernetes/apiextensions-apiserver pkg/apiserver/customresource_handler.go: defaultDeprecationWarning`.
fn deprecation(spec: &Value, served: &Value) -> String {
    if served["deprecated"] != true {
        return String::new();
    }
    if let Some(words) = served.get("deprecationWarning").and_then(Value::as_str) {
        return words.to_owned();
    }
    let (group, kind, version) = (text(spec, "/group"), text(spec, "/names/kind"), text(served, "/name"));
    let words = format!("{group}/{version} {kind} is deprecated");
    let kept = list(spec, "/versions").iter().filter(|one| one["served"] == true && one["deprecated"] != true);
    match kept.map(|one| text(one, "/name")).filter(|one| rank(one) > rank(version)).max_by_key(|one| rank(one)) {
        Some(better) => format!("{words}; use {group}/{better} {kind}"),
        None => words,
    }
}

/// How stable and how new a version is by its name: `v2` over `v1` over `v2beta1`, anything else last.
/// `kubernetes/apimachinery pkg/version/helpers.go: CompareKubeAwareVersionStrings`.
pub fn rank(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let (stage, major, minor) = if let Some((major, minor)) = rest.split_once("beta") {
        (2, major, minor)
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (1, major, minor)
    } else {
        (3, rest, "0")
    };
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (stage, major, minor),
        _ => (0, 0, 0),
    }
}

/// The schema of a version, with the metadata every object has; any JSON where none is written.
fn schema_of(version: &Value) -> Result<Schema, FieldErrors> {
    let Some(written) = version.pointer("/schema/openAPIV3Schema").filter(|schema| !schema.is_null()) else {
        return Ok(Schema::any());
    };
    let schema = machinery::schema::crd::parse(written, &Path::new("spec").child("schema").child("openAPIV3Schema"))?;
    Ok(schema.with_object_meta(&crate::facts::schema("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")))
}

fn texts(items: &[Value]) -> Cow<'static, [Str]> {
    Cow::Owned(items.iter().filter_map(Value::as_str).map(|text| Cow::Owned(text.to_owned())).collect())
}

fn has_status(version: &Value) -> bool {
    version.pointer("/subresources/status").is_some_and(|status| !status.is_null())
}

fn subresources(version: &Value) -> Vec<Subresource> {
    let mut found = Vec::new();
    if has_status(version) {
        found.push(Subresource::Status);
    }
    if let Some(scale) = version.pointer("/subresources/scale").filter(|scale| !scale.is_null()) {
        let path = |field: &str| Cow::Owned(text(scale, field).trim_start_matches('.').to_owned());
        found.push(Subresource::Scale(ScalePaths {
            spec: path("/specReplicasPath"),
            status: path("/statusReplicasPath"),
            selector: path("/labelSelectorPath"),
        }));
    }
    found
}

fn selectable(version: &Value) -> Cow<'static, [Str]> {
    let paths = list(version, "/selectableFields").iter().map(|field| text(field, "/jsonPath"));
    Cow::Owned(paths.map(|path| Cow::Owned(path.trim_start_matches('.').to_owned())).collect())
}

/// What upstream says of a column that nobody described.
const NO_DESCRIPTION: &str = "Custom resource definition column (in JSONPath format)";

fn columns(version: &Value) -> Arc<[(Column, String)]> {
    let own = |field: &Value, name: &str| Cow::Owned(text(field, name).to_owned());
    let written = list(version, "/additionalPrinterColumns");
    if written.is_empty() {
        let age = Column {
            name: Cow::Borrowed("Age"),
            of: Cow::Borrowed("date"),
            format: Cow::Borrowed(""),
            priority: 0,
            description: Cow::Borrowed(""),
            documented_by: None,
        };
        return Arc::from([(age, ".metadata.creationTimestamp".to_owned())]);
    }
    let columns = written.iter().map(|column| {
        let head = Column {
            name: own(column, "/name"),
            of: own(column, "/type"),
            format: own(column, "/format"),
            priority: i32::try_from(crate::columns::number(column, "/priority")).unwrap_or(0),
            description: match text(column, "/description") {
                "" => Cow::Owned(format!("{NO_DESCRIPTION}: {}", text(column, "/jsonPath"))),
                given => Cow::Owned(given.to_owned()),
            },
            documented_by: None,
        };
        (head, text(column, "/jsonPath").to_owned())
    });
    columns.collect()
}

/// The cell of a column that names a JSON path; null when the path leads nowhere or to another type.
///
/// `k8s.io/apiextensions-apiserver pkg/registry/customresource/tableconvertor`: how each type is shown.
pub fn cell(object: &Value, column: &Column, path: &str, now: Timestamp) -> Value {
    let found = find(object, path);
    match (&*column.of, found.as_slice()) {
        (_, []) => Value::Null,
        ("integer", [Value::Number(number), ..]) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => json!(whole),
            #[allow(clippy::cast_possible_truncation, reason = "upstream truncates a float in an integer column")]
            (None, Some(float)) => json!(float as i64),
            (None, None) => Value::Null,
        },
        ("number", [Value::Number(number), ..]) => Value::Number(number.clone()),
        ("boolean", [Value::Bool(on), ..]) => Value::Bool(*on),
        ("string", [one]) if !one.is_array() && !one.is_object() => json!(shown(one)),
        ("string", many) => json!(many.iter().map(|value| shown(value)).collect::<Vec<_>>().join(",")),
        ("date", [time, ..]) => match instant(time) {
            Some(then) => json!(human_duration(now.as_second() - then.as_second())),
            None => json!("<invalid>"),
        },
        _ => Value::Null,
    }
}

/// The values a JSON path (`.spec.items[0].name`, `.a['b.c']`, `[*]`, `[?(@.type=="Ready")]`) leads to.
pub fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim_start_matches(['{', '$']).trim_end_matches('}');
    while !rest.is_empty() {
        let (step, tail) = split_step(rest);
        rest = tail;
        found = found.into_iter().flat_map(|value| take_step(value, step)).collect();
    }
    found
}

/// The first step of a path: a name without its dot, or what stands between brackets with them.
fn split_step(path: &str) -> (&str, &str) {
    if path.starts_with('[') {
        let mut quote = None;
        for (at, character) in path.char_indices() {
            match (quote, character) {
                (None, ']') => return path.split_at(at + 1),
                (None, '\'' | '"') => quote = Some(character),
                (Some(open), close) if open == close => quote = None,
                _ => {}
            }
        }
        return (path, "");
    }
    let name = path.trim_start_matches('.');
    let mut end = name.len();
    let mut escaped = false;
    for (at, character) in name.char_indices() {
        if !escaped && matches!(character, '.' | '[') {
            end = at;
            break;
        }
        escaped = character == '\\' && !escaped;
    }
    name.split_at(end)
}

fn take_step<'a>(value: &'a Value, step: &str) -> Vec<&'a Value> {
    let Some(inner) = step.strip_prefix('[').and_then(|step| step.strip_suffix(']')) else {
        if step.is_empty() {
            return vec![value];
        }
        if step == "*" {
            return children(value);
        }
        return value.get(step.replace('\\', "")).into_iter().collect();
    };
    if inner == "*" {
        return children(value);
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')')) {
        return children(value).into_iter().filter(|item| holds(item, condition)).collect();
    }
    if let Some(name) = quoted(inner) {
        return value.get(name).into_iter().collect();
    }
    let Ok(index) = inner.parse::<i64>() else { return Vec::new() };
    let Some(items) = value.as_array() else { return Vec::new() };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let at = if index < 0 { length + index } else { index };
    usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

/// A filter: `@.type=="Ready"`, `@.port!=80`, or `@.name` for presence.
fn holds(item: &Value, condition: &str) -> bool {
    let (path, wanted, negate) = match (condition.split_once("!="), condition.split_once("==")) {
        (Some((path, wanted)), _) => (path, Some(wanted), true),
        (None, Some((path, wanted))) => (path, Some(wanted), false),
        (None, None) => (condition, None, false),
    };
    let found = find(item, path.trim().trim_start_matches('@'));
    match wanted {
        None => !found.is_empty(),
        Some(wanted) => {
            let wanted = quoted(wanted.trim()).unwrap_or(wanted.trim());
            found.iter().any(|value| shown(value) == wanted) != negate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_becomes_a_kind() {
        let definition = json!({"spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo", "shortNames": ["f"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n",
                }}, "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object", "properties": {"n": {"type": "integer", "default": 3}},
                }}}}},
                {"name": "v0", "served": false, "storage": false},
            ],
        }});
        assert!(Kind::from_crd(&definition, "v0").expect("readable").is_none());
        let kind = Kind::from_crd(&definition, "v1").expect("readable").expect("served");
        assert_eq!(kind.key("ns", "a"), "/registry/x.io/foos/ns/a");
        assert_eq!((kind.api_version().as_str(), kind.list_kind().as_str()), ("x.io/v1", "FooList"));
        let mut object = json!({"metadata": {"name": "a"}, "spec": {}});
        kind.default(&mut object);
        assert_eq!(kind.cells(&object, Timestamp::UNIX_EPOCH), [json!("a"), json!(3)]);
        let names: Vec<&str> = kind.subresources.iter().map(Subresource::name).collect();
        assert_eq!(names, ["status", "scale"]);
        let document = crate::discovery::aggregated(&[&kind]);
        let speaks = &document["items"][0]["versions"][0]["resources"][0]["responseKind"];
        assert_eq!(*speaks, json!({"group": "x.io", "version": "v1", "kind": "Foo"}));
    }

    #[test]
    fn paths_lead_to_what_they_name() {
        let object = json!({"spec": {"a.b": 1, "items": [{"type": "Ready", "status": "True"}, {"type": "X"}]}});
        let text = |path: &str| find(&object, path).into_iter().map(shown).collect::<Vec<_>>().join(",");
        assert_eq!(text(".spec.items[0].status"), "True");
        assert_eq!(text(".spec.items[-1].type"), "X");
        assert_eq!(text(".spec.items[*].type"), "Ready,X");
        assert_eq!(text(".spec.items[?(@.type==\"Ready\")].status"), "True");
        assert_eq!(text(".spec['a.b']"), "1");
        assert_eq!(text(".spec.a\\.b"), "1");
        assert_eq!(text(".spec.none.there"), "");
    }
}
