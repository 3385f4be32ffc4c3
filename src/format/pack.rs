//! Packs: zstd frames whose decompressed stream is a valid tar.
//!
//! A frame holds whole tar entries (header, content, padding), so any file is read with one range request and one small
//! decompression, and any pack is read by stock tools: `zstd -dc PACK | tar x`. Headers are for those tools only: our
//! reader goes by the manifest and never parses tar, so the two can't be played against each other.
//!
//! A pack is checked when it is finished, before it is sent ([`Pack::check`]): the very bytes that go are decompressed, and each
//! content in them is hashed. So neither a bug of the compressor nor a bit that memory has lost gets into the bucket.

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};
use ulid::Ulid;
use zstd::bulk::{Compressor, Decompressor};

use super::{FormatError, Hash, tar_header};
use crate::budget::{ORDINARY, capacity_for};

/// Raw bytes that a frame is filled up to with small files.
pub const FRAME_TARGET: u64 = 512 << 10;
/// A pack is closed once it has so many compressed bytes.
pub const CLOSE_AT: usize = 16 << 20;
/// The most that a pack has then: its last frame may be one of 8 MiB.
const LARGEST: usize = 24 << 20;
/// Largest pack that is read whole, in bytes: more than one has that was ever written.
pub const MAX_PACK: u64 = 64 << 20;
/// Packs smaller than this are folded into others when there are many.
pub const SMALL: u64 = 4 << 20;
/// The most raw bytes a frame may have: a file of 8 MiB with its header, twice over.
pub const MAX_FRAME: u32 = 17 << 20;
/// Where the parts of cut files appear to stock tools.
pub const PARTS_DIRECTORY: &str = ".workspace-parts";
/// What a tar ends with.
const TAR_END: [u8; 2 * tar_header::BLOCK] = [0; 2 * tar_header::BLOCK];
/// zstd's default level: on source trees level 1 is 6 % larger, higher ones cost time that the network doesn't.
const LEVEL: i32 = 3;

/// What is being put into a frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    raw: Vec<u8>,
    contents: Vec<Stored>,
}

/// Where a content lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub hash: Hash,
    /// Where it begins in the decompressed frame.
    pub offset: u32,
    /// Its bytes.
    pub length: u32,
}

/// A finished frame.
#[derive(Debug, Clone)]
pub struct BuiltFrame {
    /// Compressed.
    pub bytes: Vec<u8>,
    /// Bytes once decompressed.
    pub raw: u32,
    /// What is in it.
    pub contents: Vec<Stored>,
}

/// A content with more bytes than a frame may have. The planner never asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// See [`MAX_FRAME`].
    #[error("a frame would exceed {MAX_FRAME} bytes")]
    FrameTooLarge,
    /// The compressor failed, or what it made did not decompress to what went in: memory or hardware at fault.
    #[error("a frame did not survive compression")]
    Compression,
    /// What the finished pack decompresses to is not what went in: memory or hardware at fault, or this program.
    #[error("a pack was damaged in the memory of this machine before it was sent; nothing was published")]
    Damaged,
}

impl FrameBuilder {
    /// With room for so many raw bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { raw: Vec::with_capacity(capacity_for(bytes)), contents: Vec::new() }
    }

    /// Adds a file as a tar entry.
    pub fn add(
        &mut self,
        path: &str,
        executable: bool,
        mtime: i64,
        hash: Hash,
        content: &[u8],
    ) -> Result<(), PackError> {
        tar_header::file(&mut self.raw, path, executable, mtime, content.len() as u64);
        let offset = self.raw.len();
        self.raw.extend_from_slice(content);
        self.end(hash, offset, content.len())
    }

    /// Fills up the last block of a content, and notes where it lies.
    fn end(&mut self, hash: Hash, offset: usize, length: usize) -> Result<(), PackError> {
        self.raw.resize(self.raw.len().next_multiple_of(tar_header::BLOCK), 0);
        if self.raw.len() > MAX_FRAME as usize {
            return Err(PackError::FrameTooLarge);
        }
        let narrow = |number: usize| u32::try_from(number).map_err(|_| PackError::FrameTooLarge);
        self.contents.push(Stored { hash, offset: narrow(offset)?, length: narrow(length)? });
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Compresses. What comes of it is checked with the pack that it gets into.
    pub fn finish(self) -> Result<BuiltFrame, PackError> {
        let bytes = with_codec(|codec| codec.compress(&self.raw)).map_err(|_| PackError::Compression)?;
        Ok(BuiltFrame {
            bytes,
            raw: u32::try_from(self.raw.len()).map_err(|_| PackError::FrameTooLarge)?,
            contents: self.contents,
        })
    }
}

