//! The state machine against a model that keeps every revision as a whole map.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::*;

/// One revision: key to value, create revision, mod revision, version, lease.
type World = BTreeMap<Bytes, KeyValue>;

struct Model {
    /// By revision, from 1.
    worlds: Vec<World>,
    compacted: Revision,
    leases: std::collections::BTreeSet<LeaseId>,
}

impl Model {
    fn new() -> Self {
        Self { worlds: vec![World::new(), World::new()], compacted: 0, leases: Default::default() }
    }

    fn revision(&self) -> Revision {
        self.worlds.len() as Revision - 1
    }

    fn now(&self) -> &World {
        &self.worlds[self.worlds.len() - 1]
    }

    fn put(world: &mut World, at: Revision, key: &Bytes, value: &Bytes, lease: LeaseId) {
        let before = world.get(key).cloned();
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: before.as_ref().map_or(at, |before| before.create_revision),
            mod_revision: at,
            version: before.map_or(1, |before| before.version + 1),
            lease,
        };
        world.insert(key.clone(), kv);
    }

    fn range(&self, request: &RangeRequest) -> Option<Vec<KeyValue>> {
        let at = if request.revision == 0 { self.revision() } else { request.revision };
        if at > self.revision() || at < self.compacted {
            return None;
        }
        let world = &self.worlds[at as usize];
        Some(world.values().filter(|kv| in_range(&request.key, &request.range_end, &kv.key)).cloned().collect())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        value: u8,
        lease: u8,
    },
    Delete {
        key: u8,
        end: u8,
    },
    /// If the key is at its second but last revision or newer: put two keys, delete a third.
    Swap {
        key: u8,
        expected_age: u8,
    },
    Compact {
        back: u8,
    },
    Grant {
        lease: u8,
    },
    Revoke {
        lease: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u8..6, any::<u8>(), 0u8..3).prop_map(|(key, value, lease)| Step::Put { key, value, lease }),
        2 => (0u8..6, 0u8..8).prop_map(|(key, end)| Step::Delete { key, end }),
        3 => (0u8..6, 0u8..3).prop_map(|(key, expected_age)| Step::Swap { key, expected_age }),
        1 => (0u8..10).prop_map(|back| Step::Compact { back }),
        1 => (1u8..3).prop_map(|lease| Step::Grant { lease }),
        1 => (1u8..3).prop_map(|lease| Step::Revoke { lease }),
    ]
}

fn name(key: u8) -> Bytes {
    format!("/{key}").into()
}

fn command(step: &Step, model: &Model) -> Command {
    match step {
        Step::Put { key, value, lease } => {
            let put = PutRequest::new(name(*key), vec![*value]).lease((*lease).into());
            Command::Txn(Txn::of(Op::Put(PutRequest { prev_kv: true, ..put })))
        }
        Step::Delete { key, end } => {
            let range_end = if *end == 7 { Bytes::new() } else { name(*end) };
            Command::Txn(Txn::of(Op::Delete(DeleteRequest { key: name(*key), range_end, prev_kv: true })))
        }
        Step::Swap { key, expected_age } => {
            let current = model.now().get(&name(*key)).map_or(0, |kv| kv.mod_revision);
            let compare = vec![Compare::mod_revision_is(name(*key), (current - i64::from(*expected_age)).max(0))];
            let success = vec![
                Op::Put(PutRequest::new(name(*key), "swapped")),
                Op::Txn(Txn::of(Op::Put(PutRequest::new(name(*key + 1), "next")))),
                Op::Delete(DeleteRequest::one(name(*key + 2))),
                Op::Range(RangeRequest::prefix("/")),
            ];
            Command::Txn(Txn { compare, success, failure: vec![Op::Range(RangeRequest::one(name(*key)))] })
        }
        Step::Compact { back } => Command::Compact((model.revision() - i64::from(*back)).max(1)),
        Step::Grant { lease } => Command::LeaseGrant { id: (*lease).into(), ttl: Duration::from_secs(10) },
        Step::Revoke { lease } => Command::LeaseRevoke { id: (*lease).into() },
    }
}

