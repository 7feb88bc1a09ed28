//! `Job` (batch/v1): pods that run to completion.

use crate::kind::{Declaration, Generation, Kind, Str, Subresource};

pub static JOB: Kind = Declaration {
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &[Str::Borrowed("all")],
    group: "batch",
    schema: "io.k8s.api.batch.v1.Job",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("status.successful")],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
