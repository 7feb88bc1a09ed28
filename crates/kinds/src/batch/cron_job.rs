//! `CronJob` (batch/v1): a Job at set times.

use crate::kind::{Declaration, Generation, Kind, Str, Subresource};

pub static CRON_JOB: Kind = Declaration {
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short: &[Str::Borrowed("cj")],
    categories: &[Str::Borrowed("all")],
    group: "batch",
    schema: "io.k8s.api.batch.v1.CronJob",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
