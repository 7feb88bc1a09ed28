//! `CSIDriver` (storage.k8s.io/v1): what a volume driver can do.

use crate::columns::{age, column, flag_or, join, join_texts, list, name, named};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use serde_json::{Value, json};

pub static CSI_DRIVER: Kind = Declaration {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.CSIDriver",
    generation: Generation::OfSpecUnstarted,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;

/// `kubernetes/kubernetes pkg/apis/storage/validation/validation.go: validateCSIDriverSpec`.
fn validate(driver: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(driver).field("spec");
    spec.field("fsGroupPolicy").optional_one_of(&["File", "None", "ReadWriteOnceWithFSType"], errors);
    let tokens = spec.field("tokenRequests");
    let mut audiences = Vec::new();
    for request in tokens.items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if audiences.contains(&audience.text()) {
            errors.push(FieldError::duplicate(&audience.path, audience.text()));
            continue;
        }
        audiences.push(audience.text());
        if seconds.is_set() && seconds.int() < TOKEN_SECONDS_MIN {
            seconds.invalid(errors, "may not specify a duration less than 10 minutes");
        }
        if seconds.int() > TOKEN_SECONDS_MAX {
            seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
        }
    }
    let modes = spec.field("volumeLifecycleModes");
    for mode in modes.texts() {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            errors.push(FieldError::not_supported(&modes.path, mode, &["Persistent", "Ephemeral"]));
        }
    }
    let period = spec.field("nodeAllocatableUpdatePeriodSeconds");
    if period.is_set() && period.int() < UPDATE_PERIOD_SECONDS_MIN {
        period.invalid(errors, "must be greater than or equal to 10 seconds");
    }
    let secrets = spec.field("serviceAccountTokenInSecrets");
    if secrets.is_set() && tokens.count() == 0 {
        secrets.invalid(errors, "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}

fn defaults(driver: &mut Value) {
    let Some(spec) = driver.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_missing(spec, "attachRequired", true);
    for name in
        ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount", "preventPodSchedulingIfMissing"]
    {
        set_missing(spec, name, false);
    }
    set_missing(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    set_unset(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("AttachRequired", "boolean"),
        column("PodInfoOnMount", "boolean"),
        column("StorageCapacity", "boolean"),
        column("TokenRequests", "string"),
        column("RequiresRepublish", "boolean"),
        column("Modes", "string"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let modes = match join_texts(list(o, "/spec/volumeLifecycleModes"), ",") {
        none if none.is_empty() => "<none>".to_owned(),
        modes => modes,
    };
    let tokens = match o.pointer("/spec/tokenRequests") {
        Some(Value::Array(requests)) => join(requests, "audience", ","),
        _ => "<unset>".to_owned(),
    };
    vec![
        name(o),
        json!(flag_or(o, "/spec/attachRequired", true)),
        json!(flag_or(o, "/spec/podInfoOnMount", false)),
        json!(flag_or(o, "/spec/storageCapacity", false)),
        json!(tokens),
        json!(flag_or(o, "/spec/requiresRepublish", false)),
        json!(modes),
        age(o, now),
    ]
}
