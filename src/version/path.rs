//! Finding a path in a version: a file, a link, a folder, or what was meant instead.

use std::collections::BTreeSet;

use super::VersionError;
use crate::format::{Entry, Kind};
use crate::names::Selector;

/// How many paths that look alike are named.
const SIMILAR: usize = 3;
/// Longer paths are not compared with all others, in bytes.
const COMPARED: usize = 512;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// A file, a link, or an empty folder.
    Entry(&'a Entry),
    /// A folder with these entries below it.
    Folder(&'a [Entry]),
}

/// Something right inside a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child<'a> {
    /// Its name.
    pub name: &'a str,
    /// What stands there; nothing for a folder that isn't empty.
    pub kind: Option<&'a Kind>,
    /// Files, links and empty folders that it consists of.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// The path as it is written in manifests: `./a/` is `a`, and nothing is the root.
pub fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// What stands at `path` among the entries of a version, sorted by path; `.` is the whole tree.
pub fn find<'a>(entries: &'a [Entry], selector: &Selector, path: &str) -> Result<Found<'a>, VersionError> {
    let wanted = plain(path);
    if wanted.is_empty() {
        return Ok(Found::Folder(entries));
    }
    if let Ok(at) = entries.binary_search_by(|entry| entry.path.as_str().cmp(&wanted)) {
        return Ok(Found::Entry(&entries[at]));
    }
    match below(entries, &wanted) {
        [] => Err(VersionError::NoPath {
            selector: selector.clone(),
            path: path.to_owned(),
            similar: similar(entries, &wanted),
        }),
        inside => Ok(Found::Folder(inside)),
    }
}

/// The entries below a folder. They are neighbours, since entries are sorted by the bytes of their paths.
fn below<'a>(entries: &'a [Entry], folder: &str) -> &'a [Entry] {
    let prefix = format!("{folder}/");
    let start = entries.partition_point(|entry| entry.path.as_str() < prefix.as_str());
    let length = entries[start..].partition_point(|entry| entry.path.as_str().starts_with(&prefix));
    &entries[start..start + length]
}

/// What is right inside the folder at `path`, whose entries these are, by name.
pub fn children<'a>(entries: &'a [Entry], path: &str) -> Vec<Child<'a>> {
    let folder = plain(path);
    let skip = if folder.is_empty() { 0 } else { folder.len() + 1 };
    let mut children: Vec<Child<'a>> = Vec::new();
    for entry in entries {
        let inside = entry.path.as_str().get(skip..).unwrap_or_default();
        let (name, kind) = match inside.split_once('/') {
            Some((name, _)) => (name, None),
            None => (inside, Some(&entry.kind)),
        };
        match children.last_mut() {
            Some(last) if last.name == name => {
                last.entries += 1;
                last.bytes += entry.size();
            }
            _ => children.push(Child { name, kind, entries: 1, bytes: entry.size() }),
        }
    }
    children
}

/// Paths that may be meant: of the same name elsewhere, or spelt nearly like it.
fn similar(entries: &[Entry], wanted: &str) -> Vec<String> {
    if wanted.len() > COMPARED {
        return Vec::new();
    }
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for entry in entries {
        let mut path = entry.path.as_str();
        // A path that is there already has brought its parents.
        while paths.insert(path) {
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    let name = |path: &str| path.rsplit_once('/').map_or(path, |(_, name)| name).to_lowercase();
    let wanted_name = name(wanted);
    let most = 2.max(wanted.len() / 4);
    let mut scored: Vec<(usize, &str)> = paths
        .into_iter()
        .filter_map(|path| {
            if name(path) == wanted_name {
                return Some((0, path));
            }
            // Cheaper than the distance, and never more than it.
            if path.len().abs_diff(wanted.len()) > most {
                return None;
            }
            let distance = strsim::damerau_levenshtein(wanted, path);
            (distance <= most).then_some((distance, path))
        })
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(SIMILAR).map(|(_, path)| path.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Content, Hash};

    fn entries(paths: &[&str]) -> Vec<Entry> {
        let entry = |path: &&str| Entry {
            path: path.parse().unwrap(),
            kind: Kind::File { executable: false, size: 2, mtime: 0, hash: Hash::of(b""), content: Content::Empty },
        };
        let mut entries: Vec<Entry> = paths.iter().map(entry).collect();
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries
    }

    fn names(entries: &[Entry], path: &str) -> Vec<String> {
        let selector = "app@1".parse().unwrap();
        match find(entries, &selector, path).unwrap() {
            Found::Folder(entries) => {
                children(entries, path).iter().map(|child| format!("{} {}", child.name, child.entries)).collect()
            }
            Found::Entry(entry) => vec![entry.path.to_string()],
        }
    }

    #[test]
    fn folders_follow_from_paths() {
        let entries = entries(&["a-b/x", "a/x", "a/y/1", "a/y/2", "a0", "b"]);
        assert_eq!(names(&entries, "."), ["a-b 1", "a 3", "a0 1", "b 1"]);
        assert_eq!(names(&entries, "./a/"), ["x 1", "y 2"]);
        assert_eq!(names(&entries, "a/y"), ["1 1", "2 1"]);
        assert_eq!(names(&entries, "/b"), ["b"]);
    }

    #[test]
    fn a_path_that_is_not_there_names_those_that_look_like_it() {
        let entries = entries(&["src/server.js", "src/lib/index.js", "README.md"]);
        let similar = |path: &str| match find(&entries, &"app".parse().unwrap(), path) {
            Err(VersionError::NoPath { similar, .. }) => similar,
            other => panic!("{other:?}"),
        };
        assert_eq!(similar("server.js"), ["src/server.js"]);
        assert_eq!(similar("src/sever.js"), ["src/server.js"]);
        assert_eq!(similar("scr"), ["src"]);
        assert_eq!(similar("readme.md"), ["README.md"]);
        assert!(similar("nothing/like/it").is_empty());
    }
}
