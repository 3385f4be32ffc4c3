//! git's word on what lies where: one listing for each repository that the walk has met.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::source::git;
use crate::source::guard::some_of;

/// git's listing of one repository of the tree.
#[derive(Debug)]
pub(super) struct Listed {
    listing: git::Listing,
    /// Whether what it doesn't have is ignored. Else it is untracked, and nobody has asked yet.
    whole: bool,
    /// Where the repository lies in the tree: empty, or ending with `/`.
    prefix: String,
    /// That of the repository around it, which may track what lies in this one.
    outer: Option<Arc<Self>>,
}

impl Listed {
    /// What the repository at `prefix` tracks; `whole`: and what is untracked in it and not ignored.
    pub(super) fn new(listing: git::Listing, whole: bool, prefix: &str, outer: Option<Arc<Self>>) -> Self {
        Self { listing, whole, prefix: prefix.to_owned(), outer }
    }

    /// All that there is where it tracks nothing.
    pub(super) fn untracked(&self, listing: git::Listing) -> Self {
        Self { listing, whole: true, prefix: self.prefix.clone(), outer: self.outer.clone() }
    }

    /// Whether what it doesn't have is ignored.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// What is listed in a folder of the repository, whose path in the tree is empty or ends with `/`. `within`: where in the
    /// listing, for one who knows.
    pub(super) fn inside(&self, folder: &[u8], within: Option<Range<usize>>) -> Inside<'_> {
        let below = folder.strip_prefix(self.prefix.as_bytes()).unwrap_or_default();
        Inside {
            own: self.listing.inside(below, within.unwrap_or_else(|| self.listing.beginning_with(below))),
            outer: self.outer.as_ref().map(|outer| Box::new(outer.inside(folder, None))),
        }
    }
}

/// What git lists in a folder: in its repository, and in those around it.
pub(super) struct Inside<'a> {
    own: git::Inside<'a>,
    outer: Option<Box<Inside<'a>>>,
}

impl Inside<'_> {
    /// Whether git tracks a file; nothing where it doesn't list it.
    pub(super) fn file(&self, name: &[u8]) -> Option<bool> {
        self.own.file(name).or_else(|| self.outer.as_ref()?.file(name))
    }

    /// Whether a folder is listed, or anything in it.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.file(name).is_some()
            || !self.own.folder(name).is_empty()
            || self.outer.as_ref().is_some_and(|outer| outer.has(name))
    }

    /// Whether it is tracked, or anything in it.
    pub(super) fn has_tracked(&self, name: &[u8]) -> bool {
        self.file(name) == Some(true)
            || self.own.has_tracked(name)
            || self.outer.as_ref().is_some_and(|outer| outer.has_tracked(name))
    }

    /// Where what lies in a folder is in the listing of its repository.
    pub(super) fn within(&self, name: &[u8]) -> Range<usize> {
        self.own.folder(name)
    }
}

/// What git tracks and has not checked out, so that the version goes without it. `empty`: submodules that are.
pub(super) fn gaps(repositories: &[Arc<Listed>], empty: &[String], root: &Path) -> Vec<String> {
    let skipped = repositories
        .iter()
        .flat_map(|one| one.listing.skipped.iter().map(move |path| [one.prefix.as_bytes(), path.as_slice()].concat()));
    let missing = skipped.filter(|path| root.join(OsStr::from_bytes(path)).symlink_metadata().is_err());
    let mut skipped: Vec<String> = missing.map(|path| String::from_utf8_lossy(&path).into_owned()).collect();
    skipped.sort_unstable();
    let mut warnings = Vec::new();
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
            some_of(empty)
        ));
    }
    warnings
}
