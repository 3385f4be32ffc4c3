//! `log`, `show` and `diff`: what is kept, what is in it, and what differs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/cli.rs"]
mod cli;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bucket::Bucket;
use cli::{Ran, TestEnvironment};
use serde_json::json;
use trees::{Node, Tree, file, tree};
use workspace::budget::Budget;
use workspace::cache::Cache;
use workspace::checkout::Fetcher;
use workspace::format::Keys;
use workspace::output::Silent;
use workspace::version;

/// Makes the folder `source` equal to a tree, and uploads it.
fn publish(environment: &TestEnvironment, nodes: &Tree, more: &[&str]) -> Ran {
    let source = environment.folder("source");
    fs::remove_dir_all(&source).unwrap();
    fs::create_dir_all(&source).unwrap();
    trees::write(&source, nodes);
    let mut arguments = vec!["upload", "app", source.to_str().unwrap()];
    arguments.extend(more);
    environment.run(arguments).ok()
}

fn source(environment: &TestEnvironment) -> PathBuf {
    environment.path().join("source")
}

/// Three versions of a small tree.
fn three(environment: &TestEnvironment) {
    let first = [
        ("README.md", file("one\ntwo\nthree\n")),
        ("lib/a.js", file("a\n")),
        ("lib/b.js", file("b\n")),
        ("run", file("#!/bin/sh\n")),
        ("void", Node::Empty),
    ];
    publish(environment, &tree(first), &["-m", "The first\n\nwith more to say", "--tag", "v1"]);
    let second = [
        ("README.md", file("one\n2\nthree\nfour\n")),
        ("latest", Node::Link("lib".into())),
        ("lib/a.js", file("a\n")),
        ("run", Node::File(b"#!/bin/sh\n".to_vec(), true)),
        ("src/b.js", file("b\n")),
        ("void", Node::Empty),
    ];
    publish(environment, &tree(second), &["--tag", "staging"]);
    publish(environment, &tree([("README.md", file("one\n"))]), &[]);
}

