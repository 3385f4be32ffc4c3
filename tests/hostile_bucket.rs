//! Somebody else may write to the bucket. Whatever lies there: nothing outside of a target is touched, memory and disk are bounded,
//! nothing of it runs, and no terminal takes it for orders.

#![expect(clippy::print_stdout, reason = "figures for whoever looks")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/cli.rs"]
mod cli;
#[path = "support/forge.rs"]
mod forge;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bucket::Bucket;
use cli::{Ran, TestEnvironment};
use forge::{Forged, Node, PACK, file_line, run_of};
use serde_json::json;
use workspace::format::Hash;

/// What a command may need for a small version, in KiB: far less than any of the bombs here.
const SMALL: u64 = 256 << 10;

/// Runs the binary, and sees to it that it needed no more memory than it may.
#[track_caller]
fn within(environment: &TestEnvironment, arguments: &[&str], most: u64) -> Ran {
    let (output, peak) = memory::peak(&environment.workspace(arguments));
    println!("{arguments:?}: {} MiB", peak >> 10);
    let ran = Ran::from(output);
    assert!(peak < most, "{peak} KiB: {ran:?}");
    ran
}

/// A bucket with its record, and nothing else.
fn bucket_of(environment: &TestEnvironment) -> Bucket {
    let first = environment.folder("first");
    fs::write(first.join("a"), "a").unwrap();
    environment.run(["upload", "first", first.to_str().unwrap()]).ok();
    environment.run(["delete", "first", "--yes"]).ok();
    Bucket::of(environment)
}

/// What is in a download's folder.
fn downloaded(environment: &TestEnvironment, folder: &str) -> Vec<String> {
    let folder = environment.path().join("here").join(folder);
    if folder.exists() { trees::read(&folder).into_keys().collect() } else { Vec::new() }
}

#[test]
fn a_frame_that_holds_ten_gibibytes_fills_neither_memory_nor_disk() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let bomb = run_of(0, 10 << 30);
    assert!(bomb.len() < 512 << 10);
    let content = "\0".repeat(1_024);
    let lines = vec![
        json!({"pack": PACK, "size": bomb.len()}).to_string(),
        json!({"frame": [0, 0, bomb.len(), 1_024]}).to_string(),
        file_line("a", &content, 0, 0),
    ];
    Forged::with(lines, bomb, 1).fitting().publish(&bucket, "bomb");
    within(&environment, &["download", "bomb", "copy"], SMALL).fails(1, "is damaged: a frame does not decompress");
    within(&environment, &["show", "bomb", "a"], SMALL).fails(1, "is damaged");
    let ran = within(&environment, &["verify", "bomb", "--deep"], SMALL).fails(1, "1 of 2 objects damaged");
    assert!(ran.stdout.contains("a frame does not decompress"), "{ran:?}");
    within(&environment, &["presign", "bomb"], SMALL).fails(1, "is damaged");
    assert!(downloaded(&environment, "copy").is_empty());
}

#[test]
fn a_manifest_without_an_end_is_given_up() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let forged = Forged::sound(vec![("a", Node::File("a", false))]);
    // One line that never ends.
    let header = zstd::stream::encode_all(format!("{}\n", forged.header).as_bytes(), 3).unwrap();
    forged.publish_as(&bucket, "line", [header.clone(), run_of(b'x', 10 << 30)].concat());
    within(&environment, &["download", "line"], SMALL).fails(1, "a line of the manifest is over the limit of 16777216");
    // Lines that are right one by one, and too much together.
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    let line = format!("{{\"pack\":\"{PACK}\",\"size\":1,\"later\":\"{}\"}}\n", "x".repeat(15 << 20));
    for _ in 0..72 {
        encoder.write_all(line.as_bytes()).unwrap();
    }
    let lines = encoder.finish().unwrap();
    assert!(lines.len() < 1 << 20);
    forged.publish_as(&bucket, "lines", [header, lines].concat());
    within(&environment, &["download", "lines"], SMALL).fails(1, "the manifest is over the limit of 1073741824");
    // A window that is larger than any that was ever written with.
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(format!("{}\n", forged.header).as_bytes()).unwrap();
    forged.publish_as(&bucket, "window", encoder.finish().unwrap());
    within(&environment, &["download", "window"], SMALL).fails(1, "it does not decompress");
}

