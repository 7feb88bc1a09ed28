//! The three kinds of patches that change a tree: JSON patch, merge patch and strategic merge patch.
//!
//! Each takes the object and the patch as trees and gives the changed object, or the Status upstream answers with
//! (`k8s.io/apiserver pkg/endpoints/handlers/patch.go`). What comes out is unchecked: decode it again against the
//! schema ([`crate::decode::value`]), which finds wrong types and unknown fields.

pub mod json;
pub mod merge;
pub mod strategic;

use serde_json::Value;

use crate::field::{FieldError, FieldErrors, Path};
use crate::gvk::GroupKind;
use crate::status::{Details, Status, reason};

/// What upstream answers when a patch cannot be applied, whatever the reason.
fn unprocessable() -> Status {
    Status::failure(422, reason::INVALID, "the server rejected our request due to an error in our request")
        .with_details(Details::default())
}

/// What upstream answers when the patched object cannot be decoded, or (strict) not without problems: `patched` is
/// the patched object for a JSON or merge patch; for a strategic merge patch it is the patch as Go prints it
/// ([`crate::go::plain`]), given as a string.
pub fn undecodable(patched: &Value, error: &str) -> Status {
    let mut errors = FieldErrors::new();
    let shown = patched.as_str().map_or_else(|| patched.to_string(), str::to_owned);
    errors.push(FieldError::invalid(&Path::new("patch"), shown, error));
    Status::invalid(&GroupKind::new("", ""), "", &errors)
}
