//! A path to its answer.

use std::sync::Arc;

use futures::StreamExt;
use mvcc::{Op, OpResponse, Txn};
use prost::Message;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::convert::{self, CLUSTER, MEMBER, TERM, header};
use super::messages as wire;
use super::refusal::refusal;
use super::sifted::Sifted;
use super::{lease, revision, watch};
use crate::api::Store;

/// The version whose protocol this is.
const VERSION: &str = "3.7.3";
/// As large as etcd takes requests (`--max-request-bytes`), and some more for what is around them.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Keys and values of one part of a streamed range come to about so many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

type Body = tonic::body::Body;
pub type HttpRequest = http::Request<hyper::body::Incoming>;
type Streamed<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// The one member of the cluster.
#[derive(Clone)]
pub struct Etcd {
    pub store: Arc<dyn Store>,
    address: Arc<str>,
}

impl Etcd {
    pub fn new(store: Arc<dyn Store>, address: String) -> Etcd {
        Etcd { store, address: address.into() }
    }

    pub async fn answer(self, request: HttpRequest) -> http::Response<Body> {
        let Some((service, method)) = request.uri().path().trim_start_matches('/').split_once('/') else {
            return Status::unimplemented("").into_http();
        };
        match (service, method) {
            ("etcdserverpb.KV", "Range") => self.unary(request, range).await,
            ("etcdserverpb.KV", "RangeStream") => self.server_stream(request, range_stream).await,
            ("etcdserverpb.KV", "Put") => self.unary(request, put).await,
            ("etcdserverpb.KV", "DeleteRange") => self.unary(request, delete_range).await,
            ("etcdserverpb.KV", "Txn") => self.unary(request, txn).await,
            ("etcdserverpb.KV", "Compact") => self.unary(request, compact).await,
            ("etcdserverpb.Watch", "Watch") => {
                self.stream(request, |etcd, requests| watch::serve(etcd.store, requests)).await
            }
            ("etcdserverpb.Lease", "LeaseGrant") => self.unary(request, lease::grant).await,
            ("etcdserverpb.Lease", "LeaseRevoke") => self.unary(request, lease::revoke).await,
            ("etcdserverpb.Lease", "LeaseKeepAlive") => self.stream(request, lease::keep_alive).await,
            ("etcdserverpb.Lease", "LeaseTimeToLive") => self.unary(request, lease::time_to_live).await,
            ("etcdserverpb.Lease", "LeaseLeases") => self.unary(request, lease::leases).await,
            ("etcdserverpb.Maintenance", "Status") => self.unary(request, status).await,
            ("etcdserverpb.Maintenance", "Alarm") => self.unary(request, alarm).await,
            ("etcdserverpb.Maintenance", "Defragment") => self.unary(request, defragment).await,
            ("etcdserverpb.Cluster", "MemberList") => self.unary(request, members).await,
            _ => Status::unimplemented(format!("unknown method {method} for service {service}")).into_http(),
        }
    }

    async fn unary<Q, A, F>(self, request: HttpRequest, call: fn(Etcd, Q) -> F) -> http::Response<Body>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        F: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let service = tower::service_fn(move |request: Request<Q>| {
            let answer = call(self.clone(), request.into_inner());
            async move { answer.await.map(Response::new) }
        });
        grpc::<A, Q>().unary(service, request).await
    }

    async fn server_stream<Q, A, F>(self, request: HttpRequest, call: fn(Etcd, Q) -> F) -> http::Response<Body>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        F: Future<Output = Result<Streamed<A>, Status>> + Send + 'static,
    {
        let service = tower::service_fn(move |request: Request<Q>| {
            let answer = call(self.clone(), request.into_inner());
            async move { answer.await.map(Response::new) }
        });
        grpc::<A, Q>().server_streaming(service, request).await
    }

    async fn stream<Q, A>(
        self,
        request: HttpRequest,
        call: fn(Etcd, Streaming<Q>) -> Streamed<A>,
    ) -> http::Response<Body>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let service = tower::service_fn(move |request: Request<Streaming<Q>>| {
            let answers = call(self.clone(), request.into_inner());
            std::future::ready(Ok::<_, Status>(Response::new(answers)))
        });
        grpc::<A, Q>().streaming(service, request).await
    }
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default()).apply_max_message_size_config(Some(REQUEST_BYTES_MAX), None)
}