#[test]
fn files_that_are_together_more_than_the_version_says_are_refused() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    // One frame of 16 MiB for a hundred files.
    let content = "\0".repeat(16 << 20);
    let frame = run_of(0, 16 << 20);
    let mut lines = vec![
        json!({"pack": PACK, "size": frame.len()}).to_string(),
        json!({"frame": [0, 0, frame.len(), 16 << 20]}).to_string(),
    ];
    lines.extend((0..100).map(|at| file_line(&format!("{at:03}"), &content, 0, 0)));
    let mut forged = Forged::with(lines, frame, 100).fitting();
    forged.header["bytes"] = json!(10);
    forged.publish(&bucket, "manifest");
    within(&environment, &["download", "manifest"], SMALL)
        .fails(1, "100 files of 1677721600 bytes, and says 100 of 10");
    forged = forged.fitting();
    forged.reference["rows"][0]["bytes"] = json!(10);
    forged.publish(&bucket, "row");
    within(&environment, &["download", "row"], SMALL).fails(1, "where the ref names 100 of 10");
    assert!(downloaded(&environment, "manifest").is_empty() && downloaded(&environment, "row").is_empty());
    // Said honestly it is refused where there is not enough room for it: nothing is written before that is known.
    let mut parts = vec![(0, 0, 16 << 20, Hash::of(content.as_bytes())); 100_000];
    parts.shrink_to_fit();
    let huge =
        json!({"file": "huge", "size": 100_000_u64 * (16 << 20), "mtime": 0, "hash": Hash::of(b"?"), "parts": parts});
    let pack = run_of(0, 16 << 20);
    let lines = vec![
        json!({"pack": PACK, "size": pack.len()}).to_string(),
        json!({"frame": [0, 0, pack.len(), 16 << 20]}).to_string(),
        huge.to_string(),
    ];
    Forged::with(lines, pack, 1).fitting().publish(&bucket, "huge");
    within(&environment, &["download", "huge"], SMALL).fails(1, "has not enough room: 1.5 TiB are needed");
}

#[test]
fn small_files_in_large_frames_were_all_decompressed_at_once() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let frame = run_of(b'x', 16 << 20);
    let forged = |content: &str| {
        let mut lines = vec![json!({"pack": PACK, "size": frame.len()}).to_string()];
        // The same bytes, as a hundred frames.
        lines.extend((0..100).map(|_| json!({"frame": [0, 0, frame.len(), 16 << 20]}).to_string()));
        lines.extend((0..100_u32).map(|at| file_line(&format!("{at:03}"), &content[..=at as usize], at, 0)));
        Forged::with(lines, frame.clone(), 100).fitting()
    };
    forged(&"x".repeat(100)).publish(&bucket, "frames");
    let empty = environment.folder("empty");
    fs::write(empty.join("other"), "y").unwrap();
    let arguments = ["diff", "frames", empty.to_str().unwrap(), "-p"];
    let ran = within(&environment, &arguments, SMALL).ok();
    assert!(ran.stdout.contains("deleted file mode 100644"), "{}", ran.stdout);
}

/// A server that sends bodies without an end.
fn endless(announced: Option<u64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    connection.read_exact(&mut byte)?;
                    request.push(byte[0]);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                if !request.contains("/refs/") && !request.contains("/archive") {
                    let body = "<Error><Code>NoSuchKey</Code></Error>";
                    return write!(connection, "HTTP/1.1 404 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                }
                write!(connection, "HTTP/1.1 200 OK\r\nETag: \"x\"\r\n")?;
                match announced {
                    Some(length) => write!(connection, "Content-Length: {length}\r\n\r\n")?,
                    None => write!(connection, "Connection: close\r\n\r\n")?,
                }
                let piece = vec![b' '; 1 << 20];
                loop {
                    connection.write_all(&piece)?;
                }
            });
        }
    });
    endpoint
}

