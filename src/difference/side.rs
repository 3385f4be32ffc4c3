//! The two things that are compared: a version, or a folder as an upload would see it.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{DifferenceError, LARGEST};
use crate::checkout::Fetcher;
use crate::format::{Entry, Hash, Keys, Kind, Manifest, Reference, Row};
use crate::names::Selector;
use crate::publish;
use crate::source::SourceOptions;
use crate::version;

/// One side of a comparison.
#[derive(Debug, Clone)]
pub enum Side {
    /// A version.
    Version {
        /// Its row.
        row: Box<Row>,
        /// The keys of its workspace.
        keys: Keys,
        /// What it consists of.
        manifest: Arc<Manifest>,
    },
    /// A folder.
    Folder {
        /// Its path.
        root: PathBuf,
        /// What an upload would take of it.
        entries: Vec<Entry>,
    },
}

impl Side {
    /// The version that is meant, of a ref that was read.
    pub async fn version(
        fetcher: &Fetcher<'_>,
        selector: &Selector,
        reference: &Reference,
    ) -> Result<Self, DifferenceError> {
        let row = Box::new(version::select(reference, selector)?.clone());
        let keys = Keys::new(&selector.name, reference.root);
        let loaded = version::load(fetcher.store, fetcher.cache, &keys, reference.root, &row).await?;
        Ok(Self::Version { row, keys, manifest: Arc::new(loaded.manifest) })
    }

    /// A folder.
    pub async fn folder(
        fetcher: &Fetcher<'_>,
        folder: &Path,
        options: &SourceOptions,
    ) -> Result<Self, DifferenceError> {
        let (folder, options, cache) = (folder.to_owned(), options.clone(), fetcher.cache.clone());
        let (root, entries) = spawn_blocking(move || publish::survey(&folder, &options, &cache)).await??;
        Ok(Self::Folder { root, entries })
    }

    /// What it consists of, by path.
    pub fn entries(&self) -> &[Entry] {
        match self {
            Self::Version { manifest, .. } => &manifest.entries,
            Self::Folder { entries, .. } => entries,
        }
    }

    /// The contents of some of its files, none of them over [`LARGEST`].
    pub(super) async fn contents(
        &self,
        fetcher: &Fetcher<'_>,
        wanted: &[&Entry],
    ) -> Result<HashMap<Hash, Bytes>, DifferenceError> {
        match self {
            Self::Version { keys, manifest, .. } => Ok(fetcher.contents(keys, manifest, wanted).await?),
            Self::Folder { root, .. } => {
                let (root, wanted) = (root.clone(), wanted.iter().map(|&entry| entry.clone()).collect::<Vec<_>>());
                spawn_blocking(move || wanted.iter().filter_map(|entry| read(&root, entry)).collect()).await?
            }
        }
    }
}

/// A file of the folder, if it still is what it was when the folder was looked at.
fn read(root: &Path, entry: &Entry) -> Option<Result<(Hash, Bytes), DifferenceError>> {
    let Kind::File { hash, .. } = &entry.kind else { return None };
    let path = root.join(entry.path.as_str());
    let mut content = Vec::new();
    let outcome = std::fs::File::open(&path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    let source = match outcome {
        Ok(_) if Hash::of(&content) == *hash => return Some(Ok((*hash, content.into()))),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    Some(Err(DifferenceError::Changed { path: entry.path.to_string(), source }))
}
