//! Which pod holds which address, kept as one small file an address (named by it) in a directory, so that it outlives
//! the process. No fsync: what a crash of the machine could lose, the pods it belongs to are lost with.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netplan::Cidr;

/// What a pod was given.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lease {
    pub address: IpAddr,
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    pub host_ports: Vec<LeasedPort>,
}

/// A port of the node that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeasedPort {
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: String,
}

#[derive(Debug)]
pub struct Leases {
    directory: PathBuf,
    range: Cidr,
    gateway: IpAddr,
    by_address: BTreeMap<IpAddr, Lease>,
    by_pod: HashMap<String, IpAddr>,
    last: Option<IpAddr>,
}

const LAST: &str = "last";

impl Leases {
    /// Reads what an earlier process has left. A file that cannot be understood is set aside with a warning: its
    /// address may be in use, but its pod will ask again.
    pub fn open(directory: &Path, range: Cidr, gateway: IpAddr) -> io::Result<Leases> {
        std::fs::create_dir_all(directory)?;
        let mut leases = Leases {
            directory: directory.to_owned(),
            range,
            gateway,
            by_address: BTreeMap::new(),
            by_pod: HashMap::new(),
            last: None,
        };
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path)?;
            if path.ends_with(LAST) {
                leases.last = text.trim().parse().ok();
                continue;
            }
            match serde_json::from_str::<Lease>(&text) {
                Ok(lease) if range.contains(lease.address) => leases.insert(lease),
                Ok(_) => std::fs::remove_file(&path)?,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "address lease cannot be read, removed");
                    std::fs::remove_file(&path)?;
                }
            }
        }
        Ok(leases)
    }

    pub fn get(&self, pod_uid: &str) -> Option<&Lease> {
        self.by_address.get(self.by_pod.get(pod_uid)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_address.values()
    }

    /// The next free address; `None` when all are taken. `record` makes it the pod's.
    pub fn free_address(&self) -> Option<IpAddr> {
        self.range.next_free(self.last, |address| address == self.gateway || self.by_address.contains_key(&address))
    }

    /// Writes a lease, new or changed.
    pub fn record(&mut self, lease: Lease) -> io::Result<()> {
        let path = self.directory.join(lease.address.to_string());
        let text = serde_json::to_string(&lease).map_err(io::Error::other)?;
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, &path)?;
        if !self.by_pod.contains_key(&lease.pod_uid) {
            std::fs::write(self.directory.join(LAST), lease.address.to_string())?;
            self.last = Some(lease.address);
        }
        self.insert(lease);
        Ok(())
    }

    pub fn release(&mut self, pod_uid: &str) -> io::Result<Option<Lease>> {
        let Some(address) = self.by_pod.get(pod_uid).copied() else { return Ok(None) };
        match std::fs::remove_file(self.directory.join(address.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.by_pod.remove(pod_uid);
        Ok(self.by_address.remove(&address))
    }

    fn insert(&mut self, lease: Lease) {
        self.by_pod.insert(lease.pod_uid.clone(), lease.address);
        self.by_address.insert(lease.address, lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(address: IpAddr, uid: &str) -> Lease {
        Lease { address, pod_uid: uid.into(), namespace: "n".into(), name: "p".into(), host_ports: vec![] }
    }

    #[test]
    fn leases_outlive_the_process_and_addresses_are_reused_last() {
        let directory = std::env::temp_dir().join(format!("windlass-leases-{}", std::process::id()));
        let range: Cidr = "10.9.0.0/29".parse().unwrap();
        let gateway = range.nth(1).unwrap();
        let mut leases = Leases::open(&directory, range, gateway).unwrap();
        for uid in ["a", "b"] {
            leases.record(lease(leases.free_address().unwrap(), uid)).unwrap();
        }
        leases.release("a").unwrap();
        let mut leases = Leases::open(&directory, range, gateway).unwrap();
        assert_eq!(leases.get("b").unwrap().address, range.nth(3).unwrap());
        assert!(leases.get("a").is_none());
        let given: Vec<String> = ["c", "d", "e", "f"]
            .iter()
            .map(|uid| {
                let address = leases.free_address().unwrap();
                leases.record(lease(address, uid)).unwrap();
                address.to_string()
            })
            .collect();
        assert_eq!(given, ["10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.2"]);
        assert_eq!(leases.free_address(), None);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
