//! Refs that lose a bit: on the way, where asking again helps, and in the bucket, where it doesn't.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/cli.rs"]
mod cli;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bucket::{Bucket, upload};
use cli::{Ran, TestEnvironment};
use faults::{Fault, Proxy, Request};
use servers::Server;

/// A served store behind a proxy that flips a bit of so many of the next refs.
struct Scene {
    environment: TestEnvironment,
    server: Server,
    proxy: Proxy,
    flips: Arc<AtomicU32>,
    _data: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = Server::workspace(data.path());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let flips = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&flips);
        let director = move |request: &Request| {
            let meant = request.method == "GET" && request.path.contains("/refs/app.json");
            let flip =
                meant && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if flip { Fault::Flip } else { Fault::None }
        };
        let proxy = runtime.block_on(Proxy::start(&server.endpoint, Arc::new(director)));
        Self { environment: TestEnvironment::new(), server, proxy, flips, _data: data, _runtime: runtime }
    }

    fn run(&self, flips: u32, arguments: &[&str]) -> Ran {
        self.flips.store(flips, Ordering::SeqCst);
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.proxy.endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key)
            .env("S3_BUCKET", "workspaces");
        let ran = Ran::from(command.output().unwrap());
        assert_eq!(self.flips.swap(0, Ordering::SeqCst), flips.saturating_sub(2), "{ran:?}");
        ran
    }

    fn tree(&self, text: &str) -> String {
        let tree = self.environment.folder("tree");
        std::fs::write(tree.join("index.html"), text).unwrap();
        tree.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_ref_that_is_damaged_on_the_way_is_asked_for_again() {
    let scene = Scene::new();
    scene.run(0, &["upload", "app", &scene.tree("1")]).ok();
    for (number, flips) in [(2, 1), (3, 1)] {
        let ran = scene.run(flips, &["upload", "app", &scene.tree(&number.to_string()), "--json"]).ok();
        assert_eq!(ran.json()["version"], number);
    }
    for command in [
        &["log", "app"][..],
        &["list"],
        &["show", "app", "index.html"],
        &["download", "app", "copy", "--force"],
        &["tag", "app@1", "v1"],
        &["stop", "app"],
        &["verify", "app"],
        &["gc", "app"],
    ] {
        scene.run(1, command).ok();
    }
    assert_eq!(scene.run(0, &["log", "app"]).ok().stdout.lines().count(), 3);

    // Twice in a row is no accident: it is told, and nothing is changed.
    let before = scene.run(0, &["log", "app", "--json"]).ok().stdout;
    for command in [
        &["log", "app"][..],
        &["upload", "app", &scene.tree("4")],
        &["tag", "app@1", "v2"],
        &["delete", "app", "--yes"],
    ] {
        scene.run(2, command).fails(1, "the ref `refs/app.json` can't be used");
    }
    // What is whole is not recovered because a reading of it was not.
    scene.run(1, &["recover", "app"]).fails(4, "there is nothing to recover");
    assert_eq!(scene.run(0, &["log", "app", "--json"]).ok().stdout, before);
}

#[test]
fn a_ref_that_is_damaged_in_the_bucket_is_told_and_recovered() {
    let environment = TestEnvironment::new();
    for text in ["1", "2", "3"] {
        upload(&environment, "app", text);
    }
    upload(&environment, "other", "1");
    let bucket = Bucket::of(&environment);
    let whole = String::from_utf8(bucket.get("refs/app.json")).unwrap();
    // Still a ref, and one that says something else: version 2 would be gone, the current one another.
    let other = whole.replacen(r#""current":3"#, r#""current":7"#, 1);
    assert_ne!(other, whole);
    bucket.put("refs/app.json", other.into_bytes());
    environment.run(["log", "app"]).fails(1, "its checksum is another");
    environment.run(["download", "app", "copy"]).fails(1, "workspace recover NAME");
    // It hides no other workspace.
    let list = environment.run(["list"]).ok();
    assert!(list.stdout.starts_with("other\t") && list.stderr.contains("refs/app.json"), "{list:?}");
    environment.run(["recover", "app"]).ok();
    assert_eq!(environment.run(["log", "app"]).ok().stdout.lines().count(), 3);
    environment.run(["verify", "app", "--deep"]).ok();

    // A release that knew no sums has written: its stale sum is no damage, and the next upload has one of its own.
    let mut older: workspace::format::Reference = serde_json::from_slice(&bucket.get("refs/app.json")).unwrap();
    older.stopped = true;
    older.sign(ulid::Ulid::generate());
    bucket.put("refs/app.json", serde_json::to_vec(&older).unwrap());
    environment.run(["log", "app"]).ok();
    upload(&environment, "app", "4");
    let now = String::from_utf8(bucket.get("refs/app.json")).unwrap();
    assert!(now.contains(r#""stopped":true"#) && now.matches(r#""sum":"#).count() == 1, "{now}");
    bucket.put("refs/app.json", now.replacen(r#""stopped":true,"#, "", 1).into_bytes());
    environment.run(["log", "app"]).fails(1, "its checksum is another");
}