#[test]
fn a_ref_without_an_end_is_not_read_to_it() {
    let environment = TestEnvironment::new();
    for announced in [None, Some(1 << 40)] {
        let endpoint = endless(announced);
        let mut command = environment.workspace(["log", "shop"]);
        command
            .env("S3_ENDPOINT", &endpoint)
            .env("S3_BUCKET", "bucket")
            .env("S3_ACCESS_KEY", "k")
            .env("S3_SECRET_KEY", "s");
        let (output, peak) = memory::peak(&command);
        println!("{} MiB", peak >> 10);
        Ran::from(output).fails(1, "the ref is over the limit of 983040");
        assert!(peak < SMALL, "{peak} KiB");
        let url = format!("{endpoint}/archive?X-Amz-Signature=0");
        within(&environment, &["download", "--from-url", &url, "copy"], SMALL).fails(1, "does not serve parts");
    }
}

#[test]
fn refs_beyond_all_measure_are_named_and_hide_no_other() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    Forged::sound(vec![("a", Node::File("a", false))]).publish(&bucket, "good");
    let row = Forged::sound(vec![("a", Node::File("a", false))]).reference["rows"][0].clone();
    // A million of them.
    let rows = format!("{row},").repeat(1_000_000);
    let many = format!("{{\"format\":1,\"root\":\"{PACK}\",\"current\":1000000,\"rows\":[{rows}{row}]}}");
    assert!(many.len() > 200 << 20);
    bucket.put("refs/many.json", many.into_bytes());
    let mut forged = Forged::sound(vec![("a", Node::File("a", false))]);
    for (name, field) in [("bytes", "bytes"), ("files", "files"), ("origin", "origin")] {
        let before = forged.reference["rows"][0][field].take();
        forged.reference["rows"][0][field] = json!(u64::MAX);
        bucket.put(&format!("refs/{name}.json"), forged.reference.to_string().into_bytes());
        forged.reference["rows"][0][field] = before;
    }
    forged.reference["rows"][0].as_object_mut().unwrap().remove("origin");
    for (name, field) in [("current", "current"), ("collections", "collections")] {
        let mut reference = forged.reference.clone();
        reference[field] = json!(u64::MAX);
        bucket.put(&format!("refs/{name}.json"), reference.to_string().into_bytes());
    }
    bucket.put("refs/deep.json", format!("{{\"format\":1,\"x\":{}", "[".repeat(100_000)).into_bytes());
    let list = within(&environment, &["list"], SMALL).ok();
    assert!(list.stdout.starts_with("good\t1\t") && list.stdout.lines().count() == 1, "{list:?}");
    for name in ["many", "bytes", "files", "origin", "current", "collections", "deep"] {
        assert!(list.stderr.contains(&format!("the ref `refs/{name}.json` can't be used")), "{name}: {list:?}");
        let source = environment.folder("source");
        fs::write(source.join("a"), "a").unwrap();
        environment.run(["upload", name, source.to_str().unwrap()]).fails(1, "can't be used");
        environment.run(["rollback", name]).fails(1, "can't be used");
    }
    within(&environment, &["log", "many"], SMALL).fails(1, "the ref is over the limit of 983040");
}

#[test]
fn paths_that_lead_elsewhere_are_refused_whole() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let long = "x".repeat(256);
    let deep = ["d"; 257].join("/");
    let cases: &[&[&str]] = &[
        &["../evil"],
        &["/evil"],
        &["a/../../evil"],
        &["a/.."],
        &["./evil"],
        &["a//b"],
        &["a/"],
        &[""],
        &["a\0b"],
        &[".workspace/tree"],
        &[".WORKSPACE/stage/x"],
        &["a/.workspace/tree"],
        &[&long],
        &[&deep],
        // There twice, out of order, a file as a folder.
        &["a", "a"],
        &["b", "a"],
        &["a", "a/b"],
        &["a", "a-b", "a/b"],
    ];
    for paths in cases {
        let files: Vec<(&str, &str)> = std::iter::once(&"!").chain(*paths).map(|path| (*path, "x")).collect();
        Forged::of(&files).publish(&bucket, "evil");
        let ran = environment.run(["download", "evil", "copy"]).fails(1, "the manifest `data/evil/");
        assert!(!ran.stderr.contains('\0') && downloaded(&environment, "copy").is_empty(), "{paths:?}: {ran:?}");
        fs::remove_dir_all(environment.path().join("cache")).unwrap();
    }
    assert!(!environment.path().join("here/evil").exists() && !environment.path().join("evil").exists());
    // Numbers that no memory holds.
    for (from, to) in [
        ("\"at\":[0,512]", "\"at\":[0,4294967295]"),
        ("\"at\":[0,512]", "\"at\":[4294967295,0]"),
        ("\"size\":1}", "\"size\":18446744073709551615}"),
        ("[0,0,", "[0,18446744073709551615,"),
        ("[0,0,", "[4294967295,0,"),
        (",1024]}", ",4294967295]}"),
        ("\"end\":[1,1,1,0]", "\"end\":[18446744073709551615,1,1,0]"),
        ("{\"end\"", "{\"pack\":\"00000000030000000000000003\",\"size\":18446744073709551615}\n{\"end\""),
    ] {
        let forged = Forged::of(&[("a", "x")]);
        let text: Vec<String> = forged.lines.iter().map(|line| line.replace(from, to)).collect();
        assert_ne!(text, forged.lines, "{from}");
        Forged { lines: text, ..forged }.publish(&bucket, "evil");
        within(&environment, &["download", "evil", "copy"], SMALL).fails(1, "the manifest `data/evil/");
        fs::remove_dir_all(environment.path().join("cache")).unwrap();
    }
}

