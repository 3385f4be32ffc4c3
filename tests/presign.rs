//! A version by its URL: with curl, zstd and tar, and with `workspace download --from-url`; and what becomes of URLs and
//! archives that are not as they were made.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use cli::{Ran, TestEnvironment};
use servers::Server;
use trees::{Node, Tree, file, tree};
use ulid::Ulid;
use workspace::format::archive::{ArchiveBuilder, TRAILER, pieces};
use workspace::format::manifest::{ContentIndex, Header, ManifestBuilder};
use workspace::format::pack::{FrameBuilder, PackBuilder};
use workspace::format::{Entry, Hash, Keys, Kind};
use workspace::store::{Condition, Store};
use workspace::version;

/// Noise that does not compress.
fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// Everything that a tree can have; more than one part of an upload.
fn everything() -> Tree {
    let deep = format!("{}/{}", "d".repeat(120), "e".repeat(60));
    let mut all = tree([
        ("a.txt", file("same")),
        ("copies/a.txt", file("same")),
        ("-rf", file("a name like an option")),
        ("new\nline \u{e4}\u{1f980}", file("a name that ustar can't hold")),
        ("run.sh", Node::File(b"#!/bin/sh\n".to_vec(), true)),
        ("nothing", file("")),
        ("void/inside", Node::Empty),
        ("link", Node::Link("copies/a.txt".into())),
        ("dangling", Node::Link("l".repeat(150))),
        ("medium.bin", Node::File(noise(3 << 20, 3), false)),
        // Three parts of an upload.
        ("large.bin", Node::File(noise(34 << 20, 7), false)),
    ]);
    all.insert(deep, file("a long path"));
    all
}

/// A server with a workspace, and whoever uses it.
struct Stage<'s> {
    server: &'s Server,
    environment: TestEnvironment,
}

impl<'s> Stage<'s> {
    fn on(server: &'s Server) -> Self {
        Self { server, environment: TestEnvironment::new() }
    }

    fn with_keys(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.workspace(arguments);
        command
            .env("S3_ENDPOINT", &self.server.endpoint)
            .env("S3_ACCESS_KEY", &self.server.access_key)
            .env("S3_SECRET_KEY", &self.server.secret_key);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.with_keys(arguments).output().unwrap().into()
    }

    fn upload(&self, name: &str, tree: &Tree) -> PathBuf {
        let app = self.environment.folder(&format!("source-{name}"));
        trees::write(&app, tree);
        self.run(&["upload", name, app.to_str().unwrap()]).ok();
        app
    }

    fn presign(&self, selector: &str) -> String {
        let ran = self.run(&["presign", selector]).ok();
        let url = ran.stdout.strip_suffix('\n').unwrap().to_owned();
        assert!(!url.contains(char::is_whitespace), "{ran:#?}");
        assert!(!ran.stderr.contains("X-Amz-Signature="), "{ran:#?}");
        url
    }

    /// Without any key.
    fn download(&self, url: &str, folder: &str) -> Ran {
        self.environment.run(["download", "--from-url", url, folder])
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.environment.path().join("here").join(name)
    }

