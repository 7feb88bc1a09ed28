//! `subPath`: a part of a volume, which must not lead out of it, whatever links a container has put there.
//!
//! The kernel resolves the path beneath the volume's root (openat2, RESOLVE_BENEATH), and what it found is bind-mounted
//! through its descriptor, so that nobody can exchange it between the check and the use.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};

/// Opens `path` beneath `root`.
fn open(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The text of a file beneath `root`.
pub(super) fn read(root: &Path, path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::from(open(root, path, OFlags::RDONLY)?).read_to_string(&mut text)?;
    Ok(text)
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

/// Binds `path` of the volume at `root` to `target` and returns where it can be mounted from.
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
    fn nothing_leads_out_of_the_volume() {
        let root = std::env::temp_dir().join(format!("windlass-subpath-{}", std::process::id()));
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::write(root.join("in/file"), "x").unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink("../..", root.join("in/up")).unwrap();
        symlink("in/file", root.join("fine")).unwrap();
        assert_eq!(read(&root, Path::new("fine")).unwrap(), "x");
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
