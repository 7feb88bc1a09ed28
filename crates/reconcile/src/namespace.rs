//! `Namespace`: removes all content of a namespace that is being deleted, pods first, then lets it go.
//!
//! What is left in a namespace is known to the API server alone, so the runner lists it ([`Content`]) before each
//! plan. kubernetes/kubernetes pkg/controller/namespace/deletion: decides the order and the conditions.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::Key;
use crate::meta;
use crate::plan::{self, Action, Plan, Subresource, Verb};
use crate::resource::Resource;

/// The finalizer of `spec.finalizers` that this controller takes off.
const FINALIZER: &str = "kubernetes";
/// How soon to look again at content that goes by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The objects of one resource left in the namespace.
pub struct Content {
    pub resource: Resource,
    pub objects: Vec<ObjectMeta>,
}

/// A namespace being deleted and what is left in it.
pub struct View<'a> {
    pub namespace: &'a Namespace,
    pub content: Vec<Content>,
    /// Groups and versions that could not be discovered.
    pub undiscovered: Vec<String>,
    /// What went wrong with the last deletions.
    pub errors: Vec<String>,
}

/// Whether the namespace waits for this controller.
pub fn waits(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
    meta::deleting(&namespace.metadata) && finalizers.is_some_and(|all| all.iter().any(|f| f == FINALIZER))
}

pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let pods = view.content.iter().find(|c| is_pods(&c.resource) && !c.objects.is_empty());
    let in_turn: Vec<&Content> = match pods {
        Some(pods) => vec![pods],
        None => view.content.iter().filter(|c| !c.objects.is_empty()).collect(),
    };
    let name = meta::name(&view.namespace.metadata);
    for content in &in_turn {
        if content.objects.iter().any(|o| !meta::deleting(o)) {
            let key = Key::new(name, "");
            let resource = content.resource.clone();
            plan.actions.push(Action { resource, key, verb: Verb::DeleteCollection, note: None });
        }
    }
    if in_turn.is_empty() && view.errors.is_empty() && view.undiscovered.is_empty() {
        plan.actions.push(finalize(view.namespace));
        return plan;
    }
    plan.status = status(view, &in_turn, now);
    plan.requeue_after = Some(LOOK_AGAIN);
    plan
}

fn is_pods(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "pods"
}

fn finalize(namespace: &Namespace) -> Action {
    let mut done = namespace.clone();
    if let Some(spec) = &mut done.spec
        && let Some(finalizers) = &mut spec.finalizers
    {
        finalizers.retain(|f| f != FINALIZER);
    }
    Action::on(namespace, Verb::Update { object: plan::value(&done), subresource: Subresource::Finalize })
}

fn status(view: &View<'_>, left: &[&Content], now: Timestamp) -> Option<Action> {
    let mut updated = view.namespace.clone();
    let mut status = updated.status.clone().unwrap_or_default();
    status.phase = Some("Terminating".into());
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    for (kind, wanted) in conditions_of(view, left) {
        let (state, reason, message) = wanted;
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(had) => {
                if had.status != state {
                    had.last_transition_time = Some(meta::time(now));
                }
                had.status = state.into();
                had.reason = Some(reason.into());
                had.message = Some(message);
            }
            None => conditions.push(NamespaceCondition {
                type_: kind.into(),
                status: state.into(),
                reason: Some(reason.into()),
                message: Some(message),
                last_transition_time: Some(meta::time(now)),
            }),
        }
    }
    if Some(&status) == view.namespace.status.as_ref() {
        return None;
    }
    updated.status = Some(status);
    Some(Action::update_status(&updated))
}

type Wanted = (&'static str, &'static str, String);

fn conditions_of(view: &View<'_>, left: &[&Content]) -> [(&'static str, Wanted); 5] {
    let fine = |reason, message: &str| ("False", reason, message.to_string());
    let discovery = if view.undiscovered.is_empty() {
        fine("ResourcesDiscovered", "All resources successfully discovered")
    } else {
        let count = view.undiscovered.len();
        let groups = view.undiscovered.join(", ");
        let message = format!(
            "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of server APIs: {groups}"
        );
        ("True", "DiscoveryFailed", message)
    };
    let deletion = if view.errors.is_empty() {
        fine("ContentDeleted", "All content successfully deleted, may be waiting on finalization")
    } else {
        let (count, texts) = (view.errors.len(), view.errors.join(", "));
        ("True", "ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {texts}"))
    };
    let remaining = if left.is_empty() {
        fine("ContentRemoved", "All content successfully removed")
    } else {
        let mut counts: Vec<String> = left
            .iter()
            .map(|c| format!("{}.{} has {} resource instances", c.resource.plural, c.resource.group, c.objects.len()))
            .collect();
        counts.sort();
        ("True", "SomeResourcesRemain", format!("Some resources are remaining: {}", counts.join(", ")))
    };
    let mut by_finalizer: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in left.iter().flat_map(|c| &c.objects).flat_map(|o| o.finalizers.iter().flatten()) {
        *by_finalizer.entry(finalizer).or_default() += 1;
    }
    let finalizers = if by_finalizer.is_empty() {
        fine("ContentHasNoFinalizers", "All content-preserving finalizers finished")
    } else {
        let counts: Vec<String> =
            by_finalizer.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
        let message = format!("Some content in the namespace has finalizers remaining: {}", counts.join(", "));
        ("True", "SomeFinalizersRemain", message)
    };
    [
        ("NamespaceDeletionDiscoveryFailure", discovery),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        ("NamespaceDeletionContentFailure", deletion),
        ("NamespaceContentRemaining", remaining),
        ("NamespaceFinalizersRemaining", finalizers),
    ]
}
