//! Between etcd's messages and the requests and answers of `mvcc`.

use std::cmp::Ordering;
use std::sync::Arc;

use mvcc::{CompareResult, CompareTarget, Event, EventKind, KeyValue, Op, OpResponse, Revision, Txn};
use tonic::Status;

use super::messages as wire;
use crate::error::Error;

/// The one member's id, and the cluster's: there is no other to tell it from.
pub const MEMBER: u64 = 1;
pub const CLUSTER: u64 = 1;
/// Nothing is elected here: the term is that of a member that has led since it began.
pub const TERM: u64 = 2;

pub fn header(revision: Revision) -> Option<wire::ResponseHeader> {
    Some(wire::ResponseHeader { cluster_id: CLUSTER, member_id: MEMBER, revision, raft_term: TERM })
}

/// The code that etcd's clients look at (`etcd api/v3rpc/rpctypes/error.go`).
pub fn refusal(error: Error) -> Status {
    use mvcc::Error as Refused;
    let words = error.to_string();
    match error {
        Error::Mvcc(Refused::Compacted { .. } | Refused::FutureRevision { .. } | Refused::LeaseTtlTooLarge) => {
            Status::out_of_range(words)
        }
        Error::Mvcc(Refused::EmptyKey | Refused::DuplicateKey | Refused::KeyNotFound) => {
            Status::invalid_argument(words)
        }
        Error::Mvcc(Refused::LeaseNotFound) => Status::not_found(words),
        Error::Mvcc(Refused::LeaseExists) => Status::failed_precondition(words),
        Error::Unwritable { .. } | Error::Closed | Error::SlowWatcher { .. } | Error::Locked { .. } => {
            Status::unavailable(words)
        }
        Error::Unknown { .. } | Error::Corrupt { .. } | Error::Io { .. } => Status::unknown(words),
    }
}

pub fn key_value(kv: &Arc<KeyValue>) -> wire::KeyValue {
    wire::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease,
    }
}

pub fn event(event: &Event) -> wire::Event {
    wire::Event {
        kind: i32::from(event.kind == EventKind::Delete),
        kv: Some(key_value(&event.kv)),
        prev_kv: event.prev_kv.as_ref().map(key_value),
    }
}

/// What a range is beside `mvcc`'s: an order, and bounds on revisions, which are applied to what it finds.
pub struct Sifted<'a>(pub &'a wire::RangeRequest);

