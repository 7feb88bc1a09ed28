//! A plain answer as the messages of a WebSocket, for a client that asked for a log over one.
//! `kubernetes/apimachinery pkg/util/httpstream/wsstream/stream.go`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, StatusCode};
use http_body_util::BodyDataStream;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http::{Body, HttpResponse};

/// Every message is a piece of the answer as it is.
const BINARY: &str = "binary.k8s.io";
/// The same in base64, for clients that read text alone.
const BASE64: &str = "base64.binary.k8s.io";

/// A client's wish to have the answer in messages.
pub struct Wish {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    /// The protocol chosen; `None` when the client named none.
    protocol: Option<&'static str>,
}

/// Takes the wish out of the request, which is a plain one then; `None` when it was one before.
pub fn wished(request: &mut Request<Body>) -> Result<Option<Wish>, Status> {
    let asks = request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let Some(key) = request.headers_mut().remove(SEC_WEBSOCKET_KEY).filter(|_| asks) else { return Ok(None) };
    let protocol = protocol(request.headers())?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Status::internal)?;
    let upgrade = hyper::upgrade::on(&mut *request);
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION] {
        request.headers_mut().remove(name);
    }
    Ok(Some(Wish { upgrade, accept, protocol }))
}

fn protocol(headers: &HeaderMap) -> Result<Option<&'static str>, Status> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> =
        offered.flat_map(|value| value.split(',')).map(str::trim).filter(|p| !p.is_empty()).collect();
    if offered.is_empty() {
        return Ok(None);
    }
    let chosen = [BINARY, BASE64].into_iter().find(|known| offered.contains(known));
    chosen.map(Some).ok_or_else(|| {
        Status::bad_request(format!(
            "requested protocol(s) are not supported: {offered:?}; supports [{BASE64} {BINARY}]"
        ))
    })
}

impl Wish {
    /// The answer in messages; one that tells of a failure stays as it is.
    pub fn grant(self, answer: HttpResponse) -> HttpResponse {
        if !answer.status().is_success() {
            return answer;
        }
        let mut switched = http::Response::new(crate::http::empty());
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switched.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        let as_text = self.protocol == Some(BASE64);
        tokio::spawn(async move {
            match self.upgrade.await {
                Ok(io) => {
                    let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
                    if let Err(error) = say(socket, answer.into_body(), as_text).await {
                        tracing::debug!(%error, "messages ended");
                    }
                }
                Err(error) => tracing::debug!(%error, "upgrade"),
            }
        });
        switched
    }
}

/// Sends the body piece by piece until it or the client ends.
async fn say(
    mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    body: Body,
    as_text: bool,
) -> Result<(), Error> {
    let mut pieces = BodyDataStream::new(body);
    loop {
        tokio::select! {
            piece = pieces.next() => match piece {
                Some(Ok(piece)) if as_text => socket.send(Message::text(STANDARD.encode(piece))).await?,
                Some(Ok(piece)) => socket.send(Message::Binary(piece)).await?,
                Some(Err(error)) => {
                    tracing::debug!(%error, "the answer ended early");
                    return socket.close(None).await;
                }
                None => return socket.close(None).await,
            },
            heard = socket.next() => match heard {
                // What a client says means nothing here but its goodbye.
                Some(Ok(message)) if !message.is_close() => {}
                _ => return Ok(()),
            },
        }
    }
}
