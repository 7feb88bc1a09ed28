//! Image archives: a tar file with an OCI layout (`index.json`, `blobs/`) or what `docker save` writes
//! (`manifest.json`). Both are spread into a directory first, for their parts come in any order.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use tar::{Archive, EntryType};

use super::import::{architecture, invalid};
use super::lock::Lease;
use super::reference::Reference;
use super::store::{ConfigFile, Images, Stored};
use super::unpack::{decompress, hex_digest, sha256};

impl Images {
    /// Imports every image of an archive, compressed or not. `name` names an image that has no name in it.
    pub fn import_archive(&self, archive: impl Read + Send, name: Option<&str>) -> io::Result<Vec<Stored>> {
        let directory = self.ingest().join(format!("tmp-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory)?;
        let imported = spread(archive, &directory).and_then(|()| {
            let parts = Parts { images: self, directory: &directory };
            if directory.join("index.json").is_file() {
                parts.oci(name)
            } else if directory.join("manifest.json").is_file() {
                parts.docker(name)
            } else {
                Err(invalid("unrecognized image format: neither index.json nor manifest.json in the archive"))
            }
        });
        std::fs::remove_dir_all(&directory)?;
        imported
    }
}

/// A path of the archive as a plain path below its directory.
fn below(path: &[u8]) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            // Old archives link layers to their neighbours.
            Component::ParentDir if clean.pop() => {}
            _ => return Err(invalid("a path leads out of the archive")),
        }
    }
    Ok(clean)
}

/// Writes the archive's files. Links are followed on paper and become copies by hard link, so that no symbolic link ever
/// exists in the directory.
fn spread(archive: impl Read + Send, directory: &Path) -> io::Result<()> {
    let mut links: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for entry in Archive::new(decompress(archive)?).entries()? {
        let mut entry = entry?;
        let path = below(&entry.path_bytes())?;
        let place = directory.join(&path);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&place)?;
                io::copy(&mut entry, &mut file)?;
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name_bytes().ok_or_else(|| invalid("a link without a target"))?;
                let from = if kind == EntryType::Link { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
                links.insert(path.clone(), below(from.join(OsStr::from_bytes(&target)).as_os_str().as_bytes())?);
            }
            _ => {}
        }
    }
    for (path, target) in &links {
        let end = (0..8).fold(target, |at, _| links.get(at).unwrap_or(at));
        std::fs::hard_link(directory.join(end), directory.join(path))?;
    }
    Ok(())
}

/// The files of one archive.
struct Parts<'a> {
    images: &'a Images,
    directory: &'a Path,
}

fn digest_of(data: &[u8]) -> String {
    let mut hash = sha256();
    hash.update(data);
    hex_digest(hash)
}

fn text<'a>(value: &'a Value, what: &str) -> io::Result<&'a str> {
    value.as_str().ok_or_else(|| invalid(format!("the archive's manifest has no {what}")))
}

