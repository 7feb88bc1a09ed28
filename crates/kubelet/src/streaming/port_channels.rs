//! Port-forward over a WebSocket with channels, which clients other than kubectl use: for the n-th port of the query
//! channel 2n carries data and 2n+1 an error, and each starts with its port's number.
//! k8s.io/cri-streaming pkg/streaming/portforward/websocket.go.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::port_forward::{READ_BYTES, Target};
use super::websocket::{self, goodbye, message};

const QUEUED_MESSAGES: usize = 16;

/// Serves until every port's connection has ended, or the client goes.
pub async fn serve<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static>(io: IO, ports: &[u16], target: Target) {
    let (mut to, mut from) = websocket::accept(io).await.split();
    let (outgoing, mut queue) = mpsc::channel(QUEUED_MESSAGES);
    let mut inward = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let Ok(channel) = u8::try_from(at * 2) else { break };
        let (data, receiver) = mpsc::channel(QUEUED_MESSAGES);
        inward.push(data);
        tokio::spawn(forward(channel, *port, target.clone(), receiver, outgoing.clone()));
    }
    drop(outgoing);
    let outward = async {
        while let Some(message) = queue.recv().await {
            if to.send(message).await.is_err() {
                return;
            }
        }
        to.send(goodbye()).await.ok();
    };
    let inward = async {
        while let Some(Ok(message)) = from.next().await {
            let Message::Binary(data) = message else { continue };
            let port = data.first().filter(|channel| *channel % 2 == 0);
            if let Some(port) = port.and_then(|channel| inward.get(usize::from(channel / 2))) {
                port.send(data.slice(1..)).await.ok();
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}

async fn forward(
    channel: u8,
    port: u16,
    target: Target,
    mut data: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Message>,
) {
    for channel in [channel, channel + 1] {
        outgoing.send(message(channel, &port.to_le_bytes())).await.ok();
    }
    let connection = match target.dial(port).await {
        Ok(connection) => connection,
        Err(words) => {
            outgoing.send(message(channel + 1, words.as_bytes())).await.ok();
            return;
        }
    };
    let (mut from, mut to) = connection.into_split();
    let inward = async {
        while let Some(data) = data.recv().await {
            if to.write_all(&data).await.is_err() {
                break;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if outgoing.send(message(channel, &buffer[..read])).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}
