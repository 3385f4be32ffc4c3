//! Tree → store → tree, in this process: what goes in comes out, whatever stood there before.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/trees.rs"]
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::Engine;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use trees::{Node, Tree, file, tree};
use workspace::cache::Cache;
use workspace::checkout::{CheckoutError, CheckoutOptions};
use workspace::format::Reference;
use workspace::publish::{Outcome, PublishError, Session};
use workspace::store::Condition;

const DELETE: CheckoutOptions = CheckoutOptions { delete: true, ..PLAIN };
const PLAIN: CheckoutOptions =
    CheckoutOptions { delete: false, force: false, allow_external_links: false, allow_repositories: false };

fn replace(folder: &Path, tree: &Tree) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir_all(folder).unwrap();
    trees::write(folder, tree);
}

/// Noise that does not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        1 => Just(" lead and trail ".to_owned()),
        1 => Just("-rf".to_owned()),
        1 => Just("new\nline".to_owned()),
        1 => Just("\u{fc}n\u{ef}c\u{f6}de \u{1f980}".to_owned()),
        1 => Just("x".repeat(255)),
        1 => Just("quote'\"\\".to_owned()),
        1 => Just("*?[a]".to_owned()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        6 => (prop::collection::vec(any::<u8>(), 0..200), any::<bool>()).prop_map(|(content, executable)| Node::File(content, executable)),
        1 => Just(Node::File(Vec::new(), false)),
        1 => "[a-c]{1,2}".prop_map(Node::Link),
        1 => Just(Node::Empty),
    ]
}

/// Trees over few names: two of them often have different kinds at the same place.
fn any_tree() -> impl Strategy<Value = Tree> {
    let path = prop::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/"));
    prop::collection::btree_map(path, node(), 1..12).prop_map(|nodes: BTreeMap<String, Node>| {
        let is_parent = |path: &str| nodes.keys().any(|other| other.starts_with(&format!("{path}/")));
        nodes.iter().filter(|(path, _)| !is_parent(path)).map(|(path, node)| (path.clone(), node.clone())).collect()
    })
}