/// Backslashes, case and accents are nothing special here: each name is the file that it names.
#[test]
fn names_that_are_one_elsewhere_are_several_here() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let names =
        ["..\\evil", "C:\\evil", "CON", "README", "readme", "Readme", "caf\u{e9}", "cafe\u{301}", "-rf", " ", "a\nb"];
    Forged::sound(names.iter().map(|name| (*name, Node::File(name, false))).collect()).publish(&bucket, "names");
    environment.run(["download", "names", "copy"]).ok();
    let folder = environment.path().join("here/copy");
    for name in names {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), name);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), names.len() + 1);
}

#[test]
fn links_lead_no_writer_out() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let outside = environment.folder("outside");
    fs::write(outside.join("file"), "mine").unwrap();
    let there = outside.to_str().unwrap();
    for links in [
        vec![("l", there)],
        vec![("l", "..")],
        vec![("d/l", "../../outside")],
        vec![("a", "."), ("l", "a/a/..")],
        vec![("a", "b"), ("b", "../outside")],
        // As many steps as it likes to keep us busy with.
        vec![("a", &*"b/".repeat(1_500)), ("b", &*"./".repeat(1_500)), ("l", &*"a/".repeat(1_500))],
    ] {
        let entries = links.iter().map(|(path, to)| (*path, Node::Link(to))).collect();
        Forged::sound(entries).publish(&bucket, "links");
        environment.run(["download", "links", "copy"]).fails(4, "points out of the target");
        fs::remove_dir_all(environment.path().join("cache")).unwrap();
    }
    // A file beneath a link, in one version: no manifest says so.
    let mut forged = Forged::sound(vec![("l-", Node::File("evil", false)), ("l", Node::Link(there))]);
    for line in &mut forged.lines {
        *line = line.replace("\"file\":\"l-\"", "\"file\":\"l/file\"");
    }
    forged.publish(&bucket, "beneath");
    for flags in [&["--allow-external-links"][..], &["--allow-external-links", "--force"]] {
        environment
            .run([&["download", "beneath", "copy"], flags].concat())
            .fails(1, "is below something that is no folder");
    }
    // In two versions: the link is replaced, not followed.
    Forged::sound(vec![("l", Node::Link(there))]).publish(&bucket, "two");
    environment.run(["download", "two", "both", "--allow-external-links"]).ok();
    fs::remove_dir_all(environment.path().join("cache")).unwrap();
    Forged::sound(vec![("l/file", Node::File("new", true))]).publish(&bucket, "two");
    environment.run(["download", "two", "both"]).ok();
    assert!(fs::symlink_metadata(environment.path().join("here/both/l")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// The second read of the last part found it written, and took the file for verified.
#[test]
fn parts_that_are_right_and_are_not_the_file_were_taken_for_it() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let mut version = Forged::sound(vec![("a", Node::File("onceonly", false))]);
    let (once, only) = (Hash::of(b"once"), Hash::of(b"only"));
    let parts = format!(r#""parts":[[0,516,4,"{only}"],[0,512,4,"{once}"]]"#);
    for line in &mut version.lines {
        *line = line.replace(r#""at":[0,512]"#, &parts);
    }
    assert!(version.lines.iter().any(|line| line.contains("parts")));
    version.publish(&bucket, "swapped");
    environment.run(["download", "swapped", "target"]).fails(1, "its parts do not add up to its digest");
    assert_eq!(downloaded(&environment, "target"), [".workspace"; 0]);
    environment.run(["show", "swapped", "a"]).fails(1, "its parts do not add up to its digest");
}

#[test]
fn nothing_is_planted_in_a_repository() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let work_tree = environment.folder("here/repository");
    environment.git(&work_tree, &["init", "-q"]);
    let ran = environment.path().join("ran");
    let hook = format!("#!/bin/sh\ntouch {}\n", ran.display());
    let config = format!("[core]\n\tfsmonitor = \"touch {}\"\n", ran.display());
    let before = trees::read(&work_tree.join(".git"));
    for (path, content) in [
        (".git/hooks/pre-commit", hook.as_str()),
        (".git/hooks/post-checkout", &hook),
        (".git/config", &config),
        (".git/config.worktree", &config),
        (".GIT/config", &config),
        (".g\u{200c}it/config", &config),
        ("git~1/config", &config),
        ("sub/.git/config", &config),
        (".git", "gitdir: /tmp/elsewhere\n"),
        ("sub/.git", "gitdir: ../x\n"),
    ] {
        let version = Forged::sound(vec![("README", Node::File("x", false)), (path, Node::File(content, true))]);
        version.publish(&bucket, "hooks");
        for folder in ["repository", "fresh"] {
            for flags in [&[][..], &["--force"], &["--force", "--delete", "--allow-external-links"]] {
                let ran = environment.run([&["download", "hooks", folder], flags].concat());
                ran.fails(1, "belongs to a Git repository, which could run programs here; nothing was changed");
            }
        }
        environment.run(["presign", "hooks"]).fails(1, "belongs to a Git repository");
        let run = environment.path().join("app");
        let mut command = environment.workspace(["run", "hooks", "--dir", run.to_str().unwrap()]);
        command.env("STORAGE_MODE", "embedded");
        assert_ne!(Ran::from(command.output().unwrap()).code, Some(0));
        assert!(!run.join(path).exists());
        fs::remove_dir_all(environment.path().join("cache")).unwrap();
    }
    // A folder, and a link in its place.
    for node in [Node::Folder, Node::Link("x")] {
        Forged::sound(vec![(".git", node)]).publish(&bucket, "hooks");
        environment.run(["download", "hooks", "repository", "--force"]).fails(1, "belongs to a Git repository");
        fs::remove_dir_all(environment.path().join("cache")).unwrap();
    }
    environment.git(&work_tree, &["status"]);
    environment.git(&work_tree, &["commit", "-q", "--allow-empty", "-m", "x"]);
    assert!(!ran.exists() && !work_tree.join("README").exists());
    assert_eq!(trees::read(&work_tree.join(".git/hooks")), {
        let hooks =
            before.iter().filter_map(|(path, node)| Some((path.strip_prefix("hooks/")?.to_owned(), node.clone())));
        hooks.collect()
    });
}

/// The `tar` crate gave a folder outside its mode when a folder stood, in an archive, where a link was.
#[test]
fn cve_2026_33056_no_mode_changes_behind_a_link() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let outside = environment.folder("outside");
    fs::write(outside.join("x"), "x").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(outside.join("x"), fs::Permissions::from_mode(0o600)).unwrap();
    let copy = environment.folder("here/copy");
    for planted in [true, false] {
        let _ = fs::remove_file(copy.join("d"));
        if planted {
            symlink(&outside, copy.join("d")).unwrap();
        } else {
            Forged::sound(vec![("d", Node::Link(outside.to_str().unwrap()))]).publish(&bucket, "links");
            environment.run(["download", "links", "copy", "--allow-external-links", "--force"]).ok();
        }
        for entries in [vec![("d", Node::Folder)], vec![("d/x", Node::File("x", true))], vec![("d/x", Node::Folder)]] {
            Forged::sound(entries).publish(&bucket, "folder");
            let _ = environment.run(["download", "folder", "copy"]);
            environment.run(["download", "folder", "copy", "--force", "--delete"]).ok();
            assert!(fs::symlink_metadata(copy.join("d")).unwrap().is_dir());
            let _ = fs::remove_dir_all(environment.path().join("cache"));
        }
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(outside.join("x")).unwrap().permissions().mode() & 0o7777, 0o600);
        fs::remove_dir_all(copy.join("d")).unwrap();
    }
    // The crate itself, which only takes apart what the Engine sends, has been mended since 0.4.45.
    let lock = include_str!("../Cargo.lock");
    let version = lock.split("name = \"tar\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let number: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(number >= vec![0, 4, 45], "{version}");
}

/// Cargo unpacked a link to the folder above, and then files beneath it: over another crate's source.
#[test]
fn cve_2026_5223_a_neighbour_is_not_overwritten() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let neighbour = environment.folder("here/neighbour");
    fs::write(neighbour.join("lib.rs"), "mine").unwrap();
    for target in ["..", "../neighbour", "./../neighbour", "x/../../neighbour"] {
        let mut forged = Forged::sound(vec![("l", Node::Link(target)), ("l-", Node::File("evil", false))]);
        let plain = Forged::sound(vec![("l", Node::Link(target))]);
        for line in &mut forged.lines {
            *line = line.replace(
                "\"file\":\"l-\"",
                if target == ".." { "\"file\":\"l/neighbour/lib.rs\"" } else { "\"file\":\"l/lib.rs\"" },
            );
        }
        forged.publish(&bucket, "crate");
        for flags in [&[][..], &["--force", "--allow-external-links"]] {
            let _ = fs::remove_dir_all(environment.path().join("cache"));
            environment.run([&["download", "crate", "crate"], flags].concat()).fails(1, "no folder");
        }
        plain.publish(&bucket, "link");
        environment.run(["download", "link", "link"]).fails(4, "points out of the target");
        let _ = fs::remove_dir_all(environment.path().join("cache"));
    }
    assert_eq!(fs::read_to_string(neighbour.join("lib.rs")).unwrap(), "mine");
}

