//! Files of a volume, exchanged all at once: readers see the old tree or the new one, never a mixture.
//!
//! kubernetes/kubernetes pkg/volume/util/atomic_writer.go: a time-stamped directory, the link `..data` to it, and a link
//! through `..data` for each top-level name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use pods::projection::Files;

use super::ownership::{Access, give};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes the tree below `dir` equal to `files`. Does nothing when it is so already.
pub(super) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for path in files.keys() {
        check(Path::new(path))?;
    }
    let before = fs::read_link(dir.join(DATA)).ok().map(|link| dir.join(link));
    if before.as_ref().is_some_and(|before| is_current(before, files)) {
        return link_names(dir, files);
    }
    let fresh = new_directory(dir)?;
    for (path, file) in files {
        let at = fresh.join(path);
        if let Some(parent) = at.parent() {
            make_directories(&fresh, parent)?;
        }
        fs::write(&at, &file.data)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(file.mode))?;
        if let Some(owner) = file.owner {
            chown(&at, Some(owner), None)?;
        }
    }
    if let Some(group) = group {
        give(&fresh, group, Access::ReadOnly)?;
    }
    let next = dir.join(DATA_NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(fresh.file_name().unwrap_or_default(), &next)?;
    fs::rename(&next, dir.join(DATA))?;
    link_names(dir, files)?;
    match before {
        Some(before) => fs::remove_dir_all(before),
        None => Ok(()),
    }
}

/// A path must stay below its volume and leave the names that begin with two dots to this file.
fn check(path: &Path) -> io::Result<()> {
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    if normal && !path.as_os_str().is_empty() && !path.as_os_str().to_string_lossy().starts_with("..") {
        return Ok(());
    }
    Err(io::Error::other(format!("invalid path: must stay below the volume: {}", path.display())))
}

fn new_directory(dir: &Path) -> io::Result<PathBuf> {
    let now = jiff::Timestamp::now();
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let fresh = dir.join(format!("{stamp}.{:09}", now.subsec_nanosecond()));
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    Ok(fresh)
}

fn make_directories(root: &Path, at: &Path) -> io::Result<()> {
    let below = at.strip_prefix(root).map_err(io::Error::other)?;
    let mut path = root.to_path_buf();
    for part in below.components() {
        path.push(part);
        if !path.exists() {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Whether the tree holds exactly these files with this content.
fn is_current(tree: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    if list(tree, tree, &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let at = tree.join(path);
        // fsGroup may have added bits to the mode; those that were asked for must be there.
        let mode = fs::metadata(&at).map(|meta| meta.mode() & 0o7777).unwrap_or(0);
        found.contains(Path::new(path))
            && mode & file.mode == file.mode
            && fs::read(&at).is_ok_and(|data| data == file.data)
    })
}

fn list(root: &Path, at: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, found)?;
        } else if let Ok(below) = path.strip_prefix(root) {
            found.insert(below.to_path_buf());
        }
    }
    Ok(())
}

/// Links each top-level name, and drops links of names that are gone.
fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &String| Path::new(path).components().next().map(|part| part.as_os_str().to_os_string());
    let wanted: BTreeSet<OsString> = files.keys().filter_map(first).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(dir.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pods::projection::File;

    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { mode: 0o640, data: data.as_bytes().to_vec(), owner: None };
        list.iter().map(|(path, data)| (path.to_string(), file(data))).collect()
    }

    #[test]
    fn content_changes_at_once_and_old_names_go() {
        let dir = std::env::temp_dir().join(format!("windlass-atomic-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        write(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        let first = fs::read_link(dir.join(DATA)).unwrap();
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().mode() & 0o777, 0o640);
        write(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), first, "the same content is not written again");
        write(&dir, &files(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join("sub").exists() && !dir.join(first).exists());
        for bad in ["../x", "/etc/passwd", "..data", "a/../../b"] {
            assert!(write(&dir, &files(&[(bad, "")]), None).is_err(), "{bad}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
