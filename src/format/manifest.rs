//! The manifest: everything about one version but its name and number.
//!
//! zstd-compressed JSON lines. The first line ([`Header`]) is a zstd frame of its own, so that the application plan is
//! read with one small ranged GET. Then packs, frames and entries sorted by path; the last line counts them, so a
//! truncated object is noticed. A version is one base, or one base and one delta against that base: never a delta of a
//! delta.
//!
//! ```text
//! {"format":1,"reader":1,"created":…,"tree":…,"files":2,"bytes":33,"plan":{…}}
//! {"pack":"01J…","size":16777216}
//! {"frame":[0,0,2071,9728]}                                pack, offset, length, raw length
//! {"dir":"empty"}
//! {"link":"latest","to":"v2"}
//! {"file":"run.sh","x":true,"size":12,"mtime":1700000000,"hash":"…","at":[0,512]}      frame, offset
//! {"file":"video.mp4",…,"parts":[[7,512,1048576,"…"],…]}   frame, offset, length, hash
//! {"gone":"old.js"}                                        in a delta only
//! {"end":[1,1,4,0]}                                        packs, frames, entries, gone
//! ```

mod build;
mod codec;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::tree::digest;
use super::{Content, Entry, FormatError, Hash, Kind, Part};
use crate::application::Plan;

pub use build::{ContentIndex, Location, ManifestBuilder};
pub use codec::{
    HEADER_RANGE, MAX_COUNT, MAX_OBJECT, decode, decode_changes, decode_delta, delta_holds, encode, encode_delta,
    holds, may_fit, read_header,
};

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Format number of the writer.
    pub format: u32,
    /// The lowest format number that a reader must know.
    pub reader: u32,
    /// In a delta: the manifest it applies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Ulid>,
    /// When the version was published.
    pub created: Timestamp,
    /// Digest of the tree.
    pub tree: Hash,
    /// Files, links and empty folders.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Which release wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What the author said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The commit it was published from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch it was published from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The CI run that published it: an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How to run it, if it can be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// A pack that frames lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// Its id.
    pub id: Ulid,
    /// Its bytes.
    pub size: u64,
}

/// A frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Index into the manifest's packs.
    pub pack: u32,
    /// Where it begins in the pack.
    pub offset: u64,
    /// Its compressed bytes.
    pub length: u32,
    /// Its decompressed bytes.
    pub raw: u32,
}

/// One version, whole.
///
/// Entries are sorted by path without duplicates, no file or link is the parent of another entry, every part lies inside
/// its frame and every frame inside its pack.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The first line.
    pub header: Header,
    /// Packs, in the order that frames refer to.
    pub packs: Vec<PackInfo>,
    /// Frames, in the order that parts refer to.
    pub frames: Vec<Frame>,
    /// What the tree consists of.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// The entry at a path.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok().map(|at| &self.entries[at])
    }

    /// Whether the entries are those that the header's digest stands for.
    pub fn verify_tree(&self) -> Result<(), FormatError> {
        if digest(&self.entries) == self.header.tree {
            Ok(())
        } else {
            Err(FormatError::damaged("its entries do not add up to its tree digest"))
        }
    }

    /// The packs that an entry has content in. A delta names those of its base, too, whether or not they are still needed.
    pub fn packs_in_use(&self) -> impl Iterator<Item = &PackInfo> {
        let mut used = vec![false; self.packs.len()];
        for (part, _) in self.entries.iter().flat_map(Self::parts) {
            used[self.frames[part.frame as usize].pack as usize] = true;
        }
        self.packs.iter().zip(used).filter_map(|(pack, used)| used.then_some(pack))
    }

    /// The parts of a file with their digests, in order.
    pub fn parts(entry: &Entry) -> Vec<(Part, Hash)> {
        match &entry.kind {
            Kind::File { content: Content::Whole(part), hash, .. } => vec![(*part, *hash)],
            Kind::File { content: Content::Cut(parts), .. } => parts.iter().map(|cut| (cut.part, cut.hash)).collect(),
            _ => Vec::new(),
        }
    }
}

impl Header {
    /// Of a version that consists of these entries, and says nothing else.
    pub fn of(entries: &[Entry], created: Timestamp) -> Self {
        Self {
            format: super::FORMAT,
            reader: super::FORMAT,
            base: None,
            created,
            tree: digest(entries),
            files: entries.len() as u64,
            bytes: entries.iter().map(Entry::size).sum(),
            tool: None,
            message: None,
            author: None,
            commit: None,
            branch: None,
            run: None,
            plan: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn bare(entries: &[Entry]) -> Self {
        Self::of(entries, Timestamp::constant(1_700_000_000, 0))
    }
}
