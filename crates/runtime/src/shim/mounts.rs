//! What the shim mounts for a container before libcontainer takes over: its root overlay and the images it has as
//! volumes, all below one private mount in the shim's own mount namespace.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::launch::Launch;

/// One image that is mounted as a volume: its layers and the part of it that is wanted.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ImageLayers {
    pub layers: Vec<String>,
    pub sub_path: Option<std::path::PathBuf>,
}

/// The name below the private mount under which the container's root and its image volumes are found.
pub const ROOT: &str = "m";

pub fn volume_name(index: usize) -> String {
    format!("v{index}")
}

/// Enters a new mount namespace and mounts everything in it.
#[allow(unsafe_code, reason = "unshare(CLONE_NEWNS) in a process of one thread has no effect on memory")]
pub fn mount_root(directory: &Path, launch: &Launch) -> io::Result<()> {
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    let root = launch.root_mount.join(ROOT);
    // Relative layer names keep the options within the one page that mount(2) takes.
    std::env::set_current_dir(&launch.layers_directory)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off",
        launch.layers.join(":"),
        directory.join("upper").display(),
        directory.join("work").display()
    );
    overlay(&root, &options)?;
    for (index, image) in launch.image_volumes.iter().enumerate() {
        image_volume(launch, index, image)?;
    }
    std::env::set_current_dir("/")?;
    make_directory(&root, &launch.working_directory)
}

/// `volatile` leaves out the flush at unmount: a container's own layer never outlives the container. Kernels before 5.10
/// do not know the option.
fn overlay(at: &Path, options: &str) -> io::Result<()> {
    let try_with = |options: String| -> io::Result<()> {
        let data = CString::new(options).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(mount("overlay", at, "overlay", MountFlags::empty(), data.as_c_str())?)
    };
    match try_with(format!("{options},volatile")) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => try_with(options.to_owned()),
        other => other,
    }
}

fn image_volume(launch: &Launch, index: usize, image: &ImageLayers) -> io::Result<()> {
    let at = launch.root_mount.join(volume_name(index));
    std::fs::create_dir_all(&at)?;
    match image.layers.as_slice() {
        [] => return Err(io::Error::other("the image has no layers")),
        [only] => mount_bind(only.as_str(), &at)?,
        several => {
            let data = CString::new(format!("lowerdir={}", several.join(":")))?;
            mount("overlay", &at, "overlay", MountFlags::RDONLY, data.as_c_str())?;
        }
    }
    if let Some(sub_path) = &image.sub_path {
        let part = open_beneath(&at, sub_path, OFlags::PATH)?;
        mount_bind(format!("/proc/self/fd/{}", part.as_raw_fd()), &at)?;
    }
    // Whatever libcontainer binds from here is a copy: it must not propagate back.
    mount_change(&at, MountPropagationFlags::PRIVATE)?;
    Ok(())
}

/// Opens a path as if `root` were `/`: symbolic links and `..` cannot leave it.
pub fn open_beneath(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    Ok(openat2(
        root,
        relative,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// Makes a directory and its parents below a root, following the root's own links, as runc does for the working
/// directory that an image names but does not have.
fn make_directory(root: &Path, path: &Path) -> io::Result<()> {
    let mut done = std::path::PathBuf::from("/");
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let parent = open_beneath(root, &done, OFlags::PATH | OFlags::DIRECTORY)?;
        done.push(name);
        match open_beneath(root, &done, OFlags::PATH) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                match rustix::fs::mkdirat(parent.as_fd(), name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
