//! The process that puts one more program into a running container.
//!
//! Three processes for a moment: this one stays outside, waits and reports; its child joins the cgroup and the namespaces
//! and makes a sibling of itself, which alone is inside the process namespace, and which becomes the program. libcontainer
//! has the same in its tenant builder, but that refuses a container with a seccomp profile.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use libcontainer::oci_spec::runtime::{LinuxSeccomp, Spec};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};

use crate::shim::program::{errno_text, execute, look_up, path_of};
use crate::shim::wire::{self, Failed, from_shim, to_shim};
use crate::spec::capabilities::NAMES;

/// What the helper is asked to run.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Request {
    pub pid: u32,
    pub start_ticks: u64,
    /// The container's directory, for its OCI specification.
    pub directory: PathBuf,
    pub procs: Vec<PathBuf>,
    pub argv: Vec<String>,
    pub tty: bool,
}

pub fn main() -> i32 {
    let Some(mut control) = crate::shim::launch::take_control() else { return 70 };
    let _session = rustix::process::setsid();
    // From inside the container nobody may look into this process or its binary on its way in.
    if nix::sys::prctl::set_dumpable(false).is_err() {
        return 71;
    }
    match prepare(&mut control) {
        Ok(child) => wait(control, child),
        Err(failed) => {
            let payload = serde_json::to_vec(&failed).unwrap_or_default();
            i32::from(wire::write_frame(&mut control, from_shim::FAILED, &payload).is_err())
        }
    }
}

fn broken(what: &str) -> impl Fn(io::Error) -> Failed + '_ {
    move |e| Failed::Broken(format!("{what}: {e}"))
}

/// Brings the program to life and returns its process.
fn prepare(control: &mut UnixStream) -> Result<Pid, Failed> {
    let (_, payload) = wire::read_frame(control).map_err(broken("read the request"))?;
    let request: Request = serde_json::from_slice(&payload).map_err(|e| Failed::Broken(e.to_string()))?;
    let streams = wire::recv_fds(&*control).map_err(broken("receive the streams"))?;
    let config = request.directory.join("config.json");
    let raw: serde_json::Value = std::fs::read(&config)
        .and_then(|text| Ok(serde_json::from_slice(&text)?))
        .map_err(broken("read the container's specification"))?;
    let bounding: Vec<String> = raw["process"]["capabilities"]["bounding"]
        .as_array()
        .map(|names| names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let spec: Spec = serde_json::from_value(raw).map_err(|e| Failed::Broken(e.to_string()))?;
    let pid = rustix::process::Pid::from_raw(request.pid.cast_signed()).ok_or(Failed::Broken("no process".into()))?;
    let target = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|e| Failed::Broken(format!("open the container's process: {e}")))?;
    // Asked after the process is held: a number given to another process meanwhile shows here.
    if crate::shim::start_ticks(request.pid) != Some(request.start_ticks) {
        return Err(Failed::Broken("container is not running".into()));
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Failed::Broken(e.to_string()));
    let (pid_read, pid_write) = pipe()?;
    let (error_read, error_write) = pipe()?;
    #[allow(unsafe_code, reason = "this process has one thread, so a forked child may run any code")]
    let middle = match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Child) => {
            drop((pid_read, error_read));
            let inside = Inside { request: &request, spec: &spec, bounding, streams, control, error: error_write };
            inside.middle(&target, &pid_write)
        }
        Ok(nix::unistd::ForkResult::Parent { child }) => child,
        Err(e) => return Err(Failed::Broken(format!("fork: {e}"))),
    };
    drop((pid_write, error_write, streams));
    let number = read_while_wanted(&pid_read, PID_BYTES, control, middle);
    let _reaped = waitpid(middle, None);
    let number: Result<[u8; PID_BYTES], _> = number.map_err(broken("start the program"))?.try_into();
    let number = number.map(i32::from_le_bytes);
    if number.is_err() {
        // The middle process may have been killed between making the program's process and telling its number.
        children().map_err(broken("look for the program"))?.into_iter().for_each(kill);
    }
    let inside = Pid::from_raw(*number.as_ref().unwrap_or(&0));
    let failure = read_while_wanted(&error_read, usize::MAX, control, inside).map_err(broken("start the program"))?;
    match (number, failure.is_empty()) {
        (_, false) => {
            Err(serde_json::from_slice(&failure).unwrap_or(Failed::Broken("the helper's answer is cut".into())))
        }
        (Ok(_), true) => Ok(inside),
        (Err(_), true) => Err(Failed::Broken("the helper ended before it entered the container".into())),
    }
}

/// A process's number on its way from the middle process.
const PID_BYTES: usize = 4;

