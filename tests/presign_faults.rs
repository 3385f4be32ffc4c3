//! Writing an archive while the store fails at each of its requests: none is left half done, and nothing is left that takes
//! room. And any tree at all, by way of stock tools.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::time::Duration;

use cli::{Ran, TestEnvironment};
use engine::Engine;
use faults::{Fault, Proxy, Request};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use servers::Server;
use trees::{Node, Tree};
use workspace::archive::{ArchiveError, Archived, Archivist, Unfinished};
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::format::archive::{TRAILER, Trailer};
use workspace::output::Silent;
use workspace::settings::{Limits, StoreSettings};
use workspace::store::Store;

async fn archive(store: &Store, selector: &str) -> Result<Archived, ArchiveError> {
    let unfinished = Unfinished::default();
    let archivist = Archivist {
        store,
        cache: &Cache::at(None),
        budget: &Budget::default(),
        observer: Arc::new(Silent),
        unfinished: &unfinished,
    };
    archivist.archive(&selector.parse().unwrap()).await
}

/// Noise that does not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 5_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// A served store with a workspace whose archive has three parts.
struct Stage {
    environment: TestEnvironment,
    data: tempfile::TempDir,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let stage = Self { environment: TestEnvironment::new(), server: Server::workspace(data.path()), data };
        let app = stage.environment.folder("app");
        fs::write(app.join("large.bin"), noise(36 << 20)).unwrap();
        Ran::from(stage.workspace(&["upload", "myapp", app.to_str().unwrap()]).output().unwrap()).ok();
        stage
    }

    fn workspace(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.server.endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key);
        command
    }

    fn through(&self, proxy: &Proxy) -> StoreSettings {
        let limits = Limits { attempts: 2, attempt: Duration::from_secs(5), ..Limits::default() };
        let settings = servers::s3(&proxy.endpoint, &self.server.access_key, &self.server.secret_key, "workspaces");
        StoreSettings { limits, ..settings }
    }

    async fn store(&self) -> Store {
        Store::connect(&self.server.settings("workspaces")).await.unwrap()
    }

    /// Uploads in parts that were begun and not ended, as they lie on the disk.
    fn pending(&self) -> usize {
        let uploads = |folder: &Path| fs::read_dir(folder.join("uploads")).map_or(0, Iterator::count);
        let mut found = 0;
        let mut folders = vec![self.data.path().to_owned()];
        while let Some(folder) = folders.pop() {
            found += uploads(&folder);
            let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
            folders.extend(
                inside
                    .filter(|entry| entry.file_type().unwrap().is_dir() && entry.file_name() != "uploads")
                    .map(|entry| entry.path()),
            );
        }
        found
    }
}

/// What a request is for, as far as writing an archive goes.
fn kind(request: &Request) -> Option<&'static str> {
    let Request { method, path, .. } = request;
    Some(match method.as_str() {
        "GET" if path.contains("/refs/") => "read the ref",
        "GET" if path.contains("/archives/") => "look for the archive",
        "GET" if path.contains("/versions/") => "read the manifest",
        "GET" if path.contains("/packs/") => "read a pack",
        "POST" if path.contains("?uploads") => "begin",
        "PUT" if path.contains("partNumber=1&") => "send the first part",
        "PUT" if path.contains("partNumber=2&") => "send the second part",
        "PUT" if path.contains("partNumber=3&") => "send the last part",
        "POST" => "complete",
        _ => return None,
    })
}

const KINDS: [&str; 9] = [
    "read the ref",
    "look for the archive",
    "read the manifest",
    "read a pack",
    "begin",
    "send the first part",
    "send the second part",
    "send the last part",
    "complete",
];

