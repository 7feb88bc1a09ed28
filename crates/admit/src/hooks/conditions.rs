//! Match conditions: CEL expressions that must all be true of a request.
//!
//! `kubernetes/apiserver pkg/admission/plugin/webhook/matchconditions/matcher.go` decides from the same results.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MatchCondition;
use machinery::cel::{Authorizer, Program, Val};
use serde_json::{Value, json};

use super::{Matched, Subject};

/// What all conditions of one webhook or policy may cost together.
/// `kubernetes/apiserver pkg/apis/cel/config.go: RuntimeCELCostBudgetMatchConditions`.
const COST_MAX: u64 = 2_500_000;

#[derive(Clone, Debug)]
pub struct Condition {
    pub name: String,
    program: Result<Program, String>,
}

/// The conditions of a webhook or policy.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    pub fn of(written: Option<&Vec<MatchCondition>>) -> Conditions {
        let condition = |written: &MatchCondition| Condition {
            name: written.name.clone(),
            program: Program::compile(&written.expression).map_err(|error| error.to_string()),
        };
        Conditions(written.into_iter().flatten().map(condition).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false decides; otherwise a failure fails, or is as a false one when the failure
    /// policy is to ignore.
    pub fn hold(&self, variables: &HashMap<String, Val>, ignore_failures: bool) -> Result<bool, String> {
        let mut budget = COST_MAX;
        let mut failures = Vec::new();
        for condition in &self.0 {
            let outcome = match &condition.program {
                Ok(program) => program.eval(variables, &mut budget).map_err(|error| error.to_string()),
                Err(error) => Err(format!("compilation error: {error}")),
            };
            match outcome {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => failures.push("must evaluate to bool".to_owned()),
                Err(error) => failures.push(format!(
                    "expression '{}' resulted in error: {error}",
                    condition.program.as_ref().map(Program::source).unwrap_or_default()
                )),
            }
        }
        match failures.as_slice() {
            [] => Ok(true),
            _ if ignore_failures => Ok(false),
            [only] => Err(only.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// `object`, `oldObject`, `request` and `authorizer`, as expressions name them.
/// `kubernetes/apiserver pkg/admission/plugin/cel/activation.go`.
pub fn variables(
    subject: &Subject<'_>,
    matched: &Matched,
    new: Option<&Value>,
    old: Option<&Value>,
    authorizer: Arc<dyn Authorizer>,
) -> HashMap<String, Val> {
    let object = |value: Option<&Value>| value.map_or(Val::Null, Val::from_json);
    let mut variables = HashMap::from([
        ("object".to_owned(), object(new)),
        ("oldObject".to_owned(), object(old)),
        ("namespaceObject".to_owned(), Val::Null),
        ("request".to_owned(), Val::from_json(&request(subject, matched))),
    ]);
    let own = Val::resource_check(
        &authorizer,
        [&subject.resource.group, &subject.resource.resource, subject.subresource, subject.namespace, subject.name],
    );
    variables.insert("authorizer.requestResource".to_owned(), own);
    variables.insert("authorizer".to_owned(), Val::Authorizer(authorizer));
    variables
}

/// An `AdmissionRequest` without its objects.
pub fn request(subject: &Subject<'_>, matched: &Matched) -> Value {
    let kind = |kind: &machinery::gvk::GroupVersionKind| json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind});
    let resource = |of: &machinery::gvk::GroupVersionResource| json!({"group": &*of.group, "version": &*of.version, "resource": &*of.resource});
    let mut request = json!({
        "kind": kind(&matched.kind),
        "resource": resource(&matched.resource),
        "requestKind": kind(&subject.kind),
        "requestResource": resource(&subject.resource),
        "operation": subject.operation.name(),
        "userInfo": subject.user,
        "dryRun": subject.dry_run,
    });
    for (field, value) in [
        ("subResource", subject.subresource),
        ("requestSubResource", subject.subresource),
        ("name", subject.name),
        ("namespace", subject.namespace),
    ] {
        if !value.is_empty() {
            request[field] = json!(value);
        }
    }
    request["options"] = subject.options.clone();
    request
}
