//! Admission policies: rules and changes written in CEL, and the bindings that put them to work.
//!
//! `kubernetes/apiserver pkg/admission/plugin/policy/{validating,mutating}`: what is evaluated, in which order, and what
//! a failure says.

use std::collections::HashMap;

use k8s_openapi::api::admissionregistration::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::apply;
use machinery::cel::{CelError, OBJECT_COST_MAX, Program, Val};
use machinery::patch;
use machinery::schema::Schema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Conditions, Criteria};

/// `kubernetes/apiserver pkg/apis/cel/config.go: MaxEvaluatedMessageExpressionSizeBytes`.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// An expression, or why it is none.
#[derive(Clone, Debug)]
struct Expression {
    source: String,
    program: Result<Program, String>,
}

impl Expression {
    fn new(source: &str) -> Expression {
        let program = Program::compile(source).map_err(|error| format!("compilation error: {error}"));
        Expression { source: source.to_owned(), program }
    }

    fn eval(&self, variables: &HashMap<String, Val>, budget: &mut u64) -> Result<Val, String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        program.eval(variables, budget).map_err(|error| match error {
            CelError::Budget => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            error => format!("expression '{}' resulted in error: {error}", self.source.trim()),
        })
    }
}

/// A `ValidatingAdmissionPolicy` or a `MutatingAdmissionPolicy`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenPolicy")]
pub struct Policy {
    pub name: String,
    pub criteria: Criteria,
    pub conditions: Conditions,
    pub ignore_failures: bool,
    pub again_if_needed: bool,
    /// `apiVersion` and `kind` of its parameters.
    pub param_kind: Option<(String, String)>,
    variables: Vec<(String, Expression)>,
    validations: Vec<Validation>,
    mutations: Vec<Mutation>,
}

#[derive(Clone, Debug)]
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

#[derive(Clone, Debug)]
enum Mutation {
    /// An object whose fields are merged over the request's.
    Apply(Expression),
    /// The operations of a JSON patch.
    Patch(Expression),
}

/// A policy put to work.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WrittenBinding")]
pub struct Binding {
    pub name: String,
    pub policy: String,
    /// Requests that it is about, beyond those of its policy.
    pub criteria: Option<Criteria>,
    pub params: Option<api::ParamRef>,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

#[derive(Deserialize)]
struct WrittenPolicy {
    metadata: ObjectMeta,
    spec: Spec,
}

/// The fields of both kinds of policy.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Spec {
    param_kind: Option<api::ParamKind>,
    match_constraints: Option<api::MatchResources>,
    match_conditions: Option<Vec<api::MatchCondition>>,
    failure_policy: Option<String>,
    reinvocation_policy: Option<String>,
    variables: Vec<api::Variable>,
    validations: Vec<api::Validation>,
    mutations: Vec<api::Mutation>,
}

#[derive(Deserialize)]
struct WrittenBinding {
    metadata: ObjectMeta,
    spec: BindingSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BindingSpec {
    policy_name: String,
    match_resources: Option<api::MatchResources>,
    param_ref: Option<api::ParamRef>,
    validation_actions: Vec<String>,
}

impl TryFrom<WrittenPolicy> for Policy {
    type Error = String;

