//! The kinds of the group `flowcontrol.apiserver.k8s.io`: a file each.

pub mod flow_schema;
pub mod priority_level_configuration;

use crate::validate::At;
use machinery::field::FieldErrors;

/// The conditions of a status: each of a type, and of one type only once.
pub(crate) fn conditions(at: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for condition in at.items() {
        let of = condition.field("type");
        if seen.contains(&of.text()) {
            of.duplicate(errors);
        }
        of.must_be_set(errors);
        seen.push(of.text());
    }
}