#[test]
fn any_tree_comes_back_and_any_version_follows_any_other() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = runtime.block_on(Engine::new());
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() });
    let (source, grown) = (engine.folder("source"), engine.folder("grown"));
    runner
        .run(&(any_tree(), any_tree()), |(one, two)| {
            runtime.block_on(async {
                for tree in [&one, &two] {
                    replace(&source, tree);
                    engine.upload("any", &source).await;
                    // Into a folder that has some earlier version, and into an empty one.
                    engine.checkout("any", &grown, DELETE).await.unwrap();
                    prop_assert_eq!(&trees::read(&grown), tree);
                    let fresh = tempfile::tempdir().unwrap();
                    engine.checkout("any", fresh.path(), PLAIN).await.unwrap();
                    prop_assert_eq!(&trees::read(fresh.path()), tree);
                }
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test]
async fn kinds_change_places_and_back() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    let link = tree([("d", Node::Link("e".into())), ("e/x", file("x"))]);
    let folder = tree([("d/y", file("y")), ("e/x", file("x"))]);
    let plain = tree([("d", file("plain")), ("e", file("e"))]);
    let nested = tree([("d", Node::Empty), ("e/x/z/w", file("w"))]);
    for version in [&link, &folder, &link, &plain, &folder, &plain, &nested, &link, &nested, &plain] {
        replace(&source, version);
        engine.upload("kinds", &source).await;
        engine.checkout("kinds", &target, DELETE).await.unwrap();
        assert_eq!(&trees::read(&target), version);
    }
}

#[tokio::test]
async fn large_files_are_cut_and_an_edit_sends_little() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    let mut content = noise(30 << 20, 7);
    fs::write(source.join("large.bin"), &content).unwrap();
    fs::write(source.join("copy.bin"), &content).unwrap();
    fs::write(source.join("medium.bin"), noise(3 << 20, 9)).unwrap();
    let first = engine.upload("large", &source).await;
    assert!(first.requests.sent > 33 << 20 && first.requests.sent < 35 << 20, "{:?}", first.requests);
    content.splice(15_000_000..15_000_000, *b"inserted");
    fs::write(source.join("large.bin"), &content).unwrap();
    let second = engine.upload("large", &source).await;
    assert!(second.requests.sent < 10 << 20, "{:?}", second.requests);
    engine.checkout("large", &target, PLAIN).await.unwrap();
    assert_eq!(trees::read(&target), trees::read(&source));
}

#[tokio::test]
async fn stock_tools_read_packs() {
    let engine = Engine::new().await;
    let (source, unpacked) = (engine.folder("source"), engine.folder("unpacked"));
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let tree = tree([
        ("src/index.js", file("console.log(1)\n")),
        ("run.sh", Node::File(b"#!/bin/sh\n".to_vec(), true)),
        ("\u{fc}n\u{ef}c\u{f6}de \u{1f980}", file("unicode")),
        ("new\nline", file("newline")),
        (&long, file("long")),
        ("medium.bin", Node::File(noise(2 << 20, 3), false)),
    ]);
    trees::write(&source, &tree);
    engine.upload("packs", &source).await;
    let packs: Vec<_> =
        engine.store.list("data/packs/").await.unwrap().into_iter().filter(|o| o.key.ends_with(".tar.zst")).collect();
    // The first is closed early, so that the link has work.
    assert_eq!(packs.len(), 2);
    for pack in packs {
        let object = engine.store.get(&pack.key).await.unwrap();
        let path = engine.folder("x").join("pack.tar.zst");
        fs::write(&path, &object.body).unwrap();
        let script = "set -e; zstd -q -t \"$1\"; zstd -dc \"$1\" | tar x --no-same-owner -C \"$2\"";
        let output = std::process::Command::new("bash")
            .args(["-o", "pipefail", "-c", script, "bash"])
            .args([&path, &unpacked])
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(trees::read(&unpacked), tree);
}

#[tokio::test]
async fn unchanged_costs_one_request_and_a_change_four() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    for n in 0..300 {
        fs::write(source.join(format!("{n}.txt")), noise(400, n)).unwrap();
    }
    assert_eq!(engine.upload("counts", &source).await.outcome, Outcome::Published);
    let again = engine.upload("counts", &source).await;
    assert_eq!((again.outcome, again.requests.requests, again.requests.sent), (Outcome::Unchanged, 1, 0));
    fs::write(source.join("7.txt"), "changed").unwrap();
    let changed = engine.upload("counts", &source).await;
    assert_eq!((changed.outcome, changed.requests.requests, changed.sent_files), (Outcome::Published, 4, 1));
    assert!(changed.requests.sent < 5_000, "{:?}", changed.requests);
    // A mode is a change; a time is none.
    let touched = fs::File::open(source.join("8.txt")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    assert_eq!(engine.upload("counts", &source).await.outcome, Outcome::Unchanged);
    trees::write(&source, &tree([("8.txt", Node::File(noise(400, 8), true))]));
    let mode = engine.upload("counts", &source).await;
    assert_eq!((mode.outcome, mode.sent_files), (Outcome::Published, 0));
}

#[tokio::test]
async fn another_machine_finds_the_same_tree_unchanged_with_one_request() {
    let mut engine = Engine::new().await;
    let (one, two) = (engine.folder("one"), engine.folder("two"));
    let tree = tree([("a", file("a")), ("b/c", Node::File(b"x".to_vec(), true)), ("l", Node::Link("a".into()))]);
    trees::write(&one, &tree);
    trees::write(&two, &tree);
    engine.upload("same", &one).await;
    engine.cache = Cache::at(None);
    let again = engine.upload("same", &two).await;
    assert_eq!((again.outcome, again.requests.requests), (Outcome::Unchanged, 1));
    // And sends only what changed, without any index.
    fs::write(two.join("a"), "other").unwrap();
    let changed = engine.upload("same", &two).await;
    assert_eq!((changed.outcome, changed.sent_files), (Outcome::Published, 1));
}

#[tokio::test]
async fn content_of_older_versions_is_found_again() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    fs::write(source.join("keep"), "keep").unwrap();
    fs::write(source.join("big"), noise(200_000, 5)).unwrap();
    engine.upload("back", &source).await;
    fs::remove_file(source.join("big")).unwrap();
    engine.upload("back", &source).await;
    fs::write(source.join("renamed"), noise(200_000, 5)).unwrap();
    let report = engine.upload("back", &source).await;
    assert_eq!(report.sent_files, 0);
    assert!(report.requests.sent < 5_000, "{:?}", report.requests);
}

#[tokio::test]
async fn only_contents_of_kept_versions_are_found_again() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    let upload = async |content: &str| {
        fs::write(source.join("f"), content).unwrap();
        engine.upload("kept", &source).await.sent_files
    };
    fs::write(source.join("g"), "g").unwrap();
    for content in ["one", "two", "three"] {
        assert_eq!(upload(content).await, if content == "one" { 2 } else { 1 });
    }
    // Versions 2 and 3 build on the manifest of version 1, but have nothing of its `f`.
    let found = engine.store.get("refs/kept.json").await.unwrap();
    let mut reference = Reference::parse(&found.body).unwrap();
    assert!(reference.rows[1].delta.is_some());
    reference.rows.remove(0);
    engine.store.put("refs/kept.json", reference.to_bytes().into(), Condition::None).await.unwrap();
    assert_eq!(upload("two").await, 0);
    assert_eq!(upload("one").await, 1);
}

