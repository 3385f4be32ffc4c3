//! What is source: which entries of a folder go into a version, and why the others don't.
//!
//! In a git work tree git is the authority: tracked files, and untracked ones that no ignore rule excludes. Elsewhere
//! `.gitignore` files decide. Defaults (`node_modules/`, `*.log`, …) apply to what is not tracked. `.workspaceignore`
//! files (gitignore syntax) add and, with `!`, take back. Never without such an explicit `!`: `.git/`, `.env` files and
//! private keys.

mod all;
mod defaults;
mod explain;
mod git;
mod git_files;
mod guard;
mod listing;
mod newer;
pub mod pattern;
mod provenance;
mod rules;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::chunking::MAX_FILE;
use crate::format::{PathError, TreePath};

pub use defaults::LOCK_FILES;
pub use explain::{Explanation, Fate, explain};
pub use git::{Commit, commit_of, is_ancestor};
pub use git_files::GitPlaces;
pub use git_files::{files_with_rules, repository_folder_of};
pub use guard::{Limits, many_new};
pub use newer::Newer;
pub use provenance::Provenance;
pub use walk::select;

/// What a person may ask of the selection, and what of the machine bears on it.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Take lock files even when an ignore rule excludes them.
    pub include_lock: bool,
    /// From where on something is too much to be meant.
    pub limits: Limits,
    /// Take everything but these paths, whatever rules say: the folder is no source but what came of it.
    pub all_but: Option<Arc<BTreeSet<String>>>,
    /// Where git keeps what belongs to no repository, for when git itself can't be asked.
    pub git: GitPlaces,
    /// Who hears of a change while the walk goes on.
    pub newer: Option<Arc<Newer>>,
}

/// The entries of a folder that are source, sorted by path.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The folder.
    pub root: PathBuf,
    /// What goes.
    pub entries: Vec<SourceEntry>,
    /// What does not: folders are named once, without what is in them.
    pub excluded: Vec<Excluded>,
    /// What the walk has met and the person ought to look at.
    pub noticed: Vec<String>,
    /// Whether it is source, in which something to run may be found.
    pub is_source: bool,
    /// The folders that were looked into, nothing for the root, each other with a `/` at its end: what comes and goes elsewhere
    /// is no source.
    pub folders: Vec<String>,
}

impl Selection {
    /// What the person ought to look at before anything is sent.
    pub fn warnings(&self, limits: Limits) -> Vec<String> {
        let mut warnings = self.noticed.clone();
        if self.is_source {
            warnings.extend(guard::case_collisions(&self.entries));
            warnings.extend(guard::large_files(&self.entries, limits));
        }
        warnings
    }
}

/// Whether a file goes or stays is decided by its content, too.
pub fn decides_by_content(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    defaults::suspicion(name) == defaults::Suspicion::LookInside || defaults::clue(path) != defaults::Clue::None
}

/// An entry that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Where it stands.
    pub path: TreePath,
    /// What it is.
    pub kind: SourceKind,
}

/// What an entry is, as far as a look at the file system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A regular file.
    File(Stat),
    /// A symbolic link with its text.
    Link(String),
    /// An empty folder.
    Directory,
}

/// What tells whether a file may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime: i64,
    /// Change time, nanoseconds since 1970.
    pub ctime: i64,
    /// Inode number.
    pub inode: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

impl Stat {
    /// From the file system's answer.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.size(),
            mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            executable: metadata.mode() & 0o100 != 0,
        }
    }
}

/// An entry that does not go, and the rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// Its path, with a `/` at the end when it is a folder.
    pub path: String,
    /// Why.
    pub rule: Rule,
}

/// Why something does not go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Secret-looking: never without an explicit `!` in `.workspaceignore`.
    Secret,
    /// git ignores it; which of its rules says so was not asked.
    Git,
    /// A pattern of an ignore file.
    Line(Line),
    /// One of the defaults: the pattern.
    Default(String),
    /// It lies in the folder of a submodule that is not checked out: git doesn't say anything of it.
    Submodule,
    /// Neither file, folder nor link.
    Special,
    /// A `.workspace`: what a download has noted of its target.
    Own,
}