    fn try_from(written: WrittenPolicy) -> Result<Policy, String> {
        let spec = written.spec;
        let validation = |written: &api::Validation| Validation {
            expression: Expression::new(&written.expression),
            message: written.message.clone().unwrap_or_default(),
            message_expression: written
                .message_expression
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(Expression::new),
            reason: written.reason.clone().unwrap_or_default(),
        };
        let mutation = |written: &api::Mutation| match (&written.apply_configuration, &written.json_patch) {
            (Some(apply), _) => Ok(Mutation::Apply(Expression::new(apply.expression.as_deref().unwrap_or_default()))),
            (None, Some(patch)) => {
                Ok(Mutation::Patch(Expression::new(patch.expression.as_deref().unwrap_or_default())))
            }
            (None, None) => Err("a mutation without an expression".to_owned()),
        };
        Ok(Policy {
            name: written.metadata.name.unwrap_or_default(),
            criteria: Criteria::of_policy(&spec.match_constraints.unwrap_or_default()),
            conditions: Conditions::of(spec.match_conditions.as_ref()),
            ignore_failures: spec.failure_policy.as_deref() == Some("Ignore"),
            again_if_needed: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
            param_kind: spec
                .param_kind
                .map(|kind| (kind.api_version.unwrap_or_default(), kind.kind.unwrap_or_default())),
            variables: spec
                .variables
                .iter()
                .map(|variable| (format!("variables.{}", variable.name), Expression::new(&variable.expression)))
                .collect(),
            validations: spec.validations.iter().map(validation).collect(),
            mutations: spec.mutations.iter().map(mutation).collect::<Result<_, _>>()?,
        })
    }
}

impl From<WrittenBinding> for Binding {
    fn from(written: WrittenBinding) -> Binding {
        let spec = written.spec;
        Binding {
            name: written.metadata.name.unwrap_or_default(),
            policy: spec.policy_name,
            criteria: spec.match_resources.as_ref().map(Criteria::of_policy),
            params: spec.param_ref,
            actions: spec.validation_actions,
        }
    }
}

/// Why a policy does not let a request through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub message: String,
    /// A reason of `Status`; empty: `Invalid`.
    pub reason: String,
}

impl Denial {
    fn new(message: impl Into<String>) -> Denial {
        Denial { message: message.into(), reason: String::new() }
    }
}

impl Policy {
    /// What the validations refuse. `variables` are those that every expression sees.
    pub fn validate(&self, mut variables: HashMap<String, Val>) -> Vec<Denial> {
        let error = |message: String| if self.ignore_failures { None } else { Some(Denial::new(message)) };
        match self.conditions.hold(&variables, self.ignore_failures) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(message) => return error(message).into_iter().collect(),
        }
        let mut budget = OBJECT_COST_MAX;
        self.compute(&mut variables, &mut budget);
        let validate = |validation: &Validation| match validation.expression.eval(&variables, &mut budget) {
            Ok(Val::Bool(true)) => None,
            Ok(_) => {
                Some(Denial { message: validation.message(&variables, &mut budget), reason: validation.reason.clone() })
            }
            Err(message) => error(message),
        };
        self.validations.iter().filter_map(validate).collect()
    }

    /// The object with the changes of every mutation, one after another; `None` when a condition does not hold.
    /// `settle` makes each result an object of its type again.
    pub fn mutate(
        &self,
        mut variables: HashMap<String, Val>,
        object: &Value,
        schema: &Schema,
        settle: &dyn Fn(Value) -> Result<Value, String>,
    ) -> Result<Option<Value>, String> {
        if !self.conditions.hold(&variables, self.ignore_failures)? {
            return Ok(None);
        }
        let mut object = object.clone();
        for mutation in &self.mutations {
            variables.insert("object".to_owned(), Val::from_json(&object));
            let mut budget = OBJECT_COST_MAX;
            let mut own = variables.clone();
            self.compute(&mut own, &mut budget);
            let changed = match mutation {
                Mutation::Apply(expression) => applied(expression.eval(&own, &mut budget)?, &object, schema)?,
                Mutation::Patch(expression) => patched(expression.eval(&own, &mut budget)?, &object)?,
            };
            object = settle(changed)?;
        }
        Ok(Some(object))
    }

    /// A variable may use those before it. One that fails is a failure only where it is used.
    fn compute(&self, variables: &mut HashMap<String, Val>, budget: &mut u64) {
        for (name, expression) in &self.variables {
            let value = expression.eval(variables, budget).unwrap_or_else(|error| Val::Failed(error.into()));
            variables.insert(name.clone(), value);
        }
    }
}

impl Validation {
    fn message(&self, variables: &HashMap<String, Val>, budget: &mut u64) -> String {
        let computed =
            self.message_expression.as_ref().and_then(|expression| match expression.eval(variables, budget) {
                Ok(Val::Text(text)) => Some(text.trim().to_owned()),
                _ => None,
            });
        let usable = |text: &String| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
        match (computed.filter(usable), self.message.trim()) {
            (Some(computed), _) => computed,
            (None, "") => format!("failed expression: {}", self.expression.source.trim()),
            (None, message) => message.to_owned(),
        }
    }
}

