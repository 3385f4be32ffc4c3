//! Publishing: from a folder to a new version.
//!
//! Contents that no version has go into packs, a manifest says where everything lies, and one conditional PUT of the ref
//! commits. Killed anywhere before that PUT, readers see the old version whole.
//!
//! 1. Read the ref while the folder is walked; hash what the local index doesn't know. An equal tree ends here.
//! 2. Pack and send what is new, the manifest beside the last pack.
//! 3. Swap the ref. Whoever loses the race looks again: a version is one uploader's whole tree, never a merge.

mod attempt;
mod bad_memory;
mod commit;
mod decide;
mod draft;
mod known;
mod look;
mod packing;
mod remove;
mod rollback;
mod scan;
mod swap;
mod tag;
mod writable;

use std::path::PathBuf;

use jiff::Timestamp;
use ulid::Ulid;

use crate::application::Plan;
use crate::format::FormatError;
use crate::format::pack::PackError;
use crate::names::{Tag, WorkspaceName};
use crate::source::{Excluded, SourceError, SourceOptions};
use crate::store::bucket::BucketError;
use crate::store::{RequestCounts, StoreError};
use crate::version::VersionError;

pub use attempt::{Publisher, Session};
pub use decide::{Changed, Decided, DecisionError, decide, set_retry, set_route, set_stopped};
pub use look::{Look, preview, survey};
pub use remove::{Removed, may_delete, remove, remove_remains};
pub use rollback::{Basis, Rollback, RolledBack};
pub use swap::{Swapped, pause, swap};
pub use tag::{Tagged, remove_tag, set_tag};
pub use writable::{open_for_writing, open_known};

/// What shall be published, and under which conditions.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The workspace.
    pub name: WorkspaceName,
    /// The folder.
    pub folder: PathBuf,
    /// What a person asked of the selection.
    pub source: SourceOptions,
    /// Publish nothing when there is something to warn of.
    pub strict: bool,
    /// What the author says.
    pub message: Option<String>,
    /// Who publishes.
    pub author: Option<String>,
    /// The commit it comes from.
    pub commit: Option<String>,
    /// The branch it comes from.
    pub branch: Option<String>,
    /// The CI run, an address.
    pub run: Option<String>,
    /// A tag that shall name the version.
    pub tag: Option<Tag>,
    /// Only when this is the current version's number.
    pub expect: Option<u64>,
    /// Publish nothing when the commit is an ancestor of the current version's.
    pub supersede: bool,
}

impl Publication {
    /// Of a folder, with nothing said about it and no conditions.
    pub fn of(name: WorkspaceName, folder: PathBuf) -> Self {
        Self {
            name,
            folder,
            source: SourceOptions::default(),
            strict: false,
            message: None,
            author: None,
            commit: None,
            branch: None,
            run: None,
            tag: None,
            expect: None,
            supersede: false,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A new version is current.
    Published,
    /// The folder equals the current version: nothing was written (but a tag may have moved).
    Unchanged,
    /// The current version comes from a later commit: nothing was written.
    Superseded,
}

/// What came of it, in numbers.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which of the three.
    pub outcome: Outcome,
    /// The workspace.
    pub name: WorkspaceName,
    /// The number of the version that is current now.
    pub number: u64,
    /// Its id.
    pub id: Ulid,
    /// Files, links and empty folders in it.
    pub files: u64,
    /// Bytes of content in it.
    pub bytes: u64,
    /// Files whose content was sent, at least in part.
    pub sent_files: u64,
    /// Bytes of content packed and sent, before compression.
    pub new_bytes: u64,
    /// What was left out.
    pub excluded: Vec<Excluded>,
    /// The runtime that the plan chose.
    pub runtime: Option<String>,
    /// Whether the version can be run.
    pub runnable: bool,
    /// Whether the tag asked for names the version now.
    pub tag: Option<Tag>,
    /// What it cost.
    pub requests: RequestCounts,
}

/// What an upload would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// What would go: path and bytes.
    pub entries: Vec<(String, u64)>,
    /// What would not.
    pub excluded: Vec<Excluded>,
    /// What the person ought to look at.
    pub warnings: Vec<String>,
    /// How it would be run.
    pub plan: Option<Plan>,
}

