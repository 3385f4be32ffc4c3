//! git's word on what lies where: one listing for each repository that the walk has met.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::source::git;
use crate::source::git_files::is_top;
use crate::source::guard::some_of;

/// git's listing of one repository of the tree.
#[derive(Debug)]
pub(super) struct Listed {
    listing: git::Listing,
    /// Where the repository lies in the tree: empty, or ending with `/`.
    prefix: String,
    /// That of the repository around it, which may track what lies in this one.
    outer: Option<Arc<Self>>,
}

impl Listed {
    /// The listing of the repository at `prefix`.
    pub(super) fn new(listing: git::Listing, prefix: &str, outer: Option<Arc<Self>>) -> Self {
        Self { listing, prefix: prefix.to_owned(), outer }
    }

    /// What is listed in a folder of the repository, whose path in the tree is empty or ends with `/`.
    pub(super) fn inside(&self, folder: &[u8]) -> Inside<'_> {
        let below = folder.strip_prefix(self.prefix.as_bytes()).unwrap_or_default();
        Inside {
            listed: self,
            range: self.listing.beginning_with(below, self.listing.all()),
            outer: self.outer.as_ref().map(|outer| Box::new(outer.inside(folder))),
        }
    }
}

/// What git lists in a folder. Paths are those of the tree.
pub(super) struct Inside<'a> {
    listed: &'a Listed,
    range: Range<usize>,
    outer: Option<Box<Inside<'a>>>,
}

impl Inside<'_> {
    fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        path.strip_prefix(self.listed.prefix.as_bytes()).unwrap_or(path)
    }

    fn folder(&self, folder: &[u8]) -> Range<usize> {
        let start = [self.below(folder), b"/"].concat();
        self.listed.listing.beginning_with(&start, self.range.clone())
    }

    /// Whether git tracks a file; nothing where it doesn't list it.
    pub(super) fn file(&self, path: &[u8]) -> Option<bool> {
        let found = self.listed.listing.file(self.below(path), self.range.clone());
        found.or_else(|| self.outer.as_ref()?.file(path))
    }

    /// Whether a folder is listed, or anything in it.
    pub(super) fn has(&self, folder: &[u8]) -> bool {
        self.file(folder).is_some()
            || !self.folder(folder).is_empty()
            || self.outer.as_ref().is_some_and(|outer| outer.has(folder))
    }

    /// Whether it is tracked, or anything in it.
    pub(super) fn has_tracked(&self, folder: &[u8]) -> bool {
        self.file(folder) == Some(true)
            || self.listed.listing.tracks_any(self.folder(folder))
            || self.outer.as_ref().is_some_and(|outer| outer.has_tracked(folder))
    }
}

/// What git tracks and has not checked out, so that the version goes without it.
pub(super) fn gaps(repositories: &[Arc<Listed>], root: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let shown = |paths: fn(&git::Listing) -> &[Vec<u8>], missing: &dyn Fn(&Path) -> bool| {
        let below = |one: &Listed, path: &[u8]| [one.prefix.as_bytes(), path].concat();
        let paths = repositories.iter().flat_map(|one| paths(&one.listing).iter().map(move |path| below(one, path)));
        let missing = paths.filter(|path| missing(&root.join(OsStr::from_bytes(path))));
        let mut paths: Vec<String> = missing.map(|path| String::from_utf8_lossy(&path).into_owned()).collect();
        paths.sort_unstable();
        paths
    };
    let skipped = shown(|listing| &listing.skipped, &|path| path.symlink_metadata().is_err());
    let empty = shown(|listing| &listing.submodules, &|path| !is_top(path));
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
