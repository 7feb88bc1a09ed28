//! `cargo xtask COMMAND`: runs one of the repository's rules or generators.

use anyhow::{Result, bail};
use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "Rules and generators of this repository")]
enum Command {
    /// Write crates/kinds/facts from upstream's published API.
    Facts,
    /// Check the length of files and functions, and the header of each file.
    Tidy,
    /// Check the table of crates in ARCHITECTURE.md and the purity of layers 1 to 3.
    Crates,
    /// Measure what a user waits for and what a node takes, as root, against a release build.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Start of a node, pods, and what it takes when idle; prints the table of docs/benchmarks.md.
    Up {
        #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/release/windlass")]
        binary: std::path::PathBuf,
        #[arg(long, default_value = "kubectl")]
        kubectl: std::path::PathBuf,
        #[arg(long, default_value_t = 15)]
        samples: usize,
    },
}

fn main() -> Result<()> {
    let root = xtask::root();
    match Command::parse() {
        Command::Facts => {
            let written = xtask::facts::write(&root)?;
            println!("{written} files in {}", xtask::facts::directory(&root).display());
            Ok(())
        }
        Command::Tidy => report(&xtask::tidy::check(&root)?),
        Command::Bench(Bench::Up { binary, kubectl, samples }) => {
            println!("{}", xtask::bench::up(binary, kubectl, samples)?);
            Ok(())
        }
        Command::Crates => report(&xtask::crates::check(&root)?),
    }
}

fn report(complaints: &[String]) -> Result<()> {
    for complaint in complaints {
        println!("{complaint}");
    }
    if complaints.is_empty() { Ok(()) } else { bail!("{} complaints", complaints.len()) }
}
