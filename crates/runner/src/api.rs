//! Requests as bytes: the few HTTP exchanges the runner needs, over a `kube::Client`.

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use reconcile::{Action, IfExists, Owner, Subresource, Verb};
use serde::Deserialize;
use serde_json::{Value, json};

/// A client of the API server that neither encodes nor decodes objects.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

/// Why a request gave no answer.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status; 0 when no answer came at all.
    pub code: u16,
    /// The Status's machine-readable reason.
    pub reason: String,
    pub message: String,
    /// The reasons of the Status's causes.
    pub causes: Vec<String>,
}

impl Refusal {
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// The namespace is being deleted: nothing may be made in it any more.
    pub fn namespace_terminating(&self) -> bool {
        self.causes.iter().any(|c| c == "NamespaceTerminating")
    }

    /// No answer was understood: the code that reads it panicked.
    pub fn of_panic(message: String) -> Refusal {
        Refusal { code: 0, reason: String::new(), message: format!("panic: {message}"), causes: Vec::new() }
    }

    /// The answer is not what was asked for.
    pub fn unreadable(error: serde_json::Error) -> Refusal {
        Refusal::transport(format!("unreadable answer: {error}"))
    }

    fn transport(error: impl std::fmt::Display) -> Refusal {
        Refusal { code: 0, reason: String::new(), message: error.to_string(), causes: Vec::new() }
    }

    fn answered(code: StatusCode, body: &[u8]) -> Refusal {
        let text = || String::from_utf8_lossy(body).into_owned();
        let status: Value = serde_json::from_slice(body).unwrap_or_else(|_| json!({"message": text()}));
        let causes = status["details"]["causes"].as_array().into_iter().flatten();
        Refusal {
            code: code.as_u16(),
            reason: status["reason"].as_str().unwrap_or_default().to_string(),
            message: status["message"].as_str().map_or_else(text, str::to_string),
            causes: causes.filter_map(|c| c["reason"].as_str().map(str::to_string)).collect(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a watch line or a list page is asked to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
}

impl Detail {
    fn accept(self, list: bool) -> &'static str {
        match (self, list) {
            (Detail::Whole, _) => "application/json",
            (Detail::Metadata, true) => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
            }
            (Detail::Metadata, false) => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
            }
        }
    }
}

/// The lines of a watch.
pub struct Lines {
    body: Body,
    buffer: BytesMut,
}

impl Lines {
    /// The next line; none when the server has closed the watch.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let mut line = self.buffer.split_to(searched + at + 1);
                line.truncate(searched + at);
                return Ok(Some(line.freeze()));
            }
            searched = self.buffer.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Refusal::transport(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Api {
    pub fn new(client: kube::Client) -> Api {
        Api { client }
    }

    async fn send(&self, request: Request<Body>) -> Result<http::Response<Body>, Refusal> {
        let response = self.client.send(request).await.map_err(Refusal::transport)?;
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(Refusal::transport)?.to_bytes();
        Err(Refusal::answered(code, &body))
    }

    /// One request and its whole answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Refusal> {
        let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .header(http::header::ACCEPT, accept)
            .body(Body::from(bytes))
            .map_err(Refusal::transport)?;
        let response = self.send(request).await?;
        Ok(response.into_body().collect().await.map_err(Refusal::transport)?.to_bytes())
    }

    pub async fn get(&self, path: &str, detail: Detail) -> Result<Bytes, Refusal> {
        self.call(Method::GET, path, "application/json", detail.accept(false), None).await
    }

    pub async fn list(&self, path: &str, detail: Detail) -> Result<Bytes, Refusal> {
        self.call(Method::GET, path, "application/json", detail.accept(true), None).await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str, detail: Detail) -> Result<Lines, Refusal> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(http::header::ACCEPT, detail.accept(false))
            .header(http::header::ACCEPT_ENCODING, "identity")
            .body(Body::from(Vec::new()))
            .map_err(Refusal::transport)?;
        let response = self.send(request).await?;
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new() })
    }

    /// Carries one action out; the answer is the object, or a Status after a delete.
    pub async fn execute(&self, action: &Action) -> Result<Bytes, Refusal> {
        const JSON: &str = "application/json";
        let (namespace, name) = (&action.key.namespace, &action.key.name);
        let collection = action.resource.collection_path(namespace);
        let object = format!("{collection}/{name}");
        match &action.verb {
            Verb::Create { object, .. } => self.call(Method::POST, &collection, JSON, JSON, Some(object)).await,
            Verb::Update { object: new, subresource } => {
                let path = format!("{object}{}", subresource.path());
                self.call(Method::PUT, &path, JSON, JSON, Some(new)).await
            }
            Verb::Patch { patch, subresource } => {
                let path = format!("{object}{}", subresource.path());
                self.call(Method::PATCH, &path, "application/merge-patch+json", JSON, Some(patch)).await
            }
            Verb::Adopt { patch, owner } => {
                self.stays(owner).await?;
                self.call(Method::PATCH, &object, "application/merge-patch+json", JSON, Some(patch)).await
            }
            Verb::Delete { .. } => {
                self.call(Method::DELETE, &object, JSON, JSON, Some(&delete_options(&action.verb))).await
            }
            Verb::DeleteCollection => {
                let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
                self.call(Method::DELETE, &collection, JSON, JSON, Some(&options)).await
            }
            Verb::Evict { grace_seconds } => {
                let mut eviction = json!({
                    "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
                });
                if let Some(seconds) = grace_seconds {
                    eviction["deleteOptions"] = json!({"gracePeriodSeconds": seconds});
                }
                self.call(Method::POST, &format!("{object}/eviction"), JSON, JSON, Some(&eviction)).await
            }
        }
    }
}