/// Reads a pipe to its end or until so many bytes are there. Should whoever asked leave before that, the process at the other end is killed, which ends
/// the pipe too: it may be stuck on its way, in a frozen group for one.
fn read_while_wanted(pipe: &OwnedFd, enough: usize, control: &UnixStream, writer: Pid) -> io::Result<Vec<u8>> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut all = Vec::new();
    let mut buffer = [0u8; 4096];
    let mut wanted = true;
    while all.len() < enough {
        let mut ready = vec![PollFd::new(pipe, PollFlags::IN)];
        if wanted {
            // It sends nothing before the program runs, so that anything here is its end.
            ready.push(PollFd::new(control, PollFlags::IN));
        }
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if ready.get(1).is_some_and(|control| !control.revents().is_empty()) {
            wanted = false;
            kill(writer);
            continue;
        }
        match rustix::io::read(pipe, &mut buffer)? {
            0 => break,
            len => all.extend_from_slice(&buffer[..len]),
        }
    }
    Ok(all)
}

/// The processes whose parent is this one, which has one thread.
fn children() -> io::Result<Vec<Pid>> {
    let text = std::fs::read_to_string("/proc/thread-self/children")?;
    Ok(text.split_whitespace().filter_map(|number| number.parse().ok()).map(Pid::from_raw).collect())
}

/// Kills a program with the children it made.
fn kill(program: Pid) {
    if program.as_raw() <= 0 {
        return;
    }
    // Its session first; then itself, should it have left the group or not have one of its own yet.
    let _group = nix::sys::signal::killpg(program, nix::sys::signal::Signal::SIGKILL);
    let _self = nix::sys::signal::kill(program, nix::sys::signal::Signal::SIGKILL);
}

/// What the processes on their way into the container hold.
struct Inside<'a> {
    request: &'a Request,
    spec: &'a Spec,
    bounding: Vec<String>,
    streams: Vec<OwnedFd>,
    control: &'a UnixStream,
    error: OwnedFd,
}

impl Inside<'_> {
    /// Joins everything that a process can join for itself, and forks for the process namespace.
    fn middle(mut self, target: &OwnedFd, pid_write: &OwnedFd) -> ! {
        let joined = self.join(target).and_then(|()| fork_sibling().map_err(broken("fork into the container")));
        match joined {
            Ok(0) => self.inside(),
            Ok(child) => {
                let _told = rustix::io::write(pid_write, &child.to_le_bytes());
                quit(0)
            }
            Err(failed) => self.fail(&failed),
        }
    }

    fn join(&self, target: &OwnedFd) -> Result<(), Failed> {
        for procs in &self.request.procs {
            std::fs::write(procs, "0")
                .map_err(|e| Failed::Broken(format!("join the container's cgroup {}: {e}", procs.display())))?;
        }
        let flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWCGROUP;
        nix::sched::setns(target, flags).map_err(|e| Failed::Broken(format!("enter the container's namespaces: {e}")))
    }

    fn inside(&mut self) -> ! {
        let failed = match self.become_program() {
            Ok(never) => match never {},
            Err(failed) => failed,
        };
        self.fail(&failed)
    }

    fn fail(&self, failed: &Failed) -> ! {
        let _told = rustix::io::write(&self.error, &serde_json::to_vec(failed).unwrap_or_default());
        quit(1)
    }

    fn become_program(&mut self) -> Result<std::convert::Infallible, Failed> {
        let _session = rustix::process::setsid();
        let process = self.spec.process().as_ref().ok_or(Failed::Broken("no process in the specification".into()))?;
        if self.request.tty {
            self.terminal().map_err(broken("open a terminal in the container"))?;
        } else {
            self.connect_streams().map_err(broken("connect the streams"))?;
        }
        let cwd = process.cwd();
        std::env::set_current_dir(cwd).map_err(|e| Failed::CannotRun {
            code: 126,
            message: format!(
                "chdir to cwd ({:?}) set in config.json failed: {}",
                cwd.display().to_string(),
                errno_text(&e)
            ),
        })?;
        let no_new_privileges = process.no_new_privileges() == Some(true);
        if no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(|e| Failed::Broken(format!("no_new_privs: {e}")))?;
        }
        let linux = self.spec.linux().as_ref();
        let seccomp = linux.and_then(|l| l.seccomp().as_ref());
        let load = |profile: Option<&LinuxSeccomp>| match profile {
            Some(profile) => libcontainer::seccomp::initialize_seccomp(profile)
                .map(drop)
                .map_err(|e| Failed::Broken(format!("load the seccomp profile: {e}"))),
            None => Ok(()),
        };
        load(seccomp.filter(|_| !no_new_privileges))?;
        let user = process.user();
        let groups = user.additional_gids().clone().unwrap_or_default();
        become_user(user.uid(), user.gid(), &groups, capability_mask(&self.bounding))
            .map_err(broken("become the container's user"))?;
        load(seccomp.filter(|_| no_new_privileges))?;
        let env = self.environment(process.env().as_deref().unwrap_or_default(), user.uid());
        let program = self.request.argv.first().map(String::as_str).unwrap_or_default();
        let path = look_up(program, path_of(&env))?;
        let error = execute(&path, &self.request.argv, &env);
        Err(Failed::CannotRun { code: 126, message: format!("exec {}: {}", path.display(), errno_text(&error)) })
    }

    fn environment(&self, of_container: &[String], uid: u32) -> Vec<String> {
        let mut env = of_container.to_vec();
        if self.request.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            env.push(format!("HOME={}", home_of(uid)));
        }
        env
    }

    fn connect_streams(&mut self) -> io::Result<()> {
        let [stdin, stdout, stderr] = self.streams.as_slice() else {
            return Err(io::Error::other("three streams are needed"));
        };
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        Ok(())
    }

    /// A terminal of the container's own devpts, its other end sent to the node's process.
    #[allow(unsafe_code, reason = "terminal ioctls on descriptors that are open here")]
    fn terminal(&mut self) -> io::Result<()> {
        let master = rustix::fs::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let slave = unsafe {
            let unlocked: libc::c_int = 0;
            if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) < 0 {
                return Err(io::Error::last_os_error());
            }
            let raw = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY);
            if raw < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(raw)
        };
        let mut control = self.control;
        wire::write_frame(&mut control, from_shim::TERMINAL, b"")?;
        wire::send_fds(control, &[master.as_fd()])?;
        unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        rustix::stdio::dup2_stderr(&slave)?;
        Ok(())
    }
}

