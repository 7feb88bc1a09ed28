//! Running a command in a container, for probes and hooks.

use std::time::Duration;

use futures::StreamExt;
use journal::{Obstacle, Outcome, Symptom};
use pods::ports::{ContainerId, ExecSpec, Output, Runtime, RuntimeError};
use tokio::time::timeout;

use super::{Asked, OUTPUT_MAX, Told, not_asked, unhealthy};

/// How a command ended that had been launched.
pub(crate) enum Ran {
    Exited {
        code: i32,
        output: String,
    },
    /// The deadline passed while it ran; it was ended.
    Late {
        output: String,
    },
}

/// Launches `argv` and waits for its end, until `limit` from now.
///
/// # Errors
/// It never ran, or nobody knows how it ended.
pub(crate) async fn run_command(
    runtime: &dyn Runtime,
    id: &ContainerId,
    argv: Vec<String>,
    limit: Option<Duration>,
) -> Result<Ran, Obstacle> {
    let spec = ExecSpec { argv, tty: false, stdin: false, stdout: true, stderr: true };
    let begun = tokio::time::Instant::now();
    let limit = limit.unwrap_or(Duration::from_secs(u32::MAX.into()));
    let limit_ms = limit.as_millis() as u64;
    let session = match timeout(limit, runtime.exec(id, &spec)).await {
        Err(_) => return Err(Obstacle::LaunchDeadline { limit_ms }),
        Ok(Err(error)) => return Err(obstacle(error)),
        Ok(Ok(session)) => session,
    };
    let mut output = session.output;
    let mut text = Vec::new();
    let reading = async {
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = output.next().await {
            let room = OUTPUT_MAX.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        session.exit.await
    };
    let ended = timeout(limit.saturating_sub(begun.elapsed()), reading).await;
    let output = String::from_utf8_lossy(&text).into_owned();
    match ended {
        Ok(Ok(code)) => Ok(Ran::Exited { code, output }),
        Ok(Err(error)) => Err(obstacle(error)),
        Err(_) => {
            (session.kill)();
            Ok(Ran::Late { output })
        }
    }
}

fn obstacle(error: RuntimeError) -> Obstacle {
    let text = error.to_string();
    match error {
        RuntimeError::NoSuchContainer(_) | RuntimeError::NoSuchSandbox(_) | RuntimeError::NotRunning => {
            Obstacle::NamespaceGone { error: text }
        }
        RuntimeError::CannotRun { .. } | RuntimeError::CreateConfig(_) => Obstacle::ExecNotLaunched { error: text },
        RuntimeError::Broken(_) if text.contains("Resource temporarily unavailable") => {
            Obstacle::ForkRefused { error: text }
        }
        RuntimeError::Broken(_) => Obstacle::RuntimeError { error: text },
    }
}

pub(super) async fn ask(asked: &Asked<'_>, argv: Vec<String>, limit: Duration) -> Told {
    let shown = argv.join(" ");
    match run_command(asked.runtime, asked.id, argv, Some(limit)).await {
        Ok(Ran::Exited { code: 0, output }) => (Outcome::Healthy, output),
        Ok(Ran::Exited { code, output }) => unhealthy(Symptom::ExitCode { code, output: output.clone() }, output),
        Ok(Ran::Late { output }) => {
            let limit_ms = limit.as_millis() as u64;
            let text = format!("command timed out: {shown:?} timed out after {}s", limit.as_secs());
            unhealthy(Symptom::Deadline { limit_ms, output }, text)
        }
        Err(obstacle) => not_asked(obstacle),
    }
}