    /// Unpacks with stock tools.
    fn unpack(&self, url: &str, name: &str) -> PathBuf {
        let folder = self.environment.folder(&format!("here/{name}"));
        let script = "set -o pipefail; curl -fsS \"$1\" | zstd -d | tar x -C \"$2\"";
        let mut shell = self.environment.program("bash");
        let output = shell.args(["-c", script, "-", url]).arg(&folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    }

    async fn store(&self) -> Store {
        Store::connect(&self.server.settings("workspaces")).await.unwrap()
    }

    /// The keys of a workspace, and the key of the archive of its newest version.
    async fn archive(&self, name: &str) -> (Keys, String) {
        let name = name.parse().unwrap();
        let reference = version::existing_reference(&self.store().await, &name).await.unwrap().reference;
        let keys = Keys::new(&name, reference.root);
        let key = keys.archive(reference.rows.last().unwrap().id);
        (keys, key)
    }
}

fn times(folder: &Path) -> Vec<(String, i64)> {
    let files = trees::read(folder).into_iter().filter(|(_, node)| matches!(node, Node::File(..)));
    files.map(|(path, _)| (path.clone(), fs::metadata(folder.join(path)).unwrap().mtime())).collect()
}

/// The headers of the answer to a GET.
fn headers(stage: &Stage<'_>, url: &str) -> String {
    let output = stage.environment.program("curl").args(["-fsS", "-D", "-", "-o", "/dev/null", url]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().to_lowercase()
}

async fn whole_way(server: &Server) {
    let stage = Stage::on(server);
    let all = everything();
    let app = stage.upload("myapp", &all);
    let url = stage.presign("myapp");
    let (keys, key) = stage.archive("myapp").await;
    assert!(url.contains(&key), "{url}");
    assert!(headers(&stage, &url).contains("cache-control: max-age=31536000, immutable"));

    // Stock tools.
    let unpacked = stage.unpack(&url, "unpacked");
    assert_eq!(trees::read(&unpacked), all);
    assert_eq!(times(&unpacked), times(&app));

    // Ours, into an empty folder and again.
    let ran = stage.download(&url, "own").ok();
    assert_eq!((trees::read(&stage.folder("own")), ran.stdout.as_str()), (all.clone(), ""));
    assert_eq!(times(&stage.folder("own")), times(&app));
    let again =
        Ran::from(stage.environment.workspace(["download", "--json", "--from-url", &url, "own"]).output().unwrap());
    let report = again.ok().json();
    assert_eq!((&report["written"], &report["files"]), (&0.into(), &12.into()), "{report}");

    // The URL on standard input; and no log shows it.
    let mut child = stage
        .environment
        .workspace(["download", "-vvv", "--from-url", "-", "piped"])
        .env("WORKSPACE_LOG", "trace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{url}").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap()).ok();
    assert!(ran.stderr.contains("GetObject") && !ran.stderr.contains("X-Amz-Signature="), "{}", ran.stderr);
    assert_eq!(trees::read(&stage.folder("piped")), all);

    // It is written once, and the same again.
    let store = stage.store().await;
    let first = store.get(&key).await.unwrap();
    let report = stage.run(&["presign", "myapp", "--json", "--expires", "7d"]).ok().json();
    assert_eq!((&report["written"], &report["version"]), (&false.into(), &1.into()));
    assert_eq!((report["bytes"].as_u64(), report["key"].as_str()), (Some(first.body.len() as u64), Some(key.as_str())));
    assert_eq!(store.get(&key).await.unwrap().etag, first.etag);
    store.delete(&key, Condition::None).await.unwrap();
    stage.presign("myapp@1");
    assert_eq!(store.get(&key).await.unwrap().body, first.body);
    // What is there and isn't one is replaced.
    store.put(&key, first.body.slice(1..), Condition::None).await.unwrap();
    stage.presign("myapp@1");
    assert_eq!(store.get(&key).await.unwrap().body, first.body);

    // A version that is a delta, with content in packs of both.
    let mut next = all.clone();
    let Some(Node::File(large, _)) = next.get_mut("large.bin") else { panic!() };
    large.splice(11 << 20..11 << 20, *b"inserted");
    next.insert("new.txt".to_owned(), file("new"));
    next.remove("a.txt");
    fs::remove_file(app.join("a.txt")).unwrap();
    fs::remove_file(app.join("link")).unwrap();
    fs::remove_file(app.join("dangling")).unwrap();
    stage.upload("myapp", &next);
    let url = stage.presign("myapp");
    assert_eq!(trees::read(&stage.unpack(&url, "next")), next);
    // Over what an earlier archive brought.
    let ran =
        Ran::from(stage.environment.workspace(["download", "--delete", "--from-url", &url, "own"]).output().unwrap());
    assert!(ran.ok().stderr.contains("2 written"));
    assert_eq!(trees::read(&stage.folder("own")), next);

    // Packs may be kept as long, and nothing is left of what was begun.
    let pack = store.list(&format!("{}packs/", keys.prefix())).await.unwrap()[0].key.clone();
    let address = store.presign(&pack, Duration::from_mins(5)).await.unwrap();
    assert!(headers(&stage, &address).contains("cache-control: max-age=31536000, immutable"));
    let listed = server
        .tool("aws")
        .args(["s3api", "list-multipart-uploads", "--bucket", "workspaces", "--query", "Uploads"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().trim(), "null");
}

#[tokio::test]
async fn seaweedfs_gives_a_version_by_its_url() {
    whole_way(&Server::seaweedfs()).await;
}

#[tokio::test]
async fn the_served_store_gives_a_version_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    whole_way(&Server::workspace(folder.path())).await;
}

#[test]
fn the_store_on_this_machine_says_when_its_urls_work() {
    let environment = TestEnvironment::new();
    let app = environment.folder("app");
    fs::write(app.join("a"), "a").unwrap();
    environment.run(["upload", "myapp", app.to_str().unwrap()]).ok();
    let ran = environment.run(["presign", "myapp"]).ok();
    assert!(ran.stdout.starts_with("http://127.0.0.1:9900/workspaces/data/myapp/"), "{ran:#?}");
    assert!(ran.stderr.contains("works only while `workspace serve` runs here"), "{ran:#?}");
    assert!(ran.stderr.contains("Wrote myapp@1 (1 file, 1 B)"), "{ran:#?}");
    environment.run(["presign", "myap"]).fails(3, "hint: did you mean `myapp`?");
    environment.run(["presign", "myapp@2"]).fails(3, "`myapp@2` is not there");
    environment.run(["presign", "myapp", "--expires", "8d"]).fails(2, "7d at most");
}

#[test]
fn a_url_ends_with_the_keys_that_sign_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    let stage = Stage::on(&server);
    stage.upload("myapp", &tree([("a", file("a"))]));
    let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 600).unwrap();
    let keys = serde_json::json!({
        "Version": 1, "AccessKeyId": server.access_key, "SecretAccessKey": server.secret_key, "Expiration": end,
    });
    let config = stage.environment.path().join("config");
    fs::write(stage.environment.path().join("keys.json"), keys.to_string()).unwrap();
    let found = stage.environment.path().join("keys.json");
    fs::write(&config, format!("[default]\ncredential_process = cat {}\n", found.display())).unwrap();
    let presign = |lifetime: &str| {
        let mut command = stage.environment.workspace(["presign", "myapp", "--json", "--expires", lifetime]);
        command.env("S3_ENDPOINT", &server.endpoint).env("AWS_CONFIG_FILE", &config);
        Ran::from(command.output().unwrap()).ok()
    };
    let ran = presign("1h");
    assert!(ran.stderr.contains(&format!("warning: The keys that sign the URL expire at {end}")), "{ran:#?}");
    assert_eq!(ran.json()["expires"], end.to_string());
    let ran = presign("1m");
    assert!(!ran.stderr.contains("warning:"), "{ran:#?}");
}

