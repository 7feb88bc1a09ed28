//! Rotation of a running container's log.

use std::io::Read;
use std::sync::Arc;

use serde_json::json;

use super::fakes::{Api, Net, Run, Tape};
use crate::KubeletConfig;
use crate::host::{Host, Known};

#[tokio::test]
async fn a_log_is_kept_within_its_size_and_its_number_of_files() {
    let dir = std::env::temp_dir().join(format!("windlass-rotate-{}", std::process::id()));
    let mut config = KubeletConfig::new("node-1", vec!["192.168.0.1".parse().unwrap()]);
    (config.log_dir, config.log_max_bytes, config.log_max_files) = (dir.clone(), 1024, 3);
    let host =
        Host::new(config, Arc::new(Run::default()), Arc::new(Net), Arc::new(Tape::default()), Api::default().client());
    let status = json!({"containerStatuses": [
        {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {}}}]});
    let pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}, "spec": {"containers": []}});
    let known = Known {
        pod: serde_json::from_value(pod).unwrap(),
        status: Some(serde_json::from_value(status).unwrap()),
        to: tokio::sync::mpsc::unbounded_channel().0,
        network_namespace: None,
        gone: false,
    };
    host.pods().insert("u1".into(), known);
    let logs = dir.join("shop_web_u1/c");
    std::fs::create_dir_all(&logs).unwrap();
    let names = || {
        let mut names: Vec<String> =
            std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    std::fs::write(logs.join("2.log"), [b'a'; 1023]).unwrap();
    crate::logs::rotate::look(&host).await;
    assert_eq!(names(), ["2.log"], "it is not too big yet");
    for older in ["2.log.20260101-000001.gz", "2.log.20260101-000002", "1.log"] {
        std::fs::write(logs.join(older), older).unwrap();
    }
    std::fs::write(logs.join("2.log"), [b'a'; 1024]).unwrap();
    crate::logs::rotate::look(&host).await;
    let now = names();
    // The writer opens a new `2.log`, which is the third file of this run.
    let [other, packed, youngest] = &now[..] else { panic!("{now:?}") };
    assert_eq!((other.as_str(), packed.as_str()), ("1.log", "2.log.20260101-000002.gz"));
    assert_eq!(std::fs::metadata(logs.join(youngest)).unwrap().len(), 1024);
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(logs.join(packed)).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "2.log.20260101-000002");
    std::fs::remove_dir_all(dir).unwrap();
}
