//! Manifests as bytes: writing them, and reading them from a stranger's hands.
//!
//! A reader trusts nothing: sizes, counts and depth are capped while the stream is read, every path, part and frame is
//! checked, and the whole must add up to the tree digest.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Deref;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use ulid::Ulid;

use super::{Frame, Header, Manifest, PackInfo};
use crate::format::chunking::{CUT_ABOVE, MAX as LARGEST_PART};
use crate::format::pack::MAX_FRAME;
use crate::format::tree::MAX_PATH;
use crate::format::{Content, CutPart, Entry, FORMAT, FormatError, Hash, Kind, Part, TreePath};

/// How much of an object [`read_header`] wants: its first 16 KiB.
pub const HEADER_RANGE: std::ops::Range<u64> = 0..16 << 10;

/// Most entries, packs or frames. Tests have fewer, to go beyond.
pub const MAX_COUNT: usize = if cfg!(test) { 20_000 } else { 4_000_000 };
/// Largest manifest that is read, in bytes: some four million entries.
pub const MAX_OBJECT: u64 = 256 << 20;
/// Most bytes once decompressed: what [`MAX_COUNT`] ordinary entries need.
const MAX_RAW: u64 = 1 << 30;
/// The largest window that is decompressed with, as a power of two: writers use 2 MiB, zstd by itself would take 128 MiB.
const MAX_WINDOW: u32 = 23;
/// Largest pack, in bytes: the largest object that S3 has had (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
/// Archives are packs, too.
const MAX_PACK: u64 = 5 << 40;
/// Longest line: a cut file of 16 TiB would not fit, one of 100 GiB does.
const MAX_LINE: u64 = 16 << 20;
/// What any entry's line takes beside its path: `{"dir":""}` and its end.
const LEAST_ENTRY: u64 = 11;
/// What a part of a cut file takes in its line: `[0,0,1,"…"],` around the digest's 64 digits.
const LEAST_PART: u64 = 74;
const LEVEL: i32 = 3;

#[derive(Default, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pack: Option<Ulid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frame: Option<(u32, u64, u32, u32)>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    dir: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    link: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    to: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    file: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    x: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<(u32, u32, u32, Hash)>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    gone: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<(usize, usize, usize, usize)>,
}

/// A text that is borrowed where nothing in it is escaped: `serde` borrows no `Cow` inside of an `Option`.
#[derive(Serialize)]
#[serde(transparent)]
struct Text<'a>(Cow<'a, str>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Text<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Either)
    }
}

/// The object of a whole manifest.
pub fn encode(manifest: &Manifest) -> Vec<u8> {
    debug_assert!(manifest.header.base.is_none());
    write(&manifest.header, &manifest.packs, &manifest.frames, manifest.entries.iter(), &[])
}

/// The object of a delta: what `new` has beyond `base`, whose packs and frames it must begin with.
pub fn encode_delta(base_id: Ulid, base: &Manifest, new: &Manifest) -> Vec<u8> {
    debug_assert!(new.packs.starts_with(&base.packs) && new.frames.starts_with(&base.frames));
    // Both are in the order of their paths.
    let (mut old, mut changed, mut gone) = (base.entries.iter().peekable(), Vec::new(), Vec::new());
    for entry in &new.entries {
        while let Some(before) = old.next_if(|old| old.path < entry.path) {
            gone.push(&before.path);
        }
        if old.next_if(|old| old.path == entry.path) != Some(entry) {
            changed.push(entry);
        }
    }
    gone.extend(old.map(|entry| &entry.path));
    let header = Header { base: Some(base_id), ..new.header.clone() };
    write(&header, &new.packs[base.packs.len()..], &new.frames[base.frames.len()..], changed.into_iter(), &gone)
}

