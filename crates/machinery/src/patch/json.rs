//! JSON patch (RFC 6902).

use json_patch::{PatchOperation, patch};
use serde_json::Value;

use super::unprocessable;
use crate::status::Status;

/// `k8s.io/apiserver pkg/endpoints/handlers/patch.go`: the most operations a patch may have.
pub const OPERATIONS_MAX: usize = 10_000;
/// `k8s.io/apiserver pkg/server/config.go`: the most bytes that `copy` operations may add up to.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies the operations of `operations` in order; none has happened when one fails.
pub fn apply(object: &Value, operations: &Value) -> Result<Value, Status> {
    let Value::Array(operations) = operations else {
        let found = match operations {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Null => return Ok(object.clone()),
            Value::Array(_) => unreachable!("arrays are taken above"),
        };
        let text = format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        );
        return Err(Status::bad_request(text));
    };
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        return Err(Status::too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let mut patched = object.clone();
    let mut copied = 0;
    for operation in operations {
        let operation: PatchOperation = serde_json::from_value(operation.clone()).map_err(|_| unprocessable())?;
        if let PatchOperation::Copy(copy) = &operation {
            copied += copy.from.resolve(&patched).map_or(0, |value| value.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(unprocessable());
            }
        }
        patch(&mut patched, &[operation]).map_err(|_| unprocessable())?;
    }
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn applies_in_order() {
        let object = json!({"a": {"b": [1, 2]}});
        let patch = json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "move", "from": "/a/b/0", "path": "/c"},
            {"op": "copy", "from": "/c", "path": "/d"},
            {"op": "replace", "path": "/c", "value": "x"},
            {"op": "remove", "path": "/a/b/0"},
        ]);
        assert_eq!(apply(&object, &patch).unwrap(), json!({"a": {"b": [3]}, "c": "x", "d": 1}));
    }

    #[test]
    fn refuses_as_upstream() {
        let object = json!({"a": 1});
        let failed = apply(&object, &json!([{"op": "test", "path": "/a", "value": 2}])).unwrap_err();
        assert_eq!(
            (failed.code(), failed.message.as_str()),
            (422, "the server rejected our request due to an error in our request")
        );
        assert_eq!(apply(&object, &json!([{"op": "remove", "path": "/b"}])).unwrap_err().code(), 422);
        assert_eq!(apply(&object, &json!({})).unwrap_err().code(), 400);
        let many = Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); OPERATIONS_MAX + 1]);
        assert_eq!(apply(&object, &many).unwrap_err().code(), 413);
    }
}
