//! SPDY/3.1 frames on the wire: eight bytes of header, then the payload.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{Headers, Packer, Unpacker, invalid};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

const FIN: u8 = 1;
const ID_MASK: u32 = 0x7fff_ffff;
/// Control frames carry a header block at most; data frames may be as long as their 24 bits of length can say.
const CONTROL_MAX: usize = 1 << 20;

/// Why a stream is reset (RST_STREAM's status).
pub mod reset {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
}

#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    Data {
        id: u32,
        fin: bool,
        data: Bytes,
    },
    RstStream {
        id: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_good_stream: u32,
    },
    /// SETTINGS, WINDOW_UPDATE, HEADERS and what is unknown: no peer of ours acts on them.
    Other(u16),
}

/// Writes frames; keeps the state of the header compression.
pub(super) struct Encoder {
    packer: Packer,
}

impl Encoder {
    pub(super) fn new() -> io::Result<Encoder> {
        Ok(Encoder { packer: Packer::new()? })
    }

    pub(super) fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> io::Result<()> {
        match frame {
            Frame::SynStream { id, fin, headers } => {
                let block = self.packer.pack(headers)?;
                control(out, SYN_STREAM, u8::from(*fin) * FIN, 10 + block.len());
                out.put_u32(*id);
                // No associated stream, highest priority, no credential slot.
                out.put_u32(0);
                out.put_u16(0);
                out.put_slice(&block);
            }
            Frame::SynReply { id, fin, headers } => {
                let block = self.packer.pack(headers)?;
                control(out, SYN_REPLY, u8::from(*fin) * FIN, 4 + block.len());
                out.put_u32(*id);
                out.put_slice(&block);
            }
            Frame::Data { id, fin, data } => {
                out.put_u32(*id);
                out.put_u8(u8::from(*fin) * FIN);
                out.put_uint(data.len() as u64, 3);
                out.put_slice(data);
            }
            Frame::RstStream { id, status } => {
                control(out, RST_STREAM, 0, 8);
                out.put_u32(*id);
                out.put_u32(*status);
            }
            Frame::Ping { id } => {
                control(out, PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::GoAway { last_good_stream } => {
                control(out, GOAWAY, 0, 8);
                out.put_u32(*last_good_stream);
                out.put_u32(0);
            }
            Frame::Other(_) => {}
        }
        Ok(())
    }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
}

/// Reads frames; keeps the state of the header decompression.
pub(super) struct Decoder<R> {
    from: R,
    unpacker: Unpacker,
}

impl<R: AsyncRead + Unpin> Decoder<R> {
    pub(super) fn new(from: R) -> Decoder<R> {
        Decoder { from, unpacker: Unpacker::new() }
    }

    /// The next frame; `None` when the connection ended between two.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut header = [0; 8];
        if self.from.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut header[1..]).await?;
        let [a, b, c, d, flags, length @ ..] = header;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        let fin = flags & FIN != 0;
        if a & 0x80 == 0 {
            let id = u32::from_be_bytes([a, b, c, d]);
            return Ok(Some(Frame::Data { id, fin, data: self.payload(length).await? }));
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(invalid("not version 3"));
        }
        if length > CONTROL_MAX {
            return Err(invalid("control frame is too large"));
        }
        let payload = self.payload(length).await?;
        self.control(u16::from_be_bytes([c, d]), fin, &payload).map(Some)
    }

    async fn payload(&mut self, length: usize) -> io::Result<Bytes> {
        // Grows with what arrives, not with what is announced.
        let mut payload = Vec::new();
        (&mut self.from).take(length as u64).read_to_end(&mut payload).await?;
        if payload.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(payload.into())
    }

    fn control(&mut self, kind: u16, fin: bool, payload: &[u8]) -> io::Result<Frame> {
        let word = |at: usize| {
            let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
            bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| invalid("control frame is too short"))
        };
        let block = |from: usize| payload.get(from..).ok_or_else(|| invalid("control frame is too short"));
        Ok(match kind {
            SYN_STREAM => Frame::SynStream { id: word(0)? & ID_MASK, fin, headers: self.unpacker.unpack(block(10)?)? },
            SYN_REPLY => Frame::SynReply { id: word(0)? & ID_MASK, fin, headers: self.unpacker.unpack(block(4)?)? },
            RST_STREAM => Frame::RstStream { id: word(0)? & ID_MASK, status: word(4)? },
            PING => Frame::Ping { id: word(0)? },
            GOAWAY => Frame::GoAway { last_good_stream: word(0)? & ID_MASK },
            HEADERS => {
                // Unpacked although nothing reads it: later blocks build on it.
                self.unpacker.unpack(block(4)?)?;
                Frame::Other(kind)
            }
            other => Frame::Other(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_round_trip() {
        let headers = Headers::new(&[("streamType", "stdin")]);
        let frames = [
            Frame::SynStream { id: 1, fin: false, headers: headers.clone() },
            Frame::SynReply { id: 1, fin: true, headers: Headers::default() },
            Frame::SynStream { id: 3, fin: true, headers },
            Frame::Data { id: 1, fin: false, data: Bytes::from(vec![7; 70_000]) },
            Frame::Data { id: 3, fin: true, data: Bytes::new() },
            Frame::RstStream { id: 3, status: reset::CANCEL },
            Frame::Ping { id: 9 },
            Frame::GoAway { last_good_stream: 3 },
        ];
        let (mut encoder, mut wire) = (Encoder::new().unwrap(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut wire).unwrap();
        }
        // A window update, which is passed over.
        wire.put_slice(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 4, 0]);
        let mut decoder = Decoder::new(&wire[..]);
        for frame in frames {
            assert_eq!(decoder.next().await.unwrap(), Some(frame));
        }
        assert_eq!(decoder.next().await.unwrap(), Some(Frame::Other(9)));
        assert_eq!(decoder.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_cut_frame_is_an_error() {
        let wire = [0, 0, 0, 1, 0, 0, 0, 9, b'x'];
        assert!(Decoder::new(&wire[..]).next().await.is_err());
        assert!(Decoder::new(&[0x80, 2, 0, 1, 0, 0, 0, 0][..]).next().await.is_err(), "version 2");
    }
}
