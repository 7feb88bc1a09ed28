//! `ResourceQuota` (v1): what a namespace may use in sum.

use crate::columns::{age, column, map, name, named, shown};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use crate::validate::{At, resources};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use serde_json::Value;
use serde_json::json;

pub static RESOURCE_QUOTA: Kind = Declaration {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short: &[Str::Borrowed("quota")],
    schema: "io.k8s.api.core.v1.ResourceQuota",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

fn validate(quota: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let (spec, status) = (At::root(quota).field("spec"), At::root(quota).field("status"));
    for (name, amount) in [spec.field("hard"), status.field("hard"), status.field("used")].iter().flat_map(At::entries)
    {
        resources::resource_name(name, &amount, errors);
        let for_quota = name != "storage" && (resources::is_standard(name) || name.starts_with("requests.hugepages-"));
        if !name.contains('/') && !for_quota {
            errors.push(FieldError::invalid(&amount.path, name, "must be a standard resource for quota"));
        }
        resources::resource_value(name, &amount, errors);
    }
    let scopes = spec.field("scopes");
    for scope in scopes.texts() {
        if !SCOPES.contains(&scope) {
            scopes.invalid(errors, "unsupported scope");
        }
        for _ in spec.field("hard").entries().filter(|(name, _)| !scope_fits(scope, name)) {
            scopes.invalid(errors, "unsupported scope applied to resource");
        }
    }
    conflicts(&scopes.texts(), &scopes, errors);
    let requirements = spec.fields(&["scopeSelector", "matchExpressions"]);
    for requirement in requirements.items() {
        let requirement = requirement.reported_at(spec.path.child("scopeSelector").child("matchExpressions"));
        scope_requirement(&requirement, errors);
    }
    let selected: Vec<&str> = requirements.items().map(|requirement| requirement.field("scopeName").text()).collect();
    conflicts(&selected, &scopes, errors);
    if let Some(old) = old {
        let sorted = |at: &At| {
            let mut texts: Vec<String> = at.texts().into_iter().map(str::to_owned).collect();
            texts.sort();
            texts
        };
        if sorted(&scopes) != sorted(&At::root(old).fields(&["spec", "scopes"])) {
            scopes.invalid(errors, "field is immutable");
        }
    }
}

/// Whether what a scope selects can be counted against a resource.
fn scope_fits(scope: &str, name: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        _ if !resources::is_standard(name) => true,
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ if SCOPES.contains(&scope) => name == "pods" || compute.contains(&name),
        _ => true,
    }
}

fn conflicts(scopes: &[&str], at: &At, errors: &mut FieldErrors) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            at.invalid(errors, "conflicting scopes");
        }
    }
}

fn scope_requirement(at: &At, errors: &mut FieldErrors) {
    let [scope, operator, values] = ["scopeName", "operator", "values"].map(|name| at.field(name));
    if !SCOPES.contains(&scope.text()) {
        scope.invalid(errors, "unsupported scope");
    }
    let only_exists =
        !matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope.text());
    if only_exists && !operator.is("Exists") {
        operator.invalid(errors, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
    }
    match (operator.text(), values.is_empty()) {
        ("In" | "NotIn", true) => {
            values.required(errors, "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
        }
        ("Exists" | "DoesNotExist", false) => {
            values.invalid(errors, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector");
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
        _ => operator.invalid(errors, "not a valid selector operator"),
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Request", "string"), column("Limit", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(used(o, false)), json!(used(o, true)), age(o, now)]
}

fn used(o: &Value, limits: bool) -> String {
    let entries = map(o, "/status/hard").into_iter().flatten();
    let shown: Vec<String> = entries
        .filter(|(resource, _)| resource.starts_with("limits.") == limits)
        .map(|(resource, hard)| {
            let used = o["status"]["used"].get(resource).map_or_else(|| "0".to_owned(), shown);
            format!("{resource}: {used}/{}", shown(hard))
        })
        .collect();
    shown.join(", ")
}
