//! Request and response bodies, shared by the socket and the in-process transport.

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use machinery::status::Status;

/// Any error a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request or of an answer, whichever transport carries it.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An answer on its way out.
pub type HttpResponse = Response<Body>;

/// Upstream's limit for a request body, in bytes.
/// `kubernetes/apiserver pkg/server/config.go: MaxRequestBodyBytes`.
pub const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A body that is wholly known.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without a byte.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body made of pieces as they come.
pub fn stream<S>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    use futures::StreamExt;
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Reads a request's body, refusing one over [`REQUEST_BYTES_MAX`] with upstream's words.
pub async fn read(mut body: Body) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("unable to read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > REQUEST_BYTES_MAX {
            return Err(Status::too_large(format!("limit is {REQUEST_BYTES_MAX}")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// An answer with a content type and a body.
pub fn answer(code: StatusCode, content_type: &'static str, body: Body) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A code, and nothing else.
pub fn bare(code: StatusCode) -> HttpResponse {
    let mut response = answer(code, "", empty());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// A plain-text answer, as the health endpoints and the router's own refusals give.
pub fn text(code: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    answer(code, "text/plain; charset=utf-8", full(body))
}

/// A JSON document that is no API object.
pub fn json(code: StatusCode, value: &serde_json::Value) -> HttpResponse {
    answer(code, "application/json", full(value.to_string()))
}

/// The same, laid out for people to read, as upstream always sends some.
pub fn pretty(value: &serde_json::Value) -> Result<HttpResponse, Status> {
    let text = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
    Ok(answer(StatusCode::OK, "application/json", full(text)))
}
