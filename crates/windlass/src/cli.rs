//! The command line.

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{Options, Part};
use crate::{down, image, join, token, up, version, why};

/// A complete Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "windlass", version = version::TEXT, about, propagate_version = false)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the control plane and this node; containers of an earlier run are adopted
    Up {
        /// No node: an API server, controllers and scheduler, without root
        #[arg(long)]
        control_plane_only: bool,
        /// Leave a part out, as another program takes its place; may be repeated
        #[arg(long, value_name = "PART", value_delimiter = ',')]
        disable: Vec<Part>,
    },
    /// Make this host a node of a cluster that runs elsewhere; containers of an earlier run are adopted
    ///
    /// `windlass token create` on the cluster's first node prints the command. A node that has joined is started again by
    /// `windlass join` alone.
    Join(join::Arguments),
    /// What lets hosts join this cluster
    Token {
        #[command(subcommand)]
        action: token::Action,
    },
    /// Stop the node's pods and remove every mount, namespace, cgroup, interface and rule it made
    Down,
    /// `down`, and delete the data as well
    Reset {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Say what ended, restarted or holds up a pod, who decided it, by which rule, on what evidence
    ///
    /// Answers from this node's journal, also while the API server is stopped.
    Why(why::Arguments),
    /// The node's images
    Image {
        #[command(subcommand)]
        action: image::Action,
    },
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
}

pub fn run() -> anyhow::Result<()> {
    let mut cli = Cli::parse();
    if let Command::Up { control_plane_only, disable } = &cli.command {
        cli.options.control_plane_only = *control_plane_only;
        cli.options.disable.clone_from(disable);
    }
    match cli.command {
        Command::Version => {
            println!("windlass {}", version::TEXT);
            Ok(())
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "windlass", &mut std::io::stdout());
            Ok(())
        }
        command => {
            let settings = cli.options.resolve()?;
            log_to_stderr(&settings.log)?;
            match command {
                Command::Up { .. } => up::run(&settings),
                Command::Join(arguments) => join::run(settings, &arguments),
                Command::Token { action } => token::run(&settings, action),
                Command::Down => down::run(&settings),
                Command::Reset { yes } => down::reset(&settings, yes),
                Command::Why(arguments) => why::run(&settings, &arguments),
                Command::Image { action } => image::run(&settings, action),
                Command::Version | Command::Completion { .. } => Ok(()),
            }
        }
    }
}

fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log: {filter:?} is no log filter"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_of_up_can_stand_in_the_file() {
        let mut cli = Cli::command();
        cli.build();
        let up = cli.find_subcommand("up").unwrap();
        let names: Vec<&str> = up.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(names.contains(&"control-plane-only") && names.contains(&"data-dir"), "{names:?}");
        for name in names.into_iter().filter(|name| !matches!(*name, "config" | "help")) {
            // A wrong value of a known name is refused for its value.
            let told =
                serde_yaml_ng::from_str::<Options>(&format!("{name}: {{wrong: value}}")).unwrap_err().to_string();
            assert!(!told.contains("unknown field"), "{told}");
        }
    }
}
