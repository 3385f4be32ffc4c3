//! `gc`, `retention`, `verify`, `recover`: what is needed stays, what isn't goes, what is damaged is told, what is lost comes
//! back.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cli::{Ran, TestEnvironment};
use engine::Engine;
use workspace::hosts::Hosts;
use workspace::names::WorkspaceName;
use workspace::settings::StoreSettings;
use workspace::store::bucket::{Bucket, WriteConsent};
use workspace::store::{Condition, Store, StoreError};
use workspace::upkeep::collect::{CollectError, Collector, Options, Report, Stage};

/// An environment with an embedded store, and a folder `app` in it that changes with each version.
struct Site {
    environment: TestEnvironment,
}

impl Site {
    /// With versions 1 to `versions` of `app`, each with a file of its own.
    fn with_versions(versions: u32) -> Self {
        let site = Self { environment: TestEnvironment::new() };
        for number in 1..=versions {
            site.upload(number);
        }
        site
    }

    fn upload(&self, number: u32) {
        let app = self.environment.folder("app");
        fs::write(app.join("always"), "always the same").unwrap();
        fs::write(app.join("number"), format!("number {number}")).unwrap();
        fs::write(app.join("noise"), noise(number)).unwrap();
        self.ok(&["upload", "app", app.to_str().unwrap()]);
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.environment.run(arguments)
    }

    fn ok(&self, arguments: &[&str]) -> Ran {
        self.run(arguments).ok()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.ok(&[arguments, &["--json"]].concat()).json()
    }

    /// Does something with the store itself.
    fn with_store<T>(&self, act: impl AsyncFnOnce(Store) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let settings = StoreSettings::embedded(&self.environment.path().join("data"), "workspaces");
        runtime.block_on(async { act(Store::connect(&settings).await.unwrap()).await })
    }

    /// The keys that have a part.
    fn keys(&self, part: &str) -> Vec<String> {
        let objects = self.with_store(async |store| store.list("").await.unwrap());
        objects.into_iter().map(|object| object.key).filter(|key| key.contains(part)).collect()
    }

    fn read(&self, key: &str) -> Vec<u8> {
        self.with_store(async |store| store.get(key).await.unwrap().body.to_vec())
    }

    fn write(&self, key: &str, bytes: &[u8]) {
        let body = bytes::Bytes::copy_from_slice(bytes);
        self.with_store(async |store| store.put(key, body, Condition::None).await.unwrap());
    }

    fn remove(&self, key: &str) {
        self.with_store(async |store| store.delete(key, Condition::None).await.unwrap());
    }

    fn download(&self, version: &str) -> PathBuf {
        let target = self.environment.path().join("copy").join(version.replace('@', "-"));
        let _ = fs::remove_dir_all(&target);
        self.ok(&["download", version, target.to_str().unwrap()]);
        target
    }
}

/// 40 kB that don't compress, other ones for each seed.
fn noise(seed: u32) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut bytes = vec![0; 40_000];
    reader.fill(&mut bytes);
    bytes
}

#[test]
fn what_retention_lets_go_is_collected_and_nothing_else() {
    let site = Site::with_versions(6);
    site.ok(&["upload", "app", "../app", "--tag", "kept"]);
    assert_eq!(site.keys("/packs/").len(), 6);
    // Nothing is unneeded, and nothing is old enough.
    let report = site.json(&["gc", "--grace", "0s"]);
    assert_eq!(report["workspaces"][0]["stage"], "clean");
    assert_eq!(report["workspaces"][0]["deleted"]["objects"], 0);

    site.ok(&["retention", "app", "--last", "2", "--hours", "0", "--days", "0"]);
    let found = site.json(&["gc", "--dry-run", "--grace", "0s"]);
    assert_eq!((&found["workspaces"][0]["stage"], &found["workspaces"][0]["trimmed"]), (&"found".into(), &4.into()));
    assert_eq!(site.json(&["verify", "app"])["versions"], 6);
    let young = site.json(&["gc", "app"]);
    assert_eq!(young["workspaces"][0]["trimmed"], 4);
    assert!(young["workspaces"][0]["young"]["objects"].as_u64().unwrap() >= 3, "{young}");
    assert_eq!(young["workspaces"][0]["deleted"]["objects"], 0);
    let before = site.keys("/packs/");
    let report = site.json(&["gc", "--grace", "0s"]);
    assert!(report["workspaces"][0]["deleted"]["objects"].as_u64().unwrap() >= 3, "{report}");
    let after = site.keys("/packs/");
    // The first pack has what never changed.
    assert_eq!(after, [&before[..1], &before[4..]].concat());
    assert_eq!(site.keys("/gc/"), [] as [String; 0]);
    for version in ["app@5", "app@6"] {
        let copy = site.download(version);
        assert_eq!(fs::read_to_string(copy.join("number")).unwrap(), format!("number {}", &version[4..]));
        assert_eq!(fs::read_to_string(copy.join("always")).unwrap(), "always the same");
    }
    site.run(&["download", "app@2", "nowhere"]).fails(3, "it is no longer kept");
    site.ok(&["verify", "app", "--deep"]);
    // The fence doesn't stand in the way of the next upload.
    site.upload(7);
    assert_eq!(site.json(&["verify", "app"])["versions"], 2);
    let shown = site.ok(&["retention", "app"]);
    assert_eq!(shown.stdout, "2\t0\t0\n");
    site.ok(&["retention", "app", "--default"]);
    assert_eq!(site.ok(&["retention", "app"]).stdout, "-\t-\t-\n");
}