/// A part of a cut file, with room in front of it for its header: it becomes a frame where it lies.
#[derive(Debug)]
pub struct Part {
    raw: Vec<u8>,
}

impl Part {
    /// A copy of a part.
    pub fn of(content: &[u8]) -> Self {
        let mut raw = Vec::with_capacity(capacity_for(2 * tar_header::BLOCK + content.len()));
        raw.resize(tar_header::BLOCK, 0);
        raw.extend_from_slice(content);
        Self { raw }
    }

    /// The part.
    pub fn content(&self) -> &[u8] {
        &self.raw[tar_header::BLOCK..]
    }

    /// Compresses the part, which has that digest, as a frame of its own.
    pub fn into_frame(mut self, hash: Hash) -> Result<BuiltFrame, PackError> {
        let length = self.content().len();
        let mut header = Vec::with_capacity(tar_header::BLOCK);
        tar_header::file(&mut header, &format!("{PARTS_DIRECTORY}/{hash}"), false, 0, length as u64);
        self.raw[..tar_header::BLOCK].copy_from_slice(&header);
        let mut frame = FrameBuilder { raw: self.raw, contents: Vec::with_capacity(1) };
        frame.end(hash, tar_header::BLOCK, length)?;
        frame.finish()
    }
}

/// What a thread keeps for all its frames: contexts and buffers of a megabyte each are not made anew for every one.
struct Codec {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    scratch: Vec<u8>,
}

impl Codec {
    fn new() -> std::io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self { compressor, decompressor: Decompressor::new()?, scratch: Vec::new() })
    }

    /// Compresses.
    fn compress(&mut self, raw: &[u8]) -> std::io::Result<Vec<u8>> {
        let bound = zstd::zstd_safe::compress_bound(raw.len());
        let mut scratch = self.room_for(bound);
        self.compressor.compress_to_buffer(raw, &mut scratch)?;
        // What hardly gets smaller is not copied.
        if scratch.len() > bound / 8 * 7 && scratch.capacity() <= capacity_for(bound) {
            return Ok(scratch);
        }
        let bytes = scratch.as_slice().to_vec();
        self.keep(scratch);
        Ok(bytes)
    }

    /// Decompresses what must come to so many bytes, and says whether it is what is expected.
    fn holds(&mut self, bytes: &[u8], raw: usize, expected: impl FnOnce(&[u8]) -> bool) -> std::io::Result<bool> {
        let mut scratch = self.room_for(raw);
        self.decompressor.decompress_to_buffer(bytes, &mut scratch)?;
        let same = scratch.len() == raw && expected(&scratch);
        self.keep(scratch);
        Ok(same)
    }

    /// An empty buffer.
    fn room_for(&mut self, bytes: usize) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.reserve_exact(capacity_for(bytes));
        scratch
    }

    /// Keeps a buffer, but not that of a large file: there are many threads.
    fn keep(&mut self, scratch: Vec<u8>) {
        if scratch.capacity() <= ORDINARY {
            self.scratch = scratch;
        }
    }
}

/// Runs `act` with the thread's codec, made at its first use.
fn with_codec<T>(act: impl FnOnce(&mut Codec) -> std::io::Result<T>) -> std::io::Result<T> {
    thread_local! {
        static CODEC: RefCell<Option<Codec>> = const { RefCell::new(None) };
    }
    CODEC.with_borrow_mut(|codec| match codec {
        Some(codec) => act(codec),
        None => act(codec.insert(Codec::new()?)),
    })
}

/// Compresses a frame, and checks that it survived.
pub(super) fn compress(raw: &[u8]) -> Result<Vec<u8>, PackError> {
    let checked = with_codec(|codec| {
        let bytes = codec.compress(raw)?;
        let same = codec.holds(&bytes, raw.len(), |back| back == raw)?;
        Ok(same.then_some(bytes))
    });
    checked.ok().flatten().ok_or(PackError::Compression)
}

