//! Leader election on a Lease: one of several processes works, the others wait.
//!
//! kubernetes/client-go tools/leaderelection: decides the times (15 s lease, 10 s to renew it, a try every 2 s).

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::{Api, Detail, Refusal};

const LEASE: Duration = Duration::from_secs(15);
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
const NAMESPACE: &str = "kube-system";

/// A candidate for the lease `name`.
pub struct Candidate {
    pub api: Api,
    pub name: &'static str,
    pub identity: String,
}

/// What was last read of the lease, and when.
struct Observed {
    record: Value,
    at: Instant,
}

impl Candidate {
    /// Waits until the lease is ours; false when told to stop before.
    pub async fn acquire(&self, stop: &CancellationToken) -> bool {
        let mut observed = None;
        loop {
            match self.attempt(&mut observed).await {
                Ok(true) => {
                    info!(lease = self.name, identity = self.identity, "became leader");
                    return true;
                }
                Ok(false) => {}
                Err(refusal) => warn!(lease = self.name, %refusal, "lease not taken"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Renews the lease until it is lost.
    pub async fn keep(&self) {
        let mut observed = None;
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_WITHIN {
            tokio::time::sleep(RETRY).await;
            match self.attempt(&mut observed).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(refusal) => warn!(lease = self.name, %refusal, "lease not renewed"),
            }
        }
    }

    /// Gives the lease up, so that another may take it at once.
    pub async fn release(&self) -> Result<(), Refusal> {
        let path = self.path();
        let lease = self.read(&path).await?;
        if lease["spec"]["holderIdentity"] == json!(self.identity) {
            let mut lease = lease;
            lease["spec"]["holderIdentity"] = json!("");
            lease["spec"]["leaseDurationSeconds"] = json!(1);
            self.api.call(Method::PUT, &path, "application/json", "application/json", Some(&lease)).await?;
        }
        Ok(())
    }

    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{}", self.name)
    }

    async fn read(&self, path: &str) -> Result<Value, Refusal> {
        let body = self.api.get(path, Detail::Whole).await?;
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Tries to take or renew the lease once.
    async fn attempt(&self, observed: &mut Option<Observed>) -> Result<bool, Refusal> {
        let json = "application/json";
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let path = self.path();
        let mut lease = match self.read(&path).await {
            Ok(lease) => lease,
            Err(refusal) if refusal.is("NotFound") => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": self.name, "namespace": NAMESPACE},
                    "spec": {"holderIdentity": self.identity, "leaseDurationSeconds": LEASE.as_secs(),
                             "acquireTime": now, "renewTime": now, "leaseTransitions": 0},
                });
                let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
                self.api.call(Method::POST, &collection, json, json, Some(&lease)).await?;
                return Ok(true);
            }
            Err(refusal) => return Err(refusal),
        };
        let record = lease["spec"].clone();
        if observed.as_ref().is_none_or(|o| o.record != record) {
            *observed = Some(Observed { record: record.clone(), at: Instant::now() });
        }
        let holder = record["holderIdentity"].as_str().unwrap_or_default();
        let term = Duration::from_secs(record["leaseDurationSeconds"].as_u64().unwrap_or(LEASE.as_secs()));
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && observed.as_ref().is_some_and(|o| o.at.elapsed() < term) {
            return Ok(false);
        }
        if !ours {
            lease["spec"]["acquireTime"] = json!(now);
            lease["spec"]["leaseTransitions"] = json!(record["leaseTransitions"].as_i64().unwrap_or(0) + 1);
        }
        lease["spec"]["holderIdentity"] = json!(self.identity);
        lease["spec"]["leaseDurationSeconds"] = json!(LEASE.as_secs());
        lease["spec"]["renewTime"] = json!(now);
        self.api.call(Method::PUT, &path, json, json, Some(&lease)).await?;
        Ok(true)
    }
}