/// pip wrote through links that an archive had brought, out of the folder that it was told.
#[test]
fn cve_2025_8869_a_file_takes_the_place_of_a_link() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let outside = environment.path().join("here/outside");
    fs::create_dir_all(outside.parent().unwrap()).unwrap();
    fs::write(&outside, "mine").unwrap();
    Forged::sound(vec![("a", Node::Link("../outside")), ("b", Node::Link("a"))]).publish(&bucket, "pip");
    environment.run(["download", "pip", "copy"]).fails(4, "points out of the target");
    environment.run(["download", "pip", "copy", "--allow-external-links"]).ok();
    fs::remove_dir_all(environment.path().join("cache")).unwrap();
    Forged::sound(vec![("a", Node::File("evil", true)), ("b", Node::File("evil", false))]).publish(&bucket, "pip");
    environment.run(["download", "pip", "copy"]).ok();
    assert_eq!(fs::read_to_string(environment.path().join("here/copy/a")).unwrap(), "evil");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
    assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o111, 0);
}

/// A reader that takes the size in a header for the one in a PAX record goes on in the middle of a file, where further entries may
/// lie. Ours goes by the manifest; what it writes says one size only.
#[test]
fn cve_2025_62518_headers_in_a_pack_and_in_an_archive_are_no_two_truths() {
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    // A file whose content is a tar of its own, as it would lie behind a header of no size.
    let script = "\
import io, tarfile
out = io.BytesIO(); inner = tarfile.open(fileobj=out, mode='w', format=tarfile.USTAR_FORMAT)
info = tarfile.TarInfo('hidden'); info.size = 4; inner.addfile(info, io.BytesIO(b'evil')); inner.close()
import sys; sys.stdout.write(out.getvalue().decode('latin-1'))";
    let output = environment.program("python3").args(["-c", script]).output().unwrap();
    let inner = String::from_utf8(output.stdout).unwrap();
    let long = format!("{}/outer", "n\u{e4}me".repeat(40));
    let forged = Forged::sound(vec![(&long, Node::File(&inner, false)), ("z", Node::File("z", false))]);
    // The pack with headers of its own: a PAX record with the real size, and none in the header.
    let header = |name: &str, kind: u8, size: usize| {
        let mut block = [0_u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[148..156].fill(b' ');
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    let record = format!("{} size={}\n", 9 + inner.len().to_string().len(), inner.len());
    let mut raw = header("pax", b'x', record.len()).to_vec();
    raw.extend_from_slice(record.as_bytes());
    raw.resize(1_024, 0);
    raw.extend(header("outer", b'0', 0));
    let at = raw.len();
    raw.extend_from_slice(inner.as_bytes());
    raw.resize(raw.len().next_multiple_of(512), 0);
    let z = raw.len();
    raw.push(b'z');
    let pack = zstd::bulk::compress(&raw, 3).unwrap();
    let lines = vec![
        json!({"pack": PACK, "size": pack.len()}).to_string(),
        json!({"frame": [0, 0, pack.len(), raw.len()]}).to_string(),
        file_line(&long, &inner, 0, u32::try_from(at).unwrap()),
        file_line("z", "z", 0, u32::try_from(z).unwrap()),
    ];
    drop(forged);
    Forged::with(lines, pack, 2).fitting().publish(&bucket, "tar");
    environment.run(["download", "tar", "copy"]).ok();
    let folder = environment.path().join("here/copy");
    assert_eq!(downloaded(&environment, "copy"), [long.clone(), "z".to_owned()]);
    assert_eq!(fs::read(folder.join(&long)).unwrap(), inner.as_bytes());
    // Every size that an archive of it says is the same, whoever reads it, and nothing is in it but these two.
    environment.run(["presign", "tar"]).ok();
    let keys = workspace::format::Keys::new(&"tar".parse().unwrap(), forge::ROOT);
    let read = bucket.runtime.block_on(async {
        let (cache, budget) = (workspace::cache::Cache::at(None), workspace::budget::Budget::default());
        let unfinished = workspace::archive::Unfinished::default();
        let archivist = workspace::archive::Archivist {
            store: &bucket.store,
            cache: &cache,
            budget: &budget,
            observer: std::sync::Arc::new(workspace::output::Silent),
            unfinished: &unfinished,
        };
        let archived = archivist.archive(&"tar".parse().unwrap()).await.unwrap();
        assert_eq!(archived.key, keys.archive(forge::ROW));
        bucket.store.get(&archived.key).await.unwrap().body
    });
    let tar = zstd::stream::decode_all(&read[..]).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.header().size().unwrap(), entry.size());
        found.push((entry.path().unwrap().to_str().unwrap().to_owned(), entry.size()));
    }
    found.sort();
    assert_eq!(found, [(long, inner.len() as u64), ("z".to_owned(), 1)]);
}

