//! The one folder of the tree that detection looks at.

use std::collections::BTreeSet;

use super::{ApplicationError, SourceTree};

/// A view of a tree below one folder. Paths are relative to that folder.
pub(super) struct Folder<'a> {
    tree: &'a dyn SourceTree,
    /// Empty, or ends in `/`.
    prefix: String,
}

impl<'a> Folder<'a> {
    pub(super) fn new(tree: &'a dyn SourceTree, dir: Option<&str>) -> Self {
        let prefix = dir.map(|dir| format!("{dir}/")).unwrap_or_default();
        Self { tree, prefix }
    }

    /// The folder that this one lies in; `None` for the tree's root.
    pub(super) fn parent(&self) -> Option<Self> {
        let dir = self.prefix.strip_suffix('/')?;
        let prefix = dir.rfind('/').map(|slash| dir[..=slash].to_owned()).unwrap_or_default();
        Some(Self { tree: self.tree, prefix })
    }

    /// Its path as [`Plan::dir`](super::Plan::dir) has it; `None` for the root.
    pub(super) fn dir(&self) -> Option<&str> {
        self.prefix.strip_suffix('/')
    }

    /// The way from here to the tree's root: empty, or `../` as often as it takes.
    pub(super) fn way_to_root(&self) -> String {
        "../".repeat(self.prefix.matches('/').count())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths().next().is_none()
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.tree.contains(&self.path(path))
    }

    /// The rule that leaves a path out.
    pub(super) fn left_out_by(&self, path: &str) -> Option<String> {
        self.tree.left_out_by(&self.path(path))
    }

    /// The path as the whole tree knows it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The folder's own name in [`Plan::inputs`](super::Plan::inputs): `./` for the root.
    pub(super) fn whole(&self) -> String {
        if self.prefix.is_empty() { "./".to_owned() } else { self.prefix.clone() }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> + '_ {
        self.tree.paths().filter_map(|path| path.strip_prefix(&self.prefix))
    }

    /// Whether anything lies below a folder of this one.
    pub(super) fn has_folder(&self, name: &str) -> bool {
        self.tree.has_folder(&self.path(name))
    }

    /// What to say of a folder that isn't there: the reason, and the one that may be meant.
    pub(super) fn lacks(&self, name: &str) -> String {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let folders: BTreeSet<&str> =
            self.paths().flat_map(|path| path.match_indices('/').map(move |(slash, _)| &path[..slash])).collect();
        let close = folders.iter().filter_map(|folder| {
            let distance = strsim::damerau_levenshtein(&last(folder), &last(name));
            (distance <= 1 + last(name).len() / 4).then_some((distance, folder.len(), *folder))
        });
        let meant = close.min();
        let meant = meant.map(|(_, _, folder)| format!("; did you mean `{folder}`?")).unwrap_or_default();
        format!(
            "names the folder `{name}`, of which nothing will be uploaded: it isn't there, or an ignore rule leaves it out{meant}"
        )
    }

    /// The first of some files that is there.
    pub(super) fn first_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.contains(name))
    }

    /// A file as text, without a byte order mark. What isn't UTF-8 is read as far as possible.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, ApplicationError> {
        let path = self.path(path);
        let bytes = self.tree.read(&path).map_err(|source| ApplicationError::Read { path, source })?;
        Ok(bytes.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
        }))
    }
}
