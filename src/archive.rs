//! Archives: a whole version as one object that stock tools read, and such an object read back by its URL.
//!
//! An archive is written once for a version, when somebody asks for its URL, and belongs to the version's row: a collection
//! keeps it as long as the row. A version's pack is never given out instead, even where it is the only one: a manifest says
//! where contents lie, and nothing of the names, modes and times in the headers around them, so it can't prove that unpacking
//! gives the tree; and a pack has no manifest at its end for whoever reads by URL.

mod content;
mod fetch;
mod send;
mod url;

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{self, CheckoutError};
use crate::format::archive::{ArchiveBuilder, BuildError, TRAILER, Trailer, pieces};
use crate::format::{FormatError, Keys, Manifest, Row};
use crate::names::Selector;
use crate::output::{Observer, Phase};
use crate::store::{Store, StoreError};
use crate::version::{self, VersionError};

use content::Chunk;
pub use fetch::{Downloaded, FromUrl, FromUrlError};
use send::Sender;
pub use send::Unfinished;
pub use url::{ArchiveUrl, BadUrl};

/// Ranges of packs that are fetched ahead; the byte budget may be tighter.
const AHEAD: usize = 4;

/// Why there is no archive. None was left half done, and nothing else was changed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The version can't be read.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pack does not hold what the manifest says.
    #[error(transparent)]
    Content(#[from] CheckoutError),
    /// It can't be built.
    #[error("the archive of the version can't be built")]
    Build(#[from] BuildError),
    /// It would have too many parts.
    #[error("a tree of {} is too large for one archive", crate::output::size(*.bytes))]
    TooLarge {
        /// Bytes of its content.
        bytes: u64,
    },
    /// The version went while its archive was written.
    #[error("`{selector}` was removed meanwhile")]
    Gone {
        /// The version.
        selector: Selector,
    },
    /// A background task died.
    #[error("a part of the work failed unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

/// An archive that is there.
#[derive(Debug, Clone)]
pub struct Archived {
    /// The version.
    pub row: Row,
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it was written just now.
    pub written: bool,
}

/// What writing an archive needs of its surroundings.
pub struct Archivist<'a> {
    /// Where versions and archives are.
    pub store: &'a Store,
    /// What this machine remembers.
    pub cache: &'a Cache,
    /// Memory.
    pub budget: &'a Budget,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
    /// What is under way, for whoever interrupts it: then it has to be taken back.
    pub unfinished: &'a Unfinished,
}

impl Archivist<'_> {
    /// The archive of a version: the one that is there, or a new one.
    pub async fn archive(&self, selector: &Selector) -> Result<Archived, ArchiveError> {
        let mut outcome = self.attempt(selector).await;
        if let Err(
            ArchiveError::Store(StoreError::NotFound { .. })
            | ArchiveError::Version(VersionError::Store(StoreError::NotFound { .. })),
        ) = &outcome
        {
            // A collection removed what the ref that was read still needed: the ref of now needs something else.
            outcome = self.attempt(selector).await;
        }
        self.observer.finish();
        outcome
    }

    async fn attempt(&self, selector: &Selector) -> Result<Archived, ArchiveError> {
        let read = version::existing_reference(self.store, &selector.name).await?;
        let row = version::select(&read.reference, selector)?.clone();
        let root = read.reference.root;
        let keys = Keys::new(&selector.name, root);
        let key = keys.archive(row.id);
        let manifest = version::load(self.store, self.cache, &keys, root, &row).await?.manifest;
        // Stock tools, which unpack it, refuse nothing. An earlier release may have written the archive that is there.
        checkout::repositories::check(&manifest)?;
        if let Some(bytes) = self.there(&key, &row).await? {
            return Ok(Archived { row, key, bytes, written: false });
        }
        let bytes = match self.write(&keys, &key, &row, Arc::new(manifest)).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.unfinished.take_back().await;
                // The reply to the last request may have been lost: then the archive is there, and whole.
                match self.there(&key, &row).await {
                    Ok(Some(bytes)) => bytes,
                    _ => return Err(error),
                }
            }
        };
        // A deletion or collection that began earlier may have listed what is there before the archive was.
        let now = version::read_reference(self.store, &selector.name).await?;
        let kept =
            now.is_some_and(|now| now.reference.root == root && now.reference.rows.iter().any(|it| it.id == row.id));
        if !kept {
            self.store.delete_many(&[key]).await?;
            return Err(ArchiveError::Gone { selector: selector.clone() });
        }
        Ok(Archived { row, key, bytes, written: true })
    }

    /// The size of the version's archive, if it is there: its last bytes say whether it is whole and whose it is, which a
    /// HEAD would not.
    async fn there(&self, key: &str, row: &Row) -> Result<Option<u64>, ArchiveError> {
        let (end, size) = match self.store.get_end(key, TRAILER as u64).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        match Trailer::parse(&end, size) {
            Ok(trailer) if trailer.tree == row.tree => Ok(Some(size)),
            Err(source @ FormatError::Newer { .. }) => {
                Err(VersionError::Object { what: "archive", key: key.to_owned(), source }.into())
            }
            // Not written by us: it is written over.
            _ => Ok(None),
        }
    }

    /// Writes the archive: packs are read ahead while what came is compressed and what is compressed is sent.
    async fn write(&self, keys: &Keys, key: &str, row: &Row, manifest: Arc<Manifest>) -> Result<u64, ArchiveError> {
        self.observer.phase(Phase { verb: "Archiving", total: Some(manifest.header.bytes) });
        let pieces = pieces(&manifest);
        let chunks = content::chunks(&manifest, &pieces);
        let mut sender = Sender::new(self.store, key, &manifest, self.budget, self.unfinished).await?;
        let builder = {
            let (manifest, id) = (manifest.clone(), row.id);
            spawn_blocking(move || ArchiveBuilder::new(&manifest, id)).await??
        };
        let source = version::store_of(self.store, row);
        let (full, mut waiting) = mpsc::channel::<Chunk>(1);
        let read = async move {
            let mut chunks = stream::iter(chunks)
                .map(|wanted| content::fetch(self, &source, keys, &manifest, wanted))
                .buffered(AHEAD);
            while let Some(chunk) = chunks.next().await {
                if full.send(chunk?).await.is_err() {
                    // The other side has failed, and says why.
                    break;
                }
            }
            Ok::<_, ArchiveError>(())
        };
        let built = async {
            let mut builder = builder;
            while let Some(chunk) = waiting.recv().await {
                let bytes = chunk.bytes();
                let (rest, taken) = spawn_blocking(move || {
                    let mut builder = builder;
                    chunk.add_to(&mut builder).map(|taken| (builder, taken))
                })
                .await??;
                builder = rest;
                sender.send(builder.take()).await?;
                drop(taken);
                self.observer.advance(bytes);
            }
            Ok::<_, ArchiveError>(builder)
        };
        let outcome = futures::future::try_join(read, built).await;
        let finished = match outcome {
            Ok(((), builder)) => spawn_blocking(move || builder.finish()).await?.map_err(ArchiveError::from),
            Err(error) => Err(error),
        };
        match finished {
            Ok(finished) => {
                sender.finish(finished.bytes).await?;
                Ok(finished.size)
            }
            Err(error) => {
                sender.stop().await;
                Err(error)
            }
        }
    }
}
