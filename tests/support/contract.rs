//! What the program relies on a store for. Every check gets an empty bucket of its own.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use workspace::store::{Condition, Store, StoreError};

/// One check: panics where the store doesn't do what it should.
pub type Check = fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// All checks, by name.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($name), |store| Box::pin($name(store)))),*];
    };
}

checks!(
    an_object_comes_back_as_it_was_put,
    a_missing_object_is_not_found,
    a_put_replaces,
    ranges_are_exact,
    what_is_known_is_not_sent_again,
    create_only_creates,
    swap_only_swaps_what_was_read,
    delete_is_idempotent,
    many_are_deleted,
    a_listing_is_whole_and_sorted,
    a_key_can_be_an_object_and_a_prefix,
    odd_keys_work,
    a_bucket_that_is_not_there,
);

async fn an_object_comes_back_as_it_was_put(store: Store) {
    for size in [0, 1, 1023, 70_000, 9 * 1024 * 1024] {
        let body: Vec<u8> = (0..size).map(|position| u8::try_from(position * 7 % 251).unwrap()).collect();
        let body = Bytes::from(body);
        let etag = store.put("some/object", body.clone(), Condition::None).await.unwrap();
        let object = store.get("some/object").await.unwrap();
        assert!(object.body == body, "{size} bytes came back changed");
        assert_eq!(object.etag, etag);
        let info = store.head("some/object").await.unwrap();
        assert_eq!((info.size, &info.etag), (size, &etag));
        assert!(info.modified.is_some());
    }
}

async fn a_missing_object_is_not_found(store: Store) {
    let missing = |error| matches!(error, StoreError::NotFound { key } if key == "missing");
    assert!(missing(store.get("missing").await.unwrap_err()));
    assert!(missing(store.head("missing").await.unwrap_err()));
    assert!(missing(store.get_range("missing", 0..4).await.unwrap_err()));
}

async fn a_put_replaces(store: Store) {
    let first = store.put("key", "one".into(), Condition::None).await.unwrap();
    let second = store.put("key", "two".into(), Condition::None).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(store.get("key").await.unwrap().body, "two");
}

async fn ranges_are_exact(store: Store) {
    let body = Bytes::from((0..=255).collect::<Vec<u8>>());
    store.put("key", body.clone(), Condition::None).await.unwrap();
    for range in [0..1, 0..256, 255..256, 100..200, 7..7] {
        let expected = body.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        assert_eq!(store.get_range("key", range).await.unwrap(), expected);
    }
    let short = store.get_range("key", 200..300).await.unwrap_err();
    assert!(matches!(short, StoreError::Truncated { expected: 100, received: 56, .. }), "{short:?}");
    assert!(store.get_range("key", 256..257).await.is_err());
    // Nobody holds more of an object than they asked for.
    assert_eq!(store.get_within("key", 256).await.unwrap().body, body);
    let large = store.get_within("key", 255).await.unwrap_err();
    assert!(matches!(large, StoreError::TooLarge { limit: 255, .. }), "{large:?}");
}

async fn what_is_known_is_not_sent_again(store: Store) {
    let first = store.put("key", "one".into(), Condition::None).await.unwrap();
    let before = store.counts();
    assert!(store.get_if_changed("key", Some(&first), 64).await.unwrap().is_none());
    assert_eq!(store.counts().requests - before.requests, 1);
    let second = store.put("key", "two".into(), Condition::None).await.unwrap();
    let object = store.get_if_changed("key", Some(&first), 64).await.unwrap().unwrap();
    assert_eq!((object.body, object.etag), ("two".into(), second));
    assert!(matches!(
        store.get_if_changed("missing", Some(&first), 64).await.unwrap_err(),
        StoreError::NotFound { .. }
    ));
}

async fn create_only_creates(store: Store) {
    store.put("key", "one".into(), Condition::Absent).await.unwrap();
    for _ in 0..2 {
        let error = store.put_once("key", "two".into(), Condition::Absent).await.unwrap_err();
        assert!(matches!(error, StoreError::Precondition { .. }), "{error:?}");
    }
    assert_eq!(store.get("key").await.unwrap().body, "one");
    store.delete("key", Condition::None).await.unwrap();
    store.put("key", "three".into(), Condition::Absent).await.unwrap();
}

