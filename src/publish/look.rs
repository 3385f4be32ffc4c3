//! A look at the folder: what is in it, what is known of it, and what it would take to publish it.

use std::io;
use std::path::{Path, PathBuf};

use tokio::task::{JoinHandle, spawn_blocking};

use super::attempt::LOOKS;
use super::scan::{self, Hashed};
use super::{Preview, PublishError};
use crate::application::{self, SourceTree};
use crate::cache::{Cache, Index};
use crate::format::tree::{Leaf, digest_of};
use crate::format::{Content, Entry, Hash, Kind};
use crate::source::{self, Selection, SourceEntry, SourceKind, SourceOptions, Stat};

/// The largest file that detection reads, in bytes: lock files of large projects have some MiB.
const LARGEST_READ: u64 = 64 << 20;

/// What an upload of `folder` would take. No request is made.
pub fn preview(folder: &Path, options: &SourceOptions) -> Result<Preview, PublishError> {
    let mut selection = source::select(folder, options)?;
    selection.name_rules()?;
    // An upload would read them.
    for entry in selection.entries.iter().filter(|entry| matches!(entry.kind, SourceKind::File(_))) {
        let path = selection.root.join(entry.path.as_str());
        let access = rustix::fs::access(&path, rustix::fs::Access::READ_OK);
        if let Err(error @ (rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) = access {
            return Err(source::SourceError::unreadable(path, error.into()).into());
        }
    }
    let detection = application::detect(&Tree::of(&selection))?;
    let bytes = |entry: &SourceEntry| match &entry.kind {
        SourceKind::File(stat) => stat.size,
        SourceKind::Link(_) | SourceKind::Directory => 0,
    };
    Ok(Preview {
        entries: selection.entries.iter().map(|entry| (entry.path.to_string(), bytes(entry))).collect(),
        plan: detection.plan,
        warnings: selection.warnings(options.limits).into_iter().chain(detection.warnings).collect(),
        excluded: selection.excluded,
    })
}

/// What an upload of `folder` would take, with the digest of each file: the folder's own path, and the entries by path,
/// without saying where contents lie. No request is made. Blocks.
pub fn survey(folder: &Path, options: &SourceOptions, cache: &Cache) -> Result<(PathBuf, Vec<Entry>), PublishError> {
    let mut look = Look::take(folder, options, cache)?;
    let mut last = String::new();
    for _ in 0..LOOKS {
        let (root, entries) = (&look.selection.root, &look.selection.entries);
        let (found, moved) = scan::hash_unknown(root, entries, &look.hashes, &|_| ())?;
        for (at, hashed) in &found {
            look.learn(*at, hashed);
        }
        match (moved, look.entries()) {
            (None, Some(entries)) => {
                look.save(cache);
                return Ok((look.selection.root, entries));
            }
            (moved, _) => last = moved.unwrap_or_default(),
        }
        look.again(options)?;
    }
    Err(PublishError::Moving { folder: folder.to_owned(), path: last })
}

/// The folder as the publication knows it.
pub struct Look {
    /// What is source.
    pub selection: Selection,
    /// The digest of each entry that is a file, once it is known.
    pub hashes: Vec<Option<Hash>>,
    index: Index,
    /// Whether the index knows more than what was read from the cache.
    learned: bool,
}

impl Look {
    /// Walks the folder, and asks the index.
    pub fn take(folder: &Path, options: &SourceOptions, cache: &Cache) -> Result<Self, PublishError> {
        let (selection, index) = std::thread::scope(|scope| {
            // Where the folder is none, the walk says so.
            let index = scope.spawn(|| folder.canonicalize().map(|root| cache.index(&root)).unwrap_or_default());
            let selection = source::select(folder, options);
            (selection, index.join().unwrap_or_default())
        });
        let selection = selection?;
        let hashes = scan::known(&selection.entries, &index);
        Ok(Self { selection, hashes, index, learned: false })
    }

    /// Walks the folder again; what was hashed before is known.
    pub fn again(&mut self, options: &SourceOptions) -> Result<(), PublishError> {
        self.selection = source::select(&self.selection.root, options)?;
        self.hashes = scan::known(&self.selection.entries, &self.index);
        self.forget_what_went();
        Ok(())
    }

    /// Looks at these files again, and at nothing else. False where that is not enough: something came, went, or became
    /// something else.
    pub fn touch<'p>(&mut self, paths: impl IntoIterator<Item = &'p str>) -> Result<bool, PublishError> {
        for path in paths {
            let found = self.selection.entries.binary_search_by(|entry| entry.path.as_str().cmp(path));
            let there = std::fs::symlink_metadata(self.selection.root.join(path));
            match (found, there) {
                (Ok(at), Ok(metadata)) if metadata.is_file() => {
                    let entry = &mut self.selection.entries[at];
                    if !matches!(entry.kind, SourceKind::File(_)) || source::decides_by_content(path) {
                        return Ok(false);
                    }
                    entry.kind = SourceKind::File(Stat::of(&metadata));
                    // Times tell a change only after a while, and somebody says that there was one.
                    self.hashes[at] = (metadata.len() == 0).then(|| Hash::of(b""));
                }
                // It was there for a moment, or never was source.
                (Err(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes in what reading a file told.
    pub fn learn(&mut self, at: usize, hashed: &Hashed) {
        let entry = &mut self.selection.entries[at];
        entry.kind = SourceKind::File(hashed.stat);
        self.hashes[at] = Some(hashed.hash);
        self.index.insert(entry.path.as_str(), hashed.stat, hashed.began, hashed.hash);
        self.learned = true;
    }

    /// The digest of the whole tree. Nothing while that of a file is missing.
    pub fn digest(&self) -> Option<Hash> {
        let mut missing = false;
        let leaves = self.selection.entries.iter().zip(&self.hashes).map_while(|(entry, hash)| {
            let leaf = match (&entry.kind, hash) {
                (SourceKind::File(stat), Some(hash)) => Leaf::File(stat.executable, *hash),
                (SourceKind::Link(target), _) => Leaf::Link(target),
                (SourceKind::Directory, _) => Leaf::Directory,
                (SourceKind::File(_), None) => {
                    missing = true;
                    return None;
                }
            };
            Some((&entry.path, leaf))
        });
        let digest = digest_of(leaves);
        (!missing).then_some(digest)
    }

    /// The entries, without saying where contents lie. Nothing while a digest is missing.
    pub fn entries(&self) -> Option<Vec<Entry>> {
        let entry = |(entry, hash): (&SourceEntry, &Option<Hash>)| {
            let kind = match &entry.kind {
                SourceKind::Directory => Kind::Directory,
                SourceKind::Link(target) => Kind::Link { target: target.as_str().into() },
                SourceKind::File(stat) => Kind::File {
                    executable: stat.executable,
                    size: stat.size,
                    mtime: stat.mtime.div_euclid(1_000_000_000),
                    hash: (*hash)?,
                    content: Content::Empty,
                },
            };
            Some(Entry { path: entry.path.clone(), kind })
        };
        self.selection.entries.iter().zip(&self.hashes).map(entry).collect()
    }

    /// Keeps what is known of the files that are there.
    pub fn save(&mut self, cache: &Cache) {
        if self.has_news() {
            self.forget_what_went();
            cache.save_index(&self.selection.root, &self.index);
            self.learned = false;
        }
    }

    /// The same, while something else goes on. Nothing where there is nothing new.
    pub fn save_beside(&mut self, cache: &Cache) -> Option<JoinHandle<()>> {
        if !self.has_news() {
            return None;
        }
        self.forget_what_went();
        self.learned = false;
        let (root, index, cache) = (self.selection.root.clone(), self.index.clone(), cache.clone());
        Some(spawn_blocking(move || cache.save_index(&root, &index)))
    }

    /// Whether the index knows more, or other files, than what was read from the cache.
    fn has_news(&self) -> bool {
        let files = self.selection.entries.iter().filter(|entry| matches!(entry.kind, SourceKind::File(_))).count();
        self.learned || self.index.files() > files
    }

    fn forget_what_went(&mut self) {
        // Both are in the order of their paths.
        let mut entries = self.selection.entries.iter().map(|entry| entry.path.as_str()).peekable();
        self.index.retain(|path| {
            while entries.next_if(|entry| *entry < path).is_some() {}
            entries.peek() == Some(&path)
        });
    }
}

/// What detection may see: the files that will be uploaded.
pub struct Tree<'a> {
    selection: &'a Selection,
}

impl<'a> Tree<'a> {
    pub fn of(selection: &'a Selection) -> Self {
        Self { selection }
    }
}

impl SourceTree for Tree<'_> {
    fn contains(&self, path: &str) -> bool {
        self.selection.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).is_ok()
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if !self.contains(path) {
            return Ok(None);
        }
        let path = self.selection.root.join(path);
        match std::fs::symlink_metadata(&path) {
            // A link may lead out of the tree, and no manifest or lock file is this large.
            Ok(metadata) if !metadata.is_file() || metadata.len() > LARGEST_READ => Ok(None),
            Ok(_) => std::fs::read(&path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn has_folder(&self, folder: &str) -> bool {
        let inside = format!("{folder}/");
        let first = self.selection.entries.partition_point(|entry| entry.path.as_str() < inside.as_str());
        self.selection.entries.get(first).is_some_and(|entry| entry.path.as_str().starts_with(&inside))
    }

    fn left_out_by(&self, path: &str) -> Option<String> {
        self.selection.rule_on(path).map(|rule| rule.to_string())
    }

    fn paths(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.selection.entries.iter().map(|entry| entry.path.as_str()))
    }
}
