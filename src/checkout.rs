//! Checkout: making a folder equal to a version.
//!
//! 1. **Plan**: what is already there is kept; what stands in the way and isn't ours refuses the whole, before anything
//!    changes.
//! 2. **Stage**: ranges of packs are fetched, verified and written to `<target>/.workspace/stage` while they come.
//! 3. **Apply**: intentions go to a journal, then everything is renamed into place in one burst, new folders as a whole;
//!    deletions come last.
//!
//! A file counts as ours only while its content is what we wrote. Killed anywhere, doing it again goes on: what was staged
//! is verified and used, what the journal names counts as ours.
//!
//! Writing stays inside the target: see [`target`].

mod apply;
mod content;
mod fetch;
mod links;
pub mod packs;
mod plan;
mod ranges;
pub(crate) mod repositories;
mod spelling;
mod stage;
mod state;
mod target;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::format::{FormatError, Keys, Manifest, Row};
use crate::names::Selector;
use crate::output::{Observer, plural};
use crate::store::{RequestCounts, Store, StoreError};
use crate::version::{self, VersionError};

use packs::Packs;

/// How the target is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckoutOptions {
    /// Remove what an earlier checkout wrote and this version no longer has.
    pub delete: bool,
    /// Overwrite and remove what isn't ours, where the version wants the place.
    pub force: bool,
    /// Make links that point out of the target.
    pub allow_external_links: bool,
    /// Write what belongs to Git repositories: an installation may have brought them, a version never has any.
    pub allow_repositories: bool,
}

impl CheckoutOptions {
    /// For a tree that belongs to us alone, as in a container.
    pub fn owned() -> Self {
        Self { delete: true, force: true, ..Self::default() }
    }
}

