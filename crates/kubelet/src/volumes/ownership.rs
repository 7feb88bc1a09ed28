//! Giving a volume to the pod's `fsGroup`.
//!
//! kubernetes/kubernetes pkg/volume/volume_linux.go: which bits a group gets, and when the walk is spared. Containers may
//! be at work in the tree, so it is walked by descriptors: no link is followed, no mount is crossed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, chmod, chownat};

use crate::files::{open_root, walk};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    /// Permission bits that the group is given: a directory is entered, and hands its group on to what is made in it.
    fn bits(self, directory: bool) -> u32 {
        let bits = match self {
            Access::ReadOnly => 0o440,
            Access::ReadWrite => 0o660,
        };
        if directory { bits | 0o2110 } else { bits }
    }
}

/// Changes group and mode of everything at and below the directory `root`, which is done last.
pub(super) fn give(root: &Path, group: u32, access: Access) -> io::Result<()> {
    let group = Gid::from_raw(group);
    let given = open_root(root).and_then(|top| walk(top, &mut |entry, stat| change(entry, stat, group, access)));
    given.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", root.display())))
}

/// Whether the root alone says that the volume has been given to the group before (`OnRootMismatch`).
pub(super) fn is_given(root: &Path, group: u32, access: Access) -> bool {
    let Ok(stat) = rustix::fs::lstat(root) else { return false };
    let wanted = access.bits(true);
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    directory && stat.st_gid == group && stat.st_mode & wanted == wanted
}

/// Group and mode of one entry, whatever its name leads to by now; a link has no mode of its own.
fn change(entry: &OwnedFd, stat: &Stat, group: Gid, access: Access) -> io::Result<()> {
    chownat(entry, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        return Ok(());
    }
    let mode = (stat.st_mode & 0o7777) | access.bits(kind == FileType::Directory);
    // A descriptor of this kind cannot be changed itself; its name in /proc leads to exactly the entry that it holds.
    Ok(chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_tree_is_given_and_nothing_that_it_leads_to() {
        let root = std::env::temp_dir().join(format!("windlass-ownership-{}", std::process::id()));
        let (volume, host) = (root.join("volume"), root.join("host"));
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::write(&host, "x").unwrap();
        std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(volume.join("sub/file"), "x").unwrap();
        std::fs::set_permissions(volume.join("sub/file"), std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&host, volume.join("sub/link")).unwrap();
        assert!(!is_given(&volume, 4711, Access::ReadWrite));
        give(&volume, 4711, Access::ReadWrite).unwrap();
        let of = |path: &Path| {
            let meta = std::fs::symlink_metadata(path).unwrap();
            (meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!(of(&volume.join("sub/file")), (4711, 0o660));
        assert_eq!(of(&volume.join("sub")), (4711, 0o2775));
        assert_eq!(of(&volume), (4711, 0o2775));
        assert_eq!(of(&volume.join("sub/link")).0, 4711);
        assert_eq!(of(&host), (0, 0o600), "what a link leads to stays as it is");
        assert!(is_given(&volume, 4711, Access::ReadWrite));
        assert!(!is_given(&volume, 4712, Access::ReadWrite));
        std::fs::remove_dir_all(root).unwrap();
    }
}
