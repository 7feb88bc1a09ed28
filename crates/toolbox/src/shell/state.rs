//! The shell's variables, functions and options, and their text form for a shell in another process.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::parse::parse;

/// How a list ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flow {
    Next,
    Break(u32),
    Continue(u32),
    Return,
    Exit(i32),
}

#[derive(Debug)]
pub struct Variable {
    pub value: String,
    pub exported: bool,
}

pub struct Shell {
    pub name: String,
    pub positional: Vec<String>,
    pub variables: BTreeMap<String, Variable>,
    /// Source text of each function's body.
    pub functions: BTreeMap<String, String>,
    pub status: i32,
    pub errexit: bool,
    pub trace: bool,
    /// Process id of the last command sent to the background.
    pub background: Vec<std::process::Child>,
    /// Conditions of `if`, `while`, `&&` and `||` do not end the shell under `-e`.
    pub in_condition: u32,
    pub exit_trap: Option<String>,
}

impl Shell {
    pub fn new(errexit: bool, trace: bool) -> Self {
        let variables =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.to_string_lossy().into_owned())));
        let mut variables: BTreeMap<String, Variable> =
            variables.map(|(name, value)| (name, Variable { value, exported: true })).collect();
        let mut set = |name: &str, value: &str| {
            variables.entry(name.to_owned()).or_insert(Variable { value: value.to_owned(), exported: false });
        };
        set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        set("IFS", " \t\n");
        Self {
            name: "sh".to_owned(),
            positional: Vec::new(),
            variables,
            functions: BTreeMap::new(),
            status: 0,
            errexit,
            trace,
            background: Vec::new(),
            in_condition: 0,
            exit_trap: None,
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|v| v.value.as_str())
    }

    pub fn set(&mut self, name: &str, value: String) {
        match self.variables.get_mut(name) {
            Some(variable) => variable.value = value,
            None => {
                self.variables.insert(name.to_owned(), Variable { value, exported: false });
            }
        }
    }

    /// Parses and runs a whole script, then the exit trap; gives the exit code.
    pub fn run_script(&mut self, source: &str) -> i32 {
        let code = match parse(source) {
            Ok(program) => match self.list(&program, source) {
                Flow::Exit(code) => code,
                _ => self.status,
            },
            Err(error) => {
                eprintln!("{}: {}", self.name, error.message);
                2
            }
        };
        match self.exit_trap.take() {
            Some(trap) => {
                self.run_script(&trap);
                code
            }
            None => code,
        }
    }

    /// A script that makes a new shell like this one and then runs `source`.
    pub fn script_for(&self, source: &str) -> String {
        let mut script = String::new();
        for (name, variable) in self.variables.iter().filter(|(_, v)| !v.exported) {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "{name}={}", quote(&variable.value));
        }
        for (name, body) in &self.functions {
            let _ = writeln!(script, "{name}() {body}");
        }
        if !self.positional.is_empty() {
            let words: Vec<String> = self.positional.iter().map(|w| quote(w)).collect();
            let _ = writeln!(script, "set -- {}", words.join(" "));
        }
        if self.errexit {
            script.push_str("set -e\n");
        }
        script.push_str(source);
        script
    }
}

pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
