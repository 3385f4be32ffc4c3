//! Making a manifest from contents that lie in several older ones and in new packs.

use foldhash::HashMap;
use ulid::Ulid;

use super::{Frame, Header, Manifest, PackInfo};
use crate::format::pack::Pack;
use crate::format::{Content, CutPart, Entry, Hash, Kind, Part};

/// A content in a pack, independent of any manifest's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackInfo,
    /// Where its frame begins in the pack.
    pub frame_offset: u64,
    /// The frame's compressed bytes.
    pub frame_length: u32,
    /// The frame's decompressed bytes.
    pub frame_raw: u32,
    /// Where the content begins in the decompressed frame.
    pub offset: u32,
    /// The content's bytes.
    pub length: u32,
}

/// Where contents lie, by digest.
#[derive(Debug, Clone, Default)]
pub struct ContentIndex {
    contents: HashMap<Hash, Location>,
    /// The digests of the parts of cut files, by the digest of the file.
    cuts: HashMap<Hash, Vec<Hash>>,
}

impl ContentIndex {
    /// Adds all that `manifest` knows.
    pub fn add_manifest(&mut self, manifest: &Manifest) {
        self.add_entries(manifest, |_| true);
    }

    /// Adds what some of its entries consist of.
    pub fn add_entries(&mut self, manifest: &Manifest, mut wanted: impl FnMut(&Entry) -> bool) {
        // Versions have most of their contents in common.
        if self.contents.is_empty() {
            self.contents.reserve(manifest.entries.len());
        }
        for entry in manifest.entries.iter().filter(|entry| wanted(entry)) {
            if let Kind::File { hash, content: Content::Cut(parts), .. } = &entry.kind {
                self.cuts.entry(*hash).or_insert_with(|| parts.iter().map(|cut| cut.hash).collect());
            }
            for (part, hash) in Manifest::parts(entry) {
                self.contents.entry(hash).or_insert_with(|| {
                    let frame = manifest.frames[part.frame as usize];
                    Location {
                        pack: manifest.packs[frame.pack as usize],
                        frame_offset: frame.offset,
                        frame_length: frame.length,
                        frame_raw: frame.raw,
                        offset: part.offset,
                        length: part.length,
                    }
                });
            }
        }
    }

    /// Adds all that lies in a new pack.
    pub fn add_pack(&mut self, pack: &Pack) {
        let info = PackInfo { id: pack.id, size: pack.bytes.len() as u64 };
        for frame in &pack.frames {
            for stored in &frame.contents {
                self.contents.insert(
                    stored.hash,
                    Location {
                        pack: info,
                        frame_offset: frame.offset,
                        frame_length: frame.length,
                        frame_raw: frame.raw,
                        offset: stored.offset,
                        length: stored.length,
                    },
                );
            }
        }
    }

    /// Remembers how a file was cut.
    pub fn add_cut(&mut self, file: Hash, parts: Vec<Hash>) {
        self.cuts.insert(file, parts);
    }

    /// Where the content of a file lies, part by part, and whether it is cut; nothing when any of it is missing. Parts may
    /// lie in different ones of the indexes; earlier ones go first.
    pub fn find_file(indexes: &[&Self], file: &Hash) -> Option<(Vec<(Hash, Location)>, bool)> {
        let find = |hash: &Hash| indexes.iter().find_map(|index| index.find(hash)).copied();
        match indexes.iter().find_map(|index| index.cuts.get(file)) {
            Some(parts) => {
                let found: Option<Vec<_>> = parts.iter().map(|part| Some((*part, find(part)?))).collect();
                Some((found?, true))
            }
            None => Some((vec![(*file, find(file)?)], false)),
        }
    }

    /// Whether all of a file's content is there.
    pub fn has_file(&self, file: &Hash) -> bool {
        match self.cuts.get(file) {
            Some(parts) => parts.iter().all(|part| self.contents.contains_key(part)),
            None => self.contents.contains_key(file),
        }
    }

    /// Whether it knows a content, or how a file with it was cut.
    pub fn knows(&self, hash: &Hash) -> bool {
        self.contents.contains_key(hash) || self.cuts.contains_key(hash)
    }

    /// Where a content lies.
    pub fn find(&self, hash: &Hash) -> Option<&Location> {
        self.contents.get(hash)
    }

