//! `ControllerRevision` (apps/v1): a snapshot of a controller's template, for history and rollback.

use crate::kind::{Declaration, Kind};

pub static CONTROLLER_REVISION: Kind = Declaration {
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    group: "apps",
    schema: "io.k8s.api.apps.v1.ControllerRevision",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
