//! `windlass why`: the journal's answer, read from its files, so that neither API server nor store is needed.

use std::io::Write;

use anyhow::Context;
use journal::{Subject, explain};

use crate::config::Settings;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The pod: NAME, or NAMESPACE/NAME
    pod: String,
    /// Only this container
    #[arg(long, short)]
    container: Option<String>,
    /// Namespace of the pod [default: default]
    #[arg(long, short)]
    namespace: Option<String>,
    /// `text` or `json`
    #[arg(long, short, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

pub fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<()> {
    let directory = settings.journal();
    let records = store::JournalRing::read_all(&directory)
        .with_context(|| format!("cannot read the journal in {}", directory.display()))?;
    let (namespace, name) = match arguments.pod.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (arguments.namespace.as_deref().unwrap_or("default"), arguments.pod.as_str()),
    };
    let mut subject = Subject::pod(namespace, name, "");
    subject.container.clone_from(&arguments.container);
    let chain = explain(&records, &subject);
    let text = match arguments.output.as_str() {
        "json" => format!("{}\n", serde_json::to_string_pretty(&chain)?),
        _ => chain.to_string(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the answer"),
    }
}
