//! The images on this node: configurations and manifests by digest, layers unpacked once by their diff id, and one index
//! file that says which names they have.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pods::ports::Image;
use tokio::sync::watch;

use super::lock::{self, Lease, Locked};
use super::reference::Reference;
use super::unpack::{Unpacked, hex_digest, sha256, unpack};
use crate::layout::{sync_directory, write_durably};
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
    index: Mutex<Index>,
    /// Names of images that are being made here at this moment.
    coming: watch::Sender<BTreeSet<String>>,
    /// Held as long as the store is open.
    _user: Locked,
}

/// The index as this process read or wrote it last.
#[derive(Default)]
struct Index {
    images: Vec<Stored>,
    read: Option<Stamp>,
}

/// What tells one version of the index file from the next: inode, time of change, size in bytes.
type Stamp = (u64, i64, i64, u64);

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
    /// Opens the store, perhaps beside other processes that have it open.
    ///
    /// # Errors
    /// A damaged index names its file and the place in it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        for part in ["blobs/sha256", "layers", "ingest", "leases"] {
            std::fs::create_dir_all(directory.join(part))?;
        }
        let user = lock::shared(&directory.join("users"), || remove_unfinished(directory))?;
        let (directory, coming) = (directory.to_owned(), watch::Sender::default());
        let images = Self { directory, index: Mutex::default(), coming, _user: user };
        drop(images.fresh()?);
        Ok(images)
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

    fn index_file(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    fn stamp(&self) -> io::Result<Option<Stamp>> {
        match std::fs::metadata(self.index_file()) {
            Ok(found) => Ok(Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The index as the file has it, which another process may have changed.
    fn fresh(&self) -> io::Result<MutexGuard<'_, Index>> {
        // The index is changed in one assignment each time, so a panic elsewhere leaves it whole.
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked before the file is read: should it change in between, it is read once more the next time.
        let stamp = self.stamp()?;
        if stamp != index.read {
            *index = Index { images: read_index(&self.index_file())?, read: stamp };
        }
        Ok(index)
    }

    /// The index, and the lock that keeps every other process from changing it.
    fn locked(&self) -> io::Result<(Locked, MutexGuard<'_, Index>)> {
        let held = lock::exclusive(&self.directory.join("index.lock"))?;
        Ok((held, self.fresh()?))
    }

    fn change<T>(&self, edit: impl FnOnce(&mut Vec<Stored>) -> io::Result<T>) -> io::Result<T> {
        let (_held, mut index) = self.locked()?;
        let mut next = index.images.clone();
        let result = edit(&mut next)?;
        next.retain(|i| !i.tags.is_empty() || !i.digests.is_empty());
        write_durably(&self.index_file(), &serde_json::to_vec_pretty(&next)?)?;
        *index = Index { images: next, read: self.stamp()? };
        Ok(result)
    }

    /// Keeps layers from removal though no image or container names them yet.
    pub fn lease(&self, diff_ids: &[String]) -> io::Result<Lease> {
        let names = diff_ids.iter().map(|diff_id| layer_name(diff_id)).collect::<io::Result<Vec<_>>>()?;
        let _index = self.locked()?;
        let lease = Lease::new(&self.directory.join("leases"))?;
        lease.add(&names)?;
        Ok(lease)
    }

    /// An image by each of some names, all of them kept from removal.
    pub fn find_and_lease(&self, names: &[&str]) -> io::Result<(Vec<Option<Stored>>, Lease)> {
        let (_held, index) = self.locked()?;
        let lease = Lease::new(&self.directory.join("leases"))?;
        let found: Vec<Option<Stored>> = names.iter().map(|name| find(&index.images, name).cloned()).collect();
        for image in found.iter().flatten() {
            lease.add(&image.layers)?;
        }
        Ok((found, lease))
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

    pub fn list(&self) -> io::Result<Vec<Stored>> {
        Ok(self.fresh()?.images.clone())
    }

    /// Finds an image by name, by digest or by id.
    pub fn find(&self, name: &str) -> io::Result<Option<Stored>> {
        Ok(find(&self.fresh()?.images, name).cloned())
    }

    pub fn has_layer(&self, diff_id: &str) -> io::Result<bool> {
        Ok(self.layers().join(layer_name(diff_id)?).is_dir())
    }

    /// Unpacks a layer, unless it is there; the lease keeps it until an image names it. `expected` is the diff id that the
    /// configuration promises.
    pub fn add_layer(&self, lease: &Lease, stream: impl Read + Send, expected: Option<&str>) -> io::Result<Unpacked> {
        let temporary = self.layers().join(format!("tmp-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&temporary)?;
        let finished = self.unpack_into(lease, stream, expected, &temporary);
        if finished.is_err() {
            // What stays is removed when next the store is opened by one process alone.
            let _removed = std::fs::remove_dir_all(&temporary);
        }
        finished
    }

    fn unpack_into(
        &self,
        lease: &Lease,
        stream: impl Read + Send,
        expected: Option<&str>,
        temporary: &Path,
    ) -> io::Result<Unpacked> {
        let unpacked = unpack(stream, temporary)?;
        if let Some(expected) = expected.filter(|e| *e != unpacked.diff_id) {
            let text = format!("wrong diff id calculated on extraction {:?}, expected {expected:?}", unpacked.diff_id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        std::fs::write(self.size_file(&unpacked.diff_id)?, unpacked.size_bytes.to_string())?;
        // Under its own name a layer is believed for ever after, so it must be on the disk before it has that.
        rustix::fs::syncfs(File::open(temporary)?)?;
        let _index = self.locked()?;
        lease.add(&[layer_name(&unpacked.diff_id)?])?;
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
        let blob = self.blob(&id)?;
        let image_config = parsed.config.unwrap_or_default().read();
        self.change(|index| {
            // The layers' names first, then the index that speaks of them.
            sync_directory(&self.layers())?;
            write_durably(&blob, config)?;
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
            Ok(image.clone())
        })
    }

    /// Takes a name away, or with an id the whole image; layers that nothing needs any more go too.
    pub fn remove(&self, name: &str, in_use: impl FnOnce() -> io::Result<BTreeSet<String>>) -> io::Result<()> {
        let Some(found) = self.find(name)? else { return Ok(()) };
        let reference = Reference::parse(name).filter(|_| !found.id.ends_with(name));
        self.change(|index| {
            let Some(image) = index.iter_mut().find(|i| i.id == found.id) else { return Ok(()) };
            match reference.as_ref().map(|r| (r.tagged(), r.digested())) {
                Some((Some(tag), _)) if image.tags.len() > 1 => drop(image.tags.remove(&tag)),
                // The last name of an image takes its digests with it.
                _ => {
                    image.tags.clear();
                    image.digests.clear();
                }
            }
            Ok(())
        })?;
        self.remove_unreferenced(in_use)
    }

    /// Deletes layers and blobs that no image names, no lease keeps and no container uses. `in_use` tells the
    /// containers' layers; it is asked after the leases, because a container's lease ends when its record is there.
    fn remove_unreferenced(&self, in_use: impl FnOnce() -> io::Result<BTreeSet<String>>) -> io::Result<()> {
        let (held, index) = self.locked()?;
        let mut needed = lock::leased(&self.directory.join("leases"))?;
        needed.extend(in_use()?);
        needed.extend(index.images.iter().flat_map(|i| i.layers.iter().cloned()));
        let mut rubbish = Vec::new();
        for entry in std::fs::read_dir(self.layers())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if needed.contains(name.trim_end_matches(".size")) || name.starts_with("tmp-") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                let out_of_sight = self.layers().join(format!("tmp-{}", uuid::Uuid::new_v4()));
                std::fs::rename(entry.path(), &out_of_sight)?;
                rubbish.push(out_of_sight);
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        for entry in std::fs::read_dir(self.directory.join("blobs/sha256"))? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !index.images.iter().any(|i| i.id == digest) {
                std::fs::remove_file(entry.path())?;
            }
        }
        drop((held, index));
        rubbish.iter().try_for_each(std::fs::remove_dir_all)
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

fn find<'i>(images: &'i [Stored], name: &str) -> Option<&'i Stored> {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    if let Some(by_id) = images.iter().find(|i| i.id == name || i.id.strip_prefix("sha256:") == Some(bare)) {
        return Some(by_id);
    }
    let reference = Reference::parse(name)?;
    match (reference.digested(), reference.tagged()) {
        (Some(digest), _) => images.iter().find(|i| i.digests.contains(&digest)),
        (None, Some(tag)) => images.iter().find(|i| i.tags.contains(&tag)),
        (None, None) => None,
    }
}

fn read_index(path: &Path) -> io::Result<Vec<Stored>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    serde_json::from_slice(&text).map_err(|e| {
        let before: usize =
            text.split_inclusive(|b| *b == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum();
        let offset = (before + e.column()).saturating_sub(1);
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: damaged at byte {offset}: {e}", path.display()))
    })
}

/// What processes that ended left half done: layers being unpacked, archives being spread. Nobody else may be at work.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for part in ["layers", "ingest"] {
        for entry in std::fs::read_dir(directory.join(part))? {
            let entry = entry?;
            match entry.file_name().to_string_lossy().starts_with("tmp-") {
                true if entry.file_type()?.is_dir() => std::fs::remove_dir_all(entry.path())?,
                true => std::fs::remove_file(entry.path())?,
                false => {}
            }
        }
    }
    Ok(())
}
