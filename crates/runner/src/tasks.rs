//! Tasks that run for as long as the process does, and panics that one bad object causes.
//!
//! A decision that panics is a defect, but of one object: [`caught`] keeps it from ending the task that decides about
//! all the others. A task that ends all the same is reported by [`Tasks::until`], so that it is never silently missing.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Tasks none of which may end before it is told to.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl Tasks {
    pub fn spawn(&mut self, name: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(work);
        self.names.insert(handle.id(), name.into());
    }

    /// Lets the tasks run until `stop`, then ends them.
    ///
    /// # Errors
    /// One of them ended on its own.
    pub async fn until(mut self, stop: &CancellationToken) -> Result<(), Error> {
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = self.set.join_next_with_id() => ended,
        };
        self.set.shutdown().await;
        let Some(ended) = ended.filter(|_| !stop.is_cancelled()) else { return Ok(()) };
        let (id, cause) = match ended {
            Ok((id, ())) => (id, "it returned".to_string()),
            Err(error) => (error.id(), why(error)),
        };
        Err(Error::TaskEnded { task: self.names.remove(&id).unwrap_or_default(), cause })
    }
}

fn why(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panic: {}", message(panic.as_ref())),
        Err(error) => error.to_string(),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Runs a decision; its panic comes back as the panic's message.
///
/// What the decision may leave half done is its own: the shared cache and queues are behind locks that are taken for
/// single operations.
pub fn caught<T>(decide: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(decide)).map_err(|panic| message(panic.as_ref()).to_string())
}

/// [`caught`] for work that waits.
pub async fn caught_in<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| message(panic.as_ref()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_is_named_with_its_cause() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("frail", async { panic!("lost {}", "it") });
        let ended = tasks.until(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(ended.to_string(), "frail ended: panic: lost it");
    }

    #[tokio::test]
    async fn told_to_stop_is_no_error() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", std::future::pending());
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(tasks.until(&stop).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_comes_back_as_its_message() {
        assert_eq!(caught(|| -> u8 { panic!("now") }), Err("now".to_string()));
        assert_eq!(caught_in(async { panic!("later") as u8 }).await, Err("later".to_string()));
    }
}
