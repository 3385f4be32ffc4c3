//! Which bytes of which packs to ask for: pure.
//!
//! Gaps of up to 1 MiB between wanted frames are read rather than skipped, since a request costs more than they do; a
//! pack of which half is needed is read whole. Long ranges are split, so that several travel at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::Manifest;

/// Gaps up to this are read, in bytes.
const GAP: u64 = 1 << 20;
/// A range is closed once it has so many bytes.
const SPLIT: u64 = 8 << 20;
/// What is unpacked at a time has at least so many bytes, where there are as many.
const PIECE: u64 = 256 << 10;

/// Neighbouring frames of one pack, fetched by one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRange {
    /// The pack, as the manifest numbers it.
    pub pack: u32,
    /// First byte.
    pub start: u64,
    /// Byte behind the last.
    pub end: u64,
    /// The wanted frames in it, as the manifest numbers them, by offset.
    pub frames: Vec<u32>,
}

/// The requests that bring these frames.
pub fn ranges(manifest: &Manifest, wanted: &BTreeSet<u32>) -> Vec<FrameRange> {
    let mut by_pack: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for &frame in wanted {
        by_pack.entry(manifest.frames[frame as usize].pack).or_default().push(frame);
    }
    let mut ranges = Vec::new();
    for (pack, mut frames) in by_pack {
        frames.sort_by_key(|&frame| manifest.frames[frame as usize].offset);
        let needed: u64 = frames.iter().map(|&frame| u64::from(manifest.frames[frame as usize].length)).sum();
        let gap = if 2 * needed >= manifest.packs[pack as usize].size { u64::MAX } else { GAP };
        let mut open: Option<FrameRange> = None;
        for number in frames {
            let frame = manifest.frames[number as usize];
            let end = frame.offset + u64::from(frame.length);
            match &mut open {
                Some(range) if frame.offset.saturating_sub(range.end) <= gap && frame.offset - range.start < SPLIT => {
                    range.end = range.end.max(end);
                    range.frames.push(number);
                }
                _ => {
                    let next = FrameRange { pack, start: frame.offset, end, frames: vec![number] };
                    ranges.extend(open.replace(next));
                }
            }
        }
        ranges.extend(open);
    }
    ranges
}

impl FrameRange {
    /// The pieces in which it is unpacked while the rest is still on its way: end to end, they are the range.
    pub fn pieces(&self, manifest: &Manifest) -> Vec<Self> {
        let mut pieces: Vec<Self> = Vec::new();
        for &number in &self.frames {
            let frame = manifest.frames[number as usize];
            let end = frame.offset + u64::from(frame.length);
            match pieces.last_mut() {
                Some(piece) if frame.offset < piece.end || piece.end - piece.start < PIECE => {
                    piece.end = piece.end.max(end);
                    piece.frames.push(number);
                }
                last => {
                    let start = last.map_or(self.start, |piece| piece.end);
                    pieces.push(Self { pack: self.pack, start, end, frames: vec![number] });
                }
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{Frame, Header, PackInfo};

    /// One pack with frames at the given offsets (MiB) of the given lengths (KiB).
    fn manifest(size: u64, frames: &[(u64, u32)]) -> Manifest {
        Manifest {
            header: Header::bare(&[]),
            packs: vec![PackInfo { id: ulid::Ulid::from_parts(1, 1), size: size << 20 }],
            frames: frames
                .iter()
                .map(|&(offset, length)| Frame { pack: 0, offset: offset << 20, length: length << 10, raw: 1 })
                .collect(),
            entries: vec![],
        }
    }

    fn bounds(manifest: &Manifest, wanted: &[u32]) -> Vec<(u64, u64)> {
        ranges(manifest, &wanted.iter().copied().collect())
            .iter()
            .map(|range| (range.start >> 10, range.end >> 10))
            .collect()
    }

    #[test]
    fn small_gaps_are_read_and_large_ones_skipped() {
        let manifest = manifest(100, &[(0, 512), (1, 512), (5, 512)]);
        assert_eq!(bounds(&manifest, &[0, 1, 2]), [(0, 1_536), (5_120, 5_632)]);
        assert_eq!(bounds(&manifest, &[2]), [(5_120, 5_632)]);
        assert!(bounds(&manifest, &[]).is_empty());
    }

    #[test]
    fn a_pack_is_read_whole_when_half_is_needed_in_ranges_that_travel_together() {
        let manifest = manifest(16, &[(0, 4_096), (7, 1_024), (12, 4_096)]);
        assert_eq!(bounds(&manifest, &[0, 1, 2]), [(0, 8_192), (12_288, 16_384)]);
    }

    #[test]
    fn pieces_of_a_range_lie_end_to_end() {
        let manifest = manifest(100, &[(0, 128), (1, 128), (2, 4_096), (6, 1), (7, 300)]);
        let [range] = ranges(&manifest, &(0..5).collect()).try_into().unwrap();
        let bounds: Vec<_> = range
            .pieces(&manifest)
            .into_iter()
            .map(|piece| (piece.start >> 10, piece.end >> 10, piece.frames))
            .collect();
        assert_eq!(bounds, [(0, 1_152, vec![0, 1]), (1_152, 6_144, vec![2]), (6_144, 7_468, vec![3, 4])]);
    }
}
