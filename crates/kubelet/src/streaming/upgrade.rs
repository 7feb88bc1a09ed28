//! The switch from HTTP to a streaming protocol: which one both sides speak, and the answer that says so.

use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::server::{Body, body, text};

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Spdy,
}

/// What client and server agreed on, and the answer to send.
#[derive(Debug)]
pub struct Agreed {
    pub transport: Transport,
    /// One of the names the server offered; empty when the client named none.
    pub protocol: &'static str,
    pub response: Response<Body>,
}

/// The subprotocols that the server speaks over each transport.
pub struct Offer {
    pub websocket: &'static [&'static str],
    pub spdy: &'static [&'static str],
}

/// # Errors
/// The answer of a refusal. k8s.io/streaming pkg/httpstream/httpstream.go (Handshake) and pkg/httpstream/spdy/upgrade.go:
/// status and words for SPDY; pkg/httpstream/wsstream/conn.go for WebSocket.
pub fn agree(headers: &HeaderMap, offer: &Offer) -> Result<Agreed, Box<Response<Body>>> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = listed(headers, &CONNECTION).iter().any(|option| option.eq_ignore_ascii_case("upgrade"));
    match upgrade {
        name if asked && name.eq_ignore_ascii_case("websocket") => websocket(headers, offer.websocket),
        name if asked && name.eq_ignore_ascii_case(SPDY) => spdy(headers, offer.spdy),
        _ => refuse(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request"),
    }
}

fn refuse(status: StatusCode, words: impl Into<String>) -> Result<Agreed, Box<Response<Body>>> {
    Err(Box::new(text(status, words.into())))
}

fn websocket(headers: &HeaderMap, offered: &'static [&'static str]) -> Result<Agreed, Box<Response<Body>>> {
    let version = headers.get(http::header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| version) else {
        return refuse(StatusCode::BAD_REQUEST, "bad websocket version or key");
    };
    let mut asked = listed(headers, &SEC_WEBSOCKET_PROTOCOL);
    if asked.is_empty() {
        asked.push("");
    }
    let Some(protocol) = first_common(&asked, offered) else {
        let words = format!("requested protocol(s) are not supported: {asked:?}; supports {offered:?}");
        return refuse(StatusCode::FORBIDDEN, words);
    };
    let mut response = switching("websocket");
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, error.to_string())))?;
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(Agreed { transport: Transport::WebSocket, protocol, response })
}

fn spdy(headers: &HeaderMap, offered: &'static [&'static str]) -> Result<Agreed, Box<Response<Body>>> {
    let asked = listed(headers, &PROTOCOL_VERSION);
    if asked.is_empty() {
        let count = headers.keys_len();
        let words = format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {count} headers"
        );
        return refuse(StatusCode::BAD_REQUEST, words);
    }
    let Some(protocol) = first_common(&asked, offered) else {
        let words = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            asked.join(" "),
            offered.join(" ")
        );
        let mut response = text(StatusCode::FORBIDDEN, words);
        for name in offered {
            response.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(name));
        }
        return Err(Box::new(response));
    };
    let mut response = switching(SPDY);
    response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    Ok(Agreed { transport: Transport::Spdy, protocol, response })
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(body(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

/// The values of a header that may be repeated and hold several, separated by commas.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
}

/// The client's order decides.
fn first_common(asked: &[&str], offered: &'static [&'static str]) -> Option<&'static str> {
    asked.iter().find_map(|asked| offered.iter().find(|offered| *offered == asked).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer =
        Offer { websocket: &["v5.channel.k8s.io", "v4.channel.k8s.io", ""], spdy: &["v4.channel.k8s.io"] };

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn a_websocket_is_answered_with_the_first_known_protocol() {
        let asked = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v9.channel.k8s.io, v5.channel.k8s.io,v4.channel.k8s.io"),
        ]);
        let agreed = agree(&asked, &OFFER).unwrap();
        assert_eq!((agreed.transport, agreed.protocol), (Transport::WebSocket, "v5.channel.k8s.io"));
        assert_eq!(agreed.response.status(), 101);
        // The key and its answer are the example of RFC 6455.
        assert_eq!(agreed.response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(agreed.response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    }

    #[test]
    fn spdy_is_refused_with_what_would_be_accepted() {
        let asked = |versions| {
            headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", versions)])
        };
        let agreed = agree(&asked("v5.channel.k8s.io, v4.channel.k8s.io"), &OFFER).unwrap();
        assert_eq!((agreed.transport, agreed.protocol), (Transport::Spdy, "v4.channel.k8s.io"));
        let refused = agree(&asked("v0"), &OFFER).unwrap_err();
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.headers()["x-accepted-stream-protocol-versions"], "v4.channel.k8s.io");
        assert_eq!(agree(&headers(&[]), &OFFER).unwrap_err().status(), 400);
    }
}