#[tokio::test]
async fn a_url_that_is_not_as_it_was_made_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    let stage = Stage::on(&server);
    stage.upload("myapp", &tree([("a", file("a")), ("b.bin", Node::File(noise(200_000, 5), false))]));
    let url = stage.presign("myapp");
    // None of these may touch what is there.
    let target = stage.environment.folder("here/target");
    fs::write(target.join("mine"), "mine").unwrap();
    let mine = tree([("mine", file("mine"))]);
    let fails = |url: &str, code: i32, error: &str, hint: &str| {
        let ran = stage.download(url, "target").fails(code, error).fails(code, hint);
        assert!(!ran.stderr.contains("X-Amz-Signature="), "{ran:#?}");
        assert_eq!(trees::read(&target), mine, "{error}");
        ran
    };

    for text in ["myapp", "", "ftp://host/x", "https://me:pw@host/x"] {
        fails(text, 2, "error: the URL can't be used: ", "hint: `workspace presign NAME` prints one");
    }
    fails("-", 2, "it is empty", "workspace presign");
    // The shell took the rest, or somebody changed it.
    let (before, _) = url.split_once('&').unwrap();
    fails(before, 1, "does not accept the URL (", "hint: put the whole URL between quotes");
    let last = if url.ends_with('0') { "1" } else { "0" };
    let altered = format!("{}{last}", &url[..url.len() - 1]);
    fails(&altered, 1, "does not accept the URL (SignatureDoesNotMatch)", "hint: put the whole URL between quotes");
    let other = url.replace("myapp", "other");
    fails(&other, 1, "does not accept the URL (SignatureDoesNotMatch)", "ask for another URL");
    let closed = format!("http://127.0.0.1:{}/x", servers::free_port());
    fails(&closed, 5, "the connection was refused", "hint: the same command goes on");

    // Expired: it works at first, and soon does no more.
    let short = stage.run(&["presign", "myapp", "--expires", "2s"]).ok();
    let deadline = Instant::now() + Duration::from_mins(1);
    let expired = loop {
        let ran = stage.download(short.stdout.trim(), "short");
        if ran.code != Some(0) {
            break ran;
        }
        assert!(Instant::now() < deadline, "it never expires");
    };
    expired.fails(1, "error: the URL expired at 2").fails(1, "hint: ask for another URL: `workspace presign NAME`");

    // The object is something else.
    let (_, key) = stage.archive("myapp").await;
    let store = stage.store().await;
    let whole = store.get(&key).await.unwrap().body;
    let put = async |bytes: Bytes| store.put(&key, bytes, Condition::None).await.unwrap();
    let foreign = "what the URL leads to is not the archive of a version";
    for bytes in [Bytes::new(), Bytes::from_static(b"hello"), whole.slice(..whole.len() - 1), whole.slice(1..)] {
        put(bytes).await;
        fails(&url, 1, foreign, "hint: ask for another URL");
    }
    let flipped = |at: usize| {
        let mut bytes = BytesMut::from(&whole[..]);
        bytes[at] ^= 1;
        bytes.freeze()
    };
    put(flipped(whole.len() - TRAILER - 20)).await;
    fails(&url, 1, "its manifest is not the one that was written", "hint: ask for another URL");
    put(flipped(100_000)).await;
    let ran = fails(&url, 1, "error: the archive is damaged: ", "hint: try again");
    assert!(ran.stderr.contains("can't be restored from it; the target was not changed"), "{ran:#?}");
    store.delete(&key, Condition::None).await.unwrap();
    fails(&url, 3, "what the URL leads to is not there any more", "hint: ask for another URL");

    // Whole again; but what is in the target is somebody's.
    put(whole).await;
    fs::write(target.join("a"), "not ours").unwrap();
    stage.download(&url, "target").fails(4, "1 foreign or edited entry");
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "not ours");
    stage.run(&["download", "--from-url", &url, "target", "--force"]).ok();
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "a");
}

