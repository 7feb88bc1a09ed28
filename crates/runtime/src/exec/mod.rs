//! Sessions with a running container: `exec` runs a program in it through a helper process, `attach` joins the streams of
//! its first process through its shim.

pub mod helper;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, SinkExt, StreamExt};
use pods::ports::{ContainerId, ExecSpec, Exit, Output, RuntimeError, Session};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::local::Local;
use crate::shim::wire::{self, Failed, from_shim, to_shim};

/// How long output is still waited for when the program has ended but something it started holds its streams.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
const CHUNK_BYTES: usize = 32 * 1024;

fn broken(e: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Broken(e.to_string())
}

/// containerd internal/cri/server/container_execsync.go and runc: what a user sees when a program cannot be launched.
fn refused(failed: Failed) -> RuntimeError {
    const AS_RUNC: &str = "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: \
                           unable to start container process";
    match failed {
        Failed::CannotRun { code, message } => {
            RuntimeError::CannotRun { code, message: format!("{AS_RUNC}: {message}: unknown") }
        }
        Failed::Broken(why) => RuntimeError::Broken(format!("failed to exec in container: {why}")),
    }
}

/// The ends of an exec's streams that stay here.
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn streams(spec: &ExecSpec) -> io::Result<(Ends, Vec<OwnedFd>)> {
    let mut ends = Ends { stdin: None, stdout: None, stderr: None };
    let null =
        || Ok::<OwnedFd, io::Error>(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into());
    let mut given = Vec::with_capacity(3);
    if spec.tty {
        return Ok((ends, given));
    }
    given.push(if spec.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        ends.stdin = Some(write);
        read
    } else {
        null()?
    });
    for (wanted, end) in [(spec.stdout, &mut ends.stdout), (spec.stderr, &mut ends.stderr)] {
        given.push(if wanted {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            *end = Some(read);
            write
        } else {
            null()?
        });
    }
    Ok((ends, given))
}

pub async fn exec(local: &Local, id: &ContainerId, spec: &ExecSpec) -> Result<Session, RuntimeError> {
    if spec.argv.is_empty() {
        return Err(RuntimeError::Broken("no command to run".into()));
    }
    let running = local.running(id)?;
    let request = helper::Request {
        pid: running.pid,
        start_ticks: running.start_ticks,
        directory: local.layout.container(id),
        procs: local.cgroups.procs(&running.cgroup),
        argv: spec.argv.clone(),
        tty: spec.tty,
    };
    let (ours, theirs) = StdUnixStream::pair().map_err(broken)?;
    let mut command = local.helper_command("exec");
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = tokio::process::Command::from(command)
        .spawn()
        .map_err(|e| RuntimeError::Broken(format!("start the exec helper: {e}")))?;
    local.reap(child);
    let (ends, given) = streams(spec).map_err(broken)?;
    let payload = serde_json::to_vec(&request).map_err(broken)?;
    wire::write_frame(&mut &ours, b'?', &payload).map_err(broken)?;
    wire::send_fds(&ours, &given.iter().map(AsFd::as_fd).collect::<Vec<_>>()).map_err(broken)?;
    drop(given);
    ours.set_nonblocking(true).map_err(broken)?;
    let mut control = UnixStream::from_std(ours).map_err(broken)?;
    let terminal = launched(&mut control).await?;
    control.write_all(&wire::encode(to_shim::TAKEN_UP, b"")).await.map_err(broken)?;
    session(control, ends, terminal)
}

/// Waits until the program runs. Gives its terminal if it has one.
async fn launched(control: &mut UnixStream) -> Result<Option<OwnedFd>, RuntimeError> {
    let mut terminal = None;
    loop {
        let (kind, payload) = wire::read_frame_async(control)
            .await
            .map_err(|e| RuntimeError::Broken(format!("the exec helper ended: {e}")))?;
        match kind {
            from_shim::TERMINAL => {
                control.readable().await.map_err(broken)?;
                let socket = &*control;
                let got = socket
                    .async_io(tokio::io::Interest::READABLE, || wire::recv_fds(socket))
                    .await
                    .map_err(|e| RuntimeError::Broken(format!("receive the terminal: {e}")))?;
                terminal = got.into_iter().next();
            }
            from_shim::STARTED => return Ok(terminal),
            from_shim::FAILED => {
                let failed = serde_json::from_slice(&payload).map_err(broken)?;
                return Err(refused(failed));
            }
            _ => return Err(RuntimeError::Broken("the exec helper spoke out of turn".into())),
        }
    }
}

