//! All objects of a bucket in the byte order of their keys, without reading what isn't asked for.
//!
//! Folders mirror the key's parts (see `keys`), so a walk that visits each folder's entries by the bytes they add to
//! the key meets the keys in byte order; a prefix, a starting point or a common prefix prunes whole folders.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::keys::{self, Entry};

/// One folder being walked: its entries in reverse order, so that the next is popped.
struct Level {
    path: PathBuf,
    prefix: Vec<u8>,
    entries: Vec<(Entry, String)>,
}

/// A walk over the objects of one bucket.
pub(super) struct Walk {
    levels: Vec<Level>,
    root: Option<PathBuf>,
    prefix: Vec<u8>,
    after: Vec<u8>,
    skipped: Option<Vec<u8>>,
}

/// An object met on a walk.
pub(super) struct Found {
    /// Its key.
    pub key: String,
    /// Its file.
    pub path: PathBuf,
}

impl Walk {
    /// A walk over everything below `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { levels: Vec::new(), root: Some(root), prefix: Vec::new(), after: Vec::new(), skipped: None }
    }

    /// Only keys that begin with `prefix`.
    pub(super) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.as_bytes().to_vec();
        self
    }

    /// Only keys that come after `key`.
    pub(super) fn after(mut self, key: &str) -> Self {
        self.after = key.as_bytes().to_vec();
        self
    }

    /// From now on no key that begins with `prefix`.
    pub(super) fn skip(&mut self, prefix: &str) {
        self.skipped = Some(prefix.as_bytes().to_vec());
    }

    /// Whether there is an object at all.
    pub(super) fn any(mut self) -> io::Result<bool> {
        Ok(self.next()?.is_some())
    }

    /// The next object.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        if let Some(root) = self.root.take() {
            let level = read(root, Vec::new())?;
            self.levels.push(level);
        }
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some((entry, name)) = level.entries.pop() else {
                self.levels.pop();
                continue;
            };
            let mut bytes = level.prefix.clone();
            bytes.extend_from_slice(entry.bytes());
            let path = level.path.join(name);
            match entry {
                Entry::Folder(_) if self.wants_folder(&bytes) => {
                    let level = read(path, bytes)?;
                    self.levels.push(level);
                }
                Entry::Object(_) if self.wants_object(&bytes) => {
                    if let Ok(key) = String::from_utf8(bytes) {
                        return Ok(Some(Found { key, path }));
                    }
                }
                _ => {}
            }
        }
    }

    fn is_skipped(&self, bytes: &[u8]) -> bool {
        self.skipped.as_ref().is_some_and(|skipped| bytes.starts_with(skipped))
    }

    fn wants_object(&self, key: &[u8]) -> bool {
        key > self.after.as_slice() && key.starts_with(&self.prefix) && !self.is_skipped(key)
    }

    fn wants_folder(&self, start: &[u8]) -> bool {
        // Keys below begin with `start`: all of them come before `after` if `start` does, unless `after` is below too.
        let reachable = start > self.after.as_slice() || self.after.starts_with(start);
        let wanted = start.starts_with(&self.prefix) || self.prefix.starts_with(start);
        reachable && wanted && !self.is_skipped(start)
    }
}

/// The entries of a folder, the first in key order last.
fn read(path: PathBuf, prefix: Vec<u8>) -> io::Result<Level> {
    let mut entries = Vec::new();
    let listing = match fs::read_dir(&path) {
        // The bucket was deleted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Level { path, prefix, entries });
        }
        other => other?,
    };
    for found in listing {
        let Ok(name) = found?.file_name().into_string() else { continue };
        if let Some(entry) = keys::entry_of(&name) {
            entries.push((entry, name));
        }
    }
    entries.sort_unstable_by(|one, other| other.0.bytes().cmp(one.0.bytes()));
    Ok(Level { path, prefix, entries })
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Keys with their files, in order.
    pub objects: Vec<(String, PathBuf)>,
    /// What the delimiter folds, in order.
    pub common_prefixes: Vec<String>,
    /// The last key or common prefix of this page, if there is more.
    pub next: Option<String>,
}

/// At most `limit` keys and common prefixes, beginning after `after`.
pub(super) fn page(walk: Walk, prefix: &str, delimiter: &str, after: &str, limit: usize) -> io::Result<Page> {
    let mut walk = walk.with_prefix(prefix).after(after);
    let mut page = Page::default();
    if limit == 0 {
        return Ok(page);
    }
    // The page before may have ended with a common prefix: what it folds is done. No key can be mistaken for one, as
    // a key of that form would have been folded itself.
    let ended_folded = after.strip_prefix(prefix).is_some_and(|rest| {
        !delimiter.is_empty() && rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len())
    });
    if ended_folded {
        walk.skip(after);
    }
    let mut last = String::new();
    while let Some(found) = walk.next()? {
        if page.objects.len() + page.common_prefixes.len() == limit {
            page.next = Some(last);
            break;
        }
        let folded = (!delimiter.is_empty())
            .then(|| found.key[prefix.len()..].find(delimiter))
            .flatten()
            .map(|position| found.key[..prefix.len() + position + delimiter.len()].to_owned());
        if let Some(common) = folded {
            walk.skip(&common);
            last.clone_from(&common);
            page.common_prefixes.push(common);
        } else {
            last.clone_from(&found.key);
            page.objects.push((found.key, found.path));
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same by the definition in the S3 documentation.
    fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str) -> (Vec<String>, Vec<String>) {
        let mut objects = Vec::new();
        let mut common = BTreeSet::new();
        for key in keys.iter().filter(|key| key.starts_with(prefix)) {
            match key[prefix.len()..].find(delimiter) {
                Some(at) if !delimiter.is_empty() => {
                    common.insert(key[..prefix.len() + at + delimiter.len()].to_owned());
                }
                _ => objects.push(key.clone()),
            }
        }
        (objects, common.into_iter().collect())
    }

    #[test]
    fn a_key_that_ends_like_the_delimiter_but_began_in_the_prefix_folds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for key in ["ab", "aba"] {
            fs::write(folder.path().join(keys::path_of(key)), "").unwrap();
        }
        let page = page(Walk::new(folder.path().to_owned()), "a", "ab", "ab", 1).unwrap();
        assert_eq!(page.objects[0].0, "aba");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pages_add_up_to_the_model(
            keys in proptest::collection::btree_set("[ab/ ]{1,6}|[a/]{1,3}b{78,170}[a/]{0,3}", 0..40),
            prefix in "[ab/]{0,2}",
            delimiter in "/?|ab",
            limit in 1usize..5,
        ) {
            let folder = tempfile::tempdir().unwrap();
            for key in &keys {
                let path = folder.path().join(keys::path_of(key));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let (mut objects, mut common, mut after) = (Vec::new(), Vec::new(), String::new());
            loop {
                let page = page(Walk::new(folder.path().to_owned()), &prefix, &delimiter, &after, limit).unwrap();
                prop_assert!(page.objects.len() + page.common_prefixes.len() <= limit);
                objects.extend(page.objects.into_iter().map(|(key, _)| key));
                common.extend(page.common_prefixes);
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            prop_assert_eq!((objects, common), model(&keys, &prefix, &delimiter));
        }
    }
}
