//! Watches: many on one stream, each with an id.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use mvcc::{EventKind, Revision};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::convert::{event, header};
use super::messages as wire;
use crate::api::{Store, WatchRequest, WatchResponse};
use crate::error::Error;

/// What a stream's client is told.
pub type Answers = Pin<Box<dyn Stream<Item = Result<wire::WatchResponse, Status>> + Send>>;

/// Answers that wait for a slow client; then its watches wait too, and end if they fall too far behind.
const ANSWERS_WAITING: usize = 64;
/// The id that stands for every watch of the stream.
const EVERY_WATCH: i64 = -1;

/// What a stream's task hears.
enum Heard {
    Asked(wire::WatchRequest),
    Told {
        id: i64,
        answer: Result<WatchResponse, Error>,
    },
    /// The client broke off, or said goodbye.
    Over,
}

struct Watch {
    progress_notify: bool,
    no_put: bool,
    no_delete: bool,
    /// Everything up to here is sent.
    reached: Revision,
    _forwarding: AbortOnDropHandle<()>,
}

/// The client has gone.
struct Gone;

struct Session {
    store: Arc<dyn Store>,
    watches: HashMap<i64, Watch>,
    next_id: i64,
    /// The client wants to know when every watch has reached this revision.
    progress_asked: Option<Revision>,
    heard: mpsc::Sender<Heard>,
    out: mpsc::Sender<Result<wire::WatchResponse, Status>>,
}

pub fn serve(store: Arc<dyn Store>, requests: Streaming<wire::WatchRequest>) -> Answers {
    let (out, answers) = mpsc::channel(ANSWERS_WAITING);
    let (heard, mut hearing) = mpsc::channel(ANSWERS_WAITING);
    let asking = AbortOnDropHandle::new(tokio::spawn(ask(requests, heard.clone())));
    let mut session = Session { store, watches: HashMap::new(), next_id: 0, progress_asked: None, heard, out };
    tokio::spawn(async move {
        let _asking = asking;
        while let Some(heard) = hearing.recv().await {
            let done = match heard {
                Heard::Asked(request) => session.asked(request).await,
                Heard::Told { id, answer } => session.told(id, answer).await,
                Heard::Over => return,
            };
            if done.is_err() {
                return;
            }
        }
    });
    futures::stream::unfold(answers, |mut answers| async move { Some((answers.recv().await?, answers)) }).boxed()
}

async fn ask(mut requests: Streaming<wire::WatchRequest>, heard: mpsc::Sender<Heard>) {
    loop {
        let next = match requests.message().await {
            Ok(Some(request)) => Heard::Asked(request),
            Ok(None) | Err(_) => Heard::Over,
        };
        let over = matches!(next, Heard::Over);
        if heard.send(next).await.is_err() || over {
            return;
        }
    }
}

impl Session {
    async fn asked(&mut self, request: wire::WatchRequest) -> Result<(), Gone> {
        match request.action {
            Some(wire::WatchAction::Create(create)) => self.create(create).await,
            Some(wire::WatchAction::Cancel(cancel)) => match self.watches.remove(&cancel.watch_id) {
                Some(watch) => self.ended(cancel.watch_id, watch.reached, "").await,
                None => Ok(()),
            },
            Some(wire::WatchAction::Progress(_)) => self.ask_progress().await,
            None => Ok(()),
        }
    }