/// What was done in a target.
#[derive(Debug, Clone, Default)]
pub struct Placed {
    /// Files, links and empty folders written.
    pub written: u64,
    /// Bytes of content written.
    pub written_bytes: u64,
    /// Files, links and folders that were already right.
    pub kept: u64,
    /// Files and links removed.
    pub removed: u64,
    /// Paths that an earlier version had, that are no longer wanted, and stayed: with edits, or without `delete`.
    pub left: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct CheckoutReport {
    /// The version.
    pub row: Row,
    /// Files, links and empty folders written.
    pub written: u64,
    /// Bytes of content written.
    pub written_bytes: u64,
    /// Files, links and folders that were already right.
    pub kept: u64,
    /// Files and links removed.
    pub removed: u64,
    /// Paths that an earlier version had, that are no longer wanted, and stayed: with edits, or without `delete`.
    pub left: Vec<String>,
    /// What it cost.
    pub requests: RequestCounts,
}

/// Why a target was not made equal to a version. Unless said otherwise the target is as before.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The version can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target has files that aren't ours, or were edited since.
    #[error("`{}` has {count} that this would overwrite: {shown}", target.display(), count = plural(*.count, "foreign or edited entry", "foreign or edited entries"))]
    Foreign {
        /// The target.
        target: PathBuf,
        /// How many.
        count: usize,
        /// The first ones, for people.
        shown: String,
    },
    /// The version has a link that points out of the target.
    #[error("the link `{path}` points out of the target, to `{link}`; nothing was changed")]
    ExternalLink {
        /// The link.
        path: String,
        /// Its target.
        link: String,
    },
    /// The version has paths of which only one would be left in the target.
    #[error("`{}` and `{}` are one file in this target, where case does not count{}; nothing was changed", crate::output::escape(.one), crate::output::escape(.other), and_more(*.more))]
    OneName {
        /// A path.
        one: String,
        /// Another.
        other: String,
        /// How many pairs there are besides.
        more: usize,
    },
    /// The version has a part of a Git repository, which no upload makes.
    #[error("`{}` in the version belongs to a Git repository, which could run programs here; nothing was changed", crate::output::escape(.path))]
    Repository {
        /// Where.
        path: String,
    },
    /// Something in the target can't be read or written.
    #[error("can't {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file system has not enough room.
    #[error("`{}` has not enough room: {needed} are needed, {free} are free", target.display(), needed = crate::output::size(*.needed), free = crate::output::size(*.free))]
    NoRoom {
        /// The target.
        target: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Another checkout works on the same target.
    #[error("another checkout is writing to `{}`", .0.display())]
    Busy(PathBuf),
    /// The target can't be one.
    #[error("`{}` can't be a target: {reason}", path.display())]
    BadTarget {
        /// The target.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A pack does not hold what the manifest says.
    #[error("the pack `{key}` is damaged: {reason}; `{path}` can't be restored from it; the target was not changed")]
    Damaged {
        /// The pack.
        key: String,
        /// What is wrong.
        reason: String,
        /// A file that is in it.
        path: String,
    },
    /// A pack does not hold what the manifest says, and there is no target.
    #[error("the pack `{key}` is damaged: {reason}; `{path}` can't be read from it")]
    Unreadable {
        /// The pack.
        key: String,
        /// What is wrong.
        reason: String,
        /// A file that is in it.
        path: String,
    },
    /// All that a file consists of is right, and it isn't the file.
    #[error("`{path}` is damaged: {reason}; the target was not changed")]
    NotTheFile {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// What was read of a cut file is not the file.
    #[error("`{path}` is damaged: {reason}; what was written of it is not the file")]
    Parts {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// What an earlier checkout left behind can't be read.
    #[error("the state in `{}` can't be used", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A background task died.
    #[error("a part of the checkout failed unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

impl CheckoutError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    /// Whether the file system ran full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
            || matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }
}

fn and_more(pairs: usize) -> String {
    if pairs == 0 { String::new() } else { format!(" (and {})", plural(pairs, "more pair", "more pairs")) }
}

/// What a checkout needs of its surroundings.
pub struct Fetcher<'a> {
    /// Where from.
    pub store: &'a Store,
    /// What this machine remembers.
    pub cache: &'a Cache,
    /// Memory.
    pub budget: &'a Budget,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
}

impl Fetcher<'_> {
    /// Makes `target` equal to the version that is meant.
    pub async fn checkout(
        &self,
        selector: &Selector,
        target: &Path,
        options: CheckoutOptions,
    ) -> Result<CheckoutReport, CheckoutError> {
        let before = self.store.counts();
        let mut outcome = self.attempt(selector, target, options).await;
        if let Err(
            CheckoutError::Store(StoreError::NotFound { .. })
            | CheckoutError::Version(VersionError::Store(StoreError::NotFound { .. })),
        ) = &outcome
        {
            // A collection removed what the ref that we read still needed: the ref of now needs something else.
            outcome = self.attempt(selector, target, options).await;
        }
        self.observer.finish();
        let mut report = outcome?;
        report.requests = self.store.counts() - before;
        Ok(report)
    }

    async fn attempt(
        &self,
        selector: &Selector,
        target: &Path,
        options: CheckoutOptions,
    ) -> Result<CheckoutReport, CheckoutError> {
        let read = version::existing_reference(self.store, &selector.name).await?;
        let row = version::select(&read.reference, selector)?.clone();
        let keys = Keys::new(&selector.name, read.reference.root);
        let loaded = version::load(self.store, self.cache, &keys, read.reference.root, &row).await?;
        self.materialize(&keys, row, Arc::new(loaded.manifest), target, options).await
    }

    /// Makes `target` equal to a version whose manifest was read.
    pub async fn materialize(
        &self,
        keys: &Keys,
        row: Row,
        manifest: Arc<Manifest>,
        target: &Path,
        options: CheckoutOptions,
    ) -> Result<CheckoutReport, CheckoutError> {
        let store = version::store_of(self.store, &row);
        let fetcher = Fetcher { store: &store, observer: self.observer.clone(), ..*self };
        let Placed { written, written_bytes, kept, removed, left } =
            fetcher.place(&Packs::Below(keys), manifest, target, options).await?;
        let requests = RequestCounts::default();
        Ok(CheckoutReport { row, written, written_bytes, kept, removed, left, requests })
    }

    /// Makes `target` equal to the tree of a manifest that was read, with content from these packs.
    pub async fn place(
        &self,
        packs: &Packs<'_>,
        manifest: Arc<Manifest>,
        target: &Path,
        options: CheckoutOptions,
    ) -> Result<Placed, CheckoutError> {
        if !options.allow_external_links {
            links::check(&manifest)?;
        }
        if !options.allow_repositories {
            repositories::check(&manifest)?;
        }
        let prepared = {
            let (manifest, target) = (manifest.clone(), target.to_owned());
            spawn_blocking(move || prepare(&manifest, &target, options)).await??
        };
        let Prepared { target, state, mut plan, stage } = prepared;
        let stage = Arc::new(stage);
        if let Err(error) = fetch::fetch(self, packs, &manifest, &stage).await {
            if error.is_full() {
                // What is staged can be fetched again; a full disk hurts others, too.
                stage.discard();
            }
            return Err(error);
        }
        spawn_blocking(move || {
            plan.look_again(&target)?;
            let placed = apply::apply(&target, &state, plan, &stage, &manifest)?;
            stage.discard();
            Ok(placed)
        })
        .await?
    }
}

/// The paths at which checkouts have put something in a folder.
pub fn written(folder: &Path) -> Result<BTreeSet<String>, CheckoutError> {
    let state = state::State::load(&target::Target::open(folder)?)?;
    Ok(state.paths().map(str::to_owned).collect())
}

/// A target that was looked at.
struct Prepared {
    target: target::Target,
    state: state::State,
    plan: plan::Plan,
    stage: stage::Stage,
}

fn prepare(manifest: &Arc<Manifest>, target: &Path, options: CheckoutOptions) -> Result<Prepared, CheckoutError> {
    let target = target::Target::open(target)?;
    let state = state::State::load(&target)?;
    let wanted = target.knows_no_case().then(|| spelling::Spellings::of(manifest)).transpose()?;
    if wanted.is_some() && !options.allow_external_links {
        links::check_spellings(manifest)?;
    }
    let plan = plan::plan(manifest, &target, &state, wanted, options)?;
    plan.refuse_if_foreign(&target)?;
    let stage = stage::Stage::open(&target, manifest, &plan)?;
    let needed = stage.missing_bytes();
    let free = target.free_bytes()?;
    if needed > free {
        return Err(CheckoutError::NoRoom { target: target.path().to_owned(), needed, free });
    }
    Ok(Prepared { target, state, plan, stage })
}
