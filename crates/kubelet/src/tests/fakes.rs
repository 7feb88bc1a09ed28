//! A runtime, a network, a journal and an API server in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use journal::{Journal, Record, RecordId, What};
use kube::client::Body;
use pods::ports::*;
use serde_json::{Value, json};
use tokio::sync::broadcast;

pub(crate) struct Net;

#[async_trait]
impl Network for Net {
    async fn attach(&self, _: &PodNetwork) -> Result<Vec<IpAddr>, NetworkError> {
        Ok(vec!["10.244.0.2".parse().unwrap()])
    }
    async fn detach(&self, _: &str) -> Result<(), NetworkError> {
        Ok(())
    }
    async fn retain(&self, _: &[String]) -> Result<(), NetworkError> {
        Ok(())
    }
    async fn ready(&self) -> Option<String> {
        None
    }
}

#[derive(Default)]
pub(crate) struct Tape(Mutex<Vec<Record>>);

impl Journal for Tape {
    fn write(&self, _: Timestamp, record: Record) -> RecordId {
        let mut all = self.0.lock().unwrap();
        all.push(record);
        RecordId(all.len() as u64)
    }
}

impl Tape {
    pub(crate) fn story(&self, uid: &str) -> String {
        let all = self.0.lock().unwrap();
        all.iter().filter(|record| record.subject.uid == uid).map(line).collect()
    }
}

fn line(record: &Record) -> String {
    let of =
        format!("{}/{}", record.subject.container.clone().unwrap_or_default(), record.subject.attempt.unwrap_or(0));
    match &record.what {
        What::PodAdmitted => "admitted\n".into(),
        What::Adopted { .. } => "adopted\n".into(),
        What::Started { .. } => format!("started {of}\n"),
        What::Signal { signal, because } => format!("signal {signal} to {of}: {}\n", because.rule),
        What::Exited { code, .. } => format!("exited {of} {code}\n"),
        What::Removal { because } => format!("removal: {}\n", because.rule),
        other => format!("{other:?}\n"),
    }
}

/// Containers that exist as states only: SIGTERM ends them at once.
pub(crate) struct Run {
    sandboxes: Mutex<BTreeMap<String, Sandbox>>,
    containers: Mutex<BTreeMap<ContainerId, (ContainerSpec, ContainerState)>>,
    exits: broadcast::Sender<(ContainerId, Exit)>,
    starts: Mutex<u32>,
    /// Images, each with the short name that pods give it. Without any, every image that is asked for is there.
    pub(super) store: Mutex<Vec<(&'static str, Image)>>,
}

impl Default for Run {
    fn default() -> Run {
        let exits = broadcast::channel(100).0;
        Run {
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            exits,
            starts: Mutex::default(),
            store: Mutex::default(),
        }
    }
}

impl Run {
    pub(super) fn sandboxes(&self) -> Vec<String> {
        self.sandboxes.lock().unwrap().keys().cloned().collect()
    }

    pub(super) fn starts(&self) -> u32 {
        *self.starts.lock().unwrap()
    }

    pub(super) fn env(&self, name: &str) -> Vec<(String, String)> {
        let all = self.containers.lock().unwrap();
        all.iter().find(|(id, _)| id.name == name).map(|(_, (spec, _))| spec.env.clone()).unwrap_or_default()
    }