async fn swap_only_swaps_what_was_read(store: Store) {
    let first = store.put("key", "one".into(), Condition::None).await.unwrap();
    let second = store.put_once("key", "two".into(), Condition::Matches(first.clone())).await.unwrap();
    let error = store.put_once("key", "lost".into(), Condition::Matches(first.clone())).await.unwrap_err();
    assert!(matches!(error, StoreError::Precondition { .. }), "{error:?}");
    assert_eq!(store.get("key").await.unwrap().body, "two");
    let error = store.put_once("missing", "lost".into(), Condition::Matches(first)).await.unwrap_err();
    assert!(matches!(error, StoreError::Precondition { .. }), "{error:?}");
    store.put_once("key", "three".into(), Condition::Matches(second)).await.unwrap();
}

async fn delete_is_idempotent(store: Store) {
    let etag = store.put("key", "one".into(), Condition::None).await.unwrap();
    store.put("key", "two".into(), Condition::None).await.unwrap();
    let error = store.delete("key", Condition::Matches(etag)).await.unwrap_err();
    assert!(matches!(error, StoreError::Precondition { .. }), "{error:?}");
    store.delete("key", Condition::None).await.unwrap();
    store.delete("key", Condition::None).await.unwrap();
    assert!(matches!(store.get("key").await.unwrap_err(), StoreError::NotFound { .. }));
}

async fn many_are_deleted(store: Store) {
    let keys: Vec<String> = (0..1100).map(|number| format!("many/{number}")).collect();
    for batch in keys.chunks(8).step_by(40) {
        let puts = batch.iter().map(|key| store.put(key, "x".into(), Condition::None));
        futures::future::try_join_all(puts).await.unwrap();
    }
    store.put("kept", "x".into(), Condition::None).await.unwrap();
    // Most of the keys aren't there, which is no error.
    store.delete_many(&keys).await.unwrap();
    let left: Vec<String> = store.list("").await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(left, ["kept"]);
}

async fn a_listing_is_whole_and_sorted(store: Store) {
    let mut keys: Vec<String> = (0..1030).map(|number| format!("list/{}", number * 7919 % 10_007)).collect();
    for batch in keys.chunks(32) {
        let puts = batch.iter().map(|key| store.put(key, Bytes::from(key.clone()), Condition::None));
        futures::future::try_join_all(puts).await.unwrap();
    }
    // One after the other: SeaweedFS loses `a/b` now and then when `a` is made at the same moment.
    for key in ["list/a b", "list/a/b", "list/a", "list/A"] {
        store.put(key, Bytes::from(key), Condition::None).await.unwrap();
        keys.push(key.to_owned());
    }
    store.put("other", "x".into(), Condition::None).await.unwrap();
    keys.sort();
    let listed = store.list("list/").await.unwrap();
    assert!(listed.iter().all(|info| info.size == info.key.len() as u64 && info.modified.is_some()));
    assert_eq!(listed.iter().map(|info| info.key.clone()).collect::<Vec<_>>(), keys);
    assert_eq!(listed[0].etag, store.head(&listed[0].key).await.unwrap().etag);
    assert!(store.list("nothing/").await.unwrap().is_empty());
    assert_eq!(store.list("list/A").await.unwrap().len(), 1);
}

async fn a_key_can_be_an_object_and_a_prefix(store: Store) {
    store.put("a/b", "below".into(), Condition::None).await.unwrap();
    store.put("a", "above".into(), Condition::None).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().body, "above");
    assert_eq!(store.get("a/b").await.unwrap().body, "below");
    store.delete("a", Condition::None).await.unwrap();
    assert_eq!(store.get("a/b").await.unwrap().body, "below");
}

async fn odd_keys_work(store: Store) {
    let long = format!("long/{}", vec!["x".repeat(200); 4].join("/"));
    for key in ["with space", "plus+and%41percent", "ümlaut/日本語", "UPPER", "upper", "quote'\"<&>", "~tilde", &long]
    {
        store
            .put(key, Bytes::from(key.to_owned()), Condition::Absent)
            .await
            .unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(store.get(key).await.unwrap().body, key);
    }
    assert_eq!(store.list("").await.unwrap().len(), 8);
}

async fn a_bucket_that_is_not_there(store: Store) {
    assert!(store.bucket_exists().await.unwrap());
    // Creating what is there already changes nothing.
    store.put("key", "x".into(), Condition::None).await.unwrap();
    store.create_bucket().await.unwrap();
    assert_eq!(store.get("key").await.unwrap().body, "x");
}
