//! Word of changes in a directory: hints to look, which tell nothing themselves.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;
pub(crate) use rustix::fs::inotify::WatchFlags;
use tokio::io::unix::AsyncFd;

pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Must be made within a tokio runtime.
    ///
    /// # Errors
    /// There is no such directory, or the kernel watches no more of them.
    pub(crate) fn new(dir: &Path, changes: WatchFlags) -> io::Result<Watch> {
        use inotify::CreateFlags;
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, dir, changes)?;
        #[allow(
            deprecated,
            reason = "an OwnedFd that nobody else closes cannot be invalidated, which is what its successor asks for"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Watch(fd))
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// The runtime is being shut down.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0u8; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
        Ok(())
    }
}
