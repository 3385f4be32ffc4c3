//! Guard rails: what a person ought to hear before a byte of it is sent. Pure.

use std::collections::HashMap;

use super::{SourceEntry, SourceKind};
use crate::format::spelling::{Collisions, collisions};

/// How many paths a warning names.
const NAMED: usize = 3;

/// From where on something is too much to be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A file with more bytes is named.
    pub file: u64,
    /// More files than this that the current version doesn't have are named.
    pub new_files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Git hosts refuse files over 100 MB: what is larger was hardly ever written by a person.
        Self { file: 100 << 20, new_files: 10_000 }
    }
}

/// `a`, `b`, `c` and 4 more.
pub(super) fn some_of(paths: &[String]) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    match paths.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Files over the limit.
pub(super) fn large_files(entries: &[SourceEntry], limits: Limits) -> Option<String> {
    let large: Vec<String> = entries
        .iter()
        .filter(|entry| matches!(entry.kind, SourceKind::File(stat) if stat.size > limits.file))
        .map(|entry| entry.path.to_string())
        .collect();
    (!large.is_empty()).then(|| {
        format!(
            "{} {} over {} MiB (WORKSPACE_LARGE_FILE): a line in .workspaceignore leaves such a file out",
            some_of(&large),
            if large.len() == 1 { "is" } else { "are" },
            limits.file >> 20
        )
    })
}

/// Names that are one where case does not count, as on most Macs: only one of them would survive there, so a download
/// there refuses. `entries` are sorted by path.
pub(super) fn case_collisions(entries: &[SourceEntry]) -> Option<String> {
    let Collisions { first: (one, other), more } = collisions(entries.iter().map(|entry| entry.path.as_str()))?;
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Some(format!("`{one}` and `{other}` are one file where case does not count{more}: rename one of them"))
}

/// More new files than anybody writes by hand: a folder may be missing in an ignore file. `is_new` tells whether the current
/// version has no such path; it is asked in their order.
pub fn many_new(entries: &[SourceEntry], mut is_new: impl FnMut(&str) -> bool, limits: Limits) -> Option<String> {
    let new: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).filter(|path| is_new(path)).collect();
    if new.len() <= limits.new_files {
        return None;
    }
    // The deepest folder that most of them lie in.
    let mut folder = "";
    while let Some(deeper) = most_in(&new, folder) {
        folder = deeper;
    }
    let place = match folder {
        "" => String::new(),
        folder => {
            let inside = new.iter().filter(|path| path.starts_with(folder)).count();
            format!(", {inside} of them in `{folder}`")
        }
    };
    Some(format!(
        "{} files are new, which is more than {} (WORKSPACE_MANY_FILES){place}: should an ignore rule leave a folder out?",
        new.len(),
        limits.new_files
    ))
}

/// The folder directly in `folder` that holds more than half of the paths, with a `/` at its end.
fn most_in<'p>(paths: &[&'p str], folder: &str) -> Option<&'p str> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for path in paths.iter().filter(|path| path.starts_with(folder)) {
        if let Some(slash) = path[folder.len()..].find('/') {
            *counts.entry(&path[..=folder.len() + slash]).or_default() += 1;
        }
    }
    let (deeper, count) = counts.into_iter().max_by_key(|(path, count)| (*count, std::cmp::Reverse(*path)))?;
    (count * 2 > paths.len()).then_some(deeper)
}

/// Whether a link at `path` with this target points outside of the tree it lies in, judged by its text.
pub(super) fn leaves_the_tree(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Stat;

    fn entries(files: &[(&str, u64)]) -> Vec<SourceEntry> {
        let stat = |size| Stat { size, mtime: 0, ctime: 0, inode: 0, executable: false };
        let entry = |(path, size): &(&str, u64)| SourceEntry {
            path: path.parse().expect("a path"),
            kind: SourceKind::File(stat(*size)),
        };
        files.iter().map(entry).collect()
    }

    #[test]
    fn large_files_are_named() {
        let limits = Limits { file: 2 << 20, ..Limits::default() };
        assert_eq!(large_files(&entries(&[("a", 2 << 20)]), limits), None);
        let found = large_files(&entries(&[("a", 3 << 20), ("b", 1), ("c", 4 << 20)]), limits);
        assert!(found.as_ref().is_some_and(|found| found.starts_with("`a`, `c` are over 2 MiB")), "{found:?}");
    }

    #[test]
    fn names_that_are_one_without_case() {
        assert_eq!(case_collisions(&entries(&[("a", 1), ("b", 1)])), None);
        let found = case_collisions(&entries(&[("s/README", 1), ("s/Readme", 1), ("s/readme", 1)]));
        assert!(found.as_ref().is_some_and(|found| found.contains("`s/README` and `s/Readme`")), "{found:?}");
        assert!(found.is_some_and(|found| found.contains("and 1 more")));
    }

    #[test]
    fn many_new_files_are_told_with_their_folder() {
        let limits = Limits { new_files: 3, ..Limits::default() };
        let tree = entries(&[("a", 1), ("m/x/1", 1), ("m/x/2", 1), ("m/x/3", 1), ("m/y", 1)]);
        let found = many_new(&tree, |_| true, limits);
        assert!(found.as_ref().is_some_and(|found| found.contains("3 of them in `m/x/`")), "{found:?}");
        assert!(found.is_some_and(|found| found.starts_with("5 files are new")));
        assert_eq!(many_new(&tree, |path| path != "a" && path != "m/y", limits), None);
    }

    #[test]
    fn links_that_leave() {
        assert!(leaves_the_tree("a", "/etc/passwd"));
        assert!(leaves_the_tree("a", ".."));
        assert!(leaves_the_tree("d/a", "../../x"));
        assert!(leaves_the_tree("d/a", "x/../../../y"));
        assert!(!leaves_the_tree("d/a", "../x"));
        assert!(!leaves_the_tree("a", "b/../c"));
        assert!(!leaves_the_tree("d/e/a", "../../x"));
    }
}
