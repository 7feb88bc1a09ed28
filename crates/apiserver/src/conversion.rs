//! Objects from one version of their kind to another.

use std::sync::Arc;

use kinds::Kind;
use machinery::status::Status;
use serde_json::Value;

use crate::server::Inner;

/// An object of `from` as one of `to`, another version of it.
pub async fn between(_server: &Inner, from: &Arc<Kind>, to: &Arc<Kind>, mut value: Value) -> Result<Value, Status> {
    if from.group == to.group && from.version == to.version {
        return Ok(value);
    }
    from.to_storage(&mut value);
    to.from_storage(&mut value);
    Ok(value)
}
