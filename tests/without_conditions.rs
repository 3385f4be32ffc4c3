//! Servers without conditional writes, by the binary: one that ignores conditions, and one that refuses every request with
//! one. Both are a real server behind a proxy.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use cli::{Ran, TestEnvironment};
use faults::{Director, Fault, Proxy, Request};
use servers::Server;
use trees::{Tree, file, tree};
use workspace::format::Reference;
use workspace::store::bucket::{Bucket, Level};
use workspace::store::{Condition, Store, StoreError};

const REFUSED: &str = "does not support conditional writes: two uploads at once could overwrite each other";

/// Ignores conditions. They are part of what is signed, so what has one is asked of the server anew, without it.
struct Ignores(Store);

impl Director for Ignores {
    fn fault(&self, _: &Request) -> Fault {
        Fault::None
    }

    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + 'a>> {
        Box::pin(async move {
            if !is_conditional(request) {
                return None;
            }
            let key = request.path.split('?').next()?.strip_prefix("/workspaces/")?;
            let answered = match request.method.as_str() {
                "PUT" => {
                    self.0.put(key, request.body.clone().into(), Condition::None).await.map(|etag| (200, etag, vec![]))
                }
                "GET" => self.0.get(key).await.map(|object| (200, object.etag, object.body.to_vec())),
                "DELETE" => {
                    let deleted = self.0.delete(key, Condition::None).await;
                    deleted.map(|()| (204, workspace::store::ETag::new("\"\""), vec![]))
                }
                other => panic!("{other}"),
            };
            let (status, etag, body) = match answered {
                Ok(answered) => answered,
                Err(StoreError::NotFound { .. }) => {
                    let body = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>".to_vec();
                    (404, workspace::store::ETag::new("\"\""), body)
                }
                // There is no bucket yet: the server says so itself.
                Err(_) => return None,
            };
            let head = format!("HTTP/1.1 {status} Said\r\nETag: {etag}\r\nContent-Length: {}\r\n\r\n", body.len());
            Some([head.into_bytes(), body].concat())
        })
    }
}

fn is_conditional(request: &Request) -> bool {
    ["if-match", "if-none-match"].iter().any(|name| request.header(name).is_some())
}

fn refuses(request: &Request) -> Fault {
    if is_conditional(request) { Fault::Answer(501, "NotImplemented") } else { Fault::None }
}

struct Site {
    server: Server,
    proxy: Proxy,
    direct: Store,
    runtime: tokio::runtime::Runtime,
    environment: TestEnvironment,
}

impl Site {
    fn new(ignores: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = Server::seaweedfs();
        let direct = runtime.block_on(Store::connect(&server.settings("workspaces"))).unwrap();
        let director: Arc<dyn Director> = if ignores { Arc::new(Ignores(direct.clone())) } else { Arc::new(refuses) };
        let proxy = runtime.block_on(Proxy::start(&server.endpoint, director));
        Self { server, proxy, direct, runtime, environment: TestEnvironment::new() }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.proxy.endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key)
            .env("S3_BUCKET", "workspaces");
        command.output().unwrap().into()
    }

    /// Refused without the promise, which changes nothing and says what to do; done with it.
    fn writes(&self, arguments: &[&str]) -> Ran {
        let before = self.references();
        self.run(arguments).fails(1, REFUSED).fails(1, "hint: `--single-writer` if only one upload runs at a time");
        assert_eq!(self.references(), before, "{arguments:?}");
        self.run(&[arguments, &["--single-writer"]].concat()).ok()
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.runtime.block_on(self.direct.list(prefix)).unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    /// All refs, byte by byte.
    fn references(&self) -> Vec<(String, Vec<u8>)> {
        let read = |key: String| {
            let body = self.runtime.block_on(self.direct.get(&key)).unwrap().body.to_vec();
            (key, body)
        };
        self.keys("refs/").into_iter().map(read).collect()
    }

    fn reference(&self, name: &str) -> Reference {
        let object = self.runtime.block_on(self.direct.get(&format!("refs/{name}.json"))).unwrap();
        Reference::parse(&object.body).unwrap()
    }

    fn copy(&self, selector: &str) -> Tree {
        let target = self.environment.folder("copy");
        let _ = fs::remove_dir_all(&target);
        self.run(&["download", selector, target.to_str().unwrap()]).ok();
        trees::read(&target)
    }
}

