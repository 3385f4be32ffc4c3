//! Which entries differ between two trees: pure.

use std::collections::HashMap;

use crate::format::{Entry, Hash, Kind};

/// In what way an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Status {
    /// It is new.
    #[serde(rename = "A")]
    Added,
    /// It is gone.
    #[serde(rename = "D")]
    Deleted,
    /// It has another content, or leads elsewhere.
    #[serde(rename = "M")]
    Modified,
    /// It became something else: a file a link, or executable.
    #[serde(rename = "T")]
    Type,
    /// Its content was at another path, and is no longer there.
    #[serde(rename = "R")]
    Renamed,
}

impl Status {
    /// As git abbreviates it.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Added => "A",
            Self::Deleted => "D",
            Self::Modified => "M",
            Self::Type => "T",
            Self::Renamed => "R",
        }
    }
}

/// An entry that differs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change<'a> {
    /// In what way.
    pub status: Status,
    /// What was there.
    pub old: Option<&'a Entry>,
    /// What is there.
    pub new: Option<&'a Entry>,
}

impl<'a> Change<'a> {
    /// Where it is, or was.
    pub fn path(&self) -> &'a str {
        self.new.or(self.old).map_or("", |entry| entry.path.as_str())
    }

    /// Where it was, when that is another place.
    pub fn from(&self) -> Option<&'a str> {
        self.old.filter(|_| self.status == Status::Renamed).map(|entry| entry.path.as_str())
    }

    /// Whether contents differ, and not only paths and modes.
    pub fn differs_inside(&self) -> bool {
        match (self.old.map(|entry| &entry.kind), self.new.map(|entry| &entry.kind)) {
            (Some(Kind::File { hash, .. }), Some(Kind::File { hash: other, .. })) => hash != other,
            (Some(Kind::Link { target }), Some(Kind::Link { target: other })) => target != other,
            _ => true,
        }
    }

    /// What became something else, as what is gone and what is new: git has no word for it.
    pub fn parts(self) -> Vec<Self> {
        let kind = |entry: &Entry| std::mem::discriminant(&entry.kind);
        match (self.old, self.new) {
            (Some(old), Some(new)) if kind(old) != kind(new) => vec![
                Self { status: Status::Deleted, old: Some(old), new: None },
                Self { status: Status::Added, old: None, new: Some(new) },
            ],
            _ => vec![self],
        }
    }

    /// Whether it lies at one of these paths, or below. No path means all.
    pub fn is_at(&self, paths: &[String]) -> bool {
        let at = |path: &str| {
            paths.iter().any(|wanted| {
                wanted.is_empty()
                    || path.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        paths.is_empty() || at(self.path()) || self.from().is_some_and(at)
    }
}

/// What differs between two trees, by path. Both are sorted by it. Nothing differs exactly where trees are equal.
pub fn changes<'a>(old: &'a [Entry], new: &'a [Entry]) -> Vec<Change<'a>> {
    let mut found = Vec::new();
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    // Ends when both are used up: each round takes one at least.
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(one), Some(other)) => one.path.cmp(&other.path),
        };
        let old = if order.is_le() { left.next() } else { None };
        let new = if order.is_ge() { right.next() } else { None };
        let status = match (old, new) {
            (Some(one), Some(other)) if one.same_as(other) => continue,
            (Some(one), Some(other)) => differing(one, other),
            (Some(_), None) => Status::Deleted,
            (None, _) => Status::Added,
        };
        found.push(Change { status, old, new });
    }
    // An empty folder that was filled is not gone, and one that was emptied is told by what it had.
    found.retain(|change| match (change.status, change.old, change.new) {
        (Status::Deleted, Some(entry), _) if entry.kind == Kind::Directory => !has_below(new, entry.path.as_str()),
        (Status::Added, _, Some(entry)) if entry.kind == Kind::Directory => !has_below(old, entry.path.as_str()),
        _ => true,
    });
    rename(&mut found);
    found.sort_by_key(Change::path);
    found
}

fn has_below(entries: &[Entry], folder: &str) -> bool {
    let prefix = format!("{folder}/");
    let at = entries.partition_point(|entry| entry.path.as_str() < prefix.as_str());
    entries.get(at).is_some_and(|entry| entry.path.as_str().starts_with(&prefix))
}

fn differing(old: &Entry, new: &Entry) -> Status {
    match (&old.kind, &new.kind) {
        (Kind::File { hash, .. }, Kind::File { hash: other, .. }) if hash != other => Status::Modified,
        (Kind::Link { .. }, Kind::Link { .. }) => Status::Modified,
        _ => Status::Type,
    }
}

/// The digest by which a file is known again. Empty ones are all alike.
fn content(entry: Option<&Entry>) -> Option<Hash> {
    match entry.map(|entry| &entry.kind) {
        Some(Kind::File { hash, size, .. }) if *size > 0 => Some(*hash),
        _ => None,
    }
}

