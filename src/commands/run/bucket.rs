//! Versions from the bucket that the settings name, and the ones that come after them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{CheckoutError, CheckoutOptions, Fetcher};
use crate::dependencies::Snapshots;
use crate::format::reference::MAX_READ;
use crate::format::{Keys, Manifest, Row, keys};
use crate::names::{Selector, Version};
use crate::output::Output;
use crate::run::{Resolved, Source, SourceError};
use crate::settings::Settings;
use crate::store::{ETag, Store, StoreError};
use crate::version::{self, Read, VersionError};

/// Between two looks while versions come.
const QUICK: Duration = Duration::from_millis(150);
/// For so long after one has come.
const QUICK_FOR: Duration = Duration::from_mins(5);
/// Between two looks when none has come for a while.
const AT_EASE: Duration = Duration::from_secs(1);
/// Between two looks at a store that fails, at most.
const LONGEST: Duration = Duration::from_secs(15);

pub(super) struct BucketSource {
    settings: Settings,
    selector: Selector,
    output: Output,
    store: OnceCell<Store>,
    /// What was found of the version that is to be fetched next.
    found: Mutex<Option<Found>>,
    followed: Mutex<Followed>,
}

/// A version whose manifest was read while it was looked for.
struct Found {
    keys: Keys,
    row: Row,
    manifest: Arc<Manifest>,
}

/// What is known of the ref that is followed.
struct Followed {
    etag: Option<ETag>,
    /// When a version came last.
    since: Instant,
    failures: u32,
}

/// How long to wait before the next look.
fn pace(since: Duration, failures: u32) -> Duration {
    let pause = if since < QUICK_FOR { QUICK } else { AT_EASE };
    pause.saturating_mul(1 << failures.min(8)).min(LONGEST)
}

impl BucketSource {
    pub(super) fn new(settings: Settings, selector: Selector, output: Output) -> Self {
        let followed = Followed { etag: None, since: Instant::now(), failures: 0 };
        Self {
            settings,
            selector,
            output,
            store: OnceCell::new(),
            found: Mutex::new(None),
            followed: Mutex::new(followed),
        }
    }

    async fn store(&self) -> Result<&Store, StoreError> {
        self.store.get_or_try_init(|| Store::open(&self.settings)).await
    }

    fn cache(&self) -> Cache {
        Cache::at(self.settings.cache_directory.clone())
    }

    /// Another version than this row's, if one is meant by now.
    async fn look(&self, current: &str) -> Result<Option<Resolved>, VersionError> {
        let store = self.store().await?;
        let name = &self.selector.name;
        let key = keys::reference(name);
        let mut followed = self.followed.lock().await;
        let object = store.get_if_changed(&key, followed.etag.as_ref(), MAX_READ).await?;
        let Some(object) = object else { return Ok(None) };
        let Read { reference, etag } = version::parse_reference(store, key, object).await?;
        if !reference.is_visible() {
            return Err(version::missing(store, name).await);
        }
        let row = version::select(&reference, &self.selector)?.clone();
        if row.id.to_string() == current {
            followed.etag = Some(etag);
            return Ok(None);
        }
        let (cache, keys) = (self.cache(), Keys::new(name, reference.root));
        let loaded = version::load(store, &cache, &keys, reference.root, &row).await?;
        // Each version leaves a delta behind, and this may go on for weeks.
        cache.keep_manifests(reference.root, |id| id == row.base || Some(id) == row.delta);
        let plan = loaded.manifest.header.plan.clone();
        let resolved = Resolved { number: row.number, row: row.id.to_string(), plan };
        // Should it not be taken, it is found again.
        (followed.etag, followed.since) = (None, Instant::now());
        *self.found.lock().await = Some(Found { keys, row, manifest: Arc::new(loaded.manifest) });
        Ok(Some(resolved))
    }
}

impl Source for BucketSource {
    const HAS_SNAPSHOTS: bool = true;