/// Decompresses a frame that has `raw` bytes. zstd checks the content checksum.
pub fn decompress(bytes: &[u8], raw: u32) -> Result<Vec<u8>, FormatError> {
    if raw > MAX_FRAME {
        return Err(FormatError::OverLimit { what: "a frame", limit: MAX_FRAME.into() });
    }
    let mut content = Vec::with_capacity(capacity_for(raw as usize));
    with_codec(|codec| codec.decompressor.decompress_to_buffer(bytes, &mut content))
        .map_err(|error| FormatError::damaged(format!("a frame does not decompress ({error})")))?;
    if content.len() != raw as usize {
        return Err(FormatError::damaged(format!("a frame has {} bytes instead of {raw}", content.len())));
    }
    Ok(content)
}

/// A pack in the making, in memory.
#[derive(Debug)]
pub struct PackBuilder {
    id: Ulid,
    bytes: BytesMut,
    frames: Vec<PackedFrame>,
}

/// Where a frame lies in its pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFrame {
    /// Where it begins.
    pub offset: u64,
    /// Its compressed bytes.
    pub length: u32,
    /// Its decompressed bytes.
    pub raw: u32,
    /// What is in it.
    pub contents: Vec<Stored>,
}

/// A pack that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Its id.
    pub id: Ulid,
    /// The object.
    pub bytes: Bytes,
    /// Its frames.
    pub frames: Vec<PackedFrame>,
}

impl Pack {
    /// Reads the finished object as whoever fetches it will: frames lie end to end, each decompresses, and each content is what
    /// its digest says.
    pub fn check(&self) -> Result<(), PackError> {
        let mut end = 0;
        for frame in &self.frames {
            let start = usize::try_from(frame.offset).map_err(|_| PackError::Damaged)?;
            let bytes = self.bytes.get(start..start + frame.length as usize).ok_or(PackError::Damaged)?;
            let contents_are_right = |raw: &[u8]| {
                frame.contents.iter().all(|stored| {
                    let start = stored.offset as usize;
                    let content = raw.get(start..start + stored.length as usize);
                    content.is_some_and(|content| Hash::of(content) == stored.hash)
                })
            };
            let right = with_codec(|codec| codec.holds(bytes, frame.raw as usize, contents_are_right));
            if start != end || !right.unwrap_or(false) {
                return Err(PackError::Damaged);
            }
            end = start + bytes.len();
        }
        let right = with_codec(|codec| codec.holds(&self.bytes[end..], TAR_END.len(), |raw| raw == TAR_END));
        if right.unwrap_or(false) { Ok(()) } else { Err(PackError::Damaged) }
    }
}

impl PackBuilder {
    /// An empty one.
    pub fn new(id: Ulid) -> Self {
        Self::within(BytesMut::new(), id)
    }

    /// An empty one in the buffer of one before, whose pages are there already.
    pub fn within(mut buffer: BytesMut, id: Ulid) -> Self {
        buffer.clear();
        buffer.reserve(capacity_for(LARGEST));
        Self { id, bytes: buffer, frames: Vec::new() }
    }

    /// Adds a frame.
    pub fn add(&mut self, frame: BuiltFrame) {
        self.frames.push(PackedFrame {
            offset: self.bytes.len() as u64,
            // A compressed frame is hardly larger than a raw one, which is bounded.
            length: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
            raw: frame.raw,
            contents: frame.contents,
        });
        self.bytes.put_slice(&frame.bytes);
    }

