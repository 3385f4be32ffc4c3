//! A bit that flips in memory on the way from a file to the bucket: nothing is published.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{FLIP, Stage};
use crate::budget::Budget;
use crate::cache::Cache;
use crate::format::{Keys, keys};
use crate::output::{Observer, Silent};
use crate::publish::{Publication, PublishError, Publisher, Report};
use crate::settings::StoreSettings;
use crate::store::Store;
use crate::store::bucket::WriteConsent;
use crate::version;

async fn publish(store: &Store, folder: &Path) -> Result<Report, PublishError> {
    let publisher = Publisher {
        store,
        cache: &Cache::default(),
        budget: &Budget::default(),
        observer: Arc::new(Silent) as Arc<dyn Observer>,
        consent: WriteConsent { yes: true, single_writer: false, ask: &|_| false },
        committing: Arc::new(AtomicBool::new(false)),
    };
    let published = publisher.publish(&Publication::of("app".parse().unwrap(), folder.to_owned())).await;
    assert!(published.is_ok() || !publisher.committing.load(Ordering::SeqCst));
    published
}

/// Every pack, and every ref. Not manifests: one that was under way when the upload failed may arrive after it was deleted, and
/// waits for the next collection.
async fn bucket(store: &Store) -> Vec<(String, u64)> {
    let mut all = store.list("data/").await.unwrap();
    all.extend(store.list(keys::REFS).await.unwrap());
    all.retain(|object| !object.key.contains("/versions/"));
    all.into_iter().map(|object| (object.key, object.size)).collect()
}

async fn flipped(stage: Stage, message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings::embedded(&folder.path().join("data"), "workspaces");
    let store = Store::connect(&settings).await.unwrap();
    store.create_bucket().await.unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("a.js"), "first").unwrap();

    // A new name, then a version on top of another: the claim goes, and so does what was sent.
    for round in 0..2 {
        let before = bucket(&store).await;
        std::fs::write(tree.join("b.js"), format!("text {round}\n").repeat(500)).unwrap();
        *FLIP.lock().unwrap() = Some(stage);
        let error = publish(&store, &tree).await.unwrap_err();
        assert_eq!(*FLIP.lock().unwrap(), None, "no bit was flipped in {stage:?}");
        assert_eq!(error.to_string(), message);
        assert_eq!(bucket(&store).await, before, "something was left of {stage:?}");

        // Memory that is well again.
        assert_eq!(publish(&store, &tree).await.unwrap().number, round + 1);
        let read = version::read_reference(&store, &"app".parse().unwrap()).await.unwrap().unwrap().reference;
        let keys = Keys::new(&"app".parse().unwrap(), read.root);
        let row = read.current_row().unwrap();
        version::load(&store, &Cache::default(), &keys, read.root, row).await.unwrap();
    }
}

#[tokio::test]
async fn a_bit_that_flips_in_a_content_after_it_was_hashed() {
    flipped(
        Stage::Content,
        "a pack was damaged in the memory of this machine before it was sent; nothing was published",
    )
    .await;
}

#[tokio::test]
async fn a_bit_that_flips_in_a_pack() {
    flipped(Stage::Pack, "a pack was damaged in the memory of this machine before it was sent; nothing was published")
        .await;
}

#[tokio::test]
async fn a_bit_that_flips_in_a_manifest() {
    flipped(
        Stage::Manifest,
        "the manifest was damaged in the memory of this machine before it was sent; nothing was published",
    )
    .await;
}

#[tokio::test]
async fn a_bit_that_flips_in_a_ref() {
    flipped(
        Stage::Reference,
        "the ref was damaged in the memory of this machine before it was sent; nothing was published",
    )
    .await;
}
