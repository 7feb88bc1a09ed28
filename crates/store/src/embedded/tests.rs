//! What a crash, a full disk or a second process may and may not do.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use mvcc::{Op, PutRequest};
use proptest::prelude::*;

use super::*;

fn quick() -> Options {
    Options { segment_bytes: 16 << 10, snapshot_log_bytes: 64 << 10, compact_every: None, ..Options::default() }
}

fn open(path: &Path) -> Result<Embedded, Error> {
    Embedded::open_blocking(path.to_path_buf(), quick())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Keys and values now, and the history that a watch from the beginning sees.
fn contents(store: &Embedded) -> (Revision, BTreeMap<Bytes, Bytes>) {
    let all = store.core.read().range(&RangeRequest::prefix("")).unwrap();
    (all.revision, all.kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        // A file may be renamed between listing and copying; the copy is then one of a crash at that moment.
        drop(std::fs::copy(entry.path(), to.join(entry.file_name())));
    }
}

fn newest_segment(path: &Path) -> std::path::PathBuf {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let logs = names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-"));
    logs.max().unwrap()
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let before = runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        let lease = store.lease_grant(0, Duration::from_secs(60)).await.unwrap();
        for number in 0..500 {
            store.put(format!("/k/{}", number % 50).as_bytes(), vec![b'x'; 100].into()).await.unwrap();
        }
        store.txn(Txn::of(Op::Put(PutRequest::new("/leased", "v").lease(lease)))).await.unwrap();
        store.delete(b"/k/7").await.unwrap();
        store.compact(300).await.unwrap();
        assert_eq!(store.lease_keep_alive(lease).await.unwrap(), Duration::from_secs(60));
        contents(&store)
    });
    let store = open(dir.path()).unwrap();
    assert_eq!(contents(&store), before);
    let state = store.core.read();
    assert_eq!(state.compacted_revision(), 300);
    assert_eq!(state.leases().map(|lease| lease.keys.len()).collect::<Vec<_>>(), [1]);
    let since = state.events_since(b"/", b"0", 300).unwrap();
    assert_eq!(since.first().unwrap().kv.mod_revision, 300);
    assert_eq!(since.last().unwrap().kv.mod_revision, before.0);
    assert!(matches!(state.events_since(b"/", b"0", 299), Err(mvcc::Error::Compacted { .. })));
}

#[test]
fn snapshots_replace_the_log_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        let mut names = Vec::new();
        for number in 0..4000 {
            store.put(format!("/k/{}", number % 20).as_bytes(), vec![b'x'; 100].into()).await.unwrap();
            names = store.threads.segments.as_ref().unwrap().directory.list("snapshot").unwrap();
            if !names.is_empty() && number > 1500 {
                break;
            }
        }
        assert_eq!(names.len(), 1, "the log has grown enough for a snapshot");
        contents(&store)
    });
    let store = open(dir.path()).unwrap();
    assert_eq!(contents(&store), before);
}

#[test]
fn a_second_user_is_turned_away_and_told_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let Err(error) = open(dir.path()) else { panic!("two stores in one directory") };
    let text = error.to_string();
    assert!(text.contains(&format!("used by another process (pid {})", std::process::id())), "{text}");
    drop(store);
    open(dir.path()).unwrap();
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let store = open(&path).unwrap();
    runtime().block_on(store.put(b"/a", "b".into())).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
    }
}

/// Writes one value at a time; a copy of the directory after each answer must have all that was answered.
#[test]
fn a_copy_at_any_moment_has_all_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        for number in 0..60_i64 {
            store.put(b"/n", number.to_string().into()).await.unwrap();
            store.put(format!("/k/{number}").as_bytes(), vec![b'y'; 700].into()).await.unwrap();
            if number % 6 == 0 {
                let path = copies.path().join(number.to_string());
                copy(dir.path(), &path);
                let (_, all) = contents(&open(&path).unwrap());
                assert_eq!(all[&b"/n"[..]], number.to_string());
                assert_eq!(all.len() as i64, number + 2);
            }
        }
    });
}

