//! Connections that break, answers that are lost, members that are away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::etcd::{Client, TlsFiles};
use store::mvcc::RangeRequest;
use store::{Error, Store, WatchRequest, WatchStream};
use tokio::sync::Semaphore;

use crate::member::{Etcd, port};
use crate::relay::Relay;
use crate::servers::{PATIENCE, Served, client};

/// The revisions of the events up to `last`, and the largest number of bytes that came at once.
async fn revisions(watch: &mut WatchStream, last: i64, mut each: impl FnMut(usize)) -> (Vec<i64>, usize) {
    let (mut all, mut most) = (Vec::new(), 0);
    while all.last().is_none_or(|at| *at < last) {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch stands still");
        let answer = next.expect("the watch goes on").unwrap();
        assert_eq!(answer.compact_revision, 0);
        all.extend(answer.events.iter().map(|event| event.kv.mod_revision));
        most = most.max(answer.events.iter().map(|event| event.kv.value.len()).sum());
        each(all.len());
    }
    (all, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_cut_off_again_and_again_loses_nothing_and_doubles_nothing() {
    const EVENTS: i64 = 400;
    const AT_ONCE: usize = 40;
    let etcd = Etcd::start().await;
    let relay = Relay::to(etcd.client_port).await;
    let (direct, cut) = (etcd.client(), client(&[relay.port]));
    let mut watch = cut.watch(WatchRequest::prefix("/", 0)).await;
    let first = direct.status().await.unwrap().revision + 1;
    // Before it has read anything, and with the writes on the way.
    relay.cut();
    // What is written next waits until what was written before has been seen, and the watch cut off.
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let waiting = Arc::clone(&turns);
    let writing = tokio::spawn(async move {
        for number in 0..EVENTS {
            waiting.acquire().await.unwrap().forget();
            direct.put(b"/a", number.to_string().into()).await.unwrap();
        }
    });
    let mut cuts = 0;
    let cutting = |seen: usize| {
        if seen / AT_ONCE > cuts {
            cuts = seen / AT_ONCE;
            relay.cut();
            turns.add_permits(AT_ONCE);
        }
    };
    let (seen, _) = revisions(&mut watch, first + EVENTS - 1, cutting).await;
    writing.await.unwrap();
    assert_eq!(seen, (first..first + EVENTS).collect::<Vec<_>>());
    assert!(relay.connections() >= 5, "the watch was cut off {} times", relay.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_come_whole_and_a_half_one_is_begun_anew() {
    const VALUES: i64 = 60;
    let etcd = Etcd::start().await;
    let direct = etcd.client();
    let mut last = 0;
    for _ in 0..VALUES {
        last = direct.put(b"/large", vec![b'v'; 100_000].into()).await.unwrap();
    }
    for number in 0..VALUES {
        let key = format!("/many/{number}");
        direct.put(key.as_bytes(), Bytes::from(vec![b'v'; 100_000])).await.unwrap();
    }
    let all = direct.range(RangeRequest::prefix("/many/")).await.unwrap();
    assert_eq!(all.kvs.iter().map(|kv| kv.value.len()).sum::<usize>(), 6_000_000);
    // etcd sends what is more than 2 MB in fragments: one connection breaks in the first of them, one in the second.
    let relay = Relay::with_budgets(etcd.client_port, vec![1_000_000, 3_500_000]).await;
    let mut watch = client(&[relay.port]).watch(WatchRequest::prefix("/large", last - VALUES + 1)).await;
    let (seen, most) = revisions(&mut watch, last, |_| {}).await;
    assert_eq!(seen, (last - VALUES + 1..=last).collect::<Vec<_>>());
    assert_eq!((relay.connections(), most), (3, 6_000_000), "one answer, of several fragments");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_while_a_watch_is_away_is_told() {
    let etcd = Etcd::start().await;
    let relay = Relay::to(etcd.client_port).await;
    let (direct, cut) = (etcd.client(), client(&[relay.port]));
    let mut watch = cut.watch(WatchRequest::prefix("/", 0)).await;
    let first = direct.put(b"/a", "1".into()).await.unwrap();
    let (seen, _) = revisions(&mut watch, first, |_| {}).await;
    assert_eq!(seen, [first]);
    relay.cut_off().await;
    direct.put(b"/a", "2".into()).await.unwrap();
    direct.put(b"/a", "3".into()).await.unwrap();
    let last = direct.put(b"/a", "4".into()).await.unwrap();
    direct.compact(last).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.compact_revision, answer.events.len()), (last, 0));
    assert!(watch.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_unknown_and_a_read_is_asked_again() {
    let etcd = Etcd::start().await;
    let relay = Relay::to(etcd.client_port).await;
    let (direct, cut) = (etcd.client(), client(&[relay.port]));
    cut.put(b"/a", "1".into()).await.unwrap();
    relay.mute();
    let writing = tokio::spawn({
        let cut = cut.clone();
        async move { cut.put(b"/a", "2".into()).await }
    });
    while direct.get(b"/a").await.unwrap().unwrap().value != "2" {
        tokio::task::yield_now().await;
    }
    let reading = tokio::spawn({
        let cut = cut.clone();
        async move { cut.get(b"/a").await }
    });
    relay.cut();
    let lost = writing.await.unwrap().unwrap_err();
    assert!(matches!(lost, Error::Unknown { .. }), "{lost:?}");
    assert_eq!(reading.await.unwrap().unwrap().unwrap().value, "2");
    assert_eq!(direct.get(b"/a").await.unwrap().unwrap().version, 2, "it was not sent twice");
    assert_eq!(cut.put(b"/a", "3".into()).await.unwrap(), direct.status().await.unwrap().revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_is_asked_when_one_is_away() {
    let etcd = Etcd::start().await;
    let relay = Relay::to(etcd.client_port).await;
    let nobody = port();
    let store = client(&[nobody, relay.port, etcd.client_port]);
    let mut watch = store.watch(WatchRequest::prefix("/", 0)).await;
    let first = store.put(b"/a", "1".into()).await.unwrap();
    relay.cut();
    let last = etcd.client().put(b"/a", "2".into()).await.unwrap();
    assert_eq!(revisions(&mut watch, last, |_| {}).await.0, [first, last]);
    let alone = client(&[nobody]);
    let refused = alone.put(b"/a", "3".into()).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&format!("http://127.0.0.1:{nobody}")), "{refused}");
}

/// The member is stopped and started again, as in an upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_an_etcd_that_is_away() {
    let etcd = Etcd::start().await;
    let store = etcd.client();
    let mut watch = store.watch(WatchRequest::prefix("/", 0)).await;
    let first = store.put(b"/a", "1".into()).await.unwrap();
    assert_eq!(revisions(&mut watch, first, |_| {}).await.0, [first]);
    let etcd = etcd.restart().await;
    let last = etcd.client().put(b"/a", "2".into()).await.unwrap();
    assert_eq!(revisions(&mut watch, last, |_| {}).await.0, [last]);
    store.put(b"/a", "3".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_turned_away_and_told_why() {
    let served = Served::start().await;
    served.client.put(b"/a", "1".into()).await.unwrap();
    let path = |name: &str| served.files.path().join(name);
    let connect = |tls: TlsFiles| Client::new(vec![served.url.parse().unwrap()], tls);
    let nameless = connect(TlsFiles { ca: Some(path("ca.crt")), client: None }).unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(10), nameless.put(b"/a", "2".into())).await.unwrap();
    assert!(matches!(refused, Err(Error::Unavailable { .. } | Error::Unknown { .. })), "{refused:?}");
    // Nobody vouches for the server: nothing is sent to it.
    let other = Served::start().await;
    let misled = connect(TlsFiles { ca: Some(other.files.path().join("ca.crt")), client: None }).unwrap();
    let refused = misled.get(b"/a").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert_eq!(served.client.get(b"/a").await.unwrap().unwrap().version, 1);
    let missing = connect(TlsFiles { ca: Some(path("absent.crt")), client: None });
    assert!(missing.err().unwrap().to_string().contains("absent.crt"));
    let wrong = connect(TlsFiles { ca: Some(path("client.key")), client: None });
    assert!(wrong.err().unwrap().to_string().contains("client.key"));
}
