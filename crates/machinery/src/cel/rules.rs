//! The rules of a custom resource's schema (`x-kubernetes-validations`), run on an object.
//!
//! `k8s.io/apiextensions-apiserver pkg/apiserver/schema/cel/validation.go`: which rules run on what, and what a
//! failure says.

use std::collections::HashMap;

use serde_json::Value;

use super::value::Val;
use super::{CelError, OBJECT_COST_MAX, Program};
use crate::field::{BadValue, FieldError, FieldErrors, Path};
use crate::schema::{ListKind, Rule, Schema, Shape};

/// Whether a schema has rules anywhere.
pub fn has_rules(schema: &Schema) -> bool {
    let below = match schema.shape() {
        Shape::Struct(object) => object.fields.values().any(|field| has_rules(&field.schema)),
        Shape::Map(map) => has_rules(&map.values),
        Shape::List(list) => has_rules(&list.items),
        _ => false,
    };
    below || !schema.rules.is_empty()
}

/// Every failed rule of an object; `old` is what an update replaces.
pub fn validate_rules(schema: &Schema, value: &Value, old: Option<&Value>) -> FieldErrors {
    let mut walk = Walk { budget: OBJECT_COST_MAX, errors: FieldErrors::new() };
    walk.value(schema, value, old, &Path::ROOT);
    walk.errors
}

/// What is wrong with the rules of a schema as written; `path` is where the schema stands.
pub fn check_rules(schema: &Schema, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (at, rule) in schema.rules.iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(at);
        check_rule(rule, &path, &mut errors);
    }
    match &schema.shape {
        Shape::Struct(object) => {
            for (name, field) in &object.fields {
                errors.extend(check_rules(&field.schema, &path.child("properties").key(name)));
            }
        }
        Shape::Map(map) => errors.extend(check_rules(&map.values, &path.child("additionalProperties"))),
        Shape::List(list) => errors.extend(check_rules(&list.items, &path.child("items"))),
        _ => {}
    }
    errors
}

fn check_rule(rule: &Rule, path: &Path, errors: &mut FieldErrors) {
    let source = rule.rule.trim();
    if source.is_empty() {
        errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
        return;
    }
    let message = rule.message.as_deref().map(str::trim);
    match message {
        Some("") => {
            let detail = "must be non-empty if specified";
            errors.push(FieldError::invalid(&path.child("message"), rule.message.as_deref().unwrap_or(""), detail));
        }
        Some(text) if text.contains('\n') => {
            errors.push(FieldError::invalid(&path.child("message"), text, "must not contain line breaks"));
        }
        None if source.contains('\n') => {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&path.child("message"), detail));
        }
        _ => {}
    }
    let reasons = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !reasons.contains(reason)) {
        errors.push(FieldError::not_supported(&path.child("reason"), reason, &reasons));
    }
    match Program::compile(source) {
        Err(error) => {
            errors.push(FieldError::invalid(&path.child("rule"), source, format!("compilation failed: {error}")));
        }
        Ok(program) if rule.optional_old_self.is_some() && !program.uses("oldSelf") => {
            let detail = "may not be set if oldSelf is not used in rule";
            let value = rule.optional_old_self.unwrap_or_default();
            errors.push(FieldError::invalid(&path.child("optionalOldSelf"), value, detail));
        }
        Ok(_) => {}
    }
    if let Some(expression) = rule.message_expression.as_deref()
        && let Err(error) = Program::compile(expression)
    {
        let path = path.child("messageExpression");
        errors.push(FieldError::invalid(&path, expression, format!("messageExpression compilation failed: {error}")));
    }
}

struct Walk {
    budget: u64,
    errors: FieldErrors,
}