    async fn resolve(&self) -> Result<Resolved, SourceError> {
        let look = async {
            let store = self.store().await?;
            let read = version::existing_reference(store, &self.selector.name).await?;
            let row = version::select(&read.reference, &self.selector)?.clone();
            let keys = Keys::new(&self.selector.name, read.reference.root);
            let header = version::load_header(store, &keys, &row).await?;
            Ok::<_, VersionError>(Resolved { number: row.number, row: row.id.to_string(), plan: header.plan })
        };
        Box::pin(look).await.map_err(|error| match error {
            // Gone on purpose: what was fetched earlier is not meant to run any more.
            VersionError::NoWorkspace { .. } | VersionError::NoVersion { .. } => SourceError::Refused(error.into()),
            // An outage, expired keys, a damaged object: none is a reason not to start what is here.
            VersionError::Store(_)
            | VersionError::Object { .. }
            | VersionError::BadMemory { .. }
            | VersionError::NoPath { .. } => SourceError::Unavailable(error.into()),
        })
    }

    async fn fetch(&self, version: &Resolved, dir: &Path) -> Result<(), SourceError> {
        super::refuse_foreign(dir)?;
        let found = self.found.lock().await.take().filter(|found| found.row.id.to_string() == version.row);
        let fetch = async {
            let (cache, budget) = (self.cache(), Budget::default());
            let store = self.store().await?;
            let observer = self.output.observer();
            let fetcher = Fetcher { store, cache: &cache, budget: &budget, observer: observer.clone() };
            let options = CheckoutOptions::owned();
            if let Some(Found { keys, row, manifest }) = found {
                let outcome = Box::pin(fetcher.materialize(&keys, row, manifest, dir, options)).await;
                observer.finish();
                match outcome {
                    // Collected meanwhile: looked up anew.
                    Err(CheckoutError::Store(StoreError::NotFound { .. })) => {}
                    other => return other,
                }
            }
            // By its number, so that a version published meanwhile doesn't come with this one's plan.
            let selector = Selector { name: self.selector.name.clone(), version: Version::Number(version.number) };
            Box::pin(fetcher.checkout(&selector, dir, options)).await
        };
        let report = Box::pin(fetch).await.map_err(|error| SourceError::Refused(error.into()))?;
        if report.row.id.to_string() != version.row {
            return Err(SourceError::Refused(anyhow::anyhow!("the workspace was deleted and made anew meanwhile")));
        }
        Ok(())
    }

    async fn restore(&self, key: &str, dir: &Path) -> anyhow::Result<Option<u64>> {
        let (cache, budget) = (self.cache(), Budget::default());
        let snapshots =
            Snapshots::of(self.store().await?, &self.selector.name, &cache, &budget, self.output.observer());
        let report = snapshots.restore(key, dir).await?;
        Ok(report.map(|report| report.row.files))
    }

    async fn save(&self, key: &str, dir: &Path) -> anyhow::Result<Option<u64>> {
        let (cache, budget) = (self.cache(), Budget::default());
        let snapshots =
            Snapshots::of(self.store().await?, &self.selector.name, &cache, &budget, self.output.observer());
        let report = snapshots.save(key, dir).await?;
        Ok(report.map(|report| report.files))
    }

    async fn next(&self, row: &str) -> Resolved {
        loop {
            let pause = {
                let followed = self.followed.lock().await;
                pace(followed.since.elapsed(), followed.failures)
            };
            tokio::time::sleep(pause).await;
            let looked = Box::pin(self.look(row)).await;
            let mut followed = self.followed.lock().await;
            match looked {
                Ok(found) => {
                    if followed.failures > 0 {
                        self.output.note("workspace: the store answers again");
                    }
                    followed.failures = 0;
                    if let Some(resolved) = found {
                        return resolved;
                    }
                }
                Err(error) => {
                    followed.failures = followed.failures.saturating_add(1);
                    if followed.failures == 1 {
                        self.output.warn(&format!("can't look for the next version, what runs goes on: {error}"));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_frequent_while_versions_come() {
        let seconds = Duration::from_secs;
        assert_eq!(pace(seconds(0), 0), QUICK);
        assert_eq!(pace(seconds(299), 0), QUICK);
        assert_eq!(pace(seconds(300), 0), AT_EASE);
        assert_eq!(pace(seconds(0), 3), QUICK * 8);
        assert_eq!(pace(seconds(0), 100), LONGEST);
    }
}
