//! Building an archive: contents in the order of [`pieces`] go in, bytes come out as frames fill up.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use ulid::Ulid;

use super::Trailer;
use crate::format::manifest::{Frame, Manifest, PackInfo};
use crate::format::pack::{FRAME_TARGET, MAX_FRAME, PackError, compress};
use crate::format::{Content, Entry, FormatError, Hash, Kind, Part, tar_header};

/// A content of at least this gets a frame of its own, as in packs.
const OWN_FRAME: usize = 1 << 20;

/// A content, or a part of one that is cut, that an archive has to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The file's position among the entries.
    pub entry: usize,
    /// Which of its parts, from 0.
    pub number: usize,
    /// Where the version's packs have it.
    pub part: Part,
    /// Its digest.
    pub hash: Hash,
}

/// All contents of a version, in the order of its archive.
///
/// Files follow each other as they lie in packs, so that each frame is read once and neighbours compress as well as there;
/// then the cut ones by path, each part after part. What a manifest says decides alone, so a version has one order.
pub fn pieces(manifest: &Manifest) -> Vec<Piece> {
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    for (at, entry) in manifest.entries.iter().enumerate() {
        let list =
            if matches!(&entry.kind, Kind::File { content: Content::Cut(_), .. }) { &mut cut } else { &mut whole };
        let parts = Manifest::parts(entry).into_iter().enumerate();
        list.extend(parts.map(|(number, (part, hash))| Piece { entry: at, number, part, hash }));
    }
    // By path where two files are one content.
    whole.sort_by_key(|piece| {
        let frame = manifest.frames[piece.part.frame as usize];
        (frame.pack, frame.offset, piece.part.offset, piece.entry)
    });
    whole.extend(cut);
    whole
}

/// An archive in the making.
#[derive(Debug)]
pub struct ArchiveBuilder {
    /// The version; the contents of its files are replaced by where the archive has them.
    manifest: Manifest,
    id: Ulid,
    /// Time of links and folders, which have none of their own.
    created: i64,
    frames: Vec<Frame>,
    /// The frame that is being filled.
    raw: Vec<u8>,
    /// Whether it holds a content, and so is one that the manifest has to know.
    counts: bool,
    /// The digest of the cut file under way.
    hasher: blake3::Hasher,
    ready: BytesMut,
    length: u64,
    /// Entries whose last piece was added.
    done: HashSet<usize>,
}

/// Why an archive can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A frame can't be made.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The manifest can't be put at its end.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The parts of a cut file are not the file.
    #[error("the parts of `{path}` do not add up to its digest")]
    Parts {
        /// The file.
        path: String,
    },
    /// Contents came in another order, or not all of them: the caller is at fault.
    #[error("the contents of an archive did not come in its order")]
    Order,
}

/// What is left to be sent when everything was added, and what the whole came to.
#[derive(Debug)]
pub struct Finished {
    /// The last bytes.
    pub bytes: Bytes,
    /// Bytes of the whole archive.
    pub size: u64,
}

impl ArchiveBuilder {
    /// Begins with everything that has no content: empty files, links, empty folders.
    pub fn new(manifest: &Manifest, id: Ulid) -> Result<Self, BuildError> {
        let mut builder = Self {
            manifest: manifest.clone(),
            id,
            created: manifest.header.created.as_second(),
            frames: Vec::new(),
            raw: Vec::new(),
            counts: false,
            hasher: blake3::Hasher::new(),
            ready: BytesMut::new(),
            length: 0,
            done: HashSet::new(),
        };
        for (at, entry) in manifest.entries.iter().enumerate() {
            if Manifest::parts(entry).is_empty() {
                builder.room(tar_header::MOST)?;
                header(&mut builder.raw, entry, builder.created);
                builder.done.insert(at);
            }
        }
        Ok(builder)
    }

