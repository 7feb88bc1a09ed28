//! `CustomResourceDefinition` (apiextensions.k8s.io/v1): a kind made by a user.

use crate::columns::{column, condition, flag_or, join_texts, list, name, named, text, wide};
use crate::defaults::{nested, set_missing, set_unset, text_of};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str, Subresource};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use machinery::names as rules;
use serde_json::{Value, json};

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Declaration {
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short: &[Str::Borrowed("crd"), Str::Borrowed("crds")],
    categories: &[Str::Borrowed("api-extensions")],
    group: "apiextensions.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    status_keeps_metadata: true,
    storage_prefix: "apiextensions.k8s.io/customresourcedefinitions",
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    on_delete: Some(hold),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// What keeps a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// `kubernetes/apiextensions-apiserver pkg/registry/customresourcedefinition/etcd.go: Delete`.
fn hold(definition: &mut Value, now: &str) {
    machinery::object::set_deletion_timestamp(definition, now);
    if !machinery::object::finalizers(definition).any(|known| known == FINALIZER) {
        let kept: Vec<String> = machinery::object::finalizers(definition).map(str::to_owned).collect();
        machinery::object::set_finalizers(definition, kept.into_iter().chain([FINALIZER.to_owned()]));
    }
    let terminating = json!({
        "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending", "lastTransitionTime": now,
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    });
    let mut conditions =
        definition.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "Terminating");
    conditions.push(terminating);
    machinery::object::put(definition, &["status", "conditions"], Value::Array(conditions));
}

/// `kubernetes/apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go`: the rules.
fn validate(definition: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if old.is_some_and(|old| old["spec"] == definition["spec"]) {
        return;
    }
    let at = At::root(definition);
    let spec = at.field("spec");
    let (group, names) = (spec.field("group"), spec.field("names"));
    let name = at.fields(&["metadata", "name"]);
    if !name.is_empty() && name.text() != format!("{}.{}", names.field("plural").text(), group.text()) {
        name.invalid(errors, "must be spec.names.plural+\".\"+spec.group");
    }
    if group.must_be_set(errors) {
        let complaints = rules::dns1123_subdomain(group.text());
        if !complaints.is_empty() {
            group.invalid(errors, complaints.join(","));
        } else if !group.text().contains('.') {
            group.invalid(errors, "should be a domain with at least one dot");
        }
    }
    spec.field("scope").required_one_of(&["Cluster", "Namespaced"], errors);
    validate_names(&names, errors);
    validate_versions(&spec, &at.fields(&["status", "storedVersions"]), errors);
}

fn validate_names(names: &At, errors: &mut FieldErrors) {
    for field in ["plural", "singular", "kind", "listKind"].map(|name| names.field(name)) {
        field.must_be_set(errors);
    }
    for field in ["plural", "singular"].map(|name| names.field(name)).iter().filter(|field| !field.is_empty()) {
        label(field, field.text(), "", errors);
    }
    for field in ["kind", "listKind"].map(|name| names.field(name)).iter().filter(|field| !field.is_empty()) {
        label(field, &field.text().to_lowercase(), "may have mixed case, but should otherwise match: ", errors);
    }
    for item in names.field("shortNames").items().chain(names.field("categories").items()) {
        label(&item, item.text(), "", errors);
    }
    let (kind, list) = (names.field("kind"), names.field("listKind"));
    if !kind.is_empty() && kind.value == list.value {
        list.invalid(errors, "kind and listKind may not be the same");
    }
}

fn label(at: &At, text: &str, prefix: &str, errors: &mut FieldErrors) {
    let complaints = rules::dns1035_label(text);
    if !complaints.is_empty() {
        at.invalid(errors, format!("{prefix}{}", complaints.join(",")));
    }
}

/// What is said of a version's columns and of its scale.
fn validate_served(version: &At, path: &Path, errors: &mut FieldErrors) {
    let columns = path.child("additionalPrinterColumns");
    for (index, column) in version.field("additionalPrinterColumns").items().enumerate() {
        let column = column.reported_at(columns.index(index));
        column.field("name").must_be_set(errors);
        let of = column.field("type");
        let detail = "must be one of boolean,date,integer,number,string";
        match of.text() {
            "" => of.required(errors, detail),
            "boolean" | "date" | "integer" | "number" | "string" => {}
            _ => of.invalid(errors, detail),
        }
        let json_path = column.field("jsonPath").reported_at(column.path.child("JSONPath"));
        if json_path.must_be_set(errors) {
            simple_json_path(&json_path, errors);
        }
    }
    let Some(scale) = version.field("subresources").set("scale") else { return };
    let scale = scale.reported_at(path.child("subresources").child("scale"));
    for (field, under) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let replicas = scale.field(field);
        if replicas.must_be_set(errors)
            && simple_json_path(&replicas, errors)
            && !replicas.text().starts_with(&format!("{under}."))
        {
            replicas.invalid(errors, format!("should be a json path under {under}"));
        }
    }
    let selector = scale.field("labelSelectorPath");
    let known = [".spec.", ".status."];
    if !selector.is_empty()
        && simple_json_path(&selector, errors)
        && !known.iter().any(|prefix| selector.text().starts_with(prefix))
    {
        selector.invalid(errors, "should be a json path under either .spec or .status");
    }
}

