//! TTL after finished: an ended Job goes when its `ttlSecondsAfterFinished` have passed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::cache::{Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan, Propagation};

pub static TTLAFTERFINISHED: Controller = Controller {
    name: "ttl-after-finished-controller",
    account: "ttl-after-finished-controller",
    watches: &[(Of::Job, own)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|job| plan(&job, cx.now)).unwrap_or_default(),
};

fn gather(cx: &Cx<'_>, key: &Key) -> Option<std::sync::Arc<Job>> {
    cx.cache.jobs.at(key)
}

fn plan(job: &Job, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ended =
        conditions.into_iter().flatten().find(|c| (c.type_ == "Complete" || c.type_ == "Failed") && c.status == "True");
    let end = ended.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0.as_second());
    let (Some(ttl), Some(end)) = (ttl, end) else { return plan };
    if meta::deleting(&job.metadata) {
        return plan;
    }
    let left = end + i64::from(ttl) - now.as_second();
    if left > 0 {
        plan.requeue(Duration::from_secs(left as u64));
    } else {
        plan.actions.push(Action::delete(job).with_propagation(Propagation::Foreground));
    }
    plan
}
