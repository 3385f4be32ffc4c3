//! A tree as data: paths and what stands at them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Hash;
use super::spelling::fold;

/// Our own folder inside a target; never part of a tree.
pub const STATE_DIRECTORY: &str = ".workspace";
/// Longest path, in bytes: Linux's `PATH_MAX`.
pub const MAX_PATH: usize = 4_096;
/// Longest part of a path, in bytes: what common file systems allow.
pub const MAX_PART: usize = 255;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 256;
/// Bytes of entries that are hashed at once.
const HASHED: usize = 64 << 10;

/// A path inside a tree.
///
/// Relative, parts joined by `/`, UTF-8, no part empty, `.`, `..` or over 255 bytes, no NUL, at most 4,096 bytes and 256
/// parts, and no part `.workspace`, which belongs to a target. Ordered by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(Box<str>);

/// Why a text is no [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is no path inside a tree: {reason}", path = .path.escape_debug())]
pub struct PathError {
    /// The text as given.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl TreePath {
    /// Of something in a folder whose own path was checked; it is the first `folder` bytes, none or with a `/` at their end.
    /// Only what comes behind it is looked at.
    pub fn in_folder(text: String, folder: usize) -> Result<Self, PathError> {
        let (above, name) = text.split_at(folder);
        if name.contains('/') {
            return text.try_into();
        }
        let depth = memchr::memchr_iter(b'/', above.as_bytes()).count() + 1;
        let checked = match check_part(name) {
            _ if text.len() > MAX_PATH => Err(TOO_LONG),
            Ok(()) if depth > MAX_DEPTH => Err(TOO_DEEP),
            checked => checked,
        };
        match checked {
            Ok(()) => Ok(Self(text.into())),
            Err(reason) => Err(PathError { path: text, reason }),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of the folder that holds it, or nothing at the top.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// What follows the last dot of the name, or nothing.
    pub fn extension(&self) -> &str {
        match self.name().rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => extension,
            _ => "",
        }
    }
}

impl FromStr for TreePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for TreePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        let refuse = |reason| Err(PathError { path: text.clone(), reason });
        if text.len() > MAX_PATH {
            return refuse(TOO_LONG);
        }
        let mut depth = 0;
        for part in text.split('/') {
            depth += 1;
            if let Err(reason) = check_part(part) {
                return refuse(reason);
            }
        }
        if depth > MAX_DEPTH {
            return refuse(TOO_DEEP);
        }
        Ok(Self(text.into()))
    }
}

const TOO_LONG: &str = "it is longer than 4096 bytes";
const TOO_DEEP: &str = "it is nested more than 256 deep";

fn check_part(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("it has an empty part"),
        "." | ".." => Err("it has a part `.` or `..`"),
        _ if part.len() > MAX_PART => Err("it has a part longer than 255 bytes"),
        _ if memchr::memchr(0, part.as_bytes()).is_some() => Err("it contains a NUL"),
        // At any depth: a later download may have this very folder as its target.
        _ if is_state(part) => Err("`.workspace` is kept for what a download notes of its target"),
        _ => Ok(()),
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0.into()
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether a file system may take the name for [`STATE_DIRECTORY`]: see [`is_repository`].
pub fn is_state(name: &str) -> bool {
    is_taken_for(name, &[STATE_DIRECTORY])
}

/// Whether a file system may take the name for `.git`: some know no case ([`super::spelling`]), macOS's passes over characters
/// without a width, and Windows' knows a short name, and drops dots and spaces at the end. git refuses the same
/// (`core.protectHFS`, `core.protectNTFS`).
pub fn is_repository(name: &str) -> bool {
    is_taken_for(name, &[".git", "git~1"])
}

fn is_taken_for(name: &str, names: &[&str]) -> bool {
    let shortened = |name: &str| {
        let name = name.trim_end_matches(['.', ' ']);
        names.iter().any(|other| name.eq_ignore_ascii_case(other))
    };
    if !name.is_ascii() {
        return shortened(&fold(name));
    }
    // The short way: nearly every name there is.
    let first = |name: &str| name.bytes().next().map(|byte| byte.to_ascii_lowercase());
    names.iter().any(|other| first(other) == first(name)) && shortened(name)
}

/// Bytes inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Index into the manifest's frames.
    pub frame: u32,
    /// Where the bytes begin in the frame, once decompressed.
    pub offset: u32,
    /// How many there are.
    pub length: u32,
}

/// A part of a cut file, with a digest of its own: reuse and verification work part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutPart {
    /// Where it lies.
    pub part: Part,
    /// Its digest.
    pub hash: Hash,
}

/// Where a file's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No bytes, so nowhere.
    Empty,
    /// In one frame.
    Whole(Part),
    /// Cut by FastCDC, in this order.
    Cut(Box<[CutPart]>),
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Whether its owner may execute it (0755 rather than 0644), as git records it.
        executable: bool,
        /// Bytes.
        size: u64,
        /// Modification time, seconds since 1970; kept and restored, never compared.
        mtime: i64,
        /// Digest of the whole content.
        hash: Hash,
        /// Where the content lies.
        content: Content,
    },
    /// A symbolic link.
    Link {
        /// Its text.
        target: Box<str>,
    },
    /// A folder with nothing in it. Others follow from the paths.
    Directory,
}

/// A path and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: TreePath,
    /// What.
    pub kind: Kind,
}

