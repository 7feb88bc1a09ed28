//! Whether a container that ended is started again, and how long it has to wait.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// First wait, and the longest, of both the crash and the image pull back-off.
pub const BACK_OFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
pub const BACK_OFF_MAX: SignedDuration = SignedDuration::from_secs(300);

/// Whether a container that exited with `exit_code` is to run again.
///
/// kubernetes/kubernetes pkg/api/v1/pod/util.go: rules come first, then the container's own policy, then the pod's.
pub fn should_restart(container: &Container, pod: &PodSpec, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        if matching_rule(container, exit_code)
            .is_some_and(|action| action == "Restart" || action == "RestartAllContainers")
        {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match pod.restart_policy.as_deref() {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

fn matching_rule(container: &Container, exit_code: i32) -> Option<&str> {
    container.restart_policy_rules.iter().flatten().find_map(|rule| {
        let on = rule.exit_codes.as_ref()?;
        let listed = on.values.iter().flatten().any(|value| *value == exit_code);
        let hit = match on.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        hit.then_some(rule.action.as_str())
    })
}

/// Whether a container killed by a probe is started again, whatever its exit code.
pub fn restarts_after_probe(container: &Container, pod: &PodSpec) -> bool {
    let policy = container.restart_policy.as_deref().or(pod.restart_policy.as_deref());
    policy != Some("Never")
}

/// A sidecar: an init container that keeps running.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// A wait that doubles with every failure and is forgotten after a quiet time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackOff {
    current: Option<SignedDuration>,
    updated: Timestamp,
}

impl BackOff {
    /// Until when to wait after something that failed at `since`; `None` when there is no need to.
    pub fn until(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let wait = self.current?;
        let end = since.checked_add(wait).ok()?;
        (!self.expired(since) && now < end).then_some(end)
    }

    /// Lengthens the wait for the next time.
    pub fn next(&mut self, since: Timestamp, now: Timestamp) {
        self.current = Some(match self.current {
            Some(wait) if !self.expired(since) => (wait * 2).min(BACK_OFF_MAX),
            _ => BACK_OFF_FIRST,
        });
        self.updated = now;
    }

    pub fn current(&self) -> SignedDuration {
        self.current.unwrap_or_default()
    }

    /// client-go util/flowcontrol: an entry is stale when twice the maximum passed between its update and the failure.
    fn expired(&self, since: Timestamp) -> bool {
        since.duration_since(self.updated) > BACK_OFF_MAX * 2
    }
}

/// A duration of whole seconds as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_seconds(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_reset_after_a_quiet_time() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.until(at(100), at(100)), None, "the first restart is immediate");
        let mut seen = Vec::new();
        for _ in 0..7 {
            back_off.next(at(100), at(100));
            seen.push(go_seconds(back_off.current()));
        }
        assert_eq!(seen, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(back_off.until(at(200), at(201)), Some(at(500)));
        assert_eq!(back_off.until(at(701), at(701)), None, "it ran for more than ten minutes");
        back_off.next(at(701), at(701));
        assert_eq!(go_seconds(back_off.current()), "10s");
    }

    #[test]
    fn a_rule_beats_the_containers_policy_which_beats_the_pods() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
        }))
        .unwrap();
        let pod = PodSpec { restart_policy: Some("Always".into()), ..Default::default() };
        assert!(should_restart(&container, &pod, 42));
        assert!(!should_restart(&container, &pod, 1));
        assert!(should_restart(&Container::default(), &pod, 0));
    }
}