    pub(super) fn exit(&self, name: &str, code: i32) {
        let mut all = self.containers.lock().unwrap();
        let running = all.iter_mut().find(|(id, (_, state))| id.name == name && state.phase == ContainerPhase::Running);
        let Some((id, (_, state))) = running else { return };
        let now = Timestamp::now();
        let exit = Exit { code, signal: None, oom_killed: false, started: now, finished: now };
        state.phase = ContainerPhase::Exited;
        state.exit = Some(exit.clone());
        self.exits.send((id.clone(), exit)).ok();
    }
}

#[async_trait]
impl Runtime for Run {
    async fn inventory(&self) -> Result<Vec<Inventory>, RuntimeError> {
        let all = self.containers.lock().unwrap();
        let of = |uid: &str| all.values().filter(|(spec, _)| spec.id.pod_uid == uid).map(|(_, s)| s.clone()).collect();
        let sandboxes = self.sandboxes.lock().unwrap();
        Ok(sandboxes.iter().map(|(uid, s)| Inventory { sandbox: s.clone(), containers: of(uid) }).collect())
    }
    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let sandbox = Sandbox {
            pod_uid: spec.pod_uid.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            network_namespace: Some("/run/netns/x".into()),
            created: Timestamp::now(),
        };
        self.sandboxes.lock().unwrap().insert(spec.pod_uid.clone(), sandbox.clone());
        Ok(sandbox)
    }
    async fn remove_sandbox(&self, uid: &str, _: RecordId) -> Result<(), RuntimeError> {
        self.sandboxes.lock().unwrap().remove(uid);
        self.containers.lock().unwrap().retain(|id, _| id.pod_uid != uid);
        Ok(())
    }
    async fn update_sandbox(&self, _: &str, _: &Resources) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerState, RuntimeError> {
        let state = ContainerState {
            id: spec.id.clone(),
            image: spec.image.clone(),
            image_id: "sha256:1".into(),
            phase: ContainerPhase::Created,
            pid: None,
            created: Timestamp::now(),
            started: None,
            exit: None,
            log_path: spec.log_path.clone(),
            stop_signal: None,
        };
        self.containers.lock().unwrap().insert(spec.id.clone(), (spec.clone(), state.clone()));
        Ok(state)
    }
    async fn start_container(&self, id: &ContainerId) -> Result<ContainerState, RuntimeError> {
        *self.starts.lock().unwrap() += 1;
        let mut all = self.containers.lock().unwrap();
        let (_, state) = all.get_mut(id).ok_or_else(|| RuntimeError::NoSuchContainer(id.clone()))?;
        state.phase = ContainerPhase::Running;
        state.started = Some(Timestamp::now());
        Ok(state.clone())
    }
    async fn update_container(&self, _: &ContainerId, _: &Resources) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn signal(&self, id: &ContainerId, signal: i32, _: RecordId) -> Result<(), RuntimeError> {
        self.exit(&id.name, 128 + signal);
        Ok(())
    }
    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.containers.lock().unwrap().remove(id);
        Ok(())
    }
    async fn container(&self, id: &ContainerId) -> Result<ContainerState, RuntimeError> {
        let all = self.containers.lock().unwrap();
        all.get(id).map(|(_, state)| state.clone()).ok_or_else(|| RuntimeError::NoSuchContainer(id.clone()))
    }
    fn exits(&self) -> BoxStream<'static, (ContainerId, Exit)> {
        let from = tokio_stream::wrappers::BroadcastStream::new(self.exits.subscribe());
        from.filter_map(|exit| async move { exit.ok() }).boxed()
    }
    async fn exec(&self, _: &ContainerId, _: &ExecSpec) -> Result<Session, RuntimeError> {
        Err(RuntimeError::Broken("no exec here".into()))
    }
    async fn attach(&self, _: &ContainerId, _: bool) -> Result<Session, RuntimeError> {
        Err(RuntimeError::Broken("no attach here".into()))
    }
    async fn reopen_log(&self, _: &ContainerId) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn stats(&self) -> Result<Vec<ContainerStats>, RuntimeError> {
        Ok(Vec::new())
    }
    async fn pull(&self, image: &str, _: &[RegistryAuth]) -> Result<Image, PullError> {
        Err(PullError::NotFound(image.into()))
    }
    async fn image(&self, image: &str) -> Result<Option<Image>, RuntimeError> {
        let store = self.store.lock().unwrap();
        if !store.is_empty() {
            let is_it = |found: &&(&str, Image)| found.0 == image || found.1.id == image;
            return Ok(store.iter().find(is_it).map(|(_, image)| image.clone()));
        }
        let id = "sha256:1".to_string();
        let (repo_tags, repo_digests) = (vec![image.to_string()], Vec::new());
        Ok(Some(Image { id, repo_tags, repo_digests, size_bytes: 1, user: None, pinned: false }))
    }
    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.store.lock().unwrap().iter().map(|(_, image)| image.clone()).collect())
    }
    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        self.store.lock().unwrap().retain(|(_, kept)| kept.id != image);
        Ok(())
    }
    /// A disk of 1000 bytes with the images and nothing else.
    async fn image_usage(&self) -> Result<ImageUsage, RuntimeError> {
        let image_bytes = self.store.lock().unwrap().iter().map(|(_, image)| image.size_bytes).sum();
        let capacity_bytes = 1000;
        Ok(ImageUsage {
            image_bytes,
            capacity_bytes,
            available_bytes: capacity_bytes - image_bytes,
            ..ImageUsage::default()
        })
    }
}

/// One pod behind the few requests that a kubelet makes.
#[derive(Clone)]
pub(crate) struct Api(Arc<State>);

