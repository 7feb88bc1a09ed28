//! Files that a container may have had its hands on: read within bounds, removed without leaving their file system.
//!
//! Everything below an opened directory is reached through descriptors, and the kernel is told to follow no link and to
//! cross no mount (`openat2`), so what a path means cannot be changed between the look and the deed.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, renameat, statat, unlinkat,
};

/// How deep directories are removed one inside the other; what lies deeper is moved up first.
const DEPTH_MAX: usize = 64;

/// Opens `name`, which must be an entry of `parent` itself on the same mount, and no link.
pub(crate) fn open_entry(parent: BorrowedFd<'_>, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The entries of a directory, without `.` and `..`.
pub(crate) fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut out = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            out.push(entry.file_name().to_owned());
        }
    }
    Ok(out)
}

fn path(name: &CString) -> PathBuf {
    PathBuf::from(OsString::from_vec(name.to_bytes().to_vec()))
}

/// Mount points at or below `dir`, the deepest and latest first.
///
/// # Errors
/// The table of mounts cannot be read: nothing is known of what is mounted.
pub(crate) fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let fields = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut below: Vec<PathBuf> = fields.map(unescape).filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    Ok(below)
}

/// mountinfo writes blanks, line ends and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let (mut out, mut rest) = (Vec::with_capacity(field.len()), field);
    while let [byte, after @ ..] = rest {
        let octal = |digit: &u8| digit.is_ascii_digit().then(|| u32::from(digit - b'0'));
        let escaped = match (byte, after) {
            (b'\\', [a, b, c, ..]) => octal(a).zip(octal(b)).zip(octal(c)).map(|((a, b), c)| a * 64 + b * 8 + c),
            _ => None,
        };
        match escaped.and_then(|number| u8::try_from(number).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Removes a directory with all that is in it. Nothing below may be mounted. Idempotent.
///
/// # Errors
/// Something is mounted there, or could not be removed; what lies behind a mount is never touched.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    let Some((parent, name)) = dir.parent().zip(dir.file_name()) else {
        return Err(told(io::ErrorKind::InvalidInput.into()));
    };
    let parent = match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        opened => opened.map_err(|error| told(error.into()))?,
    };
    let name = Path::new(name);
    let top = match open_entry(parent.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(told)?,
    };
    let mut moved = 0;
    loop {
        let before = moved;
        empty(&top, &top, 0, &mut moved).map_err(told)?;
        if moved == before {
            break;
        }
    }
    drop(top);
    unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(|error| told(error.into()))
}

/// Removes what is in `directory`. A directory that lies too deep is moved to `top`, where a further round finds it.
fn empty(directory: &OwnedFd, top: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<()> {
    for name in names(directory)? {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path(&name).display()));
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| told(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            unlinkat(directory, &name, AtFlags::empty()).map_err(|error| told(error.into()))?;
            continue;
        }
        if depth >= DEPTH_MAX {
            *moved += 1;
            renameat(directory, &name, top, format!(".removing-{moved}")).map_err(|error| told(error.into()))?;
            continue;
        }
        let inner = open_entry(directory.as_fd(), &path(&name), OFlags::RDONLY | OFlags::DIRECTORY).map_err(
            |error| match error.raw_os_error() {
                Some(libc::EXDEV) => told(io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted on it")),
                _ => told(error),
            },
        )?;
        empty(&inner, top, depth + 1, moved).map_err(told)?;
        unlinkat(directory, &name, AtFlags::REMOVEDIR).map_err(|error| told(error.into()))?;
    }
    Ok(())
}

/// How deep a tree is walked; each directory on the way is an open descriptor.
const WALK_DEPTH_MAX: usize = 256;

