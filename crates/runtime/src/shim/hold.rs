//! The shim's second life, for as long as the container runs: one thread, one `poll`, no allocation that grows.
//!
//! It copies the container's output to the log and to whoever is attached, answers on its socket, reaps, and when the
//! container ends writes `exit.json` and tells everybody who watches. It needs nobody: the node's process may die and
//! come back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::launch::passed;
use super::log::{LineWriter, rfc3339_nano};
use super::wire::{self, from_shim, to_shim};

/// An attached client that lets this much output pile up is disconnected: the container must not wait for it.
const CLIENT_BACKLOG_BYTES_MAX: usize = 8 << 20;
/// After the container's end this much may still be read from its pipes; more comes only from a process that escaped.
const DRAIN_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 16 * 1024;

struct Output {
    fd: OwnedFd,
    lines: LineWriter,
    kind: u8,
}

struct Client {
    socket: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    watches: bool,
    attached: bool,
    writes_stdin: bool,
    gone: bool,
}

struct Hold {
    directory: PathBuf,
    log_path: PathBuf,
    oom_file: PathBuf,
    leftover_procs: Option<PathBuf>,
    socket_path: PathBuf,
    main: Pid,
    started: String,
    stdin_once: bool,
    log: File,
    listener: UnixListener,
    outputs: Vec<Output>,
    stdin: Option<OwnedFd>,
    stdin_pending: Vec<u8>,
    terminal: bool,
    clients: Vec<Client>,
    exit: Option<Vec<u8>>,
}

pub fn main(args: &[String]) -> i32 {
    let Some(mut hold) = from_args(args) else { return 64 };
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    if ended.thread_block().is_err() {
        return 71;
    }
    let Ok(signals) = SignalFd::with_flags(&ended, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC) else { return 71 };
    // It may have ended before the signal was blocked.
    hold.reap();
    while hold.exit.is_none() {
        hold.turn(&signals);
    }
    hold.farewell();
    0
}

fn from_args(args: &[String]) -> Option<Hold> {
    let [
        directory,
        log_path,
        oom_file,
        leftover,
        socket,
        pid,
        started,
        once,
        control,
        listener,
        log,
        stdin,
        out,
        err,
        tty,
    ] = args
    else {
        return None;
    };
    let mut outputs = Vec::new();
    let mut input = passed(stdin);
    let mut add = |fd: Option<OwnedFd>, stream, kind| {
        if let Some(fd) = fd {
            let _set = rustix::io::ioctl_fionbio(&fd, true);
            outputs.push(Output { fd, lines: LineWriter::new(stream), kind });
        }
    };
    add(passed(out), "stdout", from_shim::STDOUT);
    add(passed(err), "stderr", from_shim::STDERR);
    let terminal = passed(tty);
    let is_terminal = terminal.is_some();
    if let Some(fd) = terminal {
        input = fd.try_clone().ok();
        add(Some(fd), "stdout", from_shim::STDOUT);
    }
    if let Some(fd) = &input {
        let _set = rustix::io::ioctl_fionbio(fd, true);
    }
    let listener = UnixListener::from(passed(listener)?);
    listener.set_nonblocking(true).ok()?;
    let mut hold = Hold {
        directory: directory.into(),
        log_path: log_path.into(),
        oom_file: oom_file.into(),
        leftover_procs: (!leftover.is_empty()).then(|| leftover.into()),
        socket_path: socket.into(),
        main: Pid::from_raw(pid.parse().ok()?),
        started: started.clone(),
        stdin_once: once == "1",
        log: File::from(passed(log)?),
        listener,
        outputs,
        stdin: input,
        stdin_pending: Vec::new(),
        terminal: is_terminal,
        clients: Vec::new(),
        exit: None,
    };
    // The connection over which the container was started watches it from the first moment.
    if let Some(control) = passed(control) {
        hold.admit(UnixStream::from(control));
        if let Some(client) = hold.clients.last_mut() {
            client.watches = true;
        }
    }
    Some(hold)
}

