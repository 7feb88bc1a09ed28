//! Files that hold secrets: written whole or not at all, readable by their owner alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// How many symbolic links one path may lead through, as Linux counts them.
const LINKS_MAX: usize = 40;

/// A file operation that failed, with the path it failed on.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> FileError + '_ {
    move |source| FileError { path: path.to_owned(), source }
}

/// Makes a directory that only its owner may enter.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Writes a file through a temporary one beside it, durably, with the given mode.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    write_through(path, content, mode, None)
}

/// The same for a file that may be somebody else's: one that is there keeps its owner and mode, and a symbolic link leads
/// to the new content as it did to the old. What is no regular file is refused.
pub fn update_file(path: &Path, content: &[u8], mode_if_new: u32) -> Result<(), FileError> {
    let path = followed(path)?;
    match fs::metadata(&path) {
        Ok(old) if old.is_file() => write_through(&path, content, old.mode() & 0o7777, Some((old.uid(), old.gid()))),
        Ok(_) => Err(at(&path)(std::io::Error::other("not a regular file"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_through(&path, content, mode_if_new, None),
        Err(error) => Err(at(&path)(error)),
    }
}

/// Where a path leads if it is a symbolic link, be there a file or not; else the path itself.
fn followed(path: &Path) -> Result<PathBuf, FileError> {
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&place) {
            // An absolute target replaces the directory of the link.
            Ok(target) => place = place.parent().unwrap_or(Path::new("")).join(target),
            // No link, or nothing at all.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotFound) => {
                return Ok(place);
            }
            Err(error) => return Err(at(&place)(error)),
        }
    }
    Err(at(path)(std::io::Error::other("too many levels of symbolic links")))
}

/// With an owner (user and group), mode and owner are exactly these; without, the mode is less the umask.
fn write_through(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<(), FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(at(&temporary))?;
    if let Some((user, group)) = owner {
        fchown(&file, Some(user), Some(group)).map_err(at(&temporary))?;
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(at(&temporary))?;
    }
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at(&temporary))?;
    fs::rename(&temporary, path).map_err(at(path))
}

/// Reads a file that may be absent.
pub fn read_if_present(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_updated_file_keeps_its_link_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (file, first, second) = (dir.path().join("real"), dir.path().join("first"), dir.path().join("second"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
        if chown(&file, Some(12345), Some(12346)).is_err() {
            eprintln!("without root the owner to be kept is this user");
        }
        symlink(&file, &second).unwrap();
        symlink("second", &first).unwrap();
        let before = fs::metadata(&file).unwrap();
        update_file(&first, b"new", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_link(&first).unwrap(), Path::new("second"));
        assert_eq!(fs::read_link(&second).unwrap(), file);
        let after = fs::symlink_metadata(&file).unwrap();
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    }

    #[test]
    fn a_link_to_nothing_leads_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real"), dir.path().join("link"));
        symlink("real", &link).unwrap();
        update_file(&link, b"new", 0o600).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_file_or_a_circle_of_links_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, circle) = (dir.path().join("socket"), dir.path().join("circle"));
        let _listener = UnixListener::bind(&socket).unwrap();
        let error = update_file(&socket, b"new", 0o600).unwrap_err().to_string();
        assert!(error.ends_with("socket: not a regular file"), "{error}");
        assert!(!fs::metadata(&socket).unwrap().is_file());
        symlink("circle", &circle).unwrap();
        let error = update_file(&circle, b"new", 0o600).unwrap_err().to_string();
        assert!(error.ends_with("circle: too many levels of symbolic links"), "{error}");
    }
}
