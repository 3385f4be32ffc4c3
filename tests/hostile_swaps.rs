//! Somebody else may write to the target while a download runs: folders become links to elsewhere and folders again. Nothing
//! there is touched.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::Engine;
use trees::{Node, Tree};
use workspace::checkout::CheckoutOptions;

/// Downloads under each kind of swap.
const ROUNDS: usize = 30;
/// Swaps in each of them, at least.
const SWAPS: u64 = 10;

/// Names, contents, modes and times of change: whatever happens to any of it shows.
fn state(folder: &Path) -> Vec<(PathBuf, Vec<u8>, u32, i64, i64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap).collect::<Vec<_>>() {
            let metadata = entry.metadata().unwrap();
            let content = if metadata.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), content, metadata.mode(), metadata.ctime(), metadata.ctime_nsec()));
        }
    }
    found.sort();
    found
}

/// Swaps one folder of the target for a link to `outside`, and back, until told to stop.
fn swap(folder: &Path, outside: &Path, aside: &Path, stop: &AtomicBool, count: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        if fs::rename(folder, aside).is_err() {
            continue;
        }
        let planted = symlink(outside, folder).is_ok();
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::yield_now();
        if planted {
            let _ = fs::remove_file(folder);
        }
        // What the download has made in its place goes: the folder that was there comes back. Where the download was quicker
        // and made it anew meanwhile, the new one stays and the old one goes: left aside, it would end all further swaps.
        let _ = fs::remove_dir_all(folder);
        if fs::rename(aside, folder).is_err() {
            let _ = fs::remove_dir_all(aside);
        }
    }
}

fn version(executable: bool, text: &str) -> Tree {
    let mut tree = Tree::new();
    for folder in ["d", "d/below", "e"] {
        for at in 0..12 {
            tree.insert(format!("{folder}/{at}"), Node::File(format!("{text}{at}").into_bytes(), executable));
        }
        tree.insert(format!("{folder}/link"), Node::Link("0".to_owned()));
        tree.insert(format!("{folder}/void{text}"), Node::Empty);
    }
    tree
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_become_links_during_a_download_lead_nowhere() {
    let engine = Engine::new().await;
    let source = engine.folder("source");
    // Contents that differ, and one with the same contents and another mode.
    for (at, (executable, text)) in [(false, "one"), (true, "one"), (false, "two")].into_iter().enumerate() {
        fs::remove_dir_all(&source).unwrap();
        fs::create_dir_all(&source).unwrap();
        trees::write(&source, &version(executable, text));
        assert_eq!(engine.upload("app", &source).await.number, at as u64 + 1);
    }
    // The very names that a download wants, and everything that it keeps for itself.
    let outside = engine.folder("outside");
    trees::write(&outside, &version(false, "one"));
    for path in ["stage/x", "below/0", "tree", "journal", "stage/link"] {
        fs::create_dir_all(outside.join(path).parent().unwrap()).unwrap();
        fs::write(outside.join(path), "mine").unwrap();
    }
    for at in 0..12 {
        fs::write(outside.join(format!("{at}")), format!("one{at}")).unwrap();
    }
    let before = state(&outside);
    let (mut downloads, mut good, mut swaps) = (0, 0, 0);
    for folder in ["d", "d/below", ".workspace", ".workspace/stage"] {
        let target = engine.folder(&format!("target-{}", folder.replace('/', "-")));
        let options = CheckoutOptions { delete: true, force: true, ..CheckoutOptions::default() };
        engine.checkout("app@1", &target, options).await.unwrap();
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let swapper = {
            let (at, outside, aside) = (target.join(folder), outside.clone(), engine.folder("aside").join("x"));
            let (stop, count) = (stop.clone(), count.clone());
            std::thread::spawn(move || swap(&at, &outside, &aside, &stop, &count))
        };
        let mut round = 0;
        while round < ROUNDS || (count.load(Ordering::Relaxed) < SWAPS && round < 20 * ROUNDS) {
            round += 1;
            // Whether it gets through is a matter of luck.
            let version = format!("app@{}", 1 + round % 3);
            good += u32::from(engine.checkout(&version, &target, options).await.is_ok());
            downloads += 1;
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        assert_eq!(state(&outside), before, "{folder}");
        let swapped = count.load(Ordering::Relaxed);
        assert!(swapped >= SWAPS, "{folder}: {swapped} swaps");
        swaps += swapped;
        // Left alone it gets there.
        let _ = fs::remove_dir_all(engine.folder("aside").join("x"));
        engine.checkout("app@3", &target, options).await.unwrap();
        assert_eq!(trees::read(&target), version(false, "two"));
    }
    println!("{downloads} downloads, of which {good} got through, and {swaps} swaps");
}
