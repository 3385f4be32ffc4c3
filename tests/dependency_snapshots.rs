//! Dependency snapshots: what one container installed, another one has without installing.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cli::{Ran, TestEnvironment};
use workspace::settings::StoreSettings;
use workspace::store::Store;

/// An application whose installation needs a file outside, as others need a registry, and which starts by showing what was
/// installed.
const INSTALL: &str = "test -e \"$REGISTRY\" || { echo 'the registry is down' >&2; exit 1; }
mkdir -p node_modules/.bin node_modules/left
cat lock > node_modules/left/version
date +%N > node_modules/left/stamp
printf '#!/bin/sh\\necho tool\\n' > node_modules/left/tool
chmod +x node_modules/left/tool
ln -s ../left/tool node_modules/.bin/tool
ln -s /bin/sh node_modules/sh
mkdir node_modules/void
echo secret > node_modules/left/.env
";

struct Site {
    environment: TestEnvironment,
    extra: String,
}

impl Site {
    fn new(extra: &str) -> Self {
        let site = Self { environment: TestEnvironment::new(), extra: extra.to_owned() };
        fs::write(site.registry(), "").unwrap();
        site
    }

    fn registry(&self) -> PathBuf {
        self.environment.path().join("registry")
    }

    fn upload(&self, lock: &str) {
        let app = self.environment.folder("app");
        let registry = self.registry();
        let declared = format!(
            "runtime: node\nimage: any\ninstall: sh install.sh\nstart: sh start.sh\nenvironment:\n  REGISTRY: {}\n{}",
            registry.display(),
            self.extra
        );
        fs::write(app.join("workspace.yaml"), declared).unwrap();
        fs::write(app.join("install.sh"), INSTALL).unwrap();
        fs::write(app.join("start.sh"), "node_modules/.bin/tool && cat node_modules/left/version\n").unwrap();
        fs::write(app.join("lock"), lock).unwrap();
        // What decides whether to install again, as a lock file does.
        fs::write(app.join("package.json"), format!("{{\"name\":\"app\",\"description\":\"{lock}\"}}")).unwrap();
        self.environment.run(["upload", "app", app.to_str().unwrap()]).ok();
    }

    /// A new container: an empty folder, always of the same name.
    fn run(&self, flags: &[&str]) -> Ran {
        let dir = self.dir();
        let _ = fs::remove_dir_all(&dir);
        let mut command = self.environment.workspace(["run", "app", "--dir", dir.to_str().unwrap()]);
        command
            .args(flags)
            .env("STORAGE_MODE", "embedded")
            .env("WORKSPACE_STATE_DIR", self.environment.folder("state"));
        // Another machine each time.
        command.env("WORKSPACE_CACHE_DIR", self.environment.path().join("none"));
        let ran = command.output().unwrap().into();
        let _ = fs::remove_dir_all(self.environment.path().join("none"));
        ran
    }

    fn dir(&self) -> PathBuf {
        self.environment.path().join("tree")
    }

    fn keys(&self) -> Vec<String> {
        let settings = StoreSettings::embedded(&self.environment.path().join("data"), "workspaces");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let objects =
            runtime.block_on(async { Store::connect(&settings).await.unwrap().list("data/app/").await.unwrap() });
        objects.into_iter().map(|object| object.key).collect()
    }
}

fn stamp(dir: &Path) -> String {
    fs::read_to_string(dir.join("node_modules/left/stamp")).unwrap()
}

