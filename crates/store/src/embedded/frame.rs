//! A record of the log as it lies on disk: `length, checksum, index, group, payload`, padded to eight bytes.
//!
//! The checksum is seeded with the segment's number, so that what an earlier use of a recycled segment has left is not
//! taken for ours. `group` is the index of the first record that was written and synced together with this one: a record
//! of a later group proves that everything before it was once durable.

pub(super) const HEADER_BYTES: usize = 24;
const ALIGNMENT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub index: u64,
    pub group: u64,
    pub payload: &'a [u8],
    /// Bytes on disk.
    pub length: usize,
}

pub(super) fn length_on_disk(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

fn checksum(segment: u64, numbers: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(numbers);
    hasher.update(payload);
    hasher.finalize()
}

pub(super) fn append(out: &mut Vec<u8>, segment: u64, index: u64, group: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    assert!(length < u32::MAX, "a record is far smaller than 4 GiB");
    let mut numbers = [0; 20];
    numbers[..4].copy_from_slice(&length.to_le_bytes());
    numbers[4..12].copy_from_slice(&index.to_le_bytes());
    numbers[12..].copy_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&numbers[..4]);
    out.extend_from_slice(&checksum(segment, &numbers, payload).to_le_bytes());
    out.extend_from_slice(&numbers[4..]);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Bytes, without padding, of the record whose header this may be.
pub(super) fn claimed_length(header: &[u8]) -> usize {
    HEADER_BYTES + number(header, 0).map_or(0, u32::from_le_bytes) as usize
}

/// The record at the beginning of `bytes`, if there is a whole and sound one of this segment.
pub(super) fn read(bytes: &[u8], segment: u64) -> Option<Frame<'_>> {
    let payload_length = u32::from_le_bytes(number(bytes, 0)?) as usize;
    let index = u64::from_le_bytes(number(bytes, 8)?);
    let group = u64::from_le_bytes(number(bytes, 16)?);
    // Cheap checks first: the checksum is asked of what may be a record only.
    if index == 0 || group == 0 || group > index {
        return None;
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(payload_length)?)?;
    let mut numbers = [0; 20];
    numbers[..4].copy_from_slice(&bytes[..4]);
    numbers[4..].copy_from_slice(&bytes[8..HEADER_BYTES]);
    let sound = u32::from_le_bytes(number(bytes, 4)?) == checksum(segment, &numbers, payload);
    sound.then_some(Frame { index, group, payload, length: length_on_disk(payload_length) })
}

/// Records anywhere in `bytes`, which begins at a multiple of eight: what is left behind a broken one.
pub(super) fn scan(bytes: &[u8], segment: u64) -> impl Iterator<Item = (usize, Frame<'_>)> {
    let places = (0..bytes.len()).step_by(ALIGNMENT);
    places.filter_map(move |at| read(&bytes[at..], segment).map(|frame| (at, frame)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_bit_is_seen() {
        let mut bytes = Vec::new();
        append(&mut bytes, 3, 10, 9, b"payload!!");
        assert_eq!(bytes.len(), length_on_disk(9));
        let frame = read(&bytes, 3).unwrap();
        assert_eq!((frame.index, frame.group, frame.payload), (10, 9, &b"payload!!"[..]));
        assert!(read(&bytes, 4).is_none(), "another segment's record");
        for bit in 0..(HEADER_BYTES + 9) * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&broken, 3).is_none(), "bit {bit}");
        }
        for cut in 0..HEADER_BYTES + 9 {
            assert!(read(&bytes[..cut], 3).is_none());
        }
    }
}
