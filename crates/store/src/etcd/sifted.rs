//! A range of etcd's as a range of `mvcc`, and its answer.

use std::cmp::Ordering;

use super::convert::{header, key_value};
use super::messages as wire;

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mvcc::KeyValue;

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
}
