//! A layer's tar stream into a directory that overlayfs can use as a lower layer.
//!
//! Nothing in the stream is believed: every path is opened below the layer's directory as if that were `/`, so neither
//! `..` nor a symbolic link that an earlier entry planted can lead out of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use tar::{Archive, Entry, EntryType};

/// What came out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// `sha256:...` of the uncompressed stream.
    pub diff_id: String,
    pub size_bytes: u64,
}

/// A reader that digests what passes through.
pub struct Digesting<R> {
    inner: R,
    hash: digest::Context,
}

impl<R: Read> Digesting<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, hash: sha256() }
    }

    /// Reads to the end and gives the digest of everything.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(hex_digest(self.hash))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hash.update(&buffer[..len]);
        Ok(len)
    }
}

/// The library that TLS uses, because it is fast in a debug build too.
pub fn sha256() -> digest::Context {
    digest::Context::new(&digest::SHA256)
}

pub fn hex_digest(hash: digest::Context) -> String {
    let hex: String = hash.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Undoes gzip or zstd, told by the first bytes; anything else is taken as it is.
pub fn decompress<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let head = reader.fill_buf()?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        _ => Box::new(reader),
    })
}

/// Unpacks a layer, compressed or not, into an empty directory.
pub fn unpack(stream: impl Read + Send, directory: &Path) -> io::Result<Unpacked> {
    let mut digesting = Digesting::new(decompress(stream)?);
    let mut layer = Layer::open(directory)?;
    let mut archive = Archive::new(&mut digesting);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes())).clone();
        layer
            .add(&path, &mut entry)
            .map_err(|e| io::Error::new(e.kind(), format!("layer entry {:?}: {e}", path.display().to_string())))?;
    }
    layer.finish()?;
    Ok(Unpacked { size_bytes: layer.size_bytes, diff_id: digesting.finish()? })
}

struct Layer {
    root: OwnedFd,
    /// The directory opened last: entries of one directory come together.
    last: Option<(PathBuf, OwnedFd)>,
    /// Directories get their times last, because filling them changes them.
    times: BTreeMap<PathBuf, u64>,
    size_bytes: u64,
}

/// The path as parts below the root; `None` for the root itself.
fn relative(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "path leads out of the layer")),
        }
    }
    Ok((!clean.as_os_str().is_empty()).then_some(clean))
}

