//! `subPath`: a part of a volume, which must not lead out of it, whatever links a container has put there.
//!
//! The kernel resolves the path beneath the volume's root (openat2, RESOLVE_BENEATH), and what it found is bind-mounted
//! through its descriptor, so that nobody can exchange it between the check and the use.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};

use crate::files::{mounts_below, read_whole};

/// Opens `path` beneath `root`.
fn open(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Longest file that is read for a container's environment; the kernel's own limit of what a program is given is 2 MiB.
const TEXT_MAX: u64 = 1 << 20;

/// The text of a regular file beneath `root`.
///
/// # Errors
/// The path leads out of the volume, to no regular file or to one that is too large, or holds no UTF-8.
pub(super) fn read(root: &Path, path: &Path) -> io::Result<String> {
    let bytes = read_whole(open(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?, TEXT_MAX)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Makes the directories of `path` beneath `root` that are not there.
fn make(root: &Path, path: &Path) -> io::Result<()> {
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let parent = if so_far.as_os_str().is_empty() { PathBuf::from(".") } else { so_far.clone() };
        so_far.push(part);
        match open(root, &so_far, OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let base = open(root, &parent, OFlags::PATH | OFlags::DIRECTORY)?;
                mkdirat(&base, Path::new(part.as_os_str()), Mode::from_raw_mode(0o755))?;
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Takes away what an earlier run of the container had bound to its target, and the target itself: the path may be a
/// directory now where it was a file.
fn clear(target: &Path) -> io::Result<()> {
    for point in mounts_below(target)? {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    let removed = match std::fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir(target),
        Ok(_) => std::fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Binds `path` of the volume at `root` to `target` and returns where it can be mounted from. A target has one mount at
/// most: the one of an earlier call goes.
///
/// # Errors
/// The path leads out of the volume, or the mount failed.
pub(crate) fn bind(root: &Path, path: &Path, target: &Path) -> Result<PathBuf, String> {
    let told = |error: io::Error| match error.raw_os_error() {
        Some(libc::EXDEV) => format!("subpath {:?} not within volume path {:?}", path.display(), root.display()),
        _ => format!("subpath {:?}: {error}", path.display()),
    };
    if path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("subpath {:?} must be a relative path without '..'", path.display()));
    }
    make(root, path).map_err(told)?;
    let found = open(root, path, OFlags::PATH).map_err(told)?;
    let stat = fstat(&found).map_err(|error| told(error.into()))?;
    clear(target).map_err(told)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        std::fs::create_dir_all(target).map_err(told)?;
    } else {
        target.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(told)?;
        std::fs::OpenOptions::new().create(true).append(true).open(target).map_err(told)?;
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source.as_str()), target, None::<&str>, flags, None::<&str>).map_err(|error| told(error.into()))?;
    Ok(target.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_target_has_one_mount_however_often_it_is_bound() {
        let root = std::env::temp_dir().join(format!("windlass-subpath-again-{}", std::process::id()));
        let (volume, target) = (root.join("volume"), root.join("target/0"));
        std::fs::create_dir_all(volume.join("dir")).unwrap();
        std::fs::write(volume.join("file"), "1").unwrap();
        for _ in 0..3 {
            assert_eq!(bind(&volume, Path::new("dir"), &target).unwrap(), target);
            assert_eq!(mounts_below(&root).unwrap(), std::slice::from_ref(&target));
        }
        bind(&volume, Path::new("file"), &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "1");
        assert_eq!(mounts_below(&root).unwrap(), std::slice::from_ref(&target));
        clear(&target).unwrap();
        assert_eq!(mounts_below(&root).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "1");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn nothing_leads_out_of_the_volume() {
        let root = std::env::temp_dir().join(format!("windlass-subpath-{}", std::process::id()));
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::write(root.join("in/file"), "x").unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink("../..", root.join("in/up")).unwrap();
        symlink("in/file", root.join("fine")).unwrap();
        assert_eq!(read(&root, Path::new("fine")).unwrap(), "x");
        std::fs::File::create(root.join("large")).unwrap().set_len(TEXT_MAX + 1).unwrap();
        assert_eq!(read(&root, Path::new("large")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for bad in ["out/passwd", "in/up/etc/passwd", "../x"] {
            assert!(read(&root, Path::new(bad)).is_err(), "{bad}");
        }
        let error = bind(&root, Path::new("out/new"), &root.join("target")).unwrap_err();
        assert!(error.contains("not within volume path"), "{error}");
        make(&root, Path::new("a/b")).unwrap();
        assert!(root.join("a/b").is_dir());
        std::fs::remove_dir_all(root).unwrap();
    }
}
