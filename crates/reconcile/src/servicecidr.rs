//! Service CIDRs: a range of Service addresses is ready once it is protected, and goes only when no Service needs it.
//!
//! kubernetes/kubernetes pkg/controller/servicecidrs: decides finalizer, condition and the time that passes before a
//! range is gone.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::range::Range;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Allocators hear of the deletion within this time.
const DELETION_GRACE: Duration = Duration::from_secs(10);
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub static SERVICECIDR: Controller = Controller {
    name: "service-cidr-controller",
    account: "service-cidrs-controller",
    watches: &[(Of::ServiceCIDR, every), (Of::Service, of_service)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    range: Arc<ServiceCIDR>,
    others: Vec<Range>,
    /// When the range is being deleted.
    addresses: Vec<IpAddr>,
}

/// A range that comes or goes may free one that overlaps it.
fn every(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    own(cache, change, keys);
    keys.extend(going(cache));
}

fn going(cache: &Cache) -> impl Iterator<Item = Key> {
    cache.service_cidrs.all().into_iter().filter(|r| meta::deleting(&r.metadata)).map(|r| Key::of(&r.metadata))
}

fn of_service(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    if change.new.is_none() {
        keys.extend(going(cache));
    }
}

fn ranges(range: &ServiceCIDR) -> Vec<Range> {
    let all = range.spec.as_ref().and_then(|s| s.cidrs.as_ref());
    all.into_iter().flatten().filter_map(|text| Range::parse(text)).collect()
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    let all = service.spec.as_ref().and_then(|s| s.cluster_ips.as_ref());
    all.into_iter().flatten().filter_map(|text| text.parse().ok()).collect()
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let range = cx.cache.service_cidrs.at(key)?;
    let (mut others, mut used) = (Vec::new(), Vec::new());
    if meta::deleting(&range.metadata) {
        let all = cx.cache.service_cidrs.all();
        others = all.iter().filter(|o| o.metadata.name != range.metadata.name).flat_map(|o| ranges(o)).collect();
        used = cx.cache.services.all().iter().flat_map(|s| addresses(s)).collect();
    }
    Some(View { range, others, addresses: used })
}

fn with_condition(range: &ServiceCIDR, wanted: Condition) -> Option<Action> {
    let status = range.status.clone().unwrap_or_default();
    let mut conditions = status.conditions.unwrap_or_default();
    let had = conditions.iter().find(|c| c.type_ == wanted.type_);
    if had.is_some_and(|c| (&c.status, &c.reason, &c.message) == (&wanted.status, &wanted.reason, &wanted.message)) {
        return None;
    }
    conditions.retain(|c| c.type_ != wanted.type_);
    conditions.push(wanted);
    let status = Some(ServiceCIDRStatus { conditions: Some(conditions) });
    Some(Action::update_status(&ServiceCIDR { status, ..range.clone() }))
}

fn condition(ready: bool, now: Timestamp) -> Condition {
    let (status, reason, message) =
        if ready { ("True", "", "Kubernetes Service CIDR is ready") } else { ("False", "Terminating", IN_USE) };
    Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: meta::time(now),
        observed_generation: None,
    }
}

/// Whether a Service's address is in this range and in no other.
fn needed(view: &View) -> bool {
    let own = ranges(&view.range);
    if own.iter().all(|range| view.others.iter().any(|other| other.encloses(range))) {
        return false;
    }
    let inside = |ranges: &[Range], address: &IpAddr| ranges.iter().any(|range| range.contains(*address));
    view.addresses.iter().any(|address| inside(&own, address) && !inside(&view.others, address))
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let range = view.range.as_ref();
    let Some(deleted) = range.metadata.deletion_timestamp.as_ref() else {
        if !meta::has_finalizer(&range.metadata, FINALIZER) {
            let mut all = range.metadata.finalizers.clone().unwrap_or_default();
            all.push(FINALIZER.into());
            plan.actions.push(Action::changed(range, |r| r.metadata.finalizers = Some(all)));
            return plan;
        }
        plan.status = with_condition(range, condition(true, now));
        return plan;
    };
    if needed(view) {
        plan.status = with_condition(range, condition(false, now));
        return plan;
    }
    let passed = Duration::try_from(now.duration_since(deleted.0)).unwrap_or(Duration::ZERO);
    match DELETION_GRACE.checked_sub(passed).filter(|left| !left.is_zero()) {
        Some(left) => plan.requeue(left),
        None if meta::has_finalizer(&range.metadata, FINALIZER) => {
            let mut all = range.metadata.finalizers.clone().unwrap_or_default();
            all.retain(|f| f != FINALIZER);
            plan.actions.push(Action::changed(range, |r| r.metadata.finalizers = Some(all)));
        }
        None => {}
    }
    plan
}
