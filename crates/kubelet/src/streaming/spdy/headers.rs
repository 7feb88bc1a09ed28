//! A SPDY/3 header block: a count, then names and values with their lengths, all of it one zlib stream for the life of
//! the connection.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::DICTIONARY;

/// Names in lower case, each with its first value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers(Vec<(String, String)>);

/// A block is refused above this many bytes, unpacked: a few hundred are usual.
const BLOCK_MAX: usize = 1 << 20;
const CHUNK: usize = 4096;

impl Headers {
    #[cfg(test)]
    pub fn new(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_string())).collect())
    }

    /// The value of a header, or nothing, which also is what an empty one means.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    fn block(&self) -> Vec<u8> {
        let mut block = (self.0.len() as u32).to_be_bytes().to_vec();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.as_bytes());
        }
        block
    }

    fn parse(mut block: &[u8]) -> io::Result<Headers> {
        let count = take_u32(&mut block)?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let name = take_text(&mut block)?.to_lowercase();
            let value = take_text(&mut block)?;
            // Several values of one name are separated by a zero byte.
            let first = value.split('\0').next().unwrap_or_default().to_string();
            pairs.push((name, first));
        }
        Ok(Headers(pairs))
    }
}

fn take_u32(block: &mut &[u8]) -> io::Result<u32> {
    let (number, rest) = block.split_first_chunk::<4>().ok_or_else(|| invalid("header block ends early"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn take_text(block: &mut &[u8]) -> io::Result<String> {
    let length = take_u32(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or_else(|| invalid("header block ends early"))?;
    *block = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

pub(super) fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY: {words}"))
}

/// Packs the blocks one side sends.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> io::Result<Packer> {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
        Ok(Packer(compress))
    }

    pub(super) fn pack(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let block = headers.block();
        let mut packed = Vec::new();
        let mut done = 0;
        loop {
            packed.reserve(CHUNK);
            let before = self.0.total_in();
            self.0.compress_vec(&block[done..], &mut packed, FlushCompress::Sync).map_err(io::Error::other)?;
            done += (self.0.total_in() - before) as usize;
            // With room left in the output, the flush is complete.
            if done == block.len() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
        }
    }
}

/// Unpacks the blocks the other side sends, all of them and in order: each needs those before it.
pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Unpacker {
        Unpacker(Decompress::new(true))
    }

    pub(super) fn unpack(&mut self, packed: &[u8]) -> io::Result<Headers> {
        let mut block = Vec::new();
        let mut done = 0;
        loop {
            block.reserve(CHUNK);
            let (read, written) = (self.0.total_in(), block.len());
            let result = self.0.decompress_vec(&packed[done..], &mut block, FlushDecompress::Sync);
            let progress = (self.0.total_in() - read) as usize;
            done += progress;
            match result {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
            if block.len() > BLOCK_MAX {
                return Err(invalid("header block is too large"));
            }
            let stuck = progress == 0 && block.len() == written;
            if (done == packed.len() && block.len() < block.capacity()) || stuck {
                return Headers::parse(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip_over_one_stream() {
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Unpacker::new());
        let long = "x".repeat(3 * CHUNK);
        let blocks = [
            Headers::new(&[("streamType", "data"), ("port", "8080"), ("requestID", "0")]),
            Headers::new(&[]),
            Headers::new(&[("streamType", "error"), ("noise", &long)]),
        ];
        for headers in blocks {
            let packed = packer.pack(&headers).unwrap();
            assert_eq!(unpacker.unpack(&packed).unwrap(), headers);
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused() {
        let mut packer = Packer::new().unwrap();
        let packed = packer.pack(&Headers::new(&[("port", "1")])).unwrap();
        assert_eq!(packed[..6], [0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2], "a zlib header that names the dictionary");
        assert!(Unpacker::new().unpack(&packed[..8]).is_err());
        assert!(Unpacker::new().unpack(b"not zlib").is_err());
    }
}