/// Whether a path is one without conditions, which alone may be used here.
fn simple_json_path(path: &At, errors: &mut FieldErrors) -> bool {
    let simple = path.text().starts_with('.');
    if !simple {
        path.invalid(errors, "must be a simple json path starting with .");
    }
    simple
}

/// The versions as Go's encoder writes the internal type. What a single version has of its own stands beside the list
/// there, and is not shown.
fn versions_shown(versions: &At) -> BadValue {
    if versions.count() > 1 {
        return versions.shown();
    }
    let one = |version: At| {
        let flag = |name: &str| version.field(name).flag();
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":null,\
             \"Subresources\":null,\"AdditionalPrinterColumns\":null,\"SelectableFields\":null}}",
            machinery::go::quote(version.field("name").text()),
            flag("served"),
            flag("storage"),
            flag("deprecated"),
            machinery::go::json(version.field("deprecationWarning").value),
        )
    };
    let shown: Vec<String> = versions.items().map(one).collect();
    BadValue::Shown(if versions.is_set() { format!("[{}]", shown.join(",")) } else { "null".to_owned() })
}

fn validate_versions(spec: &At, stored: &At, errors: &mut FieldErrors) {
    let versions = spec.field("versions");
    let mut seen = Vec::new();
    for version in versions.items() {
        let name = version.field("name");
        let complaints = rules::dns1035_label(name.text());
        if !complaints.is_empty() {
            name.invalid(errors, complaints.join(","));
        }
        // A definition with one version is looked at as if that stood beside the versions.
        let single = versions.count() == 1;
        if single && !name.is_empty() {
            label(&name.reported_at(spec.path.child("version")), name.text(), "", errors);
        }
        validate_served(&version, if single { &spec.path } else { &version.path }, errors);
        if seen.contains(&name.text()) {
            versions.invalid(errors, "must contain unique version names");
        }
        seen.push(name.text());
        let schema = version.fields(&["schema", "openAPIV3Schema"]);
        if !schema.is_set() {
            schema.required(errors, "");
            continue;
        }
        let path = match single {
            true => spec.path.child("validation").child("openAPIV3Schema"),
            false => schema.path.clone(),
        };
        if let Err(found) = machinery::schema::crd::parse(schema.value, &path) {
            errors.extend(found);
        }
    }
    if versions.items().filter(|version| version.field("storage").flag()).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&versions.path, versions_shown(&versions), detail));
        if stored.is_empty() {
            stored.invalid(errors, "must have at least one stored version");
        }
    }
    let preserve = spec.field("preserveUnknownFields");
    if preserve.flag() {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        preserve.invalid(errors, detail);
    }
    let conversion = spec.field("conversion");
    conversion.field("strategy").optional_one_of(&["None", "Webhook"], errors);
    if conversion.field("strategy").text() == "Webhook" {
        match conversion.fields(&["webhook", "clientConfig"]) {
            config if config.is_set() => crate::admissionregistration::webhook::client(&config, errors),
            config => config.required(errors, "required when strategy is set to Webhook"),
        }
        let versions = conversion.fields(&["webhook", "conversionReviewVersions"]);
        if versions.is_empty() {
            versions.required(errors, "");
        } else if !versions.texts().iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
            versions.invalid(errors, "must include at least one of v1, v1beta1");
        }
    }
}

fn defaults(definition: &mut Value) {
    let stored =
        definition["spec"]["versions"].as_array().into_iter().flatten().find(|version| version["storage"] == true);
    let stored = stored.map(|version| version["name"].clone());
    let Some(fields) = definition.as_object_mut() else { return };
    if let Some(spec) = nested(fields, "spec") {
        set_missing(spec, "conversion", json!({"strategy": "None"}));
        if let Some(names) = nested(spec, "names") {
            let kind = text_of(names, "kind").to_owned();
            set_unset(names, "singular", kind.to_lowercase());
            if !kind.is_empty() {
                set_unset(names, "listKind", format!("{kind}List"));
            }
        }
    }
    if let (Some(name), Some(status)) = (stored, nested(fields, "status")) {
        set_unset(status, "storedVersions", json!([name]));
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Scope", "string"),
        column("Versions", "string"),
        column("Created At", "date"),
        wide("Group", "string"),
        wide("Kind", "string"),
        wide("ShortNames", "string"),
        wide("Established", "boolean"),
    ],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    let versions = list(o, "/spec/versions").iter().filter(|version| flag_or(version, "/served", false));
    let versions = versions.map(|version| match flag_or(version, "/storage", false) {
        true => format!("{}(storage)", text(version, "/name")),
        false => text(version, "/name").to_owned(),
    });
    let mut versions = versions.collect::<Vec<_>>();
    versions.sort_unstable();
    let versions = versions.join(",");
    let established = condition(o, "Established").is_some_and(|condition| condition["status"] == "True");
    vec![
        name(o),
        json!(text(o, "/spec/scope")),
        json!(versions),
        json!(text(o, "/metadata/creationTimestamp")),
        json!(text(o, "/spec/group")),
        json!(text(o, "/spec/names/kind")),
        json!(join_texts(list(o, "/spec/names/shortNames"), ",")),
        json!(established),
    ]
}
