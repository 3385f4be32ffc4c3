//! The policies of `docs/permissions.md` on a server that enforces them: what each role can do, and what it is refused.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/policies.rs"]
mod policies;
#[path = "support/servers.rs"]
mod servers;

use cli::{Ran, TestEnvironment};
use policies::policy;
use servers::{Server, s3};
use workspace::store::{Condition, Store, StoreError};

const BUCKET: &str = "workspaces";

/// A bucket with the workspaces `app` and `other`, made by its keeper.
struct Scene {
    server: Server,
}

/// Somebody with a key of their own, on a machine of their own.
struct Person {
    endpoint: String,
    access_key: String,
    secret_key: String,
    machine: TestEnvironment,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { server: Server::seaweedfs() };
        let keeper = scene.person("keeper", &["Keeper"]);
        keeper.run(&["init"]).ok();
        keeper.upload("app", "1").ok();
        keeper.upload("other", "1").ok();
        scene
    }

    /// A user with the policies of these roles.
    fn person(&self, name: &str, roles: &[&str]) -> Person {
        let policies: Vec<String> = roles.iter().map(|role| policy(role, BUCKET, "app")).collect();
        let (access_key, secret_key) = self.server.user(name, &policies);
        Person { endpoint: self.server.endpoint.clone(), access_key, secret_key, machine: TestEnvironment::new() }
    }

    fn direct(&self) -> Raw {
        Raw::of(&self.server.endpoint, &self.server.access_key, &self.server.secret_key)
    }
}

impl Person {
    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_in(BUCKET, arguments)
    }

    fn run_in(&self, bucket: &str, arguments: &[&str]) -> Ran {
        let mut command = self.machine.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.endpoint)
            .env("S3_ACCESS_KEY", &self.access_key)
            .env("S3_SECRET_KEY", &self.secret_key)
            .env("S3_BUCKET", bucket);
        command.output().unwrap().into()
    }

    fn tree(&self, text: &str) -> String {
        let tree = self.machine.folder("tree");
        std::fs::write(tree.join("index.html"), text).unwrap();
        tree.to_str().unwrap().to_owned()
    }

    fn upload(&self, name: &str, text: &str) -> Ran {
        self.run(&["upload", name, &self.tree(text)])
    }

    fn raw(&self) -> Raw {
        Raw::of(&self.endpoint, &self.access_key, &self.secret_key)
    }
}

/// The store itself, with somebody's key: what they could do without this program.
struct Raw {
    runtime: tokio::runtime::Runtime,
    store: Store,
}

impl Raw {
    fn of(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = runtime.block_on(Store::connect(&s3(endpoint, access_key, secret_key, BUCKET))).unwrap();
        Self { runtime, store }
    }

