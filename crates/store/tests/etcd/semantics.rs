//! What every store does alike: the embedded one, the same over etcd's protocol, and a real etcd.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use store::mvcc::{
    self, Compare, CompareResult, CompareTarget, DeleteRequest, EventKind, KeyValue, Op, OpResponse, PutRequest,
    RangeRequest, Txn, TxnResponse,
};
use store::{Embedded, Error, Options, Store, WatchRequest, WatchResponse, WatchStream};

use crate::member::Etcd;
use crate::servers::{PATIENCE, Served};

/// Runs a test against each store; each is new.
macro_rules! everywhere {
    ($($test:ident)*) => {
        mod embedded {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(std::sync::Arc::new(super::embedded())).await;
            }
        )*}
        mod served {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let served = super::Served::start().await;
                super::$test(std::sync::Arc::new(served.client.clone())).await;
            }
        )*}
        mod etcd {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let etcd = super::Etcd::start().await;
                super::$test(std::sync::Arc::new(etcd.client())).await;
            }
        )*}
    };
}

everywhere! {
    transactions
    ranges
    refusals
    watches
    progress_comes_after_the_events
    a_watch_of_what_is_compacted_says_so
    leases
    many_writers_each_count_up_and_watchers_see_it_all
}

fn embedded() -> Embedded {
    Embedded::in_memory(Options { compact_every: None, ..Options::default() })
}

type Any = Arc<dyn Store>;

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put(PutRequest { prev_kv: true, ..PutRequest::new(key, value) })
}

fn text(kv: &KeyValue) -> String {
    format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value))
}

/// An answer without its revisions, which other keys of the store count up too.
fn told(answer: &TxnResponse) -> String {
    let responses = answer.responses.iter().map(|response| match response {
        OpResponse::Range(range) => {
            let kvs: Vec<String> = range.kvs.iter().map(|kv| text(kv)).collect();
            format!("range {} of {}{}", kvs.join(" "), range.count, if range.more { ", more" } else { "" })
        }
        OpResponse::Put { prev_kv } => format!("put over {:?}", prev_kv.as_ref().map(|kv| text(kv))),
        OpResponse::Delete { deleted, prev_kvs } => {
            let kvs: Vec<String> = prev_kvs.iter().map(|kv| text(kv)).collect();
            format!("deleted {deleted}: {}", kvs.join(" "))
        }
        OpResponse::Txn(inner) => format!("({})", told(inner)),
    });
    format!("{}: {}", answer.succeeded, responses.collect::<Vec<_>>().join("; "))
}

async fn transactions(store: Any) {
    let compare = |key: &'static str, range_end: &'static str, result, target| Compare {
        key: key.into(),
        range_end: range_end.into(),
        result,
        target,
    };
    let create = Txn {
        compare: vec![Compare::absent("/a")],
        success: vec![put("/a", "1"), put("/b", "1")],
        failure: vec![Op::Range(RangeRequest::prefix("/"))],
    };
    let first = store.txn(create.clone()).await.unwrap();
    assert_eq!(told(&first), "true: put over None; put over None");
    let again = store.txn(create).await.unwrap();
    assert_eq!(told(&again), "false: range /a=1 /b=1 of 2");
    assert_eq!(again.revision, first.revision, "what only reads takes no revision");
    let OpResponse::Range(found) = &again.responses[0] else { panic!() };
    assert_eq!((found.revision, found.kvs[0].mod_revision, found.kvs[0].version), (first.revision, first.revision, 1));

    let inner = Txn {
        compare: vec![compare("/", "0", CompareResult::Less, CompareTarget::Mod(first.revision + 1))],
        success: vec![Op::Delete(DeleteRequest { prev_kv: true, ..DeleteRequest::prefix("/a") })],
        failure: Vec::new(),
    };
    let nested = Txn {
        compare: vec![
            compare("/a", "", CompareResult::Equal, CompareTarget::Value("1".into())),
            compare("/a", "", CompareResult::Greater, CompareTarget::Version(0)),
            compare("/a", "", CompareResult::NotEqual, CompareTarget::Create(1)),
            compare("/a", "", CompareResult::Equal, CompareTarget::Lease(0)),
        ],
        success: vec![
            Op::Txn(inner),
            put("/b", "2"),
            Op::Range(RangeRequest { keys_only: true, ..RangeRequest::prefix("/") }),
        ],
        failure: Vec::new(),
    };
    let done = store.txn(nested.clone()).await.unwrap();
    assert_eq!(told(&done), "true: (true: deleted 1: /a=1); put over Some(\"/b=1\"); range /b= of 1");
    assert_eq!(done.revision, first.revision + 1);
    let OpResponse::Txn(inner) = &done.responses[0] else { panic!() };
    assert_eq!(inner.revision, done.revision);
    assert_eq!(told(&store.txn(nested).await.unwrap()), "false: ");
    assert_eq!(store.get(b"/b").await.unwrap().unwrap().value, "2");
    assert!(store.delete(b"/b").await.unwrap() && !store.delete(b"/b").await.unwrap());
}

