//! What a controller decided: data, to be executed by `runner` or printed by a test.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use crate::cache::{Kept, Key};
use crate::meta;
use crate::resource::Resource;

/// Everything to do about one key.
///
/// Actions run in order, but a run of creates goes out in batches that double while they succeed (1, 2, 4...), so
/// that a quota is not hammered, and a run of deletes goes out at once. The status is written last, also when
/// an action failed; the failure is then shown to the next plan ([`crate::Cx::failure`]).
#[derive(Debug, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub status: Option<Action>,
    pub events: Vec<Event>,
    pub requeue_after: Option<Duration>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Action {
    pub resource: Resource,
    pub key: Key,
    pub verb: Verb,
    /// What to tell about it, and of whom.
    pub note: Option<Note>,
}

#[derive(Clone, Debug)]
pub enum Verb {
    Create {
        object: Value,
        if_exists: IfExists,
    },
    Update {
        object: Value,
        subresource: Subresource,
    },
    /// A JSON merge patch.
    Patch {
        patch: Value,
        subresource: Subresource,
    },
    /// A JSON merge patch that makes an owner the object's controller. Whoever carries it out first asks the API server
    /// whether the owner is still there and stays: what the cache says of it may be old, and an object taken in by an
    /// owner that goes would be deleted after it.
    Adopt {
        patch: Value,
        owner: Owner,
    },
    Delete {
        uid: Option<String>,
        revision: Option<String>,
        grace_seconds: Option<i64>,
        propagation: Option<Propagation>,
    },
    /// Every object of the key's namespace.
    DeleteCollection,
    /// The eviction subresource of a pod.
    Evict {
        grace_seconds: Option<i64>,
    },
}

/// Who takes an object in.
#[derive(Clone, Debug)]
pub struct Owner {
    pub resource: Resource,
    pub key: Key,
    pub uid: String,
}

/// What a create does when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    Fail,
    Accept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    None,
    Status,
    Scale,
    Finalize,
    Approval,
    Ephemeral,
}

impl Subresource {
    /// The last part of the request path.
    pub fn path(self) -> &'static str {
        match self {
            Subresource::None => "",
            Subresource::Status => "/status",
            Subresource::Scale => "/scale",
            Subresource::Finalize => "/finalize",
            Subresource::Approval => "/approval",
            Subresource::Ephemeral => "/ephemeralcontainers",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// The events of an action's success and failure. In a text, `{name}` stands for the object's name, `{error}` for
/// what the API server said; an empty reason tells nothing.
#[derive(Clone, Debug)]
pub struct Note {
    pub about: ObjectReference,
    pub done: (&'static str, Cow<'static, str>),
    pub failed: (&'static str, Cow<'static, str>),
}

/// An event to tell at once.
#[derive(Clone, Debug)]
pub struct Event {
    pub about: ObjectReference,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    pub reason: String,
    pub message: String,
}

impl Event {
    pub fn normal<K: Kept>(about: &K, reason: &str, message: impl Into<String>) -> Event {
        Event { about: reference(about), kind: "Normal", reason: reason.into(), message: message.into() }
    }

    pub fn warning<K: Kept>(about: &K, reason: &str, message: impl Into<String>) -> Event {
        Event { about: reference(about), kind: "Warning", reason: reason.into(), message: message.into() }
    }
}

/// How events name an object.
pub fn reference<K: Kept>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_string()),
        kind: Some(K::KIND.to_string()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..Default::default()
    }
}

/// An object as JSON; every typed kind of the API can be written as JSON, so `Null` never comes out.
pub fn value<K: Kept>(object: &K) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

impl Action {
    pub fn create<K: Kept>(object: &K) -> Action {
        let verb = Verb::Create { object: value(object), if_exists: IfExists::Fail };
        Action::on(object, verb)
    }

    pub fn update<K: Kept>(object: &K) -> Action {
        Action::on(object, Verb::Update { object: value(object), subresource: Subresource::None })
    }

    /// An update of a changed copy of an object.
    pub fn changed<K: Kept>(object: &K, change: impl FnOnce(&mut K)) -> Action {
        let mut copy = object.clone();
        change(&mut copy);
        Action::update(&copy)
    }

    pub fn update_status<K: Kept>(object: &K) -> Action {
        Action::on(object, Verb::Update { object: value(object), subresource: Subresource::Status })
    }

    /// Deletes this very object: its uid is a precondition.
    pub fn delete<K: Kept>(object: &K) -> Action {
        let verb =
            Verb::Delete { uid: object.metadata().uid.clone(), revision: None, grace_seconds: None, propagation: None };
        Action::on(object, verb)
    }