/// Why nothing was published. The bucket shows what it showed before.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// How to run it can't be worked out.
    #[error(transparent)]
    Application(#[from] crate::application::ApplicationError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket is not ready for us.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What is there can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A file can't be read.
    #[error("can't read `{path}`; nothing was published")]
    Unreadable {
        /// Its path in the tree.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is being written to.
    #[error("`{path}` keeps changing while it is read; nothing was published")]
    Restless {
        /// Its path in the tree.
        path: String,
    },
    /// Files come and go.
    #[error("files come and go in `{}` while it is read (last: `{path}`); nothing was published", folder.display())]
    Moving {
        /// The folder.
        folder: PathBuf,
        /// The last one that was gone.
        path: String,
    },
    /// No reader would take the version.
    #[error("`{}` is more than a version holds; nothing was published", folder.display())]
    TooMuch {
        /// The folder.
        folder: PathBuf,
        /// What is beyond which limit.
        source: FormatError,
    },
    /// Compression failed, or a pack is not what went into it.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Somebody else published in between, or `--expect` names another number.
    #[error("`{name}` is at version {found}, not at {expected}; nothing was published")]
    Expected {
        /// The workspace.
        name: WorkspaceName,
        /// What `--expect` said.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The workspace was deleted while this ran.
    #[error("`{name}` was deleted meanwhile; nothing was published")]
    DeletedMeanwhile {
        /// The workspace.
        name: WorkspaceName,
    },
    /// A version is locked, so the workspace can't be deleted.
    #[error("version {number} of `{name}` is locked {}; nothing was deleted", until_text(*until))]
    Locked {
        /// The workspace.
        name: WorkspaceName,
        /// The version's number.
        number: u64,
        /// Until when; nothing for a legal hold.
        until: Option<Timestamp>,
    },
    /// There were warnings, which `--strict` makes errors.
    #[error("{} above, and `--strict` makes {} nothing was published", if *.0 == 1 { "there is a warning".to_owned() } else { format!("there are {} warnings", .0) }, if *.0 == 1 { "it an error:" } else { "them errors:" })]
    Strict(usize),
    /// The ref changes faster than we can swap it.
    #[error("`{name}` changes so fast that {attempts} attempts to publish lost against others; nothing was published")]
    Contended {
        /// The workspace.
        name: WorkspaceName,
        /// How often it was tried.
        attempts: u32,
    },
    /// So many tags that the ref would overflow.
    #[error("the ref of `{name}` has no room for another tag")]
    TagsFull {
        /// The workspace.
        name: WorkspaceName,
    },
    /// Nothing older is there to go back to.
    #[error("`{name}` has no version to go back to from version {current}: {reason}")]
    NothingOlder {
        /// The workspace.
        name: WorkspaceName,
        /// The current version.
        current: u64,
        /// Why none of those that are kept will do.
        reason: &'static str,
    },
    /// The version to go back to was removed while this ran.
    #[error("version {number} of `{name}` was removed meanwhile; nothing was published")]
    Vanished {
        /// The workspace.
        name: WorkspaceName,
        /// The version.
        number: u64,
    },
    /// Somebody published before it was certain what to go back to.
    #[error(
        "version {found} of `{name}` was published meanwhile, so it is not certain any more what to go back to; nothing was published"
    )]
    Overtaken {
        /// The workspace.
        name: WorkspaceName,
        /// What is current now.
        found: u64,
    },
    /// A background task died.
    #[error("a part of the upload failed unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

impl PublishError {
    /// Whether the store is away or failing, so that trying again later may help.
    pub fn is_store_away(&self) -> bool {
        match self {
            Self::Store(error)
            | Self::Bucket(BucketError::Store(error))
            | Self::Version(VersionError::Store(error)) => error.is_retryable(),
            _ => false,
        }
    }
}

/// How long a lock lasts, for messages.
pub fn until_text(until: Option<Timestamp>) -> String {
    until.map_or_else(|| "until its legal hold is taken back".to_owned(), |until| format!("until {until:.0}"))
}

/// The moment of a publication, and where ids come from: arguments, so that tests can choose them.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
