//! etcd's way to name a range of keys by two byte strings.

use std::ops::Bound;

use bytes::Bytes;

/// `range_end` that, with `prefix` as key, names every key starting with `prefix` (etcd `clientv3.GetPrefixRangeEnd`):
/// the prefix with its last byte below 0xff raised by one, or the zero byte when there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|&byte| byte < 0xff) else { return Bytes::from_static(b"\0") };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

/// Whether `candidate` lies in the range that `key` and `range_end` name.
pub fn in_range(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range as bounds of an ordered map; `None` when it is empty (`range_end <= key`), which a map would panic over.
pub(crate) fn bounds<'a>(key: &'a [u8], range_end: &'a [u8]) -> Option<Bounds<'a>> {
    match range_end {
        [] => Some((Bound::Included(key), Bound::Included(key))),
        [0] => Some((Bound::Included(key), Bound::Unbounded)),
        end if end > key => Some((Bound::Included(key), Bound::Excluded(end))),
        _ => None,
    }
}

/// Whether two ranges share a key.
pub(crate) fn overlap(a: (&[u8], &[u8]), b: (&[u8], &[u8])) -> bool {
    let starts_before_end = |start: &[u8], (key, end): (&[u8], &[u8])| match end {
        [] => start <= key,
        [0] => true,
        end => start < end,
    };
    starts_before_end(a.0, b) && starts_before_end(b.0, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"/a/"), Bytes::from_static(b"/a0"));
        assert_eq!(prefix_end(b"a\xff\xff"), Bytes::from_static(b"b"));
        assert_eq!(prefix_end(b"\xff"), Bytes::from_static(b"\0"));
        assert_eq!(prefix_end(b""), Bytes::from_static(b"\0"));
    }

    #[test]
    fn overlaps() {
        assert!(overlap((b"a", b""), (b"a", b"")));
        assert!(!overlap((b"a", b""), (b"b", b"")));
        assert!(overlap((b"a", b"c"), (b"b", b"")));
        assert!(!overlap((b"a", b"b"), (b"b", b"")));
        assert!(overlap((b"c", b""), (b"a", b"\0")));
        assert!(!overlap((b"a", b""), (b"b", b"\0")));
    }
}
