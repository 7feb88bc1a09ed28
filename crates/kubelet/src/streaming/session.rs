//! One exec or attach: what the client sends goes to the process, what the process writes goes to the client, and at the
//! end the client is told how it went. Which protocol carries it, and who runs the process, are others' affairs.

use std::future::Future;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::mpsc::Sender;
use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt};
use pods::ports::{Output, RuntimeError, Session};
use serde::Deserialize;
use serde_json::{Value, json};

use super::StreamOptions;

/// How long the client may take to hang up after the end of a session.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a client sends.
#[derive(Debug, PartialEq)]
pub enum Sent {
    Stdin(Bytes),
    StdinEnd,
    /// `{"Width": columns, "Height": rows}`, one or several.
    Resize(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
    Error,
}

/// Where a client's output goes.
#[async_trait]
pub trait ClientOutput: Send {
    /// # Errors
    /// The client is gone.
    async fn write(&mut self, channel: Channel, data: Bytes) -> io::Result<()>;
    /// Ends the connection in good order.
    async fn close(&mut self);
}

/// How the outcome is written to the error channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// Version 4 and later: a `metav1.Status` as JSON.
    Json,
    /// Before: the message of a failure.
    Text,
}

/// The other end of an exec or attach.
pub struct Client {
    /// Ends when the client is gone.
    pub events: BoxStream<'static, Sent>,
    pub output: Box<dyn ClientOutput>,
    pub status: StatusForm,
}

/// Serves one session. `failure` opens the message of an error that is no exit code.
pub async fn stream(
    mut client: Client,
    options: &StreamOptions,
    failure: &str,
    opened: impl Future<Output = Result<Session, RuntimeError>>,
) {
    let status = match opened.await {
        Ok(session) => match pump(&mut client, options, session).await {
            Some(exit) => outcome(failure, exit),
            // Nobody is there any more to be told.
            None => return,
        },
        Err(error) => internal_error(failure, &error),
    };
    let words = match client.status {
        StatusForm::Json => status.to_string(),
        StatusForm::Text => status["message"].as_str().unwrap_or_default().to_string(),
    };
    if !words.is_empty() && client.output.write(Channel::Error, words.into()).await.is_err() {
        return;
    }
    client.output.close().await;
    // Closing the connection with data unread would make the kernel drop what the client has not read yet.
    let drained = async { while client.events.next().await.is_some() {} };
    tokio::time::timeout(GOODBYE, drained).await.ok();
}

/// Carries data both ways until the process has ended (its exit) or the client has gone (`None`).
async fn pump(client: &mut Client, options: &StreamOptions, session: Session) -> Option<Result<i32, RuntimeError>> {
    let Session { stdin, mut output, resize, exit, kill } = session;
    let stdin = stdin.filter(|_| options.stdin);
    let Client { events, output: to, .. } = client;
    let outward = async {
        while let Some(chunk) = output.next().await {
            let (wanted, channel, data) = match chunk {
                Output::Stdout(data) => (options.stdout, Channel::Stdout, data),
                Output::Stderr(data) => (options.stderr, Channel::Stderr, data),
            };
            if wanted && !data.is_empty() {
                to.write(channel, data).await.ok()?;
            }
        }
        Some(exit.await)
    };
    let ended = tokio::select! {
        ended = outward => ended,
        () = feed(events, stdin, resize) => None,
    };
    // The session ends by being dropped: a process outlives its client, as upstream's does, but loses its terminal.
    drop(kill);
    ended
}

/// Gives the process what the client sends; returns when the client has gone.
async fn feed(events: &mut BoxStream<'static, Sent>, mut stdin: Option<Sender<Bytes>>, mut resize: Sender<(u16, u16)>) {
    while let Some(sent) = events.next().await {
        match sent {
            Sent::Stdin(data) => {
                if let Some(to) = &mut stdin
                    && !data.is_empty()
                    && to.send(data).await.is_err()
                {
                    stdin = None;
                }
            }
            Sent::StdinEnd => stdin = None,
            Sent::Resize(data) => {
                for size in sizes(&data) {
                    resize.send(size).await.ok();
                }
            }
        }
    }
}

/// Terminal sizes (columns, rows); what is no size is passed over.
fn sizes(data: &[u8]) -> Vec<(u16, u16)> {
    #[derive(Deserialize)]
    struct Size {
        #[serde(rename = "Width")]
        width: u16,
        #[serde(rename = "Height")]
        height: u16,
    }
    let sizes = serde_json::Deserializer::from_slice(data).into_iter::<Size>();
    sizes.map_while(Result::ok).map(|size| (size.width, size.height)).collect()
}

/// k8s.io/cri-streaming pkg/streaming/remotecommand/exec.go (ServeExec): the three outcomes and their words.
fn outcome(failure: &str, exit: Result<i32, RuntimeError>) -> Value {
    match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => internal_error(failure, &error),
    }
}

fn internal_error(failure: &str, error: &RuntimeError) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {failure}: {error}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": format!("{failure}: {error}")}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_one_after_another() {
        assert_eq!(sizes(br#"{"Width":80,"Height":24}{"Width":132,"Height":50} x"#), [(80, 24), (132, 50)]);
        assert!(sizes(br#"{"Width":-1}"#).is_empty());
    }

    #[test]
    fn outcomes_are_statuses() {
        let status = outcome("error executing command in container", Ok(3));
        assert_eq!(status["message"], "command terminated with non-zero exit code: exit status 3");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        let status = outcome("error executing command in container", Err(RuntimeError::NotRunning));
        let words = "Internal error occurred: error executing command in container: container is not running";
        assert_eq!((&status["message"], &status["code"]), (&json!(words), &json!(500)));
    }
}