impl Layer {
    fn open(directory: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root, last: None, times: BTreeMap::new(), size_bytes: 0 })
    }

    fn open_below(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Opens a directory of the layer, making what is missing.
    fn directory(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return fd.try_clone();
        }
        let fd = match self.open_below(if path.as_os_str().is_empty() { Path::new(".") } else { path }) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(io::ErrorKind::NotFound.into());
                };
                let parent = self.directory(parent)?;
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                self.open_below(path)?
            }
            Err(e) => return Err(e.into()),
        };
        self.last = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    fn add(&mut self, path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let Some(path) = relative(path)? else {
            return set_attributes(&self.root.try_clone()?, entry);
        };
        let (parent_path, name) = (path.parent().unwrap_or(Path::new("")).to_owned(), name_of(&path)?);
        let parent = self.directory(&parent_path)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(&parent, OsStr::from_bytes(hidden));
        }
        let kind = entry.header().entry_type();
        self.clear(&parent, &parent_path, &name, kind)?;
        match kind {
            EntryType::Directory => self.add_directory(&parent, &path, &name, entry),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.add_file(&parent, &name, entry),
            EntryType::Symlink => add_symlink(&parent, &name, entry),
            EntryType::Link => self.add_hard_link(&parent, &name, entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => add_node(&parent, &name, kind, entry),
            // Global headers and kinds that nobody writes.
            _ => Ok(()),
        }
    }

    /// A later entry of the same name replaces an earlier one; a directory stays and takes the new attributes.
    fn clear(&mut self, parent: &OwnedFd, parent_path: &Path, name: &OsStr, kind: EntryType) -> io::Result<()> {
        let found = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
        }
        if kind == EntryType::Directory {
            return Ok(());
        }
        self.last = None;
        self.times.retain(|p, _| !p.starts_with(parent_path.join(name)));
        // The standard library removes trees without following links.
        std::fs::remove_dir_all(Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name))
    }

    fn add_directory(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &mut Entry<'_, impl Read>,
    ) -> io::Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        set_attributes(&fd, entry)?;
        self.times.insert(path.to_owned(), entry.header().mtime()?);
        Ok(())
    }

    fn add_file(&mut self, parent: &OwnedFd, name: &OsStr, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(fd);
        self.size_bytes += io::copy(entry, &mut file)?;
        let fd = OwnedFd::from(file);
        set_attributes(&fd, entry)?;
        rustix::fs::futimens(&fd, &modified(entry.header().mtime()?))?;
        Ok(())
    }

    fn add_hard_link(&mut self, parent: &OwnedFd, name: &OsStr, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("hard link without a target"))?;
        let target = PathBuf::from(OsStr::from_bytes(&target));
        let target = relative(&target)?.ok_or_else(|| io::Error::other("hard link to the root"))?;
        let directory = self.directory(target.parent().unwrap_or(Path::new("")))?;
        // Without AT_SYMLINK_FOLLOW the last part is linked itself, be it a symbolic link.
        Ok(rustix::fs::linkat(&directory, name_of(&target)?, parent, name, AtFlags::empty())?)
    }

    fn finish(&mut self) -> io::Result<()> {
        for (path, seconds) in &self.times {
            match self.open_below(path) {
                Ok(fd) => rustix::fs::futimens(&fd, &modified(*seconds))?,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

fn name_of(path: &Path) -> io::Result<OsString> {
    path.file_name().map(OsStr::to_owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn modified(seconds: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 },
    }
}

/// OCI image-spec layer.md: `.wh.NAME` hides NAME, `.wh..wh..opq` hides everything below; in overlayfs the first is a
/// character device 0:0, the second an attribute of the directory.
fn whiteout(parent: &OwnedFd, hidden: &OsStr) -> io::Result<()> {
    if hidden.as_bytes() == b".wh..opq" {
        return Ok(rustix::fs::fsetxattr(parent, c"trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    // Other double prefixes are aufs's own bookkeeping.
    if hidden.as_bytes().starts_with(b".wh.") || hidden.is_empty() || hidden == "." || hidden == ".." {
        return Ok(());
    }
    match rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn owner(entry: &Entry<'_, impl Read>) -> io::Result<(Uid, Gid)> {
    let id = |value: u64| u32::try_from(value).map_err(|_| io::Error::other("owner out of range"));
    Ok((Uid::from_raw(id(entry.header().uid()?)?), Gid::from_raw(id(entry.header().gid()?)?)))
}

fn mode(entry: &Entry<'_, impl Read>) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(entry.header().mode()? & 0o7777))
}

fn set_attributes(fd: &OwnedFd, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::fchown(fd, Some(uid), Some(gid))?;
    // After the owner, because changing that clears set-user-id.
    rustix::fs::fchmod(fd, mode(entry)?)?;
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        // An attribute of overlayfs itself could point a layer anywhere.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        match rustix::fs::fsetxattr(fd, name, extension.value_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn add_symlink(parent: &OwnedFd, name: &OsStr, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("symbolic link without a target"))?;
    rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(parent.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(parent, name, &modified(entry.header().mtime()?), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn add_node(parent: &OwnedFd, name: &OsStr, kind: EntryType, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let file_type = match kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let header = entry.header();
    let device = match file_type {
        FileType::Fifo => 0,
        _ => rustix::fs::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)),
    };
    rustix::fs::mknodat(parent, name, file_type, Mode::from_raw_mode(0o600), device)?;
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(parent.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    // The name cannot have become a link: the directory is ours alone while it is unpacked.
    Ok(rustix::fs::chmodat(parent, name, mode(entry)?, AtFlags::empty())?)
}
