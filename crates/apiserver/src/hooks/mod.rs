//! Admission that users bring along: webhooks called, and what they are told of the request.
//!
//! `kubernetes/apiserver pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go`: the order, and what becomes
//! of failures.

mod around;
mod asked;
pub mod call;
mod policies;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use around::Around;

use admit::hooks::{Answer, Configuration, Matched, Subject, Webhook, review, variables, verify};
use machinery::gvk::GroupResource;
use machinery::patch;
use machinery::status::Status;
use serde_json::Value;

pub use asked::Asked;

use crate::context::Cx;

const GROUP: &str = "admissionregistration.k8s.io";

/// The objects of a request: what is to be, and what is.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    pub new: Option<&'a Value>,
    pub old: Option<&'a Value>,
}

/// The two rounds of mutation: the second is due when somebody has changed the object in the first.
#[derive(Default)]
pub struct Rounds {
    pub policies: Memory,
    pub webhooks: Memory,
}

impl Rounds {
    pub fn changed(&self) -> bool {
        self.policies.changed || self.webhooks.changed
    }

    /// Whether a second round is due; it is begun.
    pub fn another(&mut self) -> bool {
        let due = self.changed() && !self.webhooks.second;
        self.policies.second = true;
        self.webhooks.second = true;
        due
    }
}

/// What policies, or webhooks, remember between the two rounds.
/// `kubernetes/apiserver pkg/admission/plugin/webhook/mutating/reinvocationcontext.go`.
#[derive(Default)]
pub struct Memory {
    /// Who was asked and wants to be asked again when others change the object.
    asked: BTreeSet<String>,
    /// Who is to be asked in the second round.
    again: BTreeSet<String>,
    /// What the first round ended with.
    left: Option<Value>,
    second: bool,
    /// Somebody changed the object: a second round is due.
    changed: bool,
}

impl Memory {
    fn all_again(&mut self) {
        self.again.append(&mut self.asked);
    }

    /// The second round begins with what the built-in plugins have made of the object.
    pub fn enter(&mut self, now: &Value) {
        if self.second && self.left.as_ref() != Some(now) {
            self.all_again();
        }
    }

    pub fn leave(&mut self, now: &Value) {
        self.left = Some(now.clone());
    }

    pub fn skips(&self, id: &str) -> bool {
        self.second && !self.again.contains(id)
    }

    /// Notes that somebody has been asked.
    pub fn note(&mut self, id: &str, changed: bool, again_if_needed: bool) {
        if changed {
            self.all_again();
            self.changed = true;
        }
        if again_if_needed {
            self.asked.insert(id.to_owned());
        }
    }
}

/// Why a webhook did not let a request through.
enum Refused {
    /// It could not be asked, or its answer made no sense.
    Failed(String),
    Denied(Status),
}

impl Refused {
    /// As the client is told; nothing when the webhook's failures are to be ignored.
    fn into_status(self, webhook: &Webhook) -> Option<Status> {
        match self {
            Refused::Denied(status) => Some(status),
            Refused::Failed(reason) => {
                let words = format!("failed calling webhook {:?}: {reason}", webhook.name);
                tracing::warn!(webhook = %webhook.name, ignored = webhook.ignore_failures, %reason, "a webhook failed");
                (!webhook.ignore_failures).then(|| Status::internal(words))
            }
        }
    }
}

fn configurations(cx: &Cx, plural: &str) -> Vec<Arc<Configuration>> {
    cx.server.view().list(GROUP, plural, "")
}

/// Lets mutating webhooks change the object of a request, one after another.
pub async fn mutate(
    cx: &Cx,
    subject: &Subject<'_>,
    new: Option<&mut Value>,
    old: Option<&Value>,
    rounds: &mut Memory,
) -> Result<(), Status> {
    let configurations = configurations(cx, "mutatingwebhookconfigurations");
    if configurations.is_empty() || subject.is_exempt() {
        return Ok(());
    }
    let mut nothing = Value::Null;
    let absent = new.is_none();
    let new = new.unwrap_or(&mut nothing);
    rounds.enter(new);
    for webhook in configurations.iter().flat_map(|configuration| &configuration.webhooks) {
        let objects = Objects { new: Some(&*new).filter(|_| !absent), old };
        let Some(matched) = concerned(cx, webhook, subject, objects).await? else { continue };
        if rounds.skips(&webhook.id) {
            continue;
        }
        let mut changed = false;
        match ask(cx, webhook, subject, &matched, objects, true).await {
            Ok(Answer { patch: None, .. }) => {}
            Ok(Answer { patch: Some(patch), .. }) => {
                if absent {
                    let words = "attempted to modify the object, which is not supported for this operation";
                    return Err(Status::internal(format!("admission webhook {:?} {words}", webhook.name)));
                }
                let patched = patched(cx, subject, &matched, new, &patch).await?;
                changed = patched != *new;
                *new = patched;
            }
            Err(refused) => {
                if let Some(status) = refused.into_status(webhook) {
                    return Err(status);
                }
            }
        }
        rounds.note(&webhook.id, changed, webhook.again_if_needed);
    }
    rounds.leave(new);
    Ok(())
}

