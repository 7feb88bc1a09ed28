//! `authorizer`: what expressions of admission may ask of authorization.
//!
//! `k8s.io/apiserver pkg/cel/library/authz.go`: the functions and what each costs.

use std::fmt;
use std::sync::Arc;

use super::CelError;
use super::eval::{Evaluation, no_overload};
use super::value::Val;

/// What a question to authorization costs.
const CHECK_COST: u64 = 350_000;

/// Whoever answers for a user.
pub trait Authorizer: fmt::Debug + Send + Sync {
    fn decide(&self, check: &Check) -> Decision;
    /// The same for a ServiceAccount.
    fn of_service_account(&self, namespace: &str, name: &str) -> Arc<dyn Authorizer>;
}

/// A question as far as it has been put together. A path stands for itself, without a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    pub path: String,
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// A question and whom it goes to.
#[derive(Clone, Debug)]
pub struct Question {
    authorizer: Arc<dyn Authorizer>,
    check: Check,
}

impl Val {
    /// `authorizer.requestResource`: the question about the request's own resource, of its group, plural,
    /// subresource, namespace and name.
    pub fn resource_check(authorizer: &Arc<dyn Authorizer>, of: [&str; 5]) -> Val {
        let [group, resource, subresource, namespace, name] = of.map(str::to_owned);
        let check = Check { group, resource, subresource, namespace, name, ..Check::default() };
        Val::Question(Arc::new(Question { authorizer: Arc::clone(authorizer), check }))
    }
}

pub(super) fn of_authorizer(authorizer: &Arc<dyn Authorizer>, name: &str, args: &[Val]) -> Result<Val, CelError> {
    let question = |check: Check| Ok(Val::Question(Arc::new(Question { authorizer: Arc::clone(authorizer), check })));
    match (name, args) {
        ("path", [Val::Text(path)]) => question(Check { path: path.to_string(), ..Check::default() }),
        ("group", [Val::Text(group)]) => question(Check { group: group.to_string(), ..Check::default() }),
        ("serviceAccount", [Val::Text(namespace), Val::Text(name)]) => {
            Ok(Val::Authorizer(authorizer.of_service_account(namespace, name)))
        }
        _ => no_overload(),
    }
}

pub(super) fn of_question(
    evaluation: &mut Evaluation<'_>,
    question: &Question,
    name: &str,
    args: &[Val],
) -> Result<Val, CelError> {
    let [Val::Text(text)] = args else { return no_overload() };
    let mut check = question.check.clone();
    let field = match name {
        "resource" => &mut check.resource,
        "subresource" => &mut check.subresource,
        "namespace" => &mut check.namespace,
        "name" => &mut check.name,
        "fieldSelector" => &mut check.field_selector,
        "labelSelector" => &mut check.label_selector,
        "check" => {
            evaluation.spend(CHECK_COST)?;
            check.verb = text.to_string();
            return Ok(Val::Decision(Arc::new(question.authorizer.decide(&check))));
        }
        _ => return no_overload(),
    };
    *field = text.to_string();
    Ok(Val::Question(Arc::new(Question { authorizer: Arc::clone(&question.authorizer), check })))
}

pub(super) fn of_decision(decision: &Decision, name: &str, args: &[Val]) -> Result<Val, CelError> {
    match (name, args) {
        ("allowed", []) => Ok(Val::Bool(decision.allowed)),
        ("reason", []) => Ok(Val::text(decision.reason.as_str())),
        ("errored", []) => Ok(Val::Bool(decision.error.is_some())),
        ("error", []) => Ok(Val::text(decision.error.as_deref().unwrap_or_default())),
        _ => no_overload(),
    }
}
