//! Publishing and fetching in this process, on an embedded store of the test's own.

#![allow(dead_code, reason = "no test file uses everything")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::checkout::{CheckoutError, CheckoutOptions, CheckoutReport, Fetcher};
use workspace::names::Selector;
use workspace::output::Silent;
use workspace::publish::{Look, Publication, PublishError, Publisher, Report, Session};
use workspace::settings::StoreSettings;
use workspace::store::Store;
use workspace::store::bucket::WriteConsent;

/// A store, a cache, and a folder for everything else.
pub struct Engine {
    /// The store.
    pub store: Store,
    /// What is remembered; replace it to be another machine.
    pub cache: Cache,
    folder: TempDir,
    budget: Budget,
}

impl Engine {
    /// With nothing in it.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::embedded(&folder.path().join("data"), "workspaces");
        let store = Store::connect(&settings).await.unwrap();
        Self { store, cache: Cache::at(Some(folder.path().join("cache"))), folder, budget: Budget::default() }
    }

    /// A new folder of this name.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The publication of a folder, to be changed by the test.
    pub fn publication(name: &str, folder: &Path) -> Publication {
        Publication::of(name.parse().unwrap(), folder.to_owned())
    }

    fn publisher(&self) -> Publisher<'_> {
        Publisher {
            store: &self.store,
            cache: &self.cache,
            budget: &self.budget,
            observer: Arc::new(Silent),
            consent: WriteConsent { yes: false, single_writer: false, ask: &|_| false },
            committing: Arc::default(),
        }
    }

    /// Publishes.
    pub async fn publish(&self, publication: &Publication) -> Result<Report, PublishError> {
        self.publisher().publish(publication).await
    }

    /// Publishes as a watch does, which keeps what it knows.
    pub async fn publish_again(&self, publication: &Publication, session: &mut Session, thorough: bool) -> Report {
        self.publisher().publish_again(publication, session, thorough).await.unwrap()
    }

    /// A watch's first look at a folder.
    pub fn look(&self, publication: &Publication) -> Look {
        Look::take(&publication.folder, &publication.source, &self.cache).unwrap()
    }

    /// Publishes a folder under a name.
    pub async fn upload(&self, name: &str, folder: &Path) -> Report {
        self.publish(&Self::publication(name, folder)).await.unwrap()
    }

    /// Fetches a version.
    pub async fn checkout(
        &self,
        selector: &str,
        target: &Path,
        options: CheckoutOptions,
    ) -> Result<CheckoutReport, CheckoutError> {
        let selector: Selector = selector.parse().unwrap();
        let fetcher =
            Fetcher { store: &self.store, cache: &self.cache, budget: &self.budget, observer: Arc::new(Silent) };
        fetcher.checkout(&selector, target, options).await
    }
}
