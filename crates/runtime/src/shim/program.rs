//! Finding and executing a container's program, with the errors that users know from runc.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use super::wire::Failed;

/// An operating system error in the words of Go's `syscall.Errno`.
pub fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".into(),
        Some(libc::EACCES) => "permission denied".into(),
        Some(libc::EPERM) => "operation not permitted".into(),
        Some(libc::ENOEXEC) => "exec format error".into(),
        Some(libc::EISDIR) => "is a directory".into(),
        Some(libc::ENOTDIR) => "not a directory".into(),
        Some(libc::ETXTBSY) => "text file busy".into(),
        Some(libc::E2BIG) => "argument list too long".into(),
        Some(libc::ELOOP) => "too many levels of symbolic links".into(),
        _ => error.to_string().to_lowercase(),
    }
}

fn executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)?;
    Ok(())
}

/// Finds a program as Go's `exec.LookPath` does, seen from where this process stands (root, directory, user).
pub fn look_up(program: &str, path: &str) -> Result<PathBuf, Failed> {
    let refused = |code, message: String| Failed::CannotRun { code, message };
    if program.contains('/') {
        return executable(Path::new(program)).map(|()| PathBuf::from(program)).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {
                refused(127, format!("exec: {program:?}: stat {program}: {}", errno_text(&e)))
            }
            _ => refused(126, format!("exec: {program:?}: {}", errno_text(&e))),
        });
    }
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(program);
        if !program.is_empty() && executable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(refused(127, format!("exec: {program:?}: executable file not found in $PATH")))
}

fn c_strings<'a>(of: impl Iterator<Item = &'a [u8]>) -> io::Result<Vec<CString>> {
    of.map(|s| CString::new(s).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))).collect()
}

/// Replaces this process. Returns only with the reason why it could not.
#[allow(unsafe_code, reason = "execve with null-terminated arrays that outlive the call")]
pub fn execute(program: &Path, args: &[String], env: &[String]) -> io::Error {
    let (path, args, env) = match (
        CString::new(program.as_os_str().as_bytes()),
        c_strings(args.iter().map(String::as_bytes)),
        c_strings(env.iter().map(String::as_bytes)),
    ) {
        (Ok(path), Ok(args), Ok(env)) => (path, args, env),
        _ => return io::Error::from_raw_os_error(libc::EINVAL),
    };
    let pointers = |of: &[CString]| -> Vec<*const libc::c_char> {
        of.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (args, env) = (pointers(&args), pointers(&env));
    super::reset_signals();
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// What libcontainer calls in the container's first process, instead of its own executor: upstream's error texts, the
/// environment in the order given, signals as a program expects them.
#[derive(Clone)]
pub struct Program {
    /// A pipe to the shim that takes a `Failed` when the program cannot be run.
    pub report: std::os::fd::RawFd,
}

fn args_of(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|p| p.args().as_deref()).unwrap_or_default()
}

fn env_of(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|p| p.env().as_deref()).unwrap_or_default()
}

pub fn path_of(env: &[String]) -> &str {
    env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default()
}

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let Some(program) = args_of(spec).first() else {
            return Err(ExecutorValidationError::ArgValidationError("no command specified".into()));
        };
        let Err(failed) = look_up(program, path_of(env_of(spec))) else { return Ok(()) };
        if let Ok(report) = serde_json::to_vec(&failed) {
            // The descriptor is the shim's own and stays open until execve; a failed write leaves the generic message.
            #[allow(unsafe_code, reason = "borrows a descriptor that is open in this forked process")]
            let pipe = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.report) };
            let _reported = rustix::io::write(pipe, &report);
        }
        Err(ExecutorValidationError::ArgValidationError(format!("cannot run {program:?}")))
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = args_of(spec);
        let mut env = env_of(spec).to_vec();
        if let (false, Ok(home)) = (env.iter().any(|e| e.starts_with("HOME=")), std::env::var("HOME")) {
            env.push(format!("HOME={home}"));
        }
        let program = args.first().map(String::as_str).unwrap_or_default();
        let error = match look_up(program, path_of(&env)) {
            Ok(path) => execute(&path, args, &env),
            Err(_) => io::Error::from_raw_os_error(libc::ENOENT),
        };
        // As runc does: the container has started, so the reason goes where its own messages go, and the code is 255.
        eprintln!("exec {program}: {}", errno_text(&error));
        std::process::exit(255);
    }
}
