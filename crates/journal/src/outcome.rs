//! What asking a container for its health came to: three answers, not two.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    Startup,
    Liveness,
    Readiness,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        })
    }
}

/// Only `Unhealthy` counts against a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Healthy,
    /// The probe ran, and its answer was bad.
    Unhealthy(Symptom),
    /// The probe never ran: nothing is known about the container.
    NotAsked(Obstacle),
}

/// What was wrong; `output` are the first bytes of what the probe said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Symptom {
    ExitCode {
        code: i32,
        output: String,
    },
    HttpStatus {
        status: u16,
        output: String,
    },
    GrpcStatus {
        status: String,
    },
    /// The connection was refused, reset or cut, or its answer made no sense.
    Connection {
        error: String,
    },
    /// The probe's own `timeoutSeconds` passed after it had begun to run.
    Deadline {
        limit_ms: u64,
        output: String,
    },
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = match self {
            Self::ExitCode { code, output } => {
                write!(f, "exit code {code}")?;
                output
            }
            Self::HttpStatus { status, output } => {
                write!(f, "HTTP status {status}")?;
                output
            }
            Self::GrpcStatus { status } => return write!(f, "gRPC status {status}"),
            Self::Connection { error } => return f.write_str(error),
            Self::Deadline { limit_ms, output } => {
                write!(f, "no answer within {}", crate::words::span(*limit_ms))?;
                output
            }
        };
        match output.trim() {
            "" => Ok(()),
            said => write!(f, ", it said {said:?}"),
        }
    }
}

/// Why a probe could not be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Obstacle {
    /// The command could not be launched in the container.
    ExecNotLaunched {
        error: String,
    },
    /// The node could not make a process (limits, memory).
    ForkRefused {
        error: String,
    },
    NamespaceGone {
        error: String,
    },
    RuntimeError {
        error: String,
    },
    /// The deadline passed before the command ran.
    LaunchDeadline {
        limit_ms: u64,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExecNotLaunched { error } => write!(f, "the command could not be launched: {error}"),
            Self::ForkRefused { error } => write!(f, "the node could not make a process: {error}"),
            Self::NamespaceGone { error } => write!(f, "the container's namespaces are gone: {error}"),
            Self::RuntimeError { error } => write!(f, "the container runtime failed: {error}"),
            Self::LaunchDeadline { limit_ms } => {
                write!(f, "the command did not begin to run within {}", crate::words::span(*limit_ms))
            }
        }
    }
}
