//! A CEL rule of a CustomResourceDefinition (`x-kubernetes-validations`), as written.

use std::sync::Arc;

/// One rule and what to say when it fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub rule: Arc<str>,
    pub message: Option<Arc<str>>,
    pub message_expression: Option<Arc<str>>,
    /// `FieldValueInvalid`, `FieldValueForbidden`, `FieldValueRequired` or `FieldValueDuplicate`.
    pub reason: Option<Arc<str>>,
    /// Where the error is shown, as `.spec.replicas`.
    pub field_path: Option<Arc<str>>,
    /// Whether the rule also runs without an old value.
    pub optional_old_self: Option<bool>,
}