/// What the model says of a command; whether it may be done at all.
fn act(model: &mut Model, step: &Step) -> bool {
    let at = model.revision() + 1;
    let mut next = model.now().clone();
    match step {
        Step::Put { key, value, lease } => {
            let lease = LeaseId::from(*lease);
            if lease != 0 && !model.leases.contains(&lease) {
                return false;
            }
            Model::put(&mut next, at, &name(*key), &vec![*value].into(), lease);
        }
        Step::Delete { key, end } => {
            let range_end = if *end == 7 { Bytes::new() } else { name(*end) };
            next.retain(|candidate, _| !in_range(&name(*key), &range_end, candidate));
        }
        Step::Swap { key, expected_age } => {
            let current = next.get(&name(*key)).map_or(0, |kv| kv.mod_revision);
            if (current - i64::from(*expected_age)).max(0) == current {
                Model::put(&mut next, at, &name(*key), &"swapped".into(), 0);
                Model::put(&mut next, at, &name(*key + 1), &"next".into(), 0);
                next.remove(&name(*key + 2));
            }
        }
        Step::Compact { back } => {
            let to = (model.revision() - i64::from(*back)).max(1);
            let newer = to > model.compacted;
            model.compacted = model.compacted.max(to);
            return newer;
        }
        Step::Grant { lease } => return model.leases.insert((*lease).into()),
        Step::Revoke { lease } => {
            if !model.leases.remove(&LeaseId::from(*lease)) {
                return false;
            }
            next.retain(|_, kv| kv.lease != LeaseId::from(*lease));
        }
    }
    if next != *model.now() {
        model.worlds.push(next);
    }
    true
}

/// Events that lead from one world to the next, whatever their order within the revision.
fn changes(model: &Model, from: Revision) -> Vec<(Revision, EventKind, Bytes, Bytes)> {
    let mut all = Vec::new();
    for at in from.max(2)..=model.revision() {
        let (before, after) = (&model.worlds[at as usize - 1], &model.worlds[at as usize]);
        for (key, kv) in after.iter().filter(|(_, kv)| kv.mod_revision == at) {
            all.push((at, EventKind::Put, key.clone(), kv.value.clone()));
        }
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            all.push((at, EventKind::Delete, key.clone(), Bytes::new()));
        }
    }
    all.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
    all
}

fn check_history(state: &Mvcc, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(state.revision(), model.revision());
    let bytes: usize = model.now().values().map(|kv| kv.key.len() + kv.value.len()).sum();
    prop_assert_eq!(state.live_bytes(), bytes as u64);
    for revision in 0..=model.revision() + 1 {
        for request in [RangeRequest::prefix("/"), RangeRequest::one("/3"), RangeRequest::prefix("/4")] {
            let request = request.at(revision);
            let answer = state.range(&request);
            let kvs = answer.ok().map(|it| it.kvs.iter().map(|kv| KeyValue::clone(kv)).collect::<Vec<_>>());
            prop_assert_eq!(kvs, model.range(&request), "{:?}", request);
        }
    }
    for start in model.compacted..=model.revision() + 1 {
        let events = state.events_since(b"/", b"0", start);
        let mut seen: Vec<_> = events
            .map_err(|error| TestCaseError::fail(error.to_string()))?
            .into_iter()
            .map(|event| (event.kv.mod_revision, event.kind, event.kv.key.clone(), event.kv.value.clone()))
            .collect();
        seen.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
        prop_assert_eq!(seen, changes(model, start), "from {}", start);
    }
    prop_assert!(model.compacted == 0 || state.events_since(b"/", b"0", model.compacted - 1).is_err());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut state, mut model) = (Mvcc::new(), Model::new());
        for (index, step) in (1..).zip(&steps) {
            let command = command(step, &model);
            let before = model.now().clone();
            let effects = state.apply(index, &command, Duration::ZERO);
            let allowed = act(&mut model, step);
            prop_assert_eq!(effects.result.is_ok(), allowed, "{:?}: {:?}", step, effects.result);
            for event in &effects.events {
                let prev = event.prev_kv.as_ref().map(|kv| KeyValue::clone(kv));
                prop_assert_eq!(prev.as_ref(), before.get(&event.kv.key));
            }
        }
        check_history(&state, &model)?;
        // A snapshot and back is the same state.
        let back = Mvcc::from_image(state.image(), Duration::ZERO);
        prop_assert_eq!(back.image(), state.image());
        check_history(&back, &model)?;
        prop_assert_eq!(back.events_since(b"/", b"0", model.compacted), state.events_since(b"/", b"0", model.compacted));
    }
}