impl Sifted<'_> {
    fn sorts(&self) -> bool {
        // In key order is how keys come.
        self.0.sort_order != 0 && (self.0.sort_order, self.0.sort_target) != (1, 0)
            || (self.0.sort_order == 0 && self.0.sort_target != 0)
    }

    fn bounds(&self) -> bool {
        let request = self.0;
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision]
            .iter()
            .any(|bound| *bound != 0)
    }

    /// As `mvcc` is asked: for everything, where the answer is worked on afterwards.
    pub fn request(&self) -> mvcc::RangeRequest {
        let whole = self.sorts() || self.bounds();
        mvcc::RangeRequest {
            key: self.0.key.clone(),
            range_end: self.0.range_end.clone(),
            limit: if whole { 0 } else { usize::try_from(self.0.limit).unwrap_or(0) },
            revision: self.0.revision.max(0),
            keys_only: self.0.keys_only && !whole,
            count_only: self.0.count_only && !self.bounds(),
        }
    }

    /// `etcd server/etcdserver/txn/range.go: assembleRangeResponse`.
    pub fn response(&self, answer: mvcc::RangeResponse) -> wire::RangeResponse {
        let mut kvs: Vec<wire::KeyValue> = answer.kvs.iter().map(key_value).collect();
        let (mut more, mut count) = (answer.more, answer.count);
        if self.bounds() {
            kvs.retain(|kv| self.within(kv));
            count = kvs.len();
        }
        if self.sorts() {
            kvs.sort_by(|one, other| self.order(one, other));
        }
        if self.sorts() || self.bounds() {
            let limit = usize::try_from(self.0.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
            more = kvs.len() > limit;
            kvs.truncate(limit);
        }
        if self.0.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        if self.0.count_only {
            kvs.clear();
        }
        wire::RangeResponse {
            header: header(answer.revision),
            kvs,
            more,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        }
    }

    fn within(&self, kv: &wire::KeyValue) -> bool {
        let request = self.0;
        let between = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
        between(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && between(kv.create_revision, request.min_create_revision, request.max_create_revision)
    }

    fn order(&self, one: &wire::KeyValue, other: &wire::KeyValue) -> Ordering {
        let ascending = match self.0.sort_target {
            1 => one.version.cmp(&other.version),
            2 => one.create_revision.cmp(&other.create_revision),
            3 => one.mod_revision.cmp(&other.mod_revision),
            4 => one.value.cmp(&other.value),
            _ => one.key.cmp(&other.key),
        };
        if self.0.sort_order == 2 { ascending.reverse() } else { ascending }
    }
}

pub fn put(request: wire::PutRequest) -> mvcc::PutRequest {
    mvcc::PutRequest {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub fn delete(request: wire::DeleteRangeRequest) -> mvcc::DeleteRequest {
    mvcc::DeleteRequest { key: request.key, range_end: request.range_end, prev_kv: request.prev_kv }
}

pub fn txn(request: &wire::TxnRequest) -> Result<Txn, Status> {
    let operations = |list: &[wire::RequestOp]| list.iter().map(operation).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compare: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: operations(&request.success)?,
        failure: operations(&request.failure)?,
    })
}

fn operation(operation: &wire::RequestOp) -> Result<Op, Status> {
    Ok(match &operation.request {
        Some(wire::Request::Range(range)) => Op::Range(Sifted(range).request()),
        Some(wire::Request::Put(request)) => Op::Put(put(request.clone())),
        Some(wire::Request::DeleteRange(request)) => Op::Delete(delete(request.clone())),
        Some(wire::Request::Txn(inner)) => Op::Txn(txn(inner)?),
        None => return Err(Status::invalid_argument("etcdserver: key not found")),
    })
}

fn compare(compare: &wire::Compare) -> Result<mvcc::Compare, Status> {
    let result = match compare.result {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        other => return Err(Status::invalid_argument(format!("etcdserver: unknown compare result {other}"))),
    };
    // An operand of zero is not on the wire.
    let number = match &compare.operand {
        Some(
            wire::Operand::Version(number)
            | wire::Operand::CreateRevision(number)
            | wire::Operand::ModRevision(number)
            | wire::Operand::Lease(number),
        ) => *number,
        _ => 0,
    };
    let target = match (compare.target, &compare.operand) {
        (0, _) => CompareTarget::Version(number),
        (1, _) => CompareTarget::Create(number),
        (2, _) => CompareTarget::Mod(number),
        (3, Some(wire::Operand::Value(value))) => CompareTarget::Value(value.clone()),
        (3, _) => CompareTarget::Value(bytes::Bytes::new()),
        (4, _) => CompareTarget::Lease(number),
        (other, _) => return Err(Status::invalid_argument(format!("etcdserver: unknown compare target {other}"))),
    };
    Ok(mvcc::Compare { key: compare.key.clone(), range_end: compare.range_end.clone(), result, target })
}

/// The answer to a transaction, whose ranges are worked on as their requests want.
pub fn txn_response(request: &wire::TxnRequest, answer: mvcc::TxnResponse) -> wire::TxnResponse {
    let asked = if answer.succeeded { &request.success } else { &request.failure };
    let responses = asked.iter().zip(answer.responses).map(|(asked, answered)| op_response(asked, answered));
    wire::TxnResponse { header: header(answer.revision), succeeded: answer.succeeded, responses: responses.collect() }
}

fn op_response(asked: &wire::RequestOp, answered: OpResponse) -> wire::ResponseOp {
    let response = match (answered, &asked.request) {
        (OpResponse::Range(range), Some(wire::Request::Range(request))) => {
            wire::Response::Range(Sifted(request).response(range))
        }
        (OpResponse::Range(range), _) => wire::Response::Range(Sifted(&wire::RangeRequest::default()).response(range)),
        (OpResponse::Put { prev_kv }, _) => {
            wire::Response::Put(wire::PutResponse { header: None, prev_kv: prev_kv.as_ref().map(key_value) })
        }
        (OpResponse::Delete { deleted, prev_kvs }, _) => {
            wire::Response::DeleteRange(deleted_response(deleted, &prev_kvs))
        }
        (OpResponse::Txn(inner), Some(wire::Request::Txn(request))) => {
            wire::Response::Txn(txn_response(request, inner))
        }
        (OpResponse::Txn(inner), _) => wire::Response::Txn(txn_response(&wire::TxnRequest::default(), inner)),
    };
    wire::ResponseOp { response: Some(response) }
}

pub fn deleted_response(deleted: usize, prev_kvs: &[Arc<KeyValue>]) -> wire::DeleteRangeResponse {
    wire::DeleteRangeResponse {
        header: None,
        deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
        prev_kvs: prev_kvs.iter().map(key_value).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(revisions: &[i64]) -> mvcc::RangeResponse {
        let kv = |revision: &i64| {
            Arc::new(KeyValue {
                key: format!("k{revision}").into(),
                value: "v".into(),
                mod_revision: *revision,
                ..KeyValue::default()
            })
        };
        let kvs: Vec<_> = revisions.iter().map(kv).collect();
        mvcc::RangeResponse { revision: 9, count: kvs.len(), kvs, more: false }
    }

    fn revisions(answer: &wire::RangeResponse) -> Vec<i64> {
        answer.kvs.iter().map(|kv| kv.mod_revision).collect()
    }

    #[test]
    fn an_order_and_bounds_are_applied_before_the_limit() {
        let request = wire::RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit: 2,
            sort_order: 2,
            sort_target: 3,
            min_mod_revision: 3,
            keys_only: true,
            ..Default::default()
        };
        let sifted = Sifted(&request);
        assert_eq!(sifted.request().limit, 0);
        let answer = sifted.response(found(&[2, 5, 3, 8]));
        assert_eq!((revisions(&answer), answer.more, answer.count), (vec![8, 5], true, 3));
        assert!(answer.kvs.iter().all(|kv| kv.value.is_empty()));
        let plain = wire::RangeRequest { limit: 2, ..Default::default() };
        assert_eq!(Sifted(&plain).request().limit, 2);
    }

    #[test]
    fn a_comparison_without_an_operand_is_with_zero() {
        let absent = wire::Compare { target: 2, key: "k".into(), ..Default::default() };
        assert_eq!(compare(&absent).unwrap(), mvcc::Compare::absent("k"));
        assert!(compare(&wire::Compare { result: 9, ..absent }).is_err());
    }
}