impl Api {
    /// Refuses where an owner is gone, another or being deleted.
    async fn stays(&self, owner: &Owner) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct Found {
            metadata: ObjectMeta,
        }
        let gone = |why: &str| Refusal {
            code: StatusCode::CONFLICT.as_u16(),
            reason: "Conflict".into(),
            message: format!("{} {} {why}", owner.resource.kind, owner.key),
            causes: Vec::new(),
        };
        let path = owner.resource.object_path(&owner.key.namespace, &owner.key.name);
        let body = match self.get(&path, Detail::Metadata).await {
            Err(refusal) if refusal.is("NotFound") => return Err(gone("is gone")),
            answer => answer?,
        };
        let found: Found = serde_json::from_slice(&body).map_err(Refusal::unreadable)?;
        match found.metadata.deletion_timestamp {
            _ if found.metadata.uid.as_deref() != Some(&owner.uid) => Err(gone("is gone, another has its name")),
            Some(at) => Err(gone(&format!("has just been deleted at {}", at.0))),
            None => Ok(()),
        }
    }
}

fn delete_options(verb: &Verb) -> Value {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Verb::Delete { uid, revision, grace_seconds, propagation } = verb {
        if let Some(uid) = uid {
            options["preconditions"]["uid"] = json!(uid);
        }
        if let Some(revision) = revision {
            options["preconditions"]["resourceVersion"] = json!(revision);
        }
        if let Some(seconds) = grace_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(how) = propagation {
            options["propagationPolicy"] = json!(how.as_str());
        }
    }
    options
}

/// Whether a refusal means that there is nothing left to do.
pub fn harmless(action: &Action, refusal: &Refusal) -> bool {
    match &action.verb {
        Verb::Create { if_exists, .. } => {
            refusal.namespace_terminating() || (*if_exists == IfExists::Accept && refusal.is("AlreadyExists"))
        }
        Verb::Delete { .. } | Verb::Evict { .. } | Verb::DeleteCollection => refusal.is("NotFound"),
        Verb::Patch { .. } | Verb::Adopt { .. } => refusal.is("NotFound"),
        // A status may come too late for an object that has just gone.
        Verb::Update { subresource, .. } => *subresource == Subresource::Status && refusal.is("NotFound"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

    use super::*;

    /// What becomes of an adoption when the API server says this of the owner; and whether the object was patched.
    async fn adopted(code: u16, owner: Value) -> (Result<Bytes, Refusal>, bool) {
        let patched = Arc::new(AtomicBool::new(false));
        let seen = patched.clone();
        let api = crate::testing::api(move |method, path| match (method, path) {
            (&Method::GET, "/apis/apps/v1/namespaces/n/deployments/d") => (code, owner.clone()),
            (&Method::PATCH, "/apis/apps/v1/namespaces/n/replicasets/r") => {
                seen.store(true, Ordering::SeqCst);
                (200, json!({}))
            }
            _ => (500, json!({"message": "not expected"})),
        });
        let object = |name: &str| serde_json::from_value(json!({"name": name, "namespace": "n", "uid": name})).unwrap();
        let deployment = Deployment { metadata: object("d"), ..Default::default() };
        let set = ReplicaSet { metadata: object("r"), ..Default::default() };
        let done = api.execute(&Action::adopt(&deployment, &set, json!({"metadata": {}}))).await;
        (done, patched.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn only_an_owner_that_stays_takes_an_object_in() {
        let (done, patched) = adopted(200, json!({"metadata": {"uid": "d"}})).await;
        assert!(done.is_ok() && patched);
        let goes = json!({"metadata": {"uid": "d", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        for (code, owner) in
            [(200, goes), (200, json!({"metadata": {"uid": "e"}})), (404, json!({"reason": "NotFound"}))]
        {
            let (done, patched) = adopted(code, owner).await;
            assert!(done.is_err_and(|refusal| refusal.is("Conflict")) && !patched);
        }
    }
}
