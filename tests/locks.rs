//! `lock`, `unlock`, `init --object-lock`, and deletion in buckets that keep versions, on a server that enforces Object Lock.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;

use std::fs;
use std::time::Duration;

use cli::{Ran, TestEnvironment};
use servers::Server;
use workspace::store::Store;
use workspace::store::versions::ObjectVersion;

struct Site {
    server: Server,
    environment: TestEnvironment,
}

impl Site {
    fn new(object_lock: bool) -> Self {
        let site = Self { server: Server::seaweedfs(), environment: TestEnvironment::new() };
        let flags: &[&str] = if object_lock { &["init", "--object-lock"] } else { &["init"] };
        let made = site.ok(flags);
        assert!(made.stderr.contains("Created") && made.stderr.contains("conditional writes work"), "{made:?}");
        site
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let server = &self.server;
        let mut command = self.environment.workspace(arguments);
        command.env("S3_ENDPOINT", &server.endpoint).env("S3_BUCKET", "locked");
        command.env("S3_ACCESS_KEY", &server.access_key).env("S3_SECRET_KEY", &server.secret_key);
        command.output().unwrap().into()
    }

    fn ok(&self, arguments: &[&str]) -> Ran {
        self.run(arguments).ok()
    }

    fn upload(&self, number: u32) {
        let app = self.environment.folder("app");
        fs::write(app.join("always"), "always the same").unwrap();
        fs::write(app.join("number"), number.to_string()).unwrap();
        self.ok(&["upload", "app", app.to_str().unwrap()]);
    }

    fn number(&self, version: &str) -> String {
        let target = tempfile::tempdir().unwrap();
        self.ok(&["download", version, target.path().to_str().unwrap()]);
        assert_eq!(fs::read_to_string(target.path().join("always")).unwrap(), "always the same");
        fs::read_to_string(target.path().join("number")).unwrap()
    }

    fn with_store<T>(&self, act: impl AsyncFnOnce(Store) -> T) -> T {
        let server = &self.server;
        let settings = servers::s3(&server.endpoint, &server.access_key, &server.secret_key, "locked");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { act(Store::connect(&settings).await.unwrap()).await })
    }

    /// Hides an object, as any tool does that knows nothing of versions: what a plain DELETE leaves is a delete marker.
    fn hide(&self, key: &str) {
        let server = &self.server;
        let done = servers::command("curl")
            .args(["--fail", "--silent", "--show-error", "-X", "DELETE", "--aws-sigv4", "aws:amz:us-east-1:s3"])
            .args(["--user", &format!("{}:{}", server.access_key, server.secret_key)])
            .arg(format!("{}/locked/{key}", server.endpoint))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// All versions of everything below a prefix.
    fn versions(&self, prefix: &str) -> Vec<ObjectVersion> {
        self.with_store(async |store| store.versions(prefix).await.unwrap())
    }
}

#[test]
fn a_locked_version_outlives_everything() {
    let site = Site::new(true);
    for number in 1..=3 {
        site.upload(number);
    }
    let report = site.ok(&["lock", "app@2", "--until", "1h", "--json"]).json();
    assert!(report["objects"].as_u64().unwrap() >= 4, "{report}");
    site.run(&["delete", "app", "--yes"]).fails(4, "version 2 of `app` is locked until");

    // Retention and collections leave it alone.
    site.ok(&["retention", "app", "--last", "1", "--hours", "0", "--days", "0"]);
    let collected = site.ok(&["gc", "app", "--grace", "0s"]);
    assert!(collected.stderr.contains("app: version 2 stays: it is locked until"), "{collected:?}");
    assert_eq!((site.number("app@2"), site.number("app")), ("2".to_owned(), "3".to_owned()));
    site.run(&["download", "app@1", "x"]).fails(3, "no longer kept");
    let kept = site.versions("data/");
    assert!(kept.iter().all(|version| version.is_latest && !version.is_marker), "freed, not hidden: {kept:#?}");

    // A plain DELETE by somebody who has the keys hides it; it can be read all the same.
    let keys: Vec<String> = kept.iter().map(|version| version.key.clone()).collect();
    for key in &keys {
        site.hide(key);
    }
    site.with_store(async |store| {
        for key in &keys {
            store.get(key).await.unwrap_err();
        }
    });
    fs::remove_dir_all(site.environment.path().join("cache")).unwrap();
    assert_eq!(site.number("app@2"), "2");

    // A lock can be made longer and not shorter.
    site.run(&["lock", "app@2", "--until", "1m"]).fails(4, "a lock can be made longer and not shorter");
    site.ok(&["lock", "app@2", "--until", "2h"]);
    site.ok(&["unlock", "app@2"]);
    site.run(&["unlock", "app@2"]).fails(4, "`app@2` is not locked");
    site.ok(&["delete", "app", "--yes"]);
}

