//! A pod's volumes on a real file system, with objects from an API server that exists only here.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use pods::downward::Place;
use serde_json::{Value, json};

use super::fakes::{Api, Net, Run, Tape};
use crate::KubeletConfig;
use crate::host::Host;
use crate::objects::Subscriber;
use crate::volumes::{self, Made, Volume};

struct Disk {
    host: Arc<Host>,
    api: Api,
    dir: PathBuf,
    to: Subscriber,
    _from: tokio::sync::mpsc::UnboundedReceiver<crate::task::Message>,
}

impl Disk {
    fn new(name: &str) -> Disk {
        let dir = std::env::temp_dir().join(format!("windlass-volumes-{name}-{}", std::process::id()));
        let mut config = KubeletConfig::new("node-1", vec!["192.168.0.1".parse().unwrap()]);
        config.data_dir = dir.clone();
        let api = Api::default();
        let (runtime, tape) = (Arc::new(Run::default()), Arc::new(Tape::default()));
        let host = Arc::new(Host::new(config, runtime, Arc::new(Net), tape, api.client()));
        let (to, _from) = tokio::sync::mpsc::unbounded_channel();
        Disk { host, api, dir, to: Subscriber { uid: "u1".into(), to }, _from }
    }

    async fn set_up(&self, pod: &Arc<Pod>) -> Made {
        volumes::set_up(&self.host, pod, &Place::default(), &self.to).await
    }

    fn end(self) {
        volumes::tear_down(&self.host.pod_dir("u1")).unwrap();
        crate::files::remove_tree(&self.dir).unwrap();
    }
}

fn pod(security: Value, volumes: Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"securityContext": security, "containers": [], "volumes": volumes}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn directory(made: &Made, volume: &str) -> PathBuf {
    assert_eq!(made.failures, [], "volumes failed");
    match &made.volumes[volume] {
        Volume::Directory(dir) | Volume::ReadOnly(dir) => dir.clone(),
        other => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> (u32, u32) {
    let meta = std::fs::metadata(path).unwrap();
    (meta.gid(), meta.mode() & 0o7777)
}

#[tokio::test]
async fn an_empty_dir_is_given_to_the_group_once_and_then_left_to_its_containers() {
    let disk = Disk::new("group");
    let pod = pod(json!({"fsGroup": 4711}), json!([{"name": "data", "emptyDir": {}}]));
    let dir = directory(&disk.set_up(&pod).await, "data");
    assert_eq!(mode(&dir), (4711, 0o2777));
    let own = dir.join("key");
    std::fs::write(&own, "secret").unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600)).unwrap();
    // A second node process sets the volumes of the pods that it adopts up again.
    assert_eq!(directory(&disk.set_up(&pod).await, "data"), dir);
    assert_eq!(mode(&own).1, 0o600, "what a container made is its own");
    disk.end();
}

#[tokio::test]
async fn an_empty_dir_in_memory_has_its_size_and_goes_with_the_pod() {
    let disk = Disk::new("memory");
    let pod = pod(json!({}), json!([{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]));
    let dir = directory(&disk.set_up(&pod).await, "data");
    assert_eq!(crate::machine::disk(&dir).capacity_bytes, 1 << 20);
    std::fs::write(dir.join("half"), vec![0; 512 << 10]).unwrap();
    assert_eq!(std::fs::write(dir.join("more"), vec![0; 600 << 10]).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(directory(&disk.set_up(&pod).await, "data"), dir);
    assert!(dir.join("half").exists(), "it is not mounted a second time");
    assert_eq!(crate::files::mounts_below(&disk.dir).unwrap(), [dir]);
    volumes::tear_down(&disk.host.pod_dir("u1")).unwrap();
    assert_eq!(crate::files::mounts_below(&disk.dir).unwrap(), Vec::<PathBuf>::new());
    disk.end();
}

#[tokio::test]
async fn one_missing_source_does_not_hold_up_the_other_volumes() {
    let disk = Disk::new("refresh");
    let map = |name: &str| json!({"metadata": {"name": name, "resourceVersion": "1"}, "data": {"k": name}});
    disk.api.answer_with("/api/v1/namespaces/shop/configmaps/a", 200, map("a"));
    disk.api.answer_with("/api/v1/namespaces/shop/configmaps/b", 200, map("b"));
    let pod =
        pod(json!({}), json!([{"name": "a", "configMap": {"name": "a"}}, {"name": "b", "configMap": {"name": "b"}}]));
    let made = disk.set_up(&pod).await;
    assert!(matches!(made.volumes["a"], Volume::ReadOnly(_)));
    let (a, b) = (directory(&made, "a"), directory(&made, "b"));
    assert_eq!(std::fs::read_to_string(a.join("k")).unwrap(), "a");
    disk.host.objects.release("u1");
    let gone =
        json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404});
    disk.api.answer_with("/api/v1/namespaces/shop/configmaps/a", 404, gone);
    let newer = json!({"metadata": {"name": "b", "resourceVersion": "2"}, "data": {"k": "newer"}});
    disk.api.answer_with("/api/v1/namespaces/shop/configmaps/b", 200, newer);
    let made = volumes::refresh(&disk.host, &pod, &Place::default(), &disk.to).await;
    let failed: Vec<_> = made.failures.iter().map(|f| (f.volume.as_str(), f.message.as_str())).collect();
    assert_eq!(failed, [("a", "configmap \"a\" not found")]);
    assert_eq!(std::fs::read_to_string(a.join("k")).unwrap(), "a", "the old content stays");
    assert_eq!(std::fs::read_to_string(b.join("k")).unwrap(), "newer");
    disk.end();
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_is_told_of() {
    let disk = Disk::new("forbidden");
    let words = "secrets \"s\" is forbidden: User \"system:node:node-1\" cannot get resource \"secrets\"";
    let refusal = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": words, "code": 403});
    disk.api.answer_with("/api/v1/namespaces/shop/secrets/s", 403, refusal);
    let pod = pod(json!({}), json!([{"name": "s", "secret": {"secretName": "s", "optional": true}}]));
    let made = disk.set_up(&pod).await;
    assert_eq!(made.failures[0].message, format!("failed to sync secret cache: {words}"));
    disk.end();
}
