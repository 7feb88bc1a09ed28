//! A watch of an etcd: a stream of its own, begun anew after the last revision seen when it breaks, so that nothing is lost
//! and nothing comes twice (`etcd client/v3/watch.go: serveSubstream`).

use std::sync::PoisonError;
use std::time::Duration;

use futures::StreamExt;
use http::uri::PathAndQuery;
use mvcc::Revision;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::metadata::MetadataValue;
use tonic_prost::ProstCodec;

use super::connection::Connection;
use super::{Client, Failed};
use crate::api::{WatchRequest, WatchResponse, WatchStream};
use crate::error::Error;
use crate::etcd::convert::event_of;
use crate::etcd::messages as wire;
use crate::etcd::refusal::Effect;
use crate::watch::refused;

/// How long a broken watch waits before it is begun again; twice as long each time.
const AGAIN: Duration = Duration::from_millis(10);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// etcd says nothing when it is asked for progress while a watch lags behind, so it is asked again.
/// `kubernetes/apiserver pkg/storage/cacher/progress: progressRequestPeriod`.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

struct Watch {
    client: Client,
    request: WatchRequest,
    /// Everything up to here has been reported: what comes next starts after it.
    reached: Revision,
    /// There is progress to tell from here on; before, the watch has not begun.
    begins_after: Revision,
    stream: Option<Stream>,
    asked: mpsc::UnboundedReceiver<Revision>,
    /// Somebody waits to be told that this revision is reached.
    wanted: Option<Revision>,
    again: Duration,
    over: bool,
}

/// One life of the watch.
struct Stream {
    connection: Connection,
    requests: mpsc::Sender<wire::WatchRequest>,
    answers: Streaming<wire::WatchResponse>,
    /// Events of an answer that comes in fragments.
    parts: Vec<wire::Event>,
}

enum Heard {
    Asked(Revision),
    Overdue,
    Answer(Result<Option<wire::WatchResponse>, tonic::Status>),
}

