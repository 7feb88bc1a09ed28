//! Giving a volume to the pod's `fsGroup`.
//!
//! kubernetes/kubernetes pkg/volume/volume_linux.go: which bits a group gets.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// Changes group and mode of everything at and below `path`. Links are given away themselves, never followed.
pub(super) fn give(path: &Path, group: u32, access: Access) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let bits = match access {
        Access::ReadOnly => 0o440,
        Access::ReadWrite => 0o660,
    };
    // A directory hands its group on to what is made in it.
    let bits = if meta.is_dir() { bits | 0o2110 } else { bits };
    fs::set_permissions(path, fs::Permissions::from_mode((meta.permissions().mode() & 0o7777) | bits))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group, access)?;
        }
    }
    Ok(())
}
