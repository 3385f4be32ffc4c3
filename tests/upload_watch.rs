//! `workspace upload --watch` as people and their editors use it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/servers.rs"]
mod servers;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cli::TestEnvironment;
use serde_json::Value;
use servers::{Server, free_port};

/// For everything that is waited for.
const DEADLINE: Duration = Duration::from_secs(30);

/// A watch at work.
struct Watching {
    child: Child,
    saved: Receiver<Value>,
    said: Receiver<String>,
    tree: PathBuf,
}

impl Watching {
    /// Watches the folder `tree` of the environment.
    fn begin(environment: &TestEnvironment) -> Self {
        Self::with(environment, environment.workspace(["upload", "app", "--watch", "--json"]))
    }

    fn with(environment: &TestEnvironment, mut command: Command) -> Self {
        let tree = environment.folder("tree");
        command.arg(&tree);
        Self::with_folder(command, tree)
    }

    fn with_folder(mut command: Command, tree: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (told, saved) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = told.send(serde_json::from_str(&line).unwrap());
            }
        });
        let (told, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        Self { child, saved, said, tree }
    }

    /// The next version; which must be the next.
    fn version(&self, number: u64) -> Value {
        match self.saved.recv_timeout(DEADLINE) {
            Ok(saved) => {
                assert_eq!(saved["version"], number, "{saved}");
                saved
            }
            Err(error) => {
                panic!("no version {number}: {error}; it said {:?}", self.said.try_iter().collect::<Vec<_>>())
            }
        }
    }

    /// Waits until it says this.
    fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut said = Vec::new();
        while let Ok(line) = self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            said.push(line);
        }
        panic!("it never said `{text}`, but {said:#?}")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Nothing was published that wasn't asked for, and it ends when told to.
    fn end(mut self) {
        let interrupt = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(interrupt.success());
        assert_eq!(self.ended().code(), Some(130));
        assert_eq!(self.saved.try_iter().collect::<Vec<_>>(), [] as [Value; 0]);
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:?}", self.said.try_iter().collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment(files: &[(&str, &str)]) -> TestEnvironment {
    let environment = TestEnvironment::new();
    let tree = environment.folder("tree");
    for (path, text) in files {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    environment
}