/// What a `poll` entry stands for.
#[derive(Clone, Copy)]
enum Slot {
    Signals,
    Listener,
    Output(usize),
    Stdin,
    Client(usize),
}

impl Hold {
    fn turn(&mut self, signals: &SignalFd) {
        let (mut polled, slots) = self.interests(signals.as_raw_fd());
        #[allow(unsafe_code, reason = "poll writes only into the array whose length it is given")]
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        if ready < 0 {
            return;
        }
        let mut child_ended = false;
        let mut closed_outputs = Vec::new();
        for (entry, slot) in polled.iter().zip(&slots) {
            if entry.revents == 0 {
                continue;
            }
            match *slot {
                Slot::Signals => child_ended = true,
                Slot::Listener => self.accept(),
                Slot::Output(index) => {
                    if self.copy_output(index, READ_BYTES).is_none() {
                        closed_outputs.push(index);
                    }
                }
                Slot::Stdin => self.write_stdin(),
                Slot::Client(index) => self.serve(index, entry.revents),
            }
        }
        for index in closed_outputs.into_iter().rev() {
            self.close_output(index);
        }
        self.clients.retain(|c| !c.gone);
        if child_ended {
            while matches!(signals.read_signal(), Ok(Some(_))) {}
            self.reap();
        }
    }