    /// Its bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Ends the tar and hands out the object.
    pub fn finish(mut self) -> Result<Pack, PackError> {
        self.bytes.put_slice(&compress(&TAR_END)?);
        Ok(Pack { id: self.id, bytes: self.bytes.freeze(), frames: self.frames })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Pack {
        let mut frame = FrameBuilder::default();
        for (path, executable, content) in [
            ("src/index.js", false, &b"console.log('hello')\n"[..]),
            ("run me.sh", true, b"#!/bin/sh\n"),
            ("n\u{e4}me\n.txt", false, b"unicode"),
            (&format!("{}/long.txt", "d".repeat(120)), false, b"long"),
        ] {
            frame.add(path, executable, 1_700_000_000, Hash::of(content), content).unwrap();
        }
        let second = Part::of(b"part").into_frame(Hash::of(b"part"));
        let mut pack = PackBuilder::new(Ulid::from_parts(1, 1));
        pack.add(frame.finish().unwrap());
        pack.add(second.unwrap());
        pack.finish().unwrap()
    }

    #[test]
    fn golden_tar_stream() {
        // The decompressed stream is the format; how well zstd packs it may change between its releases.
        let pack = sample();
        let stream = zstd::stream::decode_all(&pack.bytes[..]).unwrap();
        insta::assert_snapshot!(format!("{} {}", stream.len(), Hash::of(&stream)), @"8192 aa4c03eea032c0f9bdebf1ef8f4bad03793b1dc60925c0602a7a31b69a9f266a");
        insta::assert_debug_snapshot!(pack.frames.iter().map(|f| (f.raw, f.contents.iter().map(|c| (c.offset, c.length)).collect::<Vec<_>>())).collect::<Vec<_>>(), @"
        [
            (
                6144,
                [
                    (
                        512,
                        21,
                    ),
                    (
                        1536,
                        10,
                    ),
                    (
                        3584,
                        7,
                    ),
                    (
                        5632,
                        4,
                    ),
                ],
            ),
            (
                1024,
                [
                    (
                        512,
                        4,
                    ),
                ],
            ),
        ]
        ");
    }

    #[test]
    fn contents_are_found_by_frame_and_offset() {
        let pack = sample();
        for frame in &pack.frames {
            let start = usize::try_from(frame.offset).unwrap();
            let raw = decompress(&pack.bytes[start..start + frame.length as usize], frame.raw).unwrap();
            for stored in &frame.contents {
                let content = &raw[stored.offset as usize..(stored.offset + stored.length) as usize];
                assert_eq!(Hash::of(content), stored.hash);
            }
        }
    }

    #[test]
    fn each_flipped_bit_is_noticed_before_a_pack_is_sent() {
        let pack = sample();
        assert_eq!(pack.check(), Ok(()));
        let mut harmless = Vec::new();
        for at in 0..pack.bytes.len() {
            for bit in 0..8 {
                let mut bytes = pack.bytes.to_vec();
                bytes[at] ^= 1 << bit;
                let flipped = Pack { bytes: bytes.clone().into(), ..pack.clone() };
                if flipped.check().is_ok() {
                    // zstd can say the same in more than one way: then readers get the right bytes all the same.
                    assert_eq!(
                        zstd::stream::decode_all(&bytes[..]).unwrap(),
                        zstd::stream::decode_all(&pack.bytes[..]).unwrap()
                    );
                    harmless.push((at, bit));
                }
            }
        }
        assert!(harmless.len() < pack.bytes.len() * 8 / 20, "{harmless:?}");
    }

    #[test]
    fn a_pack_whose_table_is_wrong_is_not_sent() {
        let pack = sample();
        let wrong = |change: &dyn Fn(&mut Pack)| {
            let mut pack = pack.clone();
            change(&mut pack);
            pack.check()
        };
        let damaged = Err(PackError::Damaged);
        assert_eq!(wrong(&|pack| pack.frames[0].contents[1].offset += 1), damaged);
        assert_eq!(wrong(&|pack| pack.frames[0].contents[1].length -= 1), damaged);
        assert_eq!(wrong(&|pack| pack.frames[0].contents[0].hash = Hash::of(b"other")), damaged);
        assert_eq!(wrong(&|pack| pack.frames[1].raw += 1), damaged);
        assert_eq!(wrong(&|pack| pack.frames[1].offset += 1), damaged);
        assert_eq!(wrong(&|pack| pack.frames.swap(0, 1)), damaged);
        assert_eq!(wrong(&|pack| drop(pack.frames.pop())), damaged);
        assert_eq!(wrong(&|pack| pack.bytes.truncate(pack.bytes.len() - 1)), damaged);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let pack = sample();
        let frame = &pack.frames[0];
        let clean = &pack.bytes[..frame.length as usize];
        for position in [4, clean.len() / 2, clean.len() - 1] {
            let mut bytes = clean.to_vec();
            bytes[position] ^= 1;
            let read = decompress(&bytes, frame.raw);
            assert!(read.is_err() || read.unwrap() == decompress(clean, frame.raw).unwrap());
        }
        assert!(decompress(&clean[..clean.len() - 1], frame.raw).is_err());
        assert!(decompress(clean, frame.raw - 1).is_err());
        assert!(decompress(clean, frame.raw + 1).is_err());
    }
}