    /// Adds the next of [`pieces`]. Its content was checked against its digest.
    pub fn add(&mut self, piece: &Piece, content: &[u8]) -> Result<(), BuildError> {
        let entry = self.manifest.entries.get(piece.entry).ok_or(BuildError::Order)?;
        let Kind::File { size, hash, content: place, .. } = &entry.kind else { return Err(BuildError::Order) };
        let (size, hash, cut) = (*size, *hash, matches!(place, Content::Cut(_)));
        if content.len() != piece.part.length as usize || self.done.contains(&piece.entry) {
            return Err(BuildError::Order);
        }
        if content.len() >= OWN_FRAME {
            self.flush()?;
        }
        self.room(tar_header::MOST + content.len())?;
        if piece.number == 0 {
            header(&mut self.raw, &self.manifest.entries[piece.entry], self.created);
            self.hasher.reset();
        }
        // A frame that is nearly full of one content has no room for a header beside it.
        self.room(content.len())?;
        let offset = u32::try_from(self.raw.len()).map_err(|_| PackError::FrameTooLarge)?;
        self.raw.extend_from_slice(content);
        self.counts = true;
        let frame = u32::try_from(self.frames.len()).map_err(|_| PackError::FrameTooLarge)?;
        let last = self.place(piece, Part { frame, offset, length: piece.part.length })?;
        if cut {
            self.hasher.update(content);
            if last && Hash::from(self.hasher.finalize()) != hash {
                return Err(BuildError::Parts { path: self.manifest.entries[piece.entry].path.to_string() });
            }
        }
        if last {
            self.done.insert(piece.entry);
            self.room(tar_header::BLOCK)?;
            tar_header::pad(&mut self.raw, size);
        }
        if self.raw.len() as u64 >= FRAME_TARGET {
            self.flush()?;
        }
        Ok(())
    }

    /// The bytes that are ready to be sent.
    pub fn take(&mut self) -> Bytes {
        self.ready.split().freeze()
    }

    /// Ends the tar, and puts the manifest behind it.
    pub fn finish(mut self) -> Result<Finished, BuildError> {
        if self.done.len() != self.manifest.entries.len() {
            return Err(BuildError::Order);
        }
        self.flush()?;
        self.raw.resize(2 * tar_header::BLOCK, 0);
        self.flush()?;
        let data = self.length;
        self.manifest.frames = std::mem::take(&mut self.frames);
        self.manifest.packs =
            if self.manifest.frames.is_empty() { Vec::new() } else { vec![PackInfo { id: self.id, size: data }] };
        self.manifest.header.base = None;
        let end = Trailer::write(data, &self.manifest)?;
        let size = data + end.len() as u64;
        self.ready.extend_from_slice(&end);
        Ok(Finished { bytes: self.ready.freeze(), size })
    }

    /// Notes where a piece went. True when it was the last of its file.
    fn place(&mut self, piece: &Piece, part: Part) -> Result<bool, BuildError> {
        let entry = self.manifest.entries.get_mut(piece.entry).ok_or(BuildError::Order)?;
        let Kind::File { content, .. } = &mut entry.kind else { return Err(BuildError::Order) };
        match content {
            Content::Whole(place) if piece.number == 0 => {
                *place = part;
                Ok(true)
            }
            Content::Cut(parts) => {
                let last = piece.number + 1 == parts.len();
                parts.get_mut(piece.number).ok_or(BuildError::Order)?.part = part;
                Ok(last)
            }
            _ => Err(BuildError::Order),
        }
    }

    /// Makes sure that so many bytes fit into the frame.
    fn room(&mut self, bytes: usize) -> Result<(), BuildError> {
        if self.raw.len() + bytes > MAX_FRAME as usize { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), BuildError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let too_large = |_| PackError::FrameTooLarge;
        let bytes = compress(&self.raw)?;
        if std::mem::take(&mut self.counts) {
            self.frames.push(Frame {
                pack: 0,
                offset: self.length,
                length: u32::try_from(bytes.len()).map_err(too_large)?,
                raw: u32::try_from(self.raw.len()).map_err(too_large)?,
            });
        }
        self.length += bytes.len() as u64;
        self.ready.extend_from_slice(&bytes);
        self.raw.clear();
        Ok(())
    }
}

fn header(out: &mut Vec<u8>, entry: &Entry, created: i64) {
    let path = entry.path.as_str();
    match &entry.kind {
        Kind::File { executable, size, mtime, .. } => tar_header::file(out, path, *executable, *mtime, *size),
        Kind::Link { target } => tar_header::link(out, path, target, created),
        Kind::Directory => tar_header::folder(out, path, created),
    }
}
