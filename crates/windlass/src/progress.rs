//! What the operator sees while a command works: one line a step, with a mark for how it ended.

use std::io::{IsTerminal, Write};

/// Prints steps to standard output. Colours only where a person looks on.
#[derive(Clone, Copy)]
pub struct Progress {
    colours: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// ` ✔ store             revision 1`
    pub fn done(&self, step: &str, detail: impl std::fmt::Display) {
        let mark = if self.colours { "\u{1b}[32m✔\u{1b}[0m" } else { "✔" };
        self.line(&format!(" {mark} {step:<18}{detail}"));
    }

    pub fn note(&self, text: impl std::fmt::Display) {
        self.line(&format!(" {text}"));
    }

    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Whoever started us may have closed the pipe; the work goes on without an audience.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            tracing::debug!(text, "standard output is closed");
        }
    }
}