#[tokio::test]
async fn many_small_packs_are_folded() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    for n in 0..60 {
        fs::write(source.join(format!("{n}.txt")), noise(2_000, n)).unwrap();
        engine.upload("fold", &source).await;
    }
    let report = engine.checkout("fold", &target, PLAIN).await.unwrap();
    assert_eq!(trees::read(&target), trees::read(&source));
    assert!(report.requests.requests < 45, "{:?}", report.requests);
}

#[tokio::test]
async fn foreign_and_edited_files_are_safe() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    trees::write(&source, &tree([("a", file("a")), ("d/b", file("b")), ("same", file("same"))]));
    engine.upload("safe", &source).await;
    // Foreign content in the way, and foreign content that is right.
    trees::write(&target, &tree([("a", file("mine")), ("other", file("other")), ("same", file("same"))]));
    let before = trees::read(&target);
    let error = engine.checkout("safe", &target, DELETE).await.unwrap_err();
    assert!(matches!(&error, CheckoutError::Foreign { count: 1, shown, .. } if shown == "a"), "{error}");
    assert_eq!(trees::read(&target), before);
    // A folder full of foreign things where a file belongs.
    fs::remove_file(target.join("a")).unwrap();
    trees::write(&target, &tree([("a/mine", file("mine"))]));
    let error = engine.checkout("safe", &target, PLAIN).await.unwrap_err();
    assert!(matches!(&error, CheckoutError::Foreign { shown, .. } if shown == "a/mine"), "{error}");
    let force = CheckoutOptions { force: true, ..PLAIN };
    let report = engine.checkout("safe", &target, force).await.unwrap();
    assert_eq!(report.kept, 1);
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "a");
    assert_eq!(fs::read_to_string(target.join("other")).unwrap(), "other");
    // Edited since, and gone from the version: stays even with `delete`.
    fs::write(target.join("d/b"), "edited").unwrap();
    fs::remove_dir_all(source.join("d")).unwrap();
    fs::remove_file(source.join("same")).unwrap();
    engine.upload("safe", &source).await;
    let report = engine.checkout("safe", &target, DELETE).await.unwrap();
    assert_eq!((report.left, report.removed), (vec!["d/b".to_owned()], 1));
    assert_eq!(fs::read_to_string(target.join("d/b")).unwrap(), "edited");
    assert!(!target.join("same").exists());
    // Edited, and changed by the version: refused.
    trees::write(&source, &tree([("a", file("newer"))]));
    engine.upload("safe", &source).await;
    fs::write(target.join("a"), "edited").unwrap();
    assert!(matches!(engine.checkout("safe", &target, DELETE).await, Err(CheckoutError::Foreign { .. })));
}