    fn interests(&self, signals: RawFd) -> (Vec<libc::pollfd>, Vec<Slot>) {
        let mut polled = Vec::with_capacity(6 + self.clients.len());
        let mut slots = Vec::with_capacity(6 + self.clients.len());
        let mut add = |fd: RawFd, events, slot| {
            polled.push(libc::pollfd { fd, events, revents: 0 });
            slots.push(slot);
        };
        add(signals, libc::POLLIN, Slot::Signals);
        add(self.listener.as_raw_fd(), libc::POLLIN, Slot::Listener);
        for (index, output) in self.outputs.iter().enumerate() {
            add(output.fd.as_raw_fd(), libc::POLLIN, Slot::Output(index));
        }
        if let (Some(stdin), false) = (&self.stdin, self.stdin_pending.is_empty()) {
            add(stdin.as_raw_fd(), libc::POLLOUT, Slot::Stdin);
        }
        for (index, client) in self.clients.iter().enumerate() {
            // While the container does not read its input, neither do we read more of it.
            let mut events = if client.writes_stdin && !self.stdin_pending.is_empty() { 0 } else { libc::POLLIN };
            if !client.outgoing.is_empty() {
                events |= libc::POLLOUT;
            }
            add(client.socket.as_raw_fd(), events, Slot::Client(index));
        }
        (polled, slots)
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            self.admit(socket);
        }
    }

    fn admit(&mut self, socket: UnixStream) {
        if socket.set_nonblocking(true).is_ok() {
            self.clients.push(Client {
                socket,
                incoming: Vec::new(),
                outgoing: Vec::new(),
                watches: false,
                attached: false,
                writes_stdin: false,
                gone: false,
            });
        }
    }

    /// Reads once from one of the container's streams. `None` when the stream has ended.
    fn copy_output(&mut self, index: usize, most: usize) -> Option<usize> {
        let output = self.outputs.get_mut(index)?;
        let mut buffer = [0u8; READ_BYTES];
        let len = match rustix::io::read(&output.fd, &mut buffer[..most.min(READ_BYTES)]) {
            Ok(0) => return None,
            Ok(len) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Some(0),
            // A terminal answers EIO when the last process that had it open has ended.
            Err(_) => return None,
        };
        let data = &buffer[..len];
        let mut lines = Vec::with_capacity(len + 128);
        output.lines.push(data, &now(), &mut lines);
        // A full disk must not stop the container: the line is lost, the log says so by its gap.
        let _logged = self.log.write_all(&lines);
        let frame = self.clients.iter().any(|c| c.attached).then(|| wire::encode(output.kind, data));
        if let Some(frame) = frame {
            for client in self.clients.iter_mut().filter(|c| c.attached && !c.gone) {
                client.send(&frame);
            }
        }
        Some(len)
    }

    fn close_output(&mut self, index: usize) {
        if index < self.outputs.len() {
            let mut output = self.outputs.remove(index);
            let mut lines = Vec::new();
            output.lines.finish(&now(), &mut lines);
            let _logged = self.log.write_all(&lines);
        }
    }

    fn write_stdin(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.stdin_pending.clear();
            return;
        };
        match rustix::io::write(stdin, &self.stdin_pending) {
            Ok(len) => drop(self.stdin_pending.drain(..len)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => {
                self.stdin_pending.clear();
                self.stdin = None;
            }
        }
    }

    fn serve(&mut self, index: usize, events: libc::c_short) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if events & libc::POLLOUT != 0 {
            client.flush();
        }
        if events & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0 {
            let mut buffer = [0u8; 4096];
            match client.socket.read(&mut buffer) {
                Ok(0) => client.gone = true,
                Ok(len) => client.incoming.extend_from_slice(&buffer[..len]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => client.gone = true,
            }
        }
        loop {
            let Some(client) = self.clients.get_mut(index) else { return };
            match wire::take_frame(&mut client.incoming) {
                Ok(Some((kind, payload))) => self.obey(index, kind, &payload),
                Ok(None) => break,
                Err(_) => {
                    client.gone = true;
                    break;
                }
            }
        }
        let Some(client) = self.clients.get(index) else { return };
        if client.gone && client.writes_stdin {
            self.input_ended();
        }
    }

    fn input_ended(&mut self) {
        if self.stdin_once && !self.terminal {
            self.write_stdin();
            self.stdin = None;
        }
    }

    fn obey(&mut self, index: usize, kind: u8, payload: &[u8]) {
        let answer = match kind {
            to_shim::STDIN => {
                self.stdin_pending.extend_from_slice(payload);
                self.write_stdin();
                None
            }
            to_shim::STDIN_CLOSE => {
                self.input_ended();
                None
            }
            to_shim::RESIZE => {
                self.resize(payload);
                None
            }
            to_shim::WATCH => {
                if let Some(client) = self.clients.get_mut(index) {
                    client.watches = true;
                }
                Some(Ok(()))
            }
            to_shim::ATTACH => {
                if let Some(client) = self.clients.get_mut(index) {
                    client.attached = true;
                    client.watches = true;
                    client.writes_stdin = payload == [1] && self.stdin.is_some();
                }
                Some(Ok(()))
            }
            to_shim::SIGNAL => Some(self.signal(payload)),
            to_shim::REOPEN_LOG => Some(self.reopen_log()),
            _ => Some(Err("unknown request".to_owned())),
        };
        if let (Some(answer), Some(client)) = (answer, self.clients.get_mut(index)) {
            client.send(&match answer {
                Ok(()) => wire::encode(from_shim::OK, b""),
                Err(why) => wire::encode(from_shim::REFUSED, why.as_bytes()),
            });
        }
    }

    fn resize(&self, payload: &[u8]) {
        if let (true, &[c0, c1, r0, r1], Some(terminal)) = (self.terminal, payload, self.outputs.first()) {
            set_window_size(terminal.fd.as_raw_fd(), u16::from_le_bytes([c0, c1]), u16::from_le_bytes([r0, r1]));
        }
    }

    /// Only this process may signal by number: it has not reaped the process yet, so the number cannot be another's.
    fn signal(&self, payload: &[u8]) -> Result<(), String> {
        let number = payload.first_chunk::<4>().map(|b| i32::from_le_bytes(*b)).ok_or("no signal number")?;
        #[allow(unsafe_code, reason = "kill(2) with a number that nix's enum may not know (real-time signals)")]
        let sent = unsafe { libc::kill(self.main.as_raw(), number) };
        if sent == 0 { Ok(()) } else { Err(Errno::last().desc().to_owned()) }
    }

    fn reopen_log(&mut self) -> Result<(), String> {
        self.log = super::launch::open_log(&self.log_path).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.main => self.ended(code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.main => {
                    self.ended(128 + signal as i32, Some(signal as i32));
                }
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => {
                    // No child is left: it was reaped by whoever stood in between, and its status is lost.
                    if self.exit.is_none() {
                        self.ended(255, None);
                    }
                    return;
                }
            }
        }
    }

    fn ended(&mut self, code: i32, signal: Option<i32>) {
        let finished = now();
        self.kill_leftovers();
        self.drain();
        let signal = signal.map_or_else(|| "null".to_owned(), |s| s.to_string());
        let exit = format!(
            r#"{{"code":{code},"signal":{signal},"oom_killed":{},"started":"{}","finished":"{finished}"}}"#,
            self.oom_kills() > 0,
            self.started
        )
        .into_bytes();
        if crate::layout::write_atomically(&self.directory.join("exit.json"), &exit).is_err() {
            // The data directory's disk may be full; the run directory is another place that adoption looks at.
            let _second = crate::layout::write_atomically(&self.socket_path.with_extension("exit"), &exit);
        }
        let frame = wire::encode(from_shim::EXIT, &exit);
        for client in self.clients.iter_mut().filter(|c| c.watches) {
            client.send(&frame);
        }
        self.exit = Some(exit);
    }

    fn oom_kills(&self) -> u64 {
        let text = super::launch::read_small(&self.oom_file).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    fn kill_leftovers(&self) {
        let Some(procs) = &self.leftover_procs else { return };
        for pid in super::launch::read_small(procs).unwrap_or_default().lines() {
            if let Ok(pid) = pid.parse() {
                let _killed = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// What the container wrote before it ended belongs in its log before its end is told.
    fn drain(&mut self) {
        let mut left = DRAIN_BYTES_MAX;
        while !self.outputs.is_empty() && left > 0 {
            match self.copy_output(0, left) {
                Some(0) | None => self.close_output(0),
                Some(len) => left -= len,
            }
        }
        while !self.outputs.is_empty() {
            self.close_output(0);
        }
    }

    /// Gives those who watch a moment to take the news; `exit.json` has it anyway.
    fn farewell(&mut self) {
        let _unlinked = std::fs::remove_file(&self.socket_path);
        let exit = self.exit.clone().unwrap_or_default();
        // Whoever connected between the end and the unlink asks in vain otherwise.
        let before = self.clients.len();
        self.accept();
        for client in self.clients.iter_mut().skip(before) {
            client.send(&wire::encode(from_shim::EXIT, &exit));
        }
        for client in &mut self.clients {
            let patience = Some(std::time::Duration::from_secs(2));
            if client.socket.set_nonblocking(false).is_ok() && client.socket.set_write_timeout(patience).is_ok() {
                let _told = client.socket.write_all(&client.outgoing);
            }
        }
    }
}

impl Client {
    fn send(&mut self, frame: &[u8]) {
        self.outgoing.extend_from_slice(frame);
        self.flush();
        if self.outgoing.len() > CLIENT_BACKLOG_BYTES_MAX {
            self.gone = true;
        }
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(len) => drop(self.outgoing.drain(..len)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        if self.outgoing.capacity() > 64 * 1024 {
            self.outgoing = Vec::new();
        }
    }
}

#[allow(unsafe_code, reason = "ioctl with a winsize that lives through the call")]
pub fn set_window_size(terminal: RawFd, columns: u16, rows: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    unsafe { libc::ioctl(terminal, libc::TIOCSWINSZ, &raw const size) };
}

/// The wall clock, straight from the kernel.
#[allow(unsafe_code, reason = "clock_gettime fills the struct it is given")]
fn now() -> String {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    rfc3339_nano(time.tv_sec, u32::try_from(time.tv_nsec).unwrap_or(0))
}
