//! Versions by a grant: a file in place of the store's keys, rewritten while it lasts by whoever started the container.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{CheckoutError, CheckoutOptions, Fetcher};
use crate::format::grant::{Grant, MAX_BYTES};
use crate::format::{FormatError, Keys};
use crate::names::{Selector, Version, WorkspaceName};
use crate::output::Output;
use crate::run::{Resolved, Source, SourceError};
use crate::settings::Fetching;
use crate::store::{Granted, Store, StoreError};
use crate::version::{self, VersionError};

/// How long to wait for a new grant when the one that is there has expired.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often to look whether there is one.
const LOOK: Duration = Duration::from_secs(1);

/// How often to look whether another version is granted.
const FOLLOW: Duration = Duration::from_millis(50);

/// Why a grant can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrantError {
    /// The file can't be read.
    #[error("can't read the grant `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't what it should be.
    #[error("the grant `{}` can't be used", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// It is for something else.
    #[error("the grant is for `{found}` and `{asked}` is to run")]
    OtherWorkspace {
        /// What it is for.
        found: WorkspaceName,
        /// What was asked for.
        asked: WorkspaceName,
    },
    /// Another version was granted while this one was about to be fetched.
    #[error("the grant is for another version now")]
    OtherVersion,
}

/// The one version that a file grants.
pub(super) struct GrantSource {
    path: PathBuf,
    name: Option<WorkspaceName>,
    fetching: Fetching,
    output: Output,
}

impl GrantSource {
    pub(super) fn new(path: PathBuf, name: Option<WorkspaceName>, fetching: Fetching, output: Output) -> Self {
        Self { path, name, fetching, output }
    }

    /// What the grant is for, where nothing else says what is to run.
    pub(super) fn selector(&self) -> Result<Selector, GrantError> {
        let grant = self.read()?;
        Ok(Selector { name: grant.name, version: Version::Number(grant.row.number) })
    }

    fn read(&self) -> Result<Grant, GrantError> {
        Ok(self.read_with_bytes()?.0)
    }

    /// The bytes too: they tell whether the file was rewritten since, which no time does for sure.
    fn read_with_bytes(&self) -> Result<(Grant, Vec<u8>), GrantError> {
        let path = &self.path;
        let failed = |source| GrantError::Io { path: path.clone(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MAX_BYTES as u64), &mut bytes).map_err(failed)?;
        let grant = Grant::parse(&bytes).map_err(|source| GrantError::Format { path: path.clone(), source })?;
        match &self.name {
            Some(asked) if *asked != grant.name => {
                Err(GrantError::OtherWorkspace { found: grant.name, asked: asked.clone() })
            }
            _ => Ok((grant, bytes)),
        }
    }

    async fn attempt(&self, grant: Grant, dir: &Path) -> Result<(), CheckoutError> {
        let store = Store::granted(&Granted {
            addresses: grant.addresses,
            expires: grant.expires,
            limits: self.fetching.limits.clone(),
            ca_bundle: self.fetching.ca_bundle.clone(),
        })?;
        let Fetching { limits, ca_bundle, cdn, .. } = &self.fetching;
        let store = store.with_cdn(cdn.as_ref(), limits, ca_bundle.as_deref())?;
        let cache = Cache::at(self.fetching.cache_directory.clone());
        let keys = Keys::new(&grant.name, grant.root);
        let manifest = version::load(&store, &cache, &keys, grant.root, &grant.row).await?.manifest;
        let budget = Budget::default();
        let observer = self.output.observer();
        let fetcher = Fetcher { store: &store, cache: &cache, budget: &budget, observer: observer.clone() };
        let outcome =
            fetcher.materialize(&keys, grant.row, manifest.into(), dir, CheckoutOptions::owned()).await.map(|_| ());
        observer.finish();
        outcome
    }

    /// Waits until the file is another one than it was. False: not in time.
    async fn renewed(&self, before: &[u8], deadline: Instant) -> bool {
        while Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
            // A file that is being replaced may be missing or half there: looked at again.
            if self.read_with_bytes().is_ok_and(|(_, bytes)| bytes != before) {
                return true;
            }
        }
        false
    }
}

impl Source for GrantSource {
    const COSTS_NOTHING: bool = true;

    async fn resolve(&self) -> Result<Resolved, SourceError> {
        match self.read() {
            Ok(grant) => Ok(Resolved { number: grant.row.number, row: grant.row.id.to_string(), plan: grant.plan }),
            Err(error @ (GrantError::OtherWorkspace { .. } | GrantError::OtherVersion)) => {
                Err(SourceError::Refused(error.into()))
            }
            Err(error) => Err(SourceError::Unavailable(error.into())),
        }
    }

    async fn fetch(&self, version: &Resolved, dir: &Path) -> Result<(), SourceError> {
        super::refuse_foreign(dir)?;
        let refused = |error: anyhow::Error| SourceError::Refused(error);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (grant, bytes) = self.read_with_bytes().map_err(|error| refused(error.into()))?;
            if grant.row.id.to_string() != version.row {
                return Err(refused(GrantError::OtherVersion.into()));
            }
            let error = match Box::pin(self.attempt(grant, dir)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let expired = matches!(
                &error,
                CheckoutError::Store(StoreError::GrantExpired { .. })
                    | CheckoutError::Version(VersionError::Store(StoreError::GrantExpired { .. }))
            );
            if !expired {
                return Err(refused(error.into()));
            }
            self.output.warn(&format!("{error}; waiting for a new one"));
            if !self.renewed(&bytes, deadline).await {
                let waited = format!("no new grant came within {} s", PATIENCE.as_secs());
                return Err(refused(anyhow::Error::new(error).context(waited)));
            }
        }
    }

    async fn next(&self, row: &str) -> Resolved {
        let mut told = false;
        loop {
            tokio::time::sleep(FOLLOW).await;
            match self.read() {
                Ok(grant) if grant.row.id.to_string() != row => {
                    return Resolved { number: grant.row.number, row: grant.row.id.to_string(), plan: grant.plan };
                }
                Ok(_) => told = false,
                // One that is being replaced may be missing or half there for a moment.
                Err(error @ (GrantError::OtherWorkspace { .. } | GrantError::Format { .. })) if !told => {
                    self.output.warn(&error.to_string());
                    told = true;
                }
                Err(_) => {}
            }
        }
    }
}
