//! gRPC probes: `grpc.health.v1.Health/Check`, with its two tiny messages written by hand.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use journal::{Outcome, Symptom};
use tokio::time::timeout;

use super::http::connect;
use super::{Told, unhealthy};

/// HealthCheckResponse.ServingStatus.
const SERVING: u64 = 1;
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

pub(super) async fn ask(address: IpAddr, port: u16, service: &str, limit: Duration) -> Told {
    let begun = tokio::time::Instant::now();
    let stream = match connect(&address.to_string(), port, limit).await {
        Ok(stream) => stream,
        Err((Outcome::Unhealthy(symptom), _)) => {
            let text = format!(
                "timeout: failed to connect service \"{address}:{port}\" within {}s: context deadline exceeded",
                limit.as_secs()
            );
            return unhealthy(symptom, text);
        }
        Err(told) => return told,
    };
    match timeout(limit.saturating_sub(begun.elapsed()), check(stream, address, port, service)).await {
        Ok(Ok(SERVING)) => (Outcome::Healthy, "service healthy".into()),
        Ok(Ok(status)) => {
            let status = STATUSES.get(status as usize).unwrap_or(&"UNKNOWN").to_string();
            let text = format!("service unhealthy (responded with {status:?})");
            unhealthy(Symptom::GrpcStatus { status }, text)
        }
        Ok(Err(error)) => {
            let text = format!("error: health rpc probe failed: {error}");
            unhealthy(Symptom::Connection { error }, text)
        }
        Err(_) => {
            let limit_ms = limit.as_millis() as u64;
            let text = format!("timeout: health rpc did not complete within {}s", limit.as_secs());
            unhealthy(Symptom::Deadline { limit_ms, output: String::new() }, text)
        }
    }
}

async fn check(stream: tokio::net::TcpStream, address: IpAddr, port: u16, service: &str) -> Result<u64, String> {
    let told = |error: hyper::Error| error.to_string();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(told)?;
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let request =
        http::Request::post(format!("http://{}/grpc.health.v1.Health/Check", std::net::SocketAddr::new(address, port)))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.37")
            .body(Full::new(Bytes::from(request(service))))
            .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(told)?;
    let early = code(answer.headers());
    let body = answer.into_body().collect().await.map_err(told)?;
    let code = early.or_else(|| body.trailers().and_then(code));
    drop(driver);
    match code.as_deref() {
        None | Some("0") => status(&body.to_bytes()).ok_or_else(|| "malformed answer".into()),
        Some("12") => Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".into()),
        Some(code) => Err(format!("rpc error: code = {code}")),
    }
}

fn code(headers: &http::HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_string())
}

/// `HealthCheckRequest { service = 1 }` in a gRPC frame.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length as u8) | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

/// `HealthCheckResponse { status = 1 }`; an empty message is status 0.
fn status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_at_checked(5)?;
    if head[0] != 0 {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, value, ..] if *value < 0x80 => Some((*value).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_two_messages() {
        assert_eq!(super::request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(super::request(""), [0, 0, 0, 0, 0]);
        assert_eq!(super::status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(super::status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(super::status(&[1]), None);
    }
}
