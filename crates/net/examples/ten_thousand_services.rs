//! What services cost in the kernel: the whole table at once, then one more service, one change of endpoints and one
//! deletion, with ten thousand others there. Works in a network namespace of its own; needs root.
//!
//! `cargo run --release -p net --example ten_thousand_services`

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use net::{ProxyConfig, ServiceProxy};
use nix::sched::{CloneFlags, unshare};

const SERVICES: u32 = 10_000;
const ROUNDS: u32 = 200;

type Object = (String, Service, Vec<Arc<EndpointSlice>>);

fn service(number: u32, endpoints: u32) -> Object {
    let address = |base: [u8; 2]| format!("{}.{}.{}.{}", base[0], base[1], number >> 8, number & 255);
    let mut service = Service::default();
    service.metadata.name = Some(format!("service-{number}"));
    service.metadata.namespace = Some("default".to_owned());
    service.spec = Some(ServiceSpec {
        cluster_ip: Some(address([10, 100])),
        ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
        ..ServiceSpec::default()
    });
    let endpoint = |at: u32| Endpoint { addresses: vec![address([10, 200 + at as u8])], ..Endpoint::default() };
    let slice = EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Some((0..endpoints).map(endpoint).collect()),
        ports: Some(vec![EndpointPort { port: Some(8080), ..EndpointPort::default() }]),
        ..EndpointSlice::default()
    };
    (format!("default/service-{number}"), service, vec![Arc::new(slice)])
}

fn timed(rounds: u32, mut act: impl FnMut(u32)) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(&mut act);
    start.elapsed() / rounds
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut proxy = ServiceProxy::open(ProxyConfig::default())?;
    let objects: Vec<Object> = (0..SERVICES).map(|number| service(number, 2)).collect();
    let start = Instant::now();
    proxy.update(objects.iter().map(|(key, service, slices)| (key.as_str(), Some(service), slices.clone())))?;
    println!("{SERVICES} services, 2 endpoints each, at once: {:?}", start.elapsed());

    let mut update = |number: u32, endpoints: Option<u32>| {
        let (key, object, slices) = service(number, endpoints.unwrap_or(0));
        let object = endpoints.map(|_| &object);
        proxy.update([(key.as_str(), object, slices)])
    };
    let mut result = Ok(());
    let mut run = |number: u32, endpoints: Option<u32>| {
        if let Err(error) = update(number, endpoints) {
            result = Err(error);
        }
    };
    println!("add one: {:?}", timed(ROUNDS, |round| run(SERVICES + round, Some(2))));
    println!("one more endpoint: {:?}", timed(ROUNDS, |round| run(SERVICES + round, Some(3))));
    println!("delete one: {:?}", timed(ROUNDS, |round| run(SERVICES + round, None)));
    result?;
    Ok(())
}