#[tokio::test(flavor = "multi_thread")]
async fn slow_an_archive_is_whole_or_not_there_whichever_request_fails() {
    let stage = Stage::new();
    let whole = archive(&stage.store().await, "myapp").await.unwrap();
    assert_eq!(stage.pending(), 0);
    let store = stage.store().await;
    let content = store.get(&whole.key).await.unwrap().body;
    for kind_of_it in KINDS {
        // Once, or as often as it is tried.
        for (fault, often) in [
            (Fault::Answer(403, "AccessDenied"), 1),
            (Fault::Answer(500, "InternalError"), u64::MAX),
            (Fault::DropBefore, 1),
            (Fault::DropAfter, 1),
            (Fault::DropAfter, u64::MAX),
            (Fault::AnswerAfter(500, "InternalError"), u64::MAX),
        ] {
            store.delete_many(std::slice::from_ref(&whole.key)).await.unwrap();
            let met = Arc::new(AtomicU64::new(0));
            let count = met.clone();
            let director = move |request: &Request| {
                let meant = kind(request) == Some(kind_of_it) && count.fetch_add(1, Ordering::SeqCst) < often;
                if meant { fault } else { Fault::None }
            };
            let proxy = Proxy::start(&stage.server.endpoint, Arc::new(director)).await;
            let through = Store::connect(&stage.through(&proxy)).await.unwrap();
            let outcome = archive(&through, "myapp").await;
            let case = format!("{kind_of_it}, {fault:?}, {often}: {outcome:?}");
            assert!(met.load(Ordering::SeqCst) > 0, "{case}");
            assert_eq!(stage.pending(), 0, "{case}");
            if let Ok(archived) = &outcome {
                assert_eq!((archived.bytes, archived.written), (content.len() as u64, true), "{case}");
                assert_eq!(store.get(&whole.key).await.unwrap().body, content, "{case}");
                continue;
            }
            assert!(often > 1 || matches!(fault, Fault::Answer(403, _)), "{case}");
            // Where only the last look at the ref failed, it is there and whole.
            let left = store.list(&whole.key).await.unwrap();
            assert!(left.is_empty() || kind_of_it == "read the ref", "{case}");
            assert!(left.iter().all(|object| object.size == content.len() as u64), "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_the_middle_of_an_archive_leaves_nothing() {
    let stage = Stage::new();
    let (seen, sees) = mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    let director = move |request: &Request| {
        if kind(request) == Some("send the second part") {
            seen.lock().unwrap().send(()).unwrap();
            return Fault::Stall;
        }
        Fault::None
    };
    let proxy = Proxy::start(&stage.server.endpoint, Arc::new(director)).await;
    let mut command = stage.workspace(&["presign", "myapp"]);
    command.env("S3_ENDPOINT", &proxy.endpoint).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    tokio::task::spawn_blocking(move || sees.recv_timeout(Duration::from_mins(1)).unwrap()).await.unwrap();
    assert_eq!(stage.pending(), 1);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let ran = Ran::from(output).fails(130, "Interrupted; there is no archive");
    assert_eq!((ran.stdout.as_str(), stage.pending()), ("", 0), "{ran:#?}");
    assert!(stage.store().await.list("data/").await.unwrap().iter().all(|object| !object.key.contains("/archives/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_deleted_meanwhile_has_no_archive() {
    let stage = Arc::new(Stage::new());
    let (deleting, deleted) = (stage.clone(), Once::new());
    let director = move |request: &Request| {
        if kind(request) == Some("complete") {
            // Before the archive is there, and once: a request may come again.
            deleted.call_once(|| {
                Ran::from(deleting.workspace(&["delete", "myapp", "--yes"]).output().unwrap()).ok();
            });
        }
        Fault::None
    };
    let proxy = Proxy::start(&stage.server.endpoint, Arc::new(director)).await;
    let store = Store::connect(&stage.through(&proxy)).await.unwrap();
    let error = archive(&store, "myapp").await.unwrap_err();
    assert!(matches!(error, ArchiveError::Gone { .. }), "{error:?}");
    assert_eq!((stage.store().await.list("data/").await.unwrap(), stage.pending()), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_pack_makes_no_archive() {
    let stage = Stage::new();
    let director = |request: &Request| if kind(request) == Some("read a pack") { Fault::Flip } else { Fault::None };
    let proxy = Proxy::start(&stage.server.endpoint, Arc::new(director)).await;
    let store = Store::connect(&stage.through(&proxy)).await.unwrap();
    let error = archive(&store, "myapp").await.unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(stage.pending(), 0);
    assert!(stage.store().await.list("data/").await.unwrap().iter().all(|object| !object.key.contains("/archives/")));
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        1 => Just(" lead and trail ".to_owned()),
        1 => Just("-rf".to_owned()),
        1 => Just("new\nline".to_owned()),
        1 => Just("\u{fc}n\u{ef}c\u{f6}de \u{1f980}".to_owned()),
        1 => Just("x".repeat(255)),
        1 => "y{90,110}",
        1 => Just("quote'\"\\".to_owned()),
        1 => Just("*?[a]".to_owned()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        6 => (prop::collection::vec(any::<u8>(), 0..2_000), any::<bool>()).prop_map(|(content, executable)| Node::File(content, executable)),
        2 => (0_u8..3).prop_map(|content| Node::File(vec![content; 600], false)),
        1 => Just(Node::File(Vec::new(), true)),
        1 => "[a-c]{1,2}".prop_map(Node::Link),
        1 => "z{95,105}\u{e4}?".prop_map(Node::Link),
        1 => Just(Node::Empty),
    ]
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let path = prop::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/"));
    prop::collection::btree_map(path, node(), 1..12).prop_map(|nodes: BTreeMap<String, Node>| {
        let is_parent = |path: &str| nodes.keys().any(|other| other.starts_with(&format!("{path}/")));
        nodes.iter().filter(|(path, _)| !is_parent(path)).map(|(path, node)| (path.clone(), node.clone())).collect()
    })
}

/// The tree that stock tools make of an archive.
fn unpacked(archive: &[u8]) -> Tree {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = servers::command("bash")
        .args(["-c", "set -o pipefail; zstd -d | tar x -C \"$1\"", "-"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(archive).unwrap();
    let said: Vec<String> = BufReader::new(shell.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(shell.wait().unwrap().success() && said.is_empty(), "{said:?}");
    trees::read(folder.path())
}

#[test]
fn any_tree_comes_out_of_its_archive_by_stock_tools() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(Engine::new());
    let source = engine.folder("source");
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&(any_tree(), any_tree()), |(one, two)| {
            runtime.block_on(async {
                for tree in [&one, &two] {
                    fs::remove_dir_all(&source).unwrap();
                    fs::create_dir_all(&source).unwrap();
                    trees::write(&source, tree);
                    engine.upload("any", &source).await;
                    let archived = archive(&engine.store, "any").await.unwrap();
                    let object = engine.store.get(&archived.key).await.unwrap().body;
                    prop_assert_eq!(&unpacked(&object), tree);
                    // The manifest at its end is of the same tree.
                    let end = object.len() - TRAILER;
                    let trailer = Trailer::parse(&object[end..], object.len() as u64).unwrap();
                    let frame = trailer.frame();
                    let (start, end) = (usize::try_from(frame.start).unwrap(), usize::try_from(frame.end).unwrap());
                    let manifest = trailer.read(&object[start..end]).unwrap();
                    prop_assert_eq!(manifest.header.tree, archived.row.tree);
                }
                Ok(())
            })
        })
        .unwrap();
}
