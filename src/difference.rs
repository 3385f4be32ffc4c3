//! What differs between two versions, or between a version and a folder as an upload would see it.
//!
//! Which entries differ follows from the manifests alone. Contents are fetched for whoever wants lines, as far as they are
//! small enough to be compared.

mod entries;
mod patch;
mod side;
mod text;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::checkout::{CheckoutError, Fetcher};
use crate::format::{Entry, Hash, Kind};
use crate::names::WorkspaceName;
use crate::publish::PublishError;
use crate::version::VersionError;

pub use entries::{Change, Status, changes};
pub use side::Side;
pub use text::Comparison;

/// The largest file that is compared line by line, in bytes.
pub const LARGEST: u64 = 1 << 20;
/// How much is compared line by line in all, in bytes of both sides.
pub const MOST: u64 = 64 << 20;
/// How long the shortest way from one text to the other is looked for; after that a longer one does.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why two trees can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum DifferenceError {
    /// A version can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A version's contents can't be read.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// The folder can't be read.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A file of the folder changed while it was compared.
    #[error("`{path}` changed while it was compared")]
    Changed {
        /// Its path in the tree.
        path: String,
        /// Why it can't be read any more, if it can't.
        source: Option<std::io::Error>,
    },
    /// There is nothing older than the current version.
    #[error("`{name}` keeps nothing older than version {number} to compare it with")]
    Alone {
        /// The workspace.
        name: WorkspaceName,
        /// Its current version.
        number: u64,
    },
    /// A background task died.
    #[error("a part of the comparison failed unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

impl DifferenceError {
    /// Whether an object that the ref names is gone: collected, after the ref was read.
    pub fn is_gone(&self) -> bool {
        use crate::store::StoreError::NotFound;
        matches!(
            self,
            Self::Version(VersionError::Store(NotFound { .. }))
                | Self::Checkout(
                    CheckoutError::Store(NotFound { .. })
                        | CheckoutError::Version(VersionError::Store(NotFound { .. }))
                )
        )
    }
}

/// A change, and the lines that differ.
#[derive(Debug, Clone)]
pub struct Compared<'a> {
    /// The change.
    pub change: Change<'a>,
    /// What differs inside.
    pub comparison: Comparison,
    /// The difference as git writes it, if that is wanted.
    pub patch: Option<Vec<u8>>,
}

/// Compares the contents of what changed. `patch`: also as git writes it.
pub async fn compare<'a>(
    fetcher: &Fetcher<'_>,
    old: &'a Side,
    new: &'a Side,
    changes: Vec<Change<'a>>,
    patch: bool,
) -> Result<Vec<Compared<'a>>, DifferenceError> {
    let mut budget = MOST;
    let compared: Vec<(Change<'a>, bool)> =
        changes.into_iter().map(|change| (change, fits(change, &mut budget))).collect();
    let wanted = |side: fn(&Change<'a>) -> Option<&'a Entry>| -> Vec<&'a Entry> {
        let wanted = compared.iter().filter(|(change, fits)| *fits && change.differs_inside());
        wanted.filter_map(|(change, _)| side(change)).collect()
    };
    let (old_entries, new_entries) = (wanted(|change| change.old), wanted(|change| change.new));
    let (old_contents, new_contents) =
        futures::future::try_join(old.contents(fetcher, &old_entries), new.contents(fetcher, &new_entries)).await?;
    fetcher.observer.finish();
    let mut found = Vec::with_capacity(compared.len());
    for (change, fits) in compared {
        let parts = change.parts();
        let comparisons = if fits {
            let texts: Vec<(bool, Bytes, Bytes)> = parts
                .iter()
                .map(|part| (part.differs_inside(), content(part.old, &old_contents), content(part.new, &new_contents)))
                .collect();
            spawn_blocking(move || {
                let deadline = Instant::now() + PATIENCE;
                let one = |(differs, old, new): &(bool, Bytes, Bytes)| {
                    if *differs { text::compare(old, new, deadline) } else { Comparison::same() }
                };
                texts.iter().map(one).collect()
            })
            .await?
        } else {
            vec![Comparison::TooLarge; parts.len()]
        };
        let patch = patch.then(|| {
            parts.iter().zip(&comparisons).flat_map(|(part, comparison)| patch::write(part, comparison)).collect()
        });
        let comparison = comparisons.into_iter().reduce(Comparison::join).unwrap_or_else(Comparison::same);
        found.push(Compared { change, comparison, patch });
    }
    Ok(found)
}

/// Whether a change is small enough, and there is still room for it.
fn fits(change: Change<'_>, budget: &mut u64) -> bool {
    if !change.differs_inside() {
        return true;
    }
    let size = |entry: Option<&Entry>| entry.map_or(0, Entry::size);
    let (old, new) = (size(change.old), size(change.new));
    let fits = old <= LARGEST && new <= LARGEST && old + new <= *budget;
    if fits {
        *budget -= old + new;
    }
    fits
}

/// What git takes for the content of an entry: a link's is where it leads.
fn content(entry: Option<&Entry>, contents: &HashMap<Hash, Bytes>) -> Bytes {
    match entry.map(|entry| &entry.kind) {
        Some(Kind::File { hash, .. }) => contents.get(hash).cloned().unwrap_or_default(),
        Some(Kind::Link { target }) => Bytes::copy_from_slice(target.as_bytes()),
        Some(Kind::Directory) | None => Bytes::new(),
    }
}
