//! Contents without a target: one file in order, or several small ones at once. What is handed over was verified before.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::ranges::{FrameRange, ranges};
use super::{CheckoutError, Fetcher};
use crate::budget::Taken;
use crate::format::{Content, Entry, Hash, Keys, Kind, Manifest, Part, pack};

/// Requests of one file that are under way at once; they are handed over in order.
const AHEAD: usize = 4;
/// Requests for small files at once.
const REQUESTS: usize = 16;
/// Neighbouring frames of a file are asked for together up to this, in decompressed bytes.
const TOGETHER: u64 = 8 << 20;
/// How often a range whose content is wrong is fetched: the network may have been at fault.
const READS: u32 = 2;

/// Frames that lie side by side, and the parts of a file that are in them, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    range: FrameRange,
    parts: Vec<(Part, Hash)>,
}

/// Decompressed frames, by number.
type Frames = HashMap<u32, Bytes>;

/// The requests that bring a file, in the order of its bytes.
fn pieces(manifest: &Manifest, entry: &Entry) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut raw = 0;
    for (part, hash) in Manifest::parts(entry) {
        let frame = manifest.frames[part.frame as usize];
        let end = frame.offset + u64::from(frame.length);
        if let Some(Piece { range, parts }) = pieces.last_mut() {
            if range.frames.last() == Some(&part.frame) {
                parts.push((part, hash));
                continue;
            }
            let follows = range.pack == frame.pack && range.end == frame.offset;
            if follows && raw + u64::from(frame.raw) <= TOGETHER {
                raw += u64::from(frame.raw);
                range.end = end;
                range.frames.push(part.frame);
                parts.push((part, hash));
                continue;
            }
        }
        raw = u64::from(frame.raw);
        let range = FrameRange { pack: frame.pack, start: frame.offset, end, frames: vec![part.frame] };
        pieces.push(Piece { range, parts: vec![(part, hash)] });
    }
    pieces
}

/// A range in ranges whose frames are together small enough to be decompressed at once.
fn apart(manifest: &Manifest, range: FrameRange) -> Vec<FrameRange> {
    let mut ranges: Vec<FrameRange> = Vec::new();
    let mut raw = 0;
    for number in range.frames {
        let frame = manifest.frames[number as usize];
        let end = frame.offset + u64::from(frame.length);
        match ranges.last_mut() {
            Some(open) if raw + u64::from(frame.raw) <= TOGETHER => {
                raw += u64::from(frame.raw);
                open.end = open.end.max(end);
                open.frames.push(number);
            }
            _ => {
                raw = u64::from(frame.raw);
                ranges.push(FrameRange { pack: range.pack, start: frame.offset, end, frames: vec![number] });
            }
        }
    }
    ranges
}

/// A part of a decompressed frame, if it is what it should be.
fn cut(frames: &Frames, part: Part, hash: Hash) -> Result<Bytes, String> {
    let (start, end) = (part.offset as usize, part.offset as usize + part.length as usize);
    let frame = frames.get(&part.frame).filter(|frame| end <= frame.len()).ok_or("a frame is too short")?;
    let content = frame.slice(start..end);
    if Hash::of(&content) == hash { Ok(content) } else { Err("a content has another digest".to_owned()) }
}

