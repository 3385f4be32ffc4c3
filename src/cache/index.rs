//! What is known of the files of one folder, so that what looks the same need not be read.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::format::Hash;
use crate::source::Stat;

/// As in git's index: a file that changed within this time before it was hashed may change again without its times
/// telling. Nanoseconds.
const AT_REST: i64 = 2_000_000_000;

/// Paths, and what is remembered of each.
///
/// What was kept is held as one text and one list, in the order of paths: reading a hundred thousand of them costs no
/// memory of its own for each. Kept as a map.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// The paths of what was kept, one after the other.
    text: String,
    /// What was kept, in the order of paths.
    kept: Vec<Kept>,
    /// What was learned since, in whatever order files were read. It counts first.
    learned: BTreeMap<String, Remembered>,
}

#[derive(Debug, Clone)]
struct Kept {
    /// Where its path lies in the text.
    path: Range<usize>,
    remembered: Remembered,
}

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
        self.find_at(self.kept.partition_point(|kept| self.path(kept) < path), path, stat)
    }

    /// The same, where it is known which kept path is the first that doesn't come before this one.
    fn find_at(&self, at: usize, path: &str, stat: &Stat) -> Option<Hash> {
        let kept = || self.kept.get(at).filter(|kept| self.path(kept) == path).map(|kept| &kept.remembered);
        self.learned.get(path).or_else(kept)?.hash(stat)
    }

    /// The same for paths that are asked for in their order.
    pub fn in_order(&self) -> InOrder<'_> {
        InOrder { index: self, at: 0 }
    }

    /// Remembers a digest.
    pub fn insert(&mut self, path: &str, stat: Stat, hashed: i64, hash: Hash) {
        self.learned.insert(path.to_owned(), Remembered { stat, hashed, hash });
    }

    /// How many files it knows, at most: one that was learned anew may count twice.
    pub fn files(&self) -> usize {
        self.kept.len() + self.learned.len()
    }

    /// Forgets all paths but those that please. They are asked for in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let old = std::mem::take(self);
        for (path, remembered) in old.iter().filter(|(path, _)| keep(path)) {
            self.push(path, *remembered);
        }
    }

    /// Adds a path that comes after all others.
    fn push(&mut self, path: &str, remembered: Remembered) {
        let start = self.text.len();
        self.text.push_str(path);
        self.kept.push(Kept { path: start..self.text.len(), remembered });
    }

    fn path(&self, kept: &Kept) -> &str {
        &self.text[kept.path.clone()]
    }

    /// Everything, in the order of paths.
    fn iter(&self) -> impl Iterator<Item = (&str, &Remembered)> {
        let mut kept = self.kept.iter().map(|kept| (self.path(kept), &kept.remembered)).peekable();
        let mut learned = self.learned.iter().map(|(path, remembered)| (path.as_str(), remembered)).peekable();
        std::iter::from_fn(move || match (kept.peek(), learned.peek()) {
            (Some((old, _)), Some((new, _))) if old < new => kept.next(),
            (Some((old, _)), Some((new, _))) => {
                if old == new {
                    kept.next();
                }
                learned.next()
            }
            (Some(_), None) => kept.next(),
            (None, _) => learned.next(),
        })
    }
}

/// See [`Index::in_order`].
pub struct InOrder<'a> {
    index: &'a Index,
    at: usize,
}

impl InOrder<'_> {
    /// The digest of a file that looks as it did when it was hashed. No path may come before the one asked for last.
    pub fn find(&mut self, path: &str, stat: &Stat) -> Option<Hash> {
        let index = self.index;
        self.at += index.kept[self.at..].iter().take_while(|kept| index.path(kept) < path).count();
        index.find_at(self.at, path, stat)
    }
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Index {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (path, remembered) in self.iter() {
            map.serialize_entry(path, remembered)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Index;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("paths and what is remembered of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
                let mut index = Index::default();
                while let Some((path, remembered)) = map.next_entry::<&str, Remembered>()? {
                    // Maps that were kept in no order are still read.
                    if index.kept.last().is_none_or(|last| index.path(last) < path) {
                        index.push(path, remembered);
                    } else {
                        index.learned.insert(path.to_owned(), remembered);
                    }
                }
                Ok(index)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(inode: u64) -> Stat {
        Stat { size: 1, mtime: 1, ctime: 1, inode, executable: false }
    }

    #[test]
    fn a_file_hashed_while_it_was_young_is_not_trusted() {
        let stat = Stat { size: 1, mtime: 10_000_000_000, ctime: 10_000_000_000, inode: 1, executable: false };
        let mut index = Index::default();
        index.insert("a", stat, 11_000_000_000, Hash::of(b"a"));
        assert_eq!(index.find("a", &stat), None);
        index.insert("a", stat, 12_000_000_000, Hash::of(b"a"));
        assert_eq!(index.find("a", &stat), Some(Hash::of(b"a")));
        assert_eq!(index.find("a", &Stat { executable: true, ..stat }), Some(Hash::of(b"a")));
        assert_eq!(index.find("a", &Stat { inode: 2, ..stat }), None);
        assert_eq!(index.find("a", &Stat { ctime: 9, ..stat }), None);
    }

    #[test]
    fn what_is_learned_counts_before_what_was_kept() {
        let mut index = Index::default();
        for (path, inode) in [("b", 1), ("a/c", 2), ("a", 3), ("z", 4)] {
            index.insert(path, stat(inode), 3_000_000_000, Hash::of(path.as_bytes()));
        }
        let bytes = postcard::to_allocvec(&index).unwrap();
        let mut read: Index = postcard::from_bytes(&bytes).unwrap();
        assert!(read.learned.is_empty(), "what was kept in order is read without a detour");
        assert_eq!(read, index);
        read.insert("a/c", stat(5), 3_000_000_000, Hash::of(b"new"));
        read.insert("m", stat(6), 3_000_000_000, Hash::of(b"m"));
        read.retain(|path| path != "b");
        let mut found = read.in_order();
        for (path, inode, content) in [("a", 3, "a"), ("a/c", 5, "new"), ("b", 1, ""), ("m", 6, "m"), ("z", 4, "z")] {
            let hash = (!content.is_empty()).then(|| Hash::of(content.as_bytes()));
            assert_eq!(read.find(path, &stat(inode)), hash, "{path}");
            assert_eq!(found.find(path, &stat(inode)), hash, "{path}, in order");
        }
        assert_eq!(read.find("a/c", &stat(2)), None);
    }

    #[test]
    fn a_map_in_no_order_is_read() {
        let remembered = |inode| Remembered { stat: stat(inode), hashed: 3_000_000_000, hash: Hash::of(b"x") };
        let map = [("b", remembered(1)), ("a", remembered(2)), ("c", remembered(3))];
        // As older releases kept it: a map, whose order was an accident.
        let mut bytes = vec![3];
        for (path, remembered) in &map {
            bytes.extend(postcard::to_allocvec(&(path, remembered)).unwrap());
        }
        let index: Index = postcard::from_bytes(&bytes).unwrap();
        for (path, remembered) in map {
            assert_eq!(index.find(path, &remembered.stat), Some(Hash::of(b"x")), "{path}");
        }
    }
}