fn session(control: UnixStream, ends: Ends, terminal: Option<OwnedFd>) -> Result<Session, RuntimeError> {
    let (output_send, output) = mpsc::channel::<Output>(16);
    let (resize, mut sizes) = mpsc::channel::<(u16, u16)>(4);
    let (exit_send, exit_receive) = oneshot::channel();
    let (ended_send, ended) = tokio::sync::watch::channel(false);
    let stdin = match &terminal {
        Some(master) => {
            let window = master.try_clone().map_err(broken)?;
            tokio::spawn(async move {
                while let Some((columns, rows)) = sizes.next().await {
                    use std::os::fd::AsRawFd;
                    crate::shim::hold::set_window_size(window.as_raw_fd(), columns, rows);
                }
            });
            let file = tokio_terminal(master.try_clone().map_err(broken)?)?;
            let reading = tokio_terminal(master.try_clone().map_err(broken)?)?;
            tokio::spawn(copy_terminal(reading, output_send.clone(), ended.clone()));
            Some(pump_terminal(file))
        }
        None => {
            let read = |fd: OwnedFd, wrap: fn(Bytes) -> Output| -> Result<(), RuntimeError> {
                let pipe = pipe::Receiver::from_owned_fd(fd).map_err(broken)?;
                tokio::spawn(copy_pipe(pipe, wrap, output_send.clone(), ended.clone()));
                Ok(())
            };
            ends.stdout.map(|fd| read(fd, Output::Stdout)).transpose()?;
            ends.stderr.map(|fd| read(fd, Output::Stderr)).transpose()?;
            ends.stdin.map(pump_pipe).transpose()?
        }
    };
    drop(output_send);
    let (mut reader, writer) = control.into_split();
    tokio::spawn(async move {
        let code = match wire::read_frame_async(&mut reader).await {
            Ok((from_shim::EXIT, code)) => {
                String::from_utf8_lossy(&code).parse().map_err(|_| broken("the exec helper's exit code is no number"))
            }
            Ok(_) => Err(broken("the exec helper spoke out of turn")),
            Err(e) => Err(RuntimeError::Broken(format!("the exec helper ended: {e}"))),
        };
        ended_send.send_replace(true);
        // Whoever asked may be gone.
        let _told = exit_send.send(code);
    });
    Ok(Session {
        stdin,
        output: output.boxed(),
        resize,
        exit: exit_receive.map(|code| code.unwrap_or_else(|_| Err(broken("the session was dropped")))).boxed(),
        kill: kill_by(writer),
    })
}

fn kill_by(mut writer: OwnedWriteHalf) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        tokio::spawn(async move {
            // Without the helper there is no process left to kill.
            let _asked = writer.write_all(&wire::encode(to_shim::SIGNAL, &9i32.to_le_bytes())).await;
        });
    })
}

fn pump_pipe(fd: OwnedFd) -> Result<mpsc::Sender<Bytes>, RuntimeError> {
    let mut pipe = pipe::Sender::from_owned_fd(fd).map_err(broken)?;
    let (send, mut receive) = mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        while let Some(data) = receive.next().await {
            if pipe.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    Ok(send)
}

/// Copies a pipe until its end; after the program's end only as long as patience lasts.
async fn copy_pipe(
    mut pipe: pipe::Receiver,
    wrap: fn(Bytes) -> Output,
    mut to: mpsc::Sender<Output>,
    mut ended: tokio::sync::watch::Receiver<bool>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let overdue = async {
        if ended.wait_for(|e| *e).await.is_ok() {
            tokio::time::sleep(DRAIN_PATIENCE).await;
        }
    };
    tokio::pin!(overdue);
    loop {
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buffer) => read,
            () = &mut overdue => return,
        };
        match read {
            Ok(len) if len > 0 => {
                if to.send(wrap(Bytes::copy_from_slice(&buffer[..len]))).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

type Terminal = tokio::io::unix::AsyncFd<OwnedFd>;

#[allow(unsafe_code, reason = "the descriptor is owned by what registers it, so it cannot be closed before")]
fn tokio_terminal(fd: OwnedFd) -> Result<Terminal, RuntimeError> {
    rustix::io::ioctl_fionbio(&fd, true).map_err(broken)?;
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(broken)
}

fn pump_terminal(terminal: Terminal) -> mpsc::Sender<Bytes> {
    let (send, mut receive) = mpsc::channel::<Bytes>(16);
    tokio::spawn(async move {
        while let Some(mut data) = receive.next().await {
            while !data.is_empty() {
                let written =
                    terminal.async_io(tokio::io::Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, &data)?)).await;
                match written {
                    Ok(len) => drop(data.split_to(len)),
                    Err(_) => return,
                }
            }
        }
    });
    send
}

async fn copy_terminal(
    terminal: Terminal,
    mut to: mpsc::Sender<Output>,
    mut ended: tokio::sync::watch::Receiver<bool>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let overdue = async {
        if ended.wait_for(|e| *e).await.is_ok() {
            tokio::time::sleep(DRAIN_PATIENCE).await;
        }
    };
    tokio::pin!(overdue);
    loop {
        let read = terminal.async_io(tokio::io::Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?));
        let read = tokio::select! {
            biased;
            read = read => read,
            () = &mut overdue => return,
        };
        match read {
            Ok(len) if len > 0 => {
                if to.send(Output::Stdout(Bytes::copy_from_slice(&buffer[..len]))).await.is_err() {
                    return;
                }
            }
            // A terminal answers EIO when the last program has closed it.
            _ => return,
        }
    }
}

