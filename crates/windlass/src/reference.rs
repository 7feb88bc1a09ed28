//! `docs/cli.md`: every command and option, written from what the command line itself says of them.
#![cfg(test)]

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;

fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = "# The command line\n\nEvery command and option, as `windlass help` tells them. Options of a node can stand in a file as well: \
                    [configuration.md](configuration.md).\n"
        .to_owned();
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(&mut text, "windlass", command);
    }
    text += "\n## Options of every command\n\n";
    options(&mut text, root.get_arguments().filter(|arg| arg.is_global_set()));
    text
}

fn describe(text: &mut String, parent: &str, command: &Command) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(text, "\n## `{name}`\n\n{about}\n\n```\n{usage}\n```\n").unwrap();
    let is_own = |arg: &&Arg| !arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let own: Vec<&Arg> = command.get_arguments().filter(is_own).collect();
    if !own.is_empty() {
        text.push('\n');
        options(text, own.into_iter());
    }
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        describe(text, &name, child);
    }
}

fn options<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| option | what it is |\n|---|---|\n");
    for arg in arguments {
        let mut name = match (arg.get_long(), arg.get_short()) {
            (Some(long), Some(short)) => format!("--{long}, -{short}"),
            (Some(long), None) => format!("--{long}"),
            _ => String::new(),
        };
        if arg.get_action().takes_values() {
            let values = arg.get_value_names().unwrap_or_default().join(" ");
            name = format!("{name} <{values}>").trim().to_owned();
        }
        let what = arg.get_long_help().or(arg.get_help()).unwrap_or_default().to_string().replace('|', "\\|");
        let possible: Vec<String> =
            arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        let possible = match arg.get_action().takes_values() && !possible.is_empty() {
            true => format!(" ({})", possible.join(", ")),
            false => String::new(),
        };
        writeln!(text, "| `{name}` | {what}{possible} |").unwrap();
    }
}

#[test]
fn the_reference_is_what_the_command_line_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let now = reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == now, "docs/cli.md is stale: UPDATE_REFERENCE=1 cargo test -p windlass reference writes it");
}