#[tokio::test]
async fn without_delete_what_the_version_lost_stays_ours() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    trees::write(&source, &tree([("a", file("a")), ("d/e/b", file("b"))]));
    engine.upload("later", &source).await;
    engine.checkout("later", &target, PLAIN).await.unwrap();
    fs::remove_dir_all(source.join("d")).unwrap();
    engine.upload("later", &source).await;
    let report = engine.checkout("later", &target, PLAIN).await.unwrap();
    assert_eq!((report.removed, report.left), (0, vec!["d/e/b".to_owned()]));
    engine.checkout("later", &target, DELETE).await.unwrap();
    assert_eq!(trees::read(&target), trees::read(&source));
}

#[tokio::test]
async fn a_link_planted_in_the_target_is_not_followed() {
    let engine = Engine::new().await;
    let (source, target, outside) = (engine.folder("source"), engine.folder("target"), engine.folder("outside"));
    trees::write(&source, &tree([("d/a", file("a"))]));
    engine.upload("trap", &source).await;
    std::os::unix::fs::symlink(&outside, target.join("d")).unwrap();
    assert!(matches!(engine.checkout("trap", &target, PLAIN).await, Err(CheckoutError::Foreign { .. })));
    let force = CheckoutOptions { force: true, ..PLAIN };
    engine.checkout("trap", &target, force).await.unwrap();
    assert_eq!(trees::read(&target), trees::read(&source));
    assert!(trees::read(&outside).is_empty());
}

#[tokio::test]
async fn links_that_leave_are_refused_unless_allowed() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    trees::write(&source, &tree([("a", file("a")), ("out", Node::Link("/etc/passwd".into()))]));
    engine.upload("out", &source).await;
    assert!(matches!(engine.checkout("out", &target, PLAIN).await, Err(CheckoutError::ExternalLink { .. })));
    assert!(trees::read(&target).is_empty());
    let allowed = CheckoutOptions { allow_external_links: true, ..PLAIN };
    engine.checkout("out", &target, allowed).await.unwrap();
    assert_eq!(trees::read(&target), trees::read(&source));
}

#[tokio::test]
async fn damage_is_named_and_changes_nothing() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    trees::write(&source, &tree([("a", file("one")), ("b", Node::File(noise(100_000, 1), false))]));
    engine.upload("damage", &source).await;
    engine.checkout("damage@1", &target, PLAIN).await.unwrap();
    let before = trees::read(&target);
    trees::write(&source, &tree([("a", file("two")), ("c", Node::File(noise(100_000, 2), false))]));
    engine.upload("damage", &source).await;
    let objects = engine.store.list("data/damage/").await.unwrap();
    let mut checked = 0;
    for object in objects {
        let good = engine.store.get(&object.key).await.unwrap().body;
        let flipped = {
            let mut bytes = good.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            bytes.into()
        };
        for bad in [good.slice(..good.len() / 2), flipped] {
            engine.store.put(&object.key, bad, workspace::store::Condition::None).await.unwrap();
            // Another machine: nothing remembered.
            let fresh = engine.folder("fresh");
            let fetcher = workspace::checkout::Fetcher {
                store: &engine.store,
                cache: &Cache::at(None),
                budget: &workspace::budget::Budget::default(),
                observer: std::sync::Arc::new(workspace::output::Silent),
            };
            let selector = "damage".parse().unwrap();
            if let Err(error) = fetcher.checkout(&selector, &fresh, PLAIN).await {
                let text = error.to_string();
                assert!(text.contains(&object.key), "{text} names {}", object.key);
                checked += 1;
                assert!(trees::read(&fresh).is_empty());
                // Where an earlier version lies, less is needed; what fails changes nothing.
                let copy = engine.folder("copies").join(checked.to_string());
                assert!(std::process::Command::new("cp").arg("-a").args([&target, &copy]).status().unwrap().success());
                if fetcher.checkout(&selector, &copy, PLAIN).await.is_err() {
                    assert_eq!(trees::read(&copy), before);
                }
            }
            fs::remove_dir_all(fresh).unwrap();
        }
        engine.store.put(&object.key, good, workspace::store::Condition::None).await.unwrap();
    }
    assert!(checked >= 5, "only {checked} damages were noticed");
    engine.checkout("damage", &target, PLAIN).await.unwrap();
}

