//! Everything in a folder but what is known: what an installation has put beside the source.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::listing::{Listing, Named};
use super::walk::utf8;
use super::{Selection, SourceEntry, SourceError, SourceKind};
use crate::format::TreePath;
use crate::format::tree::is_state;

/// Takes everything whose path is not known. A known folder is looked into. What is neither a file, a link nor a folder is
/// left out.
pub(super) fn select(root: &Path, known: &BTreeSet<String>) -> Result<Selection, SourceError> {
    let mut entries = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let listing = match Listing::read(&folder) {
            // Gone since its own folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| SourceError::unreadable(&folder, error))?,
        };
        if listing.is_empty() && !prefix.is_empty() && !known.contains(prefix.trim_end_matches('/')) {
            let path = prefix.trim_end_matches('/').parse::<TreePath>()?;
            entries.push(SourceEntry { path, kind: SourceKind::Directory });
        }
        for Named { name, kind } in listing.names() {
            let at = folder.join(OsStr::from_bytes(name));
            let name_text = utf8(name.to_vec())?;
            if is_state(&name_text) {
                continue;
            }
            let path = format!("{prefix}{name_text}");
            if kind.is_dir() {
                folders.push((at, format!("{path}/")));
                continue;
            }
            if known.contains(&path) {
                continue;
            }
            let io_error = |error| SourceError::unreadable(&at, error);
            let kind = if kind.is_symlink() {
                SourceKind::Link(utf8(listing.link(name).map_err(io_error)?)?)
            } else if kind.is_file() {
                let stat = listing.stat(name).map_err(io_error)?;
                entries.push(SourceEntry::file(path.parse()?, stat)?);
                continue;
            } else {
                continue;
            };
            entries.push(SourceEntry { path: path.parse::<TreePath>()?, kind });
        }
    }
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(Selection {
        root: root.to_owned(),
        entries,
        excluded: Vec::new(),
        noticed: Vec::new(),
        is_source: false,
        folders: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_known_is_left_and_everything_else_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["src", "node_modules/a/.git", "node_modules/empty", ".workspace/stage", "void"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in
            ["package.json", "src/a.js", "src/generated.js", "node_modules/a/.env", ".workspace/tree", ".gitignore"]
        {
            fs::write(root.join(path), "node_modules/\n").unwrap();
        }
        symlink("../a/x", root.join("node_modules/link")).unwrap();
        let known = ["package.json", "src/a.js", ".gitignore", "void"].map(str::to_owned).into();
        let selection = select(root, &known).unwrap();
        let paths: Vec<&str> = selection.entries.iter().map(|entry| entry.path.as_str()).collect();
        let expected = [
            "node_modules/a/.env",
            "node_modules/a/.git",
            "node_modules/empty",
            "node_modules/link",
            "src/generated.js",
        ];
        assert_eq!(paths, expected);
        assert!(!selection.is_source);
    }
}
