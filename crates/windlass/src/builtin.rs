//! The image that the binary carries: itself, under the names of the toolbox's programs. It needs no registry.

use std::io;
use std::path::Path;

use runtime::ImageConfig;
use runtime::images::Images;

/// The name under which manifests ask for it. No registry serves it.
pub const IMAGE: &str = "windlass.local/toolbox:v1";

/// Puts the image into the store, unless it is there from this very binary.
pub fn install(images: &Images) -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let metadata = std::fs::metadata("/proc/self/exe")?;
    let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    let version = format!("{} {} {}", env!("CARGO_PKG_VERSION"), metadata.len(), modified.as_nanos());
    let config = ImageConfig {
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        command: vec!["web".to_owned()],
        ..ImageConfig::default()
    };
    tracing::debug!(program = %program.display(), "built-in image");
    images.import_rootfs(IMAGE, &version, &config, fill).map(|_| ())
}

fn fill(layer: &mut tar::Builder<&mut dyn io::Write>) -> io::Result<()> {
    for (directory, mode) in
        [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("usr/bin", 0o755), ("var/run", 0o755)]
    {
        layer.append_data(&mut header(tar::EntryType::Directory, mode, 0), directory, io::empty())?;
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ] {
        let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        layer.append_data(&mut header, path, text.as_bytes())?;
    }
    let binary = std::fs::File::open("/proc/self/exe")?;
    let size = binary.metadata()?.len();
    layer.append_data(
        &mut header(tar::EntryType::Regular, 0o755, size),
        toolbox::BINARY.trim_start_matches('/'),
        binary,
    )?;
    for applet in toolbox::applets::APPLETS {
        let path = Path::new("bin").join(applet.name);
        layer.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, toolbox::BINARY)?;
    }
    Ok(())
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
