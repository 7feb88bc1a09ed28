//! The server's side of a SPDY connection: one task reads frames and hands data to streams, one writes frames.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{Decoder, Encoder, Frame, reset};
use super::headers::Headers;

/// Frames that wait for a stream's reader, and for the connection's writer.
const QUEUED_FRAMES: usize = 16;
/// Data is cut into frames of this size, so that streams take turns.
const DATA_MAX: usize = 32 * 1024;
/// Frames are gathered up to this size for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// How long a client may take to hang up after it has been told goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What the reading task knows of an open stream.
struct Inbound {
    data: Option<mpsc::Sender<Bytes>>,
    reset: CancellationToken,
}

type Streams = Arc<Mutex<HashMap<u32, Inbound>>>;

enum Command {
    Frame(Frame),
    Shutdown,
}

/// Takes a stream off the connection's table when both of its halves are gone.
struct Registered {
    id: u32,
    streams: Streams,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A stream that the client opened.
pub struct Stream {
    pub id: u32,
    pub headers: Headers,
    pub input: Input,
    pub output: Output,
}

/// What the client sends on a stream.
pub struct Input {
    data: mpsc::Receiver<Bytes>,
    reset: CancellationToken,
    _registered: Arc<Registered>,
}

impl Input {
    /// `None` after the client's half-close or reset, or with the connection gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.data.recv().await
    }

    /// Cancelled when the client resets the stream, which may be after it has half-closed it.
    pub fn reset(&self) -> CancellationToken {
        self.reset.clone()
    }
}

/// What is sent to the client on a stream.
pub struct Output {
    id: u32,
    frames: mpsc::Sender<Command>,
    _registered: Arc<Registered>,
}

impl Output {
    /// # Errors
    /// The connection is gone.
    pub async fn write(&self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(DATA_MAX));
            self.send(Frame::Data { id: self.id, fin: false, data: part }).await?;
        }
        Ok(())
    }

    /// Nothing more will be written; the other direction stays open.
    pub async fn close(&self) {
        self.send(Frame::Data { id: self.id, fin: true, data: Bytes::new() }).await.ok();
    }

    pub async fn reset(&self, status: u32) {
        self.send(Frame::RstStream { id: self.id, status }).await.ok();
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames.send(Command::Frame(frame)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

pub struct Connection {
    accepted: mpsc::Receiver<Stream>,
    control: Control,
}

/// Ends a connection, or waits for its end.
#[derive(Clone)]
pub struct Control {
    frames: mpsc::Sender<Command>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Control {
    /// Says goodbye after all that has been written, and waits a little for the client to hang up.
    pub async fn close(&self) {
        let last_good_stream = 0;
        self.frames.send(Command::Frame(Frame::GoAway { last_good_stream })).await.ok();
        self.frames.send(Command::Shutdown).await.ok();
        tokio::time::timeout(GOODBYE, self.ended.cancelled()).await.ok();
        self.stop.cancel();
    }

    /// Resolves when nothing more will come from the client.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Connection {
    /// # Errors
    /// Header compression could not be set up.
    pub fn serve<R, W>(read: R, write: W) -> io::Result<Connection>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (frames, to_write) = mpsc::channel(QUEUED_FRAMES);
        let (accept, accepted) = mpsc::channel(QUEUED_FRAMES);
        let control = Control { frames, stop: CancellationToken::new(), ended: CancellationToken::new() };
        tokio::spawn(write_frames(write, Encoder::new()?, to_write));
        let reader = Reader { frames: control.frames.clone(), accept, streams: Streams::default(), last: 0 };
        let (stop, ended) = (control.stop.clone(), control.ended.clone().drop_guard());
        tokio::spawn(async move {
            tokio::select! {
                result = reader.run(Decoder::new(read)) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "SPDY connection");
                    }
                }
                () = stop.cancelled() => {}
            }
            drop(ended);
        });
        Ok(Connection { accepted, control })
    }

    /// The next stream of the client's; `None` when the connection is gone.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.accepted.recv().await
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

async fn write_frames<W: AsyncWrite + Unpin>(mut to: W, mut encoder: Encoder, mut queue: mpsc::Receiver<Command>) {
    let mut wire = BytesMut::new();
    let mut open = true;
    while open && let Some(first) = queue.recv().await {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Frame(frame) => {
                    if let Err(error) = encoder.encode(&frame, &mut wire) {
                        tracing::warn!(%error, "SPDY frame not written");
                        open = false;
                    }
                }
                Command::Shutdown => open = false,
            }
            next = if open && wire.len() < WRITE_BYTES { queue.try_recv().ok() } else { None };
        }
        if let Err(error) = to.write_all(&wire).await.and(to.flush().await) {
            return tracing::debug!(%error, "SPDY connection");
        }
        wire.clear();
    }
    to.shutdown().await.ok();
}

struct Reader {
    frames: mpsc::Sender<Command>,
    accept: mpsc::Sender<Stream>,
    streams: Streams,
    last: u32,
}

