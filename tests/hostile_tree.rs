//! Trees that no application has: each is uploaded as the documents say, or refused by name, without waiting for ever and without
//! taking the machine's memory.

#![expect(clippy::print_stdout, reason = "figures for whoever looks")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/trees.rs"]
mod trees;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cli::{Ran, TestEnvironment};

/// What a command may need for a small tree, in KiB.
const SMALL: u64 = 256 << 10;
/// For what must not wait. It has a deadline so that the test ends, not because it is fast.
const DEADLINE: Duration = Duration::from_secs(100);

/// Runs the binary with a deadline, and sees to its memory.
#[track_caller]
fn upload(environment: &TestEnvironment, folder: &Path, more: &[&str]) -> Ran {
    let mut command = environment.workspace(["upload", "a", folder.to_str().unwrap()]);
    command.args(more);
    let began = Instant::now();
    let (output, peak) = memory::peak(&command);
    println!("{} ms, {} MiB", began.elapsed().as_millis(), peak >> 10);
    let ran = Ran::from(output);
    assert!(peak < SMALL, "{peak} KiB: {ran:?}");
    assert!(began.elapsed() < DEADLINE, "{ran:?}");
    ran
}

#[test]
fn pipes_sockets_and_devices_stay_and_nobody_waits_for_them() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    fs::write(folder.join("a"), "a").unwrap();
    for name in ["pipe", "workspace.yaml", "Procfile", "package.json", ".gitignore", ".workspaceignore", "key.pem"] {
        let made = environment.program("mkfifo").arg(folder.join(name)).status().unwrap();
        assert!(made.success());
        let ran = upload(&environment, &folder, &["--dry-run"]);
        if ran.code != Some(0) {
            assert!(ran.stderr.contains(name), "{ran:?}");
        }
        if !matches!(name, "pipe") {
            fs::remove_file(folder.join(name)).unwrap();
        }
    }
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    if rustix::process::geteuid().is_root() {
        for device in [["null", "c", "1", "3"], ["zero", "c", "1", "5"]] {
            let made = environment.program("mknod").arg(folder.join(device[0])).args(&device[1..]).status().unwrap();
            assert!(made.success());
        }
    }
    let ran = upload(&environment, &folder, &[]).ok();
    assert!(ran.stderr.contains("Uploaded 1 file") && ran.stderr.contains("no regular file"), "{ran:?}");
}

#[test]
fn links_that_lead_in_circles_or_out_go_as_links() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    fs::write(folder.join("a"), "a").unwrap();
    for (path, target) in
        [("self", "self"), ("one", "two"), ("two", "one"), ("up", "."), ("gone", "nothing"), ("dev", "/dev/zero")]
    {
        symlink(target, folder.join(path)).unwrap();
    }
    fs::create_dir(folder.join("d")).unwrap();
    symlink("..", folder.join("d/up")).unwrap();
    symlink("../..", folder.join("d/out")).unwrap();
    let ran = upload(&environment, &folder, &[]).ok();
    for name in ["`dev`", "`d/out`"] {
        assert!(ran.stderr.contains(&format!("the link {name} points out of the tree")), "{ran:?}");
    }
    environment.run(["download", "a", "copy"]).fails(4, "points out of the target");
    environment.run(["download", "a", "copy", "--allow-external-links"]).ok();
    assert_eq!(trees::read(&environment.path().join("here/copy")), trees::read(&folder));
}

#[test]
fn a_sparse_file_of_a_tebibyte_is_refused_before_it_is_read() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    fs::write(folder.join("a"), "a").unwrap();
    fs::File::create(folder.join("disk.img")).unwrap().set_len(1 << 40).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        upload(&environment, &folder, more)
            .fails(1, "`disk.img` has 1.0 TiB, which is more than a version holds of one file (40.0 GiB)");
    }
    assert!(environment.run(["list"]).ok().stdout.is_empty());
    fs::write(folder.join(".workspaceignore"), "disk.img\n").unwrap();
    upload(&environment, &folder, &[]).ok();
}

/// Holes are read, and cost what zeros cost: next to nothing in the bucket, and no more memory than anything else.
#[test]
fn slow_a_sparse_file_of_two_gibibytes_comes_back() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    fs::File::create(folder.join("disk.img")).unwrap().set_len(2 << 30).unwrap();
    let (output, peak) = memory::peak(&environment.workspace(["upload", "a", folder.to_str().unwrap()]));
    Ran::from(output).ok();
    let (output, down) = memory::peak(&environment.workspace(["download", "a", "copy"]));
    Ran::from(output).ok();
    println!("{} MiB and {} MiB", peak >> 10, down >> 10);
    assert!(peak.max(down) < 512 << 10);
    assert_eq!(fs::metadata(environment.path().join("here/copy/disk.img")).unwrap().len(), 2 << 30);
}

#[test]
fn names_that_are_no_text_are_refused_by_name() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    fs::write(folder.join("a"), "a").unwrap();
    let name = OsStr::from_bytes(b"b\xffd\x1b[2J");
    fs::write(folder.join(name), "x").unwrap();
    let ran = upload(&environment, &folder, &[]).fails(1, "is not UTF-8");
    assert!(ran.stderr.contains("b\u{fffd}d\\u{1b}[2J"), "{ran:?}");
    fs::remove_file(folder.join(name)).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), folder.join("link")).unwrap();
    upload(&environment, &folder, &[]).fails(1, "`link -> …` is not UTF-8");
    fs::remove_file(folder.join("link")).unwrap();
    fs::create_dir(folder.join(".GIT")).unwrap();
    fs::write(folder.join(".GIT/config"), "x").unwrap();
    upload(&environment, &folder, &[]).fails(1, "some file systems take it for `.git`");
}

