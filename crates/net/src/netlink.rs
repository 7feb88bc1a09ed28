//! Netlink messages and sockets, as small as three families need: routing (links, addresses, routes), nftables and
//! connection tracking. The kernel answers a netlink request before `send` returns, so a blocking socket costs a few
//! microseconds a request and needs no task. A socket belongs for ever to the network namespace it was opened in.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

pub const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub const ACK: u16 = libc::NLM_F_ACK as u16;
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;

const HEADER_BYTES: usize = 16;
const NESTED: u16 = 0x8000;
/// Larger than any answer the kernel makes in one datagram.
const RECEIVE_BYTES: usize = 64 << 10;

/// A refused request: the kernel's error number and, where it gives one, its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Position of the refused message in what was sent.
    pub index: usize,
    pub errno: Errno,
    pub message: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno.desc())?;
        match &self.message {
            Some(message) => write!(f, " ({message})"),
            None => Ok(()),
        }
    }
}

impl Refused {
    fn io(errno: Errno) -> Refused {
        Refused { index: 0, errno, message: None }
    }
}

/// One or more messages, ready to be sent in a single `send`.
#[derive(Default)]
pub struct Messages {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Messages {
    pub fn new() -> Messages {
        Messages::default()
    }

    pub fn one(kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) -> Messages {
        let mut messages = Messages::new();
        messages.push(kind, flags, body);
        messages
    }

