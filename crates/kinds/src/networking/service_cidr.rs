//! `ServiceCIDR` (networking.k8s.io/v1): a range cluster addresses are taken from.

use crate::columns::{age, column, column_of, join_texts, list, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Subresource};
use crate::validate::{At, cidr, immutable, shown};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use serde_json::Value;
use serde_json::json;

pub static SERVICE_CIDR: Kind = Declaration {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.ServiceCIDR",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/networking/validation/validation.go: ValidateServiceCIDR`.
fn validate(range: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let cidrs = At::root(range).fields(&["spec", "cidrs"]);
    let Some(old) = old else { return validate_cidrs(&cidrs, errors) };
    let before = At::root(old).fields(&["spec", "cidrs"]);
    match (before.count(), cidrs.count()) {
        (was, is) if was == is => {
            for (now, was) in cidrs.items().zip(before.items()) {
                immutable(&now, &was, errors);
            }
        }
        // One family may become two.
        (1, 2) => {
            if let (Some(now), Some(was)) = (cidrs.items().next(), before.items().next()) {
                immutable(&now, &was, errors);
            }
            validate_cidrs(&cidrs, errors);
        }
        _ => cidrs.invalid(errors, "field is immutable"),
    }
}

fn validate_cidrs(cidrs: &At, errors: &mut FieldErrors) {
    if cidrs.count() == 0 {
        return cidrs.required(errors, "at least one CIDR required");
    }
    if cidrs.count() > 2 {
        let shown = shown(format!("{{\"CIDRs\":{}}}", cidrs.value));
        return errors.push(FieldError::invalid(&cidrs.path, shown, "may only hold up to 2 values"));
    }
    for range in cidrs.items() {
        cidr(&range.path, range.text(), &[], errors);
    }
    let families: Vec<bool> = cidrs.texts().iter().map(|text| text.contains(':')).collect();
    if families.len() == 2 && families[0] == families[1] {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        cidrs.invalid(errors, detail);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("CIDRs", "string", "io.k8s.api.networking.v1.ServiceCIDRSpec", "cidrs"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(join_texts(list(o, "/spec/cidrs"), ",")), age(o, now)]
}