#[tokio::test]
async fn eight_uploaders_make_eight_versions() {
    let engine = Engine::new().await;
    let uploads = (0..8).map(async |n: u64| {
        let folder = engine.folder(&format!("source{n}"));
        fs::write(folder.join("n"), n.to_string()).unwrap();
        engine.upload("race", &folder).await.number
    });
    let mut numbers = futures::future::join_all(uploads).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=8).collect::<Vec<u64>>());
    let read = workspace::version::existing_reference(&engine.store, &"race".parse().unwrap()).await.unwrap();
    assert_eq!(read.reference.rows.len(), 8);
    for number in 1..=8 {
        let target = engine.folder(&format!("target{number}"));
        engine.checkout(&format!("race@{number}"), &target, PLAIN).await.unwrap();
    }
}

#[tokio::test]
async fn expectations_and_supersession() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    fs::write(source.join("a"), "a").unwrap();
    let mut publication = Engine::publication("expect", &source);
    publication.expect = Some(0);
    assert_eq!(engine.publish(&publication).await.unwrap().number, 1);
    fs::write(source.join("a"), "b").unwrap();
    assert!(matches!(engine.publish(&publication).await, Err(PublishError::Expected { expected: 0, found: 1, .. })));
    publication.expect = Some(1);
    assert_eq!(engine.publish(&publication).await.unwrap().number, 2);

    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-C"])
            .arg(&source)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    let older = git(&["rev-parse", "HEAD"]);
    fs::write(source.join("a"), "newer").unwrap();
    git(&["commit", "-qam", "two"]);
    let newer = git(&["rev-parse", "HEAD"]);
    let mut publication = Engine::publication("expect", &source);
    publication.supersede = true;
    publication.commit = Some(newer);
    assert_eq!(engine.publish(&publication).await.unwrap().outcome, Outcome::Published);
    fs::write(source.join("a"), "from the older commit").unwrap();
    publication.commit = Some(older);
    assert_eq!(engine.publish(&publication).await.unwrap().outcome, Outcome::Superseded);
}

#[tokio::test]
async fn tags_move_even_when_nothing_else_changes() {
    let engine = Engine::new().await;
    let (source, target) = (engine.folder("source"), engine.folder("target"));
    fs::write(source.join("a"), "1").unwrap();
    let mut publication = Engine::publication("tags", &source);
    publication.tag = Some("stable".parse().unwrap());
    engine.publish(&publication).await.unwrap();
    fs::write(source.join("a"), "2").unwrap();
    engine.upload("tags", &source).await;
    engine.checkout("tags@stable", &target, PLAIN).await.unwrap();
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
    assert_eq!(engine.publish(&publication).await.unwrap().outcome, Outcome::Unchanged);
    engine.checkout("tags@stable", &target, PLAIN).await.unwrap();
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "2");
}

