//! Images: malicious layers, archives, a real registry on loopback, and a registry that lies and stalls.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pods::ports::{PullError, RegistryAuth, Runtime};
use runtime::images::unpack::unpack;
use runtime::{Endpoint, Images, Registry};
use sha2::{Digest, Sha256};
use tar::EntryType;

/// Layers keep owners and devices, which takes root; some tests take programs of Debian's besides.
fn needs(programs: &[&str]) {
    assert!(rustix::process::geteuid().is_root(), "images are unpacked by root");
    for program in programs {
        assert!(Path::new(program).exists(), "{program} is missing");
    }
}

/// A tar stream of entries: kind, path, link target, content.
fn layer(entries: &[(EntryType, &str, &str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, link, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(12);
        header.set_gid(34);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        // Straight into the header: the builder's own check would refuse what is to be tested.
        let raw = header.as_mut_bytes();
        raw[..path.len()].copy_from_slice(path.as_bytes());
        raw[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

#[test]
fn layers_keep_everything_overlayfs_needs() {
    needs(&[]);
    use EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let tar = layer(&[
        (Directory, "d/", "", ""),
        (Regular, "d/f", "", "content"),
        (Link, "d/hard", "d/f", ""),
        (Symlink, "d/soft", "f", ""),
        (Char, "d/null", "", ""),
        (Fifo, "d/fifo", "", ""),
        (Regular, "d/.wh.gone", "", ""),
        (Regular, "opaque/.wh..wh..opq", "", ""),
        (Regular, "implied/parent/f", "", "x"),
        (Regular, "d/f2", "", "one"),
        (Regular, "d/f2", "", "two"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    for (form, stream) in
        [("plain", tar.clone()), ("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(&tar[..], 1).unwrap())]
    {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let unpacked = unpack(&stream[..], directory.path()).unwrap();
        assert_eq!(unpacked.diff_id, digest(&tar), "{form}");
        let at = |path: &str| std::fs::symlink_metadata(directory.path().join(path)).unwrap();
        let file = at("d/f");
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.mtime()), (12, 34, 0o4755, 1_000_000_000));
        assert_eq!(file.ino(), at("d/hard").ino());
        assert_eq!(at("d").mtime(), 1_000_000_000);
        assert!(at("d/null").file_type().is_char_device() && at("d/null").rdev() == rustix::fs::makedev(1, 3));
        assert!(at("d/fifo").file_type().is_fifo());
        assert!(at("d/gone").file_type().is_char_device() && at("d/gone").rdev() == 0);
        let mut value = [0u8; 8];
        let len = rustix::fs::getxattr(directory.path().join("opaque"), c"trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value[..len], b"y");
        assert_eq!(std::fs::read_to_string(directory.path().join("d/f2")).unwrap(), "two");
        assert_eq!(std::fs::read_to_string(directory.path().join("implied/parent/f")).unwrap(), "x");
    }
}

#[test]
fn malicious_layers_stay_in_their_directory() {
    needs(&[]);
    use EntryType::{Link, Regular, Symlink};
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(outside.path().join("victim"), "safe").unwrap();
    let target = outside.path().to_string_lossy().into_owned();
    let victim = format!("{target}/victim");
    let up = format!("../../../../../../../..{target}/new");
    let attacks: Vec<Vec<u8>> = vec![
        layer(&[(Regular, &up, "", "evil")]),
        layer(&[(Symlink, "l", &target, ""), (Regular, "l/new", "", "evil")]),
        layer(&[(Symlink, "l", "../../../../../..", ""), (Regular, &format!("l{target}/new"), "", "evil")]),
        layer(&[(Symlink, "a", "b", ""), (Symlink, "b", &target, ""), (Regular, "a/new", "", "evil")]),
        layer(&[(Symlink, "f", &victim, ""), (Regular, "f", "", "evil")]),
        layer(&[(Link, "h", &victim, ""), (Regular, "h", "", "evil")]),
        layer(&[(Symlink, "l", &target, ""), (Link, "h", "l/victim", ""), (Regular, "h", "", "evil")]),
        layer(&[(Symlink, "l", &target, ""), (Regular, "l/.wh.victim", "", "")]),
        layer(&[(Symlink, "l", "/proc/self/root", ""), (Regular, &format!("l{target}/new"), "", "evil")]),
    ];
    for (number, attack) in attacks.iter().enumerate() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let _either_way = unpack(&attack[..], directory.path());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe", "attack {number}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "attack {number}");
    }
}

fn save_archive() -> Vec<u8> {
    let tar_of_layer = layer(&[(EntryType::Regular, "hello", "", "world")]);
    let config = serde_json::json!({
        "config": {"User": "web", "Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&tar_of_layer)]},
    });
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": ["app:v1", "other/app:v2"], "Layers": ["l/layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [
        ("c.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
        ("l/layer.tar", tar_of_layer),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, path, &content[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// No container uses any layer.
fn none() -> std::io::Result<std::collections::BTreeSet<String>> {
    Ok(std::collections::BTreeSet::new())
}

/// Reads on, and does something in the middle.
struct Interrupted<'a, F> {
    data: &'a [u8],
    when: usize,
    act: Option<F>,
}

impl<F: FnOnce()> Read for Interrupted<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.data.len() <= self.when
            && let Some(act) = self.act.take()
        {
            act();
        }
        let some = buffer.len().min(512);
        self.data.read(&mut buffer[..some])
    }
}

/// Locks are of open files, so two stores in one process stand to each other as in two.
#[test]
fn two_processes_share_a_store() {
    needs(&[]);
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let node = Images::open(directory.path()).unwrap();
    let stored = node.import_archive(&save_archive()[..], None).unwrap();
    let other = Images::open(directory.path()).unwrap();
    // A removal by one is seen by the other, and so is an image that came.
    other.remove(&stored[0].id, none).unwrap();
    assert!(node.find("app:v1").unwrap().is_none() && node.list().unwrap().is_empty());
    other.import_archive(&save_archive()[..], None).unwrap();
    assert!(node.find("app:v1").unwrap().is_some());
    // One unpacks a layer while the other opens the store, and removes what is in nobody's index.
    let tar = layer(&[(EntryType::Regular, "slow", "", &"x".repeat(4096))]);
    let lease = node.lease(&[]).unwrap();
    let act = || Images::open(directory.path()).unwrap().remove("app:v1", none).unwrap();
    let slow = Interrupted { data: &tar, when: tar.len() / 2, act: Some(act) };
    let unpacked = node.add_layer(&lease, slow, None).unwrap();
    other.import_archive(&save_archive()[..], None).unwrap();
    other.remove(&stored[0].id, none).unwrap();
    assert!(node.has_layer(&unpacked.diff_id).unwrap(), "a layer under a lease stays");
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [unpacked.diff_id]}}).to_string();
    node.add_image(config.as_bytes(), &["r.io/slow:v1".into()], &[], false).unwrap();
    drop(lease);
    // Neither loses what the other has written.
    other.import_archive(&save_archive()[..], None).unwrap();
    let names = |images: &Images| images.list().unwrap().iter().flat_map(|i| i.tags.clone()).collect::<Vec<_>>();
    assert_eq!(names(&node), ["r.io/slow:v1", "docker.io/library/app:v1", "docker.io/other/app:v2"]);
    assert_eq!(names(&node), names(&other));
    // What nobody holds any more goes with the next removal.
    drop(node.lease(std::slice::from_ref(&unpacked.diff_id)).unwrap());
    other.remove("r.io/slow:v1", none).unwrap();
    assert!(!node.has_layer(&unpacked.diff_id).unwrap());
}

#[test]
fn a_process_that_died_leaves_nothing_for_ever() {
    needs(&[]);
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    drop(Images::open(directory.path()).unwrap());
    std::fs::create_dir(directory.path().join("layers/tmp-1")).unwrap();
    std::fs::write(directory.path().join("ingest/tmp-2.tar"), "").unwrap();
    let layer = "0".repeat(32);
    std::fs::create_dir(directory.path().join("layers").join(&layer)).unwrap();
    std::fs::write(directory.path().join("leases/dead"), format!("{layer}\n")).unwrap();
    let images = Images::open(directory.path()).unwrap();
    images.import_archive(&save_archive()[..], None).unwrap();
    images.remove("app:v1", none).unwrap();
    images.remove("other/app:v2", none).unwrap();
    for part in ["layers", "ingest", "leases", "blobs/sha256"] {
        let left: Vec<_> = std::fs::read_dir(directory.path().join(part)).unwrap().collect();
        assert!(left.is_empty(), "{part}: {left:?}");
    }
}

#[test]
fn a_damaged_index_names_its_file_and_the_place() {
    needs(&[]);
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let images = Images::open(directory.path()).unwrap();
    images.import_archive(&save_archive()[..], None).unwrap();
    let path = directory.path().join("index.json");
    let mut text = std::fs::read(&path).unwrap();
    text[2] = b'#';
    std::fs::write(&path, &text).unwrap();
    let told = images.list().unwrap_err().to_string();
    assert!(told.starts_with(&format!("{}: damaged at byte 2:", path.display())), "{told}");
    std::fs::write(&path, "").unwrap();
    let told = Images::open(directory.path()).err().unwrap().to_string();
    assert!(told.starts_with(&format!("{}: damaged at byte 0:", path.display())), "{told}");
}

#[test]
fn docker_archives_names_and_removal() {
    needs(&[]);
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let images = Images::open(directory.path()).unwrap();
    let archive = save_archive();
    let stored = images.import_archive(&archive[..], None).unwrap();
    let names: Vec<&String> = stored[0].tags.iter().collect();
    assert_eq!(names, ["docker.io/library/app:v1", "docker.io/other/app:v2"]);
    assert_eq!(stored[0].config.user.as_deref(), Some("web"));
    let found = |images: &Images, name: &str| images.find(name).unwrap();
    assert_eq!(found(&images, "app:v1").unwrap().id, found(&images, &stored[0].id).unwrap().id);
    let reopened = Images::open(directory.path()).unwrap();
    assert_eq!(reopened.list().unwrap(), stored);
    reopened.remove("app:v1", none).unwrap();
    assert!(found(&reopened, "app:v1").is_none() && found(&reopened, "other/app:v2").is_some());
    let layer = stored[0].layers[0].clone();
    reopened.remove("other/app:v2", || Ok(std::iter::once(layer.clone()).collect())).unwrap();
    assert!(reopened.layers().join(&layer).is_dir(), "a container still uses the layer");
    images.import_archive(&archive[..], None).unwrap();
    reopened.remove(&stored[0].id, none).unwrap();
    assert!(!reopened.layers().join(&layer).exists());
    assert!(images.import_archive(&b"no archive at all"[..], None).is_err());
}

/// Debian's registry on a free port of loopback.
struct DebianRegistry {
    process: std::process::Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl DebianRegistry {
    fn start() -> Self {
        needs(&["/usr/bin/docker-registry", "/usr/bin/skopeo"]);
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            directory.path().display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut registry = Self { process, port, _directory: directory };
        // It says when it listens; the rest of what it says is read away so that it never blocks.
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(registry.process.stderr.take().unwrap()));
        assert!(lines.by_ref().map_while(Result::ok).any(|l| l.contains("listening on")), "no registry");
        std::thread::spawn(move || lines.for_each(drop));
        registry
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_from_a_real_registry() {
    let registry = DebianRegistry::start();
    let node = common::Node::new().await;
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let archive = directory.path().join("a.tar");
    std::fs::write(&archive, save_archive()).unwrap();
    let name = format!("127.0.0.1:{}/some/app:v1", registry.port);
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
        .args([format!("docker-archive:{}:app:v1", archive.display()), format!("docker://{name}")])
        .status()
        .unwrap();
    assert!(copied.success());
    let image = node.runtime.pull(&name, &[]).await.unwrap();
    assert_eq!(image.repo_tags, std::slice::from_ref(&name));
    assert!(image.repo_digests[0].starts_with(&format!("127.0.0.1:{}/some/app@sha256:", registry.port)));
    assert_eq!(image.user.as_deref(), Some("web"));
    let by_digest = node.runtime.pull(&image.repo_digests[0], &[]).await.unwrap();
    assert_eq!(by_digest.id, image.id);
    assert_eq!(node.runtime.image(&image.repo_digests[0]).await.unwrap().unwrap().id, image.id);
    let missing = node.runtime.pull(&format!("127.0.0.1:{}/no/such:v1", registry.port), &[]).await.unwrap_err();
    assert!(matches!(&missing, PullError::NotFound(text) if text.ends_with("/no/such:v1: not found")), "{missing}");
    assert!(matches!(node.runtime.pull("Bad Name", &[]).await, Err(PullError::InvalidName(_))));
    node.runtime.remove_image(&image.id).await.unwrap();
    assert!(node.runtime.image(&name).await.unwrap().is_none());
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oci_archive_of_skopeo_is_imported() {
    needs(&["/usr/bin/skopeo"]);
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let images = Images::open(&directory.path().join("images")).unwrap();
    let (docker, oci) = (directory.path().join("d.tar"), directory.path().join("o.tar"));
    std::fs::write(&docker, save_archive()).unwrap();
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy"])
        .args([
            format!("docker-archive:{}:app:v1", docker.display()),
            format!("oci-archive:{}:r.io/app:v9", oci.display()),
        ])
        .status()
        .unwrap();
    assert!(copied.success());
    let stored = images.import_archive(std::fs::File::open(&oci).unwrap(), None).unwrap();
    assert!(stored[0].tags.contains("r.io/app:v9"), "{stored:?}");
    assert_eq!(stored[0].digests.len(), 1);
}

/// What a request is answered with: status line and headers, body, and whether the connection then goes silent.
type Answer = (String, Vec<u8>, bool);

/// A registry of our own that answers as a test wants.
fn fake(answer: impl Fn(&str, Option<usize>) -> Answer + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(stream, &*answer));
        }
    });
    port
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&str, Option<usize>) -> Answer) {
    loop {
        let mut request = Vec::new();
        let mut byte = [0u8; 1];
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            request.push(byte[0]);
        }
        let request = String::from_utf8_lossy(&request).to_lowercase();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let from = request.lines().find_map(|l| l.strip_prefix("range: bytes=")?.split('-').next()?.parse().ok());
        let (head, body, silent) = answer(&path, from);
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        if sent.is_err() {
            return;
        }
        if silent {
            // Until the client gives up.
            let _gone = stream.read(&mut byte);
            return;
        }
    }
}

struct Served {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn served() -> Served {
    let noise: String = (0..40_000u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let tar = layer(&[(EntryType::Regular, "hello", "", &noise)]);
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": [digest(&tar)]}}).to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&tar), "size": tar.len()}],
    });
    Served { manifest: manifest.to_string().into_bytes(), config, layer: tar }
}

fn whole(body: &[u8]) -> Answer {
    (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()), body.to_vec(), false)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_is_not_believed() {
    let node = common::Node::new().await;
    let files = served();
    let port = fake(move |path, _| match path {
        p if p.contains("/manifests/") => whole(&files.manifest),
        p if p.ends_with(&digest(&files.config)) => whole(&files.config),
        p if p.contains("/blobs/") => whole(&vec![b'x'; files.layer.len()]),
        _ => whole(b""),
    });
    let name = format!("127.0.0.1:{port}/liar:v1");
    let told = node.runtime.pull(&name, &[]).await.unwrap_err();
    assert!(matches!(told, PullError::Digest { .. }), "{told}");
    let other = format!("127.0.0.1:{port}/liar@sha256:{}", "0".repeat(64));
    let told = node.runtime.pull(&other, &[]).await.unwrap_err();
    assert!(matches!(told, PullError::Digest { .. }), "{told}");
    assert!(node.runtime.image(&name).await.unwrap().is_none());
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_download_is_continued_where_it_stopped() {
    assert_eq!(requests_of_a_stalled_download(true).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_download_is_begun_anew_where_the_registry_does_not_continue_it() {
    assert_eq!(requests_of_a_stalled_download(false).await, 3);
}

/// How often a layer is asked for whose first answer stops in the midst, by a registry that can continue it or not.
async fn requests_of_a_stalled_download(continues: bool) -> usize {
    let node = common::Node::new().await;
    let files = served();
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let port = fake(move |path, from| match path {
        p if p.contains("/manifests/") => whole(&files.manifest),
        p if p.ends_with(&digest(&files.config)) => whole(&files.config),
        p if p.contains("/blobs/") => {
            let (all, from) = (files.layer.len(), from.unwrap_or(0));
            if seen.fetch_add(1, Ordering::SeqCst) == 0 {
                // Half of it, then silence.
                return (
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {all}\r\n\r\n"),
                    files.layer[..all / 2].to_vec(),
                    true,
                );
            }
            if from == 0 {
                assert!(!continues, "the second request continues");
                return whole(&files.layer);
            }
            if !continues {
                let said = r#"{"errors": [{"code": "BLOB_UNKNOWN", "message": "no such range"}]}"#;
                let head = format!("HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: {}\r\n\r\n", said.len());
                return (head, said.into(), false);
            }
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{all}\r\n\r\n",
                all - from,
                all - 1
            );
            (head, files.layer[from..].to_vec(), false)
        }
        _ => whole(b""),
    });
    let mirror = Endpoint { host: format!("127.0.0.1:{port}"), stall_timeout_seconds: Some(1), ..Endpoint::default() };
    let mut config = common::config(node.directory.path());
    config.registries = vec![Registry { host: "slow.test".into(), endpoints: vec![mirror], ..Registry::default() }];
    let node = node.reopen(config).await;
    let image = node.runtime.pull("slow.test/app:v1", &[]).await.unwrap();
    assert_eq!(image.repo_tags, ["slow.test/app:v1"]);
    node.down().await;
    asked.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_two_tags_have_is_downloaded_by_one_at_a_time() {
    let node = common::Node::new().await;
    let files = served();
    let (busy, most) = ([AtomicUsize::new(0), AtomicUsize::new(0)], Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let port = fake(move |path, _| {
        let (body, busy) = match path {
            p if p.contains("/manifests/") => return whole(&files.manifest),
            p if p.ends_with(&digest(&files.config)) => (&files.config, &busy[0]),
            p if p.contains("/blobs/") => (&files.layer, &busy[1]),
            _ => return whole(b""),
        };
        let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(now, Ordering::SeqCst);
        // Long enough for a second request to come in, if there is one.
        std::thread::sleep(std::time::Duration::from_millis(200));
        busy.fetch_sub(1, Ordering::SeqCst);
        whole(body)
    });
    let names = ["v1", "v2", "v3", "v4"].map(|tag| format!("127.0.0.1:{port}/one:{tag}"));
    let pulls = names.iter().map(|name| node.runtime.pull(name, &[]));
    for pulled in futures::future::join_all(pulls).await {
        pulled.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    node.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_tried_in_turn() {
    let node = common::Node::new().await;
    let port = fake(|_, _| {
        let head = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"r\"\r\ncontent-length: 0\r\n\r\n";
        (head.to_owned(), Vec::new(), false)
    });
    let auth = RegistryAuth { username: "u".into(), password: "p".into(), identity_token: None };
    let told = node.runtime.pull(&format!("127.0.0.1:{port}/private:v1"), &[auth]).await.unwrap_err();
    assert!(matches!(&told, PullError::Unauthorized(text) if text.contains("pull access denied")), "{told}");
    node.down().await;
}
