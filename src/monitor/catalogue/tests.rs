//! When absence is believed, on an embedded store.

use std::sync::Mutex;

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::output::Silent;
use crate::publish::{self, Publication, Publisher, Rollback};
use crate::settings::StoreSettings;
use crate::store::Condition;
use crate::store::bucket::WriteConsent;

struct Scene {
    store: Store,
    bucket: Ulid,
    catalogue: Mutex<Catalogue>,
    _folder: TempDir,
}

impl Scene {
    async fn with(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings::embedded(&folder.path().join("data"), "workspaces");
        let store = Store::connect(&settings).await.unwrap();
        let consent = WriteConsent { yes: true, single_writer: false, ask: &|_| false };
        let bucket = Bucket::open_for_writing(&store, &consent).await.unwrap().record.id;
        let scene = Self { store, bucket, catalogue: Mutex::new(Catalogue::default()), _folder: folder };
        for name in names {
            scene.put(name).await;
        }
        scene
    }

    /// A workspace that is stopped, which takes no version.
    async fn put(&self, name: &str) {
        let reference = Reference { stopped: true, ..Reference::claimed(Ulid::from_parts(1, 1)) };
        let key = keys::reference(&name.parse().unwrap());
        self.store.put(&key, Bytes::from(reference.to_bytes()), Condition::None).await.unwrap();
    }

    /// The versions of `app`: of each a tree with this text, which can be run.
    async fn publish(&self, texts: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("workspace.yaml"), "runtime: custom\nimage: x\nstart: ./serve\n").unwrap();
        for text in texts {
            std::fs::write(folder.path().join("serve"), text).unwrap();
            let publication = Publication::of("app".parse().unwrap(), folder.path().to_owned());
            self.publisher(async |publisher| publisher.publish(&publication).await.unwrap()).await;
        }
    }

    async fn publisher<T>(&self, act: impl AsyncFnOnce(Publisher<'_>) -> T) -> T {
        let (cache, budget) = (Cache::at(None), Budget::default());
        let consent = WriteConsent { yes: true, single_writer: false, ask: &|_| false };
        let (observer, committing) = (Arc::new(Silent), Arc::default());
        let store = &self.store;
        act(Publisher { store, cache: &cache, budget: &budget, observer, consent, committing }).await
    }

    /// The version of `app` that is to run: number, origin, row.
    fn target(&self) -> (u64, Option<u64>, Ulid) {
        match self.desired("app") {
            Some(Desired::Run(target)) => (target.number(), target.row.origin, target.row.id),
            other => panic!("{other:?}"),
        }
    }

    async fn remove(&self, names: &[&str]) {
        for name in names {
            self.store.delete(&keys::reference(&name.parse().unwrap()), Condition::None).await.unwrap();
        }
    }

    async fn poll(&self, only: &[Pattern], present: &[&str]) -> Result<Vec<String>, PollError> {
        let present = present.iter().map(|name| name.parse().unwrap()).collect();
        let confirmation = keys::confirmation("ENGINE");
        let looked = Poll { store: &self.store, bucket: self.bucket, confirmation, only, present };
        let mut names: Vec<String> =
            poll(&looked, &self.catalogue).await?.into_iter().map(|name| name.to_string()).collect();
        names.sort();
        Ok(names)
    }

    fn desired(&self, name: &str) -> Option<Desired> {
        lock(&self.catalogue).get(&name.parse().unwrap()).map(|entry| entry.desired.clone())
    }
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let scene = Scene::with(&["a", "b"]).await;
    assert_eq!(scene.poll(&[], &[]).await.unwrap(), ["a", "b"]);
    let before = scene.store.counts();
    assert!(scene.poll(&[], &[]).await.unwrap().is_empty());
    assert_eq!((scene.store.counts() - before).requests, 1, "one LIST");
    scene.remove(&["b"]).await;
    scene.put("c").await;
    let only = ["a".parse().unwrap(), "x*".parse().unwrap()];
    assert!(scene.poll(&only, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn absence_is_believed_in_the_second_poll() {
    let scene = Scene::with(&["a", "b"]).await;
    scene.poll(&[], &[]).await.unwrap();
    scene.remove(&["a"]).await;
    assert!(scene.poll(&[], &[]).await.unwrap().is_empty());
    assert_eq!(scene.desired("a"), Some(Desired::Stopped));
    assert_eq!(scene.poll(&[], &[]).await.unwrap(), ["a"]);
    assert_eq!(scene.desired("a"), Some(Desired::Gone));
    // It came back.
    scene.put("a").await;
    assert_eq!(scene.poll(&[], &[]).await.unwrap(), ["a"]);
    assert_eq!(scene.desired("a"), Some(Desired::Stopped));
}

#[tokio::test]
async fn what_a_host_has_and_the_bucket_never_named_goes_in_the_second_poll() {
    let scene = Scene::with(&["a"]).await;
    scene.poll(&[], &["left"]).await.unwrap();
    assert!(matches!(scene.desired("left"), Some(Desired::Unknown(_))));
    scene.poll(&[], &["left"]).await.unwrap();
    assert_eq!(scene.desired("left"), Some(Desired::Gone));
}

#[tokio::test]
async fn when_most_vanish_a_person_confirms() {
    let scene = Scene::with(&["a", "b", "c", "d"]).await;
    scene.poll(&[], &[]).await.unwrap();
    scene.remove(&["a", "b", "c"]).await;
    for _ in 0..3 {
        scene.poll(&[], &[]).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        assert!(matches!(scene.desired(name), Some(Desired::Unknown(_))), "{name}");
    }
    assert_eq!(lock(&scene.catalogue).withheld.len(), 3);
    let confirmation = Confirmation::new(vec!["a".parse().unwrap(), "b".parse().unwrap()], Timestamp::UNIX_EPOCH);
    let key = keys::confirmation("ENGINE");
    scene.store.put(&key, Bytes::from(confirmation.to_bytes()), Condition::None).await.unwrap();
    scene.poll(&[], &[]).await.unwrap();
    assert_eq!(scene.desired("a"), Some(Desired::Gone));
    assert_eq!(scene.desired("b"), Some(Desired::Gone));
    assert!(matches!(scene.desired("d"), Some(Desired::Stopped)));
}

#[tokio::test]
async fn an_emptied_or_exchanged_bucket_says_nothing() {
    let scene = Scene::with(&["a", "b"]).await;
    scene.poll(&[], &[]).await.unwrap();
    scene.remove(&["a", "b"]).await;
    scene.store.delete(keys::BUCKET, Condition::None).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(scene.poll(&[], &[]).await, Err(PollError::OtherBucket { .. })));
    }
    // Another one in its place.
    let consent = WriteConsent { yes: true, single_writer: false, ask: &|_| false };
    Bucket::open_for_writing(&scene.store, &consent).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(scene.poll(&[], &[]).await, Err(PollError::OtherBucket { .. })));
    }
    assert_eq!(scene.desired("a"), Some(Desired::Stopped));
}

