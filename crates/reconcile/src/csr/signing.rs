//! Signing: an approved request for one of the cluster's own signers gets its certificate.
//!
//! kubernetes/kubernetes pkg/controller/certificates/signer: decides what each signer refuses and how long its
//! certificates live.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use super::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, client, conditions, has, issued};
use super::{kubelet_client, kubelet_serving, usages};
use crate::cache::{Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::ports::{CertificateAuthority, CertificateTerms, RequestedCertificate};

const LIFE_MIN: Duration = Duration::from_secs(600);
/// Clocks of those who are shown the certificate may be behind by so much.
const BACKDATE: Duration = Duration::from_secs(300);
/// A certificate that lives shorter is not shortened by the backdating.
const SHORT: Duration = Duration::from_secs(8 * 3600);

/// What the authority could not do now, it may be able to do later.
const RETRY: Duration = Duration::from_secs(60);

pub static SIGNING: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    account: "certificate-controller",
    watches: &[(Of::CertificateSigningRequest, own)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    request: Arc<CertificateSigningRequest>,
    authority: Arc<dyn CertificateAuthority>,
    life: Duration,
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let request = cx.cache.signing_requests.at(key)?;
    let wanted = has(&request, "Approved") && !has(&request, "Denied") && !has(&request, "Failed") && !issued(&request);
    let (authority, life) = (cx.settings.certificate_authority.clone()?, cx.settings.certificate_life);
    wanted.then_some(View { request, authority, life })
}

/// Whether the signer takes the request; none: it is no signer of this cluster's.
fn judge(request: &CertificateSigningRequest, asked: &RequestedCertificate) -> Option<Result<(), String>> {
    let usages = usages(request);
    Some(match request.spec.signer_name.as_str() {
        CLIENT => client(&usages),
        KUBELET_CLIENT => kubelet_client(asked, &usages),
        KUBELET_SERVING => kubelet_serving(asked, &usages),
        LEGACY => Ok(()),
        _ => return None,
    })
}

fn terms(request: &CertificateSigningRequest, life_max: Duration, now: Timestamp) -> CertificateTerms {
    let wanted = request.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    let life = wanted.map_or(life_max, |wanted| wanted.max(LIFE_MIN).min(life_max));
    let until = if life < SHORT { life } else { life - BACKDATE };
    CertificateTerms {
        usages: request.spec.usages.clone().unwrap_or_default(),
        not_before: now.saturating_sub(BACKDATE).unwrap_or(now),
        not_after: now.saturating_add(until).unwrap_or(now),
    }
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let request = view.request.as_ref();
    let failed = |plan: &mut Plan, reason: String| {
        plan.events.push(Event::warning(request, "SigningFailed", reason));
        plan.requeue(RETRY);
    };
    let asked = match view.authority.read(&request.spec.request.0) {
        Ok(asked) => asked,
        Err(reason) => {
            failed(&mut plan, reason);
            return plan;
        }
    };
    let mut done = request.clone();
    let status = done.status.get_or_insert_default();
    match judge(request, &asked) {
        None => return plan,
        Some(Ok(())) => match view.authority.sign(&request.spec.request.0, &terms(request, view.life, now)) {
            Ok(certificate) => status.certificate = Some(ByteString(certificate.into_bytes())),
            Err(reason) => {
                failed(&mut plan, reason);
                return plan;
            }
        },
        Some(Err(reason)) => {
            let mut all = conditions(request).to_vec();
            all.push(CertificateSigningRequestCondition {
                type_: "Failed".into(),
                status: "True".into(),
                reason: Some("SignerValidationFailure".into()),
                message: Some(reason),
                last_update_time: Some(meta::time(now)),
                ..Default::default()
            });
            status.conditions = Some(all);
        }
    }
    plan.status = Some(Action::update_status(&done));
    plan
}
