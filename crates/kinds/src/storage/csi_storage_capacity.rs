//! `CSIStorageCapacity` (storage.k8s.io/v1): how much a storage class can still provision in a place.

use crate::kind::{Declaration, Kind};
use crate::validate::resources::amount;
use crate::validate::selector::label_selector;
use crate::validate::{At, immutable};
use machinery::field::FieldErrors;
use machinery::names;
use serde_json::Value;

pub static CSI_STORAGE_CAPACITY: Kind = Declaration {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    group: "storage.k8s.io",
    schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/storage/validation/validation.go: ValidateCSIStorageCapacity`.
fn validate(capacity: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(capacity);
    let class = at.field("storageClassName");
    if let Some(old) = old {
        for field in ["nodeTopology", "storageClassName"] {
            immutable(&at.field(field), &At::root(old).field(field), errors);
        }
        return;
    }
    label_selector(&at.field("nodeTopology"), errors);
    class.invalid_each(errors, names::dns1123_subdomain(class.text()));
    let amount_of = at.field("capacity");
    if amount_of.is_set() && amount(amount_of.value).sign() < 0 {
        amount_of.invalid(errors, "must be greater than or equal to 0");
    }
}
