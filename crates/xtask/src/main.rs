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
        Command::Crates => report(&xtask::crates::check(&root)?),
    }
}

fn report(complaints: &[String]) -> Result<()> {
    for complaint in complaints {
        println!("{complaint}");
    }
    if complaints.is_empty() { Ok(()) } else { bail!("{} complaints", complaints.len()) }
}