#[test]
fn the_next_container_starts_with_the_registry_down() {
    let site = Site::new("cache_dependencies: true\n");
    site.upload("one");
    let first = site.run(&[]);
    assert!(first.stderr.contains("dependencies stored as a snapshot, 7 files"), "{first:#?}");
    assert!(first.stdout.ends_with("tool\none"), "{first:#?}");
    let installed = stamp(&site.dir());
    assert!(site.keys().contains(&"data/app/deps.json".to_owned()), "{:?}", site.keys());

    fs::remove_file(site.registry()).unwrap();
    let second = site.run(&[]);
    assert!(second.stderr.contains("dependencies restored from a snapshot, 7 files"), "{second:#?}");
    assert!(second.stdout.ends_with("tool\none") && !second.stderr.contains("install with"), "{second:#?}");
    let dir = site.dir();
    assert_eq!(stamp(&dir), installed);
    assert_eq!(fs::metadata(dir.join("node_modules/left/tool")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(fs::read_link(dir.join("node_modules/sh")).unwrap(), Path::new("/bin/sh"));
    assert!(dir.join("node_modules/void").is_dir() && dir.join("node_modules/left/.env").is_file());
    assert!(!dir.join(".workspace/dependencies").exists());

    // Other inputs, other dependencies: those aren't there.
    site.upload("two");
    let down = site.run(&[]);
    assert!(down.stderr.contains("the registry is down"), "{down:#?}");
    fs::write(site.registry(), "").unwrap();
    let up = site.run(&[]);
    assert!(up.stdout.ends_with("tool\ntwo") && up.stderr.contains("stored as a snapshot"), "{up:#?}");
    fs::remove_file(site.registry()).unwrap();
    assert!(site.run(&[]).stdout.ends_with("tool\ntwo"));

    // They belong to the workspace: neither seen beside it, nor left when it goes.
    assert_eq!(site.environment.run(["list"]).ok().stdout.lines().count(), 1);
    site.environment.run(["delete", "app", "--yes"]).ok();
    assert_eq!(site.keys(), [] as [String; 0]);
}

#[test]
fn eight_are_kept_and_the_rest_is_collected() {
    let site = Site::new("");
    for number in 0..10 {
        site.upload(&format!("lock {number}"));
        let ran = site.run(&["--deps-cache"]);
        assert!(ran.stderr.contains("stored as a snapshot"), "{ran:#?}");
    }
    let snapshots = || site.keys().iter().filter(|key| key.contains("/deps/") && key.contains("/versions/")).count();
    assert_eq!(snapshots(), 10);
    site.environment.run(["gc", "app", "--grace", "0s"]).ok();
    // Of those that are kept, some may be deltas on a base that stays with them.
    assert!((8..=9).contains(&snapshots()), "{:?}", site.keys());
    fs::remove_file(site.registry()).unwrap();
    assert!(site.run(&["--deps-cache"]).stdout.ends_with("tool\nlock 9"));
    // Without being asked for, nothing is taken from there.
    assert!(site.run(&[]).stderr.contains("the registry is down"));
}

#[test]
fn a_snapshot_that_is_damaged_is_no_reason_not_to_start() {
    let site = Site::new("cache_dependencies: true\n");
    site.upload("one");
    site.run(&[]);
    let settings = StoreSettings::embedded(&site.environment.path().join("data"), "workspaces");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pack = site.keys().into_iter().find(|key| key.contains("/deps/") && key.contains("/packs/")).unwrap();
    runtime.block_on(async {
        let store = Store::connect(&settings).await.unwrap();
        store.delete(&pack, workspace::store::Condition::None).await.unwrap();
    });
    let ran = site.run(&[]);
    assert!(ran.stderr.contains("can't be used, they are installed") && ran.stdout.ends_with("tool\none"), "{ran:#?}");
}

#[test]
fn a_folder_that_a_download_made_is_nobodys_to_run_in() {
    let site = Site::new("cache_dependencies: true\n");
    site.upload("one");
    let mine = site.environment.folder("here/mine");
    site.environment.run(["download", "app", "mine"]).ok();
    fs::write(mine.join("lock"), "edited").unwrap();
    fs::write(mine.join("notes"), "mine").unwrap();
    let mut command = site.environment.workspace(["run", "app", "--dir", "mine"]);
    let ran: Ran = command.env("STORAGE_MODE", "embedded").output().unwrap().into();
    let ran = ran.fails(1, "`workspace run` did not make it");
    assert_eq!(fs::read_to_string(mine.join("lock")).unwrap(), "edited", "{ran:?}");
    assert_eq!(fs::read_to_string(mine.join("notes")).unwrap(), "mine");
    // Its own, it goes on in.
    for _ in 0..2 {
        let mut command = site.environment.workspace(["run", "app", "--dir", "own"]);
        let ran: Ran = command.env("STORAGE_MODE", "embedded").output().unwrap().into();
        assert!(ran.stdout.ends_with("tool\none"), "{ran:#?}");
    }
}
