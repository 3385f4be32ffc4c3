//! git's word on what lies where: one listing for each repository that the walk has met.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::source::git;
use crate::source::git_files::is_top;
use crate::source::guard::some_of;

/// git's listings, and the folders that follow from them.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) files: HashMap<Vec<u8>, bool>,
    pub(super) folders: HashSet<Vec<u8>>,
    pub(super) folders_with_tracked: HashSet<Vec<u8>>,
    submodules: Vec<Vec<u8>>,
    skipped: Vec<Vec<u8>>,
}

impl Listed {
    /// Takes in the listing of the repository at `prefix`.
    pub(super) fn add(&mut self, listing: git::Listing, prefix: &str) {
        let below = |path: Vec<u8>| [prefix.as_bytes(), &path].concat();
        self.submodules.extend(listing.submodules.into_iter().map(below));
        self.skipped.extend(listing.skipped.into_iter().map(below));
        for (path, tracked) in listing.files {
            let path = below(path);
            let mut end = path.len();
            while let Some(slash) = path[..end].iter().rposition(|byte| *byte == b'/') {
                end = slash;
                let known = !self.folders.insert(path[..end].to_vec());
                let done = if tracked { !self.folders_with_tracked.insert(path[..end].to_vec()) } else { known };
                if done {
                    break;
                }
            }
            self.files.insert(path, tracked);
        }
    }

    /// What git tracks and has not checked out, so that the version goes without it.
    pub(super) fn gaps(&self, root: &Path) -> Vec<String> {
        let mut warnings = Vec::new();
        let shown = |paths: &[Vec<u8>], missing: &dyn Fn(&Path) -> bool| {
            let missing = paths.iter().filter(|path| missing(&root.join(OsStr::from_bytes(path))));
            let mut paths: Vec<String> = missing.map(|path| String::from_utf8_lossy(path).into_owned()).collect();
            paths.sort_unstable();
            paths
        };
        let skipped = shown(&self.skipped, &|path| path.symlink_metadata().is_err());
        let empty = shown(&self.submodules, &|path| !is_top(path));
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
}
