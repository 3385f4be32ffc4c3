//! The store's contract, on the embedded store in this process, on the same over TCP, and on a server others wrote.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/contract.rs"]
mod contract;
#[path = "support/servers.rs"]
mod servers;

use servers::Server;
use ulid::Ulid;
use workspace::cache::Cache;
use workspace::format::Reference;
use workspace::settings::StoreSettings;
use workspace::store::bucket::{Bucket, BucketError, Level, WriteConsent};
use workspace::store::{Condition, Store, StoreError};
use workspace::version::all_references_cached;

/// Connects and creates the bucket. A server that has just started may need a moment until it can.
async fn fresh(settings: &StoreSettings) -> Store {
    let store = Store::connect(settings).await.unwrap();
    for _ in 0..100 {
        match store.create_bucket().await {
            Ok(()) => return store,
            Err(error) if error.is_retryable() => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the server never became ready");
}

async fn holds(settings: impl Fn(&str) -> StoreSettings) {
    fresh(&settings("warm-up")).await;
    for (name, check) in contract::CHECKS {
        let settings = settings(&name.replace('_', "-"));
        assert!(!Store::connect(&settings).await.unwrap().bucket_exists().await.unwrap());
        let checked = tokio::spawn(check(fresh(&settings).await)).await;
        assert!(checked.is_ok(), "the check `{name}` failed");
    }
}

/// Many create one key: exactly one may win.
async fn race_of_creators(stores: &[Store], creators: usize, at_once: usize) {
    use futures::StreamExt;
    let store = |number: usize| stores[number % stores.len()].clone();
    let outcomes: Vec<_> = futures::stream::iter(0..creators)
        .map(|number| {
            let store = store(number);
            tokio::spawn(
                async move { store.put_once("race", format!("creator {number}").into(), Condition::Absent).await },
            )
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    let mut won = 0;
    for outcome in outcomes {
        match outcome.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::Precondition { .. }), "{error:?}"),
        }
    }
    assert_eq!(won, 1);
}

/// Several add to one counter by compare and swap: none may be lost.
async fn race_of_increments(stores: &[Store], writers: usize, rounds: u64) {
    stores[0].put("counter", "0".into(), Condition::None).await.unwrap();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = stores[writer % stores.len()].clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < rounds {
                    let object = store.get("counter").await.unwrap();
                    let value: u64 = std::str::from_utf8(&object.body).unwrap().parse().unwrap();
                    let next = (value + 1).to_string();
                    match store.put_once("counter", next.into(), Condition::Matches(object.etag)).await {
                        Ok(_) => done += 1,
                        Err(StoreError::Precondition { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let total = writers as u64 * rounds;
    assert_eq!(stores[0].get("counter").await.unwrap().body, total.to_string());
}

fn consent(yes: bool) -> WriteConsent<'static> {
    WriteConsent { yes, single_writer: false, ask: &|_| false }
}

/// The first writer probes; the second finds the record; a bucket of somebody else's needs consent.
async fn opens_for_writing(settings: impl Fn(&str) -> StoreSettings, delete_if_match: bool) {
    let store = Store::connect(&settings("opened")).await.unwrap();
    assert!(matches!(Bucket::open_for_reading(&store).await, Err(BucketError::Store(StoreError::NoBucket { .. }))));
    let first = Bucket::open_for_writing(&store, &consent(false)).await.unwrap();
    assert_eq!((first.record.level, first.record.delete_if_match), (Level::Cas, delete_if_match));
    let keys: Vec<_> = store.list("").await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(keys, ["bucket.json"], "the probe left something behind");
    let before = store.counts();
    assert_eq!(Bucket::open_for_writing(&store, &consent(false)).await.unwrap(), first);
    assert_eq!(store.counts().requests - before.requests, 1);
    assert_eq!(Bucket::open_for_reading(&store).await.unwrap(), Some(first));

    let foreign = fresh(&settings("foreign")).await;
    foreign.put("holiday/photo.jpg", "x".into(), Condition::None).await.unwrap();
    let refused = Bucket::open_for_writing(&foreign, &consent(false)).await;
    assert!(matches!(refused, Err(BucketError::NotOurs { example, .. }) if example == "holiday/photo.jpg"));
    Bucket::open_for_writing(&foreign, &consent(true)).await.unwrap();
}

/// Several first writers at once agree on one record.
async fn first_writers_agree(settings: impl Fn(&str) -> StoreSettings) {
    let store = fresh(&settings("agreed")).await;
    let (one, other, consent) = (store.clone(), store.clone(), consent(false));
    let one = Box::pin(Bucket::open_for_writing(&one, &consent));
    let other = Box::pin(Bucket::open_for_writing(&other, &consent));
    let (one, other) = tokio::join!(one, other);
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn embedded_in_process() {
    let folder = tempfile::tempdir().unwrap();
    holds(|bucket| StoreSettings::embedded(folder.path(), bucket)).await;
}

#[tokio::test]
async fn embedded_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    holds(|bucket| server.settings(bucket)).await;
}

#[tokio::test]
async fn seaweedfs() {
    let server = Server::seaweedfs();
    holds(|bucket| server.settings(bucket)).await;
    let store = fresh(&server.settings("races")).await;
    race_of_creators(std::slice::from_ref(&store), 50, 8).await;
    opens_for_writing(|bucket| server.settings(bucket), true).await;
}

#[tokio::test]
async fn seaweedfs_increments() {
    let server = Server::seaweedfs();
    let store = fresh(&server.settings("races")).await;
    race_of_increments(&[store], 8, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_races_in_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&StoreSettings::embedded(folder.path(), "races")).await;
    race_of_creators(std::slice::from_ref(&store), 50, 50).await;
    race_of_increments(&[store], 8, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_races_between_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Server::workspace(folder.path()), Server::workspace(folder.path()));
    let stores = [
        fresh(&StoreSettings::embedded(folder.path(), "races")).await,
        fresh(&one.settings("races")).await,
        fresh(&other.settings("races")).await,
    ];
    race_of_creators(&stores, 50, 50).await;
    race_of_increments(&stores, 8, 50).await;
}

#[tokio::test]
async fn embedded_buckets_are_opened_for_writing() {
    let folder = tempfile::tempdir().unwrap();
    opens_for_writing(|bucket| StoreSettings::embedded(folder.path(), bucket), true).await;
    first_writers_agree(|bucket| StoreSettings::embedded(folder.path(), bucket)).await;
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_recognised() {
    let server = Server::rclone();
    let store = fresh(&server.settings("ignored")).await;
    let refused = Bucket::open_for_writing(&store, &consent(false)).await;
    assert!(matches!(refused, Err(BucketError::NoConditions { .. })), "{refused:?}");
    let alone = WriteConsent { single_writer: true, ..consent(false) };
    let bucket = Bucket::open_for_writing(&store, &alone).await.unwrap();
    assert_eq!((bucket.record.level, bucket.record.delete_if_match), (Level::None, false));
    assert_eq!(Bucket::open_for_reading(&store).await.unwrap(), Some(bucket));
}

#[tokio::test]
async fn a_newer_bucket_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&StoreSettings::embedded(folder.path(), "newer")).await;
    store.put("bucket.json", r#"{"format":2}"#.into(), Condition::None).await.unwrap();
    assert!(matches!(Bucket::open_for_reading(&store).await, Err(BucketError::Newer { format: 2, .. })));
    let writing = Bucket::open_for_writing(&store, &consent(true)).await;
    assert!(matches!(writing, Err(BucketError::Newer { format: 2, .. })));
}

#[tokio::test]
async fn a_list_of_workspaces_reads_only_refs_that_have_changed() {
    let folder = tempfile::tempdir().unwrap();
    let store = fresh(&StoreSettings::embedded(&folder.path().join("data"), "workspaces")).await;
    let cache = Cache::at(Some(folder.path().join("cache")));
    let write = async |name: &str, collections: u64| {
        let reference = Reference { collections, ..Reference::claimed(Ulid::from_parts(1, 1)) };
        store.put(&format!("refs/{name}.json"), reference.to_bytes().into(), Condition::None).await.unwrap();
    };
    let listed = async || {
        let before = store.counts();
        let (found, skipped) = all_references_cached(&store, &cache).await.unwrap();
        assert!(skipped.is_empty());
        let rows: Vec<String> =
            found.iter().map(|(name, read)| format!("{name} {}", read.reference.collections)).collect();
        (rows, (store.counts() - before).requests)
    };
    for name in ["one", "three", "two"] {
        write(name, 0).await;
    }
    assert_eq!(listed().await, (vec!["one 0".into(), "three 0".into(), "two 0".into()], 4));
    assert_eq!(listed().await, (vec!["one 0".into(), "three 0".into(), "two 0".into()], 1));
    write("two", 7).await;
    assert_eq!(listed().await, (vec!["one 0".into(), "three 0".into(), "two 7".into()], 2));
    store.delete("refs/three.json", Condition::None).await.unwrap();
    assert_eq!(listed().await, (vec!["one 0".into(), "two 7".into()], 1));
    // What is remembered may be anything: then all is read.
    for file in std::fs::read_dir(folder.path().join("cache/references")).unwrap() {
        std::fs::write(file.unwrap().path(), b"\x01garbage").unwrap();
    }
    assert_eq!(listed().await, (vec!["one 0".into(), "two 7".into()], 3));
    assert_eq!(listed().await.1, 1);
}