/// Runs a command as on a terminal, and gives all that the terminal gets.
fn on_a_terminal(environment: &TestEnvironment, arguments: &[&str]) -> String {
    // Nobody sits there: standard input is none, so that nothing is asked.
    const SCRIPT: &str = "\
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
    os.execv(sys.argv[1], sys.argv[1:])
try:
    while piece := os.read(terminal, 65536):
        os.write(1, piece)
except OSError:
    pass
os.waitpid(pid, 0)";
    let mut command = environment.program("python3");
    command
        .args(["-c", SCRIPT, cli::BINARY])
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "400")
        .env("TERM", "xterm");
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn no_name_and_no_message_gives_a_terminal_orders() {
    const ORDERS: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}evil\u{200b}\nhint: run this\r";
    let environment = TestEnvironment::new();
    let bucket = bucket_of(&environment);
    let forged = Forged::sound(vec![
        (ORDERS, Node::File("text\n", false)),
        ("dir/\u{1b}[2Jlink", Node::Link("../dir2\u{1b}[2J")),
        ("plain", Node::File("plain\n", false)),
    ]);
    let mut forged = forged;
    for field in ["message", "author", "commit", "branch", "run", "tool", "runtime"] {
        forged = forged.saying(field, json!(ORDERS));
    }
    forged.header["plan"] = json!({"runtime": "node", "port": 3000, "start": [ORDERS], "warnings": [ORDERS],
        "reasons": [{"field": ORDERS, "because": ORDERS}], "domains": [ORDERS], "environment": {"A": ORDERS}});
    forged.publish(&bucket, "evil");
    // Two more versions, of which one can't be read: the error names what is in it.
    let mut broken = Forged::of(&[("0", "x"), (&format!("../{ORDERS}"), "x")]);
    broken.header["message"] = json!(ORDERS);
    broken.publish(&bucket, "broken");
    bucket.put("refs/odd.json", json!({"format": 1, "root": PACK, "route": ORDERS}).to_string().into_bytes());
    bucket.put(&format!("refs/{}.json", "x\u{1b}[2J"), b"{}".to_vec());
    let at = jiff::Timestamp::now();
    let release = json!({"root": forge::ROOT, "row": forged.reference["rows"][0], "since": at});
    let host = json!({
        "format": 1, "engine": ORDERS, "hostname": ORDERS, "tool": ORDERS, "started": at, "beat": at, "only": [ORDERS],
        "holder": {"instance": PACK, "pid": 42, "container": ORDERS},
        "workspaces": {"evil": {"phase": "serving", "since": at, "cause": ORDERS, "live": release, "health": ORDERS,
            "addresses": [ORDERS], "failure": {"row": PACK, "number": 1, "step": "ready", "reason": ORDERS, "tail": [ORDERS],
            "listening": ORDERS, "hint": ORDERS, "at": at, "bad": true, "tries": 1}}},
    });
    bucket.put("hosts/ABCD.json", host.to_string().into_bytes());
    bucket.put(
        "hosts/EFGH.json",
        host.to_string().replace("\"phase\":\"serving\"", &format!("\"phase\":{}", json!([ORDERS]))).into_bytes(),
    );
    let folder = environment.folder("here/folder");
    fs::write(folder.join("plain"), "other\n").unwrap();
    fs::write(folder.join("\u{1b}[2Jnew"), "new\n").unwrap();
    symlink("/etc/\u{1b}[2J", folder.join("\u{1b}[2Jl")).unwrap();
    let commands: &[&[&str]] = &[
        &["list"],
        &["log", "evil"],
        &["show", "evil"],
        &["show", "evil", "."],
        &["show", "evil", "dir"],
        &["show", "evil", "dir/\u{1b}[2Jlink"],
        &["show", "evil", "\u{1b}[2Jnothing"],
        &["diff", "evil", "folder"],
        &["diff", "evil", "folder", "--stat"],
        &["diff", "evil", "folder", "-p"],
        &["status"],
        &["status", "evil"],
        &["download", "evil", "copy", "--no-progress"],
        &["download", "evil", "folder", "--no-progress"],
        &["download", "broken", "--no-progress"],
        &["log", "odd"],
        &["gc", "--no-progress"],
        &["verify", "evil", "--deep", "--no-progress"],
        &["verify", "broken", "--no-progress"],
        &["rollback", "evil"],
        &["tag", "evil", "\u{1b}[2J"],
        &["compose", "evil"],
        &["upload", "evil", "folder", "--dry-run"],
        &["upload", "evil", "folder", "--no-progress"],
        &["upload", "evil", "folder", "--explain", "\u{1b}[2Jnew"],
        &["recover", "broken", "--no-progress"],
        &["delete", "evil"],
        &["log", "x\u{1b}[2J"],
        &["plan", "folder"],
        &["list", "--json"],
        &["log", "evil", "--json"],
        &["show", "evil", "--json"],
        &["status", "--json"],
    ];
    for arguments in commands {
        let ran = environment.run(*arguments);
        let shown = on_a_terminal(&environment, arguments);
        assert!(!shown.is_empty(), "{arguments:?} says nothing");
        let json = arguments.contains(&"--json");
        // What git is to apply has names as git quotes them, and contents as they are.
        let patch = arguments.contains(&"-p");
        for (what, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr), ("terminal", &shown)] {
            // Off a terminal JSON is for programs; it escapes what lies below a space, no more.
            let hostile = |character: char| match character {
                '\n' | '\t' => false,
                '\r' => what != "terminal",
                '\0'..='\u{1f}' | '\u{7f}' => true,
                '\u{80}'..='\u{9f}' | '\u{202e}' | '\u{200b}' => !(json && what == "stdout"),
                _ => false,
            };
            assert!((patch && what == "stdout") || !text.contains(hostile), "{arguments:?} on {what}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("hint: run this")), "{arguments:?} on {what}: {text}");
        }
    }
    assert!(Path::new(&folder).join("plain").exists());
}