struct State {
    pod: Mutex<Option<Value>>,
    seen: Mutex<Vec<String>>,
    events: Mutex<Vec<String>>,
    changes: broadcast::Sender<Value>,
    /// Answers to reads, by path.
    objects: Mutex<BTreeMap<String, (u16, Value)>>,
}

impl Default for Api {
    fn default() -> Api {
        let changes = broadcast::channel(100).0;
        let (pod, seen, events, objects) = (Mutex::default(), Mutex::default(), Mutex::default(), Mutex::default());
        Api(Arc::new(State { pod, seen, events, changes, objects }))
    }
}

impl Api {
    pub(super) fn with(pod: Value) -> Api {
        let api = Api::default();
        *api.0.pod.lock().unwrap() = Some(pod);
        api
    }

    /// What a read of this path gets from now on.
    pub(super) fn answer_with(&self, path: &str, status: u16, body: Value) {
        self.0.objects.lock().unwrap().insert(path.into(), (status, body));
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub(super) fn pod(&self, path: &str) -> Value {
        let pod = self.0.pod.lock().unwrap();
        pod.as_ref().and_then(|pod| pod.pointer(path)).cloned().unwrap_or_default()
    }

    pub(super) fn seen(&self, what: &str) -> bool {
        self.0.seen.lock().unwrap().iter().any(|line| line.starts_with(what))
    }

    pub(super) fn events(&self) -> Vec<String> {
        let all = self.0.events.lock().unwrap();
        all.iter().filter(|line| !line.contains("Node") && !line.contains("kubelet")).cloned().collect()
    }

    pub(super) fn delete(&self, grace: i64) {
        self.change(|pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T19:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = self.0.pod.lock().unwrap();
        let Some(pod) = pod.as_mut() else { return Value::Null };
        change(pod);
        let version = pod["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() + 1;
        pod["metadata"]["resourceVersion"] = json!(version.to_string());
        self.0.changes.send(json!({"type": "MODIFIED", "object": pod})).ok();
        pod.clone()
    }

    async fn answer(
        &self,
        request: Request<Body>,
    ) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_string();
        let query = parts.uri.query().unwrap_or_default().to_string();
        self.0.seen.lock().unwrap().push(format!("{} {path}?{query}", parts.method));
        if query.contains("watch=true") {
            let changes = if path == "/api/v1/pods" { Some(self.0.changes.subscribe()) } else { None };
            return streamed(changes);
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let known = self.0.objects.lock().unwrap().get(&path).cloned();
        let (status, value) = match (&parts.method, last) {
            (&Method::GET, _) if known.is_some() => known.unwrap(),
            (&Method::GET, "pods") => {
                let items: Vec<Value> = self.0.pod.lock().unwrap().iter().cloned().collect();
                (
                    200,
                    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": items}),
                )
            }
            (&Method::GET, "services") => (
                200,
                json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": []}),
            ),
            (&Method::PATCH, "status") if path.contains("/pods/") => {
                assert_eq!(sent["metadata"]["uid"], "u1");
                let patch = |pod: &mut Value| merge(&mut pod["status"], &sent["status"]);
                (200, self.change(patch))
            }
            (&Method::DELETE, "web") => {
                let pod = self.0.pod.lock().unwrap().take();
                self.0.changes.send(json!({"type": "DELETED", "object": pod})).ok();
                (200, pod.unwrap_or_default())
            }
            (&Method::POST, "events") => {
                let line = format!("{}: {}", sent["reason"].as_str().unwrap(), sent["message"].as_str().unwrap());
                self.0.events.lock().unwrap().push(line);
                (201, sent)
            }
            (&Method::POST | &Method::PUT, _) => (201, sent),
            (&Method::PATCH, _) => (200, json!({"metadata": {"name": "node-1"}})),
            _ => (
                404,
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404}),
            ),
        };
        let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
        Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
    }
}

fn streamed(
    changes: Option<broadcast::Receiver<Value>>,
) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>> {
    let lines: BoxStream<'static, Value> = match changes {
        Some(changes) => {
            tokio_stream::wrappers::BroadcastStream::new(changes).filter_map(|c| async move { c.ok() }).boxed()
        }
        None => futures::stream::pending().boxed(),
    };
    let frames = lines.map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n")))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn merge(into: &mut Value, from: &Value) {
    for (field, value) in from.as_object().into_iter().flatten() {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(field);
        } else {
            into[field] = value.clone();
        }
    }
}