#[tokio::test]
async fn a_deleted_workspace_leaves_nothing_and_can_be_made_anew() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    fs::write(source.join("a"), "1").unwrap();
    let name = "gone".parse().unwrap();
    for _ in 0..2 {
        assert_eq!(engine.upload("gone", &source).await.number, 1);
        workspace::publish::remove(&engine.store, &name, true).await.unwrap();
        assert!(engine.store.list("data/gone/").await.unwrap().is_empty());
        assert!(engine.store.list("refs/").await.unwrap().is_empty());
    }
    // Where DELETE knows no conditions, a hidden tombstone stays, and creation takes its place.
    engine.upload("gone", &source).await;
    workspace::publish::remove(&engine.store, &name, false).await.unwrap();
    assert!(workspace::version::existing_reference(&engine.store, &name).await.is_err());
    assert_eq!(engine.upload("gone", &source).await.number, 1);
}

#[tokio::test]
async fn a_failed_upload_took_away_a_ref_that_was_no_longer_its_own() {
    let mut engine = Engine::new().await;
    let other = engine.folder("other");
    fs::write(other.join("a"), "1").unwrap();
    engine.upload("other", &other).await;
    // What a probe finds on a server that deletes whatever stands there.
    let record = br#"{"format":1,"id":"01JQ0000000000000000000000","level":"cas","delete_if_match":false}"#;
    engine.store.put("bucket.json", record.as_slice().into(), Condition::None).await.unwrap();
    engine.cache = Cache::at(Some(engine.folder("another machine")));
    let source = engine.folder("source");
    assert!(engine.publish(&Engine::publication("claimed", &source)).await.is_err());
    // The claim stays, hidden, rather than being deleted without a condition.
    assert_eq!(engine.store.list("refs/").await.unwrap().len(), 2);
    fs::write(source.join("a"), "1").unwrap();
    assert_eq!(engine.upload("claimed", &source).await.number, 1);
}

