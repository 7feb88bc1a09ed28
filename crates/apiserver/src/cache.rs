//! The watch cache: what the store holds of each resource, kept current by one watch over all of it.
//!
//! Every cache keeps its objects as encoded bytes with the few fields that selectors read, and the latest changes in
//! order. Lists and watches are answered from here; nothing is decoded for them unless a table is asked for.
//! `kubernetes/apiserver pkg/storage/cacher` holds the same in one cache a resource, each with a watch of its own. One
//! watch over everything means that the revision seen is one number for all, so a consistent read is a wait on it.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use machinery::object::Encoded;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;

use crate::catalog::StoredFields;

/// How many changes a cache remembers; a watch that starts before them is refused with 410.
const CHANGES_MAX: usize = 8192;

/// One object as the cache holds it.
pub struct Object {
    /// `namespace/name`, or `name` alone: the storage key's end.
    pub key: String,
    pub encoded: Encoded,
    pub labels: BTreeMap<String, String>,
    /// The values of the kind's selectable fields, in the order the kind names them.
    pub fields: Vec<(String, String)>,
    typed: OnceLock<Option<Arc<dyn Any + Send + Sync>>>,
}

impl Object {
    /// Reads what selectors need out of the stored bytes.
    pub fn new(key: String, value: Bytes, rv: i64, fields: &StoredFields) -> Result<Object, serde_json::Error> {
        let value = as_json(value);
        let decoded: Value = serde_json::from_slice(&value)?;
        let labels = match decoded.pointer("/metadata/labels") {
            Some(Value::Object(labels)) => labels
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            _ => BTreeMap::new(),
        };
        let fields = fields.values(&decoded);
        Ok(Object { key, encoded: encoded(value, rv), labels, fields, typed: OnceLock::new() })
    }

    /// The object decoded, with its resourceVersion.
    pub fn value(&self) -> Value {
        decode(&self.encoded)
    }

    /// The object as a typed value, decoded once and shared.
    pub fn typed<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let decoded = self.typed.get_or_init(|| {
            let value: T = serde_json::from_value(self.value()).ok()?;
            Some(Arc::new(value) as Arc<dyn Any + Send + Sync>)
        });
        decoded.clone()?.downcast::<T>().ok()
    }

    /// The part of the key before the last slash: the namespace, empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(self.key.as_str(), |(_, name)| name)
    }
}

/// Stored bytes with their revision.
pub fn encoded(bytes: Bytes, revision: i64) -> Encoded {
    Encoded::new(bytes, u64::try_from(revision).unwrap_or(0))
}

/// Stored bytes as JSON. That is what we store; an API server of upstream's on the same store writes protobuf, and reads
/// both.
pub fn as_json(bytes: Bytes) -> Bytes {
    if !kinds::protobuf::is_encoded(&bytes) {
        return bytes;
    }
    match kinds::protobuf::decode_stored(&bytes) {
        Ok(value) => value.to_string().into(),
        // No JSON either: whoever reads it says so, with the object's place.
        Err(_) => bytes,
    }
}

/// Decodes stored bytes; they were read once when they came, so a failure can only mean another writer's encoding.
pub fn decode(encoded: &Encoded) -> Value {
    encoded.to_value().unwrap_or(Value::Null)
}

/// One change, as a watch tells it: what was there before and what is there now.
#[derive(Clone)]
pub struct Change {
    pub revision: i64,
    pub previous: Option<Arc<Object>>,
    /// `None` when the object was deleted.
    pub current: Option<Arc<Object>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Arc<Object>>,
    changes: VecDeque<Change>,
    /// The number of the first change kept; numbers only grow.
    first: u64,
    /// Everything up to this revision is in `objects`.
    revision: i64,
    /// A watch from a revision before this one has missed changes.
    floor: i64,
    closed: bool,
}

/// Where a watch stands in a cache's changes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor(u64);

/// What a watch finds when it looks.
pub enum Next {
    Changes(Vec<Change>),
    /// Nothing new yet.
    Wait,
    /// The watch fell behind what the cache remembers.
    Lost,
    /// The resource is served no more.
    Closed,
}

/// The cache of one storage prefix.
pub struct Cache {
    /// `/registry/pods/`
    pub prefix: String,
    pub fields: StoredFields,
    state: RwLock<State>,
    changed: Notify,
}