#[test]
fn what_a_version_is_written_on_keeps_no_content_that_is_gone() {
    let site = Site::with_versions(1);
    let large = site.environment.path().join("app/large");
    // More than one pack, of which the next versions, written as changes to this one, need nothing.
    fs::write(&large, (2..200).flat_map(noise).collect::<Vec<u8>>()).unwrap();
    site.ok(&["upload", "app", "../app"]);
    site.ok(&["delete", "app", "--yes"]);
    site.ok(&["upload", "app", "../app"]);
    let packs = site.keys("/packs/").len();
    assert!(packs > 1, "{packs}");
    fs::remove_file(large).unwrap();
    site.upload(2);
    assert_eq!(site.keys("/packs/").len(), packs + 1);
    site.ok(&["retention", "app", "--last", "1", "--hours", "0", "--days", "0"]);
    site.ok(&["gc", "app", "--grace", "0s"]);
    // What never changed, and what the second version brought.
    assert_eq!(site.keys("/packs/").len(), 2);
    site.ok(&["verify", "app", "--deep"]);
    assert_eq!(fs::read_to_string(site.download("app").join("always")).unwrap(), "always the same");
    site.remove("refs/app.json");
    site.ok(&["recover", "app"]);
    site.download("app");
    // The content that is gone goes up again, though the manifest below still names its packs.
    fs::write(site.environment.path().join("app/large"), (2..200).flat_map(noise).collect::<Vec<u8>>()).unwrap();
    site.ok(&["upload", "app", "../app"]);
    assert_eq!(site.download("app").join("large").metadata().unwrap().len(), 198 * 40_000);
    site.ok(&["verify", "app", "--deep"]);
}

#[test]
fn a_list_waits_for_its_grace_and_another_run_goes_on_with_it() {
    let site = Site::with_versions(3);
    site.ok(&["retention", "app", "--last", "1", "--hours", "0", "--days", "0"]);
    site.ok(&["gc", "app"]);
    // Servers tell whole seconds: nothing is a second old before a second has passed.
    let mut listed = site.json(&["gc", "app", "--grace", "2s"]);
    while listed["workspaces"][0]["stage"] != "listed" {
        listed = site.json(&["gc", "app", "--grace", "2s"]);
    }
    assert_eq!(site.keys("/gc/").len(), 1);
    let packs = site.keys("/packs/").len();
    let again = site.json(&["gc", "app", "--grace", "1h"]);
    assert_eq!(again["workspaces"][0]["listed"], listed["workspaces"][0]["listed"]);
    assert_eq!(site.keys("/packs/").len(), packs);
    // An upload in between counts with everything that isn't listed.
    site.upload(4);
    let waited = site.json(&["gc", "app", "--grace", "2s", "--wait"]);
    assert_eq!(waited["workspaces"][0]["stage"], "clean");
    assert_eq!(site.keys("/gc/"), [] as [String; 0]);
    assert!(site.keys("/packs/").len() < packs + 1);
    site.download("app@4");
    site.ok(&["verify", "app", "--deep"]);
}

