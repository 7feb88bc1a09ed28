//! Which images go when the disk is full.

use std::sync::Arc;
use std::time::Instant;

use pods::ports::Image;
use serde_json::{Value, json};

use super::fakes::{Api, Net, Run, Tape};
use crate::config::KubeletConfig;
use crate::garbage::{IMAGE_AGE_MIN, collect_images};
use crate::host::{Host, Known};

fn image(short: &'static str, size_bytes: u64, pinned: bool) -> (&'static str, Image) {
    let repo_tags = vec![format!("docker.io/library/{short}:latest")];
    (
        short,
        Image { id: format!("sha256:{short}"), repo_tags, repo_digests: Vec::new(), size_bytes, user: None, pinned },
    )
}

fn host(images: Vec<(&'static str, Image)>) -> (Arc<Run>, Host) {
    let runtime = Arc::new(Run::default());
    *runtime.store.lock().unwrap() = images;
    let config = KubeletConfig::new("node-1", vec!["192.168.0.1".parse().unwrap()]);
    let host = Host::new(config, runtime.clone(), Arc::new(Net), Arc::new(Tape::default()), Api::default().client());
    (runtime, host)
}

/// The host's one pod has this spec from now on.
fn run(host: &Host, spec: &Value) {
    let pod = json!({"metadata": {"name": "p", "namespace": "shop", "uid": "u1"}, "spec": spec});
    let (to, _from) = tokio::sync::mpsc::unbounded_channel();
    let known = Known {
        pod: Arc::new(serde_json::from_value(pod).unwrap()),
        status: None,
        to,
        network_namespace: None,
        gone: false,
    };
    host.pods().insert("u1".to_owned(), known);
}

fn left(runtime: &Run) -> Vec<&'static str> {
    runtime.store.lock().unwrap().iter().map(|(short, _)| *short).collect()
}

#[tokio::test]
async fn an_image_in_use_stays_whatever_a_pod_calls_it() {
    let (runtime, host) = host(vec![
        image("web", 250, false),
        image("data", 210, false),
        image("old", 240, false),
        image("built-in", 180, true),
    ]);
    run(
        &host,
        &json!({"containers": [{"name": "main", "image": "web"}],
            "volumes": [{"name": "v", "image": {"reference": "data"}}]}),
    );
    let start = Instant::now();
    // 880 of 1000 bytes are used, which is above 85 %; but a new image may be about to be used.
    let words = collect_images(&host, start).await.unwrap_err();
    assert!(words.contains("Attempted to free 80 bytes, but only found 0 bytes"), "{words}");
    assert_eq!(left(&runtime), ["web", "data", "old", "built-in"]);
    collect_images(&host, start + IMAGE_AGE_MIN).await.unwrap();
    assert_eq!(left(&runtime), ["web", "data", "built-in"]);
}

#[tokio::test]
async fn the_longest_unused_go_first_whatever_their_size() {
    let (runtime, host) =
        host(vec![image("recent", 300, false), image("former", 50, false), image("never", 40, false)]);
    let of = |images: &[&str]| {
        let container = |image: &&str| json!({"name": image, "image": image});
        json!({ "containers": images.iter().map(container).collect::<Vec<_>>() })
    };
    let start = Instant::now();
    run(&host, &of(&["recent", "former"]));
    collect_images(&host, start).await.unwrap();
    run(&host, &of(&["recent"]));
    collect_images(&host, start + IMAGE_AGE_MIN / 2).await.unwrap();
    host.pods().clear();
    runtime.store.lock().unwrap().push(image("new", 480, false));
    // 870 of 1000 bytes: 70 go. The new one was never used either, but is too young.
    collect_images(&host, start + IMAGE_AGE_MIN).await.unwrap();
    assert_eq!(left(&runtime), ["recent", "new"]);
    // One that is there again is as young as any that was never there: 890 bytes, of which "new" has come of age.
    runtime.store.lock().unwrap().push(image("never", 110, false));
    collect_images(&host, start + IMAGE_AGE_MIN * 2).await.unwrap();
    assert_eq!(left(&runtime), ["recent", "never"]);
}
