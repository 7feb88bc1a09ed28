//! The one value that a typed reader refuses and an API server may write: the time of a condition nobody gave, `null`.
//!
//! Such a condition in one object would otherwise stop every watch that object is part of.
//! `kubernetes/apimachinery pkg/apis/meta/v1/time.go: MarshalJSON`.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::header::CONTENT_TYPE;
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt, StreamBody};

use crate::http::{Body, BoxError};

const ABSENT: &[u8] = br#""lastTransitionTime":null"#;
const ZERO: &[u8] = br#""lastTransitionTime":"0001-01-01T00:00:00Z""#;

/// The answer with the zero time written out wherever it is JSON.
pub fn filled<B>(answer: http::Response<B>) -> http::Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let json =
        answer.headers().get(CONTENT_TYPE).is_some_and(|content| content.as_bytes().starts_with(b"application/json"));
    answer.map(|body| {
        let body = body.map_err(Into::into);
        if !json {
            return body.boxed_unsync();
        }
        let pieces = BodyDataStream::new(body).map_ok(Some).chain(futures::stream::iter([Ok(None)]));
        let filled = pieces.scan(Filler::default(), |filler, piece| {
            let text = piece.map(|piece| match piece {
                Some(piece) => filler.push(piece),
                None => filler.end(),
            });
            std::future::ready(Some(text.map(Frame::data)))
        });
        StreamBody::new(filled).boxed_unsync()
    })
}

/// Replaces [`ABSENT`] in pieces of text, wherever they are cut.
#[derive(Default)]
struct Filler {
    /// The end of the last piece, when it may be the beginning of what is replaced.
    held: Vec<u8>,
}

impl Filler {
    fn push(&mut self, piece: Bytes) -> Bytes {
        let whole =
            if self.held.is_empty() { piece } else { [std::mem::take(&mut self.held), piece.to_vec()].concat().into() };
        let kept = (1..ABSENT.len()).rev().find(|&length| whole.ends_with(&ABSENT[..length])).unwrap_or(0);
        let (text, begun) = whole.split_at(whole.len() - kept);
        self.held = begun.to_vec();
        let mut found = memchr::memmem::find_iter(text, ABSENT).peekable();
        if found.peek().is_none() {
            return whole.slice(..text.len());
        }
        let (mut filled, mut from) = (Vec::with_capacity(text.len() + ZERO.len()), 0);
        for at in found {
            filled.extend_from_slice(&text[from..at]);
            filled.extend_from_slice(ZERO);
            from = at + ABSENT.len();
        }
        filled.extend_from_slice(&text[from..]);
        filled.into()
    }

    fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_filled_wherever_the_text_is_cut() {
        let text = r#"[{"lastTransitionTime":null,"x":"\"lastTransitionTime\":null"},{"lastTransitionTime":null}]"#;
        let zero = r#""lastTransitionTime":"0001-01-01T00:00:00Z""#;
        let wanted = format!(r#"[{{{zero},"x":"\"lastTransitionTime\":null"}},{{{zero}}}]"#);
        for cut in 0..text.len() {
            let mut filler = Filler::default();
            let pieces =
                [&text[..cut], &text[cut..]].map(|piece| filler.push(Bytes::copy_from_slice(piece.as_bytes())));
            let got = [pieces[0].to_vec(), pieces[1].to_vec(), filler.end().to_vec()].concat();
            assert_eq!(String::from_utf8(got).unwrap(), wanted, "cut at {cut}");
        }
    }
}