#[test]
fn verify_names_what_is_damaged_and_whom_it_hurts() {
    let site = Site::with_versions(3);
    let good = site.ok(&["verify", "app", "--deep"]);
    assert!(good.stderr.contains("3 versions") && good.stderr.contains("read and checked"), "{good:?}");
    assert_eq!(good.stdout, "");
    let packs = site.keys("/packs/");
    // A flipped bit in the second version's content: its size is right.
    let second = site.read(&packs[1]);
    let mut flipped = second.clone();
    flipped[20_000] ^= 1;
    site.write(&packs[1], &flipped);
    site.ok(&["verify", "app"]);
    let report = Ran::from(site.environment.workspace(["verify", "app", "--deep", "--json"]).output().unwrap());
    assert_eq!(report.code, Some(1), "{report:?}");
    let damage = report.json()["damage"].clone();
    assert_eq!((damage.as_array().unwrap().len(), &damage[0]["versions"]), (1, &serde_json::json!([2])), "{damage}");
    assert!(damage[0]["paths"].as_array().unwrap().contains(&"noise".into()), "{damage}");
    site.ok(&["verify", "app@3", "--deep"]);
    site.write(&packs[1], &second);

    // The first pack is part of every version.
    let first = site.read(&packs[0]);
    site.remove(&packs[0]);
    let missing = site.run(&["verify", "app"]);
    let said = missing.stdout.clone();
    missing.fails(1, "1 of");
    assert!(said.contains("it is missing\t1,2,3\t"), "{said}");
    site.run(&["gc", "app", "--grace", "0s"]).ok();
    site.write(&packs[0], &first);

    let manifests = site.keys("/versions/");
    let manifest = site.read(&manifests[2]);
    site.write(&manifests[2], &manifest[..manifest.len() / 2]);
    let cut = site.run(&["verify", "app"]);
    assert!(cut.stdout.contains(&manifests[2]) && cut.stdout.contains("\t3\tall"), "{cut:?}");
    // What it needs is unknown: a collection deletes nothing. (Another machine: nothing is remembered here.)
    fs::remove_dir_all(site.environment.path().join("cache")).unwrap();
    site.run(&["gc", "app", "--grace", "0s"]).fails(1, "what `app` needs is unknown, so nothing was deleted");
    // The next upload reuses nothing of it, and is whole.
    let again = site.ok(&["upload", "app", "../app", "--tag", "mended"]);
    assert!(again.stderr.contains("unchanged"), "{again:?}");
    site.upload(9);
    assert_eq!(fs::read_to_string(site.download("app").join("number")).unwrap(), "number 9");
    site.write(&manifests[2], &manifest);
    site.ok(&["verify", "app", "--deep"]);
    site.run(&["verify", "aqp"]).fails(3, "did you mean `app`?");
    site.run(&["verify", "app@9"]).fails(3, "versions 1-4 are kept");
}

#[test]
fn a_lost_ref_is_recovered() {
    let site = Site::with_versions(3);
    site.run(&["recover", "app"]).fails(4, "there is nothing to recover");
    let reference = "refs/app.json";
    let bytes = site.read(reference);
    for damaged in [None, Some(&bytes[..bytes.len() - 400])] {
        site.remove(reference);
        if let Some(damaged) = damaged {
            site.write(reference, damaged);
        }
        let plan = site.json(&["recover", "app", "--dry-run"]);
        assert_eq!(plan["versions"].as_array().unwrap().len(), 3, "{plan}");
        assert_eq!(site.keys(reference).len(), usize::from(damaged.is_some()));
        let done = site.ok(&["recover", "app"]);
        assert!(done.stderr.contains("Recovered 3 versions of app"), "{done:?}");
        assert_eq!(done.stdout.lines().count(), 3);
        site.ok(&["verify", "app", "--deep"]);
        assert_eq!(fs::read_to_string(site.download("app@2").join("number")).unwrap(), "number 2");
    }
    site.upload(4);
    assert_eq!(fs::read_to_string(site.download("app").join("number")).unwrap(), "number 4");
    assert_eq!(site.json(&["gc", "--grace", "0s"])["workspaces"][0]["deleted"]["objects"], 0);

    // Without one of its packs a version is left out, and said so.
    site.remove(reference);
    site.remove(&site.keys("/packs/")[2]);
    let partly = site.ok(&["recover", "app"]);
    assert!(partly.stderr.contains("gives no version") && partly.stderr.contains("is missing"), "{partly:?}");
    assert_eq!(partly.stdout.lines().count(), 3);
    site.ok(&["verify", "app", "--deep"]);
    site.run(&["recover", "none"]).fails(3, "there is no data of a workspace `none`");
}

