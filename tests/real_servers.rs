//! The whole way of a workspace on S3 servers that others wrote, one of which ignores conditions.

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
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cli::{Ran, TestEnvironment};
use faults::{Director, Fault, Proxy, Request};
use servers::Server;
use trees::{Node, file};
use workspace::store::Store;

fn on(server: &Server, environment: &TestEnvironment, arguments: &[&str]) -> Command {
    let mut command = environment.workspace(arguments);
    command
        .env("S3_ENDPOINT", &server.endpoint)
        .env("S3_ACCESS_KEY", &server.access_key)
        .env("S3_SECRET_KEY", &server.secret_key)
        .env("S3_BUCKET", "workspaces");
    command
}

fn tree(folder: &Path) {
    let large: Vec<u8> = (0..6_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let nodes = [
        ("a", file("a")),
        ("d/run.sh", Node::File(b"#!/bin/sh\n".to_vec(), true)),
        ("large", Node::File(large, false)),
        ("link", Node::Link("a".into())),
        ("void", Node::Empty),
    ];
    trees::write(folder, &nodes.into_iter().map(|(path, node)| (path.to_owned(), node)).collect());
}

/// Upload, unchanged, change, sync from CI, download, delete.
fn whole_way(server: &Server, extra: &[&str]) {
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    tree(&app);
    let app = app.to_str().unwrap();
    let run = |arguments: &[&str]| Ran::from(on(server, &environment, arguments).output().unwrap());
    let upload = |name| run(&[&["upload", name, app, "--json"], extra].concat()).ok().json();
    let first = upload("one");
    assert_eq!((&first["outcome"], &first["version"]), (&"published".into(), &1.into()));
    let again = upload("one");
    assert_eq!((&again["outcome"], &again["requests"]), (&"unchanged".into(), &1.into()));
    fs::write(Path::new(app).join("a"), "changed").unwrap();
    let changed = upload("one");
    assert_eq!((&changed["version"], &changed["requests"]), (&2.into(), &4.into()));
    fs::write(Path::new(app).join("a"), "from CI").unwrap();
    let sync = [&["sync", "one", app, "--expect", "2", "--json"], extra].concat();
    let synced = Ran::from(on(server, &environment, &sync).env("CI", "true").output().unwrap()).ok().json();
    assert_eq!(synced["version"], 3);
    let other = upload("two");
    assert_eq!(other["version"], 1);
    let list = run(&["list"]).ok();
    assert_eq!(list.stdout.lines().count(), 2, "{list:?}");
    run(&["download", "one", "copy"]).ok();
    assert_eq!(trees::read(&environment.path().join("here/copy")), trees::read(Path::new(app)));
    run(&["download", "one@2", "copy"]).ok();
    assert_eq!(fs::read_to_string(environment.path().join("here/copy/a")).unwrap(), "changed");
    run(&[&["tag", "one@2", "stable"], extra].concat()).ok();
    let large = on(server, &environment, &["show", "one@stable", "large"]).output().unwrap();
    assert!(large.stdout == fs::read(Path::new(app).join("large")).unwrap(), "{}", large.status);
    let diff = run(&["diff", "one@stable", app, "-p"]).ok();
    assert!(diff.stdout.contains("\n-changed\n") && diff.stdout.contains("\n+from CI\n"), "{diff:?}");
    let back = run(&[&["rollback", "one", "stable", "--json"], extra].concat()).ok().json();
    assert_eq!((&back["version"], &back["origin"], &back["requests"]), (&4.into(), &2.into(), &3.into()));
    assert_eq!(run(&["show", "one", "a"]).ok().stdout, "changed");
    let log = run(&["log", "one", "-n", "1"]).ok();
    assert!(log.stdout.starts_with("4\t-\t") && log.stdout.ends_with("\t2\t-\n"), "{log:?}");
    run(&[&["delete", "one", "--yes"], extra].concat()).ok();
    run(&["download", "one"]).fails(3, "there is no workspace `one`");
    assert_eq!(run(&["list"]).ok().stdout.lines().count(), 1);
    assert_eq!(upload("one")["version"], 1);
}

#[test]
fn seaweedfs_takes_it() {
    whole_way(&Server::seaweedfs(), &[]);
}

#[test]
fn the_store_on_this_machine_takes_it_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    whole_way(&Server::workspace(folder.path()), &[]);
}

#[test]
fn a_server_that_ignores_conditions_is_refused_unless_a_single_writer_is_promised() {
    let server = Server::rclone();
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    tree(&app);
    let ran: Ran = on(&server, &environment, &["upload", "one", app.to_str().unwrap()]).output().unwrap().into();
    ran.fails(1, "does not support conditional writes").fails(1, "hint: `--single-writer`");
    whole_way(&server, &["--single-writer"]);
}

#[test]
fn a_bucket_with_other_objects_is_not_used_silently() {
    let server = Server::seaweedfs();
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    fs::write(app.join("a"), "a").unwrap();
    for arguments in [
        &["s3", "mb", "s3://workspaces"][..],
        &["s3", "cp", app.join("a").to_str().unwrap(), "s3://workspaces/foreign"],
    ] {
        let output = server.tool("aws").args(["--endpoint-url", &server.endpoint]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let run = |arguments: &[&str]| Ran::from(on(&server, &environment, arguments).output().unwrap());
    run(&["upload", "one", app.to_str().unwrap()]).fails(4, "holds other objects, such as `foreign`");
    run(&["upload", "one", app.to_str().unwrap(), "--yes"]).ok();
    run(&["upload", "two", app.to_str().unwrap()]).ok();
}

/// Knows no checksum but MD5, and says so in its own way.
struct OnlyMd5 {
    answer: Fault,
    refused: AtomicUsize,
}

impl Director for OnlyMd5 {
    fn fault(&self, request: &Request) -> Fault {
        let of_an_object = request.path.contains("/data/");
        if request.method != "PUT" || !of_an_object || request.header("content-md5").is_some() {
            return Fault::None;
        }
        assert!(request.header("x-amz-checksum-crc32c").is_some(), "a write without a checksum: {}", request.head);
        self.refused.fetch_add(1, Ordering::SeqCst);
        self.answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_only_md5_is_found_out_by_one_pack() {
    let server = Server::seaweedfs();
    for (at, answer) in
        [Fault::Answer(501, "NotImplemented"), Fault::Answer(400, "InvalidArgument")].into_iter().enumerate()
    {
        let director = Arc::new(OnlyMd5 { answer, refused: AtomicUsize::new(0) });
        let proxy = Proxy::start(&server.endpoint, director.clone()).await;
        let settings = servers::s3(&proxy.endpoint, &server.access_key, &server.secret_key, &format!("md5-{at}"));
        let store = Store::connect(&settings).await.unwrap();
        store.create_bucket().await.unwrap();
        for number in 0..3 {
            let body = bytes::Bytes::from(vec![number; 1 << 20]);
            let key = format!("data/{number}");
            store.put_immutable(&key, body.clone()).await.unwrap();
            assert_eq!(store.get(&key).await.unwrap().body, body);
        }
        assert_eq!(director.refused.load(Ordering::SeqCst), 1, "{answer:?}");
    }
}
