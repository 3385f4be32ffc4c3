//! Keys that a folder of files has trouble with, on the embedded store.

use bytes::Bytes;
use workspace::settings::StoreSettings;
use workspace::store::{Condition, Store};

#[tokio::test]
async fn every_key_is_its_own_object() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::connect(&StoreSettings::embedded(folder.path(), "keys")).await.unwrap();
    store.create_bucket().await.unwrap();
    let long = "x".repeat(1024);
    let slashes = "/".repeat(1000);
    let escaped = "é".repeat(512);
    let mut keys = vec![
        "a",
        "a/",
        "a//",
        "a/b",
        "a b",
        "A",
        "..",
        "../..",
        ".",
        "./a",
        "/a",
        "a@",
        "a+",
        "a~",
        "%61",
        "^a",
        "a\\b",
        "*?\"<>|",
        "\u{e9}",
        "e\u{301}",
        "\u{1f600}",
        &long,
        &slashes,
        &escaped,
    ];
    for key in &keys {
        let put = store.put(key, Bytes::from((*key).to_owned()), Condition::Absent).await;
        put.unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }
    for key in &keys {
        assert_eq!(store.get(key).await.unwrap().body, *key, "{key:?}");
    }
    keys.sort_unstable();
    let listed: Vec<String> = store.list("").await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(listed, keys);
    store.delete_many(&listed).await.unwrap();
    assert!(store.list("").await.unwrap().is_empty());
}
