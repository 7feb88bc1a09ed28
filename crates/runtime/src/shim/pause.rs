//! The first process of a process namespace that a pod's containers share: it does nothing but reap.

use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// `pause NSFILE EMPTY_DIRECTORY CGROUP_PROCS...`: makes a process namespace, pins it at NSFILE, and leaves a process in it. Prints
/// nothing; exit code 0 says that it is there.
pub fn main(args: &[String]) -> i32 {
    let [pin, empty, procs @ ..] = args else { return 64 };
    let _session = rustix::process::setsid();
    for file in procs {
        let _joined = std::fs::write(file, "0");
    }
    if nix::sched::unshare(CloneFlags::CLONE_NEWPID).is_err() {
        return 71;
    }
    #[allow(unsafe_code, reason = "this process has one thread, so a forked child may run any code")]
    match unsafe { fork() } {
        Ok(ForkResult::Child) => match confine(Path::new(empty)) {
            Ok(()) => reap_for_ever(),
            Err(_) => 73,
        },
        Ok(ForkResult::Parent { child }) => {
            let source = format!("/proc/{child}/ns/pid");
            let pinned = std::fs::write(pin, b"").is_ok() && rustix::mount::mount_bind(source, Path::new(pin)).is_ok();
            let recorded = std::fs::write(format!("{pin}.process"), child.to_string()).is_ok();
            if pinned && recorded { 0 } else { 72 }
        }
        Err(_) => 71,
    }
}

/// The containers of the pod see this process, so it must not show them the host: an empty root, no capability.
fn confine(empty: &Path) -> std::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", empty, "tmpfs", flags, c"size=4k,mode=555")?;
    std::env::set_current_dir(empty)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    nix::sys::prctl::set_dumpable(false)?;
    let nobody = nix::unistd::Uid::from_raw(65_535);
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(
        nix::unistd::Gid::from_raw(65_535),
        nix::unistd::Gid::from_raw(65_535),
        nix::unistd::Gid::from_raw(65_535),
    )?;
    // Leaving root leaves every capability.
    Ok(nix::unistd::setresuid(nobody, nobody, nobody)?)
}

fn reap_for_ever() -> ! {
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    // Blocked and then waited for, a signal that comes between the two is not lost.
    let _blocked = ended.thread_block();
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s != WaitStatus::StillAlive) {}
        let _signal = ended.wait();
    }
}
