//! The image store of a node with what belongs to it: the registries that images come from, and the containers that use
//! layers. The runtime has one, and so has `windlass image`, also beside a running node.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pods::ports::{Image, PullError, RegistryAuth};

use super::pull::Puller;
use super::store::{Images, Stored};
use crate::container::Record;
use crate::layout::Layout;
use crate::local::{Config, OpenError};

/// The images of a node.
pub struct NodeImages {
    pub store: Arc<Images>,
    puller: Puller,
    containers: PathBuf,
}

impl NodeImages {
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let layout = Layout { data: config.data.clone(), run: config.run.clone() };
        let store = Arc::new(Images::open(&layout.images()).map_err(OpenError::Images)?);
        let puller = Puller::new(store.clone(), config.registries.clone()).map_err(OpenError::Registries)?;
        Ok(Self { store, puller, containers: layout.containers() })
    }

    pub async fn pull(&self, image: &str, auth: &[RegistryAuth]) -> Result<Image, PullError> {
        self.store.settled(image).await;
        self.puller.pull(image, auth).await
    }

    pub fn list(&self) -> io::Result<Vec<Image>> {
        Ok(self.store.list()?.iter().map(Stored::image).collect())
    }

    /// Takes a name away, or with an id the whole image. Layers of containers stay until these are removed.
    pub fn remove(&self, image: &str) -> io::Result<()> {
        self.store.remove(image, || layers_in_use(&self.containers))
    }
}

/// The layers of every container on record, in whichever process it was made.
fn layers_in_use(containers: &Path) -> io::Result<BTreeSet<String>> {
    let mut layers = BTreeSet::new();
    let entries = match std::fs::read_dir(containers) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(layers),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path().join("container.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            // Being made, and then under a lease; or being removed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display())))?;
        layers.extend(record.layers);
        layers.extend(record.volume_layers);
    }
    Ok(layers)
}