impl Fetcher<'_> {
    /// Hands over the content of a file in order. Each part is verified before it is handed over, and only the ranges that
    /// hold them are fetched.
    pub async fn content(
        &self,
        keys: &Keys,
        manifest: &Manifest,
        entry: &Entry,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), CheckoutError> {
        let Kind::File { hash, content, .. } = &entry.kind else { return Ok(()) };
        let path = entry.path.as_str();
        let fetches = pieces(manifest, entry).into_iter().map(|Piece { range, parts }| async move {
            let wanted = |frames: &Frames| {
                parts.iter().map(|(part, hash)| cut(frames, *part, *hash)).collect::<Result<Vec<_>, _>>()
            };
            self.frames(keys, manifest, &range, path, wanted).await
        });
        let mut fetched = stream::iter(fetches).buffered(AHEAD);
        let mut whole = blake3::Hasher::new();
        while let Some((parts, _held)) = fetched.try_next().await? {
            for part in parts {
                whole.update(&part);
                take(&part);
            }
        }
        // Several parts may each be right and not make up the file: only all of them tell.
        if matches!(content, Content::Cut(_)) && Hash::from(whole.finalize()) != *hash {
            let reason = "its parts do not add up to its digest".to_owned();
            return Err(CheckoutError::Parts { path: path.to_owned(), reason });
        }
        Ok(())
    }

    /// The contents of files that are not cut, by digest. The caller sees to it that they fit into memory together.
    pub async fn contents(
        &self,
        keys: &Keys,
        manifest: &Manifest,
        wanted: &[&Entry],
    ) -> Result<HashMap<Hash, Bytes>, CheckoutError> {
        let mut found: HashMap<Hash, Bytes> = HashMap::new();
        let mut known: HashSet<Hash> = HashSet::new();
        let mut places: HashMap<u32, Vec<(Part, Hash, &str)>> = HashMap::new();
        for entry in wanted {
            match &entry.kind {
                Kind::File { content: Content::Whole(part), hash, .. } if known.insert(*hash) => {
                    places.entry(part.frame).or_default().push((*part, *hash, entry.path.as_str()));
                }
                Kind::File { content: Content::Empty, hash, .. } => {
                    found.insert(*hash, Bytes::new());
                }
                _ => {}
            }
        }
        let places = &places;
        let fetches = ranges(manifest, &places.keys().copied().collect()).into_iter().map(|range| async move {
            let wanted: Vec<(Part, Hash, &str)> =
                range.frames.iter().filter_map(|frame| places.get(frame)).flatten().copied().collect();
            let path = wanted.first().map_or("", |(_, _, path)| path);
            // Copied: what is kept must not keep its whole frame.
            let copied = |frames: &Frames| {
                let here = wanted.iter().filter(|(part, ..)| frames.contains_key(&part.frame));
                let one = |(part, hash, _): &(Part, Hash, &str)| {
                    cut(frames, *part, *hash).map(|content| (*hash, Bytes::copy_from_slice(&content)))
                };
                here.map(one).collect::<Result<Vec<_>, _>>()
            };
            let mut found = Vec::with_capacity(wanted.len());
            // Each frame may be large although its pack is small: never all of a range at once.
            for range in apart(manifest, range) {
                let (contents, _held) = self.frames(keys, manifest, &range, path, copied).await?;
                found.extend(contents);
            }
            Ok::<_, CheckoutError>(found)
        });
        let mut fetched = stream::iter(fetches).buffer_unordered(REQUESTS);
        while let Some(contents) = fetched.try_next().await? {
            found.extend(contents);
        }
        Ok(found)
    }

    /// Fetches frames that lie in one range, and what `take` finds in them; once more where it isn't right. `path` is a file
    /// that is in them.
    async fn frames<T>(
        &self,
        keys: &Keys,
        manifest: &Manifest,
        range: &FrameRange,
        path: &str,
        take: impl Fn(&Frames) -> Result<T, String>,
    ) -> Result<(T, Taken), CheckoutError> {
        let frames: Vec<_> = range.frames.iter().map(|&number| (number, manifest.frames[number as usize])).collect();
        let raw: u64 = frames.iter().map(|(_, frame)| u64::from(frame.raw)).sum();
        let held = self.budget.take(range.end - range.start + raw).await;
        let key = keys.pack(manifest.packs[range.pack as usize].id);
        let mut left = READS;
        loop {
            left -= 1;
            let bytes = self.store.get_range(&key, range.start..range.end).await?;
            let (frames, start) = (frames.clone(), range.start);
            let decompress = move || -> Result<Frames, String> {
                let one = |(number, frame): (u32, crate::format::manifest::Frame)| {
                    // It lies inside the range by the range's making, and the range has at most some MiB.
                    let from = usize::try_from(frame.offset - start).unwrap_or(usize::MAX);
                    let compressed = bytes.get(from..from.saturating_add(frame.length as usize)).unwrap_or_default();
                    let raw = pack::decompress(compressed, frame.raw).map_err(|error| error.to_string())?;
                    Ok((number, Bytes::from(raw)))
                };
                frames.into_iter().map(one).collect()
            };
            let taken = spawn_blocking(decompress).await?.and_then(|frames| take(&frames));
            match taken {
                Ok(taken) => return Ok((taken, held)),
                Err(_) if left > 0 => {}
                Err(reason) => return Err(CheckoutError::Unreadable { key, reason, path: path.to_owned() }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{Frame, Header, PackInfo};
    use crate::format::tree::CutPart;

    #[test]
    fn neighbours_are_asked_for_together_and_in_order() {
        let frame = |pack, offset, raw: u32| Frame { pack, offset, length: 10, raw };
        let manifest = Manifest {
            header: Header::bare(&[]),
            packs: (0..2).map(|id| PackInfo { id: ulid::Ulid::from_parts(id, 0), size: 1 << 20 }).collect(),
            frames: vec![
                frame(0, 0, 1 << 20),
                frame(0, 10, 1 << 20),
                frame(0, 30, 1 << 20),
                frame(1, 40, 1 << 20),
                frame(1, 50, 8 << 20),
            ],
            entries: vec![],
        };
        let part = |frame, offset| CutPart { part: Part { frame, offset, length: 5 }, hash: Hash::of(b"") };
        let entry = Entry {
            path: "a".parse().unwrap(),
            kind: Kind::File {
                executable: false,
                size: 35,
                mtime: 0,
                hash: Hash::of(b""),
                content: Content::Cut(
                    [part(0, 0), part(1, 0), part(1, 5), part(2, 0), part(3, 0), part(4, 0), part(0, 0)].into(),
                ),
            },
        };
        let bounds: Vec<_> = pieces(&manifest, &entry)
            .into_iter()
            .map(|Piece { range, parts }| (range.pack, range.start, range.end, range.frames, parts.len()))
            .collect();
        assert_eq!(
            bounds,
            [
                (0, 0, 20, vec![0, 1], 3),
                (0, 30, 40, vec![2], 1),
                (1, 40, 50, vec![3], 1),
                // Together they would be over 8 MiB.
                (1, 50, 60, vec![4], 1),
                (0, 0, 10, vec![0], 1),
            ]
        );
    }

    #[test]
    fn a_part_is_taken_only_if_it_is_right() {
        let frames = Frames::from([(0, Bytes::from_static(b"good"))]);
        let part = |offset, length| Part { frame: 0, offset, length };
        assert_eq!(cut(&frames, part(1, 2), Hash::of(b"oo")).unwrap(), "oo");
        assert!(cut(&frames, part(0, 2), Hash::of(b"oo")).unwrap_err().contains("digest"));
        assert!(cut(&frames, part(3, 2), Hash::of(b"oo")).unwrap_err().contains("short"));
        assert!(cut(&Frames::new(), part(0, 0), Hash::of(b"")).is_err());
    }
}