#[test]
fn data_that_no_ref_names_goes_only_with_a_yes() {
    let site = Site::with_versions(2);
    site.remove("refs/app.json");
    site.ok(&["gc", "--grace", "0s"]);
    assert_eq!(site.keys("/packs/").len(), 2);
    let shown = site.json(&["gc", "--orphans", "--dry-run", "--grace", "0s"]);
    assert_eq!(shown["orphans"][0]["workspace"], "app");
    site.run(&["gc", "--orphans", "--grace", "0s"]).fails(2, "this needs a yes");
    let young = site.ok(&["gc", "--orphans", "--yes"]);
    assert!(young.stderr.contains("younger than the grace"), "{young:?}");
    assert_eq!(site.keys("/packs/").len(), 2);
    let lost = site.run(&["log", "app"]).fails(3, "there is no workspace `app`");
    assert!(lost.stderr.contains("`workspace recover app --dry-run` shows what can be had back"), "{lost:?}");
    // Anew under the same name: the old root is another one.
    fs::write(site.environment.folder("app").join("number"), "3").unwrap();
    let anew = site.ok(&["upload", "app", "../app"]);
    assert!(anew.stderr.contains("there is data of an earlier `app` whose ref is gone"), "{anew:?}");
    site.ok(&["gc", "app", "--orphans", "--yes", "--grace", "0s"]);
    assert_eq!(site.keys("/packs/").len(), 1);
    site.ok(&["verify", "app", "--deep"]);
}

#[test]
fn a_server_without_conditional_writes_is_no_place_for_a_collection() {
    let server = servers::Server::rclone();
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    fs::write(app.join("a"), "a").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = environment.workspace(arguments);
        command.env("S3_ENDPOINT", &server.endpoint).env("S3_BUCKET", "workspaces");
        command.env("S3_ACCESS_KEY", &server.access_key).env("S3_SECRET_KEY", &server.secret_key);
        Ran::from(command.output().unwrap())
    };
    run(&["upload", "app", app.to_str().unwrap(), "--single-writer"]).ok();
    run(&["gc"]).fails(1, "does not support conditional writes");
    run(&["verify", "app", "--deep"]).ok();
}

/// A backup is a copy of the objects: `data/` first, then `bucket.json` and `refs/`, while uploads go on.
#[tokio::test]
async fn a_backup_is_a_copy_data_first_and_refs_last() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    for number in 1..=3 {
        fs::write(source.join("noise"), noise(number)).unwrap();
        engine.upload("app", &source).await;
    }
    let copy = Engine::new().await;
    copy.store.create_bucket().await.unwrap();
    copy_objects(&engine.store, &copy.store, "data/").await;
    // Published while the backup runs: what its version consists of isn't all in the copy, and neither is its ref.
    let refs = objects(&engine.store, "refs/").await;
    fs::write(source.join("noise"), noise(4)).unwrap();
    engine.upload("app", &source).await;
    for (key, body) in refs.into_iter().chain(objects(&engine.store, "bucket.json").await) {
        copy.store.put(&key, body, Condition::None).await.unwrap();
    }
    let target = copy.folder("target");
    copy.checkout("app", &target, workspace::checkout::CheckoutOptions::default()).await.unwrap();
    assert_eq!(fs::read(target.join("noise")).unwrap(), noise(3));
    assert_eq!(copy.upload("app", &source).await.number, 4);
}

async fn objects(store: &Store, prefix: &str) -> Vec<(String, bytes::Bytes)> {
    let mut found = Vec::new();
    for object in store.list(prefix).await.unwrap() {
        found.push((object.key.clone(), store.get(&object.key).await.unwrap().body));
    }
    found
}

async fn copy_objects(from: &Store, to: &Store, prefix: &str) {
    for (key, body) in objects(from, prefix).await {
        to.put(&key, body, Condition::None).await.unwrap();
    }
}

async fn collect(engine: &Engine, grace: Duration) -> Result<Report, CollectError> {
    let consent = WriteConsent { yes: false, single_writer: false, ask: &|_| false };
    let bucket = Bucket::open_for_writing(&engine.store, &consent).await.unwrap();
    let hosts = Hosts::read(&engine.store, jiff::Timestamp::now()).await.unwrap();
    let collector = Collector { store: &engine.store, cache: &engine.cache, bucket: &bucket, hosts: &hosts };
    let name: WorkspaceName = "app".parse().unwrap();
    collector.collect(&name, Options { grace, dry_run: false }).await
}

