//! Sockets in another network namespace.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::netlink::Socket;

/// The calling thread's own network namespace, to come back to.
pub struct Home(File);

impl Home {
    pub fn of_this_thread() -> io::Result<Home> {
        File::open("/proc/thread-self/ns/net").map(Home)
    }

    /// Opens a routing socket in another namespace. Only the calling thread goes there and back, and only for the call.
    /// A thread that cannot come back must not run anything else: the caller ends it.
    pub fn socket_in(&self, namespace: &File) -> Result<Socket, Away> {
        let failed = |what: &str, errno: nix::Error| Away::Failed(format!("{what}: {}", errno.desc()));
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed("enter network namespace", errno))?;
        let socket = Socket::route();
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| Away::Lost(errno.desc().to_owned()))?;
        socket.map_err(|refused| Away::Failed(refused.to_string()))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Away {
    #[error("{0}")]
    Failed(String),
    #[error("cannot come back to the node's network namespace: {0}")]
    Lost(String),
}

/// Writes a sysctl of the calling thread's network namespace (`net/ipv4/ip_forward`).
pub fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    // Most are right already, and reading is allowed where /proc/sys is mounted read-only.
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(path, value)
}