/// A pattern, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The ignore file: as the folder sees it, or its full path.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The pattern as written.
    pub pattern: String,
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.pattern)
    }
}

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// git tracks it: no ignore rule counts.
    Tracked,
    /// No rule leaves it out.
    Unruled,
    /// A `!` pattern takes it back, or the folder that it lies in.
    TakenBack(Line),
    /// It is a lock file, which `--include-lock` takes against this rule.
    Lock(Rule),
    /// It is a folder that this rule leaves out but for what git tracks.
    TrackedOnly(Rule),
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret => out.write_str("secret"),
            Self::Git => out.write_str("ignored by git"),
            Self::Line(line) => line.fmt(out),
            Self::Default(pattern) => write!(out, "default: {pattern}"),
            Self::Submodule => out.write_str("in a submodule that is not checked out"),
            Self::Special => out.write_str("no regular file"),
            Self::Own => out.write_str("kept for what a download notes"),
        }
    }
}

/// Why nothing could be selected. Nothing is published.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder is not there.
    #[error("there is no folder `{}`", .0.display())]
    NoSuchDirectory(PathBuf),
    /// It is there and is something else.
    #[error("`{}` is not a folder", .0.display())]
    NotADirectory(PathBuf),
    /// Something in it can't be read.
    #[error("can't read `{}`", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that is not UTF-8, so that it could not be restored everywhere.
    #[error("the name of `{0}` is not UTF-8; rename it or exclude it in .workspaceignore")]
    NotUtf8(String),
    /// A path that no version can hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file that no version can hold.
    #[error("`{path}` has {}, which is more than a version holds of one file ({})", crate::output::size(*.size), crate::output::size(MAX_FILE))]
    TooLarge {
        /// The file.
        path: String,
        /// Its bytes. It need not have as many on the disk.
        size: u64,
    },
    /// git is there and failed.
    #[error("git can't tell what is source in `{}`: {message}", path.display())]
    Git {
        /// The folder.
        path: PathBuf,
        /// git's own words.
        message: String,
    },
    /// A rule is asked for that decides on what isn't there.
    #[error("there is no `{path}` in `{}`", folder.display())]
    NoSuchPath {
        /// What was asked for.
        path: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A rule is asked for that decides on what lies elsewhere.
    #[error("`{path}` is not in `{}`", folder.display())]
    Outside {
        /// What was asked for.
        path: String,
        /// The folder.
        folder: PathBuf,
    },
    /// Nothing to publish.
    #[error("`{}` has nothing to upload{}", path.display(), if *.excluded == 0 { String::new() } else { format!(": {} excluded ({rules})", if *excluded == 1 { "its one entry is".to_owned() } else { format!("{excluded} entries in it are") }) })]
    Empty {
        /// The folder.
        path: PathBuf,
        /// How many entries the rules excluded.
        excluded: usize,
        /// Some of these rules.
        rules: String,
    },
}

impl Stat {
    /// From the answer of the system call.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        clippy::cast_possible_wrap,
        reason = "the fields' types differ between systems"
    )]
    pub fn of_raw(stat: &rustix::fs::Stat) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            inode: stat.st_ino.into(),
            executable: stat.st_mode & 0o100 != 0,
        }
    }
}

impl SourceEntry {
    /// A file that was looked at. One that is larger than a version can hold is refused before anybody reads it.
    pub(crate) fn file(path: TreePath, stat: Stat) -> Result<Self, SourceError> {
        if stat.size > MAX_FILE {
            return Err(SourceError::TooLarge { path: path.to_string(), size: stat.size });
        }
        Ok(Self { path, kind: SourceKind::File(stat) })
    }
}

/// Whether what was there is there no more, or is something else now.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        // O_NOFOLLOW met a link.
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

impl SourceError {
    pub(crate) fn unreadable(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Unreadable { path: path.as_ref().to_owned(), source }
    }
}