fn write<'a>(
    header: &Header,
    packs: &[PackInfo],
    frames: &[Frame],
    entries: impl Iterator<Item = &'a Entry>,
    gone: &[&TreePath],
) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, |out| line(out, header));
    frame(&mut out, |out| {
        for pack in packs {
            line(out, &Line { pack: Some(pack.id), size: Some(pack.size), ..Line::default() });
        }
        for frame in frames {
            let frame = Some((frame.pack, frame.offset, frame.length, frame.raw));
            line(out, &Line { frame, ..Line::default() });
        }
        let mut count = 0;
        for entry in entries {
            count += 1;
            line(out, &line_of(entry));
        }
        for path in gone {
            line(out, &Line { gone: Some(path.as_str().into()), ..Line::default() });
        }
        line(out, &Line { end: Some((packs.len(), frames.len(), count, gone.len())), ..Line::default() });
    });
    out
}

fn line_of(entry: &Entry) -> Line<'_> {
    let path = Some(entry.path.as_str().into());
    match &entry.kind {
        Kind::Directory => Line { dir: path, ..Line::default() },
        Kind::Link { target } => Line { link: path, to: Some((&**target).into()), ..Line::default() },
        Kind::File { executable, size, mtime, hash, content } => {
            let (at, parts) = match content {
                Content::Empty => (None, None),
                Content::Whole(part) => (Some((part.frame, part.offset)), None),
                Content::Cut(parts) => {
                    let row = |cut: &CutPart| (cut.part.frame, cut.part.offset, cut.part.length, cut.hash);
                    (None, Some(parts.iter().map(row).collect()))
                }
            };
            Line {
                file: path,
                x: *executable,
                size: Some(*size),
                mtime: Some(*mtime),
                hash: Some(*hash),
                at,
                parts,
                ..Line::default()
            }
        }
    }
}

/// One zstd frame. Writing to memory can't fail; an encoder that can't be made would be out of memory.
fn frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut dyn Write)) {
    let Ok(mut encoder) = zstd::stream::Encoder::new(out, LEVEL) else { return };
    let _ = encoder.include_checksum(true);
    fill(&mut encoder);
    let _ = encoder.finish();
}

fn line(out: &mut dyn Write, value: &impl Serialize) {
    if let Ok(mut text) = serde_json::to_vec(value) {
        text.push(b'\n');
        let _ = out.write_all(&text);
    }
}

/// Refuses what no manifest holds, by its paths and sizes alone: asked before anything is sent. What passes may still turn out
/// too large.
pub fn may_fit<'a>(entries: impl ExactSizeIterator<Item = (&'a str, u64)>) -> Result<(), FormatError> {
    if entries.len() > MAX_COUNT {
        return Err(FormatError::OverLimit { what: "the number of entries", limit: MAX_COUNT as u64 });
    }
    let least = |(path, size): (&str, u64)| {
        let parts = if size > CUT_ABOVE { size.div_ceil(LARGEST_PART as u64) * LEAST_PART } else { 0 };
        path.len() as u64 + LEAST_ENTRY + parts
    };
    match entries.map(least).sum::<u64>() {
        0..=MAX_RAW => Ok(()),
        _ => Err(FormatError::OverLimit { what: "the manifest", limit: MAX_RAW }),
    }
}

/// Whether an object reads as the whole manifest that it was made of. Asked before it is sent: what no reader would take, for
/// it is over a limit, is an error.
pub fn holds(bytes: &[u8], manifest: &Manifest) -> Result<bool, FormatError> {
    if bytes.len() as u64 > MAX_OBJECT {
        return Err(FormatError::OverLimit { what: "the manifest", limit: MAX_OBJECT });
    }
    Ok(readable(decode(bytes))?.is_some_and(|decoded| {
        same_header(&decoded.header, &manifest.header)
            && (&decoded.packs, &decoded.frames, &decoded.entries)
                == (&manifest.packs, &manifest.frames, &manifest.entries)
    }))
}

/// Whether an object reads as a delta that makes `new` of `base`, with the same error. A large base is neither copied nor hashed
/// for that.
pub fn delta_holds(bytes: &[u8], base_id: Ulid, base: &Manifest, new: &Manifest) -> Result<bool, FormatError> {
    if new.entries.len().max(new.frames.len()) > MAX_COUNT {
        return Err(FormatError::OverLimit { what: "the number of entries", limit: MAX_COUNT as u64 });
    }
    Ok(readable(decode_changes(bytes, base_id, base))?.is_some_and(|(changes, gone)| {
        same_header(&changes.header, &new.header)
            && (&changes.packs, &changes.frames) == (&new.packs, &new.frames)
            && adds_up(&base.entries, &changes.entries, &gone, &new.entries)
    }))
}

