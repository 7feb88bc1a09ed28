//! Short names for pod templates.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Letters and digits that make no words: kubernetes/apimachinery pkg/util/rand decides them.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// 32-bit FNV-1a.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The number's digits in the safe alphabet.
pub fn safe(number: u32) -> String {
    number.to_string().bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// The name of a template; another `collisions` gives another name.
pub fn template(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut value = serde_json::to_value(template).unwrap_or(Value::Null);
    without_empty(&mut value);
    let mut text = value.to_string();
    if let Some(collisions) = collisions {
        text.push_str(&collisions.to_string());
    }
    safe(fnv32a(text.as_bytes()))
}

/// Takes out null, `{}`, `[]` and `""`, which mean the same as absent.
pub fn without_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(without_empty);
            map.retain(|key, v| !is_empty(v) || significant(key, v));
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => {}
    }
}

/// An empty directory volume says what it is by being there.
fn significant(key: &str, value: &Value) -> bool {
    value.is_object() && matches!(key, "emptyDir" | "securityContext" | "namespaceSelector" | "podInfoOnMount")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
