//! A real etcd, for the tests of whatever speaks to one. The end-to-end tests of `windlass` have this file as well.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A real etcd of one member, gone with the value.
pub struct Etcd {
    pub client_port: u16,
    peer_port: u16,
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What `scripts/clients.sh` builds, or another place that the environment names.
pub fn program(variable: &str, name: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/bin").join(name),
    }
}

/// A port that is free now.
pub fn port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn url_of(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl Etcd {
    /// It may not answer yet.
    pub fn spawn() -> Etcd {
        let directory = tempfile::tempdir().unwrap();
        let mut etcd = Etcd { client_port: port(), peer_port: port(), directory, process: None };
        etcd.start_again();
        etcd
    }

    pub fn url(&self) -> String {
        url_of(self.client_port)
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it on the data that it has, at the same place.
    pub fn start_again(&mut self) {
        let (client, peer) = (self.url(), url_of(self.peer_port));
        let (directory, program) = (self.directory.path(), program("ETCD", "etcd"));
        let process = Command::new(&program)
            .args(["--data-dir", directory.join("data").to_str().unwrap(), "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            // The only member elects itself the sooner.
            .args(["--heartbeat-interval", "20", "--election-timeout", "100"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; scripts/clients.sh builds it", program.display()));
        self.process = Some(process);
    }
}