async fn ranges(store: Any) {
    let mut revisions = Vec::new();
    for (key, value) in [("/k/1", "a"), ("/k/2", "b"), ("/k/3", "c"), ("/k/2", "B"), ("/l", "d")] {
        revisions.push(store.put(key.as_bytes(), value.into()).await.unwrap());
    }
    let read = async |request: RangeRequest| {
        let answer = store.range(request).await.unwrap();
        assert_eq!(answer.revision, revisions[4]);
        let kvs: Vec<String> = answer.kvs.iter().map(|kv| text(kv)).collect();
        format!("{} of {}{}", kvs.join(" "), answer.count, if answer.more { ", more" } else { "" })
    };
    let all = RangeRequest::prefix("/k/");
    assert_eq!(read(all.clone()).await, "/k/1=a /k/2=B /k/3=c of 3");
    assert_eq!(read(all.clone().at(revisions[1])).await, "/k/1=a /k/2=b of 2");
    assert_eq!(read(all.clone().limit(2)).await, "/k/1=a /k/2=B of 3, more");
    assert_eq!(read(RangeRequest { count_only: true, ..all.clone() }).await, " of 3");
    assert_eq!(read(RangeRequest { keys_only: true, ..all }).await, "/k/1= /k/2= /k/3= of 3");
    let from = RangeRequest { range_end: vec![0].into(), ..RangeRequest::one("/k/3") };
    assert_eq!(read(from).await, "/k/3=c /l=d of 2");
    assert_eq!(read(RangeRequest::one("/m")).await, " of 0");
    let status = store.status().await.unwrap();
    assert_eq!((status.revision, status.write_error), (revisions[4], None));
}

async fn refusals(store: Any) {
    let first = store.put(b"/a", "1".into()).await.unwrap();
    let second = store.put(b"/a", "2".into()).await.unwrap();
    let at = |revision| RangeRequest::one("/a").at(revision);
    let refused = |error: Error| match error {
        Error::Mvcc(refused) => refused,
        other => panic!("not one of etcd's refusals: {other:?}"),
    };
    let future = refused(store.range(at(second + 7)).await.unwrap_err());
    assert_eq!(future, mvcc::Error::FutureRevision { requested: second + 7, current: second });
    store.compact(second).await.unwrap();
    for gone in [store.range(at(first)).await.map(|_| ()), store.compact(first).await] {
        assert!(matches!(refused(gone.unwrap_err()), mvcc::Error::Compacted { .. }));
    }
    assert!(matches!(refused(store.compact(second + 9).await.unwrap_err()), mvcc::Error::FutureRevision { .. }));
    let failed = async |txn: Txn| refused(store.txn(txn).await.unwrap_err());
    assert_eq!(failed(Txn::of(put("", "1"))).await, mvcc::Error::EmptyKey);
    let twice = Txn { success: vec![put("/d", "1"), put("/d", "2")], ..Txn::default() };
    assert_eq!(failed(twice).await, mvcc::Error::DuplicateKey);
    let kept = Op::Put(PutRequest { ignore_value: true, ..PutRequest::new("/absent", "") });
    assert_eq!(failed(Txn::of(kept)).await, mvcc::Error::KeyNotFound);
    let leased = Op::Put(PutRequest::new("/a", "3").lease(77));
    assert_eq!(failed(Txn::of(leased)).await, mvcc::Error::LeaseNotFound);
    assert_eq!(refused(store.lease_revoke(77).await.unwrap_err()), mvcc::Error::LeaseNotFound);
    assert_eq!(refused(store.lease_keep_alive(77).await.unwrap_err()), mvcc::Error::LeaseNotFound);
    store.lease_grant(77, Duration::from_secs(60)).await.unwrap();
    let again = store.lease_grant(77, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(refused(again), mvcc::Error::LeaseExists);
    let long = store.lease_grant(78, Duration::from_secs(10_000_000_000)).await.unwrap_err();
    assert_eq!(refused(long), mvcc::Error::LeaseTtlTooLarge);
    assert_eq!(store.get(b"/a").await.unwrap().unwrap().mod_revision, second, "nothing was done");
}

/// The next answer with events; progress that comes by itself is left out.
async fn events(watch: &mut WatchStream) -> WatchResponse {
    loop {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await.expect("no event comes");
        let answer = next.expect("the watch goes on").unwrap();
        if !answer.events.is_empty() || answer.compact_revision != 0 {
            return answer;
        }
    }
}

/// So many events, as `revision kind key=value < value before`.
async fn some(watch: &mut WatchStream, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let answer = events(watch).await;
        let last = answer.events.last().unwrap().kv.mod_revision;
        assert!(answer.revision >= last, "an answer reaches its last event");
        all.extend(answer.events.iter().map(|event| {
            let kind = if event.kind == EventKind::Put { "put" } else { "delete" };
            let before = event.prev_kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            format!("{} {kind} {} < {}", event.kv.mod_revision, text(&event.kv), before.unwrap_or_default())
        }));
    }
    all
}

