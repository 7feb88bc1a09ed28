//! The client of an exec or attach over SPDY: one stream for each of error, stdin, stdout, stderr and resize, opened by
//! the client in any order. k8s.io/cri-streaming pkg/streaming/remotecommand/httpstream.go.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::StreamOptions;
use super::session::{Channel, Client, ClientOutput, Sent, StatusForm};
use super::spdy::{Connection, Control, Input, Output, Stream};

pub const PROTOCOLS: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for the streams that the options promise.
///
/// # Errors
/// The client did not open them in time, or went.
pub async fn client(mut connection: Connection, protocol: &str, options: &StreamOptions) -> io::Result<Client> {
    let resizes = options.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let expected =
        1 + [options.stdin, options.stdout, options.stderr, resizes].into_iter().filter(|wanted| *wanted).count();
    let opened = tokio::time::timeout(CREATION_TIMEOUT, open(&mut connection, expected)).await;
    let Ok(opened) = opened else {
        connection.control().close().await;
        return Err(io::Error::new(io::ErrorKind::TimedOut, "timed out waiting for client to create streams"));
    };
    let mut streams = opened?;
    let mut take = |kind: &str| {
        let at = streams.iter().position(|stream| stream.headers.get("streamType") == Some(kind))?;
        Some(streams.swap_remove(at))
    };
    let (stdin, resize) = (take("stdin"), take("resize"));
    let output = Streams {
        error: take("error").map(|stream| stream.output),
        stdout: take("stdout").map(|stream| stream.output),
        stderr: take("stderr").map(|stream| stream.output),
        control: connection.control(),
    };
    let events = events(stdin.map(|stream| stream.input), resize.map(|stream| stream.input), connection.control());
    let status = if protocol == "v4.channel.k8s.io" { StatusForm::Json } else { StatusForm::Text };
    Ok(Client { events, output: Box::new(output), status })
}

async fn open(connection: &mut Connection, expected: usize) -> io::Result<Vec<Stream>> {
    let mut streams: Vec<Stream> = Vec::new();
    while streams.len() < expected {
        let stream = connection.accept().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        match stream.headers.get("streamType") {
            Some("error" | "stdin" | "stdout" | "stderr" | "resize") => streams.push(stream),
            other => tracing::warn!(stream_type = other, "unexpected stream type"),
        }
    }
    Ok(streams)
}

fn events(stdin: Option<Input>, resize: Option<Input>, control: Control) -> BoxStream<'static, Sent> {
    let read = |input: Input| stream::unfold(input, |mut input| async { input.next().await.map(|data| (data, input)) });
    let stdin = stream::iter(stdin)
        .flat_map(move |input| read(input).map(Sent::Stdin).chain(stream::once(async { Sent::StdinEnd })));
    let resize = stream::iter(resize).flat_map(move |input| read(input).map(Sent::Resize));
    // With both at their end the client still reads; it is gone when the connection is.
    let gone = stream::once(async move { control.ended().await }).filter_map(|()| async { None });
    stream::select(stdin.boxed(), resize.boxed()).chain(gone).boxed()
}

struct Streams {
    error: Option<Output>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    control: Control,
}

#[async_trait]
impl ClientOutput for Streams {
    async fn write(&mut self, channel: Channel, data: Bytes) -> io::Result<()> {
        let stream = match channel {
            Channel::Stdout => &self.stdout,
            Channel::Stderr => &self.stderr,
            Channel::Error => &self.error,
        };
        match stream {
            Some(stream) => stream.write(data).await,
            None => Ok(()),
        }
    }

    async fn close(&mut self) {
        for stream in [&self.stdout, &self.stderr, &self.error].into_iter().flatten() {
            stream.close().await;
        }
        self.control.close().await;
    }
}