pub async fn attach(local: &Local, id: &ContainerId, stdin: bool) -> Result<Session, RuntimeError> {
    local.running(id)?;
    let mut socket = UnixStream::connect(local.layout.socket(id)).await.map_err(|_| RuntimeError::NotRunning)?;
    socket.write_all(&wire::encode(to_shim::ATTACH, &[u8::from(stdin)])).await.map_err(broken)?;
    let (mut reader, writer) = socket.into_split();
    let (mut output_send, output) = mpsc::channel::<Output>(16);
    let (exit_send, exit_receive) = oneshot::channel();
    // The connection lives as long as somebody holds the output.
    let closed = CancellationToken::new();
    let (reading_closed, writing_closed) = (closed.clone(), closed.clone());
    tokio::spawn(async move {
        let ended = loop {
            let frame = tokio::select! {
                frame = wire::read_frame_async(&mut reader) => frame,
                () = reading_closed.cancelled() => return,
            };
            match frame {
                Ok((from_shim::STDOUT, data)) => {
                    let _gone = output_send.send(Output::Stdout(data.into())).await;
                }
                Ok((from_shim::STDERR, data)) => {
                    let _gone = output_send.send(Output::Stderr(data.into())).await;
                }
                Ok((from_shim::EXIT, exit)) => {
                    break serde_json::from_slice::<Exit>(&exit).map(|e| e.code).map_err(broken);
                }
                Ok(_) => {}
                Err(e) => break Err(RuntimeError::Broken(format!("the container's shim ended: {e}"))),
            }
        };
        let _told = exit_send.send(ended);
    });
    let (stdin_send, stdin_receive) = mpsc::channel::<Bytes>(16);
    let (resize, sizes) = mpsc::channel::<(u16, u16)>(4);
    tokio::spawn(async move {
        tokio::select! {
            () = send_input(writer, stdin.then_some(stdin_receive), sizes) => {}
            () = writing_closed.cancelled() => {}
        }
    });
    let guard = closed.drop_guard();
    let output = output.map(move |o| {
        let _held = &guard;
        o
    });
    Ok(Session {
        stdin: stdin.then_some(stdin_send),
        output: output.boxed(),
        resize,
        exit: exit_receive.map(|code| code.unwrap_or_else(|_| Err(broken("the session was dropped")))).boxed(),
        kill: Box::new(|| {}),
    })
}

/// What an attached client types, and the sizes of its terminal, until both have ended; then it only stays connected,
/// because to a shim a half-closed connection is a client that has left.
async fn send_input(
    mut writer: OwnedWriteHalf,
    mut input: Option<mpsc::Receiver<Bytes>>,
    mut sizes: mpsc::Receiver<(u16, u16)>,
) {
    let mut sizes_open = true;
    while input.is_some() || sizes_open {
        let typed = async {
            match &mut input {
                Some(input) => input.next().await,
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            data = typed => match data {
                Some(data) => wire::encode(to_shim::STDIN, &data),
                None => {
                    input = None;
                    wire::encode(to_shim::STDIN_CLOSE, b"")
                }
            },
            size = sizes.next(), if sizes_open => match size {
                Some((columns, rows)) => {
                    let ([c0, c1], [r0, r1]) = (columns.to_le_bytes(), rows.to_le_bytes());
                    wire::encode(to_shim::RESIZE, &[c0, c1, r0, r1])
                }
                None => {
                    sizes_open = false;
                    continue;
                }
            },
        };
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}
