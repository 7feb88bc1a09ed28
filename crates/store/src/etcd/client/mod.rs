//! A store that an etcd elsewhere keeps. A request that fails before it is sent is sent again, and so is one that only
//! reads; what etcd refuses is refused in the words of the embedded store (`refusal.rs`). Watches live on streams of their
//! own and outlive connections (`watch.rs`).

mod connection;
mod tls;
mod watch;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::uri::PathAndQuery;
use mvcc::{LeaseId, RangeRequest, RangeResponse, Revision, Txn, TxnResponse};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Code;
use tonic_prost::ProstCodec;

use super::convert::{range_of, seconds, txn_of, wire_range, wire_txn};
use super::messages as wire;
use super::refusal::{Effect, understood};
use crate::api::{LeaseState, Status, Store, WatchRequest, WatchStream};
use crate::error::Error;
pub use connection::Endpoint;
use connection::{Connection, Connections, NotSent};
pub use tls::TlsFiles;

/// How often, and for how long, what can be sent again is (`etcd client/v3/options.go`: 100 times every 25 ms); once in any
/// case, for a connection that breaks may have kept silent for long.
const RETRY_EVERY: Duration = Duration::from_millis(25);
const RETRY_MAX: Duration = Duration::from_millis(2500);

/// The client of an etcd. Clones are the same one.
#[derive(Clone)]
pub struct Client {
    connections: Arc<Connections>,
    /// The watches that tell their progress when asked: where each hears of the revision that is to be reached.
    watches: Arc<Mutex<Vec<mpsc::UnboundedSender<Revision>>>>,
}

/// How a call has ended that has not succeeded.
enum Failed {
    /// Nobody could be asked.
    NotSent(Error),
    /// The connection broke: whether it was done, nobody knows.
    Lost { place: String, reason: String },
    /// etcd says no.
    Answered { place: String, status: tonic::Status },
}

impl Failed {
    fn new(status: tonic::Status, connection: &Connection) -> Self {
        let place = connection.place();
        match std::error::Error::source(&status) {
            None => Self::Answered { place, status },
            Some(source) if source.is::<NotSent>() => {
                Self::NotSent(Error::Unavailable { place, reason: status.message().to_owned() })
            }
            Some(_) => Self::Lost { place, reason: status.message().to_owned() },
        }
    }

    /// The member cannot serve now, and may in a moment; another may meanwhile.
    fn is_members(&self) -> bool {
        match self {
            Self::NotSent(_) => false,
            Self::Lost { .. } => true,
            Self::Answered { status, .. } => status.code() == Code::Unavailable,
        }
    }

    fn may_be_sent_again(&self, effect: Effect) -> bool {
        match (self, effect) {
            (Self::NotSent(_), _) => true,
            (_, Effect::Read) => self.is_members(),
            (_, Effect::Write) => false,
        }
    }

    fn error(self, effect: Effect) -> Error {
        match (self, effect) {
            (Self::NotSent(error), _) => error,
            (Self::Lost { place, reason }, Effect::Read) => Error::Unavailable { place, reason },
            (Self::Lost { place, reason }, Effect::Write) => Error::Unknown { place, reason },
            (Self::Answered { place, status }, effect) => understood(&status, effect, &place),
        }
    }
}

impl Client {
    /// Nothing is connected before the first request; but files that cannot be used are told at once.
    pub fn new(endpoints: Vec<Endpoint>, tls: TlsFiles) -> Result<Self, Error> {
        if endpoints.iter().any(Endpoint::tls) {
            tls.config()?;
        }
        Ok(Self { connections: Arc::new(Connections::new(endpoints, tls)), watches: Arc::default() })
    }

    /// All members by their addresses.
    pub fn places(&self) -> String {
        self.connections.places()
    }

    async fn once<A, F>(&self, call: &(impl Fn(Connection) -> F + Sync)) -> Result<A, Failed>
    where
        F: Future<Output = Result<A, tonic::Status>> + Send,
    {
        let connection = self.connections.get().await.map_err(Failed::NotSent)?;
        let answer = call(connection.clone()).await.map_err(|status| Failed::new(status, &connection));
        if let Err(failed) = &answer
            && failed.is_members()
        {
            self.connections.retire(&connection);
        }
        answer
    }

    /// Calls, and calls again while that can do no harm and there is hope.
    async fn calls<A, F>(&self, effect: Effect, call: impl Fn(Connection) -> F + Sync) -> Result<A, Error>
    where
        F: Future<Output = Result<A, tonic::Status>> + Send,
    {
        let begun = tokio::time::Instant::now();
        let mut repeated = false;
        loop {
            match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) if failed.may_be_sent_again(effect) && (!repeated || begun.elapsed() < RETRY_MAX) => {
                    repeated = true;
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(failed) => return Err(failed.error(effect)),
            }
        }
    }

    /// One request, one answer.
    async fn unary<Q, A>(&self, effect: Effect, method: &'static str, request: Q) -> Result<A, Error>
    where
        Q: Message + Default + Clone + 'static,
        A: Message + Default + 'static,
    {
        let request = &request;
        self.calls(effect, move |connection| {
            let request = tonic::Request::new(request.clone());
            async move {
                let codec = ProstCodec::<Q, A>::default();
                let answer = connection.grpc().unary(request, PathAndQuery::from_static(method), codec).await?;
                Ok(answer.into_inner())
            }
        })
        .await
    }

    /// The store's revision now, by a quorum of its members.
    async fn revision(&self) -> Result<Revision, Error> {
        // Any key does: what is asked for is the answer's header.
        let nothing = RangeRequest { count_only: true, ..RangeRequest::one(vec![0]) };
        Ok(self.range(nothing).await?.revision)
    }
}