/// With the connection, every stream's input ends.
impl Drop for Reader {
    fn drop(&mut self) {
        self.table().clear();
    }
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut decoder: Decoder<R>) -> io::Result<()> {
        while let Some(frame) = decoder.next().await? {
            match frame {
                Frame::SynStream { id, fin, headers } => self.open(id, fin, headers).await,
                Frame::Data { id, fin, data } => self.data(id, fin, data).await,
                Frame::RstStream { id, .. } => {
                    if let Some(stream) = self.table().remove(&id) {
                        stream.reset.cancel();
                    }
                }
                // Odd numbers are the client's own pings; it wants them back.
                Frame::Ping { id } if id % 2 == 1 => self.send(Frame::Ping { id }).await,
                Frame::Ping { .. } | Frame::SynReply { .. } | Frame::GoAway { .. } | Frame::Other(_) => {}
            }
        }
        Ok(())
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Inbound>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Headers) {
        if id.is_multiple_of(2) || id <= self.last {
            return self.send(Frame::RstStream { id, status: reset::PROTOCOL_ERROR }).await;
        }
        self.last = id;
        let (to, data) = mpsc::channel(QUEUED_FRAMES);
        let token = CancellationToken::new();
        self.table().insert(id, Inbound { data: (!fin).then_some(to), reset: token.clone() });
        let registered = Arc::new(Registered { id, streams: Arc::clone(&self.streams) });
        let input = Input { data, reset: token, _registered: Arc::clone(&registered) };
        let output = Output { id, frames: self.frames.clone(), _registered: registered };
        // Answered first: the client may send nothing on the stream before.
        self.send(Frame::SynReply { id, fin: false, headers: Headers::default() }).await;
        if self.accept.send(Stream { id, headers, input, output }).await.is_err() {
            self.send(Frame::RstStream { id, status: reset::REFUSED_STREAM }).await;
        }
    }

    async fn data(&self, id: u32, fin: bool, data: Bytes) {
        let to = self.table().get(&id).and_then(|stream| stream.data.clone());
        // Data of a stream that nobody reads any more is dropped.
        if let Some(to) = to.filter(|_| !data.is_empty()) {
            to.send(data).await.ok();
        }
        if fin && let Some(stream) = self.table().get_mut(&id) {
            stream.data = None;
        }
    }

    async fn send(&self, frame: Frame) {
        self.frames.send(Command::Frame(frame)).await.ok();
    }
}

#[cfg(test)]
pub mod testing {
    //! A client that writes and reads single frames.

    use tokio::io::{DuplexStream, ReadHalf, WriteHalf};

    pub use super::super::frame::Frame;
    pub use super::super::headers::Headers;
    use super::*;

    pub struct Client<IO = DuplexStream> {
        encoder: Encoder,
        write: WriteHalf<IO>,
        decoder: Decoder<ReadHalf<IO>>,
    }

    impl<IO: AsyncRead + AsyncWrite> Client<IO> {
        pub fn new(io: IO) -> Client<IO> {
            let (read, write) = tokio::io::split(io);
            Client { encoder: Encoder::new().unwrap(), write, decoder: Decoder::new(read) }
        }

        pub async fn send(&mut self, frame: Frame) {
            let mut wire = BytesMut::new();
            self.encoder.encode(&frame, &mut wire).unwrap();
            self.write.write_all(&wire).await.unwrap();
            self.write.flush().await.unwrap();
        }

        pub async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
            self.send(Frame::SynStream { id, fin: false, headers: Headers::new(headers) }).await;
            let reply = self.next().await;
            assert_eq!(reply, Some(Frame::SynReply { id, fin: false, headers: Headers::default() }));
        }

        pub async fn data(&mut self, id: u32, data: &'static [u8], fin: bool) {
            self.send(Frame::Data { id, fin, data: Bytes::from_static(data) }).await;
        }

        pub async fn next(&mut self) -> Option<Frame> {
            self.decoder.next().await.unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Client;
    use super::*;

    fn connected() -> (Client, Connection) {
        let (near, far) = tokio::io::duplex(1024);
        let (read, write) = tokio::io::split(far);
        (Client::new(near), Connection::serve(read, write).unwrap())
    }

    #[tokio::test]
    async fn a_stream_is_half_closed_and_goes_on_the_other_way() {
        let (mut client, mut connection) = connected();
        client.open(1, &[("streamType", "data")]).await;
        client.data(1, b"question", true).await;
        let mut stream = connection.accept().await.unwrap();
        assert_eq!(stream.headers.get("streamType"), Some("data"));
        assert_eq!(stream.input.next().await.unwrap(), "question");
        assert!(stream.input.next().await.is_none());
        stream.output.write(Bytes::from_static(b"answer")).await.unwrap();
        stream.output.close().await;
        assert_eq!(client.next().await, Some(Frame::Data { id: 1, fin: false, data: Bytes::from_static(b"answer") }));
        assert_eq!(client.next().await, Some(Frame::Data { id: 1, fin: true, data: Bytes::new() }));
    }

    #[tokio::test]
    async fn resets_pings_and_wrong_numbers() {
        let (mut client, mut connection) = connected();
        client.open(3, &[]).await;
        let stream = connection.accept().await.unwrap();
        client.send(Frame::RstStream { id: 3, status: reset::CANCEL }).await;
        stream.input.reset().cancelled().await;
        client.send(Frame::Ping { id: 1 }).await;
        assert_eq!(client.next().await, Some(Frame::Ping { id: 1 }));
        client.send(Frame::SynStream { id: 3, fin: false, headers: Headers::default() }).await;
        assert_eq!(client.next().await, Some(Frame::RstStream { id: 3, status: reset::PROTOCOL_ERROR }));
        let control = connection.control();
        drop(client);
        control.ended().await;
        assert!(connection.accept().await.is_none());
    }
}
