//! `Event` (v1): something that happened to an object; lives an hour.

use crate::kind::{Declaration, Kind, Str};

pub static EVENT: Kind = Declaration {
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &[Str::Borrowed("ev")],
    schema: "io.k8s.api.core.v1.Event",
    fields: &[
        Str::Borrowed("involvedObject.kind"),
        Str::Borrowed("involvedObject.namespace"),
        Str::Borrowed("involvedObject.name"),
        Str::Borrowed("involvedObject.uid"),
        Str::Borrowed("involvedObject.apiVersion"),
        Str::Borrowed("involvedObject.resourceVersion"),
        Str::Borrowed("involvedObject.fieldPath"),
        Str::Borrowed("reason"),
        Str::Borrowed("reportingComponent"),
        Str::Borrowed("source"),
        Str::Borrowed("type"),
    ],
    ttl_seconds: Some(3600),
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