    /// The watch stands before its client is told so. A client that is cut off goes on from the revision it was told, so
    /// that is one of before.
    async fn create(&mut self, create: wire::WatchCreateRequest) -> Result<(), Gone> {
        let revision = match super::revision(&*self.store).await {
            Ok(revision) => revision,
            Err(status) => {
                let refused = self.end(EVERY_WATCH, 0, status.message());
                return self.send(wire::WatchResponse { created: true, ..refused }).await;
            }
        };
        let id = match create.watch_id {
            0 => {
                while self.watches.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id
            }
            id => id,
        };
        if self.watches.contains_key(&id) || (create.watch_id < 0) {
            let reason = "mvcc: duplicate watch ID provided on the WatchStream";
            let refused = wire::WatchResponse { created: true, ..self.end(EVERY_WATCH, revision, reason) };
            return self.send(refused).await;
        }
        self.next_id = self.next_id.max(id + i64::from(create.watch_id == 0));
        let request = WatchRequest {
            // All keys are those from the lowest on.
            key: if create.key.is_empty() { bytes::Bytes::from_static(&[0]) } else { create.key },
            range_end: create.range_end,
            start_revision: create.start_revision.max(0),
            prev_kv: create.prev_kv,
            // Also for the client who asks for it later.
            progress_notify: true,
        };
        let watching = self.store.watch(request).await;
        let created =
            wire::WatchResponse { header: header(revision), watch_id: id, created: true, ..Default::default() };
        self.send(created).await?;
        let forwarding = AbortOnDropHandle::new(tokio::spawn(forward(watching, id, self.heard.clone())));
        let watch = Watch {
            progress_notify: create.progress_notify,
            no_put: create.filters.contains(&0),
            no_delete: create.filters.contains(&1),
            reached: 0,
            _forwarding: forwarding,
        };
        self.watches.insert(id, watch);
        Ok(())
    }

    async fn told(&mut self, id: i64, answer: Result<WatchResponse, Error>) -> Result<(), Gone> {
        let Some(watch) = self.watches.get_mut(&id) else { return Ok(()) };
        let answer = match answer {
            Ok(answer) if answer.compact_revision != 0 => {
                self.watches.remove(&id);
                let reason = "etcdserver: mvcc: required revision has been compacted";
                let end = self.end(id, answer.revision, reason);
                return self.send(wire::WatchResponse { compact_revision: answer.compact_revision, ..end }).await;
            }
            Ok(answer) => answer,
            Err(error) => {
                let reached = watch.reached;
                self.watches.remove(&id);
                return self.ended(id, reached, &error.to_string()).await;
            }
        };
        watch.reached = watch.reached.max(answer.revision);
        let is_progress = answer.events.is_empty();
        let kept = answer.events.iter().filter(|event| match event.kind {
            EventKind::Put => !watch.no_put,
            EventKind::Delete => !watch.no_delete,
        });
        let events: Vec<wire::Event> = kept.map(event).collect();
        if !events.is_empty() || (is_progress && watch.progress_notify) {
            let header = header(answer.revision);
            self.send(wire::WatchResponse { header, watch_id: id, events, ..Default::default() }).await?;
        }
        self.tell_progress().await
    }

    /// Every watch is to say how far it is; what was on its way to it comes before that.
    async fn ask_progress(&mut self) -> Result<(), Gone> {
        match super::revision(&*self.store).await {
            Ok(revision) => self.progress_asked = Some(revision),
            // As in etcd, whoever hears nothing asks again.
            Err(status) => {
                tracing::warn!(error = status.message(), "the store tells no revision");
                return Ok(());
            }
        }
        if let Err(error) = self.store.request_progress().await {
            tracing::warn!(%error, "the store tells no progress");
        }
        self.tell_progress().await
    }

    async fn tell_progress(&mut self) -> Result<(), Gone> {
        let (Some(wanted), Some(reached)) =
            (self.progress_asked, self.watches.values().map(|watch| watch.reached).min())
        else {
            return Ok(());
        };
        if reached < wanted {
            return Ok(());
        }
        self.progress_asked = None;
        self.send(wire::WatchResponse { header: header(reached), watch_id: EVERY_WATCH, ..Default::default() }).await
    }

    fn end(&self, id: i64, revision: Revision, reason: &str) -> wire::WatchResponse {
        wire::WatchResponse {
            header: header(revision),
            watch_id: id,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        }
    }

    async fn ended(&self, id: i64, revision: Revision, reason: &str) -> Result<(), Gone> {
        self.send(self.end(id, revision, reason)).await
    }

    async fn send(&self, answer: wire::WatchResponse) -> Result<(), Gone> {
        self.out.send(Ok(answer)).await.map_err(|_| Gone)
    }
}

async fn forward(mut watching: crate::api::WatchStream, id: i64, heard: mpsc::Sender<Heard>) {
    while let Some(answer) = watching.next().await {
        if heard.send(Heard::Told { id, answer }).await.is_err() {
            return;
        }
    }
}
