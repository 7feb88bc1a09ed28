//! Between etcd's messages and the requests and answers of `mvcc`, in both directions: what is served to others, and what
//! is asked of another etcd (`wire_*`) and answered by it (`*_of`).

use std::sync::Arc;
use std::time::Duration;

use mvcc::{CompareResult, CompareTarget, Event, EventKind, KeyValue, Op, OpResponse, Revision, Txn};
use tonic::Status;

use super::messages as wire;
use super::sifted::Sifted;

/// The one member's id, and the cluster's: there is no other to tell it from.
pub const MEMBER: u64 = 1;
pub const CLUSTER: u64 = 1;
/// Nothing is elected here: the term is that of a member that has led since it began.
pub const TERM: u64 = 2;

pub fn header(revision: Revision) -> Option<wire::ResponseHeader> {
    Some(wire::ResponseHeader { cluster_id: CLUSTER, member_id: MEMBER, revision, raft_term: TERM })
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

pub fn wire_range(request: &mvcc::RangeRequest) -> wire::RangeRequest {
    wire::RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        limit: i64::try_from(request.limit).unwrap_or(i64::MAX),
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        ..Default::default()
    }
}

fn wire_put(request: &mvcc::PutRequest) -> wire::PutRequest {
    wire::PutRequest {
        key: request.key.clone(),
        value: request.value.clone(),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

fn wire_delete(request: &mvcc::DeleteRequest) -> wire::DeleteRangeRequest {
    wire::DeleteRangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        prev_kv: request.prev_kv,
    }
}

pub fn wire_txn(txn: &Txn) -> wire::TxnRequest {
    wire::TxnRequest {
        compare: txn.compare.iter().map(wire_compare).collect(),
        success: txn.success.iter().map(wire_operation).collect(),
        failure: txn.failure.iter().map(wire_operation).collect(),
    }
}

fn wire_operation(operation: &Op) -> wire::RequestOp {
    let request = match operation {
        Op::Range(request) => wire::Request::Range(wire_range(request)),
        Op::Put(request) => wire::Request::Put(wire_put(request)),
        Op::Delete(request) => wire::Request::DeleteRange(wire_delete(request)),
        Op::Txn(inner) => wire::Request::Txn(wire_txn(inner)),
    };
    wire::RequestOp { request: Some(request) }
}

fn wire_compare(compare: &mvcc::Compare) -> wire::Compare {
    let result = match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    };
    let (target, operand) = match &compare.target {
        CompareTarget::Version(number) => (0, wire::Operand::Version(*number)),
        CompareTarget::Create(number) => (1, wire::Operand::CreateRevision(*number)),
        CompareTarget::Mod(number) => (2, wire::Operand::ModRevision(*number)),
        CompareTarget::Value(value) => (3, wire::Operand::Value(value.clone())),
        CompareTarget::Lease(number) => (4, wire::Operand::Lease(*number)),
    };
    let (key, range_end) = (compare.key.clone(), compare.range_end.clone());
    wire::Compare { result, target, key, operand: Some(operand), range_end }
}

/// An answer that etcd's protocol does not know.
fn malformed(what: &str) -> Status {
    Status::internal(format!("etcd's answer has no {what}"))
}

/// The header's revision; that of the whole answer, where a part of it has none of its own.
fn revision_of(header: Option<wire::ResponseHeader>, whole: Revision) -> Revision {
    header.map(|header| header.revision).filter(|revision| *revision != 0).unwrap_or(whole)
}

fn key_value_of(kv: wire::KeyValue) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    })
}

pub fn event_of(event: wire::Event) -> Result<Event, Status> {
    Ok(Event {
        kind: if event.kind == 0 { EventKind::Put } else { EventKind::Delete },
        kv: key_value_of(event.kv.ok_or_else(|| malformed("key in an event"))?),
        prev_kv: event.prev_kv.map(key_value_of),
    })
}

/// `whole` is the revision of the transaction that the range was a part of.
pub fn range_of(answer: wire::RangeResponse, whole: Revision) -> mvcc::RangeResponse {
    mvcc::RangeResponse {
        revision: revision_of(answer.header, whole),
        kvs: answer.kvs.into_iter().map(key_value_of).collect(),
        more: answer.more,
        count: usize::try_from(answer.count).unwrap_or(0),
    }
}

