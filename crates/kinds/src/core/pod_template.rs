//! `PodTemplate` (v1): a stored pod template.

use crate::kind::{Declaration, Generation, Kind};

pub static POD_TEMPLATE: Kind = Declaration {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    schema: "io.k8s.api.core.v1.PodTemplate",
    generation: Generation::OfTemplate,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