    /// Adds what another index knows and this one doesn't.
    pub fn absorb(&mut self, other: Self) {
        if self.contents.is_empty() && self.cuts.is_empty() {
            *self = other;
            return;
        }
        for (hash, location) in other.contents {
            self.contents.entry(hash).or_insert(location);
        }
        for (hash, parts) in other.cuts {
            self.cuts.entry(hash).or_insert(parts);
        }
    }

    /// Forgets all contents whose location does not please.
    pub fn retain(&mut self, mut keep: impl FnMut(&Hash, &Location) -> bool) {
        self.contents.retain(|hash, location| keep(hash, location));
    }

    /// All contents.
    pub fn iter(&self) -> impl Iterator<Item = (&Hash, &Location)> {
        self.contents.iter()
    }
}

/// Numbers packs and frames as contents are placed.
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    packs: Vec<PackInfo>,
    frames: Vec<Frame>,
    pack_numbers: HashMap<Ulid, u32>,
    frame_numbers: HashMap<(Ulid, u64), u32>,
    entries: Vec<Entry>,
    /// The frames that are numbered as in the base.
    numbered: usize,
}

impl ManifestBuilder {
    /// Numbers begin as in `base`, so that a delta against it can refer to them.
    pub fn on(base: Option<&Manifest>) -> Self {
        let mut builder = Self::default();
        if let Some(base) = base {
            for pack in &base.packs {
                builder.pack_number(*pack);
            }
            for frame in &base.frames {
                let pack = base.packs[frame.pack as usize];
                builder.frame_number(pack, frame.offset, frame.length, frame.raw);
            }
            if builder.frames == base.frames {
                builder.numbered = base.frames.len();
            }
        }
        builder
    }

    /// Whether a content of the base, or of a version on it, is in this manifest's numbers as it stands.
    pub fn numbers(&self, content: &Content) -> bool {
        let numbered = |part: &Part| (part.frame as usize) < self.numbered;
        match content {
            Content::Empty => true,
            Content::Whole(part) => numbered(part),
            Content::Cut(parts) => parts.iter().all(|cut| numbered(&cut.part)),
        }
    }

    fn pack_number(&mut self, pack: PackInfo) -> u32 {
        *self.pack_numbers.entry(pack.id).or_insert_with(|| {
            self.packs.push(pack);
            // Entries are capped far below u32, and each pack and frame has at least one.
            u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn frame_number(&mut self, pack: PackInfo, offset: u64, length: u32, raw: u32) -> u32 {
        let number = self.pack_number(pack);
        *self.frame_numbers.entry((pack.id, offset)).or_insert_with(|| {
            self.frames.push(Frame { pack: number, offset, length, raw });
            u32::try_from(self.frames.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// The part that a location is, in this manifest's numbers.
    pub fn place(&mut self, location: &Location) -> Part {
        let frame = self.frame_number(location.pack, location.frame_offset, location.frame_length, location.frame_raw);
        Part { frame, offset: location.offset, length: location.length }
    }

    /// The content of a file: one part, or several with their digests, or none.
    pub fn content(&mut self, parts: &[(Hash, Location)], cut: bool) -> Content {
        match parts {
            [] => Content::Empty,
            [(_, location)] if !cut => Content::Whole(self.place(location)),
            _ => Content::Cut(
                parts.iter().map(|(hash, location)| CutPart { part: self.place(location), hash: *hash }).collect(),
            ),
        }
    }

    /// Adds an entry. The order of calls does not matter.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// The manifest.
    pub fn finish(mut self, header: Header) -> Manifest {
        self.entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Manifest { header, packs: self.packs, frames: self.frames, entries: self.entries }
    }
}

impl Manifest {
    /// The same version with only the packs and frames it needs: what becomes a new base.
    #[must_use]
    pub fn compacted(&self) -> Self {
        let mut builder = ManifestBuilder::default();
        for entry in &self.entries {
            let mut entry = entry.clone();
            if let Kind::File { content, .. } = &mut entry.kind {
                let mut place = |part: &Part| {
                    let frame = self.frames[part.frame as usize];
                    builder.place(&Location {
                        pack: self.packs[frame.pack as usize],
                        frame_offset: frame.offset,
                        frame_length: frame.length,
                        frame_raw: frame.raw,
                        offset: part.offset,
                        length: part.length,
                    })
                };
                match content {
                    Content::Empty => {}
                    Content::Whole(part) => *part = place(part),
                    Content::Cut(parts) => parts.iter_mut().for_each(|cut| cut.part = place(&cut.part)),
                }
            }
            builder.push(entry);
        }
        builder.finish(self.header.clone())
    }
}