pub fn txn_of(answer: wire::TxnResponse, whole: Revision) -> Result<mvcc::TxnResponse, Status> {
    let revision = revision_of(answer.header, whole);
    let responses = answer.responses.into_iter().map(|response| op_response_of(response, revision));
    Ok(mvcc::TxnResponse { revision, succeeded: answer.succeeded, responses: responses.collect::<Result<_, _>>()? })
}

fn op_response_of(answer: wire::ResponseOp, revision: Revision) -> Result<OpResponse, Status> {
    Ok(match answer.response.ok_or_else(|| malformed("result of an operation"))? {
        wire::Response::Range(range) => OpResponse::Range(range_of(range, revision)),
        wire::Response::Put(put) => OpResponse::Put { prev_kv: put.prev_kv.map(key_value_of) },
        wire::Response::DeleteRange(delete) => OpResponse::Delete {
            deleted: usize::try_from(delete.deleted).unwrap_or(0),
            prev_kvs: delete.prev_kvs.into_iter().map(key_value_of).collect(),
        },
        wire::Response::Txn(inner) => OpResponse::Txn(txn_of(inner, revision)?),
    })
}

/// A lease's time on the wire, in whole seconds.
pub fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_without_an_operand_is_with_zero() {
        let absent = wire::Compare { target: 2, key: "k".into(), ..Default::default() };
        assert_eq!(compare(&absent).unwrap(), mvcc::Compare::absent("k"));
        assert!(compare(&wire::Compare { result: 9, ..absent }).is_err());
    }
    /// What the server reads of what the client writes is what the caller asked for, and so with the answer.
    #[test]
    fn both_directions_meet() {
        let compare = |result, target| mvcc::Compare { key: "k".into(), range_end: "z".into(), result, target };
        let inner = Txn { failure: vec![Op::Delete(mvcc::DeleteRequest::prefix("/d"))], ..Txn::default() };
        let put = mvcc::PutRequest { prev_kv: true, ignore_lease: true, ..mvcc::PutRequest::new("p", "v").lease(7) };
        let asked = Txn {
            compare: vec![
                compare(CompareResult::Equal, CompareTarget::Version(1)),
                compare(CompareResult::Greater, CompareTarget::Create(0)),
                compare(CompareResult::Less, CompareTarget::Mod(3)),
                compare(CompareResult::NotEqual, CompareTarget::Value("".into())),
                compare(CompareResult::Equal, CompareTarget::Lease(4)),
            ],
            success: vec![Op::Range(mvcc::RangeRequest::prefix("/r").at(5).limit(6)), Op::Put(put), Op::Txn(inner)],
            failure: vec![
                Op::Put(mvcc::PutRequest { ignore_value: true, ..mvcc::PutRequest::default() }),
                Op::Range(mvcc::RangeRequest { count_only: true, ..mvcc::RangeRequest::one("c") }),
                Op::Range(mvcc::RangeRequest { keys_only: true, ..mvcc::RangeRequest::one("k") }),
            ],
        };
        let written = wire_txn(&asked);
        assert_eq!(txn(&written).unwrap(), asked);

        let kv = Arc::new(KeyValue {
            key: "k".into(),
            value: "v".into(),
            create_revision: 2,
            mod_revision: 3,
            version: 4,
            lease: 5,
        });
        let answered = mvcc::TxnResponse {
            revision: 9,
            succeeded: true,
            responses: vec![
                OpResponse::Range(mvcc::RangeResponse { revision: 8, kvs: vec![kv.clone()], more: true, count: 2 }),
                OpResponse::Put { prev_kv: Some(kv.clone()) },
                OpResponse::Txn(mvcc::TxnResponse {
                    revision: 9,
                    succeeded: false,
                    responses: vec![OpResponse::Delete { deleted: 1, prev_kvs: vec![kv.clone()] }],
                }),
            ],
        };
        assert_eq!(txn_of(txn_response(&written, answered.clone()), 0).unwrap(), answered);
        for kind in [EventKind::Put, EventKind::Delete] {
            let told = Event { kind, kv: kv.clone(), prev_kv: Some(kv.clone()) };
            assert_eq!(event_of(event(&told)).unwrap(), told);
        }
        assert!(
            txn_of(wire::TxnResponse { responses: vec![wire::ResponseOp::default()], ..Default::default() }, 1)
                .is_err()
        );
    }
}