impl Entry {
    /// Where its bytes lie, if it is a file with this digest.
    pub fn content_of(&self, wanted: &Hash) -> Option<&Content> {
        match &self.kind {
            Kind::File { hash, content, .. } if hash == wanted => Some(content),
            _ => None,
        }
    }

    /// Bytes of content; 0 for what has none.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => *size,
            Kind::Link { .. } | Kind::Directory => 0,
        }
    }

    /// Whether both are the same to whoever compares trees: kind, content, link target, executable bit.
    pub fn same_as(&self, other: &Self) -> bool {
        self.path == other.path
            && match (&self.kind, &other.kind) {
                (
                    Kind::File { executable, size, hash, .. },
                    Kind::File { executable: executable2, size: size2, hash: hash2, .. },
                ) => executable == executable2 && size == size2 && hash == hash2,
                (Kind::Link { target }, Kind::Link { target: target2 }) => target == target2,
                (Kind::Directory, Kind::Directory) => true,
                _ => false,
            }
    }
}

/// What of an entry makes trees equal or not.
#[derive(Debug, Clone, Copy)]
pub enum Leaf<'a> {
    /// A file: whether it is executable, and the digest of its content.
    File(bool, Hash),
    /// A link with its text.
    Link(&'a str),
    /// An empty folder.
    Directory,
}

/// The digest of a whole tree: equal trees, and only they, have the same.
///
/// BLAKE3 over all entries in the order of their paths; each is one byte (`f` file, `x` executable file, `l` link, `d`
/// empty folder), the path's length (u32, little-endian) and bytes, then the content's digest (files) or the target's
/// length and bytes (links).
pub fn digest<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Hash {
    digest_of(entries.into_iter().map(|entry| {
        let leaf = match &entry.kind {
            Kind::File { executable, hash, .. } => Leaf::File(*executable, *hash),
            Kind::Link { target } => Leaf::Link(target),
            Kind::Directory => Leaf::Directory,
        };
        (&entry.path, leaf)
    }))
}

/// The same, of paths and what stands at them.
pub fn digest_of<'a>(leaves: impl IntoIterator<Item = (&'a TreePath, Leaf<'a>)>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    // BLAKE3 takes many blocks at once faster than one after the other.
    let mut waiting = Vec::with_capacity(2 * HASHED);
    let text = |waiting: &mut Vec<u8>, text: &str| {
        // Paths and link targets are at most 4,096 bytes.
        waiting.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        waiting.extend_from_slice(text.as_bytes());
    };
    for (path, leaf) in leaves {
        waiting.push(match leaf {
            Leaf::File(true, _) => b'x',
            Leaf::File(false, _) => b'f',
            Leaf::Link(_) => b'l',
            Leaf::Directory => b'd',
        });
        text(&mut waiting, path.as_str());
        match leaf {
            Leaf::File(_, hash) => waiting.extend_from_slice(hash.as_bytes()),
            Leaf::Link(target) => text(&mut waiting, target),
            Leaf::Directory => {}
        }
        if waiting.len() >= HASHED {
            hasher.update(&waiting);
            waiting.clear();
        }
    }
    hasher.update(&waiting);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for good in ["a", "a/b", " x", "-rf", "ä\n", "a.b/.c", ".workspaceignore", "x/.workspace-parts"] {
            assert!(good.parse::<TreePath>().is_ok(), "{good:?}");
        }
        let long = "x".repeat(256);
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\0b",
            ".workspace",
            ".workspace/x",
            ".Workspace/x",
            "x/.workspace",
            "x/.WORKSPACE/tree",
            ".work\u{200c}space/tree",
            "x/.workspace. ",
            &long,
        ] {
            assert!(bad.parse::<TreePath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn in_a_folder_that_was_checked_the_rest_is_checked() {
        let deep = "d/".repeat(MAX_DEPTH - 1);
        for (folder, name) in [("", "a"), ("a/b/", "c.d"), (deep.as_str(), "x")] {
            let text = format!("{folder}{name}");
            assert_eq!(TreePath::in_folder(text.clone(), folder.len()).unwrap().as_str(), text);
        }
        let (deeper, long) = (format!("{deep}d/"), "x/".repeat(MAX_PATH / 2));
        let refused =
            [("", ""), ("a/", ".."), ("a/", "b//c"), ("a/", "\0"), ("a/", ".workspace"), (&deeper, "x"), (&long, "x")];
        for (folder, name) in refused {
            assert!(TreePath::in_folder(format!("{folder}{name}"), folder.len()).is_err(), "{folder}{name}");
        }
    }

    #[test]
    fn names_that_a_file_system_takes_for_git() {
        for name in [".git", ".GIT", ".Git", ".g\u{200c}it", ".git\u{feff}", ".git.", ".git . ", "git~1", "GIT~1"] {
            assert!(is_repository(name), "{name:?}");
        }
        for name in ["git", ".gitignore", ".gitattributes", ".gitmodules", ".github", "a.git", ".git2", "git~2", ""] {
            assert!(!is_repository(name), "{name:?}");
        }
    }

    #[test]
    fn extensions() {
        let of = |text: &str| text.parse::<TreePath>().unwrap().extension().to_owned();
        assert_eq!(of("a/b.tar.gz"), "gz");
        assert_eq!(of("a.d/.bashrc"), "");
        assert_eq!(of("Makefile"), "");
    }
}