/// Without what differs from run to run.
fn stable(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let cells = line.split('\t').map(|cell| if cell.parse::<jiff::Timestamp>().is_ok() { "WHEN" } else { cell });
        cells.collect::<Vec<_>>().join("\t")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_log_lists_what_is_kept_newest_first() {
    let environment = TestEnvironment::new();
    three(&environment);
    let log = environment.run(["log", "app"]).ok();
    insta::assert_snapshot!(stable(&log.stdout), @r"
    3	-	WHEN	-	-	1	4	-	-	-
    2	staging	WHEN	-	-	6	31	-	-	-
    1	v1	WHEN	-	The first\n\nwith more to say	5	28	-	-	-
    ");
    let json = environment.run(["log", "app", "-n", "2", "--json"]).ok().json();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!((&json[0]["version"], &json[0]["current"]), (&3.into(), &true.into()));
    assert_eq!((&json[1]["tags"], &json[1]["current"]), (&json!(["staging"]), &false.into()));
    assert_eq!(json[0]["id"], Bucket::of(&environment).reference("app").current_row().unwrap().id.to_string());
    environment.run(["log", "ap"]).fails(3, "did you mean `app`");
    environment.run(["log", "app", "-n", "0"]).fails(2, "-n");
}

#[test]
fn a_commit_and_a_lock_are_in_the_log() {
    let environment = TestEnvironment::new();
    let source = environment.folder("source");
    fs::write(source.join("a"), "a").unwrap();
    environment.git(&source, &["init", "-q"]);
    environment.git(&source, &["add", "."]);
    environment.git(&source, &["commit", "-qm", "x"]);
    let commit = environment.git(&source, &["rev-parse", "HEAD"]);
    environment.run(["upload", "app", source.to_str().unwrap()]).ok();
    let bucket = Bucket::of(&environment);
    let mut reference = bucket.reference("app");
    reference.rows[0].locked = true;
    bucket.put("refs/app.json", reference.to_bytes());
    let log = environment.run(["log", "app"]).ok();
    assert!(log.stdout.ends_with(&format!("\t{commit}\t-\tlocked\n")), "{log:?}");
    assert_eq!(environment.run(["show", "app", "--json"]).ok().json()["branch"], "main");
}

#[test]
fn a_version_is_shown_with_all_that_is_known_of_it() {
    let environment = TestEnvironment::new();
    three(&environment);
    let shown = environment.run(["show", "app@v1"]).ok();
    let row = |what: &str, rest: &str| {
        let start = format!("{what}\t{rest}");
        assert!(shown.stdout.lines().any(|line| line.starts_with(&start)), "no `{start}` in {shown:#?}");
    };
    row("version", "app@1\t3 is current");
    row("tag", "v1");
    row("message", "The first\\n\\nwith more to say");
    row("files", "4\t1 empty folder");
    row("bytes", "28\t");
    row("manifest", "data/app/");
    row("pack", "data/app/");
    row("large file", "README.md\t14");
    let json = environment.run(["show", "app@2", "--json"]).ok().json();
    assert_eq!(json["kinds"], json!({"files": 4, "executable": 1, "links": 1, "empty_folders": 1}));
    assert_eq!((&json["name"], &json["version"], &json["bytes"]), (&"app".into(), &2.into(), &31.into()));
    let packs = json["packs"].as_array().unwrap();
    let used: u64 = packs.iter().map(|pack| pack["used"].as_u64().unwrap()).sum();
    assert_eq!(json["stored"], used);
    assert_eq!(packs.len(), 2, "what is reused lies in the first version's pack: {json}");
    environment.run(["show", "app@9"]).fails(3, "versions 1-3 are kept").fails(3, "hint: `workspace log app`");
    environment.run(["show", "app@v2"]).fails(3, "the tags are v1, staging");
    let plan = tree([("Procfile", file("web: ./serve\n")), ("workspace.yaml", file("runtime: custom\nimage: x\n"))]);
    publish(&environment, &plan, &[]);
    let planned = environment.run(["show", "app"]).ok();
    assert!(planned.stdout.contains("start\t./serve\t"), "{planned:#?}");
    assert_eq!(environment.run(["show", "app", "--json"]).ok().json()["plan"]["image"], "x");
}

#[test]
fn a_path_is_shown_as_what_it_is() {
    let environment = TestEnvironment::new();
    three(&environment);
    assert_eq!(environment.run(["show", "app@1", "lib/a.js"]).ok().stdout, "a\n");
    assert_eq!(environment.run(["show", "app", "./README.md"]).ok().stdout, "one\n");
    let link = environment.run(["show", "app@2", "latest"]).ok();
    assert_eq!(link.stdout, "lib\n");
    assert!(link.stderr.contains("`latest` is a link"), "{link:?}");
    let root = environment.run(["show", "app@2", "."]).ok();
    insta::assert_snapshot!(root.stdout, @r"
    file	17	README.md	-
    link	0	latest	lib
    folder	2	lib/	-
    program	10	run	-
    folder	2	src/	-
    folder	0	void/	-
    ");
    assert_eq!(environment.run(["show", "app@2", "src/"]).ok().stdout, "file\t2\tb.js\t-\n");
    environment.run(["show", "app@2", "void"]).fails(0, "`void` is an empty folder");
    let json = environment.run(["show", "app@2", "run", "--json"]).ok().json();
    let hash = blake3::hash(b"#!/bin/sh\n").to_hex().to_string();
    assert_eq!((&json["kind"], &json["executable"], &json["hash"]), (&"file".into(), &true.into(), &hash.into()));
    let listed = environment.run(["show", "app@2", "lib", "--json"]).ok().json();
    assert_eq!((&listed[0]["path"], &listed[0]["bytes"]), (&"lib/a.js".into(), &2.into()));
    environment.run(["show", "app@1", "lib/c.js"]).fails(3, "`app@1` has no `lib/c.js`").fails(3, "did you mean `lib/");
    environment.run(["show", "app@2", "b.js"]).fails(3, "did you mean `src/b.js`");
    environment
        .run(["show", "app@2", "nothing-like-it"])
        .fails(3, "hint: `workspace show app@2 .` lists what is in it");
}

/// Noise that does not compress.
fn noise(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes().to_owned()).take(length).collect()
}

#[test]
fn a_cut_file_comes_whole_and_in_order_and_a_damaged_one_not_at_all() {
    let environment = TestEnvironment::new();
    let large = noise(20 << 20);
    let nodes = [("large.bin", Node::File(large.clone(), false)), ("small", file("small\n"))];
    publish(&environment, &tree(nodes), &[]);
    let shown = environment.workspace(["show", "app", "large.bin"]).output().unwrap();
    assert!(shown.status.success() && shown.stdout == large, "{}", String::from_utf8_lossy(&shown.stderr));
    // In the middle of the pack that holds the file's first bytes.
    let bucket = Bucket::of(&environment);
    let packs = bucket.runtime.block_on(bucket.store.list("data/app/")).unwrap();
    let mut damaged = 0;
    for pack in packs.iter().filter(|object| object.key.contains("/packs/") && object.size > 1 << 20) {
        let mut bytes = bucket.get(&pack.key);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bucket.put(&pack.key, bytes);
        damaged += 1;
    }
    assert!(damaged > 0);
    let shown = environment.workspace(["show", "app", "large.bin"]).output().unwrap();
    let said = String::from_utf8_lossy(&shown.stderr);
    assert_eq!(shown.status.code(), Some(1), "{said}");
    assert!(said.contains("is damaged") && said.contains("`large.bin` can't be read from it"), "{said}");
    assert!(shown.stdout.len() < large.len() && large.starts_with(&shown.stdout), "only what was right is written");
    assert_eq!(environment.run(["show", "app", "small"]).ok().stdout, "small\n");
}

#[test]
fn a_file_costs_one_request_for_the_frame_that_holds_it() {
    let environment = TestEnvironment::new();
    let nodes = [
        ("cut.bin", Node::File(noise(12 << 20), false)),
        ("medium.bin", Node::File(noise(3 << 20), false)),
        ("small.txt", file("small\n")),
        ("empty", file("")),
    ];
    publish(&environment, &tree(nodes), &[]);
    let bucket = Bucket::of(&environment);
    let (cache, budget) = (Cache::at(None), Budget::default());
    let fetcher = Fetcher { store: &bucket.store, cache: &cache, budget: &budget, observer: Arc::new(Silent) };
    let reference = bucket.reference("app");
    let (row, keys) = (reference.current_row().unwrap(), Keys::new(&"app".parse().unwrap(), reference.root));
    let loaded = bucket.runtime.block_on(version::load(&bucket.store, &cache, &keys, reference.root, row)).unwrap();
    let cost = |path: &str| {
        let entry = loaded.manifest.entry(path).unwrap();
        let (before, mut length) = (bucket.store.counts(), 0);
        let take = |part: &[u8]| length += part.len() as u64;
        bucket.runtime.block_on(fetcher.content(&keys, &loaded.manifest, entry, take)).unwrap();
        assert_eq!(length, entry.size(), "{path}");
        bucket.store.counts() - before
    };
    assert_eq!(cost("empty").requests, 0);
    let small = cost("small.txt");
    assert!(small.requests == 1 && small.received < 1 << 10, "{small:?}");
    let medium = cost("medium.bin");
    assert!(medium.requests == 1 && medium.received < 4 << 20, "{medium:?}");
    let cut = cost("cut.bin");
    assert!(cut.requests <= 4 && cut.received < 13 << 20, "{cut:?}");
}

#[test]
fn what_differs_has_a_letter() {
    let environment = TestEnvironment::new();
    three(&environment);
    let diff = environment.run(["diff", "app@1", "@staging"]).ok();
    insta::assert_snapshot!(diff.stdout, @r"
    M	README.md	-
    A	latest	-
    T	run	-
    R	src/b.js	lib/b.js
    ");
    let last = environment.run(["diff", "app"]).ok();
    insta::assert_snapshot!(last.stdout, @r"
    M	README.md	-
    D	latest	-
    D	lib/a.js	-
    D	run	-
    D	src/b.js	-
    D	void/	-
    ");
    assert_eq!(environment.run(["diff", "app@2"]).ok().stdout, last.stdout);
    let stat = environment.run(["diff", "app@1", "@2", "--stat"]).ok();
    insta::assert_snapshot!(stat.stdout, @r"
    M	README.md	-	2	1	-
    A	latest	-	1	0	-
    T	run	-	0	0	-
    R	src/b.js	lib/b.js	0	0	-
    ");
    assert!(stat.stderr.contains("4 files changed between app@1 and app@2: 3 insertions, 1 deletion"), "{stat:?}");
    let json = environment.run(["diff", "app@1", "@2", "--json"]).ok().json();
    assert_eq!((&json["from"]["version"], &json["to"]["version"]), (&1.into(), &2.into()));
    let renamed = &json["changes"][3];
    assert_eq!((&renamed["status"], &renamed["from"]), (&"R".into(), &"lib/b.js".into()));
    assert_eq!(json["changes"][2]["new"]["executable"], true);
    assert!(json.get("insertions").is_none());
    assert_eq!(environment.run(["diff", "app@1", "@2", "--stat", "--json"]).ok().json()["insertions"], 3);
    environment.run(["diff", "app@1", "@v1"]).fails(0, "app@1 and app@1 are equal");
    environment.run(["diff", "app@1", "@v1", "--exit-code"]).ok();
    let differs = environment.run(["diff", "app@1", "@2", "--exit-code"]);
    assert_eq!((differs.code, &differs.stdout), (Some(1), &diff.stdout));
    environment.run(["diff", "app@1", "@v7"]).fails(3, "the tags are");
    environment.run(["diff", "app@1", "@"]).fails(2, "a version can't be empty");
}

#[test]
fn a_workspace_with_one_version_has_nothing_to_compare_it_with() {
    let environment = TestEnvironment::new();
    publish(&environment, &tree([("a", file("a"))]), &[]);
    environment.run(["diff", "app"]).fails(3, "keeps nothing older than version 1");
    // Both versions may be written out, of one workspace.
    assert_eq!(environment.run(["diff", "app@1", "app@1"]).ok().stdout, "");
    environment.run(["diff", "app@1", "other@1"]).fails(1, "versions of one workspace are compared");
    environment.run(["download", "app@0"]).fails(3, "versions begin with 1");
}

#[test]
fn a_folder_is_compared_as_an_upload_would_see_it() {
    let environment = TestEnvironment::new();
    let nodes = [(".gitignore", file("ignored\n")), ("a", file("1\n")), ("b", file("2\n"))];
    publish(&environment, &tree(nodes), &[]);
    let source = source(&environment);
    for (path, text) in [("ignored", "x"), ("a", "1\nmore\n"), ("new", "n\n"), (".env", "SECRET=1\n")] {
        fs::write(source.join(path), text).unwrap();
    }
    fs::remove_file(source.join("b")).unwrap();
    let folder = source.to_str().unwrap();
    let diff = environment.run(["diff", "app", folder, "-p"]).ok();
    insta::assert_snapshot!(diff.stdout, @r"
    diff --git a/a b/a
    --- a/a
    +++ b/a
    @@ -1 +1,2 @@
     1
    +more
    diff --git a/b b/b
    deleted file mode 100644
    --- a/b
    +++ /dev/null
    @@ -1 +0,0 @@
    -2
    diff --git a/new b/new
    new file mode 100644
    --- /dev/null
    +++ b/new
    @@ -0,0 +1 @@
    +n
    ");
    let json = environment.run(["diff", "app@1", folder, "--json"]).ok().json();
    assert_eq!(json["to"]["folder"], fs::canonicalize(&source).unwrap().to_str().unwrap());
    // What it says is what the upload does.
    environment.run(["upload", "app", folder]).ok();
    environment.run(["diff", "app", folder, "--exit-code"]).ok().fails(0, "are equal");
    environment.run(["diff", "app", "nowhere"]).fails(2, "nowhere");
}

#[test]
fn lines_are_shown_for_the_paths_that_are_named() {
    let environment = TestEnvironment::new();
    three(&environment);
    let lines = |arguments: &[&str]| {
        let ran = environment.run(arguments.iter().copied()).ok();
        ran.stdout.lines().filter(|line| line.starts_with("diff")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&["diff", "app@1", "@2", "-p", "README.md"]), ["diff --git a/README.md b/README.md"]);
    assert_eq!(lines(&["diff", "app@1", "@2", "-p", "lib/", "latest"]).len(), 2);
    assert_eq!(lines(&["diff", "-p", "app@1", "@2", "README.md"]), ["diff --git a/README.md b/README.md"]);
    assert_eq!(lines(&["diff", "-p", "app@2"]), lines(&["diff", "app@2", "-p"]));
    environment.run(["diff", "-p"]).fails(2, "a workspace name can't be empty");
    environment.run(["diff"]).fails(2, "<NAME[@A]>");
    assert!(lines(&["diff", "app@1", "@2", "--patch", "lib/a.js"]).is_empty());
    environment.run(["diff", "app@1", "@2", "-p", "readme.md"]).fails(3, "did you mean `README.md`");
    let json = environment.run(["diff", "app@1", "@2", "--json", "-p", "README.md"]).ok().json();
    assert!(json["changes"][0]["patch"].as_str().unwrap().contains("\n+2\n"), "{json}");
}

#[test]
fn what_is_binary_or_too_large_is_said() {
    let environment = TestEnvironment::new();
    let nodes = |fill: char| {
        let large = format!("{fill}\n").repeat(600_000);
        tree([("binary", file(&format!("a\0{fill}"))), ("large.txt", file(&large)), ("small", file(&fill.to_string()))])
    };
    publish(&environment, &nodes('1'), &[]);
    publish(&environment, &nodes('2'), &[]);
    let diff = environment.run(["diff", "app", "-p", "--stat"]).ok();
    assert!(diff.stdout.contains("Binary files a/binary and b/binary differ\n"), "{diff:?}");
    assert!(diff.stdout.contains("Binary files a/large.txt and b/large.txt differ\n"), "{diff:?}");
    // git can do the rest without them.
    let patch = environment.run(["diff", "app", "-p"]).ok().stdout;
    let tree = environment.folder("apply");
    trees::write(&tree, &nodes('1'));
    fs::write(environment.path().join("patch"), patch).unwrap();
    environment.git(&tree, &["apply", "--exclude=binary", "--exclude=large.txt", "../patch"]);
    assert_eq!(fs::read_to_string(tree.join("small")).unwrap(), "2");
    assert!(diff.stdout.contains("M\tbinary\t-\t-\t-\tbinary, 3 B → 3 B\n"), "{diff:?}");
    assert!(diff.stderr.contains("1 file not compared line by line: over 1.0 MiB a file"), "{diff:?}");
    assert!(diff.stdout.contains("\n-1\n\\ No newline at end of file\n+2\n"), "{diff:?}");
    let json = environment.run(["diff", "app", "--stat", "--json"]).ok().json();
    assert_eq!(json["changes"][0]["not_compared"], "binary");
    assert_eq!(json["changes"][1]["not_compared"], "too large");
}

/// Without what git doesn't know.
fn as_git_has_it(folder: &Path) -> Tree {
    trees::read(folder).into_iter().filter(|(_, node)| *node != Node::Empty).collect()
}

#[test]
fn git_applies_what_is_printed() {
    let environment = TestEnvironment::new();
    let old = [
        ("a b/with space", file("1\n2\n3\n4\n5\n6\n7\n8\n9\n")),
        ("becomes a link", file("text\nmore\n")),
        ("becomes a program", file("x\n")),
        ("becomes both", file("x\n")),
        ("empty", file("")),
        ("goes", file("no newline at the end")),
        ("link", Node::Link("goes".into())),
        ("moves", file("moved\n")),
        ("quote\"and\ttab\\", file("1\n")),
        ("was a link", Node::Link("empty".into())),
        ("\u{fc}ml\u{e4}ut", file("\u{e4}\n")),
    ];
    let new = [
        ("a b/with space", file("1\n2\nthree\n4\n5\n6\n7\n8\n9\n10\n")),
        ("becomes a link", Node::Link("a b".into())),
        ("becomes a program", Node::File(b"x\n".to_vec(), true)),
        ("becomes both", Node::File(b"y\n".to_vec(), true)),
        ("empty", file("not any more")),
        ("link", Node::Link("comes".into())),
        ("moved/further", file("moved\n")),
        ("new empty", file("")),
        ("new/program", Node::File(b"#!/bin/sh\r\n\rodd\n".to_vec(), true)),
        ("quote\"and\ttab\\", file("2\n")),
        ("was a link", file("empty")),
        ("\u{fc}ml\u{e4}ut", file("\u{e4}\n\u{fc}\n")),
    ];
    publish(&environment, &tree(old), &[]);
    publish(&environment, &tree(new), &[]);
    for (from, to) in [("1", "2"), ("2", "1")] {
        let folder = environment.folder(&format!("from-{from}"));
        environment.run(["download", &format!("app@{from}"), folder.to_str().unwrap()]).ok();
        fs::remove_dir_all(folder.join(".workspace")).unwrap();
        let diff = environment.workspace(["diff", &format!("app@{from}"), &format!("@{to}"), "-p"]).output().unwrap();
        let patch = environment.path().join(format!("{from}.patch"));
        fs::write(&patch, &diff.stdout).unwrap();
        environment.git(&folder, &["apply", "--verbose", patch.to_str().unwrap()]);
        let wanted = environment.folder(&format!("to-{to}"));
        environment.run(["download", &format!("app@{to}"), wanted.to_str().unwrap()]).ok();
        assert_eq!(as_git_has_it(&folder), as_git_has_it(&wanted), "{}", String::from_utf8_lossy(&diff.stdout));
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let environment = TestEnvironment::new();
    publish(&environment, &tree([("large", Node::File(noise(12 << 20), false))]), &[]);
    let mut shell: Command = environment.program("sh");
    shell.args(["-c", "(\"$1\" show app large; echo $? >&2) | head -c 10 >/dev/null", "sh", cli::BINARY]);
    let ran = Ran::from(shell.output().unwrap()).ok();
    assert_eq!(ran.stderr, "0\n");
}

#[test]
fn what_a_machine_believes_to_be_current_is_only_believed_where_it_is() {
    let environment = TestEnvironment::new();
    let source = environment.folder("source");
    for number in 0..40 {
        fs::write(source.join(number.to_string()), noise(1_000 + number)).unwrap();
    }
    // Changes a file, uploads from a machine, and tells the version and how many files were sent.
    let changed = |machine: &str, content: &str| {
        // Later than what was kept of the folder, by a clock that may tick a hundred times a second.
        std::thread::sleep(std::time::Duration::from_millis(30));
        fs::write(source.join("1"), content).unwrap();
        let mut upload = environment.workspace(["upload", "app", "--json"]);
        upload.arg(&source).env("WORKSPACE_CACHE_DIR", environment.path().join(machine));
        let ran = Ran::from(upload.output().unwrap()).ok();
        let told = ran.json();
        let target = environment.folder(&format!("target-{content}"));
        environment.run(["download".as_ref(), "app".as_ref(), target.as_os_str()]).ok();
        assert_eq!(trees::read(&target), trees::read(&source));
        fs::remove_dir_all(&target).unwrap();
        (told["version"].as_u64().unwrap(), told["sent_files"].as_u64().unwrap())
    };
    assert_eq!(changed("one", "a"), (1, 40));
    assert_eq!(changed("one", "b"), (2, 1));
    // Another machine: the first one believes in version 2 still.
    assert_eq!(changed("other", "c"), (3, 1));
    assert_eq!(changed("one", "d"), (4, 1));
    assert_eq!(changed("one", "a"), (5, 0));
    // What it has kept is damaged.
    let manifests = environment.path().join("one/manifests");
    for root in fs::read_dir(&manifests).unwrap().flatten() {
        for manifest in fs::read_dir(root.path()).unwrap().flatten() {
            fs::write(manifest.path(), "none").unwrap();
        }
    }
    assert_eq!(changed("one", "e"), (6, 1));
    // Another workspace of the same name.
    environment.run(["delete", "app", "--yes"]).ok();
    assert_eq!(changed("one", "f"), (1, 40));
    assert_eq!(changed("one", "g"), (2, 1));
}
