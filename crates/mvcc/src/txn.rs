//! Transactions: check everything first, then write, so that a refused transaction has changed nothing.

use bytes::Bytes;

use crate::error::Error;
use crate::keys::{bounds, overlap};
use crate::state::Mvcc;
use crate::types::*;

impl Txn {
    /// Refuses empty keys, and writes that meet each other: a key changes at most once in a revision (etcd
    /// `server/etcdserver/api/v3rpc/key.go`, checkTxnRequest and checkIntervals).
    pub fn check(&self) -> Result<(), Error> {
        if self.compare.iter().any(|compare| compare.key.is_empty() && compare.range_end.is_empty()) {
            return Err(Error::EmptyKey);
        }
        Writes::of(&self.success)?;
        Writes::of(&self.failure)?;
        Ok(())
    }

    /// Neither branch can change anything, so it needs no place in the log.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::Delete(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        })
    }
}

/// What the operations of one branch may write.
#[derive(Default)]
struct Writes<'a> {
    puts: Vec<&'a [u8]>,
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Writes<'a> {
    fn of(ops: &'a [Op]) -> Result<Self, Error> {
        let mut writes = Self::default();
        for op in ops {
            match op {
                Op::Range(range) if range.key.is_empty() && range.range_end.is_empty() => return Err(Error::EmptyKey),
                Op::Range(_) => {}
                Op::Put(put) if put.key.is_empty() => return Err(Error::EmptyKey),
                Op::Put(put) => {
                    writes.meets_nothing((&put.key, b""), true)?;
                    writes.puts.push(&put.key);
                }
                Op::Delete(delete) if delete.key.is_empty() && delete.range_end.is_empty() => {
                    return Err(Error::EmptyKey);
                }
                Op::Delete(delete) => {
                    writes.meets_nothing((&delete.key, &delete.range_end), false)?;
                    writes.deletes.push((&delete.key, &delete.range_end));
                }
                // Only one branch of a nested transaction runs, so its branches may meet each other.
                Op::Txn(txn) => {
                    for inner in [Self::of(&txn.success)?, Self::of(&txn.failure)?] {
                        for &put in &inner.puts {
                            writes.meets_nothing((put, b""), true)?;
                        }
                        for &delete in &inner.deletes {
                            writes.meets_nothing(delete, false)?;
                        }
                    }
                    for inner in [Self::of(&txn.success)?, Self::of(&txn.failure)?] {
                        writes.puts.extend(inner.puts);
                        writes.deletes.extend(inner.deletes);
                    }
                }
            }
        }
        Ok(writes)
    }

    /// A put may meet neither put nor delete; a delete may meet other deletes, for the second finds nothing.
    fn meets_nothing(&self, range: (&[u8], &[u8]), is_put: bool) -> Result<(), Error> {
        let meets_put = self.puts.iter().any(|&put| overlap((put, b""), range));
        let meets_delete = is_put && self.deletes.iter().any(|&delete| overlap(delete, range));
        if meets_put || meets_delete { Err(Error::DuplicateKey) } else { Ok(()) }
    }
}

impl Mvcc {
    pub(crate) fn txn(&mut self, txn: &Txn, events: &mut Vec<Event>) -> Result<TxnResponse, Error> {
        txn.check()?;
        self.check_branches(txn)?;
        let at = self.revision + 1;
        let answer = self.run(txn, at, events);
        self.revision += i64::from(!events.is_empty());
        Ok(answer)
    }

    /// A transaction that changes nothing, answered without a command.
    pub fn read(&self, txn: &Txn) -> Result<TxnResponse, Error> {
        assert!(txn.is_read_only(), "a transaction that may write goes through the log");
        txn.check()?;
        self.check_branches(txn)?;
        Ok(self.run_reads(txn))
    }