/// The files of a version, by path.
fn files(environment: &TestEnvironment, version: u64) -> Vec<(String, String)> {
    let target = environment.path().join(format!("copy-{version}"));
    environment.run(["download", &format!("app@{version}"), target.to_str().unwrap()]).ok();
    let mut found = Vec::new();
    collect(&target, &target, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let below = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !path.is_symlink() {
            if below != ".workspace" {
                collect(root, &path, found);
            }
        } else {
            found.push((below, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn every_save_is_a_version() {
    let environment = environment(&[("a.txt", "one"), ("b/c.txt", "one"), ("b/gone.txt", "x")]);
    let watching = Watching::begin(&environment);
    watching.version(1);

    watching.write("a.txt", "two");
    let saved = watching.version(2);
    assert_eq!((&saved["changed"], &saved["paths"]), (&1.into(), &serde_json::json!(["a.txt"])));
    watching.write("new.txt", "new");
    watching.version(3);
    // In a folder that wasn't there, and then again in it.
    fs::create_dir_all(watching.path("x/y/z")).unwrap();
    watching.write("x/y/z/deep.txt", "deep");
    let saved = watching.version(4);
    assert_eq!(saved["paths"], serde_json::json!(["x/y/z/deep.txt"]));
    watching.write("x/y/z/deep.txt", "deeper");
    watching.version(5);
    fs::remove_file(watching.path("b/gone.txt")).unwrap();
    watching.version(6);
    fs::rename(watching.path("b"), watching.path("d")).unwrap();
    watching.version(7);
    watching.write("d/c.txt", "two");
    watching.version(8);
    // A folder that was made anew under the same name is watched, too.
    fs::remove_dir_all(watching.path("x")).unwrap();
    fs::create_dir_all(watching.path("x/y")).unwrap();
    watching.write("x/y/again.txt", "1");
    watching.version(9);
    watching.write("x/y/again.txt", "2");
    watching.version(10);
    std::os::unix::fs::symlink("a.txt", watching.path("link")).unwrap();
    watching.version(11);
    let executable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(watching.path("a.txt"), executable).unwrap();
    watching.version(12);
    // What reads files, or writes the same again, makes no version.
    fs::read(watching.path("a.txt")).unwrap();
    watching.write("new.txt", "new");
    watching.write("last.txt", "last");
    watching.version(13);
    watching.end();
    let expected = [
        ("a.txt", "two"),
        ("d/c.txt", "two"),
        ("last.txt", "last"),
        ("link", "two"),
        ("new.txt", "new"),
        ("x/y/again.txt", "2"),
    ];
    assert_eq!(files(&environment, 13), owned(&expected));
}

#[test]
fn the_ways_editors_save_are_one_version_each() {
    let environment = environment(&[("main.js", "0"), ("other.js", "0")]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    let path = |name: &str| watching.path(name);
    let only = |saved: &Value, content: &str| {
        assert_eq!(saved["paths"], serde_json::json!(["main.js"]), "{saved}");
        let version = saved["version"].as_u64().unwrap();
        assert_eq!(files(&environment, version), owned(&[("main.js", content), ("other.js", "0")]));
    };
    // In place, truncated first, in two writes: VS Code, nano.
    let mut file = fs::File::create(path("main.js")).unwrap();
    file.write_all(b"1").unwrap();
    file.write_all(b"1").unwrap();
    drop(file);
    only(&watching.version(2), "11");
    // vim: a probe, a backup by renaming, the new file, the backup goes.
    watching.write("4913", "");
    fs::remove_file(path("4913")).unwrap();
    fs::rename(path("main.js"), path("main.js~")).unwrap();
    watching.write("main.js", "2");
    fs::remove_file(path("main.js~")).unwrap();
    only(&watching.version(3), "2");
    // JetBrains: a temporary file, the old one aside, the new one in its place.
    watching.write("main.js___jb_tmp___", "3");
    fs::rename(path("main.js"), path("main.js___jb_old___")).unwrap();
    fs::rename(path("main.js___jb_tmp___"), path("main.js")).unwrap();
    fs::remove_file(path("main.js___jb_old___")).unwrap();
    only(&watching.version(4), "3");
    // Removed, and made anew only after it has been missed.
    fs::remove_file(path("main.js")).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    watching.write("main.js", "4");
    only(&watching.version(5), "4");
    watching.end();
}

#[test]
fn a_tree_in_motion_is_waited_for() {
    let environment = environment(&[]);
    let tree = environment.folder("tree");
    environment.git(&tree, &["init"]);
    for number in 0..300 {
        fs::write(tree.join(format!("{number}.txt")), "main").unwrap();
    }
    environment.git(&tree, &["add", "."]);
    environment.git(&tree, &["commit", "-m", "main"]);
    environment.git(&tree, &["checkout", "-b", "other"]);
    for number in 0..300 {
        fs::write(tree.join(format!("{number}.txt")), "other").unwrap();
    }
    environment.git(&tree, &["commit", "-am", "other"]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    // A switch of branches is one version, with the commit that it is of.
    environment.git(&tree, &["checkout", "main"]);
    let saved = watching.version(2);
    assert_eq!(saved["changed"], 300);

    // While git works, nothing is published.
    fs::write(tree.join(".git/index.lock"), "").unwrap();
    watching.write("0.txt", "half");
    std::thread::sleep(Duration::from_millis(400));
    watching.write("1.txt", "whole");
    std::thread::sleep(Duration::from_millis(400));
    fs::remove_file(tree.join(".git/index.lock")).unwrap();
    assert_eq!(watching.version(3)["paths"], serde_json::json!(["0.txt", "1.txt"]));

    // What git tracks against a rule goes as soon as it is tracked.
    watching.write(".gitignore", "*.out\n");
    watching.version(4);
    watching.write("a.out", "ignored");
    watching.write("2.txt", "two");
    assert_eq!(watching.version(5)["paths"], serde_json::json!(["2.txt"]));
    environment.git(&tree, &["add", "-f", "a.out"]);
    assert_eq!(watching.version(6)["paths"], serde_json::json!(["a.out"]));
    watching.end();
}

#[test]
fn ignore_files_may_be_edited_while_it_runs() {
    let environment = environment(&[(".gitignore", "*.tmp\nout/\n"), ("a.js", "1"), ("out/x.js", "1"), ("b.tmp", "1")]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    // What is left out is nobody's business.
    watching.write("b.tmp", "2");
    watching.write("out/x.js", "2");
    watching.write("a.js", "2");
    assert_eq!(watching.version(2)["paths"], serde_json::json!(["a.js"]));
    watching.write(".gitignore", "*.tmp\n");
    assert_eq!(watching.version(3)["paths"], serde_json::json!([".gitignore", "out/x.js"]));
    watching.write("out/x.js", "3");
    assert_eq!(watching.version(4)["paths"], serde_json::json!(["out/x.js"]));
    watching.write(".workspaceignore", "/out/\n");
    assert_eq!(watching.version(5)["paths"], serde_json::json!([".workspaceignore", "out/x.js"]));
    watching.end();
}

#[test]
fn what_is_written_without_a_pause_is_published_all_the_same() {
    let environment = environment(&[("a.txt", "1")]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    let path = watching.path("endless.txt");
    let writer = std::thread::spawn(move || {
        for number in 0..60 {
            fs::write(&path, format!("{number}")).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    watching.version(2);
    assert!(!writer.is_finished(), "it was published only after the last write");
    writer.join().unwrap();
}

#[test]
fn a_mistake_is_told_once_and_the_next_save_goes_on() {
    let environment = environment(&[("server.js", "1")]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    watching.write("workspace.yaml", "strat: node server.js\n");
    assert!(watching.says("strat").contains("waiting for the next change"));
    watching.write("workspace.yaml", "start: node server.js\n");
    watching.version(2);
    watching.end();
}

#[test]
fn rules_from_outside_and_a_new_repository_are_taken_up() {
    let environment = environment(&[("pkg/a.js", "1"), ("pkg/local.conf", "1")]);
    let tree = environment.folder("tree");
    environment.git(&tree, &["init"]);
    let package = tree.join("pkg");
    let mut command = environment.workspace(["upload", "app", "--watch", "--json"]);
    command.arg(&package);
    let watching = Watching::with_folder(command, package);
    watching.version(1);
    fs::write(tree.join(".gitignore"), "local.conf\n").unwrap();
    watching.write("a.js", "2");
    assert_eq!(watching.version(2)["paths"], serde_json::json!(["a.js", "local.conf"]));
    watching.end();

    let environment = self::environment(&[(".gitignore", "*.l\n"), ("b.l", "1"), ("a", "1")]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    environment.git(&watching.tree, &["init"]);
    environment.git(&watching.tree, &["add", "-f", "b.l"]);
    watching.write("a", "2");
    let mut version = 2;
    let mut saved = watching.version(version);
    while !saved["paths"].as_array().unwrap().contains(&"b.l".into()) {
        version += 1;
        saved = watching.version(version);
    }
    watching.end();
}

#[test]
fn the_same_tree_published_from_another_terminal_is_nobody_elses() {
    let environment = environment(&[("a", "1")]);
    let watching = Watching::begin(&environment);
    watching.version(1);
    let signal = |name: &str| {
        let id = watching.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    };
    signal("-STOP");
    watching.write("a", "2");
    environment.run(["upload", "app", watching.tree.to_str().unwrap(), "-m", "by hand"]).ok();
    signal("-CONT");
    watching.says("app@2 is this folder already");
    watching.write("a", "3");
    assert_eq!(watching.version(3)["paths"], serde_json::json!(["a"]));
    watching.end();
}

#[test]
fn a_folder_that_is_gone_ends_it() {
    let environment = environment(&[("a.txt", "1")]);
    let mut watching = Watching::begin(&environment);
    watching.version(1);
    fs::remove_dir_all(&watching.tree).unwrap();
    watching.says("there is no folder");
    assert_eq!(watching.ended().code(), Some(2));
}

#[test]
fn somebody_elses_version_in_between_is_not_overwritten() {
    let environment = environment(&[("a.txt", "mine")]);
    let mut watching = Watching::begin(&environment);
    watching.version(1);
    let theirs = environment.folder("theirs");
    fs::write(theirs.join("a.txt"), "theirs").unwrap();
    environment.run(["upload", "app", theirs.to_str().unwrap()]).ok();
    watching.write("a.txt", "mine again");
    assert!(watching.says("error:").contains("version 2, which was published by somebody else"));
    assert_eq!(watching.ended().code(), Some(4));
    assert_eq!(files(&environment, 2), owned(&[("a.txt", "theirs")]));
}

#[test]
fn a_store_that_is_away_is_caught_up_with_in_one_version() {
    let environment = environment(&[("a.txt", "1"), ("b.txt", "1")]);
    let port = free_port();
    let data = environment.folder("served");
    let server = Server::workspace_on(&data, port);
    let with_store = |mut command: Command| {
        command
            .env("S3_ENDPOINT", format!("http://127.0.0.1:{port}"))
            .env("S3_ACCESS_KEY", &server.access_key)
            .env("S3_SECRET_KEY", &server.secret_key);
        command
    };
    let watching =
        Watching::with(&environment, with_store(environment.workspace(["upload", "app", "--watch", "--json"])));
    watching.version(1);
    let (access_key, secret_key) = (server.access_key.clone(), server.secret_key.clone());
    server.kill();
    watching.write("a.txt", "2");
    watching.says("saves are kept");
    watching.write("b.txt", "2");
    let server = Server::workspace_on(&data, port);
    assert_eq!((server.access_key.clone(), server.secret_key.clone()), (access_key, secret_key));
    watching.says("the store answers again");
    assert_eq!(watching.version(2)["paths"], serde_json::json!(["a.txt", "b.txt"]));
    watching.write("a.txt", "3");
    watching.version(3);
    watching.end();
}

#[test]
fn where_the_system_watches_too_few_folders_they_are_looked_at() {
    let files: Vec<(String, &str)> = (0..40).map(|number| (format!("{number}/file.txt"), "1")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let environment = environment(&files);
    // A limit of its own, in a namespace of its own.
    let mut command = environment.program("unshare");
    let script = "echo 8 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    command.args(["--user", "--map-root-user", "sh", "-c", script, cli::BINARY, "upload", "app", "--watch", "--json"]);
    let watching = Watching::with(&environment, command);
    let said = watching.says("max_user_watches");
    assert!(said.contains("looking for changes every 1 s instead"), "{said}");
    watching.says("sudo sysctl");
    watching.version(1);
    watching.write("7/file.txt", "2");
    assert_eq!(watching.version(2)["paths"], serde_json::json!(["7/file.txt"]));
    watching.end();
}