impl Parts<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let place = self.directory.join(below(path.as_bytes())?);
        std::fs::read(&place).map_err(|e| io::Error::new(e.kind(), format!("{path} in the archive: {e}")))
    }

    fn json(&self, path: &str) -> io::Result<Value> {
        Ok(serde_json::from_slice(&self.read(path)?)?)
    }

    /// A blob of an OCI layout, believed only when it is what its name says.
    fn blob(&self, descriptor: &Value) -> io::Result<Vec<u8>> {
        let digest = text(&descriptor["digest"], "digest")?;
        let data = self.read(&format!("blobs/{}", digest.replace(':', "/")))?;
        let actual = digest_of(&data);
        if actual == digest {
            Ok(data)
        } else {
            Err(invalid(format!("digest mismatch: expected {digest}, got {actual}")))
        }
    }

    fn layer(&self, lease: &Lease, path: &str, diff_id: &str) -> io::Result<()> {
        if self.images.has_layer(diff_id)? {
            return Ok(());
        }
        let file = std::fs::File::open(self.directory.join(below(path.as_bytes())?))
            .map_err(|e| io::Error::new(e.kind(), format!("{path} in the archive: {e}")))?;
        self.images.add_layer(lease, file, Some(diff_id)).map(drop)
    }

    fn add(&self, config: &[u8], layers: &[String], names: &[String], digest: Option<&str>) -> io::Result<Stored> {
        let parsed: ConfigFile = serde_json::from_slice(config)?;
        if parsed.rootfs.diff_ids.len() != layers.len() {
            return Err(invalid("mismatched image rootfs and manifest layers"));
        }
        // Until the image is in the index.
        let lease = self.images.lease(&parsed.rootfs.diff_ids)?;
        for (path, diff_id) in layers.iter().zip(&parsed.rootfs.diff_ids) {
            self.layer(&lease, path, diff_id)?;
        }
        let (mut tags, mut digests) = (Vec::new(), Vec::new());
        for name in names {
            let reference =
                Reference::parse(name).ok_or_else(|| invalid(format!("couldn't parse image name {name:?}")))?;
            tags.extend(reference.tagged());
            digests.extend(digest.map(|d| format!("{}@{d}", reference.name())));
        }
        if names.is_empty() {
            return Err(invalid("the archive's image has no name: give it one"));
        }
        self.images.add_image(config, &tags, &digests, false)
    }

    fn docker(&self, name: Option<&str>) -> io::Result<Vec<Stored>> {
        let manifest = self.json("manifest.json")?;
        let images = manifest.as_array().ok_or_else(|| invalid("manifest.json is no list"))?;
        let strings = |of: &Value| -> Vec<String> {
            of.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        images
            .iter()
            .map(|image| {
                let config = self.read(text(&image["Config"], "Config")?)?;
                let mut names = strings(&image["RepoTags"]);
                names.extend(name.filter(|_| names.is_empty()).map(str::to_owned));
                self.add(&config, &strings(&image["Layers"]), &names, None)
            })
            .collect()
    }

    fn oci(&self, name: Option<&str>) -> io::Result<Vec<Stored>> {
        let index = self.json("index.json")?;
        let mut all = Vec::new();
        for descriptor in index["manifests"].as_array().into_iter().flatten() {
            let annotation = |key: &str| descriptor["annotations"][key].as_str().map(str::to_owned);
            // A bare tag in ref.name is no name of an image.
            let own = annotation("io.containerd.image.name")
                .or_else(|| annotation("org.opencontainers.image.ref.name").filter(|n| n.contains(['/', ':'])));
            let names: Vec<String> = own.or_else(|| name.map(str::to_owned)).into_iter().collect();
            all.push(self.oci_image(descriptor, &names)?);
        }
        Ok(all)
    }

    fn oci_image(&self, descriptor: &Value, names: &[String]) -> io::Result<Stored> {
        let digest = text(&descriptor["digest"], "digest")?;
        let mut manifest: Value = serde_json::from_slice(&self.blob(descriptor)?)?;
        if let Some(platforms) = manifest["manifests"].as_array() {
            let fits = |d: &&Value| d["platform"]["os"] == "linux" && d["platform"]["architecture"] == architecture();
            let chosen = platforms.iter().find(fits).ok_or_else(|| invalid("no match for platform in manifest"))?;
            manifest = serde_json::from_slice(&self.blob(chosen)?)?;
        }
        let config = self.blob(&manifest["config"])?;
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let layers = layers
            .map(|l| Ok(format!("blobs/{}", text(&l["digest"], "digest")?.replace(':', "/"))))
            .collect::<io::Result<Vec<_>>>()?;
        self.add(&config, &layers, names, Some(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_paths_stay_inside() {
        assert_eq!(below(b"./a/../b/c").unwrap(), Path::new("b/c"));
        assert!(below(b"../a").is_err());
        assert!(below(b"a/../../b").is_err());
    }
}
