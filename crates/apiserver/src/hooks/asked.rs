//! One request's question to everybody whom users have set up: policies first, webhooks after.

use std::borrow::Cow;

use admit::admission::Operation;
use admit::hooks::Subject;
use kinds::{ScalePaths, Subresource};
use machinery::gvk::GroupVersionResource;
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Memory, Objects, Rounds};
use crate::context::Cx;
use crate::subresources::scale;

pub struct Asked<'a> {
    pub cx: &'a Cx,
    pub operation: Operation,
    pub dry_run: bool,
    /// The request's `CreateOptions` or the like; null for a connection.
    pub options: Value,
}

impl<'a> Asked<'a> {
    /// The options of anything but a deletion stand in the query.
    pub fn new(cx: &'a Cx, operation: Operation) -> Asked<'a> {
        let stages: Vec<&str> = cx.query.all("dryRun").filter(|stage| !stage.is_empty()).collect();
        let dry_run = !stages.is_empty();
        let kind = if operation == Operation::Update { "UpdateOptions" } else { "CreateOptions" };
        let mut options = Value::Null;
        if operation != Operation::Connect {
            options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
            for field in ["fieldManager", "fieldValidation"] {
                if let Some(text) = cx.query.text(field) {
                    options[field] = json!(text);
                }
            }
            if dry_run {
                options["dryRun"] = json!(stages);
            }
        }
        Asked { cx, operation, dry_run, options }
    }

    /// `name` is the object's, empty while it is still to be generated.
    fn subject<'s>(&'s self, name: &'s str) -> Subject<'s> {
        let (cx, kind) = (self.cx, &self.cx.kind);
        let resource =
            GroupVersionResource::new(kind.group.as_ref(), kind.version.as_ref(), kind.names.plural.as_ref());
        let name = if name.is_empty() { &cx.info.name } else { name };
        let is_namespace = kind.group.is_empty() && kind.names.plural == "namespaces";
        Subject {
            operation: self.operation,
            resource,
            subresource: &cx.info.subresource,
            kind: kind.speaks(&cx.info.subresource),
            namespace: if is_namespace { name } else { &cx.info.namespace },
            name,
            user: &cx.user,
            dry_run: self.dry_run,
            options: &self.options,
        }
    }

    /// The paths of a scale, where the request is about one: it is seen as a Scale, and written as the whole object.
    fn scale(&self) -> Option<&ScalePaths> {
        self.cx.kind.subresources.iter().find_map(|known| match known {
            Subresource::Scale(paths) if self.cx.info.subresource == "scale" => Some(paths),
            _ => None,
        })
    }

    /// A binding was asked about as such, before it became a change of its pod. What the server does of itself, as at its
    /// start, must not depend on what only it can reach.
    fn is_settled(&self) -> bool {
        let info = &self.cx.info;
        info.verb.is_empty() || (self.operation == Operation::Update && info.subresource == "binding")
    }

    fn seen<'v>(&self, value: &'v Value) -> Cow<'v, Value> {
        match self.scale() {
            Some(paths) => Cow::Owned(scale::scale_of(value, paths)),
            None => Cow::Borrowed(value),
        }
    }

    /// Lets them change the object.
    pub async fn mutate(
        &self,
        name: &str,
        new: &mut Value,
        old: Option<&Value>,
        rounds: &mut Rounds,
    ) -> Result<(), Status> {
        if self.is_settled() {
            return Ok(());
        }
        let subject = self.subject(name);
        let Some(paths) = self.scale() else {
            return self.change(&subject, new, old, rounds).await;
        };
        let (mut scaled, old) = (scale::scale_of(new, paths), old.map(|old| scale::scale_of(old, paths)));
        self.change(&subject, &mut scaled, old.as_ref(), rounds).await?;
        if let Some(replicas) = scaled.pointer("/spec/replicas").filter(|_| rounds.changed()) {
            object::put(new, &paths.spec.split('.').collect::<Vec<_>>(), replicas.clone());
        }
        Ok(())
    }

    /// Policies before webhooks, each with a memory of its own.
    async fn change(
        &self,
        subject: &Subject<'_>,
        new: &mut Value,
        old: Option<&Value>,
        rounds: &mut Rounds,
    ) -> Result<(), Status> {
        super::policies::mutate(self.cx, subject, new, old, &mut rounds.policies).await?;
        super::mutate(self.cx, subject, Some(new), old, &mut rounds.webhooks).await
    }

    /// The same where there is no object to change.
    pub async fn mutate_none(&self, name: &str, old: Option<&Value>) -> Result<(), Status> {
        if self.is_settled() {
            return Ok(());
        }
        super::mutate(self.cx, &self.subject(name), None, old, &mut Memory::default()).await
    }

    /// Asks whether the request may be.
    pub async fn validate(&self, name: &str, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
        if self.is_settled() {
            return Ok(());
        }
        let (new, old) = (new.map(|new| self.seen(new)), old.map(|old| self.seen(old)));
        let objects = Objects { new: new.as_deref(), old: old.as_deref() };
        let subject = self.subject(name);
        super::policies::validate(self.cx, &subject, objects).await?;
        super::validate(self.cx, &subject, objects).await
    }
}
