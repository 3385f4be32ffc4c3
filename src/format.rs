//! What lies in a bucket: format 1.
//!
//! | key | what | changes |
//! |---|---|---|
//! | `bucket.json` | format, bucket id, result of the capability probe | rarely |
//! | `refs/<name>.json` | [`Reference`]: the whole truth of a workspace | by conditional PUT only |
//! | `data/<name>/<root>/versions/<ulid>.jsonl.zst` | [`Manifest`], or a delta of one | never |
//! | `data/<name>/<root>/packs/<ulid>.tar.zst` | [`pack`] | never |
//! | `data/<name>/<root>/archives/<row>.tar.zst` | [`archive`]: a whole version for stock tools | never |
//! | `data/<name>/<root>/gc/<ulid>.json` | list of a collection in progress | never |
//! | `data/<name>/<root>/releases/<row>.json` | [`lease`] and outcome of a release command | by its holder |
//! | `hosts/<engine id>.json` | [`host`]: what one host runs | by that host |
//!
//! `<root>` is a ULID made when the workspace is created. Keys that may be deleted are ULIDs: never content hashes, never
//! reused. Nothing relies on the order of a listing.
//!
//! Everything carries a format number; a reader refuses what is newer than it knows, before it changes anything. The
//! bytes of each format are held by golden tests: they may be read differently, never written differently under the
//! same number.
//!
//! All modules here are pure: no I/O, no clock, no environment.

pub mod archive;
pub mod chunking;
pub mod collection;
pub mod grant;
pub mod hash;
pub mod host;
pub mod keys;
pub mod lease;
pub mod lock;
pub mod manifest;
pub mod pack;
pub mod reference;
pub mod retention;
pub mod spelling;
mod tar_header;
pub mod tree;

pub use hash::Hash;
pub use keys::Keys;
pub use manifest::Manifest;
pub use reference::{Reference, Row};
pub use tree::{Content, CutPart, Entry, Kind, Part, PathError, TreePath};

/// The format number written, and the newest one read.
pub const FORMAT: u32 = 1;

/// An object that can't be read. Whoever holds its key adds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Written by a later release.
    #[error("it has format {found}, this release reads up to {FORMAT}")]
    Newer {
        /// The number found.
        found: u32,
    },
    /// Not what it should be: truncated, damaged or made by something else.
    #[error("{0}")]
    Damaged(String),
    /// Bigger than any honest one.
    #[error("{what} is over the limit of {limit}")]
    OverLimit {
        /// What is too big.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
}

impl FormatError {
    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }
}
