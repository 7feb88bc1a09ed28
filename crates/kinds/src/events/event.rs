//! `Event` (events.k8s.io/v1): something that happened to an object; lives an hour.

use crate::kind::{Declaration, Kind, Str};

pub static EVENT: Kind = Declaration {
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &[Str::Borrowed("ev")],
    group: "events.k8s.io",
    schema: "io.k8s.api.events.v1.Event",
    fields: &[
        Str::Borrowed("regarding.kind"),
        Str::Borrowed("regarding.namespace"),
        Str::Borrowed("regarding.name"),
        Str::Borrowed("regarding.uid"),
        Str::Borrowed("regarding.apiVersion"),
        Str::Borrowed("regarding.resourceVersion"),
        Str::Borrowed("regarding.fieldPath"),
        Str::Borrowed("reason"),
        Str::Borrowed("reportingController"),
        Str::Borrowed("type"),
    ],
    ttl_seconds: Some(3600),
    storage_version: Some(("", "v1")),
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
