//! `ResourceSlice` (resource.k8s.io/v1): devices of a driver, on a node or in a pool.

use crate::columns::{age, column, column_of, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use crate::validate::{At, immutable, nonnegative};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static RESOURCE_SLICE: Kind = Declaration {
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.ResourceSlice",
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("spec.nodeName"), Str::Borrowed("spec.driver"), Str::Borrowed("spec.pool.name")],
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

const DRIVER_NAME_MAX: usize = 63;

/// The parts of `kubernetes/kubernetes pkg/apis/resource/validation/validation.go: ValidateResourceSlice` that hold for
/// every slice, whatever devices it lists.
fn validate(slice: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(slice).field("spec");
    let (driver, pool) = (spec.field("driver"), spec.field("pool"));
    if driver.must_be_set(errors) {
        if driver.text().len() > DRIVER_NAME_MAX {
            errors.push(FieldError::too_long(&driver.path, DRIVER_NAME_MAX));
        }
        driver.invalid_each(errors, names::dns1123_subdomain(driver.text()));
    }
    pool.field("name").must_be_set(errors);
    let count = pool.field("resourceSliceCount");
    if count.int() <= 0 {
        errors.push(FieldError::invalid(&count.path, count.int(), "must be greater than zero"));
    }
    nonnegative(&pool.field("generation"), errors);
    let places = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    if !places.iter().any(|place| spec.field(place).is_set()) {
        let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        spec.required(errors, detail);
    }
    if let Some(old) = old {
        for field in [&["driver"][..], &["nodeName"], &["pool", "name"]] {
            immutable(&spec.fields(field), &At::root(old).field("spec").fields(field), errors);
        }
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Node", "string", "io.k8s.api.resource.v1.ResourceSliceSpec", "nodeName"),
        column_of("Driver", "string", "io.k8s.api.resource.v1.ResourceSliceSpec", "driver"),
        column_of("Pool", "string", "io.k8s.api.resource.v1.ResourcePool", "name"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(text(o, "/spec/nodeName")),
        json!(text(o, "/spec/driver")),
        json!(text(o, "/spec/pool/name")),
        age(o, now),
    ]
}