    fn run_reads(&self, txn: &Txn) -> TxnResponse {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Range(range) => OpResponse::Range(self.range_up_to(range, self.revision)),
                Op::Txn(inner) => OpResponse::Txn(self.run_reads(inner)),
                Op::Put(_) | Op::Delete(_) => unreachable!("checked to be read-only"),
            });
        }
        TxnResponse { revision: self.revision, succeeded, responses }
    }

    /// Everything that may fail, looked at before anything is written. Both branches of nested transactions are looked
    /// at, since which of them runs may depend on what is written before.
    fn check_branches(&self, txn: &Txn) -> Result<(), Error> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        self.check_ops(if succeeded { &txn.success } else { &txn.failure })
    }

    fn check_ops(&self, ops: &[Op]) -> Result<(), Error> {
        for op in ops {
            match op {
                Op::Range(range) => self.check_readable(range, self.revision)?,
                Op::Put(put) => {
                    if put.lease != 0 && self.leases.get(put.lease).is_none() {
                        return Err(Error::LeaseNotFound);
                    }
                    if (put.ignore_value || put.ignore_lease) && self.live(&put.key).is_none() {
                        return Err(Error::KeyNotFound);
                    }
                }
                Op::Delete(_) => {}
                Op::Txn(inner) => {
                    self.check_ops(&inner.success)?;
                    self.check_ops(&inner.failure)?;
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, txn: &Txn, at: Revision, events: &mut Vec<Event>) -> TxnResponse {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Range(range) => {
                    let current = if events.is_empty() { self.revision } else { at };
                    OpResponse::Range(self.range_up_to(range, current))
                }
                Op::Put(put) => self.run_put(put, at, events),
                Op::Delete(delete) => self.run_delete(delete, at, events),
                Op::Txn(inner) => OpResponse::Txn(self.run(inner, at, events)),
            });
        }
        let revision = if events.is_empty() { self.revision } else { at };
        TxnResponse { revision, succeeded, responses }
    }

    fn run_put(&mut self, put: &PutRequest, at: Revision, events: &mut Vec<Event>) -> OpResponse {
        let before = self.live(&put.key).cloned();
        let kept = |keep: bool| before.as_ref().filter(|_| keep);
        let kv = KeyValue {
            key: before.as_ref().map_or_else(|| put.key.clone(), |before| before.key.clone()),
            value: kept(put.ignore_value).map_or_else(|| put.value.clone(), |before| before.value.clone()),
            create_revision: before.as_ref().map_or(at, |before| before.create_revision),
            mod_revision: at,
            version: before.as_ref().map_or(1, |before| before.version + 1),
            lease: kept(put.ignore_lease).map_or(put.lease, |before| before.lease),
        };
        let before = self.put(kv, events);
        OpResponse::Put { prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn run_delete(&mut self, delete: &DeleteRequest, at: Revision, events: &mut Vec<Event>) -> OpResponse {
        let mut deleted = 0;
        let mut prev_kvs = Vec::new();
        for key in self.live_keys_in(&delete.key, &delete.range_end) {
            let before = self.delete(&key, at, events);
            deleted += usize::from(before.is_some());
            prev_kvs.extend(before.filter(|_| delete.prev_kv));
        }
        OpResponse::Delete { deleted, prev_kvs }
    }

    fn live_keys_in(&self, key: &[u8], range_end: &[u8]) -> Vec<Bytes> {
        let Some(bounds) = bounds(key, range_end) else { return Vec::new() };
        let live = self.index.range::<[u8], _>(bounds).filter(|(_, history)| history.live().is_some());
        live.map(|(key, _)| key.clone()).collect()
    }

    /// etcd `server/etcdserver/txn/txn.go`, applyCompare: over a range every live key must satisfy it; an empty range is
    /// compared as one absent key.
    fn holds(&self, compare: &Compare) -> bool {
        let absent = KeyValue::default();
        let holds = |kv: &KeyValue| {
            let ordering = match &compare.target {
                // An absent key has no value, not even an empty one.
                CompareTarget::Value(_) if kv.create_revision == 0 => return false,
                CompareTarget::Value(value) => kv.value.cmp(value),
                CompareTarget::Version(version) => kv.version.cmp(version),
                CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
                CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
                CompareTarget::Lease(lease) => kv.lease.cmp(lease),
            };
            match compare.result {
                CompareResult::Equal => ordering.is_eq(),
                CompareResult::NotEqual => ordering.is_ne(),
                CompareResult::Greater => ordering.is_gt(),
                CompareResult::Less => ordering.is_lt(),
            }
        };
        if compare.range_end.is_empty() {
            return holds(self.live(&compare.key).map_or(&absent, |kv| kv));
        }
        let Some(bounds) = bounds(&compare.key, &compare.range_end) else { return holds(&absent) };
        let mut live = self.index.range::<[u8], _>(bounds).filter_map(|(_, history)| history.live()).peekable();
        if live.peek().is_none() { holds(&absent) } else { live.all(|kv| holds(kv)) }
    }
}
