//! Which images go when the disk is full.

use std::sync::Arc;

use pods::ports::Image;
use serde_json::json;

use super::fakes::{Api, Net, Run, Tape};
use crate::config::KubeletConfig;
use crate::garbage::collect_images;
use crate::host::{Host, Known};

fn image(short: &'static str, size_bytes: u64, pinned: bool) -> (&'static str, Image) {
    let repo_tags = vec![format!("docker.io/library/{short}:latest")];
    (
        short,
        Image { id: format!("sha256:{short}"), repo_tags, repo_digests: Vec::new(), size_bytes, user: None, pinned },
    )
}

#[tokio::test]
async fn an_image_in_use_stays_whatever_a_pod_calls_it() {
    let runtime = Arc::new(Run::default());
    *runtime.store.lock().unwrap() = vec![
        image("web", 250, false),
        image("data", 210, false),
        image("small", 40, false),
        image("old", 200, false),
        image("built-in", 180, true),
    ];
    let config = KubeletConfig::new("node-1", vec!["192.168.0.1".parse().unwrap()]);
    let tape = Arc::new(Tape::default());
    let host = Host::new(config, runtime.clone(), Arc::new(Net), tape, Api::default().client());
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "u1"}, "spec": {
        "containers": [{"name": "main", "image": "web"}],
        "volumes": [{"name": "v", "image": {"reference": "data"}}]}});
    let (to, _from) = tokio::sync::mpsc::unbounded_channel();
    let known = Known {
        pod: Arc::new(serde_json::from_value(pod).unwrap()),
        status: None,
        to,
        network_namespace: None,
        gone: false,
    };
    host.pods().insert("u1".to_owned(), known);
    // 880 of 1000 bytes are used; above 85 % it goes down to 80 %, the largest that nobody uses first.
    collect_images(&host).await.unwrap();
    let left: Vec<&str> = runtime.store.lock().unwrap().iter().map(|(short, _)| *short).collect();
    assert_eq!(left, ["web", "data", "small", "built-in"]);
}
