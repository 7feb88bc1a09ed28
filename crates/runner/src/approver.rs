//! Signing requests of kubelets: asks the API server whether their authors may make them, and approves those who may.
//!
//! What is asked and what is written is decided in `reconcile::csr::approval`.

use std::sync::Arc;

use http::Method;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use reconcile::csr::approval;
use reconcile::ports::CertificateAuthority;
use reconcile::{Change, meta};
use serde_json::Value;
use tracing::{info, warn};

use crate::execute::Shared;
use crate::queue::Queue;
use crate::tasks::caught_in;

pub const SOURCE: &str = approval::NAME;
pub const ACCOUNT: &str = approval::ACCOUNT;

/// The request a change is about, if it is still open.
pub fn concerned(change: &Change) -> Option<String> {
    let request = change.after::<CertificateSigningRequest>()?;
    (!approval::decided(request)).then(|| meta::name(&request.metadata).to_string())
}

/// Works on open requests; without an authority nobody could sign what is approved, so nothing is.
pub async fn run(shared: Arc<Shared>, queue: Arc<Queue<String>>, authority: Option<Arc<dyn CertificateAuthority>>) {
    let Some(authority) = authority else { return std::future::pending().await };
    loop {
        let name = queue.next().await;
        let work = judge(&shared, &name, authority.as_ref());
        match caught_in(work).await.unwrap_or_else(|panic| Err(format!("panic: {panic}"))) {
            Ok(()) => queue.forget(&name),
            Err(message) => {
                warn!(request = name, message, "signing request not judged");
                queue.add_rate_limited(name.clone());
            }
        }
        queue.done(&name);
    }
}

async fn judge(shared: &Shared, name: &str, authority: &dyn CertificateAuthority) -> Result<(), String> {
    let Some(request) = shared.cache.signing_requests.get("", name) else { return Ok(()) };
    let serving = approval::serving(&request, authority, &shared.cache)?;
    if !serving.actions.is_empty() {
        return shared.carry_out(SOURCE, serving, false).await.map_err(|failed| failed.message);
    }
    let questions = match approval::questions(&request, authority) {
        Ok(questions) => questions,
        Err(reason) => {
            info!(request = name, reason, "signing request cannot be read");
            return Ok(());
        }
    };
    for question in &questions {
        if allowed(shared, &approval::review(&request, question)).await? {
            let plan = approval::plan(&request, question);
            return shared.carry_out(SOURCE, plan, false).await.map_err(|failed| failed.message);
        }
    }
    if let Some(last) = questions.last() {
        info!(request = name, permission = last.subresource, "signing request left to others: its author may not");
    }
    Ok(())
}

async fn allowed(shared: &Shared, review: &Value) -> Result<bool, String> {
    let json = "application/json";
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = shared.api_of(SOURCE).call(Method::POST, path, json, json, Some(review)).await;
    let answer: Value = serde_json::from_slice(&answer.map_err(|refusal| refusal.message)?)
        .map_err(|error| format!("unreadable answer: {error}"))?;
    Ok(answer["status"]["allowed"] == true)
}