/// What was read; nothing where it is damaged.
fn readable<T>(read: Result<T, FormatError>) -> Result<Option<T>, FormatError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error @ FormatError::OverLimit { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

/// By what is written of it.
fn same_header(one: &Header, other: &Header) -> bool {
    matches!((serde_json::to_vec(one), serde_json::to_vec(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether these changes to `base` make `new`.
fn adds_up(base: &[Entry], changed: &[Entry], gone: &[TreePath], new: &[Entry]) -> bool {
    let (mut base, mut changed, mut gone) = (base.iter().peekable(), changed.iter().peekable(), gone.iter());
    for entry in new {
        while let Some(old) = base.next_if(|old| old.path < entry.path) {
            if gone.next() != Some(&old.path) {
                return false;
            }
        }
        let old = base.next_if(|old| old.path == entry.path);
        let now = changed.next_if(|now| now.path == entry.path).or(old);
        if now != Some(entry) {
            return false;
        }
    }
    base.all(|old| gone.next() == Some(&old.path)) && changed.next().is_none() && gone.next().is_none()
}

/// Reads the first line from the first bytes of the object.
pub fn read_header(bytes: &[u8]) -> Result<Header, FormatError> {
    let mut lines = Lines::new(bytes)?;
    lines.header()
}

/// Reads a whole manifest.
pub fn decode(bytes: &[u8]) -> Result<Manifest, FormatError> {
    let mut lines = Lines::new(bytes)?;
    let header = lines.header()?;
    if header.base.is_some() {
        return Err(FormatError::damaged("it is a delta where a whole manifest belongs"));
    }
    let body = Body::read(&mut lines, Vec::new(), Vec::new(), false)?;
    finish(header, body.packs, body.frames, body.entries)
}

/// Reads a delta against `base`, whose id must be the one that the delta names.
pub fn decode_delta(bytes: &[u8], base_id: Ulid, base: &Manifest) -> Result<Manifest, FormatError> {
    let (Manifest { header, packs, frames, entries: changed }, gone) = decode_changes(bytes, base_id, base)?;
    let mut gone = gone.iter().peekable();
    let mut changed = changed.into_iter().peekable();
    let mut entries = Vec::with_capacity(base.entries.len());
    for old in &base.entries {
        while let Some(new) = changed.next_if(|new| new.path < old.path) {
            entries.push(new);
        }
        if let Some(new) = changed.next_if(|new| new.path == old.path) {
            entries.push(new);
        } else if gone.next_if(|path| **path == old.path).is_none() {
            entries.push(old.clone());
        }
    }
    entries.extend(changed);
    if gone.next().is_some() {
        return Err(FormatError::damaged("it removes what its base does not have"));
    }
    finish(header, packs, frames, entries)
}

/// Reads what a delta has beyond `base`: its own entries, and the paths that went. Not checked against the tree digest.
pub fn decode_changes(bytes: &[u8], base_id: Ulid, base: &Manifest) -> Result<(Manifest, Vec<TreePath>), FormatError> {
    let mut lines = Lines::new(bytes)?;
    let header = lines.header()?;
    if header.base != Some(base_id) {
        return Err(FormatError::damaged("it is not a delta against the manifest that its ref names"));
    }
    let body = Body::read(&mut lines, base.packs.clone(), base.frames.clone(), true)?;
    let header = Header { base: None, ..header };
    Ok((Manifest { header, packs: body.packs, frames: body.frames, entries: body.entries }, body.gone))
}

fn finish(
    header: Header,
    packs: Vec<PackInfo>,
    frames: Vec<Frame>,
    entries: Vec<Entry>,
) -> Result<Manifest, FormatError> {
    let manifest = Manifest { header, packs, frames, entries };
    no_file_is_a_parent(&manifest)?;
    manifest.verify_tree()?;
    let (files, bytes) = (manifest.entries.len() as u64, manifest.entries.iter().map(Entry::size).sum::<u64>());
    let header = &manifest.header;
    if (header.files, header.bytes) != (files, bytes) {
        return Err(FormatError::damaged(format!(
            "it has {files} files of {bytes} bytes, and says {} of {}",
            header.files, header.bytes
        )));
    }
    Ok(manifest)
}

fn no_file_is_a_parent(manifest: &Manifest) -> Result<(), FormatError> {
    let mut checked = "";
    for entry in &manifest.entries {
        let Some(parent) = entry.path.parent() else { continue };
        if parent == checked {
            continue;
        }
        let mut ancestor = Some(parent);
        while let Some(path) = ancestor {
            if manifest.entry(path).is_some_and(|entry| entry.kind != Kind::Directory) {
                return Err(FormatError::damaged(format!("`{}` is below something that is no folder", entry.path)));
            }
            ancestor = path.rsplit_once('/').map(|(up, _)| up);
        }
        checked = parent;
    }
    Ok(())
}

struct Lines<'a> {
    reader: BufReader<std::io::Take<zstd::stream::Decoder<'a, BufReader<&'a [u8]>>>>,
    text: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut decoder = zstd::stream::Decoder::new(bytes).map_err(|error| unreadable(&error))?;
        decoder.window_log_max(MAX_WINDOW).map_err(|error| unreadable(&error))?;
        Ok(Self { reader: BufReader::with_capacity(256 << 10, decoder.take(MAX_RAW)), text: Vec::new() })
    }

    /// The next line, without its end. A line without an end is a truncated one.
    fn next(&mut self) -> Result<&[u8], FormatError> {
        self.text.clear();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.text);
        read.map_err(|error| unreadable(&error))?;
        match self.text.split_last() {
            Some((b'\n', line)) => Ok(line),
            _ if self.text.len() as u64 == MAX_LINE => {
                Err(FormatError::OverLimit { what: "a line of the manifest", limit: MAX_LINE })
            }
            _ if self.reader.get_ref().limit() == 0 => {
                Err(FormatError::OverLimit { what: "the manifest", limit: MAX_RAW })
            }
            _ => Err(FormatError::damaged("it is truncated")),
        }
    }

    /// Reads to the very end, where zstd checks the last checksum.
    fn nothing_follows(&mut self) -> Result<(), FormatError> {
        let is_cut = self.reader.get_ref().limit() == 0;
        match self.reader.fill_buf() {
            Ok([]) if is_cut => Err(FormatError::OverLimit { what: "the manifest", limit: MAX_RAW }),
            Ok([]) => Ok(()),
            Ok(_) => Err(FormatError::damaged("something follows its last line")),
            Err(error) => Err(unreadable(&error)),
        }
    }

    fn header(&mut self) -> Result<Header, FormatError> {
        #[derive(Deserialize)]
        struct Probe {
            reader: u32,
        }
        let line = self.next()?;
        let damaged = |error: serde_json::Error| FormatError::damaged(format!("its first line is no header: {error}"));
        let probe: Probe = serde_json::from_slice(line).map_err(damaged)?;
        if probe.reader > FORMAT {
            return Err(FormatError::Newer { found: probe.reader });
        }
        serde_json::from_slice(line).map_err(damaged)
    }
}

fn unreadable(error: &std::io::Error) -> FormatError {
    FormatError::damaged(format!("it does not decompress ({error})"))
}

struct Body {
    packs: Vec<PackInfo>,
    frames: Vec<Frame>,
    entries: Vec<Entry>,
    gone: Vec<TreePath>,
}

impl Body {
    fn read(lines: &mut Lines<'_>, packs: Vec<PackInfo>, frames: Vec<Frame>, delta: bool) -> Result<Self, FormatError> {
        let (old_packs, old_frames) = (packs.len(), frames.len());
        let mut body = Self { packs, frames, entries: Vec::new(), gone: Vec::new() };
        loop {
            let text = lines.next()?;
            let line: Line<'_> = serde_json::from_slice(text)
                .map_err(|error| FormatError::damaged(format!("it has a line that is no JSON: {error}")))?;
            if let Some(end) = line.end {
                let read =
                    (body.packs.len() - old_packs, body.frames.len() - old_frames, body.entries.len(), body.gone.len());
                if end != read {
                    return Err(FormatError::damaged(format!("it counts {end:?} and has {read:?}")));
                }
                lines.nothing_follows()?;
                return Ok(body);
            }
            body.take(&line, delta)?;
            let most = body.packs.len().max(body.frames.len()).max(body.entries.len()).max(body.gone.len());
            if most > MAX_COUNT {
                return Err(FormatError::OverLimit { what: "the number of entries", limit: MAX_COUNT as u64 });
            }
        }
    }

    fn take(&mut self, line: &Line<'_>, delta: bool) -> Result<(), FormatError> {
        if let (Some(id), Some(size)) = (line.pack, line.size) {
            if size > MAX_PACK {
                return Err(FormatError::OverLimit { what: "a pack", limit: MAX_PACK });
            }
            self.packs.push(PackInfo { id, size });
        } else if let Some((pack, offset, length, raw)) = line.frame {
            let info = self.packs.get(pack as usize).ok_or_else(|| FormatError::damaged("a frame has no pack"))?;
            let inside = offset.checked_add(length.into()).is_some_and(|end| end <= info.size);
            // What does not compress grows by less than a hundredth.
            let bounded = raw <= MAX_FRAME && length <= MAX_FRAME + MAX_FRAME / 64;
            if !inside || !bounded || length == 0 {
                return Err(FormatError::damaged("a frame does not lie inside its pack"));
            }
            self.frames.push(Frame { pack, offset, length, raw });
        } else if let Some(path) = line.gone.as_deref().filter(|_| delta) {
            let path = tree_path(path)?;
            if self.gone.last().is_some_and(|last| *last >= path) {
                return Err(FormatError::damaged(format!("`{path}` is out of order")));
            }
            self.gone.push(path);
        } else {
            let entry = self.entry(line)?;
            if self.entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(FormatError::damaged(format!("`{}` is out of order or there twice", entry.path)));
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn entry(&self, line: &Line<'_>) -> Result<Entry, FormatError> {
        if let Some(path) = &line.dir {
            return Ok(Entry { path: tree_path(path)?, kind: Kind::Directory });
        }
        if let (Some(path), Some(target)) = (&line.link, &line.to) {
            if target.is_empty() || target.len() > MAX_PATH || target.contains('\0') {
                return Err(FormatError::damaged(format!("the link `{}` has no usable target", path.escape_debug())));
            }
            return Ok(Entry { path: tree_path(path)?, kind: Kind::Link { target: (&**target).into() } });
        }
        let (Some(path), Some(size), Some(mtime), Some(hash)) = (&line.file, line.size, line.mtime, line.hash) else {
            return Err(FormatError::damaged("it has a line of unknown kind"));
        };
        let path = tree_path(path)?;
        let no_size = || FormatError::damaged(format!("the parts of `{path}` do not add up to its size"));
        let content = match (line.at, &line.parts) {
            (None, None) if size == 0 => Content::Empty,
            (Some((frame, offset)), None) => {
                Content::Whole(self.part(&path, frame, offset, u32::try_from(size).map_err(|_| no_size())?)?)
            }
            (None, Some(parts)) => {
                let mut sum = 0_u64;
                let mut read = Vec::with_capacity(parts.len());
                for &(frame, offset, length, hash) in parts {
                    sum += u64::from(length);
                    read.push(CutPart { part: self.part(&path, frame, offset, length)?, hash });
                }
                if sum != size {
                    return Err(no_size());
                }
                Content::Cut(read.into())
            }
            _ => return Err(no_size()),
        };
        Ok(Entry { path, kind: Kind::File { executable: line.x, size, mtime, hash, content } })
    }

    fn part(&self, path: &TreePath, frame: u32, offset: u32, length: u32) -> Result<Part, FormatError> {
        let fits = self
            .frames
            .get(frame as usize)
            .is_some_and(|info| offset.checked_add(length).is_some_and(|end| end <= info.raw));
        if fits && length > 0 {
            Ok(Part { frame, offset, length })
        } else {
            Err(FormatError::damaged(format!("the content of `{path}` does not lie inside a frame")))
        }
    }
}

fn tree_path(text: &str) -> Result<TreePath, FormatError> {
    text.parse::<TreePath>().map_err(|error| FormatError::damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
