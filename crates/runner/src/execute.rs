//! Carries a plan out: requests, the answers into the cache, the events of what came of it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use reconcile::{Action, Cache, Change, Event, Failure, Key, Note, Of, Plan, Resource, Source, Subresource, Verb};
use serde_json::Value;

use crate::api::{Api, Refusal, harmless};
use crate::events::{Recorder, Told};

/// What all controllers of a process share.
pub struct Shared {
    pub api: Api,
    /// By the name of the controller that writes; the others write through `api`.
    pub apis: HashMap<&'static str, Api>,
    pub cache: Cache,
    pub recorder: Recorder,
    pub started: Timestamp,
    /// Told of every change of the cache.
    pub changed: Box<dyn Fn(&Change) + Send + Sync>,
}

impl Shared {
    /// The client a controller writes through.
    pub fn api_of(&self, source: &str) -> &Api {
        self.apis.get(source).unwrap_or(&self.api)
    }

    pub fn announce(&self, change: Option<Change>) {
        if let Some(change) = change {
            (self.changed)(&change);
        }
    }

    /// Takes the answer to a write into the cache, so that the next plan sees it.
    fn learn(&self, action: &Action, answer: &[u8]) {
        let Some(of) = kind_of(&action.resource) else { return };
        if matches!(action.verb, Verb::Evict { .. } | Verb::DeleteCollection)
            || matches!(action.verb, Verb::Update { subresource: Subresource::Scale, .. })
        {
            return;
        }
        let Ok(text) = std::str::from_utf8(answer) else { return };
        let store = self.cache.store(of);
        if let Verb::Delete { .. } = action.verb {
            return self.announce(learn_delete(store, &action.key, text));
        }
        match store.apply_json(text, Source::Answer) {
            Ok(change) => self.announce(change),
            Err(error) => tracing::warn!(%error, resource = %action.resource, "unreadable answer"),
        }
    }

    fn tell_note(&self, source: &'static str, note: &Note, done: bool, name: &str, error: &str) {
        let (kind, (reason, text)) = if done { ("Normal", &note.done) } else { ("Warning", &note.failed) };
        if reason.is_empty() {
            return;
        }
        let message = text.replace("{name}", name).replace("{error}", error);
        self.tell(source, note.about.clone(), kind, reason.to_string(), message);
    }

    pub fn tell(
        &self,
        source: &'static str,
        about: ObjectReference,
        kind: &'static str,
        reason: String,
        message: String,
    ) {
        self.recorder.tell(Told { source, about, kind, reason, message });
    }

    pub fn tell_all(&self, source: &'static str, events: Vec<Event>) {
        for event in events {
            self.tell(source, event.about, event.kind, event.reason, event.message);
        }
    }

    /// Carries one action out.
    async fn act(&self, source: &'static str, action: &Action) -> Result<(), Failure> {
        match self.api_of(source).execute(action).await {
            Ok(answer) => {
                self.learn(action, &answer);
                if let Some(note) = &action.note {
                    self.tell_note(source, note, true, &name_in(action, &answer), "");
                }
                Ok(())
            }
            Err(refusal) if harmless(action, &refusal) => Ok(()),
            Err(refusal) => {
                if let Some(note) = &action.note
                    && !refusal.is("Conflict")
                {
                    self.tell_note(source, note, false, &action.key.name, &refusal.message);
                }
                Err(failure(action, refusal))
            }
        }
    }

    /// Carries a plan out; the first failure is returned, after the status was written.
    pub async fn carry_out(&self, source: &'static str, plan: Plan, failed_before: bool) -> Result<(), Failure> {
        let done = self.run(source, &plan.actions).await;
        self.tell_all(source, plan.events);
        // A plan made in view of a failure that has just been overcome would write what is no longer true.
        let outdated = failed_before && !plan.actions.is_empty() && done.is_ok();
        if let Some(status) = &plan.status
            && !outdated
        {
            self.act(source, status).await?;
        }
        done
    }

