//! A connection to a port of a pod, made from within the pod's network namespace.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the port on the pod's loopback, IPv4 first (`None`: the host's network).
///
/// # Errors
/// Why neither address answered, or the namespace could not be entered.
pub async fn dial(namespace: Option<PathBuf>, port: u16) -> Result<tokio::net::TcpStream, String> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    // A thread of its own, which ends here: a namespace is a thread's, and the runtime's threads stay in the host's.
    let thread = std::thread::Builder::new().name("port-forward".into()).spawn(move || {
        answer.send(connect(namespace.as_deref(), port)).ok();
    });
    thread.map_err(|error| error.to_string())?;
    let stream = answered.await.map_err(|error| error.to_string())??;
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    let stream = tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn connect(namespace: Option<&Path>, port: u16) -> Result<TcpStream, String> {
    let within = namespace.map_or_else(|| "host".to_string(), |path| path.display().to_string());
    if let Some(path) = namespace {
        let entered = File::open(path).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
        entered.map_err(|error| format!("failed to enter network namespace {within:?}: {error}"))?;
    }
    let to = |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_TIMEOUT);
    let first = match to(Ipv4Addr::LOCALHOST.into()) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    to(Ipv6Addr::LOCALHOST.into()).map_err(|second| {
        format!(
            "failed to connect to localhost:{port} inside namespace {within:?}, \
             IPv4: dial tcp4 127.0.0.1:{port}: connect: {} IPv6 dial tcp6 [::1]:{port}: connect: {}",
            words(&first),
            words(&second)
        )
    })
}

/// The error as the C library says it, in lower case as Go has it.
fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_refused_by_name() {
        // A port that was just given and given back: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = dial(None, port).await.unwrap_err();
        let start = format!("failed to connect to localhost:{port} inside namespace \"host\", IPv4: dial tcp4 ");
        assert!(refused.starts_with(&start), "{refused}");
        assert!(refused.contains("connect: connection refused"), "{refused}");
    }
}
