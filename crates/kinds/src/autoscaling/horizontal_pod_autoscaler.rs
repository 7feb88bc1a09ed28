//! `HorizontalPodAutoscaler` (autoscaling/v2): scales a workload by what is measured of it.

use crate::kind::{Declaration, Kind, Str, Subresource};

pub static HORIZONTAL_POD_AUTOSCALER_V2: Kind = Declaration {
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short: &[Str::Borrowed("hpa")],
    categories: &[Str::Borrowed("all")],
    group: "autoscaling",
    version: "v2",
    schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();

pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Declaration {
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short: &[Str::Borrowed("hpa")],
    categories: &[Str::Borrowed("all")],
    group: "autoscaling",
    schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
    subresources: &[Subresource::Status],
    storage_version: Some(("autoscaling", "v2")),
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