async fn watches(store: Any) {
    let mut at = vec![store.put(b"/w/a", "1".into()).await.unwrap()];
    at.push(store.put(b"/w/a", "2".into()).await.unwrap());
    let past = WatchRequest::prefix("/w/", at[0]);
    let mut past = store.watch(past).await;
    let mut now = store.watch(WatchRequest::prefix("/w/", 0)).await;
    let one = WatchRequest { key: "/w/b".into(), prev_kv: false, ..WatchRequest::default() };
    let mut one = store.watch(one).await;
    let mut later = store.watch(WatchRequest::prefix("/w/", at[1] + 2)).await;
    // Nobody has read from a watch yet, and nothing that is answered from here on is missed.
    at.push(store.put(b"/w/b", "3".into()).await.unwrap());
    store.put(b"/x", "not watched".into()).await.unwrap();
    let both = Txn { success: vec![Op::Delete(DeleteRequest::one("/w/a")), put("/w/b", "4")], ..Txn::default() };
    at.push(store.txn(both).await.unwrap().revision);
    let since = [
        format!("{} put /w/b=3 < ", at[2]),
        format!("{} delete /w/a= < 2", at[3]),
        format!("{} put /w/b=4 < 3", at[3]),
    ];
    assert_eq!(some(&mut now, 3).await, since);
    let before = [format!("{} put /w/a=1 < ", at[0]), format!("{} put /w/a=2 < 1", at[1])];
    assert_eq!(some(&mut past, 5).await, [&before[..], &since[..]].concat());
    assert_eq!(some(&mut one, 2).await, [format!("{} put /w/b=3 < ", at[2]), format!("{} put /w/b=4 < ", at[3])]);
    assert_eq!(some(&mut later, 2).await, since[1..]);
    drop(past);
    at.push(store.put(b"/w/c", "5".into()).await.unwrap());
    assert_eq!(some(&mut now, 1).await, [format!("{} put /w/c=5 < ", at[4])]);
}

async fn progress_comes_after_the_events(store: Any) {
    let mut quiet = store.watch(WatchRequest::prefix("/quiet/", 0)).await;
    let mut busy = store.watch(WatchRequest::prefix("/busy/", 0)).await;
    let mut deaf = store.watch(WatchRequest { progress_notify: false, ..WatchRequest::prefix("/busy/", 0) }).await;
    let begun = store.status().await.unwrap().revision;
    // Also when nothing has happened since the watch began.
    let asking = store.request_progress();
    let (asked, first) = tokio::join!(asking, quiet.next());
    asked.unwrap();
    let first = first.unwrap().unwrap();
    assert_eq!((first.revision, first.events.len()), (begun, 0));
    let mut last = 0;
    for number in 0..50 {
        last = store.put(b"/busy/a", number.to_string().into()).await.unwrap();
    }
    store.request_progress().await.unwrap();
    let reached = async |watch: &mut WatchStream| {
        let mut seen = 0;
        loop {
            let answer = tokio::time::timeout(PATIENCE, watch.next()).await.expect("no progress").unwrap().unwrap();
            seen += answer.events.len();
            if answer.events.is_empty() && answer.revision >= last {
                return seen;
            }
        }
    };
    assert_eq!((reached(&mut quiet).await, reached(&mut busy).await), (0, 50));
    assert_eq!(some(&mut deaf, 50).await.len(), 50);
    let more = tokio::time::timeout(Duration::from_millis(200), deaf.next()).await;
    assert!(more.is_err(), "a watch that does not want progress is told none: {more:?}");
}