    fn put(&self, key: &str) -> Result<(), StoreError> {
        self.runtime.block_on(self.store.put(key, "x".into(), Condition::None)).map(drop)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.runtime.block_on(self.store.get(key)).map(|object| object.body.to_vec())
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.runtime.block_on(self.store.delete(key, Condition::None))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.runtime.block_on(self.store.list(prefix))?;
        Ok(listed.into_iter().map(|object| object.key).collect())
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, action: &str) {
    match result {
        Err(StoreError::AccessDenied { operation, .. }) => assert_eq!(operation, action),
        other => panic!("{action} should be refused: {other:?}"),
    }
}

#[test]
fn a_developer_publishes_decides_and_deletes() {
    let scene = Scene::new();
    let ada = scene.person("ada", &["Developer"]);
    ada.upload("app", "2").ok();
    ada.upload("new", "1").ok();
    ada.run(&["upload", "new", &ada.tree("2"), "--tag", "staging"]).ok();
    for command in [
        &["list"][..],
        &["log", "new"],
        &["show", "new@1", "index.html"],
        &["diff", "new@1", "@2"],
        &["download", "new", "copy"],
        &["tag", "new@1", "v1"],
        &["rollback", "new", "1"],
        &["stop", "new"],
        &["start", "new"],
        &["route", "new", "--to", "app"],
        &["route", "new", "--back"],
        &["retry", "new"],
        &["retention", "new", "--last", "1", "--hours", "0", "--days", "0"],
        &["status"],
        &["verify", "new", "--deep"],
        &["presign", "new"],
        &["gc", "--grace", "0s", "--wait"],
        &["gc", "--orphans"],
        &["delete", "new", "--yes"],
    ] {
        ada.run(command).ok();
    }
    ada.run(&["log", "new"]).fails(3, "there is no workspace `new`");

    // No bucket of her own, and nothing that belongs to the keeper or to hosts.
    ada.run_in("elsewhere", &["upload", "app", &ada.tree("1"), "--yes"])
        .fails(1, "does not permit GetObject on `refs/app.json`");
    let raw = ada.raw();
    let elsewhere = s3(&ada.endpoint, &ada.access_key, &ada.secret_key, "elsewhere");
    let elsewhere = raw.runtime.block_on(Store::connect(&elsewhere)).unwrap();
    refused(raw.runtime.block_on(elsewhere.create_bucket()), "CreateBucket");
    for key in ["bucket.json", "hosts/ENGINE.json", "hosts/ENGINE.confirmed.json", "notes.txt"] {
        refused(raw.put(key), "PutObject");
        refused(raw.delete(key), "DeleteObject");
    }
    scene.direct().put("notes.txt").unwrap();
    refused(raw.get("notes.txt"), "GetObject");
    assert!(scene.direct().get("notes.txt").is_ok());
}

#[test]
fn ci_publishes_and_cannot_delete() {
    let scene = Scene::new();
    let ci = scene.person("ci", &["CI"]);
    for (name, text, number) in [("app", "2", 2), ("fresh", "1", 1)] {
        let synced = ci.run(&["sync", name, &ci.tree(text), "--tag", "staging", "--json"]).ok();
        assert_eq!(synced.json()["version"], number);
    }
    assert_eq!(ci.run(&["sync", "fresh", &ci.tree("1"), "--json"]).ok().json()["outcome"], "unchanged");
    for command in
        [&["list"][..], &["log", "app"], &["download", "app@1", "copy"], &["rollback", "app", "1"], &["status"]]
    {
        ci.run(command).ok();
    }
    // Something for a collection.
    ci.run(&["retention", "fresh", "--last", "1", "--hours", "0", "--days", "0"]).ok();
    for text in ["2", "3"] {
        ci.upload("fresh", text).ok();
    }

    let direct = scene.direct();
    let (before, reference) = (direct.list("").unwrap(), direct.get("refs/fresh.json").unwrap());
    ci.run(&["delete", "fresh", "--yes"]).fails(1, "the store does not permit DeleteObject on `data/fresh/");
    ci.run(&["gc", "fresh", "--grace", "0s", "--wait"])
        .fails(1, "the store does not permit DeleteObject on `data/fresh/");
    assert_eq!(direct.get("refs/fresh.json").unwrap(), reference, "what was refused has changed the ref");
    assert_eq!(direct.list("").unwrap(), before);
    ci.run(&["verify", "fresh", "--deep"]).ok();

    let raw = ci.raw();
    for key in &before {
        refused(raw.delete(key), "DeleteObject");
    }
    let many = raw.runtime.block_on(raw.store.delete_many(&before));
    assert!(matches!(many, Err(StoreError::AccessDenied { .. } | StoreError::Delete { .. })), "{many:?}");
    refused(raw.put("bucket.json"), "PutObject");
    refused(raw.put("hosts/ENGINE.json"), "PutObject");
    assert_eq!(direct.list("").unwrap(), before);
    // And so does the hint name where it is said.
    ci.run(&["delete", "app", "--yes"]).fails(1, "docs/permissions.md");
}

#[test]
fn a_container_reads_its_own_workspace_and_nothing_else() {
    let scene = Scene::new();
    let container = scene.person("container", &["Container"]);
    container.run(&["download", "app", "copy"]).ok();
    assert_eq!(std::fs::read_to_string(container.machine.path().join("here/copy/index.html")).unwrap(), "1");
    container.run(&["show", "app", "index.html"]).ok();
    container.run(&["log", "app"]).ok();

    for (command, code, action) in [
        (&["download", "other", "stolen"][..], 1, "GetObject on `refs/other.json`"),
        (&["list"], 1, "ListObjectsV2"),
        (&["run", "other", "--dir", "stolen"], 1, "GetObject on `refs/other.json`"),
        (&["upload", "app", &container.tree("mine")], 1, "the store does not permit GetObject on `bucket.json`"),
        (&["tag", "app", "mine"], 1, "the store does not permit"),
        (&["delete", "app", "--yes"], 1, "the store does not permit"),
        (&["stop", "app"], 1, "the store does not permit"),
    ] {
        container.run(command).fails(code, action);
    }
    assert!(!container.machine.path().join("here/stolen/index.html").exists());

    let raw = container.raw();
    let everything = scene.direct().list("").unwrap();
    let own = |key: &str| key == "refs/app.json" || key.starts_with("data/app/");
    assert!(everything.iter().any(|key| own(key)) && everything.iter().any(|key| key.starts_with("data/other/")));
    for key in &everything {
        if own(key) {
            raw.get(key).unwrap();
        } else {
            refused(raw.get(key), "GetObject");
        }
        refused(raw.put(key), "PutObject");
        refused(raw.delete(key), "DeleteObject");
    }
    for prefix in ["", "refs/", "data/app/", "data/other/", "hosts/"] {
        refused(raw.list(prefix), "ListObjectsV2");
    }
    // Names that begin alike are others.
    scene.direct().put("refs/app2.json").unwrap();
    scene.direct().put("data/app2/x").unwrap();
    refused(raw.get("refs/app2.json"), "GetObject");
    refused(raw.get("data/app2/x"), "GetObject");
    assert_eq!(scene.direct().list("").unwrap().len(), everything.len() + 2);
}

/// What the monitor's own key is worth. That the monitor can do its work with it is in `tests/docker_permissions.rs`.
#[test]
fn a_monitor_reports_and_changes_no_workspace() {
    let scene = Scene::new();
    let monitor = scene.person("monitor", &["Monitor"]).raw();
    for key in scene.direct().list("").unwrap() {
        monitor.get(&key).unwrap();
        refused(monitor.put(&key), "PutObject");
        refused(monitor.delete(&key), "DeleteObject");
    }
    let root = scene.direct().list("data/app/").unwrap()[0].split('/').nth(2).unwrap().to_owned();
    for key in ["hosts/ENGINE.json".to_owned(), format!("data/app/{root}/releases/01J00000000000000000000000.json")] {
        monitor.put(&key).unwrap();
        refused(monitor.delete(&key), "DeleteObject");
    }
    scene.direct().delete("hosts/ENGINE.json").unwrap();
    scene.direct().put("hosts/ENGINE.confirmed.json").unwrap();
    monitor.delete("hosts/ENGINE.confirmed.json").unwrap();

    let collecting = scene.person("collecting", &["Monitor", "Monitor that collects"]);
    collecting.run(&["gc", "app", "--grace", "0s", "--wait"]).ok();
    refused(collecting.raw().put("bucket.json"), "PutObject");
}