#[tokio::test]
async fn a_rollback_is_a_release_like_any_other() {
    let scene = Scene::with(&[]).await;
    scene.publish(&["one", "two"]).await;
    assert_eq!(scene.poll(&[], &[]).await.unwrap(), ["app"]);
    assert_eq!(scene.target().0, 2);
    let name = "app".parse().unwrap();
    let old = version::existing_reference(&scene.store, &name).await.unwrap().reference.rows[0].clone();
    let wanted = Rollback { name, to: Some(Version::Number(1)), message: None, author: None, tag: None, expect: None };
    scene.publisher(async |publisher| publisher.rollback(&wanted).await.unwrap()).await;
    assert_eq!(scene.poll(&[], &[]).await.unwrap(), ["app"]);
    let (number, origin, row) = scene.target();
    assert_eq!((number, origin), (3, Some(1)));
    assert_ne!(row, old.id, "what is remembered of version 1 doesn't bind it");
    let Some(Desired::Run(target)) = scene.desired("app") else { panic!("it runs") };
    assert_eq!((target.row.base, target.row.tree), (old.base, old.tree));
    assert!(target.plan.start.is_some());
}

#[tokio::test]
async fn a_tag_is_followed_wherever_it_moves() {
    let scene = Scene::with(&[]).await;
    scene.publish(&["one", "two", "three"]).await;
    let only = ["app@staging".parse().unwrap()];
    scene.poll(&only, &[]).await.unwrap();
    assert_eq!(scene.desired("app"), Some(Desired::Unknown("there is no `app@staging`".to_owned())));
    let tag = "staging".parse().unwrap();
    // Forward, forward, back.
    for number in [1, 3, 2] {
        let selector = format!("app@{number}").parse().unwrap();
        publish::set_tag(&scene.store, &selector, &tag, true).await.unwrap();
        assert_eq!(scene.poll(&only, &[]).await.unwrap(), ["app"]);
        assert_eq!(scene.target().0, number);
    }
    // What is published without the tag concerns nobody here.
    scene.publish(&["four"]).await;
    scene.poll(&only, &[]).await.unwrap();
    assert_eq!(scene.target().0, 2);
    // Without the tag it can't be told what is meant: what runs goes on.
    publish::remove_tag(&scene.store, &"app".parse().unwrap(), &tag).await.unwrap();
    scene.poll(&only, &[]).await.unwrap();
    assert!(matches!(scene.desired("app"), Some(Desired::Unknown(_))));
}
