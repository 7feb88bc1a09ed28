//! `hostPath` volumes: a path of the node, of the type that is asked for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::Volume;

/// Checks the type, or makes what may be made.
///
/// kubernetes/kubernetes pkg/volume/hostpath/host_path.go: types, modes and messages.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<Volume, String> {
    let path = PathBuf::from(&source.path);
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("hostPath {} must not contain '..'", source.path));
    }
    let wanted = source.type_.as_deref().unwrap_or_default();
    let made = match wanted {
        "DirectoryOrCreate" if !path.exists() => make_directory(&path),
        "FileOrCreate" if !path.exists() => make_file(&path),
        _ => Ok(()),
    };
    made.map_err(|error| format!("hostPath {}: {error}", source.path))?;
    let kind = fs::metadata(&path).map(|meta| meta.file_type());
    let fits = match (wanted, &kind) {
        ("", _) => Ok(()),
        ("Directory" | "DirectoryOrCreate", Ok(kind)) if kind.is_dir() => Ok(()),
        ("File" | "FileOrCreate", Ok(kind)) if kind.is_file() => Ok(()),
        ("Socket", Ok(kind)) if kind.is_socket() => Ok(()),
        ("CharDevice", Ok(kind)) if kind.is_char_device() => Ok(()),
        ("BlockDevice", Ok(kind)) if kind.is_block_device() => Ok(()),
        ("Directory" | "DirectoryOrCreate", _) => Err("a directory"),
        ("File" | "FileOrCreate", _) => Err("a file"),
        ("Socket", _) => Err("a socket file"),
        ("CharDevice", _) => Err("a character device"),
        ("BlockDevice", _) => Err("a block device"),
        (other, _) => return Err(format!("{other} is an invalid volume type")),
    };
    fits.map_err(|what| format!("hostPath type check failed: {} is not {what}", source.path))?;
    // Without a type nothing is checked; a directory that is not there is made, as container runtimes do for a bind mount.
    match kind {
        Ok(kind) if kind.is_dir() => Ok(Volume::Directory(path)),
        Ok(_) => Ok(Volume::Node(path)),
        Err(_) => {
            make_directory(&path).map_err(|error| format!("hostPath {}: {error}", source.path))?;
            Ok(Volume::Directory(path))
        }
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn make_file(path: &Path) -> std::io::Result<()> {
    fs::File::create_new(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &Path, kind: &str) -> Result<Volume, String> {
        check(&HostPathVolumeSource { path: path.display().to_string(), type_: Some(kind.into()) })
    }

    #[test]
    fn types_are_checked_and_made() {
        let root = std::env::temp_dir().join(format!("windlass-hostpath-{}", std::process::id()));
        let dir = root.join("d");
        let missing = format!("hostPath type check failed: {} is not a directory", dir.display());
        assert_eq!(ask(&dir, "Directory").unwrap_err(), missing);
        assert_eq!(ask(&dir, "DirectoryOrCreate").unwrap(), Volume::Directory(dir.clone()));
        assert_eq!(ask(&dir.join("f"), "FileOrCreate").unwrap(), Volume::Node(dir.join("f")));
        assert!(ask(&dir, "Socket").unwrap_err().ends_with("is not a socket file"));
        assert!(ask(&dir.join("../x"), "").is_err());
        assert_eq!(ask(Path::new("/dev/null"), "CharDevice").unwrap(), Volume::Node("/dev/null".into()));
        fs::remove_dir_all(root).unwrap();
    }
}