/// The object with a webhook's patch on it, in the request's version: decoded and defaulted as if it had come so.
async fn patched(
    cx: &Cx,
    subject: &Subject<'_>,
    matched: &Matched,
    new: &Value,
    operations: &Value,
) -> Result<Value, Status> {
    let seen = versions::convert(cx, subject, &matched.kind, new).await?;
    let patched = patch::json::apply(&seen, operations).map_err(|status| Status::internal(status.message))?;
    let own = versions::back(cx, subject, &matched.kind, patched).await?;
    versions::settled(cx, subject, own)
}

/// Asks the validating webhooks, all at once; the first refusal in their order counts.
pub async fn validate(cx: &Cx, subject: &Subject<'_>, objects: Objects<'_>) -> Result<(), Status> {
    let configurations = configurations(cx, "validatingwebhookconfigurations");
    if configurations.is_empty() || subject.is_exempt() {
        return Ok(());
    }
    let mut concerned_ones = Vec::new();
    for webhook in configurations.iter().flat_map(|configuration| &configuration.webhooks) {
        if let Some(matched) = concerned(cx, webhook, subject, objects).await? {
            concerned_ones.push((webhook, matched));
        }
    }
    let asked = concerned_ones.iter().map(|(webhook, matched)| async move {
        let answer = ask(cx, webhook, subject, matched, objects, false).await;
        answer.err().and_then(|refused| refused.into_status(webhook))
    });
    match futures::future::join_all(asked).await.into_iter().flatten().next() {
        Some(status) => Err(status),
        None => Ok(()),
    }
}

/// The version in which to ask a webhook, if the request concerns it.
async fn concerned(
    cx: &Cx,
    webhook: &Webhook,
    subject: &Subject<'_>,
    objects: Objects<'_>,
) -> Result<Option<Matched>, Status> {
    let around = Around::new(&cx.server);
    let Some(matched) = webhook.criteria.matches(subject, &around, objects.new, objects.old)? else { return Ok(None) };
    if webhook.conditions.is_empty() {
        return Ok(Some(matched));
    }
    let (new, old) = versions::both(cx, subject, &matched.kind, objects).await?;
    let authorizer = around::authorizer(&cx.server, subject.user);
    let variables = variables(subject, &matched, new.as_ref(), old.as_ref(), authorizer);
    match webhook.conditions.hold(&variables, webhook.ignore_failures) {
        Ok(holds) => Ok(holds.then_some(matched)),
        Err(error) => {
            let resource = GroupResource::new(&*subject.resource.group, &*subject.resource.resource);
            Err(Status::forbidden(&resource, subject.name, error))
        }
    }
}

/// Asks one webhook; its warnings go to the client in any case.
async fn ask(
    cx: &Cx,
    webhook: &Webhook,
    subject: &Subject<'_>,
    matched: &Matched,
    objects: Objects<'_>,
    mutating: bool,
) -> Result<Answer, Refused> {
    let failed = |status: Status| Refused::Failed(status.message);
    if subject.dry_run && !webhook.takes_dry_run {
        let words = format!("admission webhook {:?} does not support dry run", webhook.name);
        return Err(Refused::Denied(Status::bad_request(words)));
    }
    let Some(version) = webhook.version else {
        let words = "could not create admission objects: webhook does not accept known AdmissionReview versions";
        return Err(Refused::Failed(format!("{words} (v1, v1beta1)")));
    };
    let (new, old) = versions::both(cx, subject, &matched.kind, objects).await.map_err(failed)?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review(version, &uid, subject, matched, new.as_ref(), old.as_ref());
    let answered = call::post(&cx.server, &webhook.client, &question, webhook.timeout).await;
    let answered = answered.map_err(|error| Refused::Failed(format!("failed to call webhook: {error}")))?;
    let answer = verify(&webhook.name, version, &uid, mutating, &answered)
        .map_err(|error| Refused::Failed(format!("received invalid webhook response: {error}")))?;
    answer.warnings.iter().for_each(|warning| cx.warn(warning.as_str()));
    match answer.refusal {
        Some(status) => Err(Refused::Denied(status)),
        None => Ok(answer),
    }
}