/// A log of single-record groups whose last record is cut or overwritten at every byte: the records before are kept.
#[test]
fn the_tail_may_be_torn_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        for number in 0..5 {
            store.put(b"/n", number.to_string().into()).await.unwrap();
        }
    });
    let segment = newest_segment(dir.path());
    let whole = std::fs::read(&segment).unwrap();
    let frames: Vec<(usize, usize)> = frame::scan(&whole, 1).map(|(at, frame)| (at, frame.length)).collect();
    assert_eq!(frames.len(), 5);
    let (start, length) = frames[4];
    for cut in start..start + length {
        let mut torn = whole.clone();
        torn[cut..start + length].fill(0);
        std::fs::write(&segment, &torn).unwrap();
        let store = open(dir.path()).unwrap();
        let (revision, all) = contents(&store);
        // The padding behind a record says nothing.
        let kept = torn[start..] == whole[start..];
        assert_eq!(
            (revision, &all[&b"/n"[..]][..]),
            if kept { (6, &b"4"[..]) } else { (5, &b"3"[..]) },
            "cut at {cut}"
        );
        // Writing goes on behind the cut, and is found again.
        runtime().block_on(store.put(b"/n", "again".into())).unwrap();
        drop(store);
        let (_, all) = contents(&open(dir.path()).unwrap());
        assert_eq!(all[&b"/n"[..]], "again");
    }
}

#[test]
fn damage_in_the_middle_stops_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        for number in 0..5 {
            store.put(b"/n", number.to_string().into()).await.unwrap();
        }
    });
    let segment = newest_segment(dir.path());
    let whole = std::fs::read(&segment).unwrap();
    let (at, _) = frame::scan(&whole, 1).nth(2).map(|(at, frame)| (at, frame.length)).unwrap();
    let mut damaged = whole.clone();
    damaged[at + 30] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    match open(dir.path()) {
        Err(Error::Corrupt { path, offset, .. }) => assert_eq!((path, offset), (segment.clone(), at as u64)),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(std::fs::read(&segment).unwrap(), damaged, "nothing was changed");
    std::fs::write(&segment, &whole).unwrap();
    assert_eq!(contents(&open(dir.path()).unwrap()).0, 6);
}

/// A full segment whose first record is damaged looks like an unused one; it must not be taken for that.
#[test]
fn a_damaged_earlier_segment_stops_the_store_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(dir.path()).unwrap();
        for number in 0..40 {
            store.put(format!("/{number}").as_bytes(), vec![b'v'; 1000].into()).await.unwrap();
        }
    });
    let path = dir.path().join(format!("log-{:016x}", 2));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Corrupt { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

/// A group of which only later parts have reached the disk must neither stop the store nor come to life later.
#[test]
fn a_group_torn_in_its_middle_is_dropped_whole_from_there() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path()).unwrap();
        runtime().block_on(store.put(b"/n", "0".into())).unwrap();
    }
    let segment = newest_segment(dir.path());
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = frame::scan(&bytes, 1).map(|(at, frame)| at + frame.length).last().unwrap();
    let put = |value: &'static str| codec::encode(&Command::Txn(Txn::of(Op::Put(PutRequest::new("/n", value)))));
    let mut group = Vec::new();
    for (index, value) in [(2, "1"), (3, "2"), (4, "3")] {
        frame::append(&mut group, 1, index, 2, &put(value));
    }
    let length = group.len();
    // The second record of three is missing.
    group[length / 3..2 * length / 3].fill(0);
    bytes[end..end + length].copy_from_slice(&group);
    std::fs::write(&segment, &bytes).unwrap();
    {
        let store = open(dir.path()).unwrap();
        assert_eq!(contents(&store).1[&b"/n"[..]], "1");
        runtime().block_on(store.put(b"/n", "x".into())).unwrap();
    }
    assert_eq!(contents(&open(dir.path()).unwrap()).1[&b"/n"[..]], "x");
}

#[test]
fn a_damaged_snapshot_stops_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory::Directory::open(dir.path().to_path_buf()).unwrap();
    let mut state = Mvcc::new();
    let put = Command::Txn(Txn::of(Op::Put(PutRequest::new("/a", "b"))));
    state.apply(1, &put, Duration::ZERO);
    snapshot::write(&directory, &state.image()).unwrap();
    assert_eq!(snapshot::load_newest(&directory).unwrap().unwrap().image(), state.image());
    drop(directory);
    let path = dir.path().join(format!("snapshot-{:016x}", 1));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Corrupt { .. })));
}