/// Makes folders in folders, as deep as no path reaches.
fn deep(environment: &TestEnvironment, folder: &Path, name: &str, depth: usize) {
    const SCRIPT: &str = "\
import os, sys
os.chdir(sys.argv[1])
for _ in range(int(sys.argv[3])):
    os.mkdir(sys.argv[2]); os.chdir(sys.argv[2])
open('file', 'w').write('x')";
    let mut command = environment.program("python3");
    let made = command.args(["-c", SCRIPT]).arg(folder).args([name, &depth.to_string()]).status().unwrap();
    assert!(made.success());
}

#[test]
fn folders_in_folders_go_as_deep_as_paths_reach() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    // 256 parts with the file.
    deep(&environment, &folder, "d", 255);
    upload(&environment, &folder, &[]).ok();
    environment.run(["download", "a", "copy"]).ok();
    assert_eq!(trees::read(&environment.path().join("here/copy")).len(), 1);
    for (name, depth) in [("d", 256), ("d", 1_000), ("d", 5_000), (&*"long".repeat(60), 20)] {
        let folder = environment.folder(&format!("app-{depth}"));
        deep(&environment, &folder, name, depth);
        let ran = upload(&environment, &folder, &["--dry-run"]);
        assert_eq!(ran.code, Some(1), "{depth}: {}", ran.stderr);
        let named = ["nested more than 256 deep", "longer than 4096 bytes", "File name too long"];
        assert!(
            named.iter().any(|text| ran.stderr.contains(text)) && ran.stderr.contains(name),
            "{depth}: {}",
            ran.stderr
        );
        let removed = environment.program("rm").arg("-rf").arg(&folder).status().unwrap();
        assert!(removed.success());
    }
}

#[test]
fn slow_a_folder_with_a_hundred_thousand_entries() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    for at in 0..100_000 {
        fs::File::create(folder.join(format!("{at}"))).unwrap();
    }
    upload(&environment, &folder, &[]).ok();
    let ran = upload(&environment, &folder, &["--json"]).ok().json();
    assert_eq!((&ran["outcome"], &ran["files"]), (&"unchanged".into(), &100_000.into()));
}

#[test]
fn slow_a_hundred_thousand_entries_come_back() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    for at in 0..100_000 {
        fs::write(folder.join(format!("{at}")), format!("{at}")).unwrap();
    }
    upload(&environment, &folder, &[]).ok();
    let (output, peak) = memory::peak(&environment.workspace(["download", "a", "copy"]));
    Ran::from(output).ok();
    println!("{} MiB", peak >> 10);
    assert!(peak < 2 * SMALL);
    assert_eq!(fs::read_dir(environment.path().join("here/copy")).unwrap().count(), 100_001);
}

/// Files come, go, grow, and become folders, pipes and links to what is secret, all the time.
#[test]
fn a_tree_in_motion_is_published_as_it_was_or_not_at_all() {
    let environment = TestEnvironment::new();
    let folder = environment.folder("app");
    let secret = environment.path().join("secret");
    fs::write(&secret, "secret-that-stays-here").unwrap();
    fs::write(folder.join("still"), "still").unwrap();
    let stop = AtomicBool::new(false);
    let (mut published, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                at += 1;
                let path = folder.join(format!("moving{}", at % 4));
                let _ = fs::remove_file(&path);
                let _ = fs::remove_dir_all(&path);
                match at % 7 {
                    0 => fs::create_dir(&path).unwrap(),
                    1 => symlink(&secret, &path).unwrap(),
                    2 => rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
                        .unwrap(),
                    3 => {}
                    _ => fs::write(&path, vec![b'x'; 200_000]).unwrap(),
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..12 {
                let mut command = environment.workspace(["upload", "a", folder.to_str().unwrap()]);
                let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                let ran = Ran::from(child.wait_with_output().unwrap());
                match ran.code {
                    Some(0) => published += 1,
                    Some(1) => {
                        assert!(ran.stderr.contains("moving") || ran.stderr.contains("changing"), "{ran:?}");
                        refused += 1;
                    }
                    _ => panic!("{ran:?}"),
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{published} published, {refused} refused");
    if published > 0 {
        let rows = environment.run(["log", "a", "--json"]).ok().json();
        for row in rows.as_array().unwrap() {
            let (selector, copy) = (format!("a@{}", row["version"]), format!("copy{}", row["version"]));
            environment.run(["download", &selector, &copy, "--allow-external-links"]).ok();
            for (path, node) in trees::read(&environment.path().join("here").join(copy)) {
                match node {
                    trees::Node::File(content, _) if path.starts_with("moving") => {
                        assert!(
                            content.len() == 200_000 && content.iter().all(|byte| *byte == b'x') || content.is_empty(),
                            "{path}"
                        );
                    }
                    trees::Node::File(content, _) => assert_eq!(content, b"still"),
                    trees::Node::Link(target) => assert_eq!(Path::new(&target), secret),
                    trees::Node::Empty => {}
                }
            }
        }
    }
}