/// The object with a configuration's fields over it. What is atomic would be replaced whole, and may not be touched.
fn applied(configuration: Val, object: &Value, schema: &Schema) -> Result<Value, String> {
    let mut configuration =
        configuration.to_json().ok_or("unsupported return type from ApplyConfiguration expression")?;
    if !configuration.is_object() {
        return Err("unsupported return type from ApplyConfiguration expression".to_owned());
    }
    let atomics = apply::atomics(&configuration, schema);
    if !atomics.is_empty() {
        let words = "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs";
        return Err(format!("{words}: {}", atomics.join(", ")));
    }
    for field in ["apiVersion", "kind"] {
        configuration[field] = object[field].clone();
    }
    apply::overlay(object, &configuration, schema).map_err(|error| format!("error applying patch: {error}"))
}

/// The object with a JSON patch on it; as it was, when a `test` of the patch fails.
fn patched(operations: Val, object: &Value) -> Result<Value, String> {
    let Some(Value::Array(operations)) = operations.to_json() else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut patched = object.clone();
    for mut operation in operations {
        let is_test = operation["op"] == "test";
        if operation.get("value").is_none() && matches!(operation["op"].as_str(), Some("add" | "replace" | "test")) {
            operation["value"] = Value::Null;
        }
        match patch::json::apply(&patched, &json!([operation])) {
            Ok(next) => patched = next,
            Err(_) if is_test => return Ok(object.clone()),
            Err(status) => return Err(format!("JSON Patch: {}", status.message)),
        }
    }
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: Value) -> Policy {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn seen(object: &Value) -> HashMap<String, Val> {
        HashMap::from([("object".to_owned(), Val::from_json(object))])
    }

    #[test]
    fn validations_refuse_in_the_words_they_were_given() {
        let policy = policy(json!({
            "variables": [
                {"name": "n", "expression": "object.spec.replicas"}, {"name": "bad", "expression": "object.nothing"},
            ],
            "validations": [
                {"expression": "variables.n <= 5", "message": "at most five", "reason": "Forbidden"},
                {"expression": "variables.n <= 4", "messageExpression": "'not ' + string(variables.n)"},
                {"expression": "variables.n == 1"},
                {"expression": "variables.bad == 1"},
                {"expression": "variables.n > 0"},
            ],
        }));
        let denied = policy.validate(seen(&json!({"spec": {"replicas": 6}})));
        let told: Vec<String> = denied.iter().map(|denial| format!("{}|{}", denial.message, denial.reason)).collect();
        assert_eq!(told[..3], ["at most five|Forbidden", "not 6|", "failed expression: variables.n == 1|"]);
        assert!(told[3].contains("no such key: nothing"), "{}", told[3]);
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn mutations_follow_one_another() {
        let schema = kinds::by_kind("apps", "v1", "Deployment").unwrap().schema();
        let policy = policy(json!({"mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 3}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'test', path: '/spec/replicas', value: 3}, JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}]"}},
        ]}));
        let object =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"paused": true}});
        let mutated = policy.mutate(seen(&object), &object, &schema, &Ok).unwrap().unwrap();
        assert_eq!(mutated["spec"], json!({"paused": true, "replicas": 3}));
        assert_eq!(mutated["metadata"]["labels"], json!({"a": "b"}));
    }

    #[test]
    fn what_is_atomic_may_not_be_applied() {
        let schema = kinds::by_kind("apps", "v1", "Deployment").unwrap().schema();
        let expression = "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}";
        let policy = policy(json!({"mutations": [{"applyConfiguration": {"expression": expression}}]}));
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
        let error = policy.mutate(seen(&object), &object, &schema, &Ok).unwrap_err();
        assert!(error.ends_with("may not mutate atomic arrays, maps or structs: .spec.selector"), "{error}");
    }
}
