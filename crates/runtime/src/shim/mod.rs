//! The helper processes: our own binary started again, because libcontainer forks and changes directory and so must have
//! a process of one thread, and because what a container needs while it runs must outlive the node's process.
//!
//! - `shim DIR` makes and starts one container (`launch`), then replaces itself by
//! - `hold ...`, which keeps its streams, writes its log and waits for its end (`hold`);
//! - `exec` runs one more program in a running container (`crate::exec::helper`);
//! - `pause` is the first process of a pod's shared process namespace (`pause`).

pub mod hold;
pub mod launch;
pub mod log;
pub mod mounts;
pub mod pause;
pub mod program;
pub mod wire;

use std::ffi::OsString;

/// The first argument that makes the binary a helper process.
pub const HELPER: &str = "container-helper";

/// Whether these arguments (with the program's name) ask for a helper process.
pub fn is_helper(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|a| a == HELPER)
}

/// Runs the helper process that the arguments name and never returns.
pub fn helper_main(args: &[OsString]) -> ! {
    let rest: Vec<String> = args.iter().skip(2).map(|a| a.to_string_lossy().into_owned()).collect();
    let code = match rest.split_first() {
        Some((role, rest)) => match (role.as_str(), rest) {
            ("shim", [directory]) => launch::main(directory),
            ("hold", rest) => hold::main(rest),
            ("exec", []) => crate::exec::helper::main(),
            ("pause", rest) => pause::main(rest),
            _ => 64,
        },
        None => 64,
    };
    // Destructors have nothing to add; a forked helper must not flush what its parent buffered.
    #[allow(unsafe_code, reason = "_exit takes no pointer and does not return")]
    unsafe {
        libc::_exit(code)
    }
}

/// Ends the borrowing of a signal disposition that Rust's runtime changed: programs expect SIGPIPE to end them.
#[allow(unsafe_code, reason = "plain libc calls on this process's own signal state")]
pub fn reset_signals() {
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// The start time of a process in clock ticks since boot.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; what follows the last bracket is regular.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
