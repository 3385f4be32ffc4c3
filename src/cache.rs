//! What this machine remembers between commands. All of it may be deleted at any time; then more is read again.
//!
//! | file | what |
//! |---|---|
//! | `indexes/<hash of the folder>` | file → digest, so that unchanged files are not read |
//! | `manifests/<root>/<ulid>` | manifests as they lie in the bucket: they never change |
//! | `buckets/<hash of the store>.json` | the bucket's record |
//! | `references/<hash of the store>` | refs as `list` saw them, by ETag |
//! | `seen/<root>` | the newest version that this machine knows of |
//! | `newest/<hash of store and ref>.json` | the same by the key of its ref, with where its manifest lies |
//!
//! Nothing here is believed blindly: an index entry counts only while the file looks the same and was at rest when it was
//! hashed, a manifest must add up to the digest in its ref.

mod index;
mod path_map;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use ulid::Ulid;

use crate::format::{Hash, Row};

pub use index::Index;
pub use path_map::PathMap;

/// First byte of an index file; another one means another layout, and the file is ignored.
const INDEX_FORMAT: u8 = 1;
/// The same of a file of refs.
const REFERENCES_FORMAT: u8 = 1;
/// Refs of at most so many bytes are kept.
const MOST_REFERENCES: usize = 64 << 20;

/// The folder of all this, or nothing where there is none.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
}

/// The time of day, nanoseconds since 1970.
pub fn nanoseconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Cache {
    /// In this folder, made when it is first written to.
    pub fn at(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The index of a folder; an empty one where none can be read.
    pub fn index(&self, tree: &Path) -> Index {
        self.read_as(INDEX_FORMAT, &index_name(tree)).unwrap_or_default()
    }

    /// Keeps the index of a folder.
    pub fn save_index(&self, tree: &Path, index: &Index) {
        self.write_as(INDEX_FORMAT, &index_name(tree), index);
    }

    /// When it was kept, in nanoseconds since 1970.
    pub fn index_kept(&self, tree: &Path) -> Option<i64> {
        let kept = fs::metadata(self.folder.as_ref()?.join(index_name(tree))).and_then(|metadata| metadata.modified());
        let since = kept.ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_nanos()).ok()
    }

    /// A manifest's object.
    pub fn manifest(&self, root: Ulid, id: Ulid) -> Option<Vec<u8>> {
        self.read(&format!("manifests/{root}/{id}"))
    }

    /// Keeps a manifest's object.
    pub fn save_manifest(&self, root: Ulid, id: Ulid, bytes: &[u8]) {
        self.write(&format!("manifests/{root}/{id}"), bytes);
    }

    /// Forgets the manifests that no version needs any more.
    pub fn keep_manifests(&self, root: Ulid, needed: impl Fn(Ulid) -> bool) {
        let Some(folder) = &self.folder else { return };
        let Ok(listing) = fs::read_dir(folder.join(format!("manifests/{root}"))) else { return };
        for entry in listing.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if id.is_none_or(|id| !needed(id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The record of the bucket behind a store, by the store's identity.
    pub fn bucket(&self, identity: &str) -> Option<Vec<u8>> {
        self.read(&bucket_name(identity))
    }

    /// Keeps it.
    pub fn save_bucket(&self, identity: &str, bytes: &[u8]) {
        self.write(&bucket_name(identity), bytes);
    }

    /// The refs of a store as they were listed last: name, ETag and content.
    pub fn references(&self, identity: &str) -> Vec<(String, String, Vec<u8>)> {
        self.read_as(REFERENCES_FORMAT, &references_name(identity)).unwrap_or_default()
    }

    /// Keeps them, as far as [`MOST_REFERENCES`] goes.
    pub fn save_references(&self, identity: &str, references: &[(String, String, Vec<u8>)]) {
        let mut bytes = 0;
        let fits = references.iter().take_while(|(_, _, content)| {
            bytes += content.len();
            bytes <= MOST_REFERENCES
        });
        self.write_as(REFERENCES_FORMAT, &references_name(identity), &fits.collect::<Vec<_>>());
    }

    /// The newest version of a workspace that this machine knows of.
    pub fn seen(&self, root: Ulid) -> Option<Ulid> {
        self.read(&format!("seen/{root}")).and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok())
    }

    /// Remembers it.
    pub fn save_seen(&self, root: Ulid, version: Ulid) {
        self.write(&format!("seen/{root}"), version.to_string().as_bytes());
    }

    /// The incarnation and the newest version of a workspace that this machine knows of, by the store's identity and the
    /// key of the ref.
    pub fn newest(&self, identity: &str, reference: &str) -> Option<(Ulid, Row)> {
        serde_json::from_slice(&self.read(&newest_name(identity, reference))?).ok()
    }

    /// Remembers them.
    pub fn save_newest(&self, identity: &str, reference: &str, root: Ulid, row: &Row) {
        if let Ok(bytes) = serde_json::to_vec(&(root, row)) {
            self.write(&newest_name(identity, reference), &bytes);
        }
    }

    /// What lies there, if it has this layout.
    fn read_as<T: DeserializeOwned>(&self, format: u8, name: &str) -> Option<T> {
        let bytes = self.read(name)?;
        postcard::from_bytes(bytes.strip_prefix(&[format])?).ok()
    }

    fn write_as<T: Serialize>(&self, format: u8, name: &str, value: &T) {
        if let Ok(bytes) = postcard::to_extend(value, vec![format]) {
            self.write(name, &bytes);
        }
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.folder.as_ref()?.join(name)).ok()
    }

    /// A cache that can't be written makes the next command slower and nothing else: said in the log.
    fn write(&self, name: &str, bytes: &[u8]) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = replace(&folder.join(name), bytes) {
            tracing::debug!(%error, name, "the cache can't be written");
        }
    }
}

fn newest_name(identity: &str, reference: &str) -> String {
    format!("newest/{}.json", Hash::of(format!("{identity} {reference}").as_bytes()))
}

fn index_name(tree: &Path) -> String {
    format!("indexes/{}", Hash::of(tree.as_os_str().as_encoded_bytes()))
}

fn bucket_name(identity: &str) -> String {
    format!("buckets/{}.json", Hash::of(identity.as_bytes()))
}

fn references_name(identity: &str) -> String {
    format!("references/{}", Hash::of(identity.as_bytes()))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Stat;

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(Some(folder.path().join("cache")));
        let mut index = Index::default();
        let stat = Stat { size: 1, mtime: 1, ctime: 1, inode: 1, executable: false };
        index.insert("a", stat, 3_000_000_000, Hash::of(b"a"));
        assert_eq!(cache.index(Path::new("/x")), Index::default());
        cache.save_index(Path::new("/x"), &index);
        assert_eq!(cache.index(Path::new("/x")), index);
        fs::write(folder.path().join("cache").join(index_name(Path::new("/x"))), b"\x01garbage").unwrap();
        assert_eq!(cache.index(Path::new("/x")), Index::default());
    }
}
