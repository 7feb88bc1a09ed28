//! An API server for tests: a function from method and path to an answer.
#![cfg(test)]

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};

use crate::api::Api;

/// Answers each request with a status code and an object; a watch is opened and stays silent.
pub fn api(answer: impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static) -> Api {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            if path.contains("watch=true") {
                let silent = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
                return Ok::<_, Infallible>(Response::new(StreamBody::new(silent).boxed_unsync()));
            }
            let (code, object) = answer(request.method(), &path);
            Ok(Response::builder().status(code).body(Full::from(object.to_string()).boxed_unsync()).unwrap())
        }
    });
    Api::new(kube::Client::new(service, "default"))
}

/// Refuses everything.
pub fn refusing_api() -> Api {
    api(|_, _| (500, json!({"message": "refused"})))
}