/// Answers every request by itself: whatever was asked for, the whole object; or with its parts where `ranges` is set.
fn plain_server(object: Vec<u8>, ranges: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/archive.tar.zst", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 8192];
            let length = connection.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")).filter(|_| ranges);
            let total = object.len();
            let (start, end) = match range.and_then(|range| range.trim().split_once('-')) {
                None => (0, total),
                Some(("", last)) => (total.saturating_sub(last.parse().unwrap()), total),
                Some((first, last)) => (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1),
            };
            let status = match range {
                Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}", end - 1),
                None => "200 OK".to_owned(),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", end - start);
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&object[start..end]));
        }
    });
    url
}

/// The archive of files that all have one content.
fn archive_of_zeros(files: usize, length: usize) -> Vec<u8> {
    let content = vec![0; length];
    let mut frame = FrameBuilder::default();
    frame.add("x", false, 0, Hash::of(&content), &content).unwrap();
    let mut pack = PackBuilder::new(Ulid::from_parts(1, 1));
    pack.add(frame.finish().unwrap());
    let mut index = ContentIndex::default();
    index.add_pack(&pack.finish().unwrap());
    let mut builder = ManifestBuilder::default();
    let found = [(Hash::of(&content), *index.find(&Hash::of(&content)).unwrap())];
    let place = builder.content(&found, false);
    let mut entries: Vec<Entry> = (0..files)
        .map(|number| Entry {
            path: Hash::of(&number.to_le_bytes()).to_string().parse().unwrap(),
            kind: Kind::File {
                executable: false,
                size: length as u64,
                mtime: 0,
                hash: Hash::of(&content),
                content: place.clone(),
            },
        })
        .collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    for entry in &entries {
        builder.push(entry.clone());
    }
    let header = Header::of(&entries, jiff::Timestamp::UNIX_EPOCH);
    let manifest = builder.finish(header);
    let mut builder = ArchiveBuilder::new(&manifest, Ulid::from_parts(7, 7)).unwrap();
    let mut out = Vec::new();
    for piece in pieces(&manifest) {
        builder.add(&piece, &content).unwrap();
        out.extend_from_slice(&builder.take());
    }
    out.extend_from_slice(&builder.finish().unwrap().bytes);
    out
}

