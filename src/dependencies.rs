//! Dependency snapshots: what an installation has made, kept beside the workspace, so that the next container has it in
//! seconds and needs no package registry.
//!
//! A snapshot is a version like any other, of a workspace of its own below the data of the one that it belongs to: the same
//! format, the same protocol, the same collection. Its row's message is the key: what the installation depended on, as one
//! hash. The last eight are kept.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{self, CheckoutError, CheckoutOptions, CheckoutReport, Fetcher};
use crate::format::Row;
use crate::format::keys;
use crate::format::retention::Retention;
use crate::names::{Selector, Version, WorkspaceName};
use crate::output::Observer;
use crate::publish::{self, Changed, Look, Outcome, Publication, PublishError, Publisher, Report, Session};
use crate::source::SourceOptions;
use crate::store::Store;
use crate::store::bucket::WriteConsent;
use crate::version::{self, VersionError};

/// How many snapshots are kept.
const KEPT: u32 = 8;
/// More entries than this are no installation that is worth it.
const MOST_ENTRIES: usize = 1_000_000;
/// Where a snapshot is put together before it is moved into place, in the tree.
const STAGE: &str = ".workspace/dependencies";

/// The snapshots of one workspace.
pub struct Snapshots<'a> {
    store: Store,
    name: &'a WorkspaceName,
    cache: &'a Cache,
    budget: &'a Budget,
    observer: Arc<dyn Observer>,
}

/// Why a snapshot couldn't be used or made. The installation doesn't need it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The ref can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// It can't be fetched.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// It can't be stored.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It can't be moved into place.
    #[error("can't move `{}` into place", path.display())]
    Move {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is too much of it.
    #[error("{entries} files are too many for a snapshot")]
    TooMany {
        /// How many.
        entries: usize,
    },
}

impl<'a> Snapshots<'a> {
    /// Those of `name` in the bucket.
    pub fn of(
        store: &Store,
        name: &'a WorkspaceName,
        cache: &'a Cache,
        budget: &'a Budget,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self { store: store_of(store, name), name, cache, budget, observer }
    }

    /// Puts what was installed under `key` back into `tree`. Nothing where there is no such snapshot.
    ///
    /// It is fetched beside the tree and verified whole before anything of it is moved. What is there already stays.
    pub async fn restore(&self, key: &str, tree: &Path) -> Result<Option<CheckoutReport>, SnapshotError> {
        let Some(row) = self.find(key).await? else { return Ok(None) };
        let stage = tree.join(STAGE);
        let failed = |source| SnapshotError::Move { path: stage.clone(), source };
        let fetcher =
            Fetcher { store: &self.store, cache: self.cache, budget: self.budget, observer: self.observer.clone() };
        let selector = Selector { name: self.name.clone(), version: Version::Number(row.number) };
        // Virtual environments lead to the image's interpreter, and packages may have been cloned.
        let options =
            CheckoutOptions { allow_external_links: true, allow_repositories: true, ..CheckoutOptions::owned() };
        let report = Box::pin(fetcher.checkout(&selector, &stage, options)).await?;
        if report.row.id != row.id {
            fs::remove_dir_all(&stage).map_err(failed)?;
            return Ok(None);
        }
        fs::remove_dir_all(stage.join(".workspace")).map_err(failed)?;
        merge(&stage, tree)?;
        fs::remove_dir_all(&stage).map_err(failed)?;
        Ok(Some(report))
    }

    /// Stores what is in `tree` beside the version that was fetched, as what was installed under `key`.
    pub async fn save(&self, key: &str, tree: &Path) -> Result<Option<Report>, SnapshotError> {
        let own: BTreeSet<String> = checkout::written(tree)?;
        let source = SourceOptions { all_but: Some(Arc::new(own)), ..SourceOptions::default() };
        let (folder, options, cache) = (tree.to_owned(), source.clone(), self.cache.clone());
        let look = tokio::task::spawn_blocking(move || Look::take(&folder, &options, &cache));
        let look = look.await.map_err(PublishError::from)??;
        let entries = look.selection.entries.len();
        if entries == 0 {
            return Ok(None);
        }
        if entries > MOST_ENTRIES {
            return Err(SnapshotError::TooMany { entries });
        }
        let publisher = Publisher {
            store: &self.store,
            cache: self.cache,
            budget: self.budget,
            observer: self.observer.clone(),
            consent: WriteConsent { yes: false, single_writer: false, ask: &|_| false },
            committing: Arc::default(),
        };
        let publication = Publication {
            source,
            message: Some(key.to_owned()),
            ..Publication::of(self.name.clone(), tree.to_owned())
        };
        let report = Box::pin(publisher.publish_again(&publication, &mut Session::new(look), true)).await?;
        if report.outcome == Outcome::Published {
            let kept = Some(Retention { last: KEPT, hours: 0, days: 0 });
            let keep = publish::decide(&self.store, self.name, |reference| {
                let changed = if reference.retention == kept { Changed::No } else { Changed::Yes };
                reference.retention = kept;
                Ok(changed)
            });
            // More of them would be kept, no fewer; the next one tries again.
            if let Err(error) = Box::pin(keep).await {
                tracing::debug!(%error, "the number of snapshots is not limited yet");
            }
        }
        Ok(Some(report))
    }

    async fn find(&self, key: &str) -> Result<Option<Row>, VersionError> {
        let Some(read) = version::read_reference(&self.store, self.name).await? else { return Ok(None) };
        if read.reference.deleted {
            return Ok(None);
        }
        Ok(read.reference.rows.into_iter().rev().find(|row| row.message.as_deref() == Some(key)))
    }
}

/// The part of a bucket in which a workspace's snapshots lie, as a bucket of its own.
pub fn store_of(store: &Store, name: &WorkspaceName) -> Store {
    store.nested(keys::dependencies(name))
}

/// Moves what is in one folder into another, whole folders where nothing stands in their place.
fn merge(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        let listing = fs::read_dir(&from).map_err(|source| SnapshotError::Move { path: from.clone(), source })?;
        for entry in listing {
            let failed = |source| SnapshotError::Move { path: to.clone(), source };
            let entry = entry.map_err(failed)?;
            let (at, place) = (entry.path(), to.join(entry.file_name()));
            match fs::symlink_metadata(&place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(&at, &place).map_err(failed)?,
                Err(error) => return Err(failed(error)),
                Ok(there) if there.is_dir() && entry.file_type().map_err(failed)?.is_dir() => folders.push((at, place)),
                // It is the version's own, or was there before.
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_there_stays_and_nothing_is_moved_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for path in ["from/new/a", "from/both/below/new", "from/linked/a", "to/both/below", "to/own"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs::write(from.join("both/file"), "snapshot").unwrap();
        fs::write(to.join("both/file"), "own").unwrap();
        fs::write(from.join("both/below/file"), "snapshot").unwrap();
        symlink("own", to.join("linked")).unwrap();
        merge(&from, &to).unwrap();
        assert!(to.join("new/a").is_dir() && to.join("both/below/new").is_dir());
        assert_eq!(fs::read_to_string(to.join("both/file")).unwrap(), "own");
        assert_eq!(fs::read_to_string(to.join("both/below/file")).unwrap(), "snapshot");
        assert_eq!(fs::read_dir(to.join("own")).unwrap().count(), 0);
        assert_eq!(fs::read_link(to.join("linked")).unwrap(), Path::new("own"));
    }
}
