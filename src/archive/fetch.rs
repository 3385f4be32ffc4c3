//! A tree from the URL of its archive: no key, no bucket, no name.
//!
//! The end of the object is read first: it has the manifest. With it the archive is a pack like any other, and everything is
//! done as for a version from a bucket: what the target has is kept, the rest is fetched in ranges, verified, staged, and put in
//! place at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::ArchiveUrl;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::packs::Packs;
use crate::checkout::{CheckoutError, CheckoutOptions, Fetcher, Placed};
use crate::format::archive::Trailer;
use crate::format::manifest::Header;
use crate::format::{FormatError, Manifest};
use crate::output::Observer;
use crate::settings::Limits;
use crate::store::{Granted, RequestCounts, Store, StoreError};

/// What of the object is read first: the manifest of a tree of a thousand files or so is in it.
const END: u64 = 64 << 10;
/// What the object is called where a key is.
const KEY: &str = "archive";

/// Why a tree can't be had by a URL. The target is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FromUrlError {
    /// It is too late.
    #[error("the URL expired{}", expires.map(|time| format!(" at {time}")).unwrap_or_default())]
    Expired {
        /// When, if the URL says so.
        expires: Option<Timestamp>,
    },
    /// The server takes the URL for another one than was made.
    #[error(
        "{endpoint} does not accept the URL ({code}): it was altered or is not whole, or the keys that signed it are gone"
    )]
    Refused {
        /// The server.
        endpoint: String,
        /// Its code.
        code: String,
    },
    /// There is nothing.
    #[error("what the URL leads to is not there any more")]
    Missing,
    /// It is something else, or not whole.
    #[error("what the URL leads to is not the archive of a version")]
    Foreign(#[source] FormatError),
    /// The content is not what the manifest at its end says.
    #[error("the archive is damaged: {reason}; `{path}` can't be restored from it; the target was not changed")]
    Damaged {
        /// What is wrong.
        reason: String,
        /// A file that is in it.
        path: String,
    },
    /// The server sends the whole object whatever is asked for.
    #[error("{endpoint} does not serve parts of the archive, so its manifest can't be read first")]
    NoRanges {
        /// The server.
        endpoint: String,
    },
    /// The server can't be reached, or fails.
    #[error("the archive can't be fetched")]
    Server(#[source] StoreError),
    /// The target.
    #[error(transparent)]
    Target(CheckoutError),
    /// A background task died.
    #[error("a part of the work failed unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Downloaded {
    /// What the version says of itself.
    pub header: Header,
    /// What was done in the target.
    pub placed: Placed,
    /// What it cost.
    pub requests: RequestCounts,
}

/// What it takes of its surroundings.
pub struct FromUrl<'a> {
    /// How long and how often.
    pub limits: Limits,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Memory.
    pub budget: &'a Budget,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
}

impl FromUrl<'_> {
    /// Makes `target` equal to the tree of the archive.
    pub async fn download(
        &self,
        url: &ArchiveUrl,
        target: &Path,
        options: CheckoutOptions,
    ) -> Result<Downloaded, FromUrlError> {
        let meaning = |error| meaning(url, error);
        let store = Store::granted(&Granted {
            addresses: BTreeMap::from([(KEY.to_owned(), url.expose().to_owned())]),
            expires: url.expires().unwrap_or(Timestamp::MAX),
            limits: self.limits.clone(),
            ca_bundle: self.ca_bundle.clone(),
        })
        .map_err(meaning)?;
        let manifest = Arc::new(manifest(&store, url).await?);
        let cache = Cache::at(None);
        let fetcher = Fetcher { store: &store, cache: &cache, budget: self.budget, observer: self.observer.clone() };
        let placed = fetcher.place(&Packs::One(KEY), manifest.clone(), target, options).await;
        self.observer.finish();
        let placed = placed.map_err(|error| match error {
            CheckoutError::Store(error) => meaning(error),
            CheckoutError::Damaged { reason, path, .. } => FromUrlError::Damaged { reason, path },
            other => FromUrlError::Target(other),
        })?;
        Ok(Downloaded { header: manifest.header.clone(), placed, requests: store.counts() })
    }
}

/// The manifest at the end of the object.
async fn manifest(store: &Store, url: &ArchiveUrl) -> Result<Manifest, FromUrlError> {
    let meaning = |error| meaning(url, error);
    let (end, size) = store.get_end(KEY, END).await.map_err(meaning)?;
    let trailer = Trailer::parse(&end, size).map_err(FromUrlError::Foreign)?;
    let wanted = trailer.frame();
    let begin = size - end.len() as u64;
    let frame = match wanted.start.checked_sub(begin).and_then(|at| usize::try_from(at).ok()) {
        Some(at) => end.slice(at..),
        None => store.get_range(KEY, wanted).await.map_err(meaning)?,
    };
    spawn_blocking(move || trailer.read(&frame)).await?.map_err(FromUrlError::Foreign)
}

/// What a failure means to whoever has a URL and nothing else.
fn meaning(url: &ArchiveUrl, error: StoreError) -> FromUrlError {
    let endpoint = url.endpoint().to_owned();
    match error {
        StoreError::GrantExpired { .. } => FromUrlError::Expired { expires: url.expires() },
        StoreError::BadCredentials { code, .. } | StoreError::Server { status: 400 | 401 | 403, code, .. } => {
            FromUrlError::Refused { endpoint, code }
        }
        StoreError::AccessDenied { .. } => FromUrlError::Refused { endpoint, code: "AccessDenied".to_owned() },
        StoreError::NotFound { .. } | StoreError::NoBucket { .. } | StoreError::Server { status: 404 | 410, .. } => {
            FromUrlError::Missing
        }
        StoreError::NoRanges { .. } => FromUrlError::NoRanges { endpoint },
        error => FromUrlError::Server(error),
    }
}