    /// Gives the object to an owner by a merge patch of its metadata.
    pub fn adopt<K: Kept, O: Kept>(owner: &O, object: &K, mut patch: Value) -> Action {
        patch["metadata"]["uid"] = json!(object.metadata().uid);
        let owner = Owner {
            resource: O::OF.resource().clone(),
            key: Key::of(owner.metadata()),
            uid: meta::uid(owner.metadata()).to_string(),
        };
        Action::on(object, Verb::Adopt { patch, owner })
    }

    /// A merge patch of this very object: its uid is made part of the patch, so that a namesake is not patched.
    pub fn patch<K: Kept>(object: &K, mut patch: Value) -> Action {
        patch["metadata"]["uid"] = json!(object.metadata().uid);
        Action::on(object, Verb::Patch { patch, subresource: Subresource::None })
    }

    pub fn patch_status<K: Kept>(object: &K, mut patch: Value) -> Action {
        patch["metadata"]["uid"] = json!(object.metadata().uid);
        Action::on(object, Verb::Patch { patch, subresource: Subresource::Status })
    }

    pub fn on<K: Kept>(object: &K, verb: Verb) -> Action {
        let key = Key::of(object.metadata());
        Action { resource: K::OF.resource().clone(), key, verb, note: None }
    }

    pub fn noted(mut self, note: Note) -> Action {
        self.note = Some(note);
        self
    }

    pub fn accept_existing(mut self) -> Action {
        if let Verb::Create { if_exists, .. } = &mut self.verb {
            *if_exists = IfExists::Accept;
        }
        self
    }

    /// Sets the resourceVersion a delete is bound to.
    pub fn at_revision(mut self, wanted: Option<String>) -> Action {
        if let Verb::Delete { revision, .. } = &mut self.verb {
            *revision = wanted;
        }
        self
    }

    pub fn with_grace(mut self, seconds: i64) -> Action {
        if let Verb::Delete { grace_seconds, .. } = &mut self.verb {
            *grace_seconds = Some(seconds);
        }
        self
    }

    pub fn with_propagation(mut self, how: Propagation) -> Action {
        if let Verb::Delete { propagation, .. } = &mut self.verb {
            *propagation = Some(how);
        }
        self
    }

    /// The name, or the prefix the server will complete.
    pub fn display_name(&self) -> String {
        if self.key.name.is_empty()
            && let Verb::Create { object, .. } = &self.verb
        {
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or("");
            return Key::new(self.key.namespace.clone(), format!("{prefix}*")).to_string();
        }
        self.key.to_string()
    }
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.status.is_none() && self.events.is_empty()
    }

    /// The soonest of several wishes.
    pub fn requeue(&mut self, after: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(after, |had| had.min(after)));
    }

    /// The plan as lines of text, as the scenario tests show it.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for action in &self.actions {
            write_action(&mut out, action);
        }
        if let Some(status) = &self.status {
            write_action(&mut out, status);
        }
        for event in &self.events {
            let _ = writeln!(out, "event {} {}: {}", event.kind, event.reason, event.message);
        }
        if let Some(after) = self.requeue_after {
            let _ = writeln!(out, "again after {after:?}");
        }
        if out.is_empty() {
            out.push_str("nothing\n");
        }
        out
    }
}

fn write_action(out: &mut String, action: &Action) {
    let what = format!("{} {}", action.resource, action.display_name());
    let _ = match &action.verb {
        Verb::Create { object, .. } => writeln!(out, "create {what}\n  {object}"),
        Verb::Update { object, subresource: Subresource::Status } => {
            writeln!(out, "status {what}\n  {}", object["status"])
        }
        Verb::Update { object, subresource } => writeln!(out, "update {what}{}\n  {object}", subresource.path()),
        Verb::Patch { patch, subresource } => writeln!(out, "patch {what}{}\n  {patch}", subresource.path()),
        Verb::Adopt { patch, owner } => writeln!(out, "adopt {what} by {}\n  {patch}", owner.key),
        Verb::Delete { grace_seconds, propagation, .. } => {
            let grace = grace_seconds.map_or(String::new(), |s| format!(" grace {s}s"));
            let how = propagation.map_or(String::new(), |p| format!(" {}", p.as_str()));
            writeln!(out, "delete {what}{grace}{how}")
        }
        Verb::DeleteCollection => writeln!(out, "delete all {} of {}", action.resource, action.key.namespace),
        Verb::Evict { .. } => writeln!(out, "evict {what}"),
    };
}
