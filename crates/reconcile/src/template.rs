//! A pod made from a template.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Kept, Key, Of};
use crate::meta;
use crate::plan::{self, Action, IfExists, Note, Verb};

/// The pod an owner makes from its template; the server completes the name.
pub fn pod_of<O: Kept>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(owner.metadata()))),
            namespace: owner.metadata().namespace.clone(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![meta::controller_reference(owner)]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Creates `pod` and tells its owner's readers.
pub fn create_pod<O: Kept>(owner: &O, pod: &Pod) -> Action {
    let verb = Verb::Create { object: plan::value(pod), if_exists: IfExists::Fail };
    let key = Key::new(meta::namespace(owner.metadata()), meta::name(&pod.metadata));
    Action { resource: Of::Pod.resource().clone(), key, verb, note: None }.noted(Note {
        about: plan::reference(owner),
        done: ("SuccessfulCreate", "Created pod: {name}".into()),
        failed: ("FailedCreate", "Error creating: {error}".into()),
    })
}

/// Deletes `pod` and tells its owner's readers.
pub fn delete_pod<O: Kept>(owner: &O, pod: &Pod) -> Action {
    Action::delete(pod).noted(Note {
        about: plan::reference(owner),
        done: ("SuccessfulDelete", "Deleted pod: {name}".into()),
        failed: ("FailedDelete", "Error deleting: {error}".into()),
    })
}