impl Cache {
    pub fn new(prefix: String, fields: StoredFields) -> Cache {
        Cache { prefix, fields, state: RwLock::default(), changed: Notify::new() }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the cache with what the store held at `revision`. Whoever watched before has missed changes, and is told.
    pub fn load(&self, objects: Vec<Object>, revision: i64) {
        let mut state = self.write();
        state.objects = objects.into_iter().map(|object| (object.key.clone(), Arc::new(object))).collect();
        // One number is left out, so that even the watch that had seen every change finds itself before the first.
        state.first += state.changes.len() as u64 + 1;
        state.changes.clear();
        state.revision = revision;
        state.floor = revision;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes in one event of the store's watch; older ones than the cache was loaded with are known already.
    pub fn apply(&self, key: &str, current: Option<Object>, revision: i64) {
        let mut state = self.write();
        if revision <= state.floor {
            return;
        }
        let current = current.map(Arc::new);
        let previous = match &current {
            Some(object) => state.objects.insert(key.to_owned(), Arc::clone(object)),
            None => state.objects.remove(key),
        };
        state.revision = revision;
        if current.is_none() && previous.is_none() {
            return;
        }
        state.changes.push_back(Change { revision, previous, current });
        if state.changes.len() > CHANGES_MAX
            && let Some(oldest) = state.changes.pop_front()
        {
            state.first += 1;
            state.floor = oldest.revision;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends every watch: the resource is served no more.
    pub fn close(&self) {
        self.write().closed = true;
        self.changed.notify_waiters();
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// The objects of a namespace (all, when it is empty) in the order of their keys, and the revision they are at.
    pub fn list(&self, namespace: &str) -> (Vec<Arc<Object>>, i64) {
        let state = self.read();
        (state.select(namespace), state.revision)
    }

    /// The objects and the place in the changes that follows them.
    pub fn snapshot(&self, namespace: &str) -> (Vec<Arc<Object>>, i64, Cursor) {
        let state = self.read();
        (state.select(namespace), state.revision, Cursor(state.first + state.changes.len() as u64))
    }

    /// The place after the last change at or before `revision`; the floor when that is forgotten.
    pub fn cursor_after(&self, revision: i64) -> Result<Cursor, i64> {
        let state = self.read();
        if revision < state.floor {
            return Err(state.floor);
        }
        let skipped = state.changes.partition_point(|change| change.revision <= revision);
        Ok(Cursor(state.first + skipped as u64))
    }

    /// The changes from `cursor` on, at most `max`; the cursor moves past them.
    pub fn next(&self, cursor: &mut Cursor, max: usize) -> Next {
        let state = self.read();
        if cursor.0 < state.first {
            return Next::Lost;
        }
        let from = usize::try_from(cursor.0 - state.first).unwrap_or(usize::MAX);
        let changes: Vec<Change> = state.changes.iter().skip(from).take(max).cloned().collect();
        if changes.is_empty() {
            return if state.closed { Next::Closed } else { Next::Wait };
        }
        cursor.0 += changes.len() as u64;
        Next::Changes(changes)
    }

    /// Completes at the next change. Take it before looking with [`Cache::next`], so that none slips between.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

impl State {
    fn select(&self, namespace: &str) -> Vec<Arc<Object>> {
        if namespace.is_empty() {
            return self.objects.values().cloned().collect();
        }
        // '0' follows '/' in ASCII.
        let (from, to) = (format!("{namespace}/"), format!("{namespace}0"));
        self.objects.range(from..to).map(|(_, object)| Arc::clone(object)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, rv: i64) -> Object {
        let value = Bytes::from(format!("{{\"metadata\":{{\"name\":\"{key}\",\"labels\":{{\"a\":\"b\"}}}}}}"));
        Object::new(key.to_owned(), value, rv, &StoredFields::default()).unwrap()
    }

    #[test]
    fn a_watch_sees_each_change_once_and_a_late_one_is_told() {
        let cache = Cache::new("/registry/pods/".to_owned(), StoredFields::default());
        cache.load(vec![object("x/a", 3)], 5);
        assert!(matches!(cache.cursor_after(4), Err(5)));
        let mut cursor = cache.cursor_after(5).unwrap();
        cache.apply("x/b", Some(object("x/b", 6)), 6);
        cache.apply("x/a", None, 7);
        let Next::Changes(changes) = cache.next(&mut cursor, 10) else { panic!("no changes") };
        assert_eq!(changes.iter().map(|change| change.revision).collect::<Vec<_>>(), [6, 7]);
        assert!(changes[1].current.is_none() && changes[1].previous.is_some());
        assert!(matches!(cache.next(&mut cursor, 10), Next::Wait));
        assert_eq!(cache.list("x").0.len(), 1);
        assert_eq!(cache.list("").1, 7);
        cache.close();
        assert!(matches!(cache.next(&mut cursor, 10), Next::Closed));
    }

    #[tokio::test]
    async fn a_load_wakes_every_watch_and_tells_that_changes_are_lost() {
        let cache = Cache::new("/registry/pods/".to_owned(), StoredFields::default());
        cache.load(vec![object("x/a", 3)], 5);
        let mut caught_up = cache.cursor_after(5).unwrap();
        let mut behind = caught_up;
        cache.apply("x/b", Some(object("x/b", 6)), 6);
        assert!(matches!(cache.next(&mut caught_up, 10), Next::Changes(_)));
        let changed = cache.changed();
        cache.load(vec![object("x/c", 8)], 9);
        tokio::time::timeout(std::time::Duration::from_secs(5), changed).await.unwrap();
        assert!(matches!(cache.next(&mut caught_up, 10), Next::Lost));
        assert!(matches!(cache.next(&mut behind, 10), Next::Lost));
        let mut after = cache.cursor_after(9).unwrap();
        assert!(matches!(cache.next(&mut after, 10), Next::Wait));
        cache.apply("x/d", Some(object("x/d", 10)), 10);
        assert!(matches!(cache.next(&mut after, 10), Next::Changes(changes) if changes.len() == 1));
    }
}