fn quit(code: i32) -> ! {
    #[allow(unsafe_code, reason = "_exit takes no pointer and does not return")]
    unsafe {
        libc::_exit(code)
    }
}

/// Forks a child whose parent is this process's parent. Zero in the child.
#[allow(unsafe_code, reason = "clone without a new stack behaves as fork; this process has one thread")]
fn fork_sibling() -> io::Result<i32> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(pid).unwrap_or(0)) }
}

fn home_of(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let home = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields.get(5).copied().unwrap_or_default().to_owned())
    });
    home.filter(|h| !h.is_empty()).unwrap_or_else(|| "/".into())
}

fn capability_mask(names: &[String]) -> u64 {
    NAMES.iter().enumerate().filter(|(_, n)| names.iter().any(|c| c == *n)).fold(0, |mask, (bit, _)| mask | 1 << bit)
}

/// Drops to a user with exactly these capabilities (none in effect when the user is not root, as execve decides).
#[allow(unsafe_code, reason = "credentials of this single-threaded process, by raw system calls with valid structures")]
fn become_user(uid: u32, gid: u32, groups: &[u32], capabilities: u64) -> io::Result<()> {
    let check = |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    unsafe {
        for bit in 0..NAMES.len() {
            if capabilities & (1 << bit) == 0 {
                // A capability that this kernel does not know cannot be held either.
                libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0);
            }
        }
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::c_long::from(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        check(libc::c_long::from(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0)))?;
        let header: [u32; 2] = [0x2008_0522, 0];
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of a 64-bit mask")]
        let (low, high) = (capabilities as u32, (capabilities >> 32) as u32);
        // Effective, permitted, inheritable of each half.
        let data: [u32; 6] = [low, low, 0, high, high, 0];
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()))
    }
}

/// Waits for the program's end and reports it; takes the order to kill it meanwhile. A program that nobody takes up is
/// killed: whoever asked has given up, and would ask for the next one on top of it.
fn wait(mut control: UnixStream, child: Pid) -> i32 {
    let taken_up = wire::write_frame(&mut control, from_shim::STARTED, b"").is_ok()
        && wire::read_frame(&mut control).is_ok_and(|(kind, _)| kind == to_shim::TAKEN_UP);
    let killer = match taken_up.then(|| control.try_clone()) {
        Some(Ok(socket)) => Some(std::thread::spawn(move || obey(socket, child))),
        _ => {
            kill(child);
            None
        }
    };
    let code = loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => break code,
            Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break 255,
        }
    };
    let _told = wire::write_frame(&mut control, from_shim::EXIT, code.to_string().as_bytes());
    drop(killer);
    0
}

fn obey(mut socket: UnixStream, child: Pid) {
    while let Ok((kind, _)) = wire::read_frame(&mut socket) {
        if kind == to_shim::SIGNAL {
            kill(child);
        }
    }
}