/// Visits everything at and below `root`, each directory after what is in it, with its status. What vanishes meanwhile and
/// what is mounted in the tree is passed over.
///
/// # Errors
/// The first of a visit, or of opening a directory; a tree that is too deep.
pub(crate) fn walk(root: OwnedFd, visit: &mut dyn FnMut(&OwnedFd, &Stat) -> io::Result<()>) -> io::Result<()> {
    struct Open {
        entry: OwnedFd,
        stat: Stat,
        left: Vec<CString>,
    }
    let open = |entry: OwnedFd, visit: &mut dyn FnMut(&OwnedFd, &Stat) -> io::Result<()>| {
        let stat = fstat(&entry)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            visit(&entry, &stat)?;
            return Ok::<_, io::Error>(None);
        }
        let readable = open_entry(entry.as_fd(), Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Some(Open { left: names(&readable)?, entry, stat }))
    };
    let mut waiting: Vec<Open> = open(root, visit)?.into_iter().collect();
    while let Some(last) = waiting.last_mut() {
        let Some(name) = last.left.pop() else {
            visit(&last.entry, &last.stat)?;
            waiting.pop();
            continue;
        };
        match open_entry(last.entry.as_fd(), &path(&name), OFlags::PATH) {
            Ok(_) if waiting.len() >= WALK_DEPTH_MAX => {
                return Err(io::Error::other(format!("more than {WALK_DEPTH_MAX} directories one inside the other")));
            }
            Ok(entry) => waiting.extend(open(entry, visit)?),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EXDEV)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a directory, not through a link, as the root of a walk.
pub(crate) fn open_root(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Bytes that a tree takes on disk, as far as it can be looked at; a file of several names counts for each.
pub(crate) fn disk_usage(dir: &Path) -> u64 {
    let mut bytes = 0;
    let counted = open_root(dir).and_then(|root| {
        walk(root, &mut |_, stat| {
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            Ok(())
        })
    });
    if let Err(error) = counted.as_ref().map_err(|error| error.kind())
        && error != io::ErrorKind::NotFound
    {
        tracing::warn!(?counted, dir = %dir.display(), "disk usage is not known in full");
    }
    bytes
}

/// A regular file, opened for reading; a link, pipe or device in its place is refused and never waited for.
fn regular(file: OwnedFd) -> io::Result<File> {
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(File::from(file)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The last `max` bytes of a regular file.
///
/// # Errors
/// There is no such file, it is not a regular one, or it cannot be read.
pub(crate) fn read_tail(file: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = regular(rustix::fs::openat(CWD, file, flags, Mode::empty())?)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(max)))?;
    let mut out = Vec::new();
    file.take(max).read_to_end(&mut out)?;
    Ok(out)
}

/// The whole of a regular file that was opened with `O_NONBLOCK`.
///
/// # Errors
/// It is not a regular file, is larger than `max` bytes, or cannot be read.
pub(crate) fn read_whole(file: OwnedFd, max: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    regular(file)?.take(max + 1).read_to_end(&mut out)?;
    if out.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max} bytes")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("windlass-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A bind mount that goes with the value.
    struct Bound(PathBuf);

    impl Bound {
        fn new(source: &Path, target: PathBuf) -> Bound {
            std::fs::create_dir_all(&target).unwrap();
            mount(Some(source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            Bound(target)
        }
    }

    impl Drop for Bound {
        fn drop(&mut self) {
            umount2(&self.0, MntFlags::MNT_DETACH).ok();
        }
    }

    #[test]
    fn a_tree_is_removed_however_deep_and_links_are_not_followed() {
        let root = scratch("tree");
        let kept = root.join("kept");
        std::fs::write(&kept, "x").unwrap();
        let tree = root.join("tree");
        std::fs::create_dir(&tree).unwrap();
        symlink(&root, tree.join("up")).unwrap();
        let mut deep = rustix::fs::open(&tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", Mode::from_raw_mode(0o755)).unwrap();
            deep = open_entry(deep.as_fd(), Path::new("d"), OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        }
        drop(deep);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.exists());
        remove_tree(&tree).unwrap();
        remove_tree(&root.join("no/such")).unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_mounted_is_found_whatever_its_name_and_never_removed() {
        let root = scratch("mount");
        let host = root.join("host");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("data"), "precious").unwrap();
        let name = std::ffi::OsStr::from_bytes(b"not utf-8 \xff\\ here");
        let tree = root.join("pod");
        let bound = Bound::new(&host, tree.join(name));
        assert_eq!(mounts_below(&tree).unwrap(), [tree.join(name)]);
        let error = remove_tree(&tree).unwrap_err();
        assert!(error.to_string().ends_with("something is mounted on it"), "{error}");
        assert_eq!(std::fs::read_to_string(host.join("data")).unwrap(), "precious");
        drop(bound);
        remove_tree(&tree).unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn reading_keeps_to_its_bounds_and_to_regular_files() {
        let root = scratch("read");
        let file = root.join("file");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(read_tail(&file, 4).unwrap(), b"6789");
        assert_eq!(read_tail(&file, 40).unwrap(), b"0123456789");
        let open = |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        assert_eq!(read_whole(open(&file), 10).unwrap(), b"0123456789");
        assert!(read_whole(open(&file), 9).is_err());
        symlink(&file, root.join("link")).unwrap();
        assert!(read_tail(&root.join("link"), 4).is_err());
        let pipe = root.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_tail(&pipe, 4).unwrap_err().to_string().contains("not a regular file"));
        assert!(read_whole(open(&pipe), 4).is_err());
        std::fs::remove_dir_all(root).unwrap();
    }
}