async fn a_watch_of_what_is_compacted_says_so(store: Any) {
    let mut at = Vec::new();
    for number in 0..5 {
        at.push(store.put(b"/a", number.to_string().into()).await.unwrap());
    }
    store.compact(at[3]).await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("/a", at[1])).await;
    let answer = events(&mut watch).await;
    assert_eq!((answer.compact_revision, answer.events.len()), (at[3], 0));
    assert!(watch.next().await.is_none(), "that was the end");
    let mut watch = store.watch(WatchRequest::prefix("/a", at[3])).await;
    let values = events(&mut watch).await.events;
    assert_eq!(values.iter().map(|event| event.kv.mod_revision).collect::<Vec<_>>(), at[3..]);
}

async fn leases(store: Any) {
    let long = store.lease_grant(0, Duration::from_secs(600)).await.unwrap();
    let named = store.lease_grant(4711, Duration::from_secs(60)).await.unwrap();
    assert!(long != 0 && named == 4711);
    for (key, lease) in [("/a", long), ("/b", long), ("/c", named)] {
        store.txn(Txn::of(Op::Put(PutRequest::new(key, "x").lease(lease)))).await.unwrap();
    }
    assert_eq!(store.get(b"/a").await.unwrap().unwrap().lease, long);
    assert_eq!(store.lease_keep_alive(long).await.unwrap(), Duration::from_secs(600));
    let mut all = store.leases().await.unwrap();
    all.sort_by_key(|lease| lease.ttl);
    let told: Vec<_> = all.iter().map(|lease| (lease.id, lease.ttl.as_secs(), lease.keys.len())).collect();
    assert_eq!(told, [(named, 60, 1), (long, 600, 2)]);
    assert!(all[0].left <= all[0].ttl && all[0].left > Duration::from_secs(30));
    let mut watch = store.watch(WatchRequest::prefix("/", 0)).await;
    store.lease_revoke(named).await.unwrap();
    assert_eq!(events(&mut watch).await.events[0].kv.key, "/c");
    // One that nobody keeps alive ends by itself and takes its keys along.
    let short = store.lease_grant(0, Duration::from_secs(1)).await.unwrap();
    store.txn(Txn::of(Op::Put(PutRequest::new("/d", "x").lease(short)))).await.unwrap();
    assert_eq!(events(&mut watch).await.events[0].kind, EventKind::Put);
    assert_eq!(events(&mut watch).await.events[0].kind, EventKind::Delete);
    assert_eq!(store.get(b"/d").await.unwrap(), None);
    assert_eq!(store.leases().await.unwrap().len(), 1);
}

async fn many_writers_each_count_up_and_watchers_see_it_all(store: Any) {
    let watch = store.watch(WatchRequest::prefix("/count", 1)).await;
    let increment = |store: Any| async move {
        let mut done = 0;
        while done < 20 {
            let current = store.get(b"/count").await.unwrap();
            let (value, revision) = current.map_or((0, 0), |kv| {
                (std::str::from_utf8(&kv.value).unwrap().parse::<u32>().unwrap(), kv.mod_revision)
            });
            let txn = Txn {
                compare: vec![Compare::mod_revision_is("/count", revision)],
                ..Txn::of(Op::Put(PutRequest::new("/count", (value + 1).to_string())))
            };
            done += u32::from(store.txn(txn).await.unwrap().succeeded);
        }
    };
    let writers: Vec<_> = (0..10).map(|_| tokio::spawn(increment(store.clone()))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.get(b"/count").await.unwrap().unwrap().value, "200");
    let seen: Vec<mvcc::Event> =
        watch.map(|answer| futures::stream::iter(answer.unwrap().events)).flatten().take(200).collect().await;
    let values: Vec<String> = seen.iter().map(|event| String::from_utf8(event.kv.value.to_vec()).unwrap()).collect();
    assert_eq!(values, (1..=200).map(|value| value.to_string()).collect::<Vec<_>>());
    let before: Vec<i64> = seen.iter().skip(1).map(|it| it.prev_kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(before, seen.iter().take(199).map(|event| event.kv.mod_revision).collect::<Vec<_>>());
}