#[tokio::test]
async fn what_a_host_runs_is_spared_and_a_record_that_cant_be_read_stops_everything() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    for number in 1..=3 {
        fs::write(source.join("noise"), noise(number)).unwrap();
        engine.upload("app", &source).await;
    }
    let key = "refs/app.json";
    let object = engine.store.get(key).await.unwrap();
    let mut reference: serde_json::Value = serde_json::from_slice(&object.body).unwrap();
    let host = serde_json::json!({
        "format": 1, "engine": "E", "hostname": "h", "tool": "t", "started": "2026-01-01T00:00:00Z",
        "holder": { "instance": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "pid": 1 }, "beat": "2026-01-01T00:00:00Z",
        "workspaces": { "app": { "phase": "live", "since": "2026-01-01T00:00:00Z", "good": {
            "root": reference["root"], "row": reference["rows"][0], "since": "2026-01-01T00:00:00Z" } } },
    });
    engine.store.put("hosts/E.json", host.to_string().into(), Condition::None).await.unwrap();
    // What is edited by hand has no sum.
    reference.as_object_mut().unwrap().remove("sum").unwrap();
    reference["rows"].as_array_mut().unwrap().drain(..2);
    engine.store.put(key, reference.to_string().into(), Condition::Matches(object.etag)).await.unwrap();
    let packs = async || engine.store.list("data/").await.unwrap().iter().filter(|o| o.key.contains("packs")).count();
    assert_eq!(packs().await, 3);
    let report = collect(&engine, Duration::ZERO).await.unwrap();
    assert_eq!((report.stage, report.deleted.objects), (Stage::Clean, 2));
    assert_eq!(packs().await, 2);
    engine.store.put("hosts/F.json", "{\"format\":9}".into(), Condition::None).await.unwrap();
    let refused = collect(&engine, Duration::ZERO).await.unwrap_err();
    assert!(matches!(&refused, CollectError::Host { key, .. } if key == "hosts/F.json"), "{refused:?}");
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_and_a_claim_that_came_to_nothing_are_finished() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    fs::write(source.join("a"), "a").unwrap();
    engine.upload("app", &source).await;
    let object = engine.store.get("refs/app.json").await.unwrap();
    let mut reference: serde_json::Value = serde_json::from_slice(&object.body).unwrap();
    // What is edited by hand has no sum.
    reference.as_object_mut().unwrap().remove("sum").unwrap();
    reference["deleted"] = true.into();
    reference["rows"] = serde_json::json!([]);
    engine.store.put("refs/app.json", reference.to_string().into(), Condition::Matches(object.etag)).await.unwrap();
    let report = collect(&engine, Duration::ZERO).await.unwrap();
    assert_eq!(report.deleted.objects, 2);
    let gone = engine.store.get("refs/app.json").await.unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { .. }), "{gone:?}");

    let claim = |root: ulid::Ulid| serde_json::json!({ "format": 1, "root": root, "rows": [] }).to_string();
    engine.store.put("refs/app.json", claim(ulid::Ulid::generate()).into(), Condition::None).await.unwrap();
    // Somebody may be at it, whatever the grace.
    collect(&engine, Duration::ZERO).await.unwrap();
    engine.store.get("refs/app.json").await.unwrap();
    assert_eq!(engine.store.list("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn uploads_in_parts_that_nobody_ends_are_taken_back() {
    let server = servers::Server::seaweedfs();
    let weed = servers::s3(&server.endpoint, &server.access_key, &server.secret_key, "parts");
    let folder = tempfile::tempdir().unwrap();
    for settings in [weed, StoreSettings::embedded(folder.path(), "parts")] {
        let store = Store::connect(&settings).await.unwrap();
        store.create_bucket().await.unwrap();
        for key in ["data/app/R/archives/A.tar.zst", "data/other/R/archives/B.tar.zst"] {
            store.begin_parts(key).await.unwrap().send(1, "x".into()).await.unwrap();
        }
        let now = jiff::Timestamp::now();
        let hour = jiff::SignedDuration::from_hours(1);
        assert_eq!(store.abort_abandoned("data/app/", now - hour).await.unwrap(), 0, "young ones may be under way");
        assert_eq!(store.abort_abandoned("data/app/", now + hour).await.unwrap(), 1);
        assert_eq!(store.abort_abandoned("data/app/", now + hour).await.unwrap(), 0);
        assert_eq!(store.abort_abandoned("data/", now + hour).await.unwrap(), 1, "others were left alone");
    }
}
