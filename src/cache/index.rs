//! What is known of the files of one folder, so that what looks the same need not be read.

use serde::{Deserialize, Serialize};

use super::path_map::{self, PathMap};
use crate::format::Hash;
use crate::source::Stat;

/// As in git's index: a file that changed within this time before it was hashed may change again without its times
/// telling. Nanoseconds.
const AT_REST: i64 = 2_000_000_000;

/// Paths, and what is remembered of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Index(PathMap<Remembered>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Remembered {
    stat: Stat,
    /// When its hash began, nanoseconds since 1970.
    hashed: i64,
    hash: Hash,
}

impl Remembered {
    /// The digest, if the file looks as it did when it was hashed.
    fn hash(&self, stat: &Stat) -> Option<Hash> {
        let unchanged = Stat { executable: stat.executable, ..self.stat } == *stat
            && stat.mtime.max(stat.ctime) + AT_REST <= self.hashed;
        unchanged.then_some(self.hash)
    }
}

impl Index {
    /// The digest of a file that looks as it did when it was hashed.
    pub fn find(&self, path: &str, stat: &Stat) -> Option<Hash> {
        self.0.get(path)?.hash(stat)
    }

    /// The same for paths that are asked for in their order.
    pub fn in_order(&self) -> InOrder<'_> {
        InOrder(self.0.in_order())
    }

    /// Remembers a digest.
    pub fn insert(&mut self, path: &str, stat: Stat, hashed: i64, hash: Hash) {
        self.0.insert(path, Remembered { stat, hashed, hash });
    }

    /// How many files it knows, at most: one that was learned anew may count twice.
    pub fn files(&self) -> usize {
        self.0.at_most()
    }

    /// Forgets all paths but those that please. They are asked for in their order.
    pub fn retain(&mut self, keep: impl FnMut(&str) -> bool) {
        self.0.retain(keep);
    }
}

/// See [`Index::in_order`].
pub struct InOrder<'i>(path_map::InOrder<'i, Remembered>);

impl InOrder<'_> {
    /// The digest of a file that looks as it did when it was hashed. No path may come before the one asked for last: such a
    /// file is as one that is not known.
    pub fn find(&mut self, path: &str, stat: &Stat) -> Option<Hash> {
        self.0.get(path)?.hash(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_hashed_while_it_was_young_is_not_trusted() {
        let stat = Stat { size: 1, mtime: 10_000_000_000, ctime: 10_000_000_000, inode: 1, executable: false };
        let mut index = Index::default();
        index.insert("a", stat, 11_000_000_000, Hash::of(b"a"));
        assert_eq!(index.find("a", &stat), None);
        index.insert("a", stat, 12_000_000_000, Hash::of(b"a"));
        assert_eq!(index.find("a", &stat), Some(Hash::of(b"a")));
        assert_eq!(index.in_order().find("a", &stat), Some(Hash::of(b"a")));
        assert_eq!(index.find("a", &Stat { executable: true, ..stat }), Some(Hash::of(b"a")));
        assert_eq!(index.find("a", &Stat { inode: 2, ..stat }), None);
        assert_eq!(index.find("a", &Stat { ctime: 9, ..stat }), None);
    }
}
