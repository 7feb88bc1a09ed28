//! Whole sessions over an in-memory connection, each with a client that speaks the wire's own messages.

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use pods::ports::Output;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::spdy::testing::{Client, Frame};
use super::*;

const FAILURE: &str = "error executing command in container";

/// `cat`: writes its input to stdout, the terminal's sizes to stderr, and exits with the code when its input ends.
fn cat(code: i32) -> Session {
    let (stdin, typed) = mpsc::channel::<Bytes>(1);
    let (resize, sizes) = mpsc::channel::<(u16, u16)>(1);
    let ended = tokio_util::sync::CancellationToken::new();
    let (done, exit) = (ended.clone(), ended.clone());
    let typed = typed.map(Output::Stdout).chain(futures::stream::once(async move {
        done.cancel();
        Output::Stderr(Bytes::from_static(b"bye"))
    }));
    let sizes = sizes.map(|(columns, rows)| Output::Stderr(format!("{columns}x{rows}").into()));
    let output = futures::stream::select(typed, sizes.take_until(ended.cancelled_owned()));
    let exit = Box::pin(async move {
        exit.cancelled().await;
        Ok(code)
    });
    Session { stdin: Some(stdin), output: output.boxed(), resize, exit, kill: Box::new(|| {}) }
}

fn all() -> StreamOptions {
    StreamOptions { command: vec!["cat".into()], stdin: true, stdout: true, stderr: true, tty: false }
}

fn served(
    transport: Transport,
    protocol: &'static str,
    open: impl Future<Output = Result<Session, RuntimeError>> + Send + 'static,
) -> DuplexStream {
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(command(far, transport, protocol, all(), FAILURE, open));
    near
}

async fn websocket(io: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

async fn binary(socket: &mut WebSocketStream<DuplexStream>) -> Bytes {
    match socket.next().await.unwrap().unwrap() {
        Message::Binary(data) => data,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_client_types_resizes_ends_its_input_and_is_told_the_exit_code() {
    let mut socket = websocket(served(Transport::WebSocket, websocket::V5, async { Ok(cat(3)) })).await;
    assert_eq!(binary(&mut socket).await, &[1][..], "the connection stands");
    socket.send(Message::binary(&b"\x00hello"[..])).await.unwrap();
    assert_eq!(binary(&mut socket).await, &b"\x01hello"[..]);
    socket.send(Message::binary(&b"\x04{\"Width\":80,\"Height\":24}"[..])).await.unwrap();
    assert_eq!(binary(&mut socket).await, &b"\x0280x24"[..]);
    socket.send(Message::binary(&b"\xff\x00"[..])).await.unwrap();
    assert_eq!(binary(&mut socket).await, &b"\x02bye"[..]);
    let status = binary(&mut socket).await;
    assert_eq!(status[0], 3);
    let status: Value = serde_json::from_slice(&status[1..]).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1000);
    assert!(socket.next().await.is_none());
}

#[tokio::test]
async fn a_command_that_cannot_run_is_an_internal_error() {
    let open = async { Err(RuntimeError::CannotRun { code: 127, message: "no such file".into() }) };
    let mut socket = websocket(served(Transport::WebSocket, websocket::V4, open)).await;
    assert_eq!(binary(&mut socket).await, &[1][..]);
    let status: Value = serde_json::from_slice(&binary(&mut socket).await[1..]).unwrap();
    assert_eq!(status["message"], format!("Internal error occurred: {FAILURE}: no such file"));
}

#[tokio::test]
async fn a_client_that_goes_ends_the_session() {
    let (mut session, gone) = (cat(0), tokio::sync::oneshot::channel::<()>());
    let held = gone.0;
    session.kill = Box::new(move || drop(held));
    let mut socket = websocket(served(Transport::WebSocket, websocket::V5, async { Ok(session) })).await;
    assert_eq!(binary(&mut socket).await, &[1][..]);
    drop(socket);
    assert!(gone.1.await.is_err(), "the session was dropped");
}

#[tokio::test]
async fn a_spdy_client_sees_its_streams_and_a_success() {
    let mut client = Client::new(served(Transport::Spdy, "v4.channel.k8s.io", async { Ok(cat(0)) }));
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        client.open(id, &[("streamType", kind)]).await;
    }
    client.data(3, b"hello", true).await;
    let data = |id, fin, data: &'static [u8]| Some(Frame::Data { id, fin, data: Bytes::from_static(data) });
    assert_eq!(client.next().await, data(5, false, b"hello"));
    assert_eq!(client.next().await, data(7, false, b"bye"));
    assert_eq!(client.next().await, data(1, false, br#"{"metadata":{},"status":"Success"}"#));
    for id in [5, 7, 1] {
        assert_eq!(client.next().await, data(id, true, b""));
    }
    assert!(matches!(client.next().await, Some(Frame::GoAway { .. })));
    assert_eq!(client.next().await, None);
}

/// A server that reads all of the request before it answers, so that only a half-close lets it go on.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            stream.write_all(&request).await.unwrap();
        }
    });
    port
}

