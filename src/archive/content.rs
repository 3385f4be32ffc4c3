//! The contents of a version in the order of its archive: fetched from packs in ranges, decompressed, verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{ArchiveError, Archivist};
use crate::budget::Taken;
use crate::checkout::CheckoutError;
use crate::checkout::packs::Reads;
use crate::format::archive::{ArchiveBuilder, BuildError, Piece};
use crate::format::{Hash, Keys, Manifest, pack};
use crate::store::Store;

/// Gaps up to this between frames are read rather than skipped, in bytes.
const GAP: u64 = 256 << 10;
/// A range is closed once it has so many bytes.
const SPLIT: u64 = 8 << 20;
/// Or once its frames have so many when decompressed: all of them are held at once.
const RAW: u64 = 16 << 20;

/// What one request brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pack: u32,
    start: u64,
    end: u64,
    /// By offset.
    frames: Vec<u32>,
    raw: u64,
    pieces: Vec<Piece>,
}

/// The same, fetched and verified.
pub struct Chunk {
    frames: BTreeMap<u32, Vec<u8>>,
    pieces: Vec<Piece>,
    taken: Taken,
}

impl Chunk {
    /// Bytes of content.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.part.length)).sum()
    }

    /// Adds everything to an archive. What it took of the budget is given back once the archive's bytes are sent.
    pub fn add_to(self, builder: &mut ArchiveBuilder) -> Result<Taken, BuildError> {
        for piece in &self.pieces {
            let raw = self.frames.get(&piece.part.frame).map(Vec::as_slice).unwrap_or_default();
            builder.add(piece, content(raw, piece).ok_or(BuildError::Order)?)?;
        }
        Ok(self.taken)
    }
}

/// The requests that bring the pieces, in their order.
pub fn chunks(manifest: &Manifest, pieces: &[Piece]) -> Vec<Wanted> {
    let mut chunks: Vec<Wanted> = Vec::new();
    for piece in pieces {
        let frame = manifest.frames[piece.part.frame as usize];
        let (end, raw) = (frame.offset + u64::from(frame.length), u64::from(frame.raw));
        if let Some(open) = chunks.last_mut() {
            let offset = |number: &u32| manifest.frames[*number as usize].offset;
            if open.pack == frame.pack && open.frames.binary_search_by_key(&frame.offset, offset).is_ok() {
                open.pieces.push(*piece);
                continue;
            }
            let near = open.pack == frame.pack && frame.offset >= open.end && frame.offset - open.end <= GAP;
            if near && open.end - open.start < SPLIT && open.raw + raw <= RAW {
                open.end = end;
                open.raw += raw;
                open.frames.push(piece.part.frame);
                open.pieces.push(*piece);
                continue;
            }
        }
        chunks.push(Wanted {
            pack: frame.pack,
            start: frame.offset,
            end,
            frames: vec![piece.part.frame],
            raw,
            pieces: vec![*piece],
        });
    }
    chunks
}

/// Fetches and verifies.
pub async fn fetch(
    archivist: &Archivist<'_>,
    store: &Store,
    keys: &Keys,
    manifest: &Arc<Manifest>,
    wanted: Wanted,
) -> Result<Chunk, ArchiveError> {
    let mut taken = archivist.budget.take(wanted.end - wanted.start + wanted.raw).await;
    let key = keys.pack(manifest.packs[wanted.pack as usize].id);
    let wanted = Arc::new(wanted);
    let mut reads = Reads::of(store, archivist.observer.as_ref());
    loop {
        let bytes = reads.next(&key, wanted.start..wanted.end).await?;
        let outcome = {
            let (manifest, wanted) = (manifest.clone(), wanted.clone());
            spawn_blocking(move || unpack(&manifest, &wanted, &bytes)).await?
        };
        match outcome {
            Ok(frames) => {
                taken.shrink(wanted.raw);
                return Ok(Chunk { frames, pieces: wanted.pieces.clone(), taken });
            }
            Err(_) if reads.again(&key) => {}
            Err(Wrong { entry, reason }) => {
                let path = manifest.entries[entry].path.to_string();
                return Err(CheckoutError::Damaged { key, reason, path }.into());
            }
        }
    }
}

/// A content that isn't what the manifest says.
struct Wrong {
    entry: usize,
    reason: String,
}

fn unpack(manifest: &Manifest, wanted: &Wanted, bytes: &Bytes) -> Result<BTreeMap<u32, Vec<u8>>, Wrong> {
    let mut frames = BTreeMap::new();
    for &number in &wanted.frames {
        let frame = manifest.frames[number as usize];
        // It lies inside the range by its making, and the range has some MiB.
        let start = usize::try_from(frame.offset - wanted.start).unwrap_or(usize::MAX);
        let compressed = bytes.get(start..start.saturating_add(frame.length as usize)).unwrap_or_default();
        let raw = pack::decompress(compressed, frame.raw).map_err(|error| Wrong {
            entry: wanted.pieces.iter().find(|piece| piece.part.frame == number).map_or(0, |piece| piece.entry),
            reason: error.to_string(),
        })?;
        frames.insert(number, raw);
    }
    let mut checked: BTreeMap<(u32, u32, u32), Hash> = BTreeMap::new();
    for piece in &wanted.pieces {
        let wrong = |reason: &str| Wrong { entry: piece.entry, reason: reason.to_owned() };
        let raw = frames.get(&piece.part.frame).map(Vec::as_slice).unwrap_or_default();
        let content = content(raw, piece).ok_or_else(|| wrong("a frame is too short"))?;
        let place = (piece.part.frame, piece.part.offset, piece.part.length);
        if *checked.entry(place).or_insert_with(|| Hash::of(content)) != piece.hash {
            return Err(wrong("a content has another digest"));
        }
    }
    Ok(frames)
}

fn content<'r>(raw: &'r [u8], piece: &Piece) -> Option<&'r [u8]> {
    let start = piece.part.offset as usize;
    raw.get(start..start.checked_add(piece.part.length as usize)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Part;
    use crate::format::manifest::{Frame, Header, PackInfo};

    #[test]
    fn requests_are_few_and_bounded_and_bring_the_pieces_in_order() {
        let frame = |pack, offset, length, raw| Frame { pack, offset, length, raw };
        let mib = 1 << 20;
        let pack = |number| PackInfo { id: ulid::Ulid::from_parts(1, number), size: 1 << 40 };
        let manifest = Manifest {
            header: Header::bare(&[]),
            packs: vec![pack(1), pack(2)],
            frames: vec![
                frame(0, 0, 1000, mib),
                frame(0, 1000, 1000, mib),
                // A gap.
                frame(0, 10_000_000, 1000, mib),
                // Another pack.
                frame(1, 0, 1000, 16 * mib),
                // Together they would be too large once decompressed.
                frame(1, 1000, 1000, mib),
            ],
            entries: vec![],
        };
        let piece =
            |frame| Piece { entry: 0, number: 0, part: Part { frame, offset: 0, length: 1 }, hash: Hash::of(b"") };
        let order = [0, 0, 1, 2, 3, 3, 4, 0, 1, 0];
        let pieces: Vec<Piece> = order.into_iter().map(piece).collect();
        let chunks = chunks(&manifest, &pieces);
        let frames: Vec<&[u32]> = chunks.iter().map(|chunk| chunk.frames.as_slice()).collect();
        assert_eq!(frames, [&[0, 1][..], &[2], &[3], &[4], &[0, 1]]);
        let back: Vec<Piece> = chunks.into_iter().flat_map(|chunk| chunk.pieces).collect();
        assert_eq!(back, pieces);
    }
}
