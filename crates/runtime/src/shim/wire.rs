//! The frames spoken between the node's process and its helper processes on unix sockets: one byte of kind, four bytes
//! of length (little endian), the payload.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Larger frames are refused: nothing that is spoken here comes near.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// From the node's process to a shim.
pub mod to_shim {
    /// Report the exit on this connection when it comes, or at once when it has come.
    pub const WATCH: u8 = b'w';
    /// Copy output to this connection; payload: one byte, 1 when the client also writes standard input.
    pub const ATTACH: u8 = b'a';
    pub const STDIN: u8 = b'i';
    pub const STDIN_CLOSE: u8 = b'c';
    /// Columns and rows, two bytes each.
    pub const RESIZE: u8 = b'r';
    /// Signal number, four bytes.
    pub const SIGNAL: u8 = b's';
    pub const REOPEN_LOG: u8 = b'l';
    /// To an exec's helper: the session is held, so the program may live.
    pub const TAKEN_UP: u8 = b'u';
}

/// From a helper to the node's process.
pub mod from_shim {
    /// JSON: `Started`.
    pub const STARTED: u8 = b'S';
    /// JSON: `Failed`.
    pub const FAILED: u8 = b'F';
    /// JSON: `pods::ports::Exit`.
    pub const EXIT: u8 = b'X';
    pub const OK: u8 = b'K';
    pub const REFUSED: u8 = b'R';
    pub const STDOUT: u8 = b'1';
    pub const STDERR: u8 = b'2';
    /// Carries the terminal's file descriptor of an exec.
    pub const TERMINAL: u8 = b'T';
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Started {
    pub pid: u32,
    pub started: jiff::Timestamp,
    /// `/proc/<pid>/stat` start time in clock ticks: tells this process from a later one with its number.
    pub start_ticks: u64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Failed {
    /// The program could not be executed; exit code as a shell would give it.
    CannotRun {
        code: i32,
        message: String,
    },
    Broken(String),
}

pub fn encode(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The length of the payload that a header announces.
pub fn payload_len(header: &[u8; 5]) -> io::Result<usize> {
    let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    Ok(len)
}

pub fn write_frame(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    to.write_all(&encode(kind, payload))
}

/// Blocking read of one frame.
pub fn read_frame(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0u8; 5];
    from.read_exact(&mut header)?;
    let mut payload = vec![0; payload_len(&header)?];
    from.read_exact(&mut payload)?;
    Ok((header[0], payload))
}

/// The same on an asynchronous stream.
pub async fn read_frame_async(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    use tokio::io::AsyncReadExt;
    let mut header = [0u8; 5];
    from.read_exact(&mut header).await?;
    let mut payload = vec![0; payload_len(&header)?];
    from.read_exact(&mut payload).await?;
    Ok((header[0], payload))
}

/// Takes one whole frame off the front of a buffer that fills as bytes arrive.
pub fn take_frame(buffer: &mut Vec<u8>) -> io::Result<Option<(u8, Vec<u8>)>> {
    let Some(header) = buffer.first_chunk::<5>() else { return Ok(None) };
    let end = 5 + payload_len(header)?;
    if buffer.len() < end {
        return Ok(None);
    }
    let payload = buffer[5..end].to_vec();
    let kind = buffer[0];
    buffer.drain(..end);
    Ok(Some((kind, payload)))
}

/// Sends one byte with file descriptors attached.
pub fn send_fds(socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many file descriptors"));
    }
    sendmsg(socket, &[io::IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives what `send_fds` sent.
pub fn recv_fds(socket: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    let got = recvmsg(socket, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_from_pieces() {
        let frame = encode(b'x', b"hello");
        let mut buffer = frame[..7].to_vec();
        assert!(take_frame(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(&frame[7..]);
        buffer.push(b'y');
        assert_eq!(take_frame(&mut buffer).unwrap(), Some((b'x', b"hello".to_vec())));
        assert_eq!(buffer, b"y");
        assert!(payload_len(&[0, 255, 255, 255, 255]).is_err());
    }
}
