//! The `windlass` binary: configuration, wiring, signals and the command line. What the parts do stands in the other
//! crates; here they are only introduced to one another.
//!
//! The same binary is also the helper that makes and keeps containers, and every program of the built-in image. Those
//! are asked for by the program's name or first argument and are over before anything else is set up. Start reading at
//! [`cli`], then `up/mod.rs`.

mod builtin;
mod cli;
mod config;
mod down;
mod image;
mod join;
mod node;
mod process;
mod progress;
mod reference;
mod remote;
mod running;
mod token;
mod up;
mod version;
mod why;

use std::process::ExitCode;

fn main() -> ExitCode {
    let raw: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if runtime::is_helper(&raw) {
        runtime::helper_main(&raw);
    }
    let words: Vec<String> = raw.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(code) = toolbox::run(&words) {
        // A shell's exit code is its last command's, of which the system keeps eight bits.
        return ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
    }
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass: {error:#}");
            ExitCode::FAILURE
        }
    }
}
