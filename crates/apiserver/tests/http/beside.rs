//! Two API servers on one store.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use store::mvcc::{LeaseId, Op, RangeRequest, RangeResponse, Revision, Txn, TxnResponse};
use store::{Embedded, Error, LeaseState, Options, Status, Store, WatchRequest, WatchStream};

use super::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, ports: &Value) -> Value {
    let spec = json!({"type": "NodePort", "ports": [ports]});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn node_port(service: &Value) -> &Value {
    &service["spec"]["ports"][0]["nodePort"]
}

/// One server's way to the store, on which the other is faster: what the first service to be written has been given, the
/// other server gives to one of its own just before.
struct Slow {
    store: Arc<dyn Store>,
    other: OnceLock<Server>,
    taken: Mutex<Option<Value>>,
}

impl Slow {
    async fn overtake(&self, txn: &Txn) {
        let Some(other) = self.other.get() else { return };
        let Some(Op::Put(put)) = txn.success.first().filter(|_| self.taken.lock().unwrap().is_none()) else { return };
        if !put.key.starts_with(b"/registry/services/specs/default/") {
            return;
        }
        let port = node_port(&serde_json::from_slice(&put.value).unwrap()).clone();
        *self.taken.lock().unwrap() = Some(port.clone());
        let (code, made) =
            send(other, "POST", SERVICES, &service("faster", &json!({"port": 80, "nodePort": port}))).await;
        assert_eq!(code, 201, "{made}");
    }
}

#[async_trait::async_trait]
impl Store for Slow {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.overtake(&txn).await;
        self.store.txn(txn).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        self.store.range(request).await
    }

    async fn watch(&self, request: WatchRequest) -> WatchStream {
        self.store.watch(request).await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.store.request_progress().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        self.store.lease_grant(id, ttl).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.store.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        self.store.lease_keep_alive(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseState>, Error> {
        self.store.leases().await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.store.status().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_has_given_meanwhile_is_not_given_again() {
    let store = Arc::new(Embedded::in_memory(Options::default()));
    let slow = Arc::new(Slow { store: store.clone(), other: OnceLock::new(), taken: Mutex::default() });
    let config = || apiserver::Config {
        service_account_key: rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes(),
        node_ports: (30000, 30001),
        ..apiserver::Config::default()
    };
    let first = Server::new(config(), slow.clone()).await.unwrap();
    let second = Server::new(config(), store).await.unwrap();
    assert!(slow.other.set(second.clone()).is_ok());
    let (code, made) = send(&first, "POST", SERVICES, &service("slower", &json!({"port": 80}))).await;
    let taken = slow.taken.lock().unwrap().clone().unwrap();
    assert_eq!(code, 201, "{made}");
    assert_ne!(*node_port(&made), taken, "it had been given that one");
    for server in [&first, &second] {
        let (_, faster) = get(server, &format!("{SERVICES}/faster")).await;
        assert_eq!(*node_port(&faster), taken);
        assert_eq!(names(&get(server, SERVICES).await.1), ["faster", "kubernetes", "slower"]);
    }
    let (code, full) = send(&second, "POST", SERVICES, &service("third", &json!({"port": 80}))).await;
    assert!(code != 201 && words(&(code, full.clone())).contains("range is full"), "{full}");
    first.stop();
    second.stop();
}