#[test]
fn what_two_locks_need_stays_until_both_are_gone() {
    let site = Site::new(true);
    site.upload(1);
    site.upload(2);
    site.ok(&["lock", "app@1", "--until", "1h"]);
    site.ok(&["lock", "app@2", "--legal-hold"]);
    let unlocked = site.ok(&["unlock", "app@1"]);
    assert!(unlocked.stderr.contains("kept on by other locks"), "{unlocked:?}");
    site.run(&["delete", "app", "--yes"]).fails(4, "is locked until its legal hold is taken back");
    // The pack with what never changed is part of both.
    let packs = site.versions("data/");
    let refused = site.with_store(async |store| {
        let mut refused = 0;
        for version in packs.iter().filter(|version| version.key.contains("/packs/")) {
            let hold = store.hold(&version.key, &version.id).await.unwrap();
            refused += usize::from(hold.legal);
            // Taken back, or made so short that it is over.
            assert!(hold.retention.is_none_or(|(_, until)| until < jiff::Timestamp::now()), "{hold:?}");
        }
        refused
    });
    assert_eq!(refused, 2);
    site.ok(&["unlock", "app@2"]);
    site.ok(&["delete", "app", "--yes"]);
    assert_eq!(site.versions("data/"), []);
}

#[test]
fn compliance_ends_with_its_time_alone() {
    let site = Site::new(true);
    site.upload(1);
    site.ok(&["lock", "app", "--until", "6s", "--mode", "compliance"]);
    site.run(&["unlock", "app"]).fails(4, "nobody can take that back");
    site.run(&["delete", "app", "--yes"]).fails(4, "is locked until");
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while site.run(&["delete", "app", "--yes"]).code != Some(0) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(site.versions("data/"), []);
}

#[test]
fn a_lock_that_is_refused_in_part_leaves_no_claim() {
    let site = Site::new(true);
    site.upload(1);
    site.upload(2);
    site.ok(&["lock", "app@1", "--until", "1h"]);
    // They share a pack, whose mode would have to change: granted or refused, it is one or the other.
    let other = site.run(&["lock", "app@2", "--until", "2h", "--mode", "compliance"]);
    let locked = site.ok(&["log", "app", "--json"]).json();
    let of = |number: u64| {
        let rows = locked.as_array().unwrap().iter();
        rows.clone().find(|row| row["version"] == number).unwrap_or_else(|| panic!("{locked}"))["locked"].clone()
    };
    assert_eq!((of(1), of(2)), (true.into(), (other.code == Some(0)).into()), "{other:?} {locked}");
    if other.code == Some(0) {
        site.run(&["unlock", "app@2"]).fails(4, "nobody can take that back");
    }
}

#[test]
fn bad_locks_say_why() {
    let site = Site::new(false);
    site.upload(1);
    site.run(&["lock", "app", "--until", "1h"]).fails(1, "the bucket `locked` has no Object Lock");
    site.run(&["init", "--object-lock"]).fails(1, "has no Object Lock");
    site.run(&["lock", "app", "--until", "2001-01-01"]).fails(2, "is in the past");
    site.run(&["lock", "app"]).fails(2, "--until");
    site.run(&["lock", "app@9", "--until", "1h"]).fails(1, "has no Object Lock");
    site.run(&["unlock", "app"]).fails(1, "has no Object Lock");
    // Nothing was changed by any of it.
    site.ok(&["delete", "app", "--yes"]);
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    fs::write(app.join("a"), "a").unwrap();
    environment.run(["upload", "app", app.to_str().unwrap()]).ok();
    for arguments in [&["lock", "app", "--until", "1h"][..], &["unlock", "app"]] {
        let refused = environment.run(arguments).fails(1, "has no Object Lock");
        assert_eq!(refused.stderr.lines().count(), 2, "an error and a hint: {refused:?}");
    }
}
