//! Throws signing requests away that have served: their certificate, if any, is long with whoever asked for it.
//!
//! kubernetes/kubernetes pkg/controller/certificates/cleaner: decides how long each is kept. Looked at when due rather
//! than every hour.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{conditions, issued};
use crate::cache::Of;
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub static CLEANER: Controller = Controller {
    name: "certificatesigningrequest-cleaner-controller",
    account: "certificate-controller",
    watches: &[(Of::CertificateSigningRequest, own)],
    workers: 1,
    sync: |cx, key| cx.cache.signing_requests.at(key).map(|r| plan(&r, cx)).unwrap_or_default(),
};

/// When the request may go; none for one whose end nothing decides yet.
fn ends(request: &CertificateSigningRequest, cx: &Cx<'_>) -> Option<Timestamp> {
    let after = |since: Timestamp, keep: Duration| since.saturating_add(keep).unwrap_or(Timestamp::MAX);
    if conditions(request).is_empty() {
        return Some(after(meta::created(&request.metadata), DAY));
    }
    let issued = issued(request);
    let by_condition = conditions(request).iter().filter_map(|c| {
        let since = c.last_update_time.as_ref()?.0;
        match (c.type_.as_str(), issued) {
            ("Denied" | "Failed", _) | ("Approved", true) => Some(after(since, HOUR)),
            ("Approved", false) => Some(after(since, DAY)),
            _ => None,
        }
    });
    let certificate = request.status.as_ref().and_then(|s| s.certificate.as_ref());
    let expires = certificate.and_then(|pem| cx.settings.certificate_authority.as_ref()?.expires(&pem.0));
    by_condition.chain(expires).min()
}

fn plan(request: &CertificateSigningRequest, cx: &Cx<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(end) = ends(request, cx) else { return plan };
    match Duration::try_from(end.duration_since(cx.now)) {
        Ok(left) if !left.is_zero() => plan.requeue(left),
        _ if meta::deleting(&request.metadata) => {}
        _ => plan.actions.push(Action::delete(request)),
    }
    plan
}
