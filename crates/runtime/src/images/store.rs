//! The images on this node: configurations and manifests by digest, layers unpacked once by their diff id, and one index
//! file that says which names they have.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pods::ports::Image;
use tokio::sync::watch;

use super::reference::Reference;
use super::unpack::{Unpacked, hex_digest, sha256, unpack};
use crate::layout::write_atomically;
use crate::spec::ImageConfig;

/// One image as the index keeps it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    /// `sha256:...` of the configuration.
    pub id: String,
    /// `registry/repository:tag`
    pub tags: BTreeSet<String>,
    /// `registry/repository@sha256:...`
    pub digests: BTreeSet<String>,
    /// Directory names below `layers`, the topmost first.
    pub layers: Vec<String>,
    pub size_bytes: u64,
    pub config: ImageConfig,
    #[serde(default)]
    pub pinned: bool,
}

impl Stored {
    pub fn image(&self) -> Image {
        Image {
            id: self.id.clone(),
            repo_tags: self.tags.iter().cloned().collect(),
            repo_digests: self.digests.iter().cloned().collect(),
            size_bytes: self.size_bytes,
            user: self.config.user.clone(),
            pinned: self.pinned,
        }
    }

    /// What the CRI calls the image reference of a container: a digest if there is one, else the id.
    pub fn reference(&self) -> String {
        self.digests.first().cloned().unwrap_or_else(|| self.id.clone())
    }
}

/// The images of this node.
pub struct Images {
    directory: PathBuf,
    index: Mutex<Vec<Stored>>,
    /// Names of images that are being made here at this moment.
    coming: watch::Sender<BTreeSet<String>>,
}

/// An image that is being made: who asks for it by this name waits until this is dropped.
pub struct Coming {
    tag: String,
    names: watch::Sender<BTreeSet<String>>,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.names.send_modify(|names| {
            names.remove(&self.tag);
        });
    }
}

