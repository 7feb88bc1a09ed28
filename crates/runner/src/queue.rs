//! A work queue: each key at most once waiting and at most once in work, delays, and a back-off for each key.
//!
//! kubernetes/client-go util/workqueue: decides the back-off (5 ms doubling to 1000 s).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_DELAY: Duration = Duration::from_millis(5);
const DELAY_MAX: Duration = Duration::from_secs(1000);
/// A key due later than this is looked at before its time, and may ask again.
const LATER_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keys waiting to be worked on, for one consumer task.
pub struct Queue<K> {
    inner: Mutex<Inner<K>>,
    wake: Notify,
}

struct Inner<K> {
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    busy: HashSet<K>,
    /// Keys to come back to, by time; the number keeps equal times apart.
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    count: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let inner = Inner {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            busy: HashSet::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            count: 0,
        };
        Queue { inner: Mutex::new(inner), wake: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, key: K) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Comes back to the key after `delay`, or sooner if that was already asked for.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut inner = self.lock();
        let at = Instant::now() + delay.min(LATER_MAX);
        if inner.due.get(&key).is_some_and(|(had, _)| *had <= at) {
            return;
        }
        if let Some(had) = inner.due.remove(&key) {
            inner.later.remove(&had);
        }
        inner.count += 1;
        let slot = (at, inner.count);
        inner.later.insert(slot, key.clone());
        inner.due.insert(key, slot);
        drop(inner);
        self.wake.notify_one();
    }

    /// Comes back to the key after its back-off.
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut inner = self.lock();
            let failures = inner.failures.entry(key.clone()).or_insert(0);
            let delay = FIRST_DELAY.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(DELAY_MAX);
            *failures = failures.saturating_add(1).min(30);
            delay
        };
        self.add_after(key, delay);
    }

    /// Ends the key's back-off.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key to work on; [`Queue::done`] must follow.
    pub async fn next(&self) -> K {
        loop {
            let wait_until = {
                let mut inner = self.lock();
                inner.promote(Instant::now());
                if let Some(key) = inner.ready.pop_front() {
                    inner.waiting.remove(&key);
                    inner.busy.insert(key.clone());
                    return key;
                }
                inner.later.keys().next().map(|(at, _)| *at)
            };
            match wait_until {
                None => self.wake.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Works on keys for ever, so many at once.
    pub async fn serve<W: Future<Output = ()>>(&self, workers: usize, work: impl Fn(K) -> W) {
        let one = async |key: K| {
            work(key.clone()).await;
            self.done(&key);
        };
        let mut busy = FuturesUnordered::new();
        loop {
            tokio::select! {
                key = self.next(), if busy.len() < workers => busy.push(one(key)),
                Some(()) = busy.next(), if !busy.is_empty() => {}
            }
        }
    }

    /// The key's work is over; if it was added meanwhile, it is ready again.
    pub fn done(&self, key: &K) {
        let mut inner = self.lock();
        inner.busy.remove(key);
        if inner.waiting.contains(key) {
            inner.ready.push_back(key.clone());
            drop(inner);
            self.wake.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    fn add(&mut self, key: K) -> bool {
        if !self.waiting.insert(key.clone()) {
            return false;
        }
        if self.busy.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn promote(&mut self, now: Instant) {
        while let Some(slot) = self.later.keys().next().copied().filter(|(at, _)| *at <= now) {
            if let Some(key) = self.later.remove(&slot) {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_worked_on_once_at_a_time() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.next().await, "b");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_wait() {
        let queue = Queue::default();
        let start = Instant::now();
        for _ in 0..3 {
            queue.add_rate_limited("a");
            let key = queue.next().await;
            queue.done(&key);
        }
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(35) && waited < Duration::from_millis(45), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_beyond_all_time_is_bounded() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::MAX);
        queue.next().await;
        assert!(start.elapsed() >= LATER_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sooner_of_two_delays_wins() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(30));
        queue.next().await;
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
