//! Archives: a whole version as one object for stock tools, with the version's manifest at its end.
//!
//! `curl -fsS URL | zstd -d | tar x` restores the tree. The object is zstd frames whose decompressed stream is one tar, then
//! one [skippable frame](https://github.com/facebook/zstd/blob/dev/doc/zstd_compression_format.md#skippable-frames), which
//! zstd passes over:
//!
//! ```text
//! 0           data        the tar, in zstd frames
//! data        4           5C 2A 4D 18: the number of a skippable frame
//!             4           length of what follows, little-endian as all numbers here
//!             manifest    the version's manifest as a base; its only pack is bytes 0..data of this object
//! end - 96    8           data: length of the tar's frames
//!             8           manifest: length of the manifest
//!             32          the tree digest
//!             32          BLAKE3 of the manifest and the other 64 bytes of these 96
//!             4           format number of the writer
//!             4           the lowest format number that a reader must know
//!             8           "wsarchiv"
//! ```
//!
//! So the last 96 bytes tell whether the object is whole and where the manifest is, and the manifest leads to every content as
//! it does in packs: tar headers are written for stock tools and read by nobody else. The bytes are a function of the
//! version: written twice, an archive is the same.

mod build;

use std::ops::Range;

use super::manifest::{self, Manifest};
use super::{FORMAT, FormatError, Hash};

pub use build::{ArchiveBuilder, BuildError, Finished, Piece, pieces};

/// The last bytes of an archive, by which it is recognised.
pub const TRAILER: usize = 96;
/// Largest manifest that is read or written, in bytes: some four million entries.
pub const MAX_MANIFEST: u64 = 256 << 20;

/// One of the sixteen numbers of skippable frames.
const SKIPPABLE: u32 = 0x184D_2A5C;
/// Number and length.
const FRAME_HEADER: usize = 8;
const MAGIC: &[u8; 8] = b"wsarchiv";

/// What the end of an archive says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Bytes of the tar's frames.
    pub data: u64,
    /// Bytes of the manifest.
    pub manifest: u64,
    /// The tree digest of the version.
    pub tree: Hash,
    /// Of the manifest, and of this.
    digest: Hash,
    /// What says the rest.
    format: u32,
    reader: u32,
}

impl Trailer {
    /// Reads the last bytes of an object of `size` bytes, which may be more than a trailer needs.
    pub fn parse(end: &[u8], size: u64) -> Result<Self, FormatError> {
        let foreign = || FormatError::damaged("it does not end as an archive does");
        let start = end.len().checked_sub(TRAILER).ok_or_else(foreign)?;
        let bytes: &[u8; TRAILER] = end[start..].try_into().map_err(|_| foreign())?;
        if bytes[88..] != *MAGIC {
            return Err(foreign());
        }
        let trailer = Self {
            data: long(bytes, 0),
            manifest: long(bytes, 8),
            tree: hash(bytes, 16),
            digest: hash(bytes, 48),
            format: short(bytes, 80),
            reader: short(bytes, 84),
        };
        if trailer.reader > FORMAT {
            return Err(FormatError::Newer { found: trailer.reader });
        }
        if trailer.manifest > MAX_MANIFEST {
            return Err(FormatError::OverLimit { what: "the manifest of an archive", limit: MAX_MANIFEST });
        }
        let whole = FRAME_HEADER as u64 + trailer.manifest + TRAILER as u64;
        if trailer.data.checked_add(whole) != Some(size) {
            return Err(FormatError::damaged(format!("it has {size} bytes, which is not what its end says")));
        }
        Ok(trailer)
    }

    /// Where the skippable frame is: all that [`Trailer::read`] needs.
    pub fn frame(&self) -> Range<u64> {
        self.data..self.data + FRAME_HEADER as u64 + self.manifest + TRAILER as u64
    }

    /// Reads the manifest out of the skippable frame.
    pub fn read(&self, frame: &[u8]) -> Result<Manifest, FormatError> {
        let damaged = || FormatError::damaged("its manifest is not the one that was written");
        let header = frame.get(..FRAME_HEADER).ok_or_else(damaged)?;
        let length = (frame.len() - header.len()) as u64;
        let end = frame.len().checked_sub(TRAILER).ok_or_else(damaged)?;
        let manifest = frame.get(FRAME_HEADER..end).ok_or_else(damaged)?;
        if header != frame_header(length) || manifest.len() as u64 != self.manifest {
            return Err(damaged());
        }
        if self.digest_of(manifest) != self.digest || self.to_bytes() != frame[end..] {
            return Err(damaged());
        }
        let manifest = manifest::decode(manifest)?;
        let own = match manifest.packs.as_slice() {
            [] => true,
            [pack] => pack.size == self.data,
            _ => false,
        };
        if !own || manifest.header.tree != self.tree {
            return Err(FormatError::damaged("its manifest is that of something else"));
        }
        Ok(manifest)
    }

    /// The skippable frame with a manifest.
    fn write(data: u64, manifest: &Manifest) -> Result<Vec<u8>, FormatError> {
        let encoded = manifest::encode(manifest);
        let over = || FormatError::OverLimit { what: "the manifest of an archive", limit: MAX_MANIFEST };
        let length = Some(encoded.len() as u64).filter(|length| *length <= MAX_MANIFEST).ok_or_else(over)?;
        let nothing = Hash::from_bytes([0; 32]);
        let tree = manifest.header.tree;
        let mut trailer = Self { data, manifest: length, tree, digest: nothing, format: FORMAT, reader: FORMAT };
        trailer.digest = trailer.digest_of(&encoded);
        let mut out = Vec::with_capacity(encoded.len() + TRAILER + FRAME_HEADER);
        out.extend_from_slice(&frame_header(length + TRAILER as u64));
        out.extend_from_slice(&encoded);
        out.extend_from_slice(&trailer.to_bytes());
        Ok(out)
    }

    fn digest_of(&self, manifest: &[u8]) -> Hash {
        let own = self.to_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher.update(manifest).update(&own[..48]).update(&own[80..]);
        hasher.finalize().into()
    }

    fn to_bytes(self) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..8].copy_from_slice(&self.data.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.manifest.to_le_bytes());
        bytes[16..48].copy_from_slice(self.tree.as_bytes());
        bytes[48..80].copy_from_slice(self.digest.as_bytes());
        bytes[80..84].copy_from_slice(&self.format.to_le_bytes());
        bytes[84..88].copy_from_slice(&self.reader.to_le_bytes());
        bytes[88..].copy_from_slice(MAGIC);
        bytes
    }
}

fn frame_header(length: u64) -> [u8; FRAME_HEADER] {
    let mut bytes = [0; FRAME_HEADER];
    bytes[..4].copy_from_slice(&SKIPPABLE.to_le_bytes());
    // At most what MAX_MANIFEST allows, far below four bytes' worth.
    bytes[4..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes
}

fn long(bytes: &[u8; TRAILER], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn short(bytes: &[u8; TRAILER], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn hash(bytes: &[u8; TRAILER], at: usize) -> Hash {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[at..at + 32]);
    Hash::from_bytes(digest)
}

#[cfg(test)]
mod tests;
