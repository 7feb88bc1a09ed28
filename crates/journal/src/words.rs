//! A record in a sentence.

use crate::cause::Cause;
use crate::outcome::Outcome;
use crate::record::What;

/// Milliseconds as people say them: `250 ms`, `1.5 s`, `2m10s`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h{}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Linux's numbers on the machines we run on (x86-64, arm64).
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_string()
}

/// `exit code 1`, or `SIGSEGV (exit code 139)`.
pub(crate) fn exit(code: i32, signal: Option<i32>) -> String {
    match signal.or_else(|| (129..160).contains(&code).then(|| code - 128)) {
        Some(signal) => format!("{} (exit code {code})", signal_name(signal)),
        None => format!("exit code {code}"),
    }
}

fn because(cause: &Cause) -> String {
    format!("{} decided, since {}", cause.decider, cause.rule)
}

fn attempt(what: &What) -> String {
    let What::ProbeAttempt { probe, outcome, took_ms, failures, threshold } = what else { return String::new() };
    let took = span(*took_ms);
    match outcome {
        Outcome::Healthy => format!("{probe} probe succeeded in {took}"),
        Outcome::Unhealthy(symptom) => {
            format!("{probe} probe failed, {failures} of {threshold}, after {took}: {symptom}")
        }
        Outcome::NotAsked(obstacle) => format!("{probe} probe could not be asked, which does not count: {obstacle}"),
    }
}

impl What {
    /// The causes that this record carries.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::NodeStopped { because, .. }
            | Self::Signal { because, .. }
            | Self::Removal { because }
            | Self::Restart { because }
            | Self::BackOff { because, .. }
            | Self::Evicted { because, .. }
            | Self::RequestRefused { because, .. }
            | Self::LeaseLost { because, .. } => Some(because),
            _ => None,
        }
    }

    /// One line, without subject and time.
    pub fn sentence(&self) -> String {
        match self {
            Self::NodeStarted { version } => format!("the node's process started, version {version}"),
            Self::NodeStopped { containers_left, because: cause } => {
                let left = if *containers_left == 1 { "container" } else { "containers" };
                format!("the node's process stopped, {containers_left} {left} left running: {}", because(cause))
            }
            Self::PodAdmitted => "taken in by this node".to_string(),
            Self::PodRefused { reason, message } => format!("refused by this node: {reason}: {message}"),
            Self::Adopted { running: true } => "found running and left running".to_string(),
            Self::Adopted { running: false } => "found, not running".to_string(),
            Self::Lost { message } => format!("no longer there: {message}"),
            Self::Started { image } => format!("started from {image}"),
            Self::ProbeAttempt { .. } => attempt(self),
            Self::Signal { signal, because: cause } => format!("{} sent: {}", signal_name(*signal), because(cause)),
            Self::Removal { because: cause } => format!("sandbox taken away: {}", because(cause)),
            Self::Exited { oom_killed: true, ran_ms, .. } => {
                format!("killed by the kernel, out of memory, after {}", span(*ran_ms))
            }
            Self::Exited { code, signal, ran_ms, .. } => {
                format!("ended with {} after {}", exit(*code, *signal), span(*ran_ms))
            }
            Self::Restart { because: cause } => format!("started again: {}", because(cause)),
            Self::BackOff { wait_ms, because: cause } => {
                format!("waits {} before the next try: {}", span(*wait_ms), because(cause))
            }
            Self::PullFailed { image, error } => format!("image {image} could not be pulled: {error}"),
            Self::StartFailed { reason, message } => format!("could not be started: {reason}: {message}"),
            Self::MountFailed { volume, error } => format!("volume {volume} could not be mounted: {error}"),
            Self::SandboxFailed { error } => format!("the sandbox could not be made: {error}"),
            Self::Evicted { reason, message, because: cause } => {
                format!("evicted by {}, since {} ({reason}: {message})", cause.decider, cause.rule)
            }
            Self::DeletionRequested { by, grace_seconds } => {
                format!("deletion requested by {by}, {grace_seconds} s of grace")
            }
            Self::SchedulingRefused { message } => format!("no node for it: {message}"),
            Self::FsyncStall { path, took_ms } => format!("a write to {path} took {}", span(*took_ms)),
            Self::RequestRefused { user, verb, resource, message, because: cause } => {
                format!("{verb} {resource} by {user} refused by {}, since {}: {message}", cause.decider, cause.rule)
            }
            Self::LeaseLost { lease, because: cause } => format!("lease {lease} lost: {}", because(cause)),
        }
    }
}