#[async_trait]
impl Store for Client {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let answer = self.unary(Effect::Read, "/etcdserverpb.KV/Range", wire_range(&request)).await;
        match answer {
            Ok(answer) => Ok(range_of(answer, 0)),
            Err(Error::Mvcc(mvcc::Error::FutureRevision { .. })) => {
                let (requested, current) = (request.revision, self.revision().await?);
                Err(Error::Mvcc(mvcc::Error::FutureRevision { requested, current }))
            }
            Err(error) => Err(error),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let effect = if txn.is_read_only() { Effect::Read } else { Effect::Write };
        let answer = self.unary(effect, "/etcdserverpb.KV/Txn", wire_txn(&txn)).await?;
        txn_of(answer, 0).map_err(|status| understood(&status, effect, &self.places()))
    }

    async fn watch(&self, request: WatchRequest) -> WatchStream {
        watch::begin(self, request).await
    }

    async fn request_progress(&self) -> Result<(), Error> {
        let revision = self.revision().await?;
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| watch.send(revision).is_ok());
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let request = wire::CompactionRequest { revision, physical: false };
        let done: Result<wire::CompactionResponse, Error> =
            self.unary(Effect::Write, "/etcdserverpb.KV/Compact", request).await;
        done.map(|_| ())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        let request = wire::LeaseGrantRequest { ttl: seconds(ttl), id };
        let granted: wire::LeaseGrantResponse =
            self.unary(Effect::Write, "/etcdserverpb.Lease/LeaseGrant", request).await?;
        match granted.error.is_empty() {
            true => Ok(granted.id),
            false => Err(Error::Refused { reason: granted.error }),
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Error> {
        let request = wire::LeaseRevokeRequest { id };
        let done: Result<wire::LeaseRevokeResponse, Error> =
            self.unary(Effect::Write, "/etcdserverpb.Lease/LeaseRevoke", request).await;
        done.map(|_| ())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        let call = async |connection: Connection| {
            let method = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
            let request = tonic::Request::new(wire::LeaseKeepAliveRequest { id });
            let codec = ProstCodec::<wire::LeaseKeepAliveRequest, wire::LeaseKeepAliveResponse>::default();
            let mut answers = connection.grpc().server_streaming(request, method, codec).await?.into_inner();
            answers.message().await?.ok_or_else(|| tonic::Status::unavailable("the lease's stream ended"))
        };
        let kept: wire::LeaseKeepAliveResponse = self.calls(Effect::Read, call).await?;
        // A lease that is not there is answered with a time to live of 0.
        match u64::try_from(kept.ttl).ok().filter(|ttl| *ttl > 0) {
            Some(ttl) => Ok(Duration::from_secs(ttl)),
            None => Err(Error::Mvcc(mvcc::Error::LeaseNotFound)),
        }
    }

    async fn leases(&self) -> Result<Vec<LeaseState>, Error> {
        let all: wire::LeaseLeasesResponse =
            self.unary(Effect::Read, "/etcdserverpb.Lease/LeaseLeases", wire::LeaseLeasesRequest {}).await?;
        let mut leases = Vec::new();
        for wire::LeaseStatus { id } in all.leases {
            let request = wire::LeaseTimeToLiveRequest { id, keys: true };
            let lease: wire::LeaseTimeToLiveResponse =
                self.unary(Effect::Read, "/etcdserverpb.Lease/LeaseTimeToLive", request).await?;
            // One that has ended meanwhile has less than no time left.
            let Ok(left) = u64::try_from(lease.ttl) else { continue };
            let ttl = u64::try_from(lease.granted_ttl).unwrap_or(0);
            let (ttl, left) = (Duration::from_secs(ttl), Duration::from_secs(left));
            leases.push(LeaseState { id, ttl, left, keys: lease.keys });
        }
        Ok(leases)
    }

    /// The revision is that of a quorum; the rest is what the member says that is connected.
    async fn status(&self) -> Result<Status, Error> {
        let member = self.unary(Effect::Read, "/etcdserverpb.Maintenance/Status", wire::StatusRequest {});
        let (revision, member): (_, wire::StatusResponse) = futures::try_join!(self.revision(), member)?;
        let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
        Ok(Status {
            revision,
            live_bytes: bytes(member.db_size_in_use),
            disk_bytes: bytes(member.db_size),
            // etcd `server/etcdserver/api/v3rpc/maintenance.go`: alarms are told as errors. This one ends all writes.
            write_error: member.errors.into_iter().find(|error| error.contains("NOSPACE")),
        })
    }
}