#[test]
fn a_key_may_be_written_once_in_a_transaction() {
    let put = |key: &'static str| Op::Put(PutRequest::new(key, "v"));
    let delete = |key: &'static str| Op::Delete(DeleteRequest::prefix(key));
    let both = |success: Vec<Op>, failure: Vec<Op>| Txn { success, failure, ..Txn::default() };
    let twice = |ops: Vec<Op>| both(ops, vec![]).check();
    assert_eq!(twice(vec![put("/a"), put("/a")]), Err(Error::DuplicateKey));
    assert_eq!(twice(vec![put("/a/1"), delete("/a")]), Err(Error::DuplicateKey));
    assert_eq!(twice(vec![delete("/a"), put("/a/1")]), Err(Error::DuplicateKey));
    assert_eq!(twice(vec![delete("/a"), delete("/a/b"), put("/b")]), Ok(()));
    assert_eq!(both(vec![put("/a")], vec![put("/a")]).check(), Ok(()));
    assert_eq!(twice(vec![Op::Txn(both(vec![put("/a")], vec![put("/a")]))]), Ok(()));
    assert_eq!(twice(vec![put("/a"), Op::Txn(both(vec![], vec![put("/a")]))]), Err(Error::DuplicateKey));
    assert_eq!(twice(vec![put("")]), Err(Error::EmptyKey));
}

#[test]
fn pages_count_all_and_hold_their_limit() {
    let mut state = Mvcc::new();
    for index in 1..=10 {
        let put = PutRequest::new(format!("/{index:02}"), "v");
        let result = state.apply(index, &Command::Txn(Txn::of(Op::Put(put))), Duration::ZERO).result;
        assert!(result.is_ok());
    }
    let page = state.range(&RangeRequest::prefix("/").limit(3)).unwrap();
    assert_eq!((page.kvs.len(), page.more, page.count, page.revision), (3, true, 10, 11));
    let counted = state.range(&RangeRequest { count_only: true, ..RangeRequest::prefix("/") }).unwrap();
    assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 10));
    let keys = state.range(&RangeRequest { keys_only: true, ..RangeRequest::one("/03") }).unwrap();
    assert_eq!((keys.kvs[0].value.len(), keys.kvs[0].mod_revision), (0, 4));
}

#[test]
fn leases_end_when_nobody_renews_them() {
    let seconds = Duration::from_secs;
    let mut state = Mvcc::new();
    for (index, id) in [(1, 7), (2, 8)] {
        state.apply(index, &Command::LeaseGrant { id, ttl: seconds(10) }, seconds(0)).result.unwrap();
    }
    assert_eq!(state.next_lease_deadline(), Some(seconds(10)));
    assert_eq!(state.lease_keep_alive(7, seconds(9)), Ok(seconds(10)));
    assert_eq!(state.expired_leases(seconds(9)), [] as [LeaseId; 0]);
    assert_eq!(state.expired_leases(seconds(10)), [8]);
    assert_eq!(state.expired_leases(seconds(19)), [8, 7]);
    assert_eq!(state.lease_keep_alive(9, seconds(0)), Err(Error::LeaseNotFound));
}
