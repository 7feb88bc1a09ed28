//! Commands and images as bytes: fixed little-endian numbers, byte strings with their length before them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::{
    Command, Compare, CompareResult, CompareTarget, DeleteRequest, EventKind, KeyValue, Op, PutRequest, RangeRequest,
    Txn,
};

pub(super) fn encode(command: &Command) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(256));
    match command {
        Command::Txn(txn) => {
            out.tag(1);
            out.txn(txn);
        }
        Command::Compact(revision) => {
            out.tag(2);
            out.int(*revision);
        }
        Command::LeaseGrant { id, ttl } => {
            out.tag(3);
            out.int(*id);
            out.duration(*ttl);
        }
        Command::LeaseRevoke { id } => {
            out.tag(4);
            out.int(*id);
        }
    }
    out.0
}

/// `None` when the bytes are no command, which a matching checksum rules out unless a newer version wrote them.
pub(super) fn decode(bytes: Bytes) -> Option<Command> {
    let mut input = Reader(bytes);
    let command = match input.tag()? {
        1 => Command::Txn(input.txn()?),
        2 => Command::Compact(input.int()?),
        3 => Command::LeaseGrant { id: input.int()?, ttl: input.duration()? },
        4 => Command::LeaseRevoke { id: input.int()? },
        _ => return None,
    };
    input.0.is_empty().then_some(command)
}

pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    pub fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn unsigned(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn flags(&mut self, flags: &[bool]) {
        self.0.push(flags.iter().enumerate().fold(0, |byte, (bit, flag)| byte | (u8::from(*flag) << bit)));
    }

    pub fn duration(&mut self, duration: Duration) {
        self.unsigned(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }

    fn count(&mut self, count: usize) {
        assert!(u32::try_from(count).is_ok(), "a request is far smaller than 4 GiB");
        self.0.extend_from_slice(&(count as u32).to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub fn kv(&mut self, kv: &KeyValue) {
        self.bytes(&kv.key);
        self.bytes(&kv.value);
        [kv.create_revision, kv.mod_revision, kv.version, kv.lease].into_iter().for_each(|number| self.int(number));
    }

    pub fn event(&mut self, kind: EventKind, kv: &KeyValue) {
        self.tag(u8::from(kind == EventKind::Delete));
        self.kv(kv);
    }

    fn txn(&mut self, txn: &Txn) {
        self.count(txn.compare.len());
        txn.compare.iter().for_each(|compare| self.compare(compare));
        for branch in [&txn.success, &txn.failure] {
            self.count(branch.len());
            branch.iter().for_each(|op| self.op(op));
        }
    }

    fn compare(&mut self, compare: &Compare) {
        self.bytes(&compare.key);
        self.bytes(&compare.range_end);
        self.tag(match compare.result {
            CompareResult::Equal => 0,
            CompareResult::Greater => 1,
            CompareResult::Less => 2,
            CompareResult::NotEqual => 3,
        });
        let (tag, number) = match &compare.target {
            CompareTarget::Version(version) => (0, *version),
            CompareTarget::Create(revision) => (1, *revision),
            CompareTarget::Mod(revision) => (2, *revision),
            CompareTarget::Lease(lease) => (3, *lease),
            CompareTarget::Value(value) => {
                self.tag(4);
                return self.bytes(value);
            }
        };
        self.tag(tag);
        self.int(number);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Range(range) => {
                self.tag(0);
                self.bytes(&range.key);
                self.bytes(&range.range_end);
                self.unsigned(range.limit as u64);
                self.int(range.revision);
                self.flags(&[range.keys_only, range.count_only]);
            }
            Op::Put(put) => {
                self.tag(1);
                self.bytes(&put.key);
                self.bytes(&put.value);
                self.int(put.lease);
                self.flags(&[put.prev_kv, put.ignore_value, put.ignore_lease]);
            }
            Op::Delete(delete) => {
                self.tag(2);
                self.bytes(&delete.key);
                self.bytes(&delete.range_end);
                self.flags(&[delete.prev_kv]);
            }
            Op::Txn(txn) => {
                self.tag(3);
                self.txn(txn);
            }
        }
    }
}

/// Byte strings that are read share the input's memory.
pub(super) struct Reader(pub Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (self.0.len() >= length).then(|| self.0.split_to(length))
    }

    pub fn tag(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn int(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.as_ref().try_into().ok()?))
    }

    pub fn unsigned(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.as_ref().try_into().ok()?))
    }

    fn flag(flags: u8, bit: u8) -> bool {
        flags & (1 << bit) != 0
    }

    pub fn duration(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(self.unsigned()?))
    }

    fn count(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.as_ref().try_into().ok()?) as usize)
    }

    pub fn bytes(&mut self) -> Option<Bytes> {
        let length = self.count()?;
        self.take(length)
    }

    pub fn kv(&mut self) -> Option<Arc<KeyValue>> {
        Some(Arc::new(KeyValue {
            key: self.bytes()?,
            value: self.bytes()?,
            create_revision: self.int()?,
            mod_revision: self.int()?,
            version: self.int()?,
            lease: self.int()?,
        }))
    }

    pub fn event(&mut self) -> Option<(EventKind, Arc<KeyValue>)> {
        let kind = if self.tag()? == 1 { EventKind::Delete } else { EventKind::Put };
        Some((kind, self.kv()?))
    }

    fn txn(&mut self) -> Option<Txn> {
        let mut txn = Txn::default();
        for _ in 0..self.count()? {
            txn.compare.push(self.compare()?);
        }
        for branch in [&mut txn.success, &mut txn.failure] {
            for _ in 0..self.count()? {
                branch.push(self.op()?);
            }
        }
        Some(txn)
    }

    fn compare(&mut self) -> Option<Compare> {
        let (key, range_end) = (self.bytes()?, self.bytes()?);
        let result = match self.tag()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            _ => return None,
        };
        let target = match self.tag()? {
            0 => CompareTarget::Version(self.int()?),
            1 => CompareTarget::Create(self.int()?),
            2 => CompareTarget::Mod(self.int()?),
            3 => CompareTarget::Lease(self.int()?),
            4 => CompareTarget::Value(self.bytes()?),
            _ => return None,
        };
        Some(Compare { key, range_end, result, target })
    }

    fn op(&mut self) -> Option<Op> {
        Some(match self.tag()? {
            0 => {
                let (key, range_end) = (self.bytes()?, self.bytes()?);
                let (limit, revision) = (usize::try_from(self.unsigned()?).ok()?, self.int()?);
                let flags = self.tag()?;
                let (keys_only, count_only) = (Self::flag(flags, 0), Self::flag(flags, 1));
                Op::Range(RangeRequest { key, range_end, limit, revision, keys_only, count_only })
            }
            1 => {
                let (key, value, lease) = (self.bytes()?, self.bytes()?, self.int()?);
                let flags = self.tag()?;
                let [prev_kv, ignore_value, ignore_lease] = [0, 1, 2].map(|bit| Self::flag(flags, bit));
                Op::Put(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
            }
            2 => {
                let (key, range_end, flags) = (self.bytes()?, self.bytes()?, self.tag()?);
                Op::Delete(DeleteRequest { key, range_end, prev_kv: Self::flag(flags, 0) })
            }
            3 => Op::Txn(self.txn()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let inner = Txn::of(Op::Delete(DeleteRequest { prev_kv: true, ..DeleteRequest::prefix("/x/") }));
        let txn = Txn {
            compare: vec![
                Compare::mod_revision_is("/a", 7),
                Compare {
                    key: "/b".into(),
                    range_end: "/c".into(),
                    result: CompareResult::NotEqual,
                    target: CompareTarget::Value("v".into()),
                },
            ],
            success: vec![
                Op::Put(PutRequest { ignore_lease: true, prev_kv: true, ..PutRequest::new("/a", "1") }),
                Op::Txn(inner),
            ],
            failure: vec![Op::Range(RangeRequest { keys_only: true, ..RangeRequest::prefix("/a").at(3).limit(9) })],
        };
        let commands = [
            Command::Txn(txn),
            Command::Compact(12),
            Command::LeaseGrant { id: 5, ttl: Duration::from_millis(1500) },
            Command::LeaseRevoke { id: 5 },
        ];
        for command in commands {
            let bytes = Bytes::from(encode(&command));
            assert_eq!(decode(bytes.clone()), Some(command));
            for cut in 0..bytes.len() {
                assert_eq!(decode(bytes.slice(..cut)), None);
            }
        }
    }
}
