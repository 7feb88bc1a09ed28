//! What a pod's failure means to its Job.

use k8s_openapi::api::batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Draft;
use crate::cache::Key;

/// What a rule says of a pod.
struct Ruling<'a> {
    action: &'a str,
    /// For `FailJob`.
    message: String,
}

impl Draft {
    fn ruling(&self, pod: &Pod) -> Option<Ruling<'_>> {
        let rules = &self.spec.pod_failure_policy.as_ref()?.rules;
        rules.iter().enumerate().find_map(|(at, rule)| rule_on(at, rule, pod))
    }

    /// Whether the failure counts towards the limit.
    pub(super) fn failure_counts(&self, pod: &Pod) -> bool {
        self.ruling(pod).is_none_or(|r| r.action != "Ignore")
    }

    pub(super) fn fails_index(&self, pod: &Pod) -> bool {
        self.ruling(pod).is_some_and(|r| r.action == "FailIndex")
    }

    /// Why a failed pod fails the whole Job, if one does.
    pub(super) fn fails_job(&self) -> Option<String> {
        let failed = self.pods.iter().filter(|p| self.pod_failed(p));
        failed.filter_map(|p| self.ruling(p)).find(|r| r.action == "FailJob").map(|r| r.message)
    }

    /// Whether the success policy is met, and by which rule.
    pub(super) fn succeeds(&self) -> Option<String> {
        let rules = &self.spec.success_policy.as_ref()?.rules;
        let done = &self.indexes.succeeded;
        rules.iter().enumerate().find_map(|(at, rule)| {
            let met = match (&rule.succeeded_indexes, rule.succeeded_count) {
                (Some(text), count) => {
                    let wanted = super::indexes::parse(text, self.completions());
                    let reached = wanted.intersection(done).count();
                    count.map_or(reached == wanted.len(), |count| reached >= usize::try_from(count).unwrap_or(0))
                }
                (None, Some(count)) => done.len() >= usize::try_from(count).unwrap_or(0),
                (None, None) => false,
            };
            met.then(|| format!("Matched rules at index {at}"))
        })
    }
}

fn rule_on<'a>(at: usize, rule: &'a PodFailurePolicyRule, pod: &Pod) -> Option<Ruling<'a>> {
    let key = Key::of(&pod.metadata);
    let action = rule.action.as_str();
    if let Some(wanted) = &rule.on_exit_codes {
        let (container, code) = exited(pod, wanted)?;
        let message = format!(
            "Container {container} for pod {key} failed with exit code {code} matching {action} rule at index {at}"
        );
        return Some(Ruling { action, message });
    }
    let patterns = rule.on_pod_conditions.as_ref()?;
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let found = conditions
        .into_iter()
        .flatten()
        .find(|c| patterns.iter().any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status))?;
    let message = format!("Pod {key} has condition {} matching {action} rule at index {at}", found.type_);
    Some(Ruling { action, message })
}

fn exited(pod: &Pod, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let code = |c: &ContainerStatus| c.state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    all.filter(|c| wanted.container_name.as_ref().is_none_or(|name| *name == c.name))
        .filter_map(|c| code(c).map(|code| (c.name.clone(), code)))
        .find(|(_, code)| {
            let listed = wanted.values.contains(code);
            *code != 0 && (wanted.operator == "In") == listed
        })
}