/// A layer's directory: the first half of its diff id, short so that many fit into one mount's options.
pub fn layer_name(diff_id: &str) -> io::Result<String> {
    let hex = diff_id.strip_prefix("sha256:").filter(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    hex.and_then(|h| h.get(..32))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{diff_id:?} is no layer digest")))
}

/// The parts of an OCI or docker image configuration that matter here.
#[derive(Debug, Default, serde::Deserialize)]
pub struct ConfigFile {
    #[serde(default)]
    pub config: Option<ConfigSection>,
    #[serde(default)]
    pub rootfs: RootFs,
}

#[derive(Debug, Default, serde::Deserialize)]
pub struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigSection {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

impl ConfigSection {
    fn read(self) -> ImageConfig {
        let named = |text: Option<String>| text.filter(|t| !t.is_empty());
        ImageConfig {
            user: named(self.user),
            env: self.env.unwrap_or_default(),
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.cmd.unwrap_or_default(),
            working_directory: named(self.working_dir),
            stop_signal: named(self.stop_signal),
        }
    }
}

impl Images {
    pub fn open(directory: &Path) -> io::Result<Self> {
        for part in ["blobs/sha256", "layers", "ingest"] {
            std::fs::create_dir_all(directory.join(part))?;
        }
        let path = directory.join("index.json");
        let index = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        let images =
            Self { directory: directory.to_owned(), index: Mutex::new(index), coming: watch::Sender::default() };
        images.remove_unfinished()?;
        Ok(images)
    }

    /// Layers that were being unpacked when the process ended.
    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.layers())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("tmp-") {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    pub fn layers(&self) -> PathBuf {
        self.directory.join("layers")
    }

    /// Where partly downloaded blobs wait to be continued.
    pub fn ingest(&self) -> PathBuf {
        self.directory.join("ingest")
    }

    pub fn blob(&self, digest: &str) -> io::Result<PathBuf> {
        layer_name(digest)?;
        Ok(self.directory.join("blobs").join(digest.replace(':', "/")))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stored>> {
        // The index is changed in one assignment each time, so a panic elsewhere leaves it whole.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, edit: impl FnOnce(&mut Vec<Stored>) -> T) -> io::Result<T> {
        let mut index = self.lock();
        let mut next = index.clone();
        let result = edit(&mut next);
        next.retain(|i| !i.tags.is_empty() || !i.digests.is_empty());
        let text = serde_json::to_vec_pretty(&next)?;
        write_atomically(&self.directory.join("index.json"), &text)?;
        *index = next;
        Ok(result)
    }

    /// Announces an image that will be here soon, so that the node need not wait for it but its pods do.
    pub fn announce(&self, name: &str) -> Option<Coming> {
        let tag = Reference::parse(name)?.tagged()?;
        self.coming.send_modify(|names| {
            names.insert(tag.clone());
        });
        Some(Coming { tag, names: self.coming.clone() })
    }

    /// Returns when nobody is making an image of this name.
    pub async fn settled(&self, name: &str) {
        let Some(tag) = Reference::parse(name).and_then(|reference| reference.tagged()) else { return };
        let mut coming = self.coming.subscribe();
        // The sender lives as long as we do, so the wait cannot fail.
        let _settled = coming.wait_for(|names| !names.contains(&tag)).await;
    }

    pub fn list(&self) -> Vec<Stored> {
        self.lock().clone()
    }

    /// Finds an image by name, by digest, by id, or by the beginning of an id.
    pub fn find(&self, name: &str) -> Option<Stored> {
        let index = self.lock();
        let bare = name.strip_prefix("sha256:").unwrap_or(name);
        let by_id = index.iter().find(|i| i.id == name || i.id.strip_prefix("sha256:") == Some(bare));
        if let Some(found) = by_id {
            return Some(found.clone());
        }
        let reference = Reference::parse(name)?;
        let found = match (reference.digested(), reference.tagged()) {
            (Some(digest), _) => index.iter().find(|i| i.digests.contains(&digest)),
            (None, Some(tag)) => index.iter().find(|i| i.tags.contains(&tag)),
            (None, None) => None,
        };
        found.cloned()
    }

    pub fn has_layer(&self, diff_id: &str) -> io::Result<bool> {
        Ok(self.layers().join(layer_name(diff_id)?).is_dir())
    }

    /// Unpacks a layer, unless it is there. `expected` is the diff id that the configuration promises.
    pub fn add_layer(&self, stream: impl Read + Send, expected: Option<&str>) -> io::Result<Unpacked> {
        let temporary = self.layers().join(format!("tmp-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&temporary)?;
        let finished = self.unpack_into(stream, expected, &temporary);
        if finished.is_err() {
            // What stays is removed at the next start.
            let _removed = std::fs::remove_dir_all(&temporary);
        }
        finished
    }

    fn unpack_into(&self, stream: impl Read + Send, expected: Option<&str>, temporary: &Path) -> io::Result<Unpacked> {
        let unpacked = unpack(stream, temporary)?;
        if let Some(expected) = expected.filter(|e| *e != unpacked.diff_id) {
            let text = format!("wrong diff id calculated on extraction {:?}, expected {expected:?}", unpacked.diff_id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        std::fs::write(self.size_file(&unpacked.diff_id)?, unpacked.size_bytes.to_string())?;
        let place = self.layers().join(layer_name(&unpacked.diff_id)?);
        match std::fs::rename(temporary, &place) {
            Ok(()) => {}
            // Unpacked by somebody else meanwhile: theirs is the same.
            Err(_) if place.is_dir() => std::fs::remove_dir_all(temporary)?,
            Err(e) => return Err(e),
        }
        Ok(unpacked)
    }

    fn size_file(&self, diff_id: &str) -> io::Result<PathBuf> {
        Ok(self.layers().join(format!("{}.size", layer_name(diff_id)?)))
    }

    /// Puts an image whose layers are all there under its names.
    pub fn add_image(&self, config: &[u8], tags: &[String], digests: &[String], pinned: bool) -> io::Result<Stored> {
        let parsed: ConfigFile = serde_json::from_slice(config)?;
        let mut layers = Vec::new();
        let mut size_bytes = config.len() as u64;
        for diff_id in &parsed.rootfs.diff_ids {
            layers.push(layer_name(diff_id)?);
            size_bytes += std::fs::read_to_string(self.size_file(diff_id)?)?.trim().parse::<u64>().unwrap_or(0);
        }
        layers.reverse();
        // A layer that occurs twice would be the same directory twice, which overlayfs refuses; the upper one counts.
        let mut seen = BTreeSet::new();
        layers.retain(|l| seen.insert(l.clone()));
        let mut hash = sha256();
        hash.update(config);
        let id = hex_digest(hash);
        write_atomically(&self.blob(&id)?, config)?;
        let image_config = parsed.config.unwrap_or_default().read();
        self.change(|index| {
            for image in index.iter_mut().filter(|i| i.id != id) {
                image.tags.retain(|t| !tags.contains(t));
            }
            let at = index.iter().position(|i| i.id == id).unwrap_or_else(|| {
                index.push(Stored {
                    id: id.clone(),
                    tags: BTreeSet::new(),
                    digests: BTreeSet::new(),
                    layers,
                    size_bytes,
                    config: image_config,
                    pinned,
                });
                index.len() - 1
            });
            let image = &mut index[at];
            image.tags.extend(tags.iter().cloned());
            image.digests.extend(digests.iter().cloned());
            image.pinned |= pinned;
            image.clone()
        })
    }

    /// Takes a name away, or with an id the whole image; layers that nothing needs any more go too.
    pub fn remove(&self, name: &str, in_use: &BTreeSet<String>) -> io::Result<()> {
        let Some(found) = self.find(name) else { return Ok(()) };
        let reference = Reference::parse(name).filter(|_| !found.id.ends_with(name));
        self.change(|index| {
            let Some(image) = index.iter_mut().find(|i| i.id == found.id) else { return };
            match reference.as_ref().map(|r| (r.tagged(), r.digested())) {
                Some((Some(tag), _)) if image.tags.len() > 1 => drop(image.tags.remove(&tag)),
                // The last name of an image takes its digests with it.
                _ => {
                    image.tags.clear();
                    image.digests.clear();
                }
            }
        })?;
        self.remove_unreferenced(in_use)
    }

    /// Deletes layers and blobs that no image names and no container uses.
    pub fn remove_unreferenced(&self, in_use: &BTreeSet<String>) -> io::Result<()> {
        let index = self.lock();
        let named: BTreeSet<&String> = index.iter().flat_map(|i| &i.layers).chain(in_use).collect();
        for entry in std::fs::read_dir(self.layers())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let layer = name.trim_end_matches(".size").to_owned();
            if named.contains(&layer) || name.starts_with("tmp-") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        for entry in std::fs::read_dir(self.directory.join("blobs/sha256"))? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !index.iter().any(|i| i.id == digest) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Bytes of all layers that are here.
    pub fn used_bytes(&self) -> u64 {
        let Ok(entries) = std::fs::read_dir(self.layers()) else { return 0 };
        entries
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "size"))
            .filter_map(|e| std::fs::read_to_string(e.path()).ok()?.trim().parse::<u64>().ok())
            .sum()
    }
}
