//! An API server alone, on an in-memory store: `cargo run -p apiserver --example serve -- 6443`, then the kubeconfig it
//! prints. For looking at answers beside upstream's.

#[path = "../tests/support/mod.rs"]
mod support;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let store = std::sync::Arc::new(store::Embedded::in_memory(store::Options::default()));
    let cluster = support::Cluster::start_on(store, port).await;
    println!("{}", cluster.kubeconfig.display());
    std::future::pending::<()>().await;
}