fn lives_with_one_writer(ignores: bool) {
    let site = Site::new(ignores);
    let app: PathBuf = site.environment.folder("app");
    let source = app.to_str().unwrap();
    let one = tree([("a", file("one")), ("b/c", file(&"much of it ".repeat(2_000)))]);
    trees::write(&app, &one);

    // Recognised by whoever comes first, and kept for everybody.
    site.run(&["upload", "one", source]).fails(1, REFUSED);
    assert_eq!(site.keys(""), ["bucket.json"], "nothing was claimed, and the probe left nothing");
    let bucket = site.runtime.block_on(Bucket::open_for_reading(&site.direct)).unwrap().unwrap();
    assert_eq!((bucket.record.level, bucket.record.delete_if_match), (Level::None, false));
    site.run(&["list"]).ok();

    let uploaded = site.writes(&["upload", "one", source, "--json"]).json();
    assert_eq!((&uploaded["outcome"], &uploaded["version"]), (&"published".into(), &1.into()));
    fs::write(app.join("a"), "two").unwrap();
    let two = trees::read(&app);
    assert_eq!(site.writes(&["sync", "one", source, "--json"]).json()["version"], 2);
    site.run(&["upload", "other", source, "--single-writer"]).ok();
    site.writes(&["tag", "one@1", "first"]);
    site.writes(&["tag", "one@2", "first", "--force"]);
    site.writes(&["tag", "--delete", "one", "first"]);
    site.writes(&["retention", "one", "--last", "5"]);
    site.writes(&["stop", "one"]);
    site.writes(&["start", "one"]);
    site.writes(&["route", "one", "--to", "other"]);
    site.writes(&["route", "one", "--back"]);
    site.writes(&["retry", "one"]);
    assert_eq!(site.writes(&["rollback", "one", "1", "--json"]).json()["version"], 3);
    let numbers: Vec<u64> = site.reference("one").rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [1, 2, 3]);

    // Whoever only reads need not promise anything.
    assert_eq!(site.copy("one"), one);
    assert_eq!(site.copy("one@2"), two);
    assert_eq!(site.run(&["list"]).ok().stdout.lines().count(), 2);
    assert_eq!(site.run(&["log", "one"]).ok().stdout.lines().count(), 3);
    assert_eq!(site.run(&["show", "one@2", "a"]).ok().stdout, "two");
    site.run(&["verify", "one", "--deep"]).ok();
    site.run(&["diff", "one@1", "@2", "--exit-code"]).fails(1, "");

    // An upload under way could use what a collection deletes: nothing keeps them apart here.
    for arguments in [&["gc"][..], &["gc", "one", "--grace", "0s"], &["gc", "--dry-run"]] {
        let refused = "does not support conditional writes: a collection could delete what an upload uses";
        site.run(arguments).fails(1, refused).fails(1, "hint: `workspace delete NAME` and a new upload free the space");
    }

    // The small ref stays, hidden, for the next one of that name.
    let root = site.reference("one").root;
    site.writes(&["delete", "one", "--yes"]);
    let left = site.reference("one");
    assert!(left.deleted && left.root == root && left.rows.is_empty(), "{left:?}");
    assert_eq!(site.keys("data/one/"), [] as [String; 0]);
    assert_eq!(site.run(&["list"]).ok().stdout.lines().count(), 1);
    site.run(&["download", "one"]).fails(3, "there is no workspace `one`");
    let anew = site.run(&["upload", "one", source, "--single-writer", "--json"]).ok().json();
    assert_eq!(anew["version"], 1);
    assert_ne!(site.reference("one").root, root);
    assert_eq!(site.copy("one"), two);
}

#[test]
fn a_server_that_ignores_conditions_works_for_one_writer() {
    lives_with_one_writer(true);
}

#[test]
fn a_server_that_refuses_conditions_could_not_be_written_to_at_all() {
    lives_with_one_writer(false);
}

/// Whoever follows a workspace asks whether its ref is another one: with a condition, many times a minute.
#[test]
fn what_has_not_changed_is_told_without_conditions_too() {
    for ignores in [true, false] {
        let site = Site::new(ignores);
        let mut settings = site.server.settings("workspaces");
        if let workspace::settings::Backend::S3(s3) = &mut settings.backend {
            s3.endpoint = Some(site.proxy.endpoint.clone());
        }
        site.runtime.block_on(async {
            site.direct.create_bucket().await.unwrap();
            let store = Store::connect(&settings).await.unwrap();
            let one = store.put("key", "one".into(), Condition::None).await.unwrap();
            assert!(store.get_if_changed("key", Some(&one), 1 << 10).await.unwrap().is_none(), "ignores: {ignores}");
            let two = store.put("key", "two".into(), Condition::None).await.unwrap();
            let object = store.get_if_changed("key", Some(&one), 1 << 10).await.unwrap().unwrap();
            assert_eq!((object.body, object.etag), ("two".into(), two));
        });
    }
}
