//! Taking away what a manager applied before and does not apply now.
//!
//! `sigs.k8s.io/structured-merge-diff merge/update.go`: a field goes when its applier no longer names it, nobody else
//! owns it, and it was the applier's.

use serde_json::Value;

use super::managed::Managed;
use super::remove::remove;
use super::set::FieldSet;
use super::walk::field_set;
use crate::schema::Schema;

/// `managed` already holds what the applying manager names now; `last` is what it named before.
pub(super) fn prune(merged: Value, managed: &Managed, last: Option<&FieldSet>, schema: &Schema) -> Value {
    let Some(last) = last.filter(|last| !last.is_empty()) else { return merged };
    let last = last.with_named_fields(schema);
    let merged_set = field_set(&merged, schema).with_named_fields(schema);

    // Without anything it named last; then what anybody (itself included) names now comes back.
    let pruned = remove(&merged, &last, schema);
    let owned = managed.all_owned().with_named_fields(schema);
    let left = field_set(&pruned, schema).with_named_fields(schema).union(&owned);
    let pruned = remove(&merged, &merged_set.difference(&left), schema);

    // What fell out without ever having been its own comes back too.
    let left = field_set(&pruned, schema).with_named_fields(schema);
    remove(&merged, &merged_set.difference(&left).intersection(&last), schema)
}