    async fn run(&self, source: &'static str, actions: &[Action]) -> Result<(), Failure> {
        let alike = |a: &Action, b: &Action| std::mem::discriminant(&a.verb) == std::mem::discriminant(&b.verb);
        for group in actions.chunk_by(alike) {
            match group[0].verb {
                Verb::Create { .. } => self.slow_start(source, group).await?,
                Verb::Delete { .. } | Verb::DeleteCollection => self.all(source, group).await?,
                _ => {
                    for action in group {
                        self.act(source, action).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Batches that double while all of a batch succeed.
    async fn slow_start(&self, source: &'static str, mut actions: &[Action]) -> Result<(), Failure> {
        let mut size = 1;
        while !actions.is_empty() {
            let (batch, rest) = actions.split_at(size.min(actions.len()));
            self.all(source, batch).await?;
            actions = rest;
            size *= 2;
        }
        Ok(())
    }

    async fn all(&self, source: &'static str, actions: &[Action]) -> Result<(), Failure> {
        let results = join_all(actions.iter().map(|action| self.act(source, action))).await;
        results.into_iter().collect()
    }
}

/// A delete answers with the object while it is still going, with a Status when it is gone.
fn learn_delete(store: &dyn reconcile::cache::AnyStore, key: &Key, text: &str) -> Option<Change> {
    let answer: Value = serde_json::from_str(text).ok()?;
    if answer["kind"] == "Status" {
        return store.forget(key, answer["details"]["uid"].as_str().unwrap_or_default());
    }
    if answer["metadata"]["deletionTimestamp"].is_null() {
        return store.forget(key, answer["metadata"]["uid"].as_str().unwrap_or_default());
    }
    store.apply_json(text, Source::Answer).ok().flatten()
}

/// Which store of the cache holds a resource.
pub fn kind_of(resource: &Resource) -> Option<Of> {
    Of::ALL.iter().copied().find(|of| of.resource() == resource && (of.field_selector().is_empty()))
}

/// The name the server gave.
fn name_in(action: &Action, answer: &Bytes) -> String {
    if !action.key.name.is_empty() {
        return action.key.name.clone();
    }
    let answer: Value = serde_json::from_slice(answer).unwrap_or(Value::Null);
    answer["metadata"]["name"].as_str().unwrap_or_default().to_string()
}

fn failure(action: &Action, refusal: Refusal) -> Failure {
    let verb = match action.verb {
        Verb::Create { .. } => "create",
        Verb::Update { .. } => "update",
        Verb::Patch { .. } | Verb::Adopt { .. } => "patch",
        Verb::Delete { .. } | Verb::DeleteCollection => "delete",
        Verb::Evict { .. } => "evict",
    };
    Failure {
        verb,
        resource: action.resource.plural.to_string(),
        name: action.key.name.clone(),
        reason: refusal.reason,
        message: refusal.message,
    }
}

/// Fills one store of the cache.
pub struct Filler {
    pub shared: Arc<Shared>,
    pub of: Of,
}

impl crate::reflector::Sink for Filler {
    fn replace(&self, objects: &[&serde_json::value::RawValue], revision: u64) -> Result<(), serde_json::Error> {
        for change in self.shared.cache.store(self.of).replace_json(objects, revision)? {
            (self.shared.changed)(&change);
        }
        Ok(())
    }

    fn apply(&self, object: &str) -> Result<(), serde_json::Error> {
        let change = self.shared.cache.store(self.of).apply_json(object, Source::Watch)?;
        self.shared.announce(change);
        Ok(())
    }

    fn observe(&self, revision: u64) {
        self.shared.cache.store(self.of).observe(revision);
    }

    fn remove(&self, object: &str) -> Result<(), serde_json::Error> {
        let change = self.shared.cache.store(self.of).remove_json(object, Source::Watch)?;
        self.shared.announce(change);
        Ok(())
    }
}