#[tokio::test]
async fn tags_filled_the_ref_until_no_upload_fitted() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    let mut publication = Engine::publication("full", &source);
    publication.author = Some("a".repeat(200));
    publication.message = Some("\"".repeat(200));
    let mut number = 0;
    loop {
        fs::write(source.join("a"), number.to_string()).unwrap();
        publication.tag = Some(format!("tag-{number:->50}").parse().unwrap());
        match engine.publish(&publication).await {
            Ok(_) => number += 1,
            Err(PublishError::TagsFull { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(number > 40, "{number}");
    publication.tag = None;
    for _ in 0..3 {
        number += 1;
        fs::write(source.join("a"), number.to_string()).unwrap();
        engine.publish(&publication).await.unwrap();
    }
    // Nor may a tag that moves to what is there already fill it.
    for _ in 0..200 {
        number += 1;
        publication.tag = Some(format!("tag-{number:->50}").parse().unwrap());
        if engine.publish(&publication).await.is_err() {
            break;
        }
    }
    publication.tag = None;
    fs::write(source.join("a"), "last").unwrap();
    engine.publish(&publication).await.unwrap();
}

#[tokio::test]
async fn state_behind_a_planted_link_was_written_and_emptied() {
    let engine = Engine::new().await;
    let (source, outside) = (engine.folder("source"), engine.folder("outside"));
    trees::write(&source, &tree([("a", file("a"))]));
    engine.upload("trap", &source).await;
    fs::write(outside.join("precious"), "x").unwrap();
    for (name, points_to) in [("stage", outside.clone()), ("journal", outside.join("precious"))] {
        let target = engine.folder(&format!("target-{name}"));
        fs::create_dir(target.join(".workspace")).unwrap();
        std::os::unix::fs::symlink(points_to, target.join(".workspace").join(name)).unwrap();
        engine.checkout("trap", &target, PLAIN).await.unwrap_err();
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "x");
        assert!(!target.join("a").exists());
    }
}

/// Does something as soon as the download begins, after the target was looked at.
struct Meanwhile<F>(F);

impl<F: Fn() + Send + Sync> workspace::output::Observer for Meanwhile<F> {
    fn phase(&self, _: workspace::output::Phase) {
        (self.0)();
    }
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

#[tokio::test]
async fn what_was_written_during_the_download_was_overwritten() {
    let engine = Engine::new().await;
    let (source, target, fresh) = (engine.folder("source"), engine.folder("target"), engine.folder("fresh"));
    let first = tree([("edited", file("1")), ("dropped", file("1")), ("same", file("1"))]);
    replace(&source, &first);
    engine.upload("busy", &source).await;
    engine.checkout("busy", &target, DELETE).await.unwrap();
    replace(&source, &tree([("edited", file("2")), ("appeared", file("2")), ("same", file("1"))]));
    engine.upload("busy", &source).await;
    let during = async |folder: &Path, path: &'static str, content: &'static str| {
        let at = folder.join(path);
        let observer = std::sync::Arc::new(Meanwhile(move || fs::write(&at, content).unwrap()));
        let budget = workspace::budget::Budget::default();
        let fetcher =
            workspace::checkout::Fetcher { store: &engine.store, cache: &engine.cache, budget: &budget, observer };
        let outcome = fetcher.checkout(&"busy".parse().unwrap(), folder, DELETE).await;
        assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), content);
        outcome
    };
    assert!(matches!(during(&target, "edited", "mine").await, Err(CheckoutError::Foreign { .. })));
    fs::write(target.join("edited"), "1").unwrap();
    assert!(matches!(during(&target, "appeared", "mine").await, Err(CheckoutError::Foreign { .. })));
    assert_eq!(fs::read_to_string(target.join("edited")).unwrap(), "1");
    fs::remove_file(target.join("appeared")).unwrap();
    assert_eq!(during(&target, "dropped", "mine").await.unwrap().left, ["dropped"]);
    assert!(matches!(during(&fresh, "appeared", "mine").await, Err(CheckoutError::Foreign { .. })));
}

/// Whatever a watch keeps of what it has sent, others read its versions from the bucket alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_machine_reads_each_version_of_a_watch() {
    let mut engine = Engine::new().await;
    let source = engine.folder("source");
    let name = |at: u64| format!("{}/{at:04}", at % 7);
    let write = |folder: &Path, at: u64, seed: u64| {
        let length = usize::try_from(100 + 300 * (at % 5)).unwrap();
        fs::create_dir_all(folder.join(name(at)).parent().unwrap()).unwrap();
        fs::write(folder.join(name(at)), noise(length, 1_000 * seed + at + 1)).unwrap();
    };
    (0..1_200).for_each(|at| write(&source, at, 0));
    let publication = Engine::publication("app", &source);
    let mut session = Session::new(engine.look(&publication));
    let mut versions = Vec::new();
    // Few files, and so many that a manifest anew is smaller than what differs; files that go; with and without time to fold.
    let saves = [0..1_200_u64, 3..4, 0..1_100, 5..6, 7..8, 0..1_200, 9..12, 0..1, 2..3];
    for (save, changed) in saves.into_iter().enumerate() {
        for at in changed.clone() {
            write(&source, at, save as u64);
        }
        if save % 3 == 2 {
            let _ = fs::remove_dir_all(source.join(format!("{}", save % 7)));
        }
        session.look.again(&publication.source).unwrap();
        let report = engine.publish_again(&publication, &mut session, save % 2 == 1).await;
        versions.push((report.number, trees::read(&source)));
    }
    engine.cache = Cache::at(None);
    for (number, tree) in versions {
        let target = engine.folder(&format!("target-{number}"));
        engine.checkout(&format!("app@{number}"), &target, PLAIN).await.unwrap();
        assert!(trees::read(&target) == tree, "version {number}");
    }
}
