//! What travels in a WebSocket: numbered channels (exec and attach), or the bytes of another connection (a tunnel).

use std::io;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::ready;
use futures::stream::SplitSink;
use futures::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::StreamOptions;
use super::session::{Channel, Client, ClientOutput, Sent, StatusForm};

/// The version in which a client can end its standard input and go on reading.
pub const V5: &str = "v5.channel.k8s.io";
pub const V4: &str = "v4.channel.k8s.io";
/// Before versions had numbers; no name at all means the same.
pub const V1: &str = "channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The server's end of a WebSocket on a connection that has switched protocols.
pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> WebSocketStream<IO> {
    WebSocketStream::from_raw_socket(io, Role::Server, None).await
}

/// One message of a channel protocol.
pub fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

/// The goodbye that clients take for a normal end.
pub fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// The client of an exec or attach over a WebSocket. Before anything else it gets an empty message, which tells it that
/// the connection stands. k8s.io/cri-streaming pkg/streaming/remotecommand/websocket.go.
pub async fn client<IO>(io: IO, protocol: &str, options: &StreamOptions) -> io::Result<Client>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut to, from) = accept(io).await.split();
    let lowest = match (options.stdout, options.stderr) {
        (true, _) => STDOUT,
        (false, true) => STDERR,
        (false, false) => ERROR,
    };
    to.send(message(lowest, b"")).await.map_err(io::Error::other)?;
    let can_close = protocol == V5;
    let events = from.map(move |message| heard(message, can_close));
    let events = events.take_while(|heard| ready(!matches!(heard, Heard::End)));
    let events = events.filter_map(|heard| ready(if let Heard::Sent(sent) = heard { Some(sent) } else { None }));
    let status = if matches!(protocol, V5 | V4) { StatusForm::Json } else { StatusForm::Text };
    Ok(Client { events: events.boxed(), output: Box::new(Channels(to)), status })
}

#[derive(Debug, PartialEq)]
enum Heard {
    Sent(Sent),
    /// A message with no meaning here, such as one for a channel that is the server's to write.
    Nothing,
    /// The client broke the protocol, or the connection.
    End,
}

fn heard(message: Result<Message, Error>, can_close: bool) -> Heard {
    let data = match message {
        Ok(Message::Binary(data)) => data,
        Ok(Message::Text(text)) => Bytes::from(text),
        Ok(_) => return Heard::Nothing,
        Err(_) => return Heard::End,
    };
    match (data.first(), data.get(1)) {
        (Some(&CLOSE), Some(&STDIN)) if can_close && data.len() == 2 => Heard::Sent(Sent::StdinEnd),
        (Some(&CLOSE), Some(STDOUT..=RESIZE)) if can_close && data.len() == 2 => Heard::Nothing,
        (Some(&CLOSE), _) if can_close => Heard::End,
        (Some(&STDIN), _) => Heard::Sent(Sent::Stdin(data.slice(1..))),
        (Some(&RESIZE), _) => Heard::Sent(Sent::Resize(data.slice(1..))),
        _ => Heard::Nothing,
    }
}

struct Channels<IO>(SplitSink<WebSocketStream<IO>, Message>);

#[async_trait]
impl<IO: AsyncRead + AsyncWrite + Send + Unpin> ClientOutput for Channels<IO> {
    async fn write(&mut self, channel: Channel, data: Bytes) -> io::Result<()> {
        let number = match channel {
            Channel::Stdout => STDOUT,
            Channel::Stderr => STDERR,
            Channel::Error => ERROR,
        };
        self.0.send(message(number, &data)).await.map_err(io::Error::other)
    }

    async fn close(&mut self) {
        self.0.send(goodbye()).await.ok();
    }
}

/// The two directions of a connection whose bytes travel in binary messages.
/// k8s.io/client-go tools/portforward/tunneling_connection.go.
pub fn tunnel<IO>(
    socket: WebSocketStream<IO>,
) -> (impl AsyncRead + Send + Unpin + 'static, impl AsyncWrite + Send + Unpin + 'static)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (to, from) = socket.split();
    let to = to.sink_map_err(io::Error::other).with(|data: Bytes| ready(Ok::<_, io::Error>(Message::Binary(data))));
    (StreamReader::new(bytes(from).boxed()), SinkWriter::new(CopyToBytes::new(to)))
}

fn bytes(from: impl Stream<Item = Result<Message, Error>>) -> impl Stream<Item = io::Result<Bytes>> {
    from.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(data)) => Some(Ok(data)),
            Ok(Message::Text(_)) => Some(Err(io::Error::other("invalid message type received"))),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let heard = |data: &'static [u8], can_close| heard(Ok(Message::binary(data)), can_close);
        assert_eq!(heard(b"\x00ls\n", true), Heard::Sent(Sent::Stdin(Bytes::from_static(b"ls\n"))));
        assert_eq!(heard(b"\xff\x00", true), Heard::Sent(Sent::StdinEnd));
        assert_eq!(heard(b"\xff\x03", true), Heard::Nothing);
        assert_eq!(heard(b"\xff", true), Heard::End);
        assert_eq!(heard(b"\xff\x09", true), Heard::End);
        assert_eq!(heard(b"\xff\x00", false), Heard::Nothing, "before version 5 this is no signal");
        assert_eq!(heard(b"", true), Heard::Nothing);
        assert_eq!(heard(b"\x01x", true), Heard::Nothing);
    }
}