impl Walk {
    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &Path) {
        if value.is_null() {
            return;
        }
        self.rules(schema, value, old, path);
        match (schema.shape(), value) {
            (Shape::Struct(object), Value::Object(fields)) => {
                for (name, field) in &object.fields {
                    if let Some(value) = fields.get(&**name) {
                        let old = old.and_then(|old| old.get(&**name));
                        self.value(&field.schema, value, old, &path.child(name));
                    }
                }
            }
            (Shape::Map(map), Value::Object(fields)) => {
                for (name, value) in fields {
                    self.value(&map.values, value, old.and_then(|old| old.get(name)), &path.key(name));
                }
            }
            (Shape::List(list), Value::Array(items)) => {
                let former = |item: &Value| match &list.kind {
                    ListKind::Map(keys) => old.and_then(Value::as_array).and_then(|old| {
                        old.iter().find(|old| keys.iter().all(|key| old.get(&**key) == item.get(&**key)))
                    }),
                    _ => None,
                };
                for (at, item) in items.iter().enumerate() {
                    self.value(&list.items, item, former(item), &path.index(at));
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &Path) {
        if schema.rules.is_empty() {
            return;
        }
        let current = Val::from_typed(value, schema);
        let former = old.map(|old| Val::from_typed(old, schema));
        for rule in &schema.rules {
            if self.budget == 0 {
                let detail =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                self.errors.push(FieldError::invalid(path, type_of(value), detail));
                return;
            }
            let program = match Program::compile(&rule.rule) {
                Ok(program) => program,
                Err(error) => {
                    let detail = format!("rule compile error: compilation failed: {error}");
                    self.errors.push(FieldError::invalid(path, type_of(value), detail));
                    continue;
                }
            };
            let optional = rule.optional_old_self == Some(true);
            let transition = program.uses("oldSelf");
            if transition && former.is_none() && !optional {
                continue;
            }
            // What an update leaves as it was is held to transition rules alone.
            if !transition && old == Some(value) {
                continue;
            }
            let mut variables = HashMap::from([("self".to_owned(), current.clone())]);
            let old_self =
                if optional { Some(former.clone().map_or(Val::Optional(None), Val::some)) } else { former.clone() };
            variables.extend(old_self.map(|old| ("oldSelf".to_owned(), old)));
            self.judge(rule, &program, &variables, value, path);
        }
    }

    fn judge(&mut self, rule: &Rule, program: &Program, variables: &HashMap<String, Val>, value: &Value, path: &Path) {
        let shown = rule.message.as_deref().unwrap_or(&rule.rule).trim();
        let detail = match program.eval(variables, &mut self.budget) {
            Ok(Val::Bool(true)) => return,
            Ok(_) => None,
            Err(CelError::Budget) => Some(format!(
                "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}",
                CelError::Budget
            )),
            Err(CelError::Runtime(text)) if text == "no such overload" => Some(format!(
                "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            )),
            Err(error) => Some(format!("{error} evaluating rule: {shown}")),
        };
        if let Some(detail) = detail {
            self.errors.push(FieldError::invalid(path, type_of(value), detail));
            return;
        }
        let message = rule.message_expression.as_deref().and_then(|source| {
            let program = Program::compile(source).ok()?;
            match program.eval(variables, &mut self.budget) {
                Ok(Val::Text(text)) if !text.trim().is_empty() && !text.contains('\n') => Some(text.trim().to_owned()),
                _ => None,
            }
        });
        let detail = message.unwrap_or_else(|| match &rule.message {
            Some(message) => message.trim().to_owned(),
            None => format!("failed rule: {}", rule.rule.trim()),
        });
        let path = match rule.field_path.as_deref().map(|field| field.trim_start_matches('.')) {
            Some(field) if !field.is_empty() => path.child(field),
            _ => path.clone(),
        };
        let value = match value {
            Value::Object(_) | Value::Array(_) => BadValue::Omitted,
            scalar => BadValue::from(scalar),
        };
        self.errors.push(match rule.reason.as_deref() {
            Some("FieldValueForbidden") => FieldError::forbidden(&path, detail),
            Some("FieldValueRequired") => FieldError::required(&path, detail),
            Some("FieldValueDuplicate") => FieldError::duplicate(&path, value),
            _ => FieldError::invalid(&path, value, detail),
        });
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