async fn range(etcd: Etcd, request: wire::RangeRequest) -> Result<wire::RangeResponse, Status> {
    let sifted = Sifted(&request);
    let answer = etcd.store.range(sifted.request()).await.map_err(refusal)?;
    Ok(sifted.response(answer))
}

/// A range in parts: the header, the count and whether there is more come with the last.
async fn range_stream(etcd: Etcd, request: wire::RangeRequest) -> Result<Streamed<wire::RangeStreamResponse>, Status> {
    let mut whole = range(etcd, request).await?;
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for kv in std::mem::take(&mut whole.kvs) {
        if bytes >= CHUNK_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += kv.key.len() + kv.value.len();
        if let Some(part) = parts.last_mut() {
            part.push(kv);
        }
    }
    whole.kvs = parts.pop().unwrap_or_default();
    let first = parts.into_iter().map(|kvs| wire::RangeResponse { kvs, ..Default::default() });
    let answers = first.chain([whole]).map(|part| Ok(wire::RangeStreamResponse { range_response: Some(part) }));
    Ok(futures::stream::iter(answers.collect::<Vec<_>>()).boxed())
}

async fn put(etcd: Etcd, request: wire::PutRequest) -> Result<wire::PutResponse, Status> {
    let answer = etcd.store.txn(Txn::of(Op::Put(convert::put(request)))).await.map_err(refusal)?;
    let prev_kv = match answer.responses.first() {
        Some(OpResponse::Put { prev_kv }) => prev_kv.as_ref().map(convert::key_value),
        _ => None,
    };
    Ok(wire::PutResponse { header: header(answer.revision), prev_kv })
}

async fn delete_range(etcd: Etcd, request: wire::DeleteRangeRequest) -> Result<wire::DeleteRangeResponse, Status> {
    let answer = etcd.store.txn(Txn::of(Op::Delete(convert::delete(request)))).await.map_err(refusal)?;
    let deleted = match answer.responses.first() {
        Some(OpResponse::Delete { deleted, prev_kvs }) => convert::deleted_response(*deleted, prev_kvs),
        _ => wire::DeleteRangeResponse::default(),
    };
    Ok(wire::DeleteRangeResponse { header: header(answer.revision), ..deleted })
}

async fn txn(etcd: Etcd, request: wire::TxnRequest) -> Result<wire::TxnResponse, Status> {
    let answer = etcd.store.txn(convert::txn(&request)?).await.map_err(refusal)?;
    Ok(convert::txn_response(&request, answer))
}

async fn compact(etcd: Etcd, request: wire::CompactionRequest) -> Result<wire::CompactionResponse, Status> {
    etcd.store.compact(request.revision).await.map_err(refusal)?;
    Ok(wire::CompactionResponse { header: header(revision(&*etcd.store).await?) })
}

async fn status(etcd: Etcd, _: wire::StatusRequest) -> Result<wire::StatusResponse, Status> {
    let status = etcd.store.status().await.map_err(refusal)?;
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let index = status.revision.unsigned_abs();
    Ok(wire::StatusResponse {
        header: header(status.revision),
        version: VERSION.to_owned(),
        db_size: size(status.disk_bytes),
        leader: MEMBER,
        raft_index: index,
        raft_term: TERM,
        raft_applied_index: index,
        errors: status.write_error.into_iter().collect(),
        db_size_in_use: size(status.live_bytes),
        is_learner: false,
        storage_version: VERSION.to_owned(),
    })
}

/// There are no alarms: a full disk refuses writes until it is no longer full.
async fn alarm(etcd: Etcd, _: wire::AlarmRequest) -> Result<wire::AlarmResponse, Status> {
    Ok(wire::AlarmResponse { header: header(revision(&*etcd.store).await?), alarms: Vec::new() })
}

/// There is nothing to do: segments are given back as they are exchanged for snapshots.
async fn defragment(etcd: Etcd, _: wire::DefragmentRequest) -> Result<wire::DefragmentResponse, Status> {
    Ok(wire::DefragmentResponse { header: header(revision(&*etcd.store).await?) })
}

async fn members(etcd: Etcd, _: wire::MemberListRequest) -> Result<wire::MemberListResponse, Status> {
    let member = wire::Member {
        id: MEMBER,
        name: "windlass".to_owned(),
        peer_urls: vec![etcd.address.to_string()],
        client_urls: vec![etcd.address.to_string()],
        is_learner: false,
    };
    // The cluster's id is in the header.
    const { assert!(CLUSTER != 0) };
    Ok(wire::MemberListResponse { header: header(revision(&*etcd.store).await?), members: vec![member] })
}
