//! Compaction of a store that does not compact itself: an etcd, which several API servers may share.
//!
//! `kubernetes/apiserver pkg/storage/etcd3/compact.go`: a key's version counts the turns, and whoever counts one up takes
//! it, so that the history is compacted once an interval, to what was the newest revision one interval before.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::{Compare, CompareResult, CompareTarget, Op, OpResponse, PutRequest, RangeRequest, Txn};
use store::Store;

const KEY: &str = "compact_rev_key";

/// What this server knows of the last turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    version: i64,
    /// The store's revision then; 0 before the first.
    revision: i64,
}

/// Compacts until dropped. The first compaction comes after two intervals.
pub async fn follow(store: Arc<dyn Store>, every: Duration) {
    let mut turn = Turn::default();
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = step(&*store, &mut turn).await {
            tracing::warn!(%error, "the store was not compacted, trying again after the next interval");
        }
    }
}

/// Takes this turn, and compacts, unless another server has; then that one's is the turn to follow.
async fn step(store: &dyn Store, turn: &mut Turn) -> Result<(), store::Error> {
    let target = CompareTarget::Version(turn.version);
    let txn = Txn {
        compare: vec![Compare { key: KEY.into(), range_end: Bytes::new(), result: CompareResult::Equal, target }],
        success: vec![Op::Put(PutRequest::new(KEY, turn.revision.to_string()))],
        failure: vec![Op::Range(RangeRequest::one(KEY))],
    };
    let answer = store.txn(txn).await?;
    let past = std::mem::replace(&mut turn.revision, answer.revision);
    if !answer.succeeded {
        if let Some(OpResponse::Range(range)) = answer.responses.first() {
            turn.version = range.kvs.first().map_or(0, |kv| kv.version);
        }
        return Ok(());
    }
    turn.version += 1;
    if past == 0 {
        return Ok(());
    }
    match store.compact(past).await {
        // Somebody has done it by hand.
        Err(store::Error::Mvcc(mvcc::Error::Compacted { .. })) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use store::{Embedded, Options};

    use super::*;

    /// Whether the version of that revision can still be read.
    async fn readable(store: &dyn Store, revision: i64) -> bool {
        store.range(RangeRequest::one("/a").at(revision)).await.is_ok()
    }

    #[tokio::test]
    async fn of_two_servers_one_compacts_to_where_the_interval_began() {
        let store = Embedded::in_memory(Options { compact_every: None, ..Options::default() });
        let (mut one, mut other) = (Turn::default(), Turn::default());
        let first = store.put(b"/a", "1".into()).await.unwrap();
        step(&store, &mut one).await.unwrap();
        let begun = one.revision;
        store.put(b"/a", "2".into()).await.unwrap();
        // The turn is taken: the other learns of it, and writes nothing.
        step(&store, &mut other).await.unwrap();
        assert_eq!((other.version, other.revision), (one.version, begun + 1));
        assert!(readable(&store, first).await);
        step(&store, &mut one).await.unwrap();
        assert!(!readable(&store, first).await && readable(&store, begun).await);
        assert_eq!(store.get(KEY.as_bytes()).await.unwrap().unwrap().value, begun.to_string());
        // The one is gone: the other learns that a turn was taken since, and takes the next.
        step(&store, &mut other).await.unwrap();
        let taken = other;
        assert_eq!(taken.version, one.version);
        step(&store, &mut other).await.unwrap();
        assert_eq!(other.version, taken.version + 1);
        assert!(!readable(&store, taken.revision - 1).await && readable(&store, taken.revision).await);
    }
}
