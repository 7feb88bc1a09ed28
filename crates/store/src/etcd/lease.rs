//! Leases.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::{Status, Streaming};

use super::convert::{header, seconds};
use super::messages as wire;
use super::refusal::refusal;
use super::revision;
use super::service::Etcd;
use crate::error::Error;

pub async fn grant(etcd: Etcd, request: wire::LeaseGrantRequest) -> Result<wire::LeaseGrantResponse, Status> {
    let Some(ttl) = u64::try_from(request.ttl).ok().filter(|ttl| *ttl > 0) else {
        return Err(Status::invalid_argument("etcdserver: lease TTL must be positive"));
    };
    let id = etcd.store.lease_grant(request.id, Duration::from_secs(ttl)).await.map_err(refusal)?;
    let header = header(revision(&*etcd.store).await?);
    Ok(wire::LeaseGrantResponse { header, id, ttl: request.ttl, error: String::new() })
}

pub async fn revoke(etcd: Etcd, request: wire::LeaseRevokeRequest) -> Result<wire::LeaseRevokeResponse, Status> {
    etcd.store.lease_revoke(request.id).await.map_err(refusal)?;
    Ok(wire::LeaseRevokeResponse { header: header(revision(&*etcd.store).await?) })
}

/// A lease that is not there is answered with a time to live of 0.
pub fn keep_alive(
    etcd: Etcd,
    requests: Streaming<wire::LeaseKeepAliveRequest>,
) -> Pin<Box<dyn Stream<Item = Result<wire::LeaseKeepAliveResponse, Status>> + Send>> {
    requests
        .then(move |request| {
            let etcd = etcd.clone();
            async move {
                let id = request?.id;
                let ttl = match etcd.store.lease_keep_alive(id).await {
                    Ok(ttl) => seconds(ttl),
                    Err(Error::Mvcc(mvcc::Error::LeaseNotFound)) => 0,
                    Err(error) => return Err(refusal(error)),
                };
                Ok(wire::LeaseKeepAliveResponse { header: header(revision(&*etcd.store).await?), id, ttl })
            }
        })
        .boxed()
}

pub async fn time_to_live(
    etcd: Etcd,
    request: wire::LeaseTimeToLiveRequest,
) -> Result<wire::LeaseTimeToLiveResponse, Status> {
    let leases = etcd.store.leases().await.map_err(refusal)?;
    let header = header(revision(&*etcd.store).await?);
    let Some(lease) = leases.into_iter().find(|lease| lease.id == request.id) else {
        return Ok(wire::LeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() });
    };
    Ok(wire::LeaseTimeToLiveResponse {
        header,
        id: lease.id,
        ttl: seconds(lease.left),
        granted_ttl: seconds(lease.ttl),
        keys: if request.keys { lease.keys } else { Vec::new() },
    })
}

pub async fn leases(etcd: Etcd, _: wire::LeaseLeasesRequest) -> Result<wire::LeaseLeasesResponse, Status> {
    let leases = etcd.store.leases().await.map_err(refusal)?;
    Ok(wire::LeaseLeasesResponse {
        header: header(revision(&*etcd.store).await?),
        leases: leases.into_iter().map(|lease| wire::LeaseStatus { id: lease.id }).collect(),
    })
}
