//! `healthCheckNodePort`: tells a load balancer whether a service with `externalTrafficPolicy: Local` has endpoints on
//! this node.
//!
//! kubernetes/kubernetes pkg/proxy/healthcheck/service_health.go: what is said, and with which codes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::http::{self as pages, Page};
use crate::proxy_status::Status;

/// One port that is open.
struct Open {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The ports of all services that have one.
pub(crate) struct HealthPorts {
    status: Arc<Status>,
    address: IpAddr,
    /// By service.
    open: HashMap<String, Open>,
}

impl HealthPorts {
    pub fn new(status: Arc<Status>) -> HealthPorts {
        HealthPorts { status, address: Ipv4Addr::UNSPECIFIED.into(), open: HashMap::new() }
    }

    /// Opens, closes and updates so that these and no others are served: port, service, local endpoints. `false` when one
    /// could not be opened.
    pub async fn sync(&mut self, wanted: &[(u16, String, usize)]) -> bool {
        self.open.retain(|service, open| wanted.iter().any(|(port, name, _)| (port, name) == (&open.port, service)));
        let mut all = true;
        for (port, service, endpoints) in wanted {
            if let Some(open) = self.open.get(service) {
                open.endpoints.store(*endpoints, Ordering::Relaxed);
                continue;
            }
            match TcpListener::bind(SocketAddr::new(self.address, *port)).await {
                Ok(listener) => drop(self.open.insert(service.clone(), self.serve(listener, service, *endpoints))),
                Err(error) => {
                    all = false;
                    tracing::error!(%error, service, port, "health check of a service cannot be served, trying again");
                }
            }
        }
        all
    }

    fn serve(&self, listener: TcpListener, service: &str, endpoints: usize) -> Open {
        let port = listener.local_addr().map_or(0, |address| address.port());
        let endpoints = Arc::new(AtomicUsize::new(endpoints));
        let (status, count, service) = (self.status.clone(), endpoints.clone(), service.to_owned());
        let say = move |_: &str| answer(&service, count.load(Ordering::Relaxed), status.healthy(Timestamp::now()));
        Open { port, endpoints, serving: tokio::spawn(pages::serve(listener, Arc::new(say))) }
    }
}

fn answer(service: &str, endpoints: usize, healthy: bool) -> Page {
    let (namespace, name) = service.split_once('/').unwrap_or_default();
    let code = if endpoints > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\
         \t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let mut page = pages::page(code, "application/json", text);
    page.headers_mut()
        .insert(HeaderName::from_static("x-load-balancing-endpoint-weight"), HeaderValue::from(endpoints));
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn get(port: u16) -> Result<String, std::io::ErrorKind> {
        let ask = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: lb\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().map_err(|error: std::io::Error| error.kind())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_balancer_hears_of_local_endpoints() {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        let status = Arc::new(Status::new());
        let mut ports = HealthPorts { address: Ipv4Addr::LOCALHOST.into(), ..HealthPorts::new(status.clone()) };
        let mut sync = async |endpoints: Option<usize>| {
            let wanted: Vec<_> = endpoints.into_iter().map(|count| (port, "shop/web".to_owned(), count)).collect();
            ports.sync(&wanted).await
        };
        assert!(!sync(Some(2)).await, "somebody has the port");
        drop(free);
        assert!(sync(Some(2)).await);
        let told = get(port).unwrap();
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("x-load-balancing-endpoint-weight: 2"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let wanted = serde_json::json!({"service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2,
            "serviceProxyHealthy": true});
        assert_eq!(body, wanted);
        assert!(sync(Some(0)).await);
        assert!(get(port).unwrap().starts_with("HTTP/1.1 503 "));
        assert!(sync(Some(1)).await);
        status.updated(std::time::Duration::ZERO, Timestamp::UNIX_EPOCH);
        status.queued(1, 0, Timestamp::UNIX_EPOCH);
        assert!(get(port).unwrap().starts_with("HTTP/1.1 503 "), "the rules may be wrong");
        assert!(sync(None).await);
        while get(port) != Err(std::io::ErrorKind::ConnectionRefused) {
            tokio::task::yield_now().await;
        }
    }
}