fn forwarding(transport: Transport, protocol: &'static str, ports: Vec<u16>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(4096);
    let target = Target { pod: "web".into(), network_namespace: None };
    tokio::spawn(forward(far, transport, protocol, ports, target));
    near
}

async fn forward_one<IO: AsyncRead + AsyncWrite>(mut client: Client<IO>) {
    let port = echo_server().await.to_string();
    for (error, request) in [(1, "0"), (5, "1")] {
        client.open(error, &[("streamType", "error"), ("port", &port), ("requestID", request)]).await;
        client.send(Frame::Data { id: error, fin: true, data: Bytes::new() }).await;
        let data = error + 2;
        client.open(data, &[("streamType", "data"), ("port", &port), ("requestID", request)]).await;
        client.data(data, b"GET /", true).await;
        let frame = |id, fin, data: &'static [u8]| Some(Frame::Data { id, fin, data: Bytes::from_static(data) });
        assert_eq!(client.next().await, frame(data, false, b"GET /"));
        assert_eq!(client.next().await, frame(data, true, b""));
        assert_eq!(client.next().await, frame(error, true, b""));
    }
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy() {
    forward_one(Client::new(forwarding(Transport::Spdy, port_forward::PROTOCOL, Vec::new()))).await;
}

#[tokio::test]
async fn ports_are_forwarded_over_a_tunnel() {
    let io = forwarding(Transport::WebSocket, port_forward::TUNNEL_PROTOCOL, Vec::new());
    let (read, write) = websocket::tunnel(websocket(io).await);
    forward_one(Client::new(tokio::io::join(read, write))).await;
}

#[tokio::test]
async fn a_port_that_nobody_serves_is_told_on_the_error_stream() {
    let mut client = Client::new(forwarding(Transport::Spdy, port_forward::PROTOCOL, Vec::new()));
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    client.open(1, &[("streamType", "error"), ("port", &port)]).await;
    client.open(3, &[("streamType", "data"), ("port", &port)]).await;
    let Some(Frame::Data { id: 1, data, .. }) = client.next().await else { panic!("no message") };
    let words = String::from_utf8(data.to_vec()).unwrap();
    assert!(words.starts_with(&format!("error forwarding port {port} to pod web, uid : failed to connect")), "{words}");
    assert!(matches!(client.next().await, Some(Frame::RstStream { id: 3, .. })));
    assert_eq!(client.next().await, Some(Frame::Data { id: 1, fin: true, data: Bytes::new() }));
    client.open(5, &[("streamType", "data"), ("port", "0")]).await;
    assert!(matches!(client.next().await, Some(Frame::RstStream { id: 5, .. })));
}

#[tokio::test]
async fn ports_of_the_query_are_forwarded_over_channels() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut socket = websocket(forwarding(Transport::WebSocket, websocket::V4, vec![port])).await;
    let number = port.to_le_bytes();
    assert_eq!(binary(&mut socket).await, &[&[0], &number[..]].concat()[..]);
    assert_eq!(binary(&mut socket).await, &[&[1], &number[..]].concat()[..]);
    let (mut served, _) = listener.accept().await.unwrap();
    socket.send(Message::binary(&b"\x00ping"[..])).await.unwrap();
    let mut heard = [0; 4];
    served.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    served.write_all(b"pong").await.unwrap();
    assert_eq!(binary(&mut socket).await, &b"\x00pong"[..]);
    drop(served);
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
}