/// Joins what is gone here and new there with the same content: first where the name is the same, then in order of paths.
fn rename(changes: &mut Vec<Change<'_>>) {
    let mut gone: HashMap<Hash, Vec<usize>> = HashMap::new();
    for (at, change) in changes.iter().enumerate().filter(|(_, change)| change.status == Status::Deleted) {
        if let Some(hash) = content(change.old) {
            gone.entry(hash).or_default().push(at);
        }
    }
    let mut taken = vec![false; changes.len()];
    for same_name in [true, false] {
        for at in 0..changes.len() {
            let Change { status: Status::Added, new: Some(new), .. } = changes[at] else { continue };
            let Some(candidates) = content(Some(new)).and_then(|hash| gone.get_mut(&hash)) else { continue };
            let fits =
                |old: &usize| !same_name || changes[*old].old.is_some_and(|old| old.path.name() == new.path.name());
            if let Some(place) = candidates.iter().position(fits) {
                let old = candidates.remove(place);
                taken[old] = true;
                changes[at] = Change { status: Status::Renamed, old: changes[old].old, new: Some(new) };
            }
        }
    }
    let mut taken = taken.into_iter();
    changes.retain(|_| !taken.next().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::Content;
    use crate::format::tree::digest;

    /// `path` with `text`: `x:` is executable, `->` a link, `/` an empty folder.
    fn entry(path: &str, text: &str) -> Entry {
        let kind = if text == "/" {
            Kind::Directory
        } else if let Some(target) = text.strip_prefix("->") {
            Kind::Link { target: target.into() }
        } else {
            let (executable, text) = text.strip_prefix("x:").map_or((false, text), |text| (true, text));
            let hash = Hash::of(text.as_bytes());
            Kind::File { executable, size: text.len() as u64, mtime: 0, hash, content: Content::Empty }
        };
        Entry { path: path.parse().unwrap(), kind }
    }

    fn tree(entries: &[(&str, &str)]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = entries.iter().map(|(path, text)| entry(path, text)).collect();
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries
    }

    fn told(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        let (old, new) = (tree(old), tree(new));
        let one = |change: &Change<'_>| {
            let from = change.from().map(|from| format!("{from} > ")).unwrap_or_default();
            format!("{} {from}{}", change.status.letter(), change.path())
        };
        changes(&old, &new).iter().map(one).collect()
    }

    #[test]
    fn each_kind_of_change_has_a_letter() {
        let old = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "->a"), ("f", "2"), ("same", "1")];
        let new = [("a", "2"), ("c", "x:1"), ("d", "->a"), ("e", "->b"), ("f", "x:3"), ("n", "3"), ("same", "1")];
        assert_eq!(told(&old, &new), ["M a", "D b", "T c", "T d", "M e", "M f", "A n"]);
    }

    #[test]
    fn renames_are_found_by_content_and_prefer_the_same_name() {
        let old = [("a/one.js", "1"), ("a/two.js", "1"), ("empty", ""), ("x", "2")];
        let new = [("b/two.js", "1"), ("b/zero.js", "1"), ("still", ""), ("y", "x:2")];
        let expected = ["R a/two.js > b/two.js", "R a/one.js > b/zero.js", "D empty", "A still", "R x > y"];
        assert_eq!(told(&old, &new), expected);
        // A copy is an addition: the content is still where it was.
        assert_eq!(told(&[("a", "1")], &[("a", "1"), ("b", "1")]), ["A b"]);
    }

    #[test]
    fn an_empty_folder_that_was_filled_is_not_gone() {
        assert_eq!(told(&[("d", "/")], &[("d/a", "1")]), ["A d/a"]);
        assert_eq!(told(&[("d/a", "1")], &[("d", "/")]), ["D d/a"]);
        assert_eq!(told(&[("d", "/")], &[]), ["D d"]);
        assert_eq!(told(&[], &[("d", "/")]), ["A d"]);
        assert_eq!(told(&[("d", "1")], &[("d", "/")]), ["T d"]);
    }

    #[test]
    fn paths_choose_themselves_and_what_is_below() {
        let (old, new) = (tree(&[("src/a", "1")]), tree(&[("src-2/a", "1")]));
        let change = changes(&old, &new)[0];
        let at = |path: &str| change.is_at(&[path.to_owned()]);
        assert!(change.is_at(&[]) && at("src") && at("src/a") && at("src-2"));
        assert!(!at("sr") && !at("src/a/b") && !at("src-"));
    }

    proptest! {
        #[test]
        fn nothing_differs_exactly_where_trees_are_equal(
            old in proptest::collection::btree_map("[ab](/[ab]){0,2}", "1|2|x:1|->a|/", 0..6),
            new in proptest::collection::btree_map("[ab](/[ab]){0,2}", "1|2|x:1|->a|/", 0..6),
        ) {
            // As in a manifest: nothing below a file, a link or an empty folder.
            let build = |paths: &std::collections::BTreeMap<String, String>| {
                let parent = |path: &String| paths.keys().any(|other| other.starts_with(&format!("{path}/")));
                let kept: Vec<(&str, &str)> = paths
                    .iter()
                    .filter(|(path, _)| !parent(path))
                    .map(|(path, text)| (path.as_str(), text.as_str()))
                    .collect();
                tree(&kept)
            };
            let (old, new) = (build(&old), build(&new));
            prop_assert_eq!(changes(&old, &new).is_empty(), digest(&old) == digest(&new));
        }
    }
}
