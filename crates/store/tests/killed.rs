//! A process that is killed while it writes loses nothing that it was told is done; a store that cannot write says so,
//! goes on reading, and writes again when it can.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::StreamExt;
use store::mvcc::RangeRequest;
use store::{Embedded, Error, JournalRing, Options, Store, WatchRequest};

const DIRECTORY: &str = "STORE_TEST_DIRECTORY";

fn options() -> Options {
    Options { segment_bytes: 64 << 10, snapshot_log_bytes: 128 << 10, compact_every: None, ..Options::default() }
}

/// Not a test of its own: what the process does that the test below kills. It prints each key after the answer.
#[test]
fn child_that_writes() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(directory, options()).await.unwrap());
        let writer = |writer: u32| {
            let store = store.clone();
            async move {
                for number in 0.. {
                    let key = format!("/{writer}/{number}");
                    store.put(key.as_bytes(), vec![b'v'; 300].into()).await.unwrap();
                    println!("done {key}");
                }
            }
        };
        futures::future::join_all((0..16).map(|number| tokio::spawn(writer(number)))).await;
    });
}

#[test]
fn killed_in_the_middle_of_writing() {
    let directory = tempfile::tempdir().unwrap();
    let mut done: Vec<String> = Vec::new();
    for answers in [1, 40, 700] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        // What was printed before the kill is still in the pipe after it: read on to the end.
        for line in lines {
            let line = line.unwrap();
            // The test harness prints its own words before the first of ours.
            let Some(key) = line.split("done ").nth(1) else { continue };
            done.push(key.to_string());
            seen += 1;
            if seen == answers {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Embedded::open(directory.path(), options()).await.unwrap();
            for key in &done {
                assert!(store.get(key.as_bytes()).await.unwrap().is_some(), "{key} was answered and is lost");
            }
        });
    }
    assert!(done.len() >= 741);
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_and_works_again_later() {
    let parent = tempfile::tempdir().unwrap();
    let (path, away) = (parent.path().join("store"), parent.path().join("away"));
    let store = Embedded::open(&path, options()).await.unwrap();
    store.put(b"/first", "1".into()).await.unwrap();
    // Without its directory the store cannot begin a new segment, as on a full or read-only disk.
    std::fs::rename(&path, &away).unwrap();
    let mut written = 0;
    let refused = loop {
        match store.put(format!("/k/{written}").as_bytes(), vec![b'v'; 4000].into()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Unwritable { .. }), "{refused}");
    assert!(refused.to_string().starts_with("the store cannot write: "), "{refused}");
    assert!(store.get(b"/first").await.unwrap().is_some(), "reads go on");
    std::fs::rename(&away, &path).unwrap();
    assert!(store.status().await.unwrap().write_error.is_some());
    store.put(b"/last", "1".into()).await.unwrap();
    assert_eq!(store.status().await.unwrap().write_error, None);
    drop(store);
    let store = Embedded::open(&path, options()).await.unwrap();
    let there = store.range(RangeRequest::prefix("/")).await.unwrap();
    assert_eq!(there.count, written + 2, "what was refused is not there");
}

#[tokio::test]
async fn a_watch_goes_on_from_where_it_was_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), options()).await.unwrap();
    for number in 0..10 {
        store.put(b"/a", number.to_string().into()).await.unwrap();
    }
    drop(store);
    let store = Embedded::open(directory.path(), options()).await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("/", 6)).await;
    let past = watch.next().await.unwrap().unwrap();
    assert_eq!(past.events.iter().map(|event| event.kv.mod_revision).collect::<Vec<_>>(), [6, 7, 8, 9, 10, 11]);
    assert_eq!(past.events[0].prev_kv.as_ref().unwrap().value, "3");
    store.delete(b"/a").await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 12);
}

/// The journal must be readable by `why` while, and after, the process that writes it is there.
#[test]
fn a_journal_is_read_beside_its_writer() {
    use journal::{Journal, Record, Subject, What};
    let directory = tempfile::tempdir().unwrap();
    let ring = JournalRing::open(directory.path(), store::journal_ring::DEFAULT_BYTES).unwrap();
    let at = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(500_000);
    let subject = Subject::pod("default", "web", "uid").container("app", 0);
    let what =
        What::Exited { code: 3, signal: None, oom_killed: false, ran_ms: 10, last_lines: vec!["no\nluck".into()] };
    ring.write(at, Record::new(subject, what));
    let records = JournalRing::read_all(directory.path()).unwrap();
    let chain = journal::explain(&records, &Subject::pod("default", "web", ""));
    assert_eq!(chain.verdict, "default/web: container app crashed: exit code 3 after 10 ms");
    drop(ring);
}