/// Begins at a revision that is fixed before this returns; the stream itself is made by whoever reads.
pub async fn begin(client: &Client, request: WatchRequest) -> WatchStream {
    let reached = match request.start_revision {
        0 => match client.revision().await {
            Ok(revision) => revision,
            Err(error) => return refused(Err(error)),
        },
        start => start - 1,
    };
    let (ask, asked) = mpsc::unbounded_channel();
    if request.progress_notify {
        let mut watches = client.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| !watch.is_closed());
        watches.push(ask);
    }
    let watch = Watch {
        client: client.clone(),
        request,
        reached,
        begins_after: reached,
        stream: None,
        asked,
        wanted: None,
        again: AGAIN,
        over: false,
    };
    futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) }).boxed()
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchResponse, Error>> {
        while !self.over {
            if let Some(wanted) = self.wanted
                && self.reached >= wanted
            {
                self.wanted = None;
                return Some(Ok(self.progress()));
            }
            let told = match self.hear().await {
                Ok(Heard::Asked(revision)) => {
                    if revision >= self.begins_after {
                        self.wanted = self.wanted.max(Some(revision));
                        self.ask_progress();
                    }
                    None
                }
                Ok(Heard::Overdue) => {
                    self.ask_progress();
                    None
                }
                Ok(Heard::Answer(Ok(Some(answer)))) => self.answered(answer).transpose(),
                Ok(Heard::Answer(ended)) => match self.broken(ended.err()) {
                    Ok(()) => {
                        self.wait().await;
                        None
                    }
                    Err(error) => Some(Err(error)),
                },
                Err(error) => Some(Err(error)),
            };
            if let Some(told) = told {
                self.over |= told.is_err();
                return Some(told);
            }
        }
        None
    }

    /// An error ends the watch.
    async fn hear(&mut self) -> Result<Heard, Error> {
        if self.stream.is_none() {
            self.stream = Some(self.opened().await?);
        }
        let Some(stream) = &mut self.stream else { unreachable!("it has just been made") };
        let overdue = self.wanted.is_some();
        Ok(tokio::select! {
            Some(revision) = self.asked.recv() => Heard::Asked(revision),
            answer = stream.answers.message() => Heard::Answer(answer),
            () = tokio::time::sleep(PROGRESS_EVERY), if overdue => Heard::Overdue,
        })
    }

    /// A stream, however long that takes; an error only if etcd refuses it.
    async fn opened(&mut self) -> Result<Stream, Error> {
        loop {
            let failed = match self.client.connections.get().await {
                Ok(connection) => match self.open(&connection).await {
                    Ok(stream) => return Ok(stream),
                    Err(status) => self.failed(status, &connection)?,
                },
                Err(error) => error,
            };
            tracing::debug!(error = %failed, "etcd's watch cannot be begun, trying again");
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.again).await;
        self.again = (2 * self.again).min(AGAIN_MAX);
    }

    async fn open(&self, connection: &Connection) -> Result<Stream, tonic::Status> {
        let (requests, asked) = mpsc::channel(4);
        let create = wire::WatchAction::Create(wire::WatchCreateRequest {
            key: self.request.key.clone(),
            range_end: self.request.range_end.clone(),
            start_revision: self.reached + 1,
            progress_notify: self.request.progress_notify,
            prev_kv: self.request.prev_kv,
            fragment: true,
            ..Default::default()
        });
        // The channel is empty and its receiver is here.
        drop(requests.try_send(wire::WatchRequest { action: Some(create) }));
        let asked = futures::stream::unfold(asked, |mut asked| async move { Some((asked.recv().await?, asked)) });
        let mut request = tonic::Request::new(asked);
        // A member that has lost its leader ends the stream, so that another one is asked (`etcd client/v3/ctx.go`).
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let method = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<wire::WatchRequest, wire::WatchResponse>::default();
        let answers = connection.grpc().streaming(request, method, codec).await?.into_inner();
        Ok(Stream { connection: connection.clone(), requests, answers, parts: Vec::new() })
    }

    /// Why a stream ended, unless etcd refuses the watch: that is the error.
    fn failed(&self, status: tonic::Status, connection: &Connection) -> Result<Error, Error> {
        let failed = Failed::new(status, connection);
        if failed.is_members() {
            self.client.connections.retire(connection);
        }
        match failed.error(Effect::Read) {
            error @ (Error::Mvcc(_) | Error::Refused { .. }) => Err(error),
            error => Ok(error),
        }
    }

    /// The stream has ended; the next one goes on where it was. Parts of an unfinished answer come again.
    fn broken(&mut self, status: Option<tonic::Status>) -> Result<(), Error> {
        let Some(stream) = self.stream.take() else { return Ok(()) };
        let status = status.unwrap_or_else(|| tonic::Status::unavailable("the stream ended"));
        let error = self.failed(status, &stream.connection)?;
        tracing::warn!(%error, revision = self.reached, "etcd's watch broke, it goes on where it was");
        Ok(())
    }

    fn answered(&mut self, answer: wire::WatchResponse) -> Result<Option<WatchResponse>, Error> {
        let revision = answer.header.map_or(0, |header| header.revision);
        if answer.canceled {
            if answer.compact_revision == 0 {
                return Err(Error::Refused { reason: answer.cancel_reason });
            }
            self.over = true;
            let compact_revision = answer.compact_revision;
            return Ok(Some(WatchResponse { revision, events: Vec::new(), compact_revision }));
        }
        self.again = AGAIN;
        let Some(stream) = self.stream.as_mut().filter(|_| !answer.created) else { return Ok(None) };
        stream.parts.extend(answer.events);
        if answer.fragment {
            return Ok(None);
        }
        let parts = std::mem::take(&mut stream.parts);
        if parts.is_empty() {
            self.reached = self.reached.max(revision);
            // Whoever waits for it is told next.
            return Ok((self.request.progress_notify && self.wanted.is_none()).then(|| self.progress()));
        }
        let events = parts.into_iter().map(event_of).collect::<Result<Vec<_>, _>>();
        let mut events = events.map_err(|status| Error::Refused { reason: status.message().to_owned() })?;
        events.retain(|event| event.kv.mod_revision > self.reached);
        // The header may be ahead of a watch that is catching up; its events are not.
        let Some(last) = events.last() else { return Ok(None) };
        self.reached = last.kv.mod_revision;
        Ok(Some(WatchResponse { revision: self.reached, events, compact_revision: 0 }))
    }

    fn progress(&self) -> WatchResponse {
        WatchResponse { revision: self.reached, ..WatchResponse::default() }
    }

    fn ask_progress(&self) {
        let Some(stream) = self.stream.as_ref().filter(|_| self.wanted > Some(self.reached)) else { return };
        let action = Some(wire::WatchAction::Progress(wire::WatchProgressRequest {}));
        // A stream that takes nothing more is about to be told broken, or has asked often enough.
        drop(stream.requests.try_send(wire::WatchRequest { action }));
    }
}
