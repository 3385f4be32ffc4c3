//! The store's contract, on the embedded store in this process, on the same over TCP, and on a server others wrote.

#[path = "support/contract.rs"]
mod contract;

use std::path::Path;

use workspace::settings::{Backend, Limits, StoreSettings};
use workspace::store::Store;

fn embedded(directory: &Path, bucket: &str) -> StoreSettings {
    StoreSettings {
        backend: Backend::Embedded { directory: directory.to_owned() },
        bucket: bucket.to_owned(),
        limits: Limits::default(),
        ca_bundle: None,
    }
}

async fn holds(settings: impl Fn(&str) -> StoreSettings) {
    for (name, check) in contract::CHECKS {
        eprintln!("{name}");
        let store = Store::connect(&settings(&name.replace('_', "-"))).await.unwrap();
        assert!(!store.bucket_exists().await.unwrap());
        store.create_bucket().await.unwrap();
        check(store).await;
    }
}

#[tokio::test]
async fn embedded_in_process() {
    let folder = tempfile::tempdir().unwrap();
    holds(|bucket| embedded(folder.path(), bucket)).await;
}
