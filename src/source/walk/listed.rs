//! git's word on what lies where: one listing for each repository that the walk has met.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::source::git;
use crate::source::git_files::is_top;
use crate::source::guard::some_of;

/// git's listing of one repository, and the folders that follow from it. Paths are those of the whole tree.
#[derive(Debug)]
pub(super) struct Listed {
    files: HashMap<Vec<u8>, bool>,
    folders: HashSet<Vec<u8>>,
    folders_with_tracked: HashSet<Vec<u8>>,
    submodules: Vec<Vec<u8>>,
    skipped: Vec<Vec<u8>>,
    /// That of the repository around it, which may track what lies in this one.
    outer: Option<Arc<Self>>,
}

impl Listed {
    /// The listing of the repository at `prefix`.
    pub(super) fn new(listing: git::Listing, prefix: &str, outer: Option<Arc<Self>>) -> Self {
        let below = |path: Vec<u8>| if prefix.is_empty() { path } else { [prefix.as_bytes(), &path].concat() };
        let mut listed = Self {
            files: HashMap::with_capacity(listing.files.len()),
            folders: HashSet::new(),
            folders_with_tracked: HashSet::new(),
            submodules: listing.submodules.into_iter().map(below).collect(),
            skipped: listing.skipped.into_iter().map(below).collect(),
            outer,
        };
        for (path, tracked) in listing.files {
            let path = below(path);
            let mut end = path.len();
            while let Some(slash) = path[..end].iter().rposition(|byte| *byte == b'/') {
                end = slash;
                let folder = &path[..end];
                let known = listed.folders.contains(folder);
                let known_with_tracked = listed.folders_with_tracked.contains(folder);
                if !known {
                    listed.folders.insert(folder.to_vec());
                }
                if tracked && !known_with_tracked {
                    listed.folders_with_tracked.insert(folder.to_vec());
                }
                if if tracked { known_with_tracked } else { known } {
                    break;
                }
            }
            listed.files.insert(path, tracked);
        }
        listed
    }

    /// Whether git tracks a file; nothing where it doesn't list it.
    pub(super) fn file(&self, path: &[u8]) -> Option<bool> {
        self.files.get(path).copied().or_else(|| self.outer.as_ref()?.file(path))
    }

    /// Whether a folder is listed, or anything in it.
    pub(super) fn has(&self, folder: &[u8]) -> bool {
        self.folders.contains(folder)
            || self.file(folder).is_some()
            || self.outer.as_ref().is_some_and(|outer| outer.has(folder))
    }

    /// Whether it is tracked, or anything in it.
    pub(super) fn has_tracked(&self, folder: &[u8]) -> bool {
        self.folders_with_tracked.contains(folder)
            || self.file(folder) == Some(true)
            || self.outer.as_ref().is_some_and(|outer| outer.has_tracked(folder))
    }
}

/// What git tracks and has not checked out, so that the version goes without it.
pub(super) fn gaps(repositories: &[Arc<Listed>], root: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let shown = |paths: fn(&Listed) -> &[Vec<u8>], missing: &dyn Fn(&Path) -> bool| {
        let paths = repositories.iter().flat_map(|repository| paths(repository));
        let missing = paths.filter(|path| missing(&root.join(OsStr::from_bytes(path))));
        let mut paths: Vec<String> = missing.map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        paths.sort_unstable();
        paths
    };
    let skipped = shown(|listed| &listed.skipped, &|path| path.symlink_metadata().is_err());
    let empty = shown(|listed| &listed.submodules, &|path| !is_top(path));
    if !skipped.is_empty() {
        warnings.push(format!(
            "this is a sparse checkout: the version goes without {}, which git tracks and has not checked out here \
                 (`git sparse-checkout disable` fetches all)",
            some_of(&skipped)
        ));
    }
    if !empty.is_empty() {
        warnings.push(format!(
            "the version goes without the content of {}: not checked out here (`git submodule update --init \
                 --recursive`)",
            some_of(&empty)
        ));
    }
    warnings
}
