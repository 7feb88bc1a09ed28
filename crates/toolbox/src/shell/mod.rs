//! A small POSIX shell: lists, pipelines, redirections, quoting, parameters, command substitution, arithmetic, `if`,
//! `while`, `until`, `for`, `case`, functions and subshells. Job control, aliases and traps on signals are not there.
//!
//! A part that must run in a process of its own (a subshell, a stage of a pipeline, a substitution) is run by starting
//! this same shell again with the part's source text after the variables and functions in force; so nothing ever forks
//! without executing.

mod execute;
mod expand;
mod lex;
mod parse;
mod pattern;
mod state;

use std::io::{BufRead, IsTerminal, Write};

use crate::Call;
use state::{Flow, Shell};

pub use pattern::matches;

/// `sh [-c SCRIPT [NAME [ARG ...]] | FILE [ARG ...]]`, or standard input.
pub fn main(call: &Call) -> i32 {
    let mut words = call.arguments.iter().map(String::as_str).peekable();
    let mut errexit = false;
    let mut trace = false;
    let mut command = false;
    while let Some(flags) = words.peek().and_then(|w| w.strip_prefix('-')).filter(|f| !f.is_empty()) {
        errexit |= flags.contains('e');
        trace |= flags.contains('x');
        command |= flags.contains('c');
        words.next();
    }
    let mut shell = Shell::new(errexit, trace);
    if command {
        let Some(script) = words.next() else { return call.fail("-c requires an argument") };
        shell.name = words.next().unwrap_or(call.name).to_owned();
        shell.positional = words.map(str::to_owned).collect();
        return shell.run_script(script);
    }
    if let Some(file) = words.next() {
        shell.name = file.to_owned();
        shell.positional = words.map(str::to_owned).collect();
        return match std::fs::read_to_string(file) {
            Ok(script) => shell.run_script(&script),
            Err(error) => {
                eprintln!("sh: can't open '{file}': {error}");
                2
            }
        };
    }
    if std::io::stdin().is_terminal() { interactive(&mut shell) } else { from_input(&mut shell) }
}

fn from_input(shell: &mut Shell) -> i32 {
    match std::io::read_to_string(std::io::stdin()) {
        Ok(script) => shell.run_script(&script),
        Err(error) => {
            eprintln!("sh: {error}");
            2
        }
    }
}

fn interactive(shell: &mut Shell) -> i32 {
    // An interrupt ends the program in the foreground, not the shell; the flag itself is not needed.
    let interrupted = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGINT, interrupted) {
        eprintln!("sh: {error}");
    }
    let mut input = std::io::stdin().lock();
    let mut pending = String::new();
    loop {
        let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_else(|_| "?".to_owned());
        let prompt = if pending.is_empty() { format!("{directory} # ") } else { "> ".to_owned() };
        eprint!("{prompt}");
        let mut line = String::new();
        match input.read_line(&mut line) {
            Ok(0) => {
                eprintln!();
                return shell.status;
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                eprintln!();
                pending.clear();
                continue;
            }
            Err(_) => return shell.status,
        }
        pending.push_str(&line);
        match parse::parse(&pending) {
            Ok(program) => {
                let source = std::mem::take(&mut pending);
                if let Flow::Exit(code) = shell.list(&program, &source) {
                    return code;
                }
                if let Err(error) = std::io::stdout().flush() {
                    eprintln!("sh: {error}");
                }
            }
            Err(error) if error.incomplete => {}
            Err(error) => {
                eprintln!("sh: {}", error.message);
                shell.status = 2;
                pending.clear();
            }
        }
    }
}
