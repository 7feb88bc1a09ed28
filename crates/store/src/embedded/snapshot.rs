//! Snapshot files: the whole state at one place of the log, so that the log before it is not needed any more.
//!
//! A file is a sequence of blocks, `length, checksum, payload`: a head, the keys, the changes since the compacted
//! revision, an end that counts them. It is written beside the old one, synced and renamed, so it is whole or not there.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::{EventKind, Image, KeyValue, Mvcc};

use super::codec::{Reader, Writer};
use super::directory::{Directory, open_file};
use crate::error::Error;

const MAGIC: &[u8; 8] = b"wndl-snp";
/// A block is closed when it has grown to this.
const BLOCK_BYTES: usize = 256 << 10;
/// Keys and changes taken from the state at a time: short enough for writers not to notice.
const CHUNK: usize = 1000;

const HEAD: u8 = 1;
const BASE: u8 = 2;
const EVENTS: u8 = 3;
const END: u8 = 4;

/// Takes an image of a state that goes on changing: `read` is called for each piece, and lets others in between. `None`
/// when the state was compacted meanwhile.
pub(super) fn take(read: impl Fn(&mut dyn FnMut(&Mvcc))) -> Option<Image> {
    let mut image = Image::default();
    read(&mut |state| image = state.image_head());
    let mut whole = true;
    let mut after: Option<Bytes> = None;
    loop {
        let mut next = None;
        read(&mut |state| {
            whole &= state.compacted_revision() == image.compacted;
            let (kvs, last) = state.base_chunk(after.as_deref(), CHUNK);
            image.base.extend(kvs);
            next = last;
        });
        if !whole || next.is_none() {
            break;
        }
        after = next;
    }
    let mut taken = 0;
    while whole {
        let mut chunk = Vec::new();
        read(&mut |state| {
            whole &= state.compacted_revision() == image.compacted;
            chunk = state.events_from(taken, CHUNK);
        });
        taken += chunk.len();
        let before = image.events.len();
        // Later changes are not the image's.
        image.events.extend(chunk.into_iter().filter(|(_, kv)| kv.mod_revision <= image.revision));
        if image.events.len() == before {
            break;
        }
    }
    whole.then_some(image)
}

/// Writes the image, and then removes older snapshots.
pub(super) fn write(directory: &Directory, image: &Image) -> Result<(), Error> {
    let unfinished = directory.unfinished_snapshot();
    let file = open_file(&unfinished)?;
    file.set_len(0).map_err(Error::io("truncate", &unfinished))?;
    let mut out = Blocks { out: BufWriter::with_capacity(1 << 20, file) };
    out.image(image).map_err(Error::io("write", &unfinished))?;
    let file = out.out.into_inner().map_err(|error| Error::io("write", &unfinished)(error.into_error()))?;
    file.sync_all().map_err(Error::io("sync", &unfinished))?;
    std::fs::rename(&unfinished, directory.snapshot(image.applied)).map_err(Error::io("rename", &unfinished))?;
    directory.sync()?;
    for older in directory.list("snapshot")?.into_iter().filter(|index| *index < image.applied) {
        let path = directory.snapshot(older);
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

struct Blocks<W> {
    out: W,
}

impl<W: Write> Blocks<W> {
    fn block(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(std::io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(payload).to_le_bytes())?;
        self.out.write_all(payload)
    }

    fn items<T>(&mut self, kind: u8, items: &[T], write: impl Fn(&mut Writer, &T)) -> std::io::Result<()> {
        let mut block = Writer(vec![kind]);
        for item in items {
            write(&mut block, item);
            if block.0.len() >= BLOCK_BYTES {
                self.block(&block.0)?;
                block.0.truncate(1);
            }
        }
        if block.0.len() > 1 { self.block(&block.0) } else { Ok(()) }
    }

    fn image(&mut self, image: &Image) -> std::io::Result<()> {
        self.out.write_all(MAGIC)?;
        let mut head = Writer(vec![HEAD]);
        head.int(image.revision);
        head.int(image.compacted);
        head.unsigned(image.applied);
        for (id, ttl) in &image.leases {
            head.int(*id);
            head.duration(*ttl);
        }
        self.block(&head.0)?;
        self.items(BASE, &image.base, |out, kv| out.kv(kv))?;
        self.items(EVENTS, &image.events, |out, (kind, kv)| out.event(*kind, kv))?;
        let mut end = Writer(vec![END]);
        end.unsigned(image.base.len() as u64);
        end.unsigned(image.events.len() as u64);
        self.block(&end.0)
    }
}

/// The state of the newest snapshot. One that does not read as it was written stops the store: what came before it in the
/// log is gone.
pub(super) fn load_newest(directory: &Directory) -> Result<Option<Mvcc>, Error> {
    let Some(newest) = directory.list("snapshot")?.pop() else { return Ok(None) };
    let path = directory.snapshot(newest);
    let bytes = Bytes::from(std::fs::read(&path).map_err(Error::io("read", &path))?);
    let image = read(&bytes).map_err(|(offset, reason)| Error::Corrupt {
        path: path.clone(),
        offset: offset as u64,
        reason: reason.to_string(),
    })?;
    Ok(Some(Mvcc::from_image(image, Duration::ZERO)))
}

type Damage = (usize, &'static str);

fn read(bytes: &Bytes) -> Result<Image, Damage> {
    if !bytes.starts_with(MAGIC) {
        return Err((0, "this is no snapshot"));
    }
    let mut image = Image::default();
    let mut at = MAGIC.len();
    loop {
        let number = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        let (Some(length), Some(checksum)) = (number(at), number(at + 4)) else {
            return Err((at, "the file ends early"));
        };
        let payload = bytes.get(at + 8..at + 8 + length as usize).ok_or((at, "the file ends early"))?;
        if crc32fast::hash(payload) != checksum {
            return Err((at, "a block does not match its checksum"));
        }
        // A copy a block: a value that lives long must not keep the whole file in memory.
        let mut input = Reader(Bytes::copy_from_slice(payload));
        let counts = block(&mut input, &mut image).ok_or((at, "a block of an unknown form"))?;
        at += 8 + length as usize;
        match counts {
            None => {}
            Some(counts) if counts == (image.base.len() as u64, image.events.len() as u64) => return Ok(image),
            Some(_) => return Err((at, "blocks are missing")),
        }
    }
}

/// Takes a block in; the counts if it is the last.
fn block(input: &mut Reader, image: &mut Image) -> Option<Option<(u64, u64)>> {
    match input.tag()? {
        HEAD => {
            image.revision = input.int()?;
            image.compacted = input.int()?;
            image.applied = input.unsigned()?;
            while !input.0.is_empty() {
                image.leases.push((input.int()?, input.duration()?));
            }
        }
        BASE => {
            while !input.0.is_empty() {
                image.base.push(own(input.kv()?));
            }
        }
        EVENTS => {
            while !input.0.is_empty() {
                let (kind, kv): (EventKind, Arc<KeyValue>) = input.event()?;
                image.events.push((kind, own(kv)));
            }
        }
        END => return Some(Some((input.unsigned()?, input.unsigned()?))),
        _ => return None,
    }
    Some(None)
}

/// Key and value in memory of their own, for the same reason.
fn own(kv: Arc<KeyValue>) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: Bytes::copy_from_slice(&kv.key),
        value: Bytes::copy_from_slice(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    })
}