#[test]
fn a_server_that_is_not_s3_serves_an_archive_if_it_knows_ranges() {
    let environment = TestEnvironment::new();
    // A manifest that is larger than what is read first.
    let archive = archive_of_zeros(3000, 3);
    assert!(archive.len() > 80_000, "{}", archive.len());
    let url = plain_server(archive.clone(), true);
    environment.run(["download", "--from-url", &url, "parts"]).ok();
    assert_eq!(trees::read(&environment.path().join("here/parts")).len(), 3000);
    environment
        .run(["download", "--from-url", &plain_server(archive, false), "whole"])
        .fails(1, "does not serve parts of the archive")
        .fails(1, "hint: `curl -fsS 'URL' | zstd -d | tar x` unpacks it unverified");
    assert!(!environment.path().join("here/whole").exists());
}

#[test]
fn an_archive_that_claims_more_than_there_is_room_for_writes_nothing() {
    // 1.6 GiB in a few kilobytes.
    let archive = archive_of_zeros(100, 16 << 20);
    assert!(archive.len() < 2 << 20);
    let environment = TestEnvironment::new();
    let mount = environment.folder("here/target");
    let ran = full_disk(&environment, &mount, &plain_server(archive, true));
    ran.fails(1, "has not enough room: 1.6 GiB are needed").fails(1, "hint: make room");
}

/// Runs the download where the file system of the target has 16 MiB.
fn full_disk(environment: &TestEnvironment, mount: &Path, url: &str) -> Ran {
    let script = "mount -t tmpfs -o size=16m tmpfs \"$1\" && \"$2\" download --from-url \"$3\" \"$1\"";
    let mut shell = environment.program("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "-"]).arg(mount).args([cli::BINARY, url]);
    shell.output().unwrap().into()
}

#[test]
fn an_interrupted_download_goes_on_and_leaves_no_trace_in_the_tree() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("here/target");
    let archive = archive_of_zeros(3, 70_000);
    // Half of it never comes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let end = archive.len();
    let copy = archive.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 8192];
            let length = connection.read(&mut request).unwrap_or(0);
            let suffix = String::from_utf8_lossy(&request[..length]).to_lowercase().contains("bytes=-");
            let start = if suffix { end.saturating_sub(64 << 10) } else { 0 };
            let range = format!("bytes {start}-{}/{end}", end - 1);
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                end - start
            );
            let sent = if suffix { &copy[start..] } else { &copy[..10] };
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(sent));
        }
    });
    environment.run(["download", "--from-url", &url, folder.to_str().unwrap()]).fails(1, "error: ").fails(1, "hint: ");
    assert!(trees::read(&folder).is_empty());
    environment.run(["download", "--from-url", &plain_server(archive, true), folder.to_str().unwrap()]).ok();
    assert_eq!(trees::read(&folder).len(), 3);
    let any = folder.join(trees::read(&folder).keys().next().unwrap());
    assert_eq!(fs::metadata(any).unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH);
}