    pub fn push(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        body(&mut Body { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        let header = &mut self.bytes[start..start + HEADER_BYTES];
        header[0..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        pad(&mut self.bytes);
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    fn number(&mut self, first: u32) {
        for (index, start) in self.starts.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The payload of a message under construction: fixed structs, then attributes.
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    pub fn raw(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        pad(self.bytes);
    }

    pub fn attr(&mut self, kind: u16, payload: &[u8]) {
        let length = (4 + payload.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(payload);
    }

    /// A NUL-terminated string.
    pub fn text(&mut self, kind: u16, text: &str) {
        let length = (5 + text.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        pad(self.bytes);
    }

    pub fn host_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// nftables' numbers are in network order.
    pub fn net_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        inner(&mut Body { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }
}

/// The attributes in a payload, as (kind without flags, value).
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]) as usize;
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An answer that is not an acknowledgement.
#[derive(Debug)]
pub struct Answer {
    pub payload: Vec<u8>,
}

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    send_bytes_max: usize,
}

impl Socket {
    pub fn route() -> Result<Socket, Refused> {
        Socket::open(SockProtocol::NetlinkRoute)
    }

    pub fn netfilter() -> Result<Socket, Refused> {
        Socket::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(family: SockProtocol) -> Result<Socket, Refused> {
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(family)).map_err(Refused::io)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(Refused::io)?;
        // An answer is already there when `send` returns; the limit only guards against a kernel that never answers.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).map_err(Refused::io)?;
        // 10 and 11: NETLINK_CAP_ACK (errors do not repeat the request) and NETLINK_EXT_ACK (errors carry words).
        for option in [10, 11] {
            set_netlink_flag(&fd, option).map_err(Refused::io)?;
        }
        Ok(Socket { fd, sequence: 1, send_bytes_max: 0 })
    }

    fn send(&mut self, messages: &mut Messages) -> Result<u32, Refused> {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(messages.len() as u32);
        messages.number(first);
        if messages.bytes.len() > self.send_bytes_max {
            self.send_bytes_max = (messages.bytes.len() * 2).max(1 << 20);
            // The forced form is for root of the initial user namespace; the other is capped by a sysctl, and a batch
            // over the cap is refused as too long.
            let wanted = self.send_bytes_max;
            if setsockopt(&self.fd, sockopt::SndBufForce, &wanted).is_err() {
                setsockopt(&self.fd, sockopt::SndBuf, &wanted).map_err(Refused::io)?;
            }
        }
        send(self.fd.as_raw_fd(), &messages.bytes, MsgFlags::empty()).map_err(Refused::io)?;
        Ok(first)
    }

    /// Sends messages that all ask for an acknowledgement, and returns one result each in order.
    pub fn acknowledged(&mut self, mut messages: Messages) -> Result<Vec<Result<(), Refused>>, Refused> {
        let first = self.send(&mut messages)?;
        let mut results: Vec<Option<Result<(), Refused>>> = vec![None; messages.len()];
        let mut buffer = vec![0; RECEIVE_BYTES];
        while results.iter().any(Option::is_none) {
            let length = self.receive(&mut buffer, MsgFlags::empty())?;
            for frame in frames(&buffer[..length]) {
                let index = frame.sequence.wrapping_sub(first) as usize;
                if let (Some(slot), Some(outcome)) = (results.get_mut(index), frame.outcome(index)) {
                    *slot = Some(outcome);
                }
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// One message that asks for an acknowledgement.
    pub fn request(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) -> Result<(), Refused> {
        let mut results = self.acknowledged(Messages::one(kind, flags | ACK, body))?;
        results.pop().unwrap_or(Err(Refused::io(Errno::EPROTO)))
    }

    /// A question with one answer or a dump of many.
    pub fn ask(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) -> Result<Vec<Answer>, Refused> {
        let dump = flags & DUMP == DUMP;
        let flags = if dump { flags } else { flags | ACK };
        let mut messages = Messages::one(kind, flags, body);
        let first = self.send(&mut messages)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let length = self.receive(&mut buffer, MsgFlags::empty())?;
            for frame in frames(&buffer[..length]).filter(|frame| frame.sequence == first) {
                match frame.outcome(0) {
                    Some(Ok(())) => return Ok(answers),
                    Some(Err(refused)) => return Err(refused),
                    None => answers.push(Answer { payload: frame.payload.to_vec() }),
                }
            }
        }
    }

    /// Sends messages of which only refusals are answered (an nftables batch): the first refusal, if there is one.
    pub fn batch(&mut self, mut messages: Messages) -> Result<(), Refused> {
        let first = self.send(&mut messages)?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut refusal = None;
        loop {
            match self.receive(&mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    for frame in frames(&buffer[..length]) {
                        let index = frame.sequence.wrapping_sub(first) as usize;
                        if let (None, Some(Err(refused))) = (&refusal, frame.outcome(index)) {
                            refusal = Some(refused);
                        }
                    }
                }
                Err(Refused { errno: Errno::EAGAIN, .. }) => return refusal.map_or(Ok(()), Err),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<usize, Refused> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, flags) {
                Err(Errno::EINTR) => {}
                other => return other.map_err(Refused::io),
            }
        }
    }
}

#[allow(unsafe_code, reason = "nix has no socket option of the SOL_NETLINK level")]
fn set_netlink_flag(fd: &OwnedFd, option: libc::c_int) -> nix::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a live c_int and the length given is its size; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

struct Frame<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER_BYTES)?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let payload = bytes.get(HEADER_BYTES..length)?;
        let frame = Frame { kind: half(4), flags: half(6), sequence: word(8), payload };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(frame)
    })
}

impl Frame<'_> {
    /// `None` for a message with content, else what the kernel says of the request.
    fn outcome(&self, index: usize) -> Option<Result<(), Refused>> {
        if !matches!(i32::from(self.kind), libc::NLMSG_ERROR | libc::NLMSG_DONE) {
            return None;
        }
        let code = self.payload.get(..4)?;
        let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
        if code == 0 {
            return Some(Ok(()));
        }
        // NLM_F_ACK_TLVS with NLM_F_CAPPED: attributes follow the error number and the request's header.
        let message = (self.flags & 0x200 != 0)
            .then(|| attribute(self.payload.get(4 + HEADER_BYTES..)?, 1))
            .flatten()
            .map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        Some(Err(Refused { index, errno: Errno::from_raw(-code), message }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back_as_they_were_written() {
        let messages = Messages::one(1, 0, |body| {
            body.text(3, "eth0");
            body.nest(5, |body| body.net_u32(1, 7));
            body.attr(6, &[1]);
        });
        let payload = &messages.bytes[HEADER_BYTES..];
        assert_eq!(attribute(payload, 3), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(attribute(payload, 5).unwrap(), 1), Some(&[0, 0, 0, 7][..]));
        assert_eq!(attribute(payload, 6), Some(&[1][..]));
        assert_eq!(attribute(payload, 9), None);
    }
}
