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
/// How soon where pods are left; the end of each is told besides.
const LOOK_AGAIN_AT_PODS: Duration = Duration::from_secs(5);

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
    plan.requeue_after = Some(if pods.is_some() { LOOK_AGAIN_AT_PODS } else { LOOK_AGAIN });
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn namespace() -> Namespace {
        from_value(json!({
            "metadata": {"name": "n", "uid": "n", "resourceVersion": "9", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes", "example.org/mine"]}, "status": {"phase": "Terminating"},
        }))
        .unwrap()
    }

    fn content(plural: &'static str, objects: &[Value]) -> Content {
        let resource = Resource::builtin("", "v1", plural, "Thing", true);
        Content { resource, objects: objects.iter().map(|o| from_value(o.clone()).unwrap()).collect() }
    }

    fn planned(content: Vec<Content>, undiscovered: &[&str], errors: &[&str]) -> Plan {
        let namespace = namespace();
        let text = |all: &[&str]| all.iter().map(|t| (*t).to_string()).collect();
        let view = View { namespace: &namespace, content, undiscovered: text(undiscovered), errors: text(errors) };
        plan(&view, "2026-01-01T00:00:10Z".parse().unwrap())
    }

    /// The conditions that are true, with their messages.
    fn troubles(plan: &Plan) -> Vec<String> {
        let Some(Action { verb: Verb::Update { object, .. }, .. }) = &plan.status else { return Vec::new() };
        let all = object["status"]["conditions"].as_array().unwrap();
        let wrong = all.iter().filter(|c| c["status"] == "True");
        wrong.map(|c| format!("{}: {}", c["reason"].as_str().unwrap(), c["message"].as_str().unwrap())).collect()
    }

    #[test]
    fn pods_go_before_all_else() {
        let there = json!({"name": "a"});
        let plan =
            planned(vec![content("configmaps", std::slice::from_ref(&there)), content("pods", &[there])], &[], &[]);
        assert!(plan.to_text().starts_with("delete all pods of n\nstatus namespaces n\n"), "{}", plan.to_text());
        assert_eq!(plan.actions.len(), 1);
        assert_eq!(plan.requeue_after, Some(LOOK_AGAIN_AT_PODS));
    }

    #[test]
    fn what_is_going_already_is_waited_for_and_told() {
        let going = json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/f"]});
        let plan = planned(vec![content("configmaps", &[going])], &[], &[]);
        assert!(plan.actions.is_empty());
        assert_eq!(
            troubles(&plan),
            [
                "SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances",
                "SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.org/f in 1 resource instances",
            ]
        );
    }

    #[test]
    fn an_empty_namespace_is_let_go_with_the_finalizers_of_others() {
        let plan = planned(vec![content("pods", &[])], &[], &[]);
        let text = plan.to_text();
        assert!(text.starts_with("update namespaces n/finalize\n"), "{text}");
        assert!(text.contains(r#""spec":{"finalizers":["example.org/mine"]}"#), "{text}");
    }

    #[test]
    fn what_could_not_be_asked_or_deleted_holds_it() {
        let plan = planned(Vec::new(), &["metrics.k8s.io/v1beta1"], &["it was refused"]);
        assert!(plan.actions.is_empty());
        assert_eq!(
            troubles(&plan),
            [
                "DiscoveryFailed: Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1",
                "ContentDeletionFailed: Failed to delete all resource types, 1 remaining: it was refused",
            ]
        );
    }

    #[test]
    fn only_a_namespace_that_goes_and_waits_for_us_concerns_us() {
        let mut namespace = namespace();
        assert!(waits(&namespace));
        namespace.spec.as_mut().unwrap().finalizers = None;
        assert!(!waits(&namespace));
    }
}