#[test]
fn a_watch_of_the_past_a_slow_one_and_a_late_one() {
    runtime().block_on(async {
        let store = Embedded::in_memory(Options { unread_events_max: 3, ..quick() });
        for number in 0..10 {
            store.put(b"/a", number.to_string().into()).await.unwrap();
        }
        let mut past = store.watch(WatchRequest::prefix("/a", 4)).await;
        let mut future = store.watch(WatchRequest { start_revision: 14, ..WatchRequest::prefix("/", 0) }).await;
        store.put(b"/b", "not watched by past".into()).await.unwrap();
        store.request_progress().await.unwrap();
        let first = past.next().await.unwrap().unwrap();
        assert_eq!((first.events.len(), first.events[0].kv.mod_revision, first.revision), (8, 4, 11));
        let progress = past.next().await.unwrap().unwrap();
        assert_eq!((progress.events.len(), progress.revision), (0, 12));
        for number in 0..2 {
            store.put(b"/a", number.to_string().into()).await.unwrap();
        }
        assert_eq!(future.next().await.unwrap().unwrap().events[0].kv.mod_revision, 14);
        for number in 0..4 {
            store.put(b"/a", number.to_string().into()).await.unwrap();
        }
        let mut rest: Vec<_> = past.collect().await;
        assert!(matches!(rest.pop(), Some(Err(Error::SlowWatcher { .. }))));
        assert_eq!(rest.len(), 3, "what it had room for is delivered");
        store.compact(9).await.unwrap();
        let refused: Vec<_> = store.watch(WatchRequest::prefix("/a", 8)).await.collect().await;
        assert_eq!(refused[0].as_ref().unwrap().compact_revision, 9);
        assert_eq!(refused.len(), 1);
        let mut open = store.watch(WatchRequest::prefix("/a", 0)).await;
        drop(store);
        assert!(matches!(open.next().await, Some(Err(Error::Closed))));
    });
}

#[test]
fn history_is_compacted_by_itself() {
    runtime().block_on(async {
        let options = Options { compact_every: Some(Duration::from_millis(20)), ..quick() };
        let store = Embedded::in_memory(options);
        let target = store.put(b"/a", "1".into()).await.unwrap();
        let mut watch = store.watch(WatchRequest { progress_notify: true, ..WatchRequest::prefix("/", 0) }).await;
        // Any change shows the time passing; the history up to the first must go after two intervals at most.
        while store.core.read().compacted_revision() < target {
            store.put(b"/a", "2".into()).await.unwrap();
            watch.next().await;
        }
        let old = store.range(RangeRequest::one("/a").at(1)).await.unwrap_err();
        assert_eq!(old.to_string(), "etcdserver: mvcc: required revision has been compacted");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any sequence of writes, reopened at any place, is what it was; also when the tail behind the last answer is noise.
    #[test]
    fn reopening_changes_nothing(
        writes in proptest::collection::vec((0u8..6, 0usize..900, any::<bool>()), 1..60),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let mut store = open(dir.path()).unwrap();
        for (key, length, reopen) in writes {
            let key = format!("/{key}");
            let write = async {
                match length {
                    0..100 => drop(store.delete(key.as_bytes()).await.unwrap()),
                    _ => drop(store.put(key.as_bytes(), vec![b'z'; length].into()).await.unwrap()),
                }
            };
            runtime.block_on(write);
            if reopen {
                let before = contents(&store);
                drop(store);
                if dir.path().read_dir().unwrap().any(|it| it.unwrap().file_name().to_str().unwrap().starts_with("log-")) {
                    let segment = newest_segment(dir.path());
                    let mut bytes = std::fs::read(&segment).unwrap();
                    let number = u64::from_str_radix(segment.to_str().unwrap().rsplit('-').next().unwrap(), 16).unwrap();
                    let end = frame::scan(&bytes, number).map(|(at, frame)| at + frame.length).last().unwrap_or(16);
                    let room = noise.len().min(bytes.len() - end);
                    bytes[end..end + room].copy_from_slice(&noise[..room]);
                    std::fs::write(&segment, &bytes).unwrap();
                }
                store = open(dir.path()).unwrap();
                prop_assert_eq!(contents(&store), before);
            }
        }
    }
}
